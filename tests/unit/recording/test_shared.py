"""Shared objects of a window: written, read, bounded, and refused where damaged."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.model import Confidence, Frame, SharedObject
from ftdiag.recording import schema
from ftdiag.recording.columns import decode_shared
from ftdiag.recording.reader import Recording
from unit.recording.windows import END, create, window

CONFIG = SharedObject("CONFIG", "Config", Confidence.KNOWN)
MAYBE = SharedObject("self.table", "dict", Confidence.INFERRED)


def test_shared_objects_come_back_by_line(tmp_path: Path) -> None:
    # GIVEN windows that name objects on two lines, one of them first as possible, then as known
    writer = create(tmp_path / "a.ftdiag")
    first = writer.intern_frame(Frame("app.py", "work", 1))
    second = writer.intern_frame(Frame("app.py", "work", 2))
    maybe = replace(CONFIG, confidence=Confidence.INFERRED)
    for number, shared in enumerate(
        [((first, maybe),), (), ((first, CONFIG), (second, MAYBE)), ((first, maybe),)]
    ):
        writer.write_window(replace(window(writer, number), shared=shared))
    writer.finish(END)
    writer.close()

    # WHEN they are read
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        # THEN each line has its objects, with the highest confidence of the range
        assert recording.shared(0, 4) == {first: (CONFIG,), second: (MAYBE,)}
        assert recording.shared(0, 2) == {first: (maybe,)}
        assert recording.shared(1, 2) == {}
        assert recording.verify() == ()


def test_shared_objects_are_bounded(tmp_path: Path) -> None:
    # GIVEN more objects than a window holds, with names of the longest kind
    writer = create(tmp_path / "a.ftdiag")
    frame = writer.intern_frame(Frame("app.py", "work", 1))
    many = tuple(
        (frame, SharedObject(f"{number}\U0001f600" * 500, "\udc80" * 999, Confidence.KNOWN))
        for number in range(999)
    )
    writer.write_window(replace(window(writer, 0), shared=many))
    writer.finish(END)
    writer.close()

    # WHEN they are read, THEN there are as many as fit, cut
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        (found,) = recording.shared(0, 1).values()
        assert len(found) == schema.MAX_SHARED
        assert max(len(one.name) for one in found) == schema.MAX_SHARED_CHARACTERS
        assert recording.verify() == ()


def encoded(text: str) -> bytes:
    """A group as a writer of another kind might make it."""
    return schema.encode_group(1, schema.GROUP_SHARED, [("objects", list(text.encode()), False)])


@pytest.mark.parametrize(
    "text",
    ["", "{}", "7", "[7]", '[[1,"a","b"]]', '[[-1,"a","b",2]]', '[[true,"a","b",2]]', '[["1","a","b",2]]',
     '[[1,2,"b",2]]', "[" * 5000,
     "[" + '[1,"a","b",2],' * 256 + '[1,"a","b",2]]', f"[[{1 << 40},\"a\",\"b\",2]]"],
)  # fmt: skip
def test_damaged_shared_objects_are_refused(text: str) -> None:
    # GIVEN JSON that is no list of shared objects, WHEN it is read, THEN it is refused as damaged
    with pytest.raises(schema.DamagedBlob):
        decode_shared(encoded(text), 1, schema.GROUP_SHARED)


def test_unknown_confidences_and_further_values_are_borne() -> None:
    # GIVEN what a newer minor version may write, WHEN it is read, THEN the rest counts
    found = decode_shared(encoded('[[1,"a","b",9,"new"],[1,"a","b",-3]]'), 1, schema.GROUP_SHARED)
    assert [one.confidence for _, one in found] == [Confidence.UNKNOWN] * 2


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    # GIVEN any bytes as JSON, WHEN they are read, THEN objects or one kind of error come
    blob = schema.encode_group(1, schema.GROUP_SHARED, [("objects", list(data), False)])
    try:
        decode_shared(blob, 1, schema.GROUP_SHARED)
    except schema.DamagedBlob:
        pass


def test_damaged_group_is_a_gap(tmp_path: Path) -> None:
    # GIVEN a recording whose group of shared objects cannot be read

    writer = create(tmp_path / "a.ftdiag")
    frame = writer.intern_frame(Frame("app.py", "work", 1))
    writer.write_window(replace(window(writer, 0), shared=((frame, CONFIG),)))
    writer.finish(END)
    writer.close()
    database = sqlite3.connect(tmp_path / "a.ftdiag")
    database.execute("UPDATE column_data SET data = ? WHERE name = 'shared'", (b"nonsense",))
    database.commit()
    database.close()

    # WHEN it is read, THEN it is told and the rest is there
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        assert recording.shared(0, 1) == {}
        assert [gap.what for gap in recording.damaged] == ["shared"]
        assert len(recording.samples(0)) > 0
