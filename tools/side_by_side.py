"""Our reader of stacks beside the interpreter's own, on threads that stand still at places they know.

In: a free-threaded interpreter. Out: an `Agreement`: how many stacks each of the two read, and how many were
those that the program says of itself. The interpreter's own reader is `_remote_debugging.RemoteUnwinder`, on
which `profiling.sampling` is built: from 3.15 on (3.14's leaves out the frames of threads' beginnings).

The program's threads go by ways of their own choice (recursion, generators, comprehensions, callbacks from C,
classes being made, code without a file) to a line, and wait there until they are sent on. At each stop the
program writes down the stacks of its threads (`sys._current_frames`), then both readers read them. It keeps
the code that it makes: both readers take a code object for the one that was freed at its address, until they
look at it anew (ours once a second).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from ftdiag.model import FIRST_STACK_ID, Frame
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import find_runtime

Place = tuple[str, str, int | None]
"""File, qualified name of the function, line."""
Places = tuple[Place, ...]
"""Leaf first."""

THREADS: Final = 4
MAX_EXAMPLES: Final = 5

PROGRAM: Final = """
import json, os, random, sys, threading, time

THREADS = int(sys.argv[1])
gates = [threading.Lock() for _ in range(THREADS)]
arrived = threading.Semaphore(0)
made = {}
for gate in gates:
    gate.acquire()

def stop(number):
    arrived.release(), gates[number].acquire()

def stop_in_parts(number):
    pair = (
        arrived.release(), gates[number].acquire(),
    )
    return pair

class Ways:
    def __init__(self, number):
        self.number = number
        self.choice = random.Random(number)

    def go(self, depth=0):
        way = self.choice.choice(WAYS if depth < 12 else [Ways.here])
        return way(self, depth + 1)

    def here(self, depth):
        self.choice.choice([stop, stop_in_parts])(self.number)

    def recursion(self, depth, left=None):
        left = self.choice.randrange(60) if left is None else left
        if left:
            return self.recursion(depth, left - 1)
        return self.go(depth)

    def generator(self, depth):
        def steps():
            yield 1
            yield self.go(depth)
        return list(steps())

    def delegated(self, depth):
        def inner():
            yield self.go(depth)
        def outer():
            yield from inner()
        return next(outer())

    def comprehension(self, depth):
        return [
            self.go(depth)
            for _ in range(1)
        ]

    def nested_comprehension(self, depth):
        return {one: (other for other in [self.go(depth)]) for one in [1]}

    def callback(self, depth):
        return sorted([1], key=lambda one: self.go(depth))

    def mapped(self, depth):
        return list(map(self.go, [depth]))

    def with_block(self, depth):
        with threading.Lock():
            return self.go(
                depth
            )

    def handler(self, depth):
        try:
            raise KeyError
        except KeyError:
            return self.go(depth)
        finally:
            depth = 0

    def class_body(self, depth):
        class Made:
            found = self.go(depth)
        return Made

    def made_code(self, depth):
        if depth not in made:
            made[depth] = compile("\\n" * depth + "found = ways.go(depth)", "<made>", "exec")
        exec(made[depth], {"ways": self, "depth": depth})

    def special_method(self, depth):
        ways = self
        class Number:
            def __add__(self, other):
                return ways.go(depth)
        return Number() + 1

    def coroutine(self, depth):
        async def inner():
            return self.go(depth)
        async def outer():
            return await inner()
        try:
            outer().send(None)
        except StopIteration:
            pass

WAYS = [getattr(Ways, name) for name in sorted(vars(Ways)) if name[0] != "_" and name != "go"]

def work(number):
    ways = Ways(number)
    while True:
        ways.go()

threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
for thread in threads:
    thread.start()

def standing():
    "Their frames, once none is on its way out of the release that says that it has arrived."
    while True:
        frames = sys._current_frames()
        if all(frames[thread.ident].f_code.co_name.startswith("stop") for thread in threads):
            return frames
        time.sleep(0.0005)

while True:
    for _ in threads:
        arrived.acquire()
    frames = standing()
    told = {}
    for thread in threads:
        frame, stack = frames[thread.ident], []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
            frame = frame.f_back
        told[thread.native_id] = stack
    del frames, frame
    print(json.dumps([os.getpid(), told]), flush=True)
    if not sys.stdin.readline():
        os._exit(0)
    for gate in gates:
        gate.release()
"""

READER: Final = """
import json, sys
from _remote_debugging import RemoteUnwinder
unwinder = RemoteUnwinder(int(sys.argv[1]), all_threads=True)
for line in sys.stdin:
    told = {}
    try:
        for one in unwinder.get_stack_trace():
            for thread in getattr(one, "threads", [one]):
                told[thread.thread_id] = [
                    (frame.filename, frame.funcname, getattr(frame, "location", frame).lineno)
                    for frame in thread.frame_info
                ]
    except Exception as problem:
        told = {"failed": str(problem)}
    print(json.dumps(told), flush=True)
"""


@dataclass
class Agreement:
    """Stacks that the program told, those that each reader read alike, and some of those it did not."""

    stacks: int = 0
    ours: int = 0
    theirs: int = 0
    both: int = 0
    """Stacks that the two readers read alike, right or not."""
    gave_up: int = 0
    """Stops at which the interpreter's own reader failed."""
    frames: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, truth: Places, ours: Places | None, theirs: Places | None) -> None:
        """Count one stack."""
        self.stacks += 1
        self.frames += len(truth)
        self.ours += ours == truth
        self.theirs += theirs == truth
        self.both += ours == theirs
        if ours != truth and len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"told {truth}\nours {ours}\ntheirs {theirs}")


class _Stacks:
    """A table of stacks, as an InterpreterReader wants it."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._stacks: list[Places] = []

    def intern_frame(self, frame: Frame) -> int:
        self._frames.append(frame)
        return len(self._frames)

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        frames = [self._frames[number - 1] for number in reversed(frame_ids)]
        self._stacks.append(tuple((each.filename, each.function, each.line) for each in frames))
        return FIRST_STACK_ID + len(self._stacks) - 1

    def places(self, stack: int) -> Places | None:
        """The frames of a stack; `None` for one that could not be read."""
        return self._stacks[stack - FIRST_STACK_ID] if stack >= FIRST_STACK_ID else None


def compare(python: Path, stops: int, *, alone: bool = False) -> Agreement:
    """Let threads of `python` stop so many times, and read them each time with both readers.

    `alone`: with ours only.
    """
    result = Agreement()
    with ExitStack() as running:
        scratch = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="ftdiag-side-by-side-")))
        program = running.enter_context(_running(python, scratch / "program.py", PROGRAM, str(THREADS)))
        running.callback(program.kill)
        pid, told = json.loads(_line(program))
        theirs: subprocess.Popen[str] | None = None
        if not alone:
            theirs = running.enter_context(_running(python, scratch / "reader.py", READER, str(pid)))
            running.callback(theirs.kill)
        _read_stops(result, pid, told, program, theirs, stops)
    return result


def _read_stops(
    result: Agreement,
    pid: int,
    told: dict[str, list[list[object]]],
    program: subprocess.Popen[str],
    theirs: subprocess.Popen[str] | None,
    stops: int,
) -> None:
    memory = RemoteMemory(pid)
    stacks = _Stacks()
    reader = InterpreterReader(memory, find_runtime(pid, memory), stacks)
    threads = [thread for thread in reader.threads() if str(thread.native_id) in told]
    for number in range(stops):
        if number:
            _send(program)
            _, told = json.loads(_line(program))
        ours = {
            str(thread.native_id): stacks.places(stack)
            for thread, stack in zip(threads, reader.walk(threads), strict=True)
        }
        other: dict[str, list[list[object]]] = {}
        if theirs is not None:
            _send(theirs)
            other = json.loads(_line(theirs))
        result.gave_up += "failed" in other
        for thread, stack in told.items():
            read = other.get(thread)
            result.add(_places(stack), ours.get(thread), None if read is None else _places(read))


def _places(told: list[list[object]]) -> Places:
    return tuple((str(file), str(function), int(str(line))) for file, function, line in told)


def _running(python: Path, path: Path, text: str, *arguments: str) -> subprocess.Popen[str]:
    path.write_text(text)
    return subprocess.Popen(
        [str(python), str(path), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str]) -> str:
    line = _stream(process.stdout).readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with status {process.wait()}")
    return line


def _send(process: subprocess.Popen[str]) -> None:
    stream = _stream(process.stdin)
    stream.write("\n")
    stream.flush()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
