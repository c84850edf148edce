"""CPython's struct layouts, per version: where things lie in the target's memory.

In: the bytes of `_Py_DebugOffsets`, the first field of `_PyRuntime`. Out: a `Layout`.

From 3.13 on, CPython publishes most offsets itself (`_Py_DebugOffsets`); only the order of that struct's
own fields differs between minor versions. What it does not publish stands here as a constant with its
source. Unknown versions are refused: a wrong offset would give wrong answers, not errors.

Sources (files of the CPython repository, branch of each version):
- 3.13: Include/internal/pycore_runtime.h (struct _Py_DebugOffsets)
- 3.14, 3.15: Include/internal/pycore_debug_offsets.h
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import UnsupportedPython

COOKIE: Final = b"xdebugpy"
"""First bytes of `_Py_DebugOffsets` (macro _Py_Debug_Cookie)."""
HEADER_BYTES: Final = 24
"""cookie[8], version, free_threaded: the part of the struct that is the same in every version."""
DEBUG_OFFSETS_BYTES: Final = 1024
"""Enough for the whole struct in every known version."""
SUPPORTED: Final = ((3, 13), (3, 14), (3, 15))

_Fields = tuple[tuple[str, str], ...]

# Groups and fields of struct _Py_DebugOffsets, in order. Every field is a uint64_t.
_OFFSETS_3_13: Final[_Fields] = (
    ("runtime_state", "size finalizing interpreters_head"),
    (
        "interpreter_state",
        "size id next threads_head gc imports_modules sysdict builtins ceval_gil gil_runtime_state"
        " gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder",
    ),
    (
        "thread_state",
        "size prev next interp current_frame thread_id native_thread_id datastack_chunk status",
    ),
    ("interpreter_frame", "size previous executable instr_ptr localsplus owner"),
    (
        "code_object",
        "size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds"
        " co_code_adaptive",
    ),
    ("pyobject", "size ob_type"),
    ("type_object", "size tp_name tp_repr tp_flags"),
    ("tuple_object", "size ob_item ob_size"),
    ("list_object", "size ob_item ob_size"),
    ("dict_object", "size ma_keys ma_values"),
    ("float_object", "size ob_fval"),
    ("long_object", "size lv_tag ob_digit"),
    ("bytes_object", "size ob_size ob_sval"),
    ("unicode_object", "size state length asciiobject_size"),
    ("gc", "size collecting"),
)

_INTERPRETER_3_14: Final = (
    "interpreter_state",
    "size id next threads_head threads_main gc imports_modules sysdict builtins ceval_gil"
    " gil_runtime_state gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder"
    " code_object_generation tlbc_generation",
)
_FRAME_3_14: Final = (
    "interpreter_frame",
    "size previous executable instr_ptr localsplus owner stackpointer tlbc_index",
)
_CODE_3_14: Final = (
    "code_object",
    "size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds"
    " co_code_adaptive co_tlbc",
)
_OBJECTS_3_14: Final[_Fields] = (
    ("pyobject", "size ob_type"),
    ("type_object", "size tp_name tp_repr tp_flags"),
    ("tuple_object", "size ob_item ob_size"),
    ("list_object", "size ob_item ob_size"),
    ("set_object", "size used table mask"),
    ("dict_object", "size ma_keys ma_values"),
    ("float_object", "size ob_fval"),
    ("long_object", "size lv_tag ob_digit"),
    ("bytes_object", "size ob_size ob_sval"),
    ("unicode_object", "size state length asciiobject_size"),
)
_OFFSETS_3_14: Final[_Fields] = (
    ("runtime_state", "size finalizing interpreters_head"),
    _INTERPRETER_3_14,
    (
        "thread_state",
        "size prev next interp current_frame thread_id native_thread_id datastack_chunk status",
    ),
    _FRAME_3_14,
    _CODE_3_14,
    *_OBJECTS_3_14,
    ("gc", "size collecting"),
)
_OFFSETS_3_15: Final[_Fields] = (
    ("runtime_state", "size finalizing interpreters_head"),
    _INTERPRETER_3_14,
    (
        "thread_state",
        "size prev next interp current_frame base_frame last_profiled_frame"
        " last_profiled_frame_seq thread_id native_thread_id"
        " datastack_chunk status holds_gil gil_requested current_exception exc_state",
    ),
    ("err_stackitem", "exc_value"),
    _FRAME_3_14,
    _CODE_3_14,
    ("pyobject", "size ob_type"),
    ("type_object", "size tp_name tp_repr tp_flags tp_basicsize tp_dictoffset"),
    ("heap_type_object", "size ht_cached_keys"),
    *_OBJECTS_3_14[2:-1],
    ("unicode_object", "size state length asciiobject_size compactunicodeobject_size"),
    ("gc", "size collecting frame generation_stats_size generation_stats"),
)
_FIELDS: Final[Mapping[tuple[int, int], _Fields]] = {
    (3, 13): _OFFSETS_3_13,
    (3, 14): _OFFSETS_3_14,
    (3, 15): _OFFSETS_3_15,
}


@dataclass(frozen=True, slots=True)
class Version:
    """A PY_VERSION_HEX, taken apart. `release` is "a", "b", "rc" or ""."""

    major: int
    minor: int
    micro: int
    release: str
    serial: int

    def __str__(self) -> str:
        suffix = f"{self.release}{self.serial}" if self.release else ""
        return f"{self.major}.{self.minor}.{self.micro}{suffix}"


def parse_version(version_hex: int) -> Version:
    """Take PY_VERSION_HEX apart (Include/patchlevel.h)."""
    release = {0xA: "a", 0xB: "b", 0xC: "rc"}.get(version_hex >> 4 & 0xF, "")
    return Version(
        version_hex >> 24 & 0xFF,
        version_hex >> 16 & 0xFF,
        version_hex >> 8 & 0xFF,
        release,
        version_hex & 0xF,
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes of everything that is read, for one version and build of CPython.

    Fields named `<struct>_<field>` come from `_Py_DebugOffsets`; the others say where they come from.
    `None` where the version has no such thing.
    """

    version: Version
    free_threaded: bool

    runtime_size: int
    runtime_interpreters_head: int

    interpreter_size: int
    interpreter_id: int
    interpreter_next: int
    interpreter_threads_head: int
    interpreter_imports_modules: int
    interpreter_gil_state: int
    interpreter_gil_enabled: int | None
    interpreter_gil_locked: int
    interpreter_gil_holder: int
    interpreter_code_object_generation: int | None
    interpreter_tlbc_generation: int | None

    thread_size: int
    thread_next: int
    thread_interpreter: int
    thread_current_frame: int
    thread_ident: int
    thread_native_id: int
    thread_datastack_chunk: int
    thread_state: int
    """`PyThreadState.state`: 0 detached, 1 attached, 2 suspended (Include/cpython/pystate.h).

    4-byte int; behind `_status` come `_whence` (3.13), `holds_gil, _whence` (3.14) or
    `holds_gil, gil_requested, _whence` (3.15)."""
    thread_critical_section: int
    """`PyThreadState.critical_section`: two words behind `native_thread_id` (delete_later in between)."""

    frame_size: int
    frame_previous: int
    frame_executable: int
    frame_instr_ptr: int
    frame_localsplus: int
    frame_owner: int
    frame_tlbc_index: int | None
    first_foreign_owner: int
    """Frame owners from this value on are not Python frames (enum _frameowner:
    FRAME_OWNED_BY_CSTACK or _INTERPRETER = 3)."""

    code_size: int
    code_filename: int
    code_qualname: int
    code_linetable: int
    code_first_line: int
    code_bytecode: int
    code_tlbc: int | None
    code_units: int
    """Number of 2-byte code units: `ob_size` of the code object (PyVarObject)."""
    code_exception_table: int
    """`co_exceptiontable`: third pointer behind the PyVarObject header (Include/cpython/code.h)."""
    code_constants: int
    """`co_consts`: first pointer behind the PyVarObject header."""
    code_names: int
    """`co_names`: the second one."""
    code_stack_size: int
    """`co_stacksize`, 4-byte int just before co_firstlineno."""
    code_local_count: int
    """`co_nlocalsplus`, 4-byte int just behind co_firstlineno."""
    code_local_names: int
    with_handler: bytes
    """First opcodes of the handler that a `with` statement puts in the exception table:
    PUSH_EXC_INFO, WITH_EXCEPT_START (Include/opcode_ids.h)."""
    with_keeps_exit_method: bool
    """Whether a `with` statement keeps the bound `__exit__` on the stack (BEFORE_WITH, 3.13) or the
    context manager itself above the unbound function (LOAD_SPECIAL, from 3.14 on)."""
    frame_globals: int
    """`f_globals`: two words behind `previous` (f_funcobj in between)."""

    object_size: int
    object_type: int
    type_name: int
    type_flags: int
    tuple_items: int
    tuple_count: int
    list_items: int
    list_count: int
    dict_keys: int
    dict_values: int
    long_tag: int
    long_digits: int
    bytes_count: int
    bytes_data: int
    unicode_state: int
    unicode_length: int
    unicode_ascii_data: int
    """Data of a compact ASCII string: sizeof(PyASCIIObject)."""
    unicode_compact_data: int
    """Data of other compact strings: sizeof(PyCompactUnicodeObject) = PyASCIIObject + 2 words."""
    unicode_kind_shift: int
    """Bit of `kind:3` in the 4 bytes of `state`; `compact` and `ascii` follow. `interned` before it is 2
    bits wide, but a whole byte in free-threaded builds from 3.14 on (Include/cpython/unicodeobject.h)."""

    module_gil: int
    """`md_gil` (3.13, 3.14) or `md_requires_gil` (3.15) of PyModuleObject, free-threaded builds only
    (Objects/moduleobject.c, Include/internal/pycore_moduleobject.h)."""
    module_gil_is_wish: bool
    """Whether it is a bool that asks for the GIL (3.15), or 0 = used, 1 = not used."""
    managed_dict: int
    """Offset (negative) of the managed `__dict__` pointer: -1 word in free-threaded builds, -3 words else
    (MANAGED_DICT_OFFSET, Include/internal/pycore_object.h)."""
    type_basic_size: int
    """`tp_basicsize`: the word behind tp_name (Include/cpython/object.h)."""
    type_dict: int
    """`tp_dict`: 12 words behind tp_flags; null for static types (Include/cpython/object.h)."""
    type_mro: int
    """`tp_mro`: 22 words behind tp_flags."""
    type_cached_keys: int
    """`PyHeapTypeObject.ht_cached_keys`, behind ht_type, the slot tables, ht_name, ht_slots and
    ht_qualname (Include/cpython/object.h). 3.15 publishes it."""


def parse_header(data: bytes) -> tuple[Version, bool] | None:
    """Version and free-threading flag from the first HEADER_BYTES of the struct; `None` if it is not one."""
    if len(data) < HEADER_BYTES or data[:8] != COOKIE:
        return None
    version_hex, free_threaded = struct.unpack_from("<QQ", data, 8)
    if version_hex >> 32 or free_threaded > 1:
        return None
    return parse_version(version_hex), bool(free_threaded)


def parse_layout(data: bytes) -> Layout:
    """Make the layout from the bytes of `_Py_DebugOffsets` (DEBUG_OFFSETS_BYTES of them, or fewer).

    Raises UnsupportedPython for versions that are not in SUPPORTED and for offsets that make no sense.
    """
    header = parse_header(data)
    if header is None:
        raise UnsupportedPython("the target has no _Py_DebugOffsets: not CPython 3.13 or later")
    version, free_threaded = header
    fields = _FIELDS.get((version.major, version.minor))
    if fields is None:
        known = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        raise UnsupportedPython(
            f"Python {version} is not known to this ftdiag (it knows {known})",
            "pip install --upgrade ftdiag   if there is a newer ftdiag",
        )
    offsets = _named_offsets(data, fields)
    _check_plausible(offsets, version)
    pointer_array = offsets["pyobject_size"] + 8  # PyVarObject: PyObject + ob_size
    first_line = offsets["code_object_firstlineno"]
    tlbc = offsets.get("code_object_co_tlbc", 0)
    has_tlbc = free_threaded and tlbc != 0
    return Layout(
        version=version,
        free_threaded=free_threaded,
        runtime_size=offsets["runtime_state_size"],
        interpreter_size=offsets["interpreter_state_size"],
        runtime_interpreters_head=offsets["runtime_state_interpreters_head"],
        interpreter_id=offsets["interpreter_state_id"],
        interpreter_next=offsets["interpreter_state_next"],
        interpreter_threads_head=offsets["interpreter_state_threads_head"],
        interpreter_imports_modules=offsets["interpreter_state_imports_modules"],
        interpreter_gil_state=offsets["interpreter_state_gil_runtime_state"],
        # An offset inside struct _gil_runtime_state, whose first field it is; 0 on GIL builds, too.
        interpreter_gil_enabled=(
            offsets["interpreter_state_gil_runtime_state"]
            + offsets["interpreter_state_gil_runtime_state_enabled"]
            if free_threaded
            else None
        ),
        interpreter_gil_locked=offsets["interpreter_state_gil_runtime_state_locked"],
        interpreter_gil_holder=offsets["interpreter_state_gil_runtime_state_holder"],
        interpreter_code_object_generation=offsets.get("interpreter_state_code_object_generation"),
        interpreter_tlbc_generation=(offsets.get("interpreter_state_tlbc_generation") if has_tlbc else None),
        thread_size=offsets["thread_state_size"],
        thread_next=offsets["thread_state_next"],
        thread_interpreter=offsets["thread_state_interp"],
        thread_current_frame=offsets["thread_state_current_frame"],
        thread_ident=offsets["thread_state_thread_id"],
        thread_native_id=offsets["thread_state_native_thread_id"],
        thread_datastack_chunk=offsets["thread_state_datastack_chunk"],
        thread_state=offsets["thread_state_status"] + {13: 8, 14: 12, 15: 16}[version.minor],
        thread_critical_section=offsets["thread_state_native_thread_id"] + 16,
        frame_size=offsets["interpreter_frame_size"],
        frame_previous=offsets["interpreter_frame_previous"],
        frame_executable=offsets["interpreter_frame_executable"],
        frame_instr_ptr=offsets["interpreter_frame_instr_ptr"],
        frame_localsplus=offsets["interpreter_frame_localsplus"],
        frame_owner=offsets["interpreter_frame_owner"],
        frame_tlbc_index=offsets["interpreter_frame_tlbc_index"] if has_tlbc else None,
        first_foreign_owner=3,
        code_size=offsets["code_object_size"],
        code_filename=offsets["code_object_filename"],
        code_qualname=offsets["code_object_qualname"],
        code_linetable=offsets["code_object_linetable"],
        code_first_line=first_line,
        code_bytecode=offsets["code_object_co_code_adaptive"],
        code_tlbc=tlbc if has_tlbc else None,
        code_units=offsets["tuple_object_ob_size"],
        code_exception_table=pointer_array + 16,
        code_constants=pointer_array,
        code_names=pointer_array + 8,
        code_stack_size=first_line - 4,
        code_local_count=first_line + 4,
        code_local_names=offsets["code_object_localsplusnames"],
        with_handler=bytes({13: (33, 44), 14: (32, 43), 15: (30, 41)}[version.minor]),
        with_keeps_exit_method=version.minor == 13,
        frame_globals=offsets["interpreter_frame_previous"] + 16,
        object_size=offsets["pyobject_size"],
        object_type=offsets["pyobject_ob_type"],
        type_name=offsets["type_object_tp_name"],
        type_flags=offsets["type_object_tp_flags"],
        tuple_items=offsets["tuple_object_ob_item"],
        tuple_count=offsets["tuple_object_ob_size"],
        list_items=offsets["list_object_ob_item"],
        list_count=offsets["list_object_ob_size"],
        dict_keys=offsets["dict_object_ma_keys"],
        dict_values=offsets["dict_object_ma_values"],
        long_tag=offsets["long_object_lv_tag"],
        long_digits=offsets["long_object_ob_digit"],
        bytes_count=offsets["bytes_object_ob_size"],
        bytes_data=offsets["bytes_object_ob_sval"],
        unicode_state=offsets["unicode_object_state"],
        unicode_length=offsets["unicode_object_length"],
        unicode_ascii_data=offsets["unicode_object_asciiobject_size"],
        unicode_compact_data=offsets["unicode_object_asciiobject_size"] + 16,
        unicode_kind_shift=8 if free_threaded and version.minor >= 14 else 2,
        module_gil=offsets["pyobject_size"] + (40 if version.minor < 15 else 33),
        module_gil_is_wish=version.minor >= 15,
        managed_dict=-8 if free_threaded else -24,
        type_basic_size=offsets["type_object_tp_name"] + 8,
        type_dict=offsets["type_object_tp_flags"] + 12 * 8,
        type_mro=offsets["type_object_tp_flags"] + 22 * 8,
        type_cached_keys=offsets.get(
            "heap_type_object_ht_cached_keys", offsets["type_object_size"] + _SLOT_TABLES_BYTES + 3 * 8
        ),
    )


_SLOT_TABLES_BYTES: Final = 32 + 288 + 24 + 80 + 16
"""as_async, as_number, as_mapping, as_sequence, as_buffer of PyHeapTypeObject in 3.13 and 3.14."""

_MAX_PLAUSIBLE_OFFSET: Final = 1 << 24


def _named_offsets(data: bytes, fields: _Fields) -> dict[str, int]:
    names = [f"{group}_{name}" for group, names in fields for name in names.split()]
    if len(data) < HEADER_BYTES + 8 * len(names):
        raise UnsupportedPython("the target's _Py_DebugOffsets is cut short")
    values = struct.unpack_from(f"<{len(names)}Q", data, HEADER_BYTES)
    return dict(zip(names, values, strict=True))


def _check_plausible(offsets: Mapping[str, int], version: Version) -> None:
    """Refuse a struct whose fields are not where this module thinks they are."""
    plausible = (
        all(value < _MAX_PLAUSIBLE_OFFSET for value in offsets.values())
        and offsets["pyobject_size"] in (16, 32)
        and offsets["pyobject_ob_type"] == offsets["pyobject_size"] - 8
        and offsets["tuple_object_ob_size"] == offsets["pyobject_size"]
        and offsets["bytes_object_ob_size"] == offsets["pyobject_size"]
        and offsets["unicode_object_length"] == offsets["pyobject_size"]
        and offsets["unicode_object_asciiobject_size"] == offsets["pyobject_size"] + 24
        and offsets["interpreter_frame_executable"] < offsets["interpreter_frame_size"] <= 256
        and offsets["interpreter_frame_localsplus"] < 256
        and 0 < offsets["thread_state_current_frame"] < offsets["thread_state_size"] <= 1 << 16
        and offsets["thread_state_native_thread_id"] < offsets["thread_state_size"]
        and offsets["code_object_co_code_adaptive"] < offsets["code_object_size"] <= 4096
    )
    if not plausible:
        raise UnsupportedPython(
            f"the memory layout that Python {version} publishes is not the one this ftdiag knows",
            "pip install --upgrade ftdiag   if there is a newer ftdiag",
        )
