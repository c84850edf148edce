"""What the collector says that it did: summed over windows, told in reports, and the reason of pauses."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from builders import START_NS, RecordingBuilder, a_target, spent
from ftdiag.model import Collections, Confidence, GenerationCollections
from ftdiag.reports.html import render
from ftdiag.reports.json import to_report
from ftdiag.rules import facts_of
from ftdiag.rules.base import Facts
from unit.analysis.test_on_cpu import text_of

WORK = "app.py:10 work"
MS = 1_000_000


def told(*times: tuple[int, int], generation: int = 0, more: int = 0, objects: int = 1_000) -> Collections:
    """Collections of one generation at these times (ms from the beginning), and `more` of 1 ms each."""
    total = sum(end - begin for begin, end in times) * MS + more * MS
    count = len(times) + more
    return Collections(
        (GenerationCollections(generation, count, total, objects * count, 3 * count),) if count else (),
        array("B", [generation] * len(times)),
        array("q", [START_NS + begin * MS for begin, _ in times]),
        array("q", [START_NS + end * MS for _, end in times]),
    )


def two_windows(tmp_path: Path, *, version: str = "3.15.1") -> RecordingBuilder:
    """Two seconds; `a` is stopped by `asker` twice, of which one is for the collector, and once by nobody
    known, for the collector."""
    builder = RecordingBuilder(tmp_path / "r", rate_hz=100, target=a_target(python_version=version))
    builder.thread("a").thread("asker")
    builder.window(
        {
            "a": [
                spent(20, "on_cpu", at=WORK),
                spent(5, "stopped", at=WORK, holder="asker", syscall="futex"),
                spent(35, "on_cpu", at=WORK),
                spent(5, "stopped", at=WORK, holder="asker", syscall="futex"),
                spent(35, "on_cpu", at=WORK),
            ],
            "asker": [spent(100, "on_cpu", at="app.py:5 ask")],
        },
        collections=told((195, 252), more=2),
    )
    builder.window(
        {
            "a": [
                spent(20, "on_cpu", at=WORK),
                spent(5, "stopped", at=WORK, syscall="futex"),
                spent(75, "on_cpu", at=WORK),
            ],
            "asker": [spent(100, "on_cpu", at="app.py:5 ask")],
        },
        collections=told((1_190, 1_300), generation=2),
    )
    return builder


def test_collections_are_exact_and_the_reason_of_pauses(tmp_path: Path) -> None:
    # GIVEN a recording of a version that says what its collector did
    snapshot = two_windows(tmp_path).session().snapshot()

    # THEN number, time and objects are summed by generation
    collector = snapshot.collector
    assert collector is not None
    assert collector.generations == (
        GenerationCollections(0, 3, 59 * MS, 3_000, 9),
        GenerationCollections(2, 1, 110 * MS, 1_000, 3),
    )
    assert (collector.count, collector.total_ns) == (4, 169 * MS)
    assert (collector.timed, collector.longest_ns) == (2, 110 * MS)
    assert collector.covered_ratio == pytest.approx(1.0)
    assert "collections" not in snapshot.quality.not_measured
    # AND the pauses that it ran in are its own, whoever asked; the other one is not
    assert [
        (each.requester and each.requester.name, each.reason, each.count) for each in snapshot.pauses
    ] == [("asker", "garbage collection", 1), ("asker", None, 1), (None, "garbage collection", 1)]
    assert snapshot.pauses[0].confidence is Confidence.KNOWN
    # AND a pause that no collection explains is like the others of its thread, unless all are known
    assert facts_of(snapshot).charges.stop_shares == {"gc-pressure": 1.0}
    timed = replace(snapshot, collector=replace(collector, timed=collector.count))
    assert facts_of(timed).charges.stop_shares == {
        "gc-pressure": pytest.approx(2 / 3),
        "stop-the-world": pytest.approx(1 / 3),
    }


def test_reports_say_that_it_is_measured(tmp_path: Path) -> None:
    # GIVEN the same
    snapshot = two_windows(tmp_path).session().snapshot()

    # WHEN reported, THEN the figures are there, and that they are measured
    words = (
        "measured: 4 garbage collections, 169 ms in all, 42 ms each, 110 ms at most of the 2 timed one by"
        " one; looked at 4,000 objects, freed 12"
    )
    assert words in text_of(snapshot)
    assert words in render(snapshot)
    said = to_report(snapshot)["collections"]
    assert said["count"] == 4
    assert said["total_s"] == pytest.approx(0.169)
    assert said["longest_ms"] == pytest.approx(110)
    assert said["generations"][1] == {
        "generation": 2,
        "count": 1,
        "total_s": 0.11,
        "looked_at": 1_000,
        "freed": 3,
    }


@pytest.mark.parametrize(
    ("version", "why"),
    [("3.14.9", "from 3.15 on; before, its pauses are sampled"), ("3.15.1", "an older ftdiag made it")],
)
def test_where_it_is_not_known_the_reason_is(version: str, why: str, tmp_path: Path) -> None:
    # GIVEN a recording without
    builder = RecordingBuilder(tmp_path / "r", target=a_target(python_version=version))
    snapshot = builder.window({"a": [spent(100, "on_cpu", at=WORK)]}).session().snapshot()

    # THEN nothing is made up
    assert snapshot.collector is None
    assert why in snapshot.quality.not_measured["collections"]
    assert to_report(snapshot)["collections"] is None
    assert isinstance(facts_of(snapshot), Facts)


def test_a_range_with_a_part_that_is_covered_says_so(tmp_path: Path) -> None:
    # GIVEN two windows, of which one has no statistics
    builder = RecordingBuilder(tmp_path / "r", target=a_target(python_version="3.15.1"))
    builder.window({"a": [spent(100, "on_cpu", at=WORK)]}, collections=told((10, 20)))
    builder.window({"a": [spent(100, "on_cpu", at=WORK)]})
    collector = builder.session().snapshot().collector

    # THEN the figures are of a half
    assert collector is not None
    assert collector.covered_ratio == pytest.approx(0.5)
