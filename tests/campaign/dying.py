"""Targets that die, stop, exec, fork or lose their interpreter while they are attached to: told rightly, in
time.

In: how many targets, and a limit in seconds: `python -m tests.campaign.dying 100 600`. Out: for each kind
how many were told rightly and how long that took, every one that was not; the exit status is 1 if there was
any.

What is right stands in `KINDS`, beside what is done to the target. When it is done is drawn anew for each
target, from before the first look until long after it; the seed is the number of the target, so that one
can be run again: `python -m tests.campaign.dying 100 600 --only 17`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ftdiag.errors import FtdiagError
from ftdiag.model import ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.sources.kernel.tasks import state_letter

TOLD_WITHIN_S: Final = 5.0
DURATION_S: Final = 2.0
LATEST_ACT_S: Final = 1.6
"""After the look was begun; it lasts longer."""
WHILE_IT_ATTACHES_S: Final = 0.5
"""In this time ftdiag starts, looks at the target for the first time and attaches."""
HANG_S: Final = 100.0
AT_ONCE: Final = 3
"""Targets that are looked at at the same time."""
EXITS_WITH: Final = 7

TARGET: Final = """
import ctypes, mmap, os, platform, signal, sys, threading, time
kind = sys.argv[1]
libc = ctypes.CDLL(None)
over = threading.Event()
def work():
    while True:
        sum(range(400))
        time.sleep(0.01)
def exit(*_):
    os._exit(7)
def exec_python(*_):
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)"])
def exec_other(*_):
    os.execv("/bin/sleep", ["sleep", "1000"])
def main_ends(*_):
    libc.pthread_exit(0)
def finalise(*_):
    # What Py_FinalizeEx calls last: the process lives on without an interpreter.
    ctypes.pythonapi.Py_AtExit.argtypes = [ctypes.c_void_p]
    ctypes.pythonapi.Py_AtExit(ctypes.cast(libc.pause, ctypes.c_void_p))
    over.set()
def unload(*_):
    # As dlclose leaves it: the memory of _PyRuntime is gone. Whoever did that must not come back to Python:
    # munmap(rdi, rsi), then pause(), in machine code.
    code = {"x86_64": "b80b000000 0f05 b822000000 0f05 ebf7",
            "aarch64": "e81a80d2 010000d4 000080d2 010080d2 020080d2 030080d2 280980d2 010000d4 faffff17"}
    blob = mmap.mmap(-1, 4096, prot=7)
    blob.write(bytes.fromhex(code[platform.machine()]))
    at = ctypes.addressof(ctypes.c_char.from_buffer(blob))
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime")) & -4096
    ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_size_t)(at)(runtime, 16 * 4096)
for _ in range(3):
    # Without a runtime no thread may run Python: there they wait in C.
    threading.Thread(target=libc.pause if kind == "unload" else work, daemon=True).start()
signal.signal(signal.SIGUSR1, {"exit": exit, "exec-python": exec_python, "exec-other": exec_other,
                               "main-ends": main_ends, "finalise": finalise,
                               "unload": unload}.get(kind, signal.SIG_IGN))
if kind.startswith("fork"):
    fork = os.fork if kind == "fork" else ctypes.PyDLL(None).fork
    child = fork()
    if child == 0:
        libc.prctl(1, 9)
        work()
    print(child, flush=True)
else:
    print(os.getpid(), flush=True)
while not over.is_set():
    time.sleep(0.01)
"""

GONE: Final = r"there is no process|has ended|nothing was seen"
NO_PYTHON: Final = r"process PID has no Python any more: "
"""It ended before it could be looked at."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a look at a target went."""

    pid: int
    status: int | None
    said: str
    recording: Path
    told_s: float
    """From the act until the look was over."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is done to a target, and what is right to be said: one of these patterns, with PID as its id."""

    name: str
    signal: signal.Signals | None
    right: tuple[str, ...]
    check: Callable[[Outcome], str | None] = field(default=lambda outcome: None)
    latest_s: float = LATEST_ACT_S
    """How long after the look was begun it may be done to it."""


def _stays_stopped(outcome: Outcome) -> str | None:
    """A stopped target stays stopped, and no finding is made of it."""
    if state_letter(outcome.pid, outcome.pid) != "T":
        return f"its state is {state_letter(outcome.pid, outcome.pid)} now"
    with Recording.open(outcome.recording) as recording:
        snapshot = Session(recording).snapshot()
    if ThreadState.HALTED not in snapshot.metrics.states_ns:
        return "no halted time"
    bad = [
        finding.rule_id for finding in snapshot.findings if finding.rule_id in ("deadlock", "stuck-thread")
    ]
    return f"findings: {', '.join(bad)}" if bad else None


def _has_python_threads(outcome: Outcome) -> str | None:
    """What was looked at has threads of Python with stacks."""
    with Recording.open(outcome.recording) as recording:
        threads = Session(recording).snapshot().threads
    python = [thread for thread in threads if thread.info.python]
    if not python:
        return "no thread of Python"
    return None if any(line for thread in python for line in thread.hot) else "no stack of Python"


OVER: Final = "the requested duration was reached"
KINDS: Final[tuple[Kind, ...]] = (
    Kind("kill", signal.SIGKILL, (r"process PID was killed by SIGKILL", GONE)),
    Kind(
        "kill-at-once",
        signal.SIGKILL,
        (r"process PID was killed by SIGKILL", GONE),
        latest_s=WHILE_IT_ATTACHES_S,
    ),
    Kind("terminate", signal.SIGTERM, (r"process PID was killed by SIGTERM", GONE)),
    Kind("exit", signal.SIGUSR1, (rf"process PID exited with status {EXITS_WITH}", GONE)),
    # Replaced before the first look: what is there then is what is looked at.
    Kind(
        "exec-python",
        signal.SIGUSR1,
        (r"replaced itself \(exec\): \S+ -c import time", OVER, "is not started yet"),
    ),
    Kind("exec-other", signal.SIGUSR1, (r"replaced itself \(exec\): sleep 1000", "is not a CPython process")),
    Kind("stop", signal.SIGSTOP, (r"process PID does not run: stopped by a signal",), _stays_stopped),
    Kind(
        "stop-at-once",
        signal.SIGSTOP,
        (r"process PID does not run: stopped by a signal",),
        _stays_stopped,
        latest_s=WHILE_IT_ATTACHES_S,
    ),
    Kind("finalise", signal.SIGUSR1, (NO_PYTHON + r"it was finalised", r"which was finalised")),
    Kind("unload", signal.SIGUSR1, (NO_PYTHON + r"its library was unloaded", r"is not a CPython process")),
    Kind("fork", None, (OVER,), _has_python_threads),
    Kind("fork-in-c", None, (OVER,), _has_python_threads),
    Kind("main-ends", signal.SIGUSR1, (OVER,), _has_python_threads),
)


def run_one(number: int, kind: Kind, python: str, folder: Path) -> tuple[str | None, float]:
    """Look at one target; what is wrong (`None`: nothing), and how long it took to be told."""
    chance = random.Random(number)
    path = folder / f"{number}.ftdiag"
    target = subprocess.Popen([python, "-c", TARGET, kind.name], stdout=subprocess.PIPE)
    assert target.stdout is not None
    try:
        line = target.stdout.readline()
        if not line.strip().isdigit():
            return "the target did not start", 0.0
        pid = int(line)
        look = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ftdiag",
                "record",
                str(pid),
                "-o",
                str(path),
                "--duration",
                f"{DURATION_S:g}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.0, kind.latest_s))
        acted = time.monotonic()
        if kind.signal is not None:
            target.send_signal(kind.signal)
        if chance.random() < 0.5 and kind.signal in (signal.SIGKILL, signal.SIGTERM):
            target.wait()  # else it stays a zombie
        try:
            said = look.communicate(timeout=HANG_S)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            look.kill()
            look.communicate()
            return f"still there after {HANG_S:g} s", HANG_S
        outcome = Outcome(pid, look.returncode, said, path, time.monotonic() - acted)
        return _judged(kind, outcome), outcome.told_s
    finally:
        target.kill()
        target.wait()
        target.stdout.close()
        for file in folder.glob(f"{number}.ftdiag*"):
            file.unlink(missing_ok=True)


def _judged(kind: Kind, outcome: Outcome) -> str | None:
    patterns = [pattern.replace("PID", str(outcome.pid)) for pattern in kind.right]
    told = next((pattern for pattern in patterns if re.search(pattern, outcome.said)), None)
    last = outcome.said.strip().replace("\n", " | ")[-400:]
    if told is None or "mistake in ftdiag" in outcome.said or "Traceback" in outcome.said:
        return f"status {outcome.status}, said: {last}"
    if told == GONE:
        return None
    try:
        problem = kind.check(outcome)
    except (FtdiagError, OSError) as error:
        problem = f"{type(error).__name__}: {error}"
    return None if problem is None else f"{problem}; said: {last}"


def campaign(
    count: int, limit_s: float, python: str, *, only: int | None = None, kinds: Sequence[Kind] = KINDS
) -> tuple[dict[str, list[float]], list[str]]:
    """Look at `count` targets, or as many as there is time for.

    Returns the seconds until each was told, by kind, and what was told wrongly.
    """
    numbers = iter([only] if only is not None else range(count))
    told: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    wrong: list[str] = []
    lock = threading.Lock()
    end = time.monotonic() + limit_s

    def work(folder: Path) -> None:
        while time.monotonic() < end:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            kind = kinds[number % len(kinds)]
            problem, seconds = run_one(number, kind, python, folder)
            with lock:
                told[kind.name].append(seconds)
                if problem is not None:
                    wrong.append(f"{number} {kind.name}: {problem}")

    with tempfile.TemporaryDirectory(prefix="ftdiag-campaign-") as name:
        workers = [threading.Thread(target=work, args=(Path(name),)) for _ in range(AT_ONCE)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return told, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and print what came of it."""
    from tools.provision.search import find_interpreters

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("limit_s", type=float)
    parser.add_argument("--only", type=int, help="the number of one target")
    parser.add_argument("--python", help="a free-threaded interpreter; default: the first that is found")
    asked = parser.parse_args(arguments)
    python = asked.python or str(find_interpreters().chosen[0].path)
    with suppress(OSError):
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    told, wrong = campaign(asked.count, asked.limit_s, python, only=asked.only)
    for name, seconds in told.items():
        late = sum(each > TOLD_WITHIN_S for each in seconds)
        if seconds:
            print(
                f"{name:12} {len(seconds):4} targets, told within {max(seconds):5.1f} s,"
                f" {late} later than {TOLD_WITHIN_S:g} s"
            )
    for line in wrong:
        print(f"WRONG  {line}")
    done = sum(map(len, told.values()))
    late = sum(each > TOLD_WITHIN_S for seconds in told.values() for each in seconds)
    print(f"{done} targets, {len(wrong)} told wrongly, {late} too late")
    return 1 if wrong or late else 0


if __name__ == "__main__":
    sys.exit(main())
