"""Measures how right objects are named: those that threads contend for, of planted programs.

In: the programs below under every free-threaded interpreter at hand: objects whose references threads count,
and objects whose own locks they wait for. Out: for each what the recording says of the object: its type and
path, who made it and how it is counted, beside what is right; how many are right. Exits with 1 where under
90 % are.

Usage: python bench/paths.py [NAME ...] [--series 3.14] [--seconds 6]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from ftdiag.launcher import SamplerProcess  # noqa: E402
from ftdiag.model import SharedObject  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.sampling.options import SamplerOptions  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from ftdiag.wording.objects import object_words  # noqa: E402
from tools.provision.search import find_interpreters  # noqa: E402

NEEDED: Final = 0.9
FRAME: Final = """
    import itertools, os, threading, time
    class Thing:
        def __init__(self, **more): self.__dict__.update(more)
    class Pool:
        _shared = None
    Pool._shared = Thing()
    def neg(value): return -value
    class Key:
        def __init__(self, value): self.value = value
        def __hash__(self): return self.value
        def __eq__(self, other): return self.value == other.value
    {setup}
    def body():
        {before}
        while True:
            for _ in range(1000):
                {line}
    for _ in range(4):
        threading.Thread(target=body, daemon=True).start()
    print("ready", os.getpid(), flush=True)
    time.sleep(1000)
"""
PROGRAMS: Final = {
    # Name: (set-up, before the loop, line of the loop, type, path).
    "global": ("CONFIG = Thing()", "pass", "CONFIG", "Thing", "__main__.CONFIG"),
    "list": ("ITEMS = [1, 2]", "pass", "ITEMS[0]", "list", "__main__.ITEMS"),
    "attribute": ("APP = Thing(config=Thing())", "app = APP", "app.config", "Thing", "__main__.APP.config"),
    "dict item": (
        'CONFIG = Thing(routes={"x": Thing()})',
        "routes = CONFIG.routes",
        'routes["x"]',
        "Thing",
        "__main__.CONFIG.routes['x']",
    ),
    "list item": ("ITEMS = [Thing(), 2]", "items = ITEMS", "items[0]", "Thing", "__main__.ITEMS[0]"),
    "class attribute": ("pass", "pass", "Pool._shared", "Thing", "__main__.Pool._shared"),
    "closure": (
        "def make():\n    limit = Thing()\n    def handler(): return limit\n    return handler\n"
        "HANDLER = make()",
        "handler = HANDLER",
        "handler()",
        "Thing",
        "limit of __main__.HANDLER",
    ),
    "iterator": ("NUMBERS = itertools.count()", "numbers = NUMBERS", "next(numbers)", "itertools.count",
                 "__main__.NUMBERS"),
    "nested": ("APP = Thing(pool=Thing(items=[Thing()]))", "items = APP.pool.items", "items[0]", "Thing",
               "__main__.APP.pool.items[0]"),
    "bound method": ("APP = Thing(); APP.call = Pool().__repr__", "app = APP", "app.call", None,
                     "__main__.APP.call"),
}  # fmt: skip

LOCKED: Final = {
    # The same, of objects whose own lock the line waits for: it works long under it.
    "lock of global": ("ITEMS = list(range(40_000, 0, -1))", "pass", "ITEMS.sort(key=neg)", "list",
                       "__main__.ITEMS"),
    "lock of attribute": ("APP = Thing(rows=list(range(40_000)))", "app = APP", "app.rows.sort(key=neg)",
                          "list", "__main__.APP.rows"),
    "lock of dict item": ('CONFIG = Thing(tables={"x": list(range(40_000))})', 'rows = CONFIG.tables["x"]',
                          "rows.sort(key=neg)", "list", "__main__.CONFIG.tables['x']"),
    "lock of class attribute": ("Pool.rows = list(range(40_000))", "rows = Pool.rows", "rows.sort(key=neg)",
                                "list", "__main__.Pool.rows"),
    "lock of closure": (
        "def make():\n    rows = list(range(40_000))\n    def handler(): rows.sort(key=neg)\n"
        "    return handler\nHANDLER = make()",
        "handler = HANDLER",
        "handler()",
        "list",
        "rows of __main__.HANDLER",
    ),
    "lock of dict": ("SEEN = {Key(n): Key(n) for n in range(20_000)}", "seen, like = SEEN, dict(SEEN)",
                     "seen == like", "dict", "__main__.SEEN"),
}  # fmt: skip

DEFERRED: Final = {"global": ("3.15",), "list": ("3.15",)}
"""Not contended on a version: it loads globals without counting them."""


def named(
    python: Path, program: tuple[str, str, str, str | None, str], seconds: float, *, locked: bool
) -> list[SharedObject]:
    """What a recording of the program says of its shared objects, or of those whose locks are waited for."""
    setup, before, line, _, _ = program
    with tempfile.TemporaryDirectory() as folder, SamplerProcess() as sampler:
        source = Path(folder) / "program.py"
        source.write_text(textwrap.dedent(FRAME).format(setup=setup, before=before, line=line))
        sampler.spawn()
        running = subprocess.Popen(
            [python, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert running.stdout is not None
            told = running.stdout.readline().split()
            path = Path(folder) / "a.ftdiag"
            sampler.start(SamplerOptions(pid=int(told[1]), path=str(path), duration_s=seconds))
            sampler.wait_until_started()
            time.sleep(seconds)
            sampler.stop()
            with Recording.open(path) as recording:
                snapshot = Session(recording).snapshot()
            if locked:
                return [lock.of_object for lock in snapshot.locks if lock.of_object is not None]
            return [one for line in snapshot.hot for one in line.shared]
        finally:
            running.kill()
            running.communicate()


def main() -> int:
    """Exit status 0 or 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--series", action="append")
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    right = whole = 0
    for interpreter in find_interpreters().chosen:
        if options.series and interpreter.series not in options.series:
            continue
        for name, program in (PROGRAMS | LOCKED).items():
            deferred = name in DEFERRED and interpreter.series in DEFERRED[name]
            if deferred or (options.names and name not in options.names):
                continue
            *_, kind, path = program
            found = named(interpreter.path, program, options.seconds, locked=name in LOCKED)
            fits = [
                one
                for one in found
                if one.facts is not None and one.facts.path == path and kind in (None, one.type_name)
            ]
            whole += 1
            right += bool(fits)
            told = "; ".join(map(object_words, (fits or found)[:3]))
            print(f"{interpreter.series} {name:24} {'right' if fits else 'WRONG'}  {told}", flush=True)
    print(f"{right} of {whole} right")
    return 0 if right >= NEEDED * whole else 1


if __name__ == "__main__":
    sys.exit(main())
