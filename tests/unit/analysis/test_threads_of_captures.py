"""Threads of a capture of memray, joined to those that were sampled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_target, spent
from ftdiag.analysis.allocations import joined_threads
from ftdiag.formats.importers.memray_reading import named_thread
from ftdiag.model import Allocations, ThreadAllocations, ThreadMetrics
from ftdiag.reports.allocations import allocations_of
from ftdiag.session import Session


def threads(path: Path, *names: str) -> tuple[ThreadMetrics, ...]:
    """Threads of these names that work."""
    builder = RecordingBuilder(path, target=a_target())
    builder.window({name: [spent(100, "work", at="/srv/app.py:5 work")] for name in names})
    with builder.end().open() as recording:
        return Session(recording).snapshot().threads


def capture(*rows: ThreadAllocations) -> Allocations:
    """A capture of two seconds with these threads."""
    return Allocations(
        1, "app.py", 0, 2_000_000_000, True, False, False, 9, 9, 9, None, None, None, (), tuple(rows)
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("worker-1 (tid 27813)", ("worker-1", 27813)),
        ("Thread-1 (work) (tid 5)", ("Thread-1 (work)", 5)),
        ("worker-1", ("worker-1", None)),
        ("(tid x)", ("(tid x)", None)),
        ("w (tid 99999999999)", ("w (tid 99999999999)", None)),
    ],
)
def test_what_memray_was_told_has_the_name_and_the_id(told: str, expected: tuple[str, int | None]) -> None:
    # GIVEN a name of a capture WHEN it is read THEN the id that was told with it is known
    assert named_thread(told) == expected


def test_threads_are_joined_by_id_and_else_by_a_name_of_one(tmp_path: Path) -> None:
    # GIVEN two threads of one name, and one of its own
    alive = threads(tmp_path / "a.ftdiag", "pool_0", "pool_1", "feed")
    alike = tuple(replace(each, info=replace(each.info, name="pool")) for each in alive[:2])
    by_id = ThreadAllocations(1, "pool", 10, tid=alike[1].info.tid)
    by_name = ThreadAllocations(2, "feed", 20)
    nobody = ThreadAllocations(3, "pool", 30), ThreadAllocations(4, None, 40)
    told = capture(by_id, by_name, *nobody)

    # WHEN they are joined
    first, second, feed = joined_threads((*alike, alive[2]), told)

    # THEN the id tells one of the two, and the name the other; what may be either is nobody's
    assert (first.allocations, second.allocations, feed.allocations) == (None, by_id, by_name)
    # AND the report has a rate for those that are known, together only if all are
    assert allocations_of([second.allocations, feed.allocations], told) == "15 allocations per second"
    assert allocations_of([first.allocations, feed.allocations], told) == ""
    # AND without a capture they are what they were
    assert joined_threads(alive, None) == alive
