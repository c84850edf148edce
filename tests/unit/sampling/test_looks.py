"""A look at threads concludes the same of them where it is compiled and where it is not.

In: a made-up process whose threads run, park, take locks, come to be torn and go, as chance has it; lines of
`syscall` files. Out: both observers at work on it, compared after each tick.
"""

from __future__ import annotations

import os
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fake_process import PAGE, FakeProcess
from ftdiag.errors import TargetGone
from ftdiag.model import FIRST_STACK_ID, STOP_TURN, TORN_STACK, Frame, ThreadInfo, ThreadState, Wait
from ftdiag.sampling.asking import Asked, Asking
from ftdiag.sampling.holders import Holders
from ftdiag.sampling.knownwaits import KnownWaits
from ftdiag.sampling.observers.interpreter import InterpreterObserver
from ftdiag.sampling.seen import Observation
from ftdiag.sampling.steady import Steady
from ftdiag.sampling.stopped import Stopped
from ftdiag.sampling.threads import NEVER_NS, SampledThread, Tick, let_wait, waits_ns
from ftdiag.sampling.updates import MAX_READS, UpdateWatch
from ftdiag.sources import _tick
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.memory import ReadAlong
from ftdiag.sources.kernel.procfs import ThreadFiles
from ftdiag.sources.kernel.threadlines import RUNNING_LINE, PythonThreadLines
from ftdiag.sources.locks.stoptheworld import StopTheWorldReader
from ftdiag.sources.locks.waits import WaitReader
from ftdiag.sources.python.interpreter import InterpreterReader

METATYPE_FLAG = 1 << 31
LIBRARY = "/usr/lib/python3.14/threading.py"
LONG_NS = 100_000_000
"""For a stretch that has several ticks also beside others who want all cores."""
WITH_UNITS = range(10, 30)
"""Code units of each function that lie in a `with` block."""


class Tables:
    """Ids of frames, stacks and waits; the same for both observers."""

    def __init__(self) -> None:
        self.frames: dict[Frame, int] = {}
        self.stacks: dict[tuple[int, ...], int] = {}
        self.waits: dict[Wait, int] = {}

    def intern_frame(self, frame: Frame) -> int:
        return self.frames.setdefault(frame, len(self.frames) + 1)

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        return self.stacks.setdefault(tuple(frame_ids), FIRST_STACK_ID + len(self.stacks))

    def intern_wait(self, wait: Wait) -> int:
        return self.waits.setdefault(wait, len(self.waits) + 1)


class Learning:
    """Tells a wait reader of the stacks that it is asked for, as the recording's table does."""

    def __init__(self, tables: Tables, waits: WaitReader) -> None:
        self.tables = tables
        self.waits = waits
        self.by_id: dict[int, Frame] = {}

    def intern_frame(self, frame: Frame) -> int:
        number = self.tables.intern_frame(frame)
        self.by_id[number] = frame
        return number

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        stack = self.tables.intern_stack(frame_ids)
        self.waits.learn_stack(stack, [self.by_id[number] for number in reversed(frame_ids)])
        return stack


class Files(ThreadFiles):
    """The `syscall` file of a made-up thread."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self.ran = path.with_suffix(".ran")
        self.ran.write_bytes(b"0")
        self.schedstat_fd = os.open(self.ran, os.O_RDONLY)
        self.syscall_fd = os.open(path, os.O_RDONLY)

    def syscall(self) -> bytes:
        return os.pread(self.syscall_fd, 256, 0)


class Hooked(Files):
    """The same, of which is told when it is asked."""

    def __init__(self, files: ThreadFiles, asked: Callable[[Files], bytes]) -> None:
        self.syscall_fd = files.syscall_fd
        self._asked = asked

    def syscall(self) -> bytes:
        return self._asked(self)


class NoCollector:
    """Nothing is collected."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}

    def want(self, along: ReadAlong) -> None: ...

    def saw(self, along: ReadAlong) -> None: ...


class Lines:
    """The lines of threads, as `Threads` reads them."""

    def __init__(self, directory: int) -> None:
        self.alive: dict[int, SampledThread] = {}
        self.unsettled: dict[SampledThread, None] = {}
        self.seen_ns = 0
        self._lines = _tick.Lines()
        self._directory = directory
        self.steady: Any = None
        self.waits_ns = NEVER_NS
        self.ended: list[SampledThread] = []

    def follow(self, thread: SampledThread, descriptor: int) -> None:
        """It is to be found out whether the thread ran."""
        self._lines.follow(thread.info.tid, descriptor, thread)
        self.let_wait(self.waits_ns)

    def let_wait(self, after_ns: int) -> None:
        """From now on threads that did not run for so long are not looked at."""
        self.waits_ns = after_ns
        links = os.fstat(self._directory).st_nlink
        self.steady = self._lines, self.unsettled, self._directory, links, after_ns

    def who_ran(self) -> None:
        """Note who did."""
        for tid, _ in self._lines.ran():
            self.unsettled[self.alive[tid]] = None

    def end(self, thread: SampledThread, tick: Tick | None) -> None:
        """It was found to be gone."""
        self.alive.pop(thread.info.tid, None)
        self._lines.forget(thread.info.tid)
        thread.settled = True
        self.ended.append(thread)

    def syscall_lines(self, threads: Sequence[SampledThread]) -> list[bytes | None]:
        lines = PythonThreadLines().syscalls([thread.files.syscall_fd for thread in threads])
        return [None if line is None or line.startswith(b"-1 0x0 0x0") else line for line in lines]


class Side:
    """One of the observers."""

    def __init__(self, world: World, *, compiled: bool) -> None:
        process = world.process
        memory, runtime = process.memory, process.runtime
        self.seen: Counter[str] = Counter()
        observer = self.observer = InterpreterObserver.__new__(InterpreterObserver)
        waits = WaitReader(0, memory)
        interpreter = InterpreterReader(memory, runtime, Learning(world.tables, waits), compiled=compiled)
        lines = self.lines = Lines(world.directory)
        self.threads = lines.alive
        self.ended = lines.ended
        for number, address in enumerate(world.states):
            info = ThreadInfo(number, 1000 + number, f"worker {number}", True)
            thread = SampledThread(info, world.files[number], 0, lines.unsettled)
            thread.python = [interpreter._walker.thread(address, 1000 + number, 70 + number, 0)]
            thread.python[0].beside = ()
            self.threads[info.tid] = thread
            lines.follow(thread, world.files[number].schedstat_fd)
        parts: dict[str, Any] = {
            "_process": SimpleNamespace(pid=os.getpid()),
            "_memory": memory,
            "_runtime": runtime,
            "_waits": waits,
            "_gaps": Counter(),
            "_match_wanted": False,
            "_generation": 0,
            "_moved": {},
            "_sink": world.tables,
            "_threads": lines,
            "_interpreter": interpreter,
            "_collector": NoCollector(),
            "_on_core": None,
            "_sharing": SimpleNamespace(
                lines=SimpleNamespace(due_ns=None, search=lambda now_ns: None, due=lambda now_ns: False)
            ),
            "_locks": waits.use(interpreter),
        }
        for name, value in parts.items():
            setattr(observer, name, value)
        waits._callers = None
        observer._locks.refresh()
        observer._holders = Holders(observer._locks, waits, interpreter, self.threads, observer._look_again)
        tables: Any = world.tables
        observer._known_waits = KnownWaits(observer._locks, waits, tables)
        observer._stopped = Stopped(StopTheWorldReader(interpreter), observer._locks, self.threads)
        observer._asking = Asking(observer._locks, waits, observer._holders)
        observer._replay = observer._new_replay()
        observer.prepare()
        conclude = observer._see

        def counted(*arguments: Any) -> None:
            self.seen["concluded in Python"] += 1
            conclude(*arguments)

        setattr(observer, "_see", counted)  # noqa: B010
        self.updates = observer._updates = UpdateWatch(interpreter, observer._locks)

    def tick(self, number: int, ran: set[int], *, refresh: bool) -> list[Any]:
        """Look at those that ran and at those not known to be off their core; what is known then."""
        observer = self.observer
        if refresh:
            self.refresh()
        for tid in sorted(ran & self.threads.keys()):
            self.threads[tid].settled = False
        let_wait(self.lines.unsettled, time.monotonic_ns(), self.lines.waits_ns)
        changed = list(self.lines.unsettled)
        self.seen["threads"] += len(changed)
        if changed:
            for thread in observer._look(changed, number):
                self.lines.end(thread, None)
                observer._forget(thread)
            observer._holders.tell(number)
            self.updates.look(changed)
        observer._stopped.tell(number)
        observer._stopped.pass_over(1)
        return self.known()

    def refresh(self) -> None:
        """A second is over."""
        self.observer._locks.refresh(self.observer._holders.waited_for)
        self.observer._generation += 1
        self.observer._replay.forget_words()

    def known(self) -> list[Any]:
        """What it knows of its threads, and how many stacks it walked."""
        interpreter = self.observer._interpreter
        self.observer.hold_moved()
        walked = interpreter.walked, interpreter.torn, self.observer._holders._ticks
        inside = {thread.info.tid: sights for thread, sights in self.updates._inside.items()}
        return [walked, inside, *(known(self.observer, thread) for thread in self.threads.values())]

    def go_steadily(self, first: int, length_ns: int = 3_500_000) -> Steady:
        """Ticks a millisecond apart, for as long as it goes without anybody."""
        now = time.monotonic_ns()
        self.observer._match_wanted = False
        steady = Steady(first, now, 1_000_000, now + length_ns, 250_000, now, (), quiet=False)
        self.observer.go_steadily(steady)
        return steady


def known(observer: InterpreterObserver, thread: SampledThread) -> tuple[Any, ...]:
    """All that a later tick may go by."""
    return (
        thread.info.tid,
        thread.observation,
        thread.run_start,
        list(thread.runs),
        thread.settled,
        thread.held,
        thread.lock,
        thread.sections,
        thread.entry,
        thread.innermost is not None and thread.innermost.address,
        len(thread.python),
        observer._holders.is_calm(thread),
        observer._holders.is_inside(thread),
    )


class World:
    """A process of some threads, and what chance does to it."""

    def __init__(self, folder: Path, chance: random.Random, threads: int = 5) -> None:
        self.chance = chance
        self.tables = Tables()
        process = self.process = FakeProcess("3.14.9t")
        self.layout = process.layout
        self.memory = process.memory
        process._next += self.layout.runtime_size
        process.interpreter()
        process._next += self.layout.interpreter_size
        self.locks = [self.object("_thread.lock") for _ in range(3)]
        self.lists = [self.object("list") for _ in range(2)]
        self.condition = self.object("Condition")
        self.session = self.memory.read_word(self.object("Session") + self.layout.object_type)
        """The type of a context manager that is no lock."""
        self.running = 0.65
        """How probably a thread runs rather than waits."""
        self.parked: dict[int, int] = {}
        """The wait entries of threads that wait for a lock."""
        self.inside: dict[int, int] = {}
        """In the `with` block of what each thread is."""
        functions = [("work", "/app/work.py"), ("Condition.wait", LIBRARY), ("read", "/app/work.py")]
        self.codes = [self.code(name, file) for name, file in functions]
        self.directory = os.open(folder, os.O_RDONLY)
        self.files = [Files(folder / f"syscall{number}") for number in range(threads)]
        self.chunks = [process.chunk() for _ in range(threads)]
        self.states = [
            process.thread(0, chunk, native_id=1000 + number) for number, chunk in enumerate(self.chunks)
        ]
        process._next = process._next + PAGE - 1 & -PAGE
        self.stacks = [process.allocate(PAGE) for _ in range(threads)]
        for number in range(threads):
            self.move(number)
            self.says(number, RUNNING_LINE)

    def object(self, type_name: str) -> int:
        """An object whose type is a real type."""
        address = self.process.allocate(128)
        type_address = self.process.type(type_name)
        metatype = self.process.type("type", METATYPE_FLAG)
        self.memory.write_word(type_address + self.layout.object_type, metatype)
        self.memory.write_word(type_address + self.layout.type_basic_size, 64)
        self.memory.write_word(address + self.layout.object_type, type_address)
        return address

    def code(self, name: str, file: str) -> int:
        """A function with one local variable, `self`, a `with` block in the middle, and two places on its
        stack."""
        address, layout = self.process.code(name, file), self.layout
        names = self.process.allocate(64)
        self.memory.write_word(names + layout.tuple_count, 1)
        self.memory.write_word(names + layout.tuple_items, self.process.string("self"))
        self.memory.write_word(address + layout.code_local_names, names)
        self.memory.write(address + layout.code_local_count, struct.pack("<i", 1))
        self.memory.write(address + layout.code_stack_size, struct.pack("<i", 2))
        entry = bytes([0x80 | WITH_UNITS.start, len(WITH_UNITS), 40, 1 << 1])
        self.memory.write_word(address + layout.code_exception_table, self.process.bytes(entry))
        first, second = layout.with_handler
        self.memory.write(address + layout.code_bytecode + 80, bytes([first, 0, second, 0]))
        return address

    def says(self, number: int, line: bytes) -> None:
        """The kernel's line of a thread from now on."""
        self.files[number].path.write_bytes(line)

    def move(self, number: int) -> None:
        """A thread goes to another place, inside or outside of `with` blocks."""
        chance, layout = self.chance, self.layout
        place, previous = self.chunks[number] + 64, 0
        for _ in range(chance.randrange(0, 4)):
            code = chance.choice(self.codes)
            unit = chance.choice((2, 12, 12, 20, 45))
            frame = self.process.frame(place, code, previous=previous, unit=unit)
            self.memory.write_word(frame + layout.frame_localsplus, chance.choice((self.condition, 0, 3)))
            held = chance.choice((*self.locks, self.lists[0], self.condition, 0, 0xDEAD_0000))
            self.memory.write_word(frame + layout.frame_localsplus + 8, held | chance.choice((0, 1)))
            previous = frame
            place += layout.frame_size + 64
        self.memory.write_word(self.states[number] + layout.thread_current_frame, previous)

    def stand(self, number: int, held: int) -> None:
        """A thread is in one function, in a `with` block."""
        frame = self.process.frame(self.chunks[number] + 64, self.codes[0], unit=12)
        self.memory.write_word(frame + self.layout.frame_localsplus + 8, held)
        self.memory.write_word(self.states[number] + self.layout.thread_current_frame, frame)

    def entry(self, number: int) -> int:
        """A thread's wait entry, as one that parked, was woken, or left it long ago."""
        chance = self.chance
        entry = self.stacks[number] + chance.choice((256, 512))
        key = chance.choice(
            (*(lock + self.layout.object_size for lock in self.locks), 10 + self.lists[0], 16)
        )
        links = chance.choice(((entry + 9000, entry + 9100), (0, 0), (0, 0), (5, 0)))
        mutex_entry = entry + chance.choice((80, 120, 1 << 30))
        unparking = chance.choice((0, 0, 0, 7))
        self.memory.write(entry, struct.pack("<QQ32xQQB", mutex_entry, key, *links, unparking))
        self.memory.write(entry + 128, struct.pack("<I", chance.choice((0, 1))))
        self.memory.write(entry + 88, struct.pack("<I", chance.choice((0, 1))))
        return entry

    def park(self, number: int, lock: int | None = None) -> None:
        """It waits for a lock, the first one if not told otherwise."""
        entry = self.stacks[number] + 256
        key = (self.locks[0] if lock is None else lock) + self.layout.object_size
        self.memory.write(entry, struct.pack("<QQ32xQQB", entry + 80, key, entry + 9000, entry + 9100, 0))
        self.says(
            number, f"202 {entry + 16:#x} 0x0 0x0 0x0 0x0 0x0 {entry - 192:#x} 0x7f0000001234\n".encode()
        )
        self.parked[number] = entry

    def pause(self, requester: int) -> None:
        """The world is stopped by the thread with this state, or goes on."""
        at = next(at for at, _, label in self.layout.interpreter_locks if label == STOP_TURN)
        on = int(requester != 0)
        interpreter = self.memory.read_word(
            self.process.runtime.address + self.layout.runtime_interpreters_head
        )
        self.memory.write(interpreter + at, struct.pack("<BBBBB3xqQ", on, on, on, 0, 0, 0, requester))

    def wake(self, number: int, entry: int) -> None:
        """Its entry says that it was given the lock, that it was not, or that it waits."""
        links = self.chance.choice(((0, 0), (0, 0), (entry + 9000, entry + 9100)))
        self.memory.write(entry + 48, struct.pack("<QQ", *links))
        self.memory.write(entry + 88, struct.pack("<I", self.chance.choice((0, 1))))

    def change(self) -> None:
        """Some objects are freed, and others made in their place."""
        for address in self.locks[1:]:
            type_address = self.process.type(self.chance.choice(("_thread.lock", "list")))
            self.memory.write_word(address + self.layout.object_type, type_address)

    def sections(self, number: int) -> None:
        """It enters or leaves a critical section, or has suspended it."""
        section = self.stacks[number] + 1024
        self.memory.write(section, struct.pack("<QQQ", 0, 10 + self.chance.choice(self.lists), 0))
        tagged = self.chance.choice((0, 0, 0, section, section | 1))
        self.memory.write_word(self.states[number] + self.layout.thread_critical_section, tagged)

    def contend(self, chosen: Sequence[int], busy: int) -> set[int]:
        """Threads wait for locks again and again, at few places, and locks are handed on; one never waits."""
        chance, ran = self.chance, {1000 + number for number in chosen}
        mutex = self.layout.object_size
        for number in chosen:
            self.says(number, RUNNING_LINE)
            if number == busy:
                continue
            if number in self.parked:
                entry = self.parked.pop(number)
                if chance.random() < 0.2:
                    self.park(number)  # anew, where it stood
                    continue
                self.memory.write(entry + 48, bytes(16))
                self.memory.write(entry + 88, struct.pack("<I", chance.choice((0, 0, 1))))
                if chance.random() < 0.4:
                    continue  # it has not left its wait
            deed = chance.random()
            inside = chance.choice((0, 0, *self.locks[:2], self.fresh(), self.condition))
            self.stand(number, inside)
            self.inside[number] = inside
            if deed < 0.4:
                # Nobody waits for what it holds.
                self.park(number, self.locks[chance.choice((0, 0, 1)) if inside not in self.locks else 0])
                if inside == self.locks[0]:
                    self.stand(number, 0)
                    self.inside[number] = 0
            elif deed < 0.5:
                # It waits for a condition, on a lock that was made for that.
                frame = self.process.frame(self.chunks[number] + 64, self.codes[1], unit=2)
                self.memory.write_word(self.states[number] + self.layout.thread_current_frame, frame)
                self.inside[number] = 0
                self.park(number, self.locks[2])
            elif deed < 0.55:
                self.says(number, self.line(number))
            elif deed < 0.6:
                self.sections(number)
            elif deed < 0.68:
                # It is stopped, by the one that never waits, or by nobody any more.
                self.park(number, self.states[number] + self.layout.thread_state - self.layout.object_size)
                self.pause(chance.choice((self.states[busy], 0)))
        for lock in self.locks[:2]:
            self.memory.write(lock + mutex, bytes([chance.choice((1, 1, 1, 3, 0))]))
        # Who is in the `with` block of a lock has not handed it on.
        held = {lock + mutex for lock in self.inside.values() if lock}
        longest: dict[int, int] = {}
        for number, entry in self.parked.items():
            key = self.memory.read_word(entry + 8)
            if key not in held:
                longest.setdefault(key, number)
        waiting = [number for number in longest.values() if number not in chosen]
        if waiting and chance.random() < 0.3:
            # It was handed the lock, or woken, by somebody else, and has no core yet.
            entry = self.parked[chance.choice(waiting)]
            self.memory.write(entry + 48, bytes(16))
            self.memory.write(entry + 88, struct.pack("<I", chance.choice((0, 1, 1, 1))))
        return ran

    def fresh(self) -> int:
        """A context manager that was made just now, and is no lock."""
        address = self.lists[1] + 0x100_0000 + 128 * self.chance.randrange(8)
        for offset in range(0, 32, 8):
            self.memory.write_word(address + offset, 0)
        self.memory.write_word(address + self.layout.object_type, self.session)
        return address

    def line(self, number: int) -> bytes:
        """What the kernel may say."""
        chance = self.chance
        entry = self.entry(number)
        stack, rest = entry - 192, " 0x0 0x0 0x0 0x0 0x0"
        lines = (
            f"202 {entry + 16:#x}{rest} {stack:#x} 0x7f0000001234\n",
            f"202 {entry + 16:#x}{rest} {stack:#x} 0x7f0000001234\n",
            f"270 0x0{rest} {stack:#x} 0x7f0000001234\n",
            f"230 0x0{rest} {stack:#x} 0x7f0000001234\n",
            "",
            "nonsense\n",
            f"999 0x1{rest} {stack:#x} 0x1\n",
            f"202 {self.locks[0]:#x}{rest} {stack:#x} 0x7f0000001234\n",
        )
        return chance.choice(lines).encode()

    def step(self) -> set[int]:
        """Some of the threads run, and do something; the ids of these."""
        return self.do(self.choose())

    def choose(self, busy: int | None = None) -> list[int]:
        """Some of the threads run; which, beside one that always does."""
        chosen = [n for n in range(len(self.states)) if n == busy or self.chance.random() >= 0.3]
        for number in chosen:
            self.files[number].ran.write_bytes(b"%d" % self.chance.randrange(1 << 60))
        return chosen

    def do(self, chosen: Sequence[int]) -> set[int]:
        """They do something; the ids of these."""
        chance, ran = self.chance, set()
        for number in chosen:
            state = self.states[number]
            ran.add(1000 + number)
            if number in self.parked:
                # It was woken, or parks anew, where it stood.
                self.wake(number, self.parked.pop(number))
                self.says(number, RUNNING_LINE)
                continue
            if chance.random() < 0.7:
                self.move(number)
            elif chance.random() < 1.2 * (1 - self.running):
                self.park(number)
                continue
            if chance.random() < 0.15:
                self.sections(number)
            if chance.random() < 0.2:
                self.entry(number)
            self.says(number, RUNNING_LINE if chance.random() < self.running else self.line(number))
            if chance.random() < 0.02:
                self.memory.write_word(state + self.layout.thread_native_id, 5)
            if chance.random() < 0.01:
                self.says(number, b"-1 0x0 0x0\n")
        if chance.random() < 0.03:
            self.memory.pages.pop(self.stacks[chance.randrange(len(self.stacks))] & -PAGE, None)
        return ran


@contextmanager
def world(folder: Path, seed: int, threads: int = 5) -> Iterator[World]:
    """A world, whose files are closed in the end."""
    one = World(folder, random.Random(seed), threads)
    try:
        yield one
    finally:
        for files in one.files:
            os.close(files.syscall_fd)
            os.close(files.schedstat_fd)
        os.close(one.directory)


@pytest.mark.parametrize("after_ns", [NEVER_NS, 0])
@pytest.mark.parametrize("seed", range(6))
def test_both_conclude_the_same(tmp_path: Path, seed: int, after_ns: int) -> None:
    with world(tmp_path, seed) as one:
        # GIVEN both observers on one process; who wants to run is looked at all the time, or not
        plain, compiled = Side(one, compiled=False), Side(one, compiled=True)
        for side in (plain, compiled):
            side.lines.let_wait(after_ns)
        for number in range(60):
            # WHEN threads do as chance has it THEN both know the same at each tick
            ran = one.step()
            refresh = number % 20 == 19
            if refresh:
                one.change()
            expected = plain.tick(number, ran, refresh=refresh)
            assert compiled.tick(number, ran, refresh=refresh) == expected
        assert len(compiled.ended) == len(plain.ended)


def test_of_threads_that_run_most_is_concluded_in_c(tmp_path: Path) -> None:
    with world(tmp_path, 1) as one:
        compiled = Side(one, compiled=True)
        # GIVEN threads that run here and there, outside and inside of `with` blocks
        for number in range(50):
            for thread in range(len(one.states)):
                one.move(thread)
            compiled.tick(number, set(), refresh=False)
        # THEN all were looked at, and only of the first look the conclusions were left to Python
        assert compiled.seen["threads"] == 250
        assert compiled.seen["concluded in Python"] == 5
        stacks = {run[2][1] for thread in compiled.threads.values() for run in thread.runs}
        assert len(stacks) > 20
        assert TORN_STACK not in stacks


def test_an_observation_has_the_values_it_is_prepared_with(tmp_path: Path) -> None:
    with world(tmp_path, 2, threads=1) as one:
        side = Side(one, compiled=True)
        expected: Observation | None = None
        for number in range(3):
            one.move(0)
            side.tick(number, {1000}, refresh=False)
            plain = Side(one, compiled=False)
            plain.tick(number, {1000}, refresh=False)
            expected = plain.threads[1000].observation
            assert side.threads[1000].observation == expected


@pytest.mark.parametrize("compiled", [True, False])
def test_another_object_in_place_of_a_lock_is_not_held(tmp_path: Path, compiled: bool) -> None:
    with world(tmp_path, 3, threads=1) as one:
        side = Side(one, compiled=compiled)
        # GIVEN a thread in the `with` block of a lock
        lock = one.locks[1]
        one.stand(0, lock)
        for number in range(2):
            side.tick(number, {1000}, refresh=False)
        held = side.threads[1000].held
        assert held == (lock + one.layout.object_size,)
        # WHEN a list is made in place of the lock THEN within a second it holds nothing
        one.memory.write_word(lock + one.layout.object_type, one.process.type("list"))
        side.tick(2, {1000}, refresh=True)
        assert not side.threads[1000].held


@pytest.mark.parametrize("compiled", [True, False])
def test_who_was_handed_a_lock_is_its_holder_while_it_leaves_its_wait(tmp_path: Path, compiled: bool) -> None:
    with world(tmp_path, 4, threads=2) as one:
        side = Side(one, compiled=compiled)
        first, second = side.threads.values()
        # GIVEN two threads that run, and then wait for one lock that is locked
        one.memory.write(one.locks[0] + one.layout.object_size, b"\x01")
        for number in range(2):
            one.stand(number, 0)
        side.tick(0, {1000, 1001}, refresh=False)
        for number in range(2):
            one.park(number)
        side.tick(1, {1000, 1001}, refresh=False)
        assert second.observation is not None
        assert second.observation[3] == 0
        # WHEN the first is handed it, runs, and stands where it stood
        entry = one.parked[0]
        one.memory.write(entry + 48, bytes(16))
        one.memory.write(entry + 88, struct.pack("<I", 1))
        one.says(0, RUNNING_LINE)
        side.tick(2, {1000}, refresh=False)
        # THEN the second waits for it AND still at the tick after
        assert first.lock is None
        assert second.observation[3] == first.info.index + 1
        side.tick(3, {1000}, refresh=False)
        assert second.observation[3] == first.info.index + 1


@pytest.mark.parametrize("running", [0.93, 0.6])
@pytest.mark.parametrize("after_ns", [NEVER_NS, 0])
@pytest.mark.parametrize("seed", range(5))
def test_ticks_that_go_by_themselves_are_as_those_that_do_not(
    tmp_path: Path, seed: int, after_ns: int, running: float
) -> None:
    with world(tmp_path, seed) as one:
        # GIVEN both observers on one process, whose threads wait for locks seldom, or often
        plain, compiled = Side(one, compiled=False), Side(one, compiled=True)
        for side in (plain, compiled):
            side.lines.let_wait(after_ns)
        one.running = running
        number, alone = 0, 0
        for step in range(60):
            # WHEN threads do as chance has it, and one takes ticks by itself
            ran = one.step()
            if step % 20 == 19:
                one.change()
                plain.refresh()
                compiled.refresh()
            steady = compiled.go_steadily(number)
            if not steady.times:
                compiled.lines.who_ran()
                assert compiled.tick(number, ran, refresh=False) == plain.tick(number, ran, refresh=False)
                number += 1
                continue
            # THEN both know the same after as many ticks as it took
            expected: list[Any] = []
            for _ in steady.times:
                expected = plain.tick(number, ran, refresh=False)
                ran = set()
                number += 1
            assert compiled.known() == expected
            alone += len(steady.times)
        assert alone > 10


@pytest.mark.parametrize("seed", range(8))
def test_ticks_that_are_concluded_later_are_as_those_that_are_not(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, seed, threads=6) as one:
        # GIVEN both observers on one process, whose threads wait for locks and hand them on all the time
        plain, compiled = Side(one, compiled=False), Side(one, compiled=True)
        for number in range(6):
            one.stand(number, 0)
        for number in range(2):
            # Both know the place at which they wait.
            one.park(1, one.locks[number])
            for side in (plain, compiled):
                side.lines.who_ran()
                side.tick(number, {1000 + n for n in range(6)}, refresh=False)
        chosen = one.choose(busy=0)
        number, ran, taken = 2, set[int](), 0
        expected: list[Any] = []

        def conclude() -> None:
            nonlocal number, expected
            expected = plain.tick(number, ran, refresh=False)
            number += 1

        def begin(files: Files) -> bytes:
            # WHEN ticks go by themselves, and at each of them threads have done something else
            nonlocal ran, chosen, taken
            if taken:
                conclude()
            taken += 1
            ran = one.contend(chosen, busy=0)
            chosen = one.choose(busy=0)
            return os.pread(files.syscall_fd, 256, 0)

        # The first thread runs all the time, and is asked first: with that a tick begins.
        first = compiled.threads[1000]
        first.files = Hooked(first.files, begin)
        for thread in compiled.threads.values():
            thread.syscall_fd = -1
        later = Counter[str]()
        run = compiled.observer._replay.run

        def counted(ticks: Any, *rest: Any) -> int:
            later["ticks"] += len(ticks)
            later["threads"] += sum(len(tick[3]) for tick in ticks)
            later["asked"] += sum(isinstance(left[4], Asked) for tick in ticks for left in tick[3])
            return run(ticks, *rest)

        monkeypatch.setattr(compiled.observer._replay, "run", counted)
        for step in range(60):
            if step % 20 == 19:
                plain.refresh()
                compiled.refresh()
            taken = 0
            steady = compiled.go_steadily(number, 30_000_000)
            assert len(steady.times) == taken
            # THEN both know the same after as many ticks as it took
            conclude()
            assert compiled.known() == expected
        # AND many of them were concluded later
        assert later["ticks"] > number // 3
        assert later["threads"] > later["ticks"]
        assert later["asked"] > 0
        states = [run[2] for thread in compiled.threads.values() for run in thread.runs]
        assert any(state == ThreadState.STOPPED and holder == 1 for state, _, _, holder, _ in states)


@pytest.mark.parametrize("seed", range(3))
def test_who_parks_where_it_parked_is_told_as_if_it_were_elsewhere(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, seed) as one:
        # GIVEN threads that often wait for one lock, and an observer that does not know a wait again
        knowing, asking = Side(one, compiled=True), Side(one, compiled=True)
        monkeypatch.setattr(asking.observer._locks, "is_still", lambda *_: False)
        is_still, known_again = knowing.observer._locks.is_still, Counter[bool]()

        def counted(*arguments: Any) -> bool:
            still: bool = is_still(*arguments)
            known_again[still] += 1
            return still

        monkeypatch.setattr(knowing.observer._locks, "is_still", counted)
        one.running = 0.3
        for number in range(120):
            # WHEN threads do as chance has it THEN both know the same
            ran = one.step()
            refresh = number % 20 == 19
            if refresh:
                one.change()
            expected = asking.tick(number, ran, refresh=refresh)
            assert knowing.tick(number, ran, refresh=refresh) == expected
        assert known_again[True]


def test_a_stretch_ends_where_somebody_else_has_to_look(tmp_path: Path) -> None:
    with world(tmp_path, 5) as one:
        side = Side(one, compiled=True)
        side.tick(0, set(), refresh=False)
        now = time.monotonic_ns()
        # GIVEN a file that can be read, a thread that began, one that runs THEN not one tick is taken
        reading, writing = os.pipe()
        os.write(writing, b"x")
        for files, quiet in (((reading,), False), ((), True)):
            steady = Steady(1, now, 1_000_000, now + 10**9, 10**9, now, files, quiet=quiet)
            side.observer.go_steadily(steady)
            assert steady.times == []
            assert steady.due_ns == now
        (tmp_path / "another").mkdir()
        assert side.go_steadily(1).times == []
        os.close(reading)
        os.close(writing)


def test_a_stretch_ends_with_the_first_tick_at_a_time_and_reads_the_clock_there(tmp_path: Path) -> None:
    with world(tmp_path, 5) as one:
        side = Side(one, compiled=True)
        side.tick(0, set(), refresh=False)
        # GIVEN a time that is over WHEN ticks go by themselves THEN one is taken
        now = time.monotonic_ns()
        steady = Steady(1, now, 1_000_000, now - 1, 10**9, now, (), quiet=False)
        side.observer.go_steadily(steady)
        assert len(steady.times) == 1
        # GIVEN one that is to come THEN only the last tick is not before it
        last_ns = time.monotonic_ns() + 5_000_000
        steady = Steady(2, now, 1_000_000, last_ns, 10**9, now, (), quiet=False)
        before_ns = procfs.process_cpu_ns(os.getpid())
        side.observer.go_steadily(steady)
        after_ns = procfs.process_cpu_ns(os.getpid())
        assert [time_ns >= last_ns for time_ns in steady.times[-2:]] == [False, True]
        # AND the process's clock is as of then
        assert before_ns is not None
        assert after_ns is not None
        assert steady.clock_ns is not None
        assert before_ns < steady.clock_ns < after_ns


def test_a_wait_that_its_line_tells_is_concluded_once(tmp_path: Path) -> None:
    with world(tmp_path, 6, threads=1) as one:
        side = Side(one, compiled=True)
        thread = side.threads[1000]
        one.stand(0, 0)
        for number in range(6):
            # GIVEN a thread that sleeps, runs, and sleeps again where it slept
            sleeps = number % 2 == 0
            one.says(0, b"230 0x0 0x0 0x0 0x0 0x0 0x0 0x7f00 0x7f0000001234\n" if sleeps else RUNNING_LINE)
            side.tick(number, {1000}, refresh=False)
            # THEN it is known to be off its core, or not, each time
            assert thread.settled is sleeps
            assert thread.observation is not None
            assert (thread.observation[0] == ThreadState.SLEEP) is sleeps
        # AND it was concluded once
        assert side.seen["concluded in Python"] == 1


def test_each_tick_at_which_a_thread_may_be_inside_an_update_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, 7, threads=2) as one:
        # GIVEN threads that run, with stacks of which it is known that they have no update
        side = Side(one, compiled=True)
        side.tick(0, set(), refresh=False)
        side.tick(1, set(), refresh=False)
        looked: list[list[SampledThread]] = []
        monkeypatch.setattr(side.updates, "_able", True)
        monkeypatch.setattr(side.updates, "look", lambda ran: looked.append(list(ran)))
        side.updates._stacks = bytearray(b"\x01") * 1000
        assert len(side.go_steadily(2, LONG_NS).times) > 1
        assert looked == []
        # WHEN one may have some THEN each tick is looked at
        one.stand(0, 0)
        side.updates._stacks = bytearray(b"\x02") * 1000
        ticks = len(side.go_steadily(9, LONG_NS).times)
        assert ticks > 1
        assert looked == ticks * [list(side.threads.values())]
        # AND none once there was enough of them in that second
        looked.clear()

        def look(ran: list[SampledThread]) -> None:
            looked.append(ran)
            side.updates._reads = MAX_READS

        monkeypatch.setattr(side.updates, "look", look)
        assert len(side.go_steadily(9 + ticks, LONG_NS).times) == 1
        assert len(side.go_steadily(10 + ticks, LONG_NS).times) > 1
        assert len(looked) == 1


def test_what_is_raised_while_a_tick_goes_by_itself_is_raised_when_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, 7, threads=2) as one:
        side = Side(one, compiled=True)
        for number in range(2):
            side.tick(number, set(), refresh=False)
        one.stand(0, 0)

        def gone(*_: Any) -> None:
            raise TargetGone("it ended")

        # GIVEN a look for updates, and a conclusion, that find that the target is gone
        side.updates._stacks = bytearray(b"\x02") * 1000
        monkeypatch.setattr(side.updates, "_able", True)
        monkeypatch.setattr(side.updates, "look", gone)
        # WHEN ticks go by themselves THEN that is told, once
        with pytest.raises(TargetGone):
            side.go_steadily(2, LONG_NS)
        monkeypatch.setattr(side.updates, "_able", False)
        assert len(side.go_steadily(3).times) > 0
        monkeypatch.setattr(side.observer._replay, "_conclude", gone)
        one.says(0, b"999 0x1 0x0 0x0 0x0 0x0 0x0 0x7f0000001000 0x1\n")
        with pytest.raises(TargetGone):
            side.go_steadily(40, LONG_NS)


def test_a_stretch_goes_on_past_an_update_that_a_thread_is_not_inside_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, 8, threads=2) as one:
        # GIVEN threads that run, on lines that have an update
        side = Side(one, compiled=True)
        side.tick(0, set(), refresh=False)
        one.stand(0, 0)
        one.stand(1, 0)
        side.tick(1, set(), refresh=False)
        monkeypatch.setattr(side.updates, "_able", True)
        looked: list[list[SampledThread]] = []
        monkeypatch.setattr(side.updates, "look", looked.append)
        side.updates._stacks = bytearray(b"\x02") * 1000
        interpreter = side.observer._interpreter

        def is_looked_at(first: int) -> bool:
            """Whether each of some ticks is, or none."""
            looked.clear()
            ticks = len(side.go_steadily(first, LONG_NS).times)
            assert ticks > 1
            assert len(looked) in (0, ticks)
            return bool(looked)

        assert is_looked_at(2)
        # WHEN it is found that one is not inside THEN the other still has each tick looked at
        interpreter.mark_quiet(side.threads[1000].python[0])
        assert is_looked_at(200)
        # WHEN both are not THEN none is, also after they were elsewhere
        interpreter.mark_quiet(side.threads[1001].python[0])
        assert not is_looked_at(400)
        one.move(0)
        side.tick(600, set(), refresh=False)
        one.stand(0, 0)
        assert not is_looked_at(601)
        # AND each is again once code objects were replaced
        interpreter._forget_frames()
        assert is_looked_at(800)


def test_only_threads_of_the_walker_are_marked(tmp_path: Path) -> None:
    with world(tmp_path, 9, threads=1) as one:
        side = Side(one, compiled=True)
        walker: Any = side.observer._interpreter._walker
        with pytest.raises(TypeError, match="takes a thread"):
            walker.mark_quiet(object())
        # One that was never walked has no chain.
        walker.mark_quiet(walker.thread(1, 2, 3, 4))


@pytest.mark.parametrize("compiled", [True, False])
def test_who_waits_for_a_core_is_looked_at_until_that_is_certain(tmp_path: Path, compiled: bool) -> None:
    with world(tmp_path, 10, threads=3) as one:
        side = Side(one, compiled=compiled)
        side.lines.let_wait(10)
        # GIVEN three threads that run
        for number in range(3):
            one.stand(number, 0)
        side.tick(0, {1000, 1001, 1002}, refresh=False)
        # WHEN their lines do not change THEN they are looked at for as long as they may be on a core
        first, second, third = side.threads.values()
        unsettled = side.lines.unsettled
        let_wait(unsettled, 9, 10)
        assert list(unsettled) == [first, second, third]
        # AND then no more, but for one
        let_wait(unsettled, 10, 10)
        assert list(unsettled) == [third]
        # AND again, with something new to find out, when they ran or somebody wants to know
        first.settled = False
        let_wait(unsettled, 10**9, 10)
        assert list(unsettled) == [first]


@pytest.mark.parametrize("compiled", [True, False])
def test_who_was_handed_a_lock_is_looked_at_while_it_waits_for_a_core(tmp_path: Path, compiled: bool) -> None:
    with world(tmp_path, 4, threads=2) as one:
        side = Side(one, compiled=compiled)
        side.lines.let_wait(0)
        first, second = side.threads.values()
        # GIVEN two threads that wait for one lock, of which the first is handed it, and stands where it stood
        one.memory.write(one.locks[0] + one.layout.object_size, b"\x01")
        for number in range(2):
            one.stand(number, 0)
        side.tick(0, {1000, 1001}, refresh=False)
        for number in range(2):
            one.park(number)
        side.tick(1, {1000, 1001}, refresh=False)
        entry = one.parked[0]
        one.memory.write(entry + 48, bytes(16))
        one.memory.write(entry + 88, struct.pack("<I", 1))
        one.says(0, RUNNING_LINE)
        for number in range(2, 5):
            # WHEN ticks pass at which it gets no core THEN the second waits for it all the same
            side.tick(number, {1000} if number == 2 else set(), refresh=False)
            assert not first.looked
            assert second.observation is not None
            assert second.observation[3] == first.info.index + 1


def test_two_ticks_of_the_kernels_clock_are_some_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2_000_000 < waits_ns() <= 25_000_000 or waits_ns() == NEVER_NS
    # GIVEN a clock that does not tick as Linux's does THEN nobody is known to wait for a core
    monkeypatch.setattr(time, "clock_getres", lambda clock: 1e-9)
    assert waits_ns() == NEVER_NS


def test_threads_are_seen_alive_at_ticks_at_which_nobody_runs(tmp_path: Path) -> None:
    with world(tmp_path, 11, threads=1) as one:
        # GIVEN a thread that sleeps
        side = Side(one, compiled=True)
        one.stand(0, 0)
        one.says(0, b"230 0x0 0x0 0x0 0x0 0x0 0x0 0x7f00 0x7f0000001234\n")
        side.lines.who_ran()
        side.tick(0, {1000}, refresh=False)
        assert side.threads[1000].settled
        # WHEN ticks go by themselves THEN it lived at the last of them
        now = time.monotonic_ns()
        steady = Steady(1, now, 1_000_000, now + LONG_NS, 250_000, now, (), quiet=True)
        side.observer.go_steadily(steady)
        assert steady.times
        assert steady.goes_on
        assert side.lines.seen_ns == steady.times[-1]
