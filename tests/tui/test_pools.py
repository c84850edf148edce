"""Pools in one row, rows that keep their places, locks of one name told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ftdiag.model import LockKind, LockRef, ThreadInfo, ThreadMetrics, ThreadState
from ftdiag.tui.panes.pools import LEAST_MEMBERS, Pool, lane_of, pools_of
from ftdiag.tui.panes.threads import ThreadRow, ThreadsPane
from ftdiag.tui.table import CLEARLY
from ftdiag.wording.threads import pool_key, pool_name
from tui.driving import driving, go, press, screen_text, until
from tui.pictures import FakeSource, contended

NOBODY: frozenset[int] = frozenset()


def a_thread(
    index: int, name: str, *, cpu_ns: int = 100, states: Mapping[ThreadState, float] | None = None
) -> ThreadMetrics:
    return ThreadMetrics(
        info=ThreadInfo(index, 4200 + index, name, True, False),
        role="worker",
        alive_ns=1000,
        cpu_ns=cpu_ns,
        run_queue_ns=0,
        states_ns=states or {ThreadState.WORK: float(cpu_ns), ThreadState.IDLE: 1000.0 - cpu_ns},
        voluntary_switches=0,
        involuntary_switches=0,
        minor_faults=0,
        major_faults=0,
    )


def crunchers(count: int) -> list[ThreadMetrics]:
    return [a_thread(number, f"crunch-{number}", cpu_ns=500 - number) for number in range(count)]


def names(pane: ThreadsPane) -> list[str]:
    rows: list[ThreadRow] = list(pane.rows)
    return [row.thread.info.name for row in rows]


# --- which belong together -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("crunch-12", ("crunch-", "")),
        ("ThreadPoolExecutor-0_7", ("ThreadPoolExecutor-0_", "")),
        ("Thread-12 (step2)", ("Thread-", " (step2)")),
        ("db2 worker 3 of db2", ("db2 worker 3 of db", "")),
        ("MainThread", None),
        ("", None),
    ],
)
def test_what_names_of_a_pool_have_in_common(name: str, key: tuple[str, str] | None) -> None:
    assert pool_key(name) == key


def test_a_pool_has_the_times_of_its_threads() -> None:
    # GIVEN sixteen threads of a pool, another one, and two of another pool
    threads = [*crunchers(16), a_thread(20, "MainThread"), a_thread(21, "io-0"), a_thread(22, "io-1")]
    # WHEN put together THEN the sixteen are one, with all their time; few of a name stay as they are
    pool, *others = pools_of(threads, NOBODY)
    assert isinstance(pool, Pool)
    assert pool.together.info.name == "crunch-[0-15] x16"
    assert pool.together.cpu_ns == sum(thread.cpu_ns for thread in threads[:16])
    assert sum(pool.together.states_ns.values()) == pool.together.alive_ns == 16_000
    assert others == threads[16:]


def test_a_thread_that_stands_still_is_no_part_of_its_pool() -> None:
    pool, *others = pools_of(crunchers(LEAST_MEMBERS + 1), frozenset({3}))
    assert isinstance(pool, Pool)
    assert len(pool.members) == LEAST_MEMBERS
    assert [thread.info.index for thread in others if isinstance(thread, ThreadMetrics)] == [3]


def test_numbers_of_a_pool_are_its_first_and_last() -> None:
    assert pool_name([f"w-{number}" for number in (3, 11, 2)]) == "w-[2-11] x3"
    with pytest.raises(ValueError, match="no number"):
        pool_name(["main"])


def test_a_lane_for_several_has_each_state_as_often_as_they_have() -> None:
    # GIVEN lanes of which a quarter of all cells is work, wherever it is
    work, idle = int(ThreadState.WORK), int(ThreadState.IDLE)
    lanes = [bytes([work] * 200), *(bytes([idle] * 200) for _ in range(3))]
    # THEN a quarter of the cells of their common lane is work, and where nobody was there is nothing
    together = lane_of(lanes)
    assert together.count(work) == 50
    assert together.count(idle) == 150
    assert lane_of([bytes([0, 0, work])]) == bytes([0, 0, work])
    assert lane_of([]) == b""


# --- in the pane -----------------------------------------------------------------------------------------


async def test_a_pool_folds_and_unfolds() -> None:
    # GIVEN a program with a pool of sixteen
    snapshot = replace(contended(), threads=(*crunchers(16), a_thread(20, "MainThread", cpu_ns=1)))
    async with driving(FakeSource(snapshot)) as (app, pilot):
        await go(pilot, "2")
        pane = app.query_one(ThreadsPane)
        # THEN it is one row, and the title counts threads
        assert names(pane) == ["crunch-[0-15] x16", "MainThread"]
        assert "2 Threads 17" in screen_text(app)
        # WHEN Enter is pressed on it THEN its threads are below it, in order, and Enter folds them again
        await press(pilot, "enter")
        assert names(pane) == ["crunch-[0-15] x16", *(f"crunch-{n}" for n in range(16)), "MainThread"]
        assert "  crunch-0" in screen_text(app)
        await press(pilot, "enter")
        assert len(names(pane)) == 2
        # AND `u` unfolds all
        await press(pilot, "u")
        assert len(names(pane)) == 18
        # AND a filter chooses threads; what it leaves is put together anew
        await press(pilot, "u", "slash", *"crunch-1", "enter")
        assert names(pane) == [f"crunch-{n}" for n in (1, *range(10, 16))]


async def test_rows_keep_their_places_until_figures_differ_clearly() -> None:
    # GIVEN two threads that use nearly the same
    first, second = a_thread(1, "one", cpu_ns=500), a_thread(2, "two", cpu_ns=490)
    snapshot = replace(contended(), threads=(first, second))
    async with driving(FakeSource(snapshot)) as (app, pilot):
        await go(pilot, "2")
        pane = app.query_one(ThreadsPane)
        assert names(pane) == ["one", "two"]
        view = app.view

        def show(*threads: ThreadMetrics) -> list[str]:
            pane.show_view(replace(view, snapshot=replace(snapshot, threads=threads)))
            return names(pane)

        # WHEN the second is a little before the first THEN their order stays
        assert show(first, replace(second, cpu_ns=520)) == ["one", "two"]
        # AND a key puts them in their exact order
        await press(pilot, "S", "S")
        assert names(pane) == ["two", "one"]
        assert show(first, second) == ["two", "one"]
        # WHEN it is clearly behind it THEN it changes
        assert show(first, replace(second, cpu_ns=int(500 * (1 - 2 * CLEARLY)))) == ["one", "two"]


async def test_threads_that_stand_still_come_first_and_are_marked_in_time() -> None:
    # GIVEN a pool of which one thread, which uses least, has not moved for twenty seconds
    picture = replace(contended(), threads=tuple(crunchers(LEAST_MEMBERS + 1)))
    source = FakeSource(picture)
    last = LEAST_MEMBERS
    assert source.session is not None
    source.session.standing_threads = lambda: {last: 20e9}  # type: ignore[method-assign]
    async with driving(source) as (app, pilot):
        # THEN the time line marks when it stopped
        await until(pilot, lambda: "marks" in screen_text(app))
        # AND it is the first of the threads, apart from its pool
        await go(pilot, "2")
        assert names(app.query_one(ThreadsPane)) == [f"crunch-{last}", f"crunch-[0-{last - 1}] x{last}"]


def test_two_locks_of_one_name_are_told_apart() -> None:
    from ftdiag.wording.locks import metrics_words, names_of

    locks = contended().locks
    alike = [
        replace(locks[0], number=number, lock=LockRef(number, LockKind.USER, "_thread.lock", "Target"))
        for number in (1, 2)
    ]
    names_by_lock = names_of([*alike, replace(locks[1], number=3)])
    assert [names_by_lock[each.lock] for each in alike] == ["lock 1 of Target", "lock 2 of Target"]
    assert metrics_words(alike[1], names=names_by_lock) == "lock 2 of Target (_thread.lock)"
    # One that is alone with its name keeps it.
    assert names_of(alike[:1])[alike[0].lock] == "Target"
