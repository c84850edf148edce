"""Stacks of real processes: each function, file and line as the interpreter itself says them."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_process import PAGE, FakeMemory, Sink
from ftdiag.errors import MemoryReadError, TargetGone
from ftdiag.model import NO_STACK, TORN_STACK, Frame, Stack
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import MAX_STRING_CHARACTERS
from ftdiag.sources.python.runtime import find_runtime
from reading import Look, eventually, until_asleep
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload, running_workload

SHAPES = Path(__file__).parents[1] / "programs" / "shapes.py"
Start = Callable[..., RunningWorkload]
Program = Callable[..., RunningWorkload]


def as_text(value: str) -> str:
    """A string as it can be read from outside: cut, and without what no encoding says."""
    return value[:MAX_STRING_CHARACTERS].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def test_every_shape_of_stack(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN threads that sleep in all shapes of stacks, and what the interpreter says of them
    facts = tmp_path / "facts.json"
    with running_workload(free_threaded_python.path, str(SHAPES), str(facts)) as running:
        expected = json.loads(facts.read_text())
        until_asleep(running.pid)

        # WHEN they are read from outside, cold and then with what was learned
        look = Look(running.pid)
        found = [look.named_stacks(), look.named_stacks()]

    # THEN every frame is the same: function, file and line
    assert len(expected) >= 30
    for stacks in found:
        for name, frames in expected.items():
            said = [(as_text(file), as_text(function), line) for file, function, line in frames]
            seen = [(as_text(frame.filename), frame.function, frame.line) for frame in stacks[name]]
            assert seen == said, name
    assert look.interpreter.torn == 0
    assert max(map(len, expected.values())) > 3500


def test_reading_changes_nothing(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a process that is asleep
    with running_workload(free_threaded_python.path, str(SHAPES), str(tmp_path / "facts")) as running:
        until_asleep(running.pid)
        before = Path(f"/proc/{running.pid}/status").read_text()

        # WHEN it is read many times
        look = Look(running.pid)
        for _ in range(20):
            look.named_stacks()

        # THEN it did not run, and nothing is attached to it
        after = Path(f"/proc/{running.pid}/status").read_text()
    assert re.findall(r".*ctxt_switches.*", before) == re.findall(r".*ctxt_switches.*", after)
    assert "TracerPid:\t0" in after


def test_main_thread_and_module_level(program: Program) -> None:
    # GIVEN a program asleep at module level
    running = program(
        """
        import os, time
        print("ready", os.getpid(), flush=True)
        time.sleep(
            1000)
        """
    )

    # WHEN its main thread is read once it sleeps
    until_asleep(running.pid)
    stack = Look(running.pid).stacks()[running.pid]

    # THEN the module's frame is there, with the line of the call
    assert [(Path(frame.filename).name, frame.function, frame.line) for frame in stack] == [
        ("program.py", "<module>", 4)
    ]


def test_names_of_threads(program: Program) -> None:
    # GIVEN threads that are named late, renamed, named oddly, and made without `threading`
    running = program(
        """
        import os, threading, time, _thread
        dummy = threading.Event()
        def sleep(): time.sleep(1000)
        def alien():
            threading.current_thread()
            dummy.set()
            sleep()
        late = threading.Thread(target=sleep, daemon=True)
        late.start()
        late.name = "named late"
        renamed = threading.Thread(target=sleep, name="first name", daemon=True)
        renamed.start()
        renamed.name = "Ünïcode 日本語 🧵"
        threading.Thread(target=sleep, name="x" * 5000, daemon=True).start()
        threading.Thread(target=sleep, name="control\\x1b[31m\\n", daemon=True).start()
        class Own(threading.Thread):
            def __init__(self):
                super().__init__(daemon=True)
                self.many = {f"attribute {n}": n for n in range(50)}
                for n in range(60):
                    setattr(self, f"extra{n}", n)
            def run(self): sleep()
        own = Own()
        own.start()
        own.name = "own class"
        _thread.start_new_thread(alien, ())
        _thread.start_new_thread(sleep, ())
        dummy.wait()
        print("ready", os.getpid(), flush=True)
        sleep()
        """
    )

    # WHEN names are read
    names = sorted(Look(running.pid).interpreter.thread_names().values())

    # THEN they are those that Python code would see now
    assert names[0].startswith("Dummy-")
    assert names[1:] == [
        "MainThread",
        "control\x1b[31m\n",
        "named late",
        "own class",
        "x" * MAX_STRING_CHARACTERS,
        "Ünïcode 日本語 🧵",
    ]


def test_renamed_while_it_is_watched(program: Program) -> None:
    # GIVEN a thread that gives itself a new name every few ms
    running = program(
        """
        import os, threading, time
        def work():
            me, n = threading.current_thread(), 0
            while True:
                n += 1
                me.name = f"name {n}"
                time.sleep(0.002)
        threading.Thread(target=work, daemon=True, name="name 0").start()
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    look = Look(running.pid)

    # WHEN names are read over and over
    seen: set[str] = set()

    def several() -> bool:
        for _ in range(300):
            seen.update(look.interpreter.thread_names().values())
        return len(seen) > 3

    eventually(several)

    # THEN each is one that it had
    assert all(name == "MainThread" or re.fullmatch(r"name \d+", name) for name in seen), seen


def test_several_interpreters(workload_process: Start) -> None:
    # GIVEN a thread in each of several interpreters
    running = workload_process("subinterpreters", "--threads", "3")
    look = Look(running.pid)

    # WHEN threads and stacks are read while they work
    def several() -> set[int]:
        look.stacks()
        return {thread.interpreter for thread in look.threads}

    # THEN each interpreter has threads, and all stacks make sense
    eventually(lambda: len(several()) >= 4 and len(look.interpreter.interpreters()) >= 4)
    functions: set[str] = set()

    def looked() -> bool:
        for _ in range(50):
            for stack in look.stacks().values():
                assert all(frame.line is None or frame.line > 0 for frame in stack)
        # A thread has a stack in each of its interpreters.
        for stack in look.sink.stacks.values():
            functions.update(frame.function for frame in stack)
        return {"<module>", "advance_in_subinterpreter"} <= functions

    eventually(looked)


def undisturbed_look(look: Look) -> tuple[bool, dict[int, Stack]]:
    """All stacks, and whether we kept our core meanwhile: else the target goes far between two reads."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    stacks = look.stacks()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw == before, stacks


def test_hot_functions_in_many_threads(program: Program) -> None:
    # GIVEN one function that many threads run at full speed while it specialises
    running = program(
        """
        import os, threading, time
        def leaf(n):
            total = 0
            for i in range(n):
                total += i
            return total
        def work():
            while True:
                leaf(50)
                leaf(51)
        for _ in range(8):
            threading.Thread(target=work, daemon=True).start()
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    look = Look(running.pid)

    # WHEN they are read many times
    lines: dict[str, set[int | None]] = {"leaf": set(), "work": set()}
    read = empty = 0

    def looked() -> bool:
        nonlocal read, empty
        for _ in range(300):
            undisturbed, stacks = undisturbed_look(look)
            for tid, stack in stacks.items():
                if tid == running.pid:
                    continue
                if undisturbed:
                    read += 1
                    empty += not stack
                for frame in stack:
                    if frame.function in lines:
                        lines[frame.function].add(frame.line)
        return read >= 500 and {5, 6} <= lines["leaf"] and {10, 11} <= lines["work"]

    eventually(looked)

    # THEN only their own lines are seen, and nearly all stacks could be read
    assert lines["leaf"] <= {3, 4, 5, 6, 7, None}
    assert lines["work"] <= {8, 9, 10, 11}
    assert empty <= 0.01 * read


def test_code_that_is_made_and_thrown_away(program: Program) -> None:
    # GIVEN a thread that compiles a function, runs it and forgets it, over and over: function, file and
    # line belong together by their number
    running = program(
        """
        import os, threading, time
        def work():
            n = 0
            while True:
                n += 1
                line = n % 97
                source = "\\n" * line + f"def f{n}():\\n  for i in range(2000): pass\\nf{n}()\\n"
                exec(compile(source, f"file{n}", "exec"), {})
        threading.Thread(target=work, daemon=True).start()
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    look = Look(running.pid)

    # WHEN it is read for a while, with the check of code objects once in a while
    seen: set[Frame] = set()

    def several() -> bool:
        for turn in range(600):
            for stack in look.stacks().values():
                seen.update(frame for frame in stack if re.fullmatch(r"f\d+", frame.function))
            if turn % 20 == 0:
                look.interpreter.recheck_codes()
            time.sleep(0.001)
        return len(seen) > 20

    eventually(several)

    # THEN what was read of one function is from one function
    for frame in seen:
        number = int(frame.function[1:])
        assert frame.filename == f"file{number}"
        assert frame.line in (number % 97 + 1, number % 97 + 2, None)


def test_recursion_that_never_rests(workload_process: Start) -> None:
    # GIVEN stacks 300 deep that change all the time
    running = workload_process("recursion", "--threads", "2")
    look = Look(running.pid)

    # WHEN they are read often
    walked = torn = mixed = 0

    def looked() -> bool:
        nonlocal walked, torn, mixed
        for _ in range(300):
            torn_before, walked_before = look.interpreter.torn, look.interpreter.walked
            undisturbed, stacks = undisturbed_look(look)
            if not undisturbed:
                continue
            walked += look.interpreter.walked - walked_before
            torn += look.interpreter.torn - torn_before
            for stack in stacks.values():
                names = [frame.function for frame in stack if frame.function in ("descend", "turn")]
                mixed += names != (["descend", "turn"] * 151)[: len(names)]
        return walked >= 600

    eventually(looked)

    # THEN few are torn, and those that are believed are possible: two functions in turn. Without stopping
    # the target a stack can mix two moments and pass every check; bench/torn.py measures how seldom.
    assert torn <= 0.02 * walked
    assert mixed <= 0.01 * walked


def test_threads_that_come_and_go(workload_process: Start) -> None:
    # GIVEN a thousand threads a second
    running = workload_process("thread_storm")
    look = Look(running.pid)

    # WHEN all are read, THEN nothing is raised, and what is read is possible
    for _ in range(200):
        look.named_stacks()
    for stack in look.sink.stacks.values():
        assert stack[0].function in ("<module>", "Thread._bootstrap"), stack


# --- real memory, damaged ---


class CapturingMemory(RemoteMemory):
    """Keeps all pages that are read."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.captured = FakeMemory()

    def _transfer(self, vectors, count, total):  # type: ignore[no-untyped-def]
        got = super()._transfer(vectors, count, total)
        for place in range(count):
            for page in range(vectors[2 * place] & -PAGE, vectors[2 * place] + vectors[2 * place + 1], PAGE):
                if page not in self.captured.pages:
                    other = RemoteMemory(self.pid)
                    try:
                        self.captured.write(page, other.read(page, PAGE))
                    except MemoryReadError:
                        pass
        return got


@pytest.fixture(scope="module")
def snapshot(
    free_threaded_python: Interpreter, tmp_path_factory: pytest.TempPathFactory
) -> InterpreterReader:
    """All memory that is needed to read a sleeping process with every shape of stack, and a reader of it."""
    facts = tmp_path_factory.mktemp("snapshot") / "facts"
    with running_workload(free_threaded_python.path, str(SHAPES), str(facts)) as running:
        memory = CapturingMemory(running.pid)
        until_asleep(running.pid)
        look = Look(running.pid, memory)
        look.named_stacks()
        look.interpreter.gil_enabled()
        runtime = find_runtime(running.pid, RemoteMemory(running.pid))
    return InterpreterReader(memory.captured, runtime, Sink())


def read_all(memory: FakeMemory, like: InterpreterReader) -> list[int]:
    """All stacks and names."""
    reader = InterpreterReader(memory, like.runtime, Sink())
    found = []
    for _ in range(2):
        try:
            found = reader.walk(reader.threads())
        except MemoryReadError:
            found = []
        for act in (reader.thread_names, reader.gil_enabled, reader.recheck_codes):
            try:
                act()
            except MemoryReadError:
                pass
    return found


def test_snapshot_reads_like_the_process(snapshot: InterpreterReader) -> None:
    # GIVEN the pages that were read of a process that is gone
    memory = snapshot.memory
    assert isinstance(memory, FakeMemory)

    # WHEN it is read from them, THEN all stacks are there
    stacks = read_all(memory, snapshot)
    assert len(stacks) > 30
    assert TORN_STACK not in stacks
    assert NO_STACK not in stacks


@given(seed=st.randoms(use_true_random=False), count=st.integers(1, 400))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_damaged_snapshot_never_raises(snapshot: InterpreterReader, seed: random.Random, count: int) -> None:
    # GIVEN the same with words overwritten by numbers and by addresses of other things, and pages missing
    original = snapshot.memory
    assert isinstance(original, FakeMemory)
    memory = FakeMemory()
    memory.pages = {page: bytearray(data) for page, data in original.pages.items()}
    pages = sorted(memory.pages)
    for _ in range(count):
        page = memory.pages[seed.choice(pages)]
        place = 8 * seed.randrange(PAGE // 8)
        value = seed.choice(
            (seed.getrandbits(64), seed.choice(pages) + 8 * seed.randrange(512), seed.getrandbits(8), 0)
        )
        page[place : place + 8] = value.to_bytes(8, "little")
    for _ in range(seed.randrange(3)):
        memory.pages.pop(seed.choice(pages), None)

    # WHEN it is read, THEN only documented errors come, in bounded time
    start = time.process_time()
    read_all(memory, snapshot)
    assert time.process_time() - start < 30


def test_process_that_is_killed_while_it_is_read(workload_process: Start) -> None:
    # GIVEN a reader at work
    running = workload_process("recursion", "--threads", "2")
    look = Look(running.pid)
    look.stacks()

    # WHEN the process is killed, THEN its end is told by one error, whatever is read
    os.kill(running.pid, 9)
    running.process.wait()
    with pytest.raises(TargetGone):
        look.stacks()
    with pytest.raises(TargetGone):
        look.interpreter.thread_names()
