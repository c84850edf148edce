"""Which thread state belongs to which thread: by native id, after a fork in C by the C library."""

from __future__ import annotations

import platform
import threading

from fake_process import FakeMemory, layout_of
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.plainwalk import PlainThread
from ftdiag.sources.python.threadmatch import TID_OFFSETS, match_threads
from ftdiag.sources.python.walking import PythonThread

LAYOUT = layout_of("3.14.9t")
PARENT, CHILD = 700, 900


def a_state(
    memory: FakeMemory, number: int, native_id: int, *, runs: bool = True, tid: int = 0
) -> PythonThread:
    """A thread state; `tid` is what the C library's descriptor says."""
    address, ident = 0x10_0000 * number, 0x7F00_0000_0000 + 0x10_0000 * number
    memory.write_word(address + LAYOUT.thread_current_frame, 0x5000 if runs else 0)
    memory.write(ident, bytes(1024))
    memory.write(ident + TID_OFFSETS["x86_64"][0], tid.to_bytes(4, "little"))
    return PlainThread(address, native_id, ident, 0)


def test_states_belong_to_the_thread_whose_id_they_have() -> None:
    memory = FakeMemory()
    one, two, again = a_state(memory, 1, 11), a_state(memory, 2, 12), a_state(memory, 3, 11)
    # WHEN matched with what we call 101 and 102, and a helper thread
    matched = match_threads([one, two, again], {101: 11, 102: 12, 103: 13}, 101, memory, LAYOUT, "x86_64")
    # THEN a thread has all its states, and no memory was read
    assert matched.by_thread == {101: [one, again], 102: [two]}
    assert matched.left == ()
    assert memory.calls == 0


def test_after_a_fork_in_c_the_descriptor_tells_who_forked() -> None:
    # GIVEN the child of a worker's fork(): all states have ids of the parent, one descriptor has the child's
    memory = FakeMemory()
    main, worker, spare = (
        a_state(memory, 1, PARENT, tid=PARENT),
        a_state(memory, 2, PARENT + 1, tid=CHILD),
        a_state(memory, 3, PARENT + 2, runs=False),
    )
    # WHEN matched, THEN the worker's state is the child's only thread; the other one that runs is left over
    matched = match_threads([main, worker, spare], {CHILD: CHILD}, CHILD, memory, LAYOUT, "x86_64")
    assert matched.by_thread == {CHILD: [worker]}
    assert matched.left == (main,)


def test_without_a_known_descriptor_a_single_state_is_the_single_thread() -> None:
    memory = FakeMemory()
    only, spare = a_state(memory, 1, PARENT), a_state(memory, 2, PARENT + 1, runs=False)
    matched = match_threads([only, spare], {CHILD: CHILD}, CHILD, memory, LAYOUT, "riscv64")
    assert matched.by_thread == {CHILD: [only]}


def test_of_several_states_none_is_guessed() -> None:
    memory = FakeMemory()
    states = [a_state(memory, number, PARENT + number) for number in (1, 2)]
    matched = match_threads(states, {CHILD: CHILD}, CHILD, memory, LAYOUT, "riscv64")
    assert matched.by_thread == {}
    assert matched.left == tuple(states)


def test_what_an_ended_main_thread_left_is_no_other_threads() -> None:
    # GIVEN a main thread that has ended without a word, a worker, and a helper that Python does not know
    memory = FakeMemory()
    main, worker = a_state(memory, 1, PARENT), a_state(memory, 2, 12)
    matched = match_threads([main, worker], {12: 12, 13: 13}, PARENT, memory, LAYOUT, "x86_64")
    assert matched.by_thread == {12: [worker]}
    assert matched.left == (main,)


def test_the_descriptor_of_this_machine_has_the_id_where_it_is_said_to_be() -> None:
    # GIVEN a thread of ours
    ready, over = threading.Event(), threading.Event()
    known: list[tuple[int, int]] = []

    def run() -> None:
        known.append((threading.get_ident(), threading.get_native_id()))
        ready.set()
        over.wait()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    # WHEN its descriptor is read, THEN one of the places has its id
    (ident, native_id) = known[0]
    memory = RemoteMemory(threading.get_native_id())
    places = [(ident + offset, 4) for offset in TID_OFFSETS[platform.machine()]]
    words = memory.read_many(places)
    over.set()
    thread.join()
    assert native_id in [int.from_bytes(word or b"", "little") for word in words]
