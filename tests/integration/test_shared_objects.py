"""Shared objects, stop-the-world pauses and their requesters, on real interpreters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import Confidence, HotLine
from ftdiag.session import Session
from ftdiag.sources.interpreter import InterpreterReader
from ftdiag.sources.memory import RemoteMemory
from ftdiag.sources.runtime import find_runtime
from ftdiag.sources.sharedobjects import SharedObjectReader
from reading import eventually, recorded
from tools.workloads import RunningWorkload

Program = Callable[..., RunningWorkload]

HEAD = """
    import enum, os, threading, time
    class Config: pass
    class Slotted:
        __slots__ = ("inside",)
    class Colour(enum.Enum):
        RED = "red"
    class Worker:
        def method(self): pass
        def __init__(self): self.table = {1: 2}
        def run(self): loop(self, CONFIG)
    CONFIG = Config(); CONFIG.value = object(); CONFIG.number = 5; CONFIG.name = "interned"
    ITEMS = [1, 2]; SLOTTED = Slotted(); SLOTTED.inside = object(); NUMBER = 7; WORD = "word"
    def function(): pass
    def make():
        limit = object()
        def closure(): return limit
        return closure
    CLOSURE = make(); BOUND = Worker().method
"""
TAIL = """
    WORKER = Worker()
    for _ in range(2):
        threading.Thread(target=WORKER.run, daemon=True).start()
    print("ready", os.getpid(), flush=True)
    time.sleep(1000)
"""


def source(body: str) -> str:
    """A program whose threads spend nearly all their time on the one line `body`."""
    return f"""{HEAD}
    def loop(self, argument):
        private = []
        closure, bound = CLOSURE, BOUND
        while True:
            for _ in range(10000):
                {body}
{TAIL}"""


class Sink:
    """Frame ids are lines."""

    def intern_frame(self, frame: object) -> int:
        return getattr(frame, "line", None) or 0

    def intern_stack(self, frame_ids: object) -> int:
        return 100


def names_on(pid: int, line: int) -> dict[str, tuple[str, Confidence]]:
    """What is named on a line in many looks at all threads, as name -> (type, best confidence)."""
    memory = RemoteMemory(pid)
    interpreter = InterpreterReader(memory, find_runtime(pid, memory), Sink())
    reader = SharedObjectReader(interpreter)
    found: dict[str, tuple[str, Confidence]] = {}
    looks = 0

    def enough() -> bool:
        nonlocal looks
        for thread in interpreter.threads():
            interpreter.walk([thread])
            if reader.line(thread) == line:
                looks += 1
                for one in reader.named(thread):
                    before = found.get(one.name)
                    if before is None or before[1] < one.confidence:
                        found[one.name] = one.type_name, one.confidence
        return looks >= 60

    eventually(enough, 30, 0.002)
    return found


def line_of(text: str, body: str) -> int:
    (number,) = [number for number, line in enumerate(text.splitlines(), 1) if line.strip() == body]
    return number


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("CONFIG.value", {"CONFIG": "Config", "CONFIG.value": "object"}),
        ("len(ITEMS)", {"ITEMS": "list"}),
        ("self.table[1]", {"self.table": "dict"}),
        ("closure()", {"closure": "function"}),
        ("bound()", {"bound": "method", "bound.__self__": "Worker"}),
        ("SLOTTED.inside", {"SLOTTED": "Slotted", "SLOTTED.inside": "object"}),
        ("Colour.RED", {"Colour.RED": "Colour"}),
        ("argument.value", {"argument.value": "object"}),
    ],
)
def test_shared_objects_are_named(program: Program, body: str, expected: dict[str, str]) -> None:
    # GIVEN two threads that do one thing with a shared object
    text = source(body)
    running = program(text)

    # WHEN their line is looked at
    found = names_on(running.pid, line_of(text, body))

    # THEN the object is named with its type, and its header shows the sharing
    for name, type_name in expected.items():
        assert found.get(name, ("", 0))[0] == type_name, found
    assert found[next(iter(expected))][1] is Confidence.KNOWN


@pytest.mark.parametrize(
    "body", ["NUMBER", "len(WORD)", "function()", "os.path", "len(private)", "Worker", "-NUMBER"]
)
def test_what_is_not_counted_is_not_named(program: Program, body: str) -> None:
    # GIVEN two threads that use small ints, interned strings, functions, modules, types, or their own objects
    text = source(body)
    running = program(text)

    # WHEN their line is looked at, THEN nothing is named
    assert names_on(running.pid, line_of(text, body)) == {}


def test_a_cell_is_named_inside_its_closure(program: Program) -> None:
    # GIVEN threads that call one closure
    text = source("closure()")
    running = program(text)

    # WHEN the closure's own line is looked at, THEN the variable is named as a cell
    found = names_on(running.pid, line_of(text, "def closure(): return limit"))
    assert "cell limit" in found


def test_the_sampler_names_what_makes_a_line_slow(program: Program, tmp_path: Path) -> None:
    # GIVEN two threads that contend for one attribute
    running = program(source("CONFIG.value"))

    # WHEN the process is sampled: again if they took turns instead of running at once, as on a busy machine
    named: list[HotLine] = []
    for attempt in range(10):
        with recorded(running.pid, tmp_path / f"r{attempt}", 3.0) as recording:
            if not recording.native(0, len(recording)).samples.sum():
                pytest.fail(f"no native samples: {recording.settings.native}")
            hot = Session(recording).snapshot().hot
            assert recording.verify() == ()
        named = [one for one in hot if one.frame.function == "loop" and one.shared]
        if named:
            break

    # THEN its line has the object's name, and the machine code
    line = named[0]
    assert {one.name for one in line.shared} >= {"CONFIG", "CONFIG.value"}
    assert "_Py_DecRefShared" in dict(line.native)


def test_private_work_gets_no_names(program: Program, tmp_path: Path) -> None:
    # GIVEN threads that work on their own
    running = program(source("len(private)"))

    # WHEN sampled, THEN no object is blamed
    with recorded(running.pid, tmp_path / "r", 2.0) as recording:
        assert recording.shared(0, len(recording)) == {}


def test_pauses_of_the_collector_are_seen_with_their_requester(program: Program, tmp_path: Path) -> None:
    # GIVEN a thread that collects a big heap again and again while two others work
    running = program(
        """
        import gc, os, threading, time
        heap = [[number] for number in range(300_000)]
        def collect():
            while True:
                gc.collect()
                time.sleep(0.02)
        def work():
            while True:
                sum(range(1000))
        for target, name in ((collect, "collector"), (work, "worker-1"), (work, "worker-2")):
            threading.Thread(target=target, name=name, daemon=True).start()
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )

    # WHEN it is sampled
    with recorded(running.pid, tmp_path / "r", 4.0) as recording:
        pauses = Session(recording).pauses()

    # THEN most of the pauses' time is known to be asked for by that thread, at its line
    assert pauses
    known = [each for each in pauses if each.confidence is Confidence.KNOWN]
    assert {each.requester.name for each in known if each.requester} == {"collector"}
    assert sum(each.total_ns for each in known) > 0.5 * sum(each.total_ns for each in pauses)
    assert known[0].stack[0].function == "collect"
    assert known[0].count >= 3
    assert known[0].threads_max >= 1


def test_a_fork_is_a_pause_of_the_thread_that_forks(program: Program, tmp_path: Path) -> None:
    # GIVEN a thread that forks all the time (its pause concerns the whole runtime) while others work
    running = program(
        """
        import os, threading, time
        memory = bytearray(200_000_000)  # its page tables make a fork slow
        for start in range(0, len(memory), 4096):
            memory[start] = 1
        def fork():
            while True:
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
        def work():
            while True:
                sum(range(1000))
        for target, name in ((fork, "forker"), (work, "worker-1")):
            threading.Thread(target=target, name=name, daemon=True).start()
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )

    # WHEN it is sampled, THEN whoever is known to have asked is that thread
    with recorded(running.pid, tmp_path / "r", 3.0) as recording:
        pauses = Session(recording).pauses()
    known = {each.requester.name for each in pauses if each.confidence is Confidence.KNOWN and each.requester}
    assert known <= {"forker"}
    assert pauses == () or known == {"forker"}
