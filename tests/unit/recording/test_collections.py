"""What the collector did: written, read, bounded, and refused where damaged."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.model import Collections, GenerationCollections
from ftdiag.recording import schema
from ftdiag.recording.columns import decode_collections
from ftdiag.recording.reader import Recording
from unit.recording.windows import END, create, window

TOLD = Collections(
    (GenerationCollections(0, 3, 30_000_000, 9_000, 5), GenerationCollections(2, 1, 8_000_000, 70_000, 0)),
    array("B", [0, 2]),
    array("q", [5_000, -3_000]),
    array("q", [9_000, 8_000_000]),
)


def written(path: Path, told: Sequence[Collections | None]) -> Path:
    """A recording with a window for each of these."""
    writer = create(path)
    for number, each in enumerate(told):
        writer.write_window(replace(window(writer, number), collections=each))
    writer.finish(END)
    writer.close()
    return path


def test_collections_come_back(tmp_path: Path) -> None:
    # GIVEN windows of a version that tells of collections, in one of which there were none, and one that
    # does not tell
    path = written(tmp_path / "a.ftdiag", [TOLD, None, Collections()])

    # WHEN they are read, THEN they are what was written, at their windows
    with Recording.open(path) as recording:
        assert recording.collections(0, 3) == ((0, TOLD), (2, Collections()))
        assert recording.collections(1, 2) == ()
        assert recording.verify() == ()


def test_times_are_bounded(tmp_path: Path) -> None:
    # GIVEN more collections than are kept, one that ends before it begins, one out of all time
    many = schema.MAX_COLLECTIONS + 9
    told = Collections(
        TOLD.generations * 9,
        array("B", [0] * many),
        array("q", [7, 1 << 62, *range(many - 2)]),
        array("q", [1, 1 << 62, *range(many - 2)]),
    )
    unlike = tuple(replace(each, generation=number) for number, each in enumerate(told.generations))
    path = written(tmp_path / "a.ftdiag", [replace(told, generations=unlike)])

    # WHEN it is read, THEN the rest is there
    with Recording.open(path) as recording:
        ((_, found),) = recording.collections(0, 1)
        assert len(found.begin_ns) == schema.MAX_COLLECTIONS
        assert found.begin_ns[0] == 0
        assert len(found.generations) == schema.MAX_GENERATIONS
        assert recording.verify() == ()


def encoded(**changed: Sequence[int]) -> bytes:
    """A group as a writer of another kind might make it."""
    columns: dict[str, Sequence[int]] = {
        "generation": [0, 1],
        "count": [3, 1],
        "total_ns": [30, 10],
        "looked_at": [5, 6],
        "freed": [0, 2],
        "timed_generation": [0],
        "begin_ns": [-5],
        "end_ns": [10],
    }
    columns |= changed
    return schema.encode_group(
        1, schema.GROUP_COLLECTIONS, [(name, values, False) for name, values in columns.items()]
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"count": [3]},
        {"count": [3, -1]},
        {"total_ns": [1, 1 << 63]},
        {"generation": [0, 0]},
        {"generation": [0, 256]},
        {"freed": [-2, 0]},
        {"timed_generation": [300]},
        {"timed_generation": [0, 0]},
        {"begin_ns": [11]},
        {"end_ns": [1 << 62]},
        {"begin_ns": [-(1 << 61)]},
        {name: list(range(9)) for name in ("generation", "count", "total_ns", "looked_at", "freed")},
    ],
)
def test_damaged_collections_are_refused(changed: dict[str, list[int]]) -> None:
    # GIVEN a group that is not what a writer writes, WHEN it is read, THEN it is refused as damaged
    with pytest.raises(schema.DamagedBlob):
        decode_collections(encoded(**changed), 1, schema.GROUP_COLLECTIONS, 100)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4), st.integers(0, schema.MAX_TIME_NS))
def test_any_times_are_read_or_refused(times: list[int], t0_ns: int) -> None:
    # GIVEN any times, WHEN they are read, THEN collections or one kind of error comes
    blob = encoded(timed_generation=[0] * len(times), begin_ns=times, end_ns=times)
    try:
        decode_collections(blob, 1, schema.GROUP_COLLECTIONS, t0_ns)
    except schema.DamagedBlob:
        pass
