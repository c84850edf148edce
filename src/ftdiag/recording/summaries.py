"""Summaries of stretches of windows, kept in the recording: all of it is seen without reading all of it.

In: columns of whole numbers and JSON values by the name of a part; blobs as stored. Out: blobs, and the
columns again, checked: keys are ids that a recording can have, columns of one table are equally long. What
the parts mean is the analysis's (`analysis.stored`); who does not know them loses nothing but time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ftdiag.datatypes import dataclass
from ftdiag.recording import schema
from ftdiag.recording.columns import (
    Column,
    Int64Array,
    bounded,
    decoded_column,
    gaps_of,
    others_of,
    shared_of,
    updates_of,
)
from ftdiag.recording.encoding import shared_rows, updates_rows
from ftdiag.recording.schema import MAX_GAPS, DamagedBlob

__all__ = [
    "MAX_GAPS",
    "DamagedBlob",
    "gaps_of",
    "others_of",
    "shared_of",
    "shared_rows",
    "updates_of",
    "updates_rows",
]

Bounds = tuple[int, int]
THREAD: Final[Bounds] = (0, schema.MAX_THREADS - 1)
PERSON: Final[Bounds] = (0, schema.MAX_THREADS)
"""A thread's index + 1, or 0."""
STACK: Final[Bounds] = (0, schema.MAX_STACKS - 1)
WAIT: Final[Bounds] = (0, schema.MAX_WAITS - 1)
FRAME: Final[Bounds] = (-1, schema.MAX_FRAMES - 1)
LOCK: Final[Bounds] = (0, schema.MAX_WAITS)
CODE: Final[Bounds] = (0, 255)
POSITION: Final[Bounds] = (0, schema.MAX_WINDOW_ROWS)
VALUE: Final[Bounds] = (0, 1 << 53)
"""A time, a size or a count: sums of a few thousand fit 64 bits."""
OPTIONAL: Final[Bounds] = (-1, 1 << 53)
"""The same, or -1: not known."""
Table = Mapping[str, Bounds]
"""Columns of equal length, and what their values are within."""


@dataclass(frozen=True, slots=True)
class Part:
    """Columns and JSON values by name."""

    columns: Mapping[str, Int64Array]
    texts: Mapping[str, Any]


_TYPECODES: Final = {
    "|u1": "B",
    "<u2": "H",
    "<u4": "I",
    "|i1": "b",
    "<i2": "h",
    "<i4": "i",
    "<i8": "q",
}


class TooLarge(ValueError):
    """More than a recording holds of anything."""


def encoded(key: int, name: str, part: Part) -> bytes:
    """The blob of a part of the summary that ends with window `key`. Raises TooLarge."""
    headers, bodies = [], []
    for column_name, values in part.columns.items():
        if len(values) > schema.MAX_WINDOW_ROWS:
            raise TooLarge(column_name)
        as_delta = bool(len(values)) and bool(np.all(values[1:] >= values[:-1]))
        column = _narrow(np.diff(values, prepend=0) if as_delta else values)
        flags = (schema.FLAG_DELTA if as_delta else 0) | (schema.FLAG_PLANES if column.itemsize > 1 else 0)
        headers.append(schema.column_header(column_name, _TYPECODES[column.dtype.str], flags, len(column)))
        planes = column.view(np.uint8).reshape(len(column), column.itemsize)
        bodies.append(np.ascontiguousarray(planes.T).tobytes())
    for text_name, value in part.texts.items():
        text = schema.to_json(value).encode("ascii")
        if len(text) > schema.MAX_JSON_BYTES:
            raise TooLarge(text_name)
        headers.append(schema.column_header(text_name, "B", 0, len(text)))
        bodies.append(text)
    return schema.compressed_group(key, name, headers, bodies)


def _narrow(values: Int64Array) -> Column:
    """The values in the narrowest little-endian integers that hold them all."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for dtype in ("<u1", "<u2", "<u4") if low >= 0 else ("<i1", "<i2", "<i4"):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype("<i8")


def decoded(blob: object, key: int, name: str, tables: tuple[Table, ...], texts: tuple[str, ...]) -> Part:
    """The columns of these tables, and JSON values. Raises DamagedBlob."""
    content, layout = schema.decode_group(blob, key, name)
    if not layout.keys() >= {*texts, *(column for table in tables for column in table)}:
        raise schema.DamagedBlob("a part of a summary is missing")
    columns = {}
    for table in tables:
        for column, (low, high) in table.items():
            columns[column] = bounded(decoded_column(content, layout[column]), low, high, column)
        if len({len(columns[column]) for column in table}) > 1:
            raise schema.DamagedBlob("columns of a summary differ in length")
    values = {}
    for text in texts:
        raw = decoded_column(content, layout[text])
        if raw.dtype.itemsize != 1:
            raise schema.DamagedBlob("a text of a summary cannot be read")
        values[text] = schema.from_json(schema.decode_text(raw.tobytes()))
    return Part(columns, values)
