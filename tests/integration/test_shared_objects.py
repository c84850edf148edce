"""Shared objects, stop-the-world pauses and their requesters, on real interpreters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import Confidence, HotLine, Pauses
from ftdiag.session import Session
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.counting import counted
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.paths import PathSearch
from ftdiag.sources.python.runtime import find_runtime
from ftdiag.sources.python.sharedobjects import SharedObjectReader
from reading import cores, eventually, prefer, recorded, recordings
from tools.provision.verification import Interpreter
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


Named = dict[str, tuple[str, Confidence]]


def names_on(pid: int, line: int, enough: Callable[[Named], bool] = bool) -> Named:
    """What is named on a line in many looks at all threads, as name -> (type, best confidence).

    Looks until it is enough, but at least 60 times.
    """
    memory = RemoteMemory(pid)
    interpreter = InterpreterReader(memory, find_runtime(pid, memory), Sink())
    reader = SharedObjectReader(interpreter)
    found: Named = {}
    looks = 0

    def looked() -> bool:
        nonlocal looks
        for thread in interpreter.threads():
            interpreter.walk([thread])
            if reader.line(thread) == line:
                looks += 1
                for one in reader.named(thread):
                    before = found.get(one.name)
                    if before is None or before[1] < one.confidence:
                        found[one.name] = one.type_name, one.confidence
        return looks >= 60 and enough(found)

    eventually(looked, every_s=0.002)
    return found


HELD = """
    import app_part, os, sys, threading, time
    class Pool:
        _shared = object()
        def __init__(self): self.routes = {"x": object(), 3: [object()]}
    CONFIG = Pool()
    ITEMS = [object(), [object()]]
    def make():
        limit = object()
        def handler(): return limit
        return handler
    HANDLER = make()
    WANTED = {
        "__main__.CONFIG": id(CONFIG),
        "__main__.Pool._shared": id(Pool._shared),
        "__main__.CONFIG.routes": id(CONFIG.routes),
        "__main__.CONFIG.routes['x']": id(CONFIG.routes["x"]),
        "__main__.CONFIG.routes[3][0]": id(CONFIG.routes[3][0]),
        "__main__.ITEMS[0]": id(ITEMS[0]),
        "__main__.ITEMS[1][0]": id(ITEMS[1][0]),
        "limit of __main__.HANDLER": id(HANDLER()),
        "app_part.TABLE": id(app_part.TABLE),
        "app_part.TABLE['a'].inner": id(app_part.TABLE["a"].inner),
    }
    def touched(): return [CONFIG, ITEMS[0], HANDLER()]
    thread = threading.Thread(target=touched); thread.start(); thread.join()
    def made(): app_part.OTHER = [object()]; time.sleep(1000)
    maker = threading.Thread(target=made, daemon=True); maker.start()
    while not hasattr(app_part, "OTHER"): time.sleep(0.01)
    def kind(one):
        if sys.version_info >= (3, 14):
            import _testinternalcapi
            if sys._is_immortal(one): return "immortal"
            if _testinternalcapi.has_deferred_refcount(one):
                return "per-thread" if isinstance(one, type) else "deferred"
        return "counted"
    KINDS = [
        (id(one), kind(one))
        for one in (None, 5, "word", CONFIG, Pool, make, HANDLER, ITEMS, int, sys, app_part, {}, 1.5, (1, []))
    ]
    import json
    print("ready", os.getpid(), flush=True)
    with open(sys.argv[1] + ".part", "w") as file:
        json.dump({"wanted": WANTED, "kinds": KINDS,
                   "other": id(app_part.OTHER), "maker": maker.ident, "main": threading.get_ident()}, file)
    os.rename(sys.argv[1] + ".part", sys.argv[1])
    KEPT = [CONFIG]
    time.sleep(1000)
"""
PART = """
class Entry: pass
TABLE = {"a": Entry()}
TABLE["a"].inner = object()
"""


def test_paths_makers_and_counting(program: Program, tmp_path: Path) -> None:
    # GIVEN objects in globals, attributes, dicts, lists, classes, cells and a module of the program
    (tmp_path / "app_part.py").write_text(PART)
    told = tmp_path / "told"
    running = program(HELD, str(told))
    eventually(told.exists)
    said = json.loads(told.read_text())
    memory = RemoteMemory(running.pid)
    interpreter = InterpreterReader(memory, find_runtime(running.pid, memory), Sink())

    # WHEN they are looked for by their addresses THEN each is found where the program has it
    found = PathSearch(interpreter).search(said["wanted"].values())
    assert {name: found.get(address) for name, address in said["wanted"].items()} == {
        name: name for name in said["wanted"]
    }

    # WHEN their headers are read THEN they belong to who made them, and are counted as the interpreter says
    objects = interpreter.objects
    assert counted(memory, objects, said["other"]).facts.owner == said["maker"]
    assert counted(memory, objects, said["wanted"]["__main__.CONFIG"]).facts.owner == said["main"]
    for address, kind in said["kinds"]:
        counting = counted(memory, objects, address).facts.counting.value
        if kind == "counted":
            kinds = {"biased", "shared", "merged"}
            if not hasattr(sys, "_is_immortal") or interpreter.layout.version.minor < 14:
                kinds |= {"immortal", "deferred", "per-thread"}  # 3.13 does not say
            assert counting in kinds
        else:
            assert counting == kind


def version_of(python: Interpreter) -> tuple[int, int]:
    major, minor = python.version.split(".")[:2]
    return int(major), int(minor)


def line_of(text: str, body: str) -> int:
    (number,) = [number for number, line in enumerate(text.splitlines(), 1) if line.strip() == body]
    return number


DEFERRED_ON_3_15 = {"CONFIG", "ITEMS", "SLOTTED", "Colour.RED"}
"""A specialised load of a global or of a class's attribute switches its object to deferred counting there."""


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
def test_shared_objects_are_named(
    program: Program, free_threaded_python: Interpreter, body: str, expected: dict[str, str]
) -> None:
    # GIVEN two threads that do one thing with a shared object
    text = source(body)
    running = program(text)
    if version_of(free_threaded_python) >= (3, 15):
        # AND a version on which some of them are not counted: then they are not named, after a warm-up
        line = line_of(text, body)
        eventually(lambda: not DEFERRED_ON_3_15 & names_on(running.pid, line, lambda _: True).keys())
        expected = {name: kind for name, kind in expected.items() if name not in DEFERRED_ON_3_15}
        if not expected:
            return

    # WHEN their line is looked at, THEN the object is named, and at last its header shows the sharing
    first = next(iter(expected))
    found = names_on(
        running.pid,
        line_of(text, body),
        lambda named: expected.keys() <= named.keys() and named[first][1] is Confidence.KNOWN,
    )
    # AND it has its type
    assert {name: found[name][0] for name in expected} == expected


@pytest.mark.parametrize(
    "body", ["NUMBER", "len(WORD)", "function()", "os.path", "len(private)", "Worker", "-NUMBER"]
)
def test_what_is_not_counted_is_not_named(program: Program, body: str) -> None:
    # GIVEN two threads that use small ints, interned strings, functions, modules, types, or their own objects
    text = source(body)
    running = program(text)

    # WHEN their line is looked at, THEN nothing is named
    assert names_on(running.pid, line_of(text, body), lambda _: True) == {}


def test_a_cell_is_named_inside_its_closure(program: Program) -> None:
    # GIVEN threads that call one closure
    text = source("closure()")
    running = program(text)

    # WHEN the closure's own line is looked at, THEN the variable is named as a cell
    line = line_of(text, "def closure(): return limit")
    assert names_on(running.pid, line, lambda named: "cell limit" in named)


def test_the_sampler_names_what_makes_a_line_slow(
    program: Program, free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN two threads that contend for one attribute
    running = program(source("CONFIG.value"))
    prefer(running.pid)
    counted = {"CONFIG", "CONFIG.value"}
    if version_of(free_threaded_python) >= (3, 15):
        counted -= DEFERRED_ON_3_15

    # WHEN the process is sampled: again if they took turns instead of running at once, as on a busy machine
    hot: tuple[HotLine, ...] = ()
    for recording in recordings(running.pid, tmp_path, 3.0, 7 if cores() > 1 else 1):
        hot = Session(recording).snapshot().hot
        assert recording.verify() == ()
        for line in hot:
            # THEN only that line has the objects' names
            assert line.frame.function == "loop" or not line.shared
            named = {one.name: one.type_name for one in line.shared if one.name != one.type_name}
            assert named.keys() <= {"CONFIG", "CONFIG.value"}
            # AND what no look at the line has named yet is told by its type, never beside the name
            by_type = {one.type_name for one in line.shared if one.name == one.type_name}
            assert by_type <= {"Config", "object"} - set(named.values())
            # AND at last it has those that are counted, and the machine code
            if named.keys() >= counted and "_Py_DecRefShared" in dict(line.native):
                return
        if recording.settings.native_missing is not None:
            assert recording.shared(0, len(recording)) == {}
            return
    assert cores() == 1, f"not named: {[(line.frame, line.shared, line.native) for line in hot[:3]]}"


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
    seen = None
    for recording in recordings(running.pid, tmp_path, 4.0, 4):
        pauses = Session(recording).pauses()
        # THEN whoever is known to have asked for a pause is that thread, at its line
        known = [each for each in pauses if each.confidence is Confidence.KNOWN]
        assert {each.requester.name for each in known if each.requester} <= {"collector"}
        assert all(each.stack[0].function == "collect" for each in known[:1])
        # AND most of the pauses' time is known
        of_all = sum(each.total_ns for each in pauses)
        seen = of_all, known
        if known and known[0].count >= 3 and sum(each.total_ns for each in known) > 0.5 * of_all:
            assert known[0].threads_max >= 1
            break
    else:
        pytest.fail(f"length of all, and the known: {seen}")


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
        print("ready", os.getpid(), flush=True)
        for target, name in ((work, "worker-1"), (fork, "forker")):
            threading.Thread(target=target, name=name, daemon=True).start()
        time.sleep(1000)
        """
    )

    # WHEN it is sampled, THEN whoever is known to have asked is that thread
    pauses: tuple[Pauses, ...] = ()
    for recording in recordings(running.pid, tmp_path, 3.0, 4):
        pauses = Session(recording).pauses()
        known = {
            each.requester.name for each in pauses if each.confidence is Confidence.KNOWN and each.requester
        }
        assert known <= {"forker"}
        if known or not pauses:
            break
    else:
        pytest.fail(f"nobody is known to have asked for {pauses}")
