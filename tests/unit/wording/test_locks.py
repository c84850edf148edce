"""What locks, waits, places and threads are called."""

from __future__ import annotations

from ftdiag.datatypes import replace
from ftdiag.model import (
    Confidence,
    Frame,
    HotLine,
    LockHolder,
    LockKind,
    LockMetrics,
    LockRef,
    ThreadInfo,
    ThreadState,
    Wait,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.locks import (
    KIND_NAMES,
    holder_words,
    lock_in_sentence,
    lock_name,
    lock_words,
    metrics_words,
    spun_for_words,
    sure_words,
    wait_words,
)
from ftdiag.wording.places import at_words, frame_words, place, place_and_function, place_in
from ftdiag.wording.threads import thread_name, thread_names

NAMED = LockRef(0x10, LockKind.USER, "_thread.lock", "PriceCache._lock")
OF_A_LIST = LockRef(0x20, LockKind.OBJECT, "list", None)
BARE = LockRef(0x30, LockKind.RUNTIME, None, None)


def lock(reference: LockRef, number: int) -> LockMetrics:
    return LockMetrics(number, reference, 0.0, 0.0, 0.0, 0, 0.0, (), ())


def thread(index: int, name: str) -> ThreadInfo:
    return ThreadInfo(index, 100 + index, name, True, False)


def test_a_lock_is_called_by_its_name_else_by_what_it_is_of_else_by_its_kind() -> None:
    assert [lock_name(each) for each in (NAMED, OF_A_LIST, BARE)] == [
        "PriceCache._lock",
        "list",
        "runtime lock",
    ]
    assert [lock_in_sentence(each) for each in (NAMED, OF_A_LIST, BARE)] == [
        "PriceCache._lock",
        "a list",
        "a lock",
    ]
    assert lock_words(NAMED) == "PriceCache._lock (_thread.lock)"
    assert lock_words(OF_A_LIST) == "list"
    assert set(KIND_NAMES) == set(LockKind)


def test_two_locks_of_one_name_differ_by_their_number() -> None:
    assert metrics_words(lock(NAMED, 1)) == "PriceCache._lock (_thread.lock, lock 1)"
    assert metrics_words(lock(NAMED, 2)) == "PriceCache._lock (_thread.lock, lock 2)"
    assert metrics_words(lock(OF_A_LIST, 3)) == "list (lock 3)"
    assert metrics_words(lock(BARE, 0)) == "other locks"


def test_names_go_through_what_makes_them_fit_to_be_shown() -> None:
    evil = LockRef(1, LockKind.USER, "a\x1b[2J", "<b>")

    assert "\x1b" not in metrics_words(lock(evil, 1), lambda text: text.replace("\x1b", "?"))


def test_a_wait_is_called_by_its_lock_else_by_what_it_is_about() -> None:
    assert wait_words(Wait("futex", None, NAMED)) == "PriceCache._lock"
    assert wait_words(Wait("futex", "queue.Queue.get", BARE)) == "queue.Queue.get"
    assert wait_words(Wait("futex", None, BARE)) == "runtime lock"
    assert wait_words(Wait("recvfrom", "socket 127.0.0.1:5432")) == "socket 127.0.0.1:5432"
    assert wait_words(Wait("pause")) == "pause"
    assert wait_words(Wait(None)) == ""


def test_holders_that_nobody_knows_are_told_from_locks_that_nobody_has() -> None:
    known = LockHolder(thread(1, "w-1"), Confidence.KNOWN, 1.0, ())
    unknown = LockHolder(None, Confidence.UNKNOWN, 1.0, ())
    free = LockHolder(None, Confidence.KNOWN, 1.0, ())

    assert [holder_words(each) for each in (known, unknown, free)] == [
        "w-1",
        "not known",
        "nobody, it was free",
    ]
    assert [sure_words(each) for each in Confidence] == [" (possible)", " (likely)", ""]


def test_places_are_short_in_rows_and_read_well_in_sentences() -> None:
    frame = Frame("/usr/lib/python3.14t/queue.py", "Queue.get", 88)

    assert place(frame) == "queue.py:88"
    assert place_and_function(frame) == "queue.py:88 in Queue.get"
    assert frame_words(frame) == "queue.py:88 in Queue.get"
    assert frame_words(Frame("/srv/app/a.py", "f", None)) == "/srv/app/a.py in f"
    assert at_words((frame,)) == " at queue.py:88 in Queue.get"
    assert at_words(()) == ""
    assert place_in(frame) == "Queue.get (queue.py:88)"
    assert place_in(None) == place(None) == "an unknown place"


def test_threads_are_named_one_by_one_or_from_first_to_last() -> None:
    pool = [thread(number, f"w-{number}") for number in (9, 10, 11)]

    assert thread_name(thread(3, "")) == "tid 103"
    assert thread_name(None) == "not known"
    assert thread_names(pool[:2]) == "w-9 and w-10"
    assert thread_names(pool) == "w-9 to w-11 (3 threads)"
    assert thread_names(pool[:1], at_least=8) == "8 threads"
    assert report_again(7).startswith("ftdiag attach 7 ")


def test_what_is_spun_for_is_said_of_lines_that_spin_and_not_of_their_neighbours() -> None:
    # GIVEN a line that takes the lock of a queue, and one that runs after it, with a few of its samples
    def line(spin_ns: float) -> HotLine:
        states = {ThreadState.SPIN: spin_ns, ThreadState.WORK: 50.0, ThreadState.RUNNABLE: 40.0}
        frame = Frame("/srv/app.py", "compute", 9)
        return HotLine(frame, sum(states.values()), states, 4, spun_for=("_queue.SimpleQueue",))

    # WHEN put in words THEN only the first spins for it; time off a core does not count
    assert spun_for_words(line(60.0)) == ["the lock of one _queue.SimpleQueue"]
    assert spun_for_words(line(10.0)) == []
    waits = replace(line(60.0), states_ns={**line(60.0).states_ns, ThreadState.IDLE: 1e6})
    assert spun_for_words(waits) == ["the lock of one _queue.SimpleQueue"]
