"""Who asked for a pause: found by its note wherever that lies, and by nothing that only looks like one."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from fake_process import FakeProcess, Sink
from ftdiag.model import STOP_TURN
from ftdiag.sources.locks.stoptheworld import MAX_SEARCHES, StopTheWorldReader
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.plainwalk import PlainThread

BUILDS = ["3.13.5t", "3.14.9t"]


class Paused:
    """A process with three threads, and a place for the note in the interpreter's or the runtime's state."""

    def __init__(self, build: str, *, in_runtime: bool = False) -> None:
        self.fake = fake = FakeProcess(build)
        layout = fake.layout
        runtime, interpreter = fake.allocate(layout.runtime_size), fake.allocate(layout.interpreter_size)
        fake.memory.write_word(runtime + layout.runtime_interpreters_head, interpreter)
        self.threads = [PlainThread(fake.thread(), number, number, 0) for number in range(1, 4)]
        # Thread states are also pointed to from elsewhere.
        fake.memory.write_word(interpreter + layout.interpreter_threads_head, self.threads[0].address)
        self.place = runtime + 0x800 if in_runtime else interpreter + 0x5008
        self.in_runtime = in_runtime
        self.reader = StopTheWorldReader(
            InterpreterReader(fake.memory, replace(fake.runtime, address=runtime), Sink())
        )

    def note(
        self, requester: int, *, mutex: int = 1, requested: int = 1, stopped: int = 1, countdown: int = 0
    ) -> None:
        self.fake.memory.write(
            self.place,
            struct.pack("<BBBBB3xqQ", mutex, requested, stopped, self.in_runtime, 1, countdown, requester),
        )


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("in_runtime", [False, True])
def test_the_requester_is_found_and_followed(build: str, in_runtime: bool) -> None:
    # GIVEN a pause that a thread asked for
    paused = Paused(build, in_runtime=in_runtime)
    first, second, _ = paused.threads
    paused.note(first.address)

    # WHEN asked, THEN it is that thread; another one later; nobody when it is over
    assert paused.reader.requester(paused.threads) is first
    paused.note(second.address, stopped=0, countdown=2)
    assert paused.reader.requester(paused.threads) is second
    paused.note(0, mutex=0, requested=0, stopped=0)
    assert paused.reader.requester(paused.threads) is None


@pytest.mark.parametrize("build", [*BUILDS, "3.15.1t"])
def test_the_known_place_needs_no_search(build: str) -> None:
    # GIVEN a pause whose note lies where this version has it, after all searches were used up
    paused = Paused(build)
    layout = paused.fake.layout
    known = next(at for at, _, label in layout.interpreter_locks if label == STOP_TURN)
    paused.place += known - 0x5008
    paused.reader._searches = MAX_SEARCHES
    paused.note(paused.threads[1].address)

    # WHEN asked, THEN the thread that asked for it is known
    assert paused.reader.requester(paused.threads) is paused.threads[1]


@pytest.mark.parametrize(
    "wrong", [{"mutex": 0}, {"mutex": 255}, {"requested": 0}, {"requested": 7}, {"stopped": 9},
              {"countdown": -1}, {"countdown": 1000}],
)  # fmt: skip
def test_what_only_looks_like_a_note_is_not_one(wrong: dict[str, int]) -> None:
    # GIVEN a word that points to a thread, behind something that cannot be such a note
    paused = Paused("3.14.9t")
    paused.note(paused.threads[0].address, **wrong)
    # WHEN asked, THEN nobody is named
    assert paused.reader.requester(paused.threads) is None


def test_a_stranger_is_not_named() -> None:
    # GIVEN a note that names something that is no thread, WHEN asked, THEN nobody is
    paused = Paused("3.13.5t")
    paused.note(0x1234_5678)
    assert paused.reader.requester(paused.threads) is None


def test_the_search_is_given_up() -> None:
    # GIVEN a process without a note
    paused = Paused("3.14.9t")
    for _ in range(MAX_SEARCHES):
        paused.reader.requester(paused.threads)
    paused.fake.memory.transferred = 0

    # WHEN asked once more, THEN only the known places are read
    assert paused.reader.requester(paused.threads) is None
    assert paused.fake.memory.transferred <= 2 * 24


def test_memory_that_cannot_be_read_names_nobody() -> None:
    # GIVEN a runtime whose pages are gone
    fake = FakeProcess("3.14.9t")
    runtime = replace(fake.runtime, address=0x1000_0000)
    reader = StopTheWorldReader(InterpreterReader(fake.memory, runtime, Sink()))
    # WHEN asked, THEN nobody is named
    assert reader.requester([PlainThread(fake.thread(), 1, 1, 0)]) is None


@pytest.mark.parametrize("build", BUILDS)
def test_what_was_read_with_the_stacks_counts(build: str) -> None:
    # GIVEN a pause that is over by now, whose state was read while it was on
    paused = Paused(build, in_runtime=False)
    first = paused.threads[0]
    paused.note(first.address)
    assert paused.reader.requester(paused.threads) is first
    read = {place: paused.fake.memory.read(place, size) for place, size in paused.reader.places.items()}
    assert paused.place in read
    paused.note(0, mutex=0, requested=0, stopped=0)

    # WHEN it is asked as of then THEN it is who asked for it; as of now it is nobody
    assert paused.reader.requester(paused.threads, lambda address, size: read.get(address)) is first
    assert paused.reader.requester(paused.threads) is None
