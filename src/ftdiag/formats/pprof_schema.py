"""The messages of pprof's profiles, for who writes and who reads them.

In: nothing. Out: the class `profile()` of messages of protobuf's own library, made from the field numbers
below. Source: google/pprof, proto/profile.proto. No package on the index has these messages generated; as a
table they need no compiler and fit every version of the library.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

_PACKAGE: Final = "ftdiag.pprof"
_MESSAGES: Final[Mapping[str, str]] = {
    "Profile": "1 sample_type ValueType* | 2 sample Sample* | 3 mapping Mapping* | 4 location Location*"
    " | 5 function Function* | 6 string_table string* | 7 drop_frames int64 | 8 keep_frames int64"
    " | 9 time_nanos int64 | 10 duration_nanos int64 | 11 period_type ValueType | 12 period int64"
    " | 13 comment int64* | 14 default_sample_type int64 | 15 doc_url int64",
    "ValueType": "1 type int64 | 2 unit int64",
    "Sample": "1 location_id uint64* | 2 value int64* | 3 label Label*",
    "Label": "1 key int64 | 2 str int64 | 3 num int64 | 4 num_unit int64",
    "Mapping": "1 id uint64 | 2 memory_start uint64 | 3 memory_limit uint64 | 4 file_offset uint64"
    " | 5 filename int64 | 6 build_id int64 | 7 has_functions bool | 8 has_filenames bool"
    " | 9 has_line_numbers bool | 10 has_inline_frames bool",
    "Location": "1 id uint64 | 2 mapping_id uint64 | 3 address uint64 | 4 line Line* | 5 is_folded bool",
    "Line": "1 function_id uint64 | 2 line int64 | 3 column int64",
    "Function": "1 id uint64 | 2 name int64 | 3 system_name int64 | 4 filename int64 | 5 start_line int64",
}


@functools.cache
def profile() -> Any:
    """The class of `Profile` messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="ftdiag/pprof.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field in fields.split(" | "):
            number, name, kind = field.split()
            _describe(described.field.add(name=name, number=int(number)), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Profile"))


def _describe(field: FieldDescriptorProto, kind: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    field.label = (
        FieldDescriptorProto.LABEL_REPEATED if kind.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
    )
    kind = kind.rstrip("*")
    if kind in _MESSAGES:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
