"""Sums of a range that moves: they are what a first look at the same range finds."""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from builders import START_NS, RecordingBuilder, spent
from ftdiag.analysis.accounting import ThreadTime, merge_time
from ftdiag.analysis.digests import Digest
from ftdiag.analysis.folding import Folded, added, packed, unpacked
from ftdiag.session import Session

S = 1_000_000_000
WINDOWS = 140
STATES = ("on_cpu", "lock", "idle", "runnable")


def columns(time: ThreadTime) -> list[list[float]]:
    """All of it, as lists."""
    return [getattr(time, each.name).tolist() for each in fields(time)]


def a_program(path: Path) -> Session:
    """Threads that come and go, at lines of which some are seen seldom."""
    chance = random.Random(7)
    builder = RecordingBuilder(path, rate_hz=10)
    for number in range(WINDOWS):
        threads = {}
        for name in ("a", "b", f"late-{number // 9}"):
            line = f"app.py:{chance.randrange(40)} work"
            what = chance.choice(STATES)
            lock = "self._lock" if what == "lock" else None
            threads[name] = [spent(4, what, at=line, lock=lock), spent(6, "on_cpu", at="app.py:1 main")]
        builder.window(threads, ticks=10)
    return builder.session()


def test_a_moving_range_is_what_it_is_to_a_fresh_look(tmp_path: Path) -> None:
    # GIVEN a view that follows a recording, now and then with a pause, and looks back
    session = a_program(tmp_path / "a")
    ranges = [(end - 60, end) for end in range(60, 110)]
    ranges += [(40, 100), *((end - 60, end) for end in range(110, WINDOWS, 7)), (0, WINDOWS), (79, 139)]
    for begin, end in ranges:
        followed = session.snapshot(START_NS + begin * S, START_NS + end * S)
        time = session.accounted_time(START_NS + begin * S, START_NS + end * S)
        # THEN it sees what somebody sees who looks there first
        fresh = Session(session.recording)
        expected = fresh.accounted_time(START_NS + begin * S, START_NS + end * S)
        assert len(expected) > 5
        assert columns(time) == columns(expected)
        assert followed.threads == fresh.snapshot(START_NS + begin * S, START_NS + end * S).threads


def test_two_sums_are_added_as_if_they_were_one() -> None:
    # GIVEN sums of rows, of which some are in both
    chance = random.Random(3)
    for largest in (6, 2**15 - 1):
        parts = [some_rows(chance, count, largest) for count in (40, 15, 0, 90)]
        bits = (15, 15, 16, 16)
        # WHEN they are added up one by one, in any order
        chance.shuffle(parts)
        so_far = packed(parts[0], bits)
        for part in parts[1:]:
            so_far = added(so_far, packed(part, bits))
        # THEN it is what all rows together are
        assert columns(unpacked(so_far, bits)) == columns(merge_time(parts))


def test_ranges_with_more_than_a_key_holds_are_merged_all_the_same() -> None:
    # GIVEN a range that grows, whose rows need more bits from look to look, at last too many
    chance = random.Random(5)
    folded = Folded(4)
    digests: list[Digest] = []
    for largest in (3, 5, 40, 4, 2**12, 9, 2**21):
        digests.append(digest_of(some_rows(chance, 30, largest)))
        # THEN each look finds what all rows together are
        assert columns(folded.time_of(digests)) == columns(merge_time([one.time for one in digests]))


def digest_of(time: ThreadTime) -> Digest:
    """A digest as far as sums of thread-time know it: of one window."""
    return cast("Digest", SimpleNamespace(time=time, series=SimpleNamespace(cpu_ns=[0])))


def some_rows(chance: random.Random, count: int, largest: int) -> ThreadTime:
    """Merged rows of whole nanoseconds."""
    thread, state, stack, wait = [
        np.array([chance.randrange(largest) for _ in range(count)], dtype=np.int64) for _ in range(4)
    ]
    spent_ns = np.array([float(chance.randrange(1, 10**9)) for _ in range(count)])
    return merge_time([ThreadTime(np.zeros(count, dtype=np.int64), thread, state, stack, wait, spent_ns)])
