"""Who counts as together in the middle of an update: by place, by locks, once each time; within limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from fake_process import FakeProcess, Sink
from ftdiag.model import FIRST_STACK_ID, UNKNOWN_GUARD, SharedPlace, UpdateSight
from ftdiag.sampling.updates import (
    BRIEF_WINDOWS,
    FIRST_WINDOWS,
    LATER_READS,
    MAX_READS,
    REST,
    SUSPECT_WINDOWS,
    UpdateWatch,
    _Sight,
)
from ftdiag.sources.python.interpreter import InterpreterReader

COUNT = SharedPlace("attribute", "Visits.count", "Visits", 4096)
OTHER = SharedPlace("attribute", "Visits.count", "Visits", 8192)
LOCKED = SharedPlace("attribute", "Visits.count", "Visits", 12288)


@dataclass(eq=False)
class Thread:
    """As much of a sampled thread as is looked at; `place` and `guards` are what its frame has."""

    index: int
    place: SharedPlace | None = COUNT
    guards: tuple[int, ...] = ()
    schedstat: bytes = b"1"
    chain: tuple[int, ...] = (1, 2)
    observation: tuple[int, ...] = (0, FIRST_STACK_ID, 0, 0, 0)
    info: Any = field(init=False)
    innermost: Any = field(init=False)

    def __post_init__(self) -> None:
        self.info = SimpleNamespace(index=self.index)
        self.innermost = self


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> UpdateWatch:
    """One that finds every thread inside of what `Thread` says."""
    fake = FakeProcess("3.14.9t")
    made = UpdateWatch(InterpreterReader(fake.memory, fake.runtime, Sink()), None)  # type: ignore[arg-type]

    def sight(python: Thread, stack: int, one: object) -> _Sight | None:
        made._reads += 1
        if python.place is None:
            return None
        return _Sight(python.place, stack, frozenset(python.guards), None, False)

    monkeypatch.setattr(made, "_of_chain", lambda python, stack: (None,))
    monkeypatch.setattr(made, "_sight", sight)
    return made


def rows(watch: UpdateWatch) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
    """(thread, ticks) of those alone, (thread, other, ticks) of those together."""
    taken: tuple[UpdateSight, ...] = watch.take() or ()
    alone = sorted((one.thread, one.count) for one in taken if one.other < 0)
    return alone, sorted((one.thread, one.other, one.count) for one in taken if one.other >= 0)


def look(watch: UpdateWatch, *threads: Thread) -> None:
    watch.look(threads)  # type: ignore[arg-type]


def test_two_without_a_lock_are_together(watch: UpdateWatch) -> None:
    # GIVEN two in the middle of one update, a third of another object's WHEN looked at THEN the two are
    look(watch, Thread(0), Thread(1), Thread(2, OTHER))
    assert rows(watch) == ([(0, 1), (1, 1), (2, 1)], [(0, 1, 1)])


@pytest.mark.parametrize("guards", [((7,), (7, 9)), ((UNKNOWN_GUARD,), ()), ((), (UNKNOWN_GUARD,))])
def test_a_lock_in_common_or_unknown_keeps_apart(
    watch: UpdateWatch, guards: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    # GIVEN two that hold one lock, or may hold one WHEN looked at THEN they are not together
    look(watch, Thread(0, guards=guards[0]), Thread(1, guards=guards[1]))
    assert rows(watch)[1] == []


def test_different_locks_do_not(watch: UpdateWatch) -> None:
    # GIVEN two under a lock each WHEN looked at THEN they are together
    look(watch, Thread(0, guards=(7,)), Thread(1, guards=(9,)))
    assert rows(watch)[1] == [(0, 1, 1)]


def test_who_stands_is_met_but_not_counted_again(watch: UpdateWatch) -> None:
    # GIVEN a thread without a core in the middle of an update, and one that comes by again and again
    standing, running = Thread(0), Thread(1)
    for tick in range(3):
        running.schedstat = b"%d" % tick
        look(watch, standing, running)
    # WHEN counted THEN the former was seen once, the latter three times, each time together
    alone, together = rows(watch)
    assert alone == [(0, 1), (1, 3)]
    assert sum(count for _, _, count in together) == 3


def test_who_went_on_is_no_longer_inside(watch: UpdateWatch) -> None:
    # GIVEN a thread that was inside and has moved on WHEN another comes THEN they are not together
    first = Thread(0)
    look(watch, first)
    first.place, first.schedstat = None, b"2"
    look(watch, first, Thread(1))
    assert rows(watch)[1] == []


def test_there_is_a_limit_of_reads(watch: UpdateWatch) -> None:
    # GIVEN more threads inside than are read in a second WHEN looked at THEN nothing is seen after that
    look(watch, *(Thread(number) for number in range(MAX_READS)))
    late = Thread(MAX_READS)
    look(watch, late, Thread(MAX_READS + 1))
    assert all(index < MAX_READS for index, _ in rows(watch)[0])
    # WHEN the next window begins THEN it goes on
    look(watch, late)
    assert rows(watch)[0] == [(MAX_READS, 1)]
    # AND fewer are read once the first windows are over
    for _ in range(BRIEF_WINDOWS + SUSPECT_WINDOWS):
        watch.take()
    for _ in range(REST):
        if watch.resting:
            watch.take()
    for number in range(MAX_READS):
        look(watch, Thread(number))
    assert len(rows(watch)[0]) == LATER_READS


def test_an_object_where_another_threads_was_is_not_suspected(watch: UpdateWatch) -> None:
    # GIVEN two requests, one after the other, whose objects lay at one address
    for thread in (Thread(5), Thread(6)):
        look(watch, thread)
        watch.forget_thread(thread)  # type: ignore[arg-type]
        watch.take()
    # WHEN the first windows are over THEN windows are left out
    resting = []
    for _ in range(2 * REST):
        resting.append(watch.resting)
        watch.take()
    assert any(resting)


@pytest.mark.parametrize(
    ("duration_s", "looked"), [(3.0, BRIEF_WINDOWS), (None, FIRST_WINDOWS), (60.0, FIRST_WINDOWS)]
)
def test_of_a_look_that_ends_soon_all_windows_are_looked_at(duration_s: float | None, looked: int) -> None:
    # GIVEN how long is looked WHEN nothing is suspected THEN so many windows at the beginning are looked at
    fake = FakeProcess("3.14.9t")
    reader = InterpreterReader(fake.memory, fake.runtime, Sink())
    made = UpdateWatch(reader, None, duration_s)  # type: ignore[arg-type]
    seen = []
    for _ in range(looked + 1):
        seen.append(not made.resting)
        made.take()
    assert all(seen[:looked])
    assert seen[looked] is (looked % REST == 0)


class FakeRoom:
    """Says how many cores were free."""

    def __init__(self, free_cores: float | None) -> None:
        self.answers = [None, free_cores]

    def read(self, now_ns: int) -> float | None:
        """The next answer; the first tells nothing yet. It is not asked more often."""
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("free_cores", "duration_s", "looked"),
    [
        (0.1, None, [4, 5, 8, 12]),
        (0.1, 60.0, [4, 5, 8, 12]),
        (0.1, 3.0, [*range(10), 12]),
        (1.0, None, [1, 2, 4, 8, 12]),
        (None, None, [1, 2, 4, 8, 12]),
    ],
)
def test_where_no_core_is_free_the_first_three_seconds_are_left_out(
    free_cores: float | None, duration_s: float | None, looked: list[int]
) -> None:
    # GIVEN how many cores were free in the first window WHEN nothing is suspected
    fake = FakeProcess("3.14.9t")
    reader = InterpreterReader(fake.memory, fake.runtime, Sink())
    room: Any = FakeRoom(free_cores)
    made = UpdateWatch(reader, None, duration_s, room)  # type: ignore[arg-type]
    seen = []
    for number in range(13):
        if not made.resting:
            seen.append(number)
        made.take()

    # THEN these are looked at
    assert seen == looked


def test_windows_are_left_out_while_nothing_is_suspected(watch: UpdateWatch) -> None:
    # GIVEN threads that each update what is their own, or what one lock protects
    threads = [Thread(0), Thread(1, OTHER), Thread(2, LOCKED, (7,)), Thread(3, LOCKED, (7, 8))]

    def a_window() -> bool:
        looked = not watch.resting
        for thread in threads:
            thread.schedstat += b"1"
        look(watch, *threads)
        assert bool(watch.take()) == looked
        return looked

    # WHEN time goes by THEN all of the first windows are looked at, and one of four after that
    assert all(a_window() for _ in range(FIRST_WINDOWS))
    later = [a_window() for _ in range(40)]
    assert sum(later) == 40 // REST

    def another_thread(place: SharedPlace) -> None:
        for index in (5, 6, 6):
            for _ in range(REST):
                if watch.resting:
                    watch.take()
            thread = Thread(index, place)
            look(watch, thread)
            watch.forget_thread(thread)  # type: ignore[arg-type]
            watch.take()

    # WHEN another thread updates what is the first one's THEN all are looked at for some time
    another_thread(COUNT)
    assert sum(a_window() for _ in range(2 * SUSPECT_WINDOWS)) >= SUSPECT_WINDOWS
    assert not all(a_window() for _ in range(REST))
    # WHEN that happens again, or at a place of that name in another object THEN it is known by then
    another_thread(COUNT)
    assert not all(a_window() for _ in range(REST))
    another_thread(OTHER)
    assert not all(a_window() for _ in range(REST))
    # WHEN it is a place of another name THEN all are looked at again
    another_thread(SharedPlace("global", "app.TOTAL", "module", 16384))
    assert all(a_window() for _ in range(SUSPECT_WINDOWS // 2))
