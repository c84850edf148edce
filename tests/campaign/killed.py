"""ftdiag killed while it looks: recorders, samplers, both, reports, cockpits, cockpits whose sampler dies,
trackers that have memray attached.

In: how many, and a limit in seconds: `python -m tests.campaign.killed 200 600`. Out: for each kind how
many, the longest loss, and everything that was not right; the exit status is 1 if there was anything. Right
is: at most a second lost, every file opens and is undamaged, after five seconds no process and no temporary
file is left, and the target is as it was. The seed is the number: `--only 17` runs that one again.
"""

from __future__ import annotations

import argparse
import os
import pty
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ftdiag.errors import FtdiagError
from ftdiag.recording.reader import Recording
from tools.workloads import running_workload

LOST_AT_MOST_S: Final = 1.0
GONE_WITHIN_S: Final = 5.0
BEGINS_WITHIN_S: Final = 100.0
LONGEST_LOOK_S: Final = 3.0
AT_ONCE: Final = 3
KINDS: Final = ("recorder", "sampler", "both", "report", "cockpit", "cockpit's sampler", "tracker")
PROGRAMS: Final = Path(__file__).parents[1] / "programs"

TARGET: Final = """
import os, threading, time
def work():
    while True:
        sum(range(2000))
        time.sleep(0.005)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(100_000)
"""


@dataclass
class Look:
    """One ftdiag at work: its process, where it writes, what it drew or said."""

    process: subprocess.Popen[bytes]
    folder: Path
    recording: Path | None
    terminal: int | None = None
    said: bytearray = field(default_factory=bytearray)

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take in what it says for so long, or until something holds."""
        deadline = time.monotonic() + seconds
        stream = self.terminal if self.terminal is not None else self._output
        while time.monotonic() < deadline and not until():
            if select.select([stream], [], [], 0.05)[0]:
                data = b""
                with suppress(OSError):  # a terminal without a program
                    data = os.read(stream, 65_536)
                if not data:
                    time.sleep(0.05)
                self.said += data

    @property
    def _output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()


@contextmanager
def look_at(pid: int, kind: str, folder: Path) -> Iterator[Look]:
    """Ftdiag looking at a process as fits the kind; nothing of it is left afterwards."""
    path = folder / "a.ftdiag"
    command = [sys.executable, "-m", "ftdiag"]
    kept: Path | None = path
    if kind in ("recorder", "sampler", "both"):
        command += ["record", str(pid), "-o", str(path)]
    elif kind == "report":
        command, kept = [*command, "attach", str(pid), "--duration", "100", "--format", "text"], None
    elif kind == "tracker":
        # memray is attached once the look itself is over.
        command += ["attach", str(pid), "--duration", "0.5", "--format", "text", "--record", str(path)]
        command += ["--memory", "--yes", "--memory-duration", "600"]
    elif kind == "cockpit":
        command, kept = [*command, "attach", str(pid)], None
    else:
        command += ["attach", str(pid), "--record", str(path)]
    environment = {**os.environ, "TMPDIR": str(folder), "TERM": "xterm-256color"}
    if kind.startswith("cockpit"):
        terminal, slave = pty.openpty()
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        look = Look(process, folder, kept, terminal)
    else:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        look = Look(process, folder, kept)
    try:
        yield look
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if look.terminal is not None:
            os.close(look.terminal)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def tracked_target(python: str) -> Iterator[int]:
    """A program that the tests' stand-in for memray can attach to, one for each tracker."""
    program = PROGRAMS / "tracked.py"
    with (
        tempfile.TemporaryDirectory(prefix="ftdiag-home-") as home,
        running_workload(
            Path(python), str(program), environ={"HOME": home, "PYTHONPATH": str(PROGRAMS / "fake_memray")}
        ) as running,
    ):
        yield running.pid


def is_tracked(pid: int) -> bool:
    """Whether the program writes a capture."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if "capture.bin" in os.readlink(f"/proc/{pid}/fd/{name}"):
                return True
    return False


def of_folder(folder: Path) -> list[int]:
    """The living processes that were started with this folder for temporary files."""
    wanted = f"TMPDIR={folder}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                    if state not in "ZX":
                        found.append(int(name))
    return found


def recordings_in(folder: Path) -> list[Path]:
    """Recordings that are there by now, also in private folders."""
    return [*folder.glob("a.ftdiag"), *folder.glob("ftdiag-live-*/recording")]


def run_one(
    number: int,
    pid: int,
    python: str,
    *,
    gone_within_s: float = GONE_WITHIN_S,
    lost_at_most_s: float = LOST_AT_MOST_S,
) -> tuple[str, list[str], float | None]:
    """One kill: its kind, what was wrong, and the seconds that were lost."""
    kind = KINDS[number % len(KINDS)]
    with ExitStack() as stack:
        if kind == "tracker":
            pid = stack.enter_context(tracked_target(python))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftdiag-campaign-")))
        wrong, lost = _killed(random.Random(number), kind, pid, folder, gone_within_s)
        if kind == "tracker" and not wrong and not Path(f"/proc/{pid}").exists():
            wrong.append("the target did not survive")
    if lost is not None and lost > lost_at_most_s:
        wrong.append(f"lost {lost:.2f} s")
    return kind, wrong, lost


def _killed(
    chance: random.Random, kind: str, pid: int, folder: Path, gone_within_s: float
) -> tuple[list[str], float | None]:
    wrong: list[str] = []
    with look_at(pid, kind, folder) as look:

        def has_begun() -> bool:
            return bool(recordings_in(folder)) and (kind != "tracker" or is_tracked(pid))

        look.read(BEGINS_WITHIN_S, until=has_begun)
        if not has_begun():
            return [f"nothing was begun: {bytes(look.said[-300:])!r}"], None
        look.read(chance.uniform(0.0, LONGEST_LOOK_S))
        samplers = [other for other in of_folder(folder) if other != look.process.pid]
        killed_ns = time.monotonic_ns()
        for victim in _victims(kind, look.process.pid, samplers):
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if kind == "cockpit's sampler":
            wrong += _goes_on(look, gone_within_s)
        gone = time.monotonic() + gone_within_s
        while (left := _left(folder, look)) and time.monotonic() < gone:
            look.read(0.1)
            look.process.poll()
        wrong += [f"left after {gone_within_s:g} s: {each}" for each in left]
        if kind == "tracker":
            look.read(0.2)
            if b"memray detach" not in look.said:
                wrong.append(f"it is not said that memray is still attached: {bytes(look.said[-300:])!r}")
    # A command that lives removes a recording in which nothing is yet.
    lives = kind in ("sampler", "cockpit's sampler")
    empty = lives and look.recording is not None and not look.recording.exists()
    if look.recording is None or empty:
        return wrong, None
    lost, problem = _lost_s(look.recording, killed_ns)
    return wrong + ([problem] if problem else []), None if kind == "tracker" else lost


def _victims(kind: str, command: int, samplers: list[int]) -> list[int]:
    if kind in ("sampler", "cockpit's sampler"):
        return samplers
    if kind == "tracker":
        return [other for other in samplers if b"ftdiag.tracker" in _command_of(other)]
    return [command, *samplers] if kind == "both" else [command]


def _goes_on(look: Look, within_s: float) -> list[str]:
    """A cockpit whose sampler died says so, stays, and can be left."""
    assert look.terminal is not None
    begin = len(look.said)
    look.read(within_s, until=lambda: b"SIGKILL" in look.said[begin:])
    wrong = (
        [] if b"SIGKILL" in look.said[begin:] else ["the cockpit does not say that its sampler was killed"]
    )
    if look.process.poll() is not None:
        return [*wrong, f"the cockpit ended with status {look.process.returncode}"]
    os.write(look.terminal, b"q")
    look.read(within_s, until=lambda: look.process.poll() is not None)
    return wrong if look.process.poll() is not None else [*wrong, "the cockpit cannot be left"]


def _left(folder: Path, look: Look) -> list[str]:
    """What should be gone: processes, and files other than the recording that was asked for."""
    left = [_command_of(pid).decode("utf-8", "replace")[:80] for pid in of_folder(folder)]
    wanted = set() if look.recording is None else {f"{look.recording}{end}" for end in ("", "-wal", "-shm")}
    return left + [str(path) for path in folder.iterdir() if str(path) not in wanted]


def _command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""


def _lost_s(path: Path, killed_ns: int) -> tuple[float | None, str | None]:
    """Seconds between the last tick that is in the recording and the kill; what is wrong with the file."""
    try:
        with Recording.open(path) as recording:
            damage = recording.verify()
            span = recording.span_ns()
    except FtdiagError as error:
        return None, f"the recording does not open: {error.what}"
    if damage:
        return None, f"the recording is damaged: {damage}"
    if span is None:
        return None, None
    return max(0.0, (killed_ns - span[1]) / 1e9), None


def state_of(pid: int) -> dict[str, str]:
    """What of a target must not change."""
    wanted = ("Threads", "SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "TracerPid")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    state = {
        name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name in wanted
    }
    return {**state, "descriptors": str(len(os.listdir(f"/proc/{pid}/fd")))}


def campaign(
    count: int,
    limit_s: float,
    python: str,
    *,
    only: int | None = None,
    gone_within_s: float = GONE_WITHIN_S,
    lost_at_most_s: float = LOST_AT_MOST_S,
) -> tuple[dict[str, list[float | None]], list[str]]:
    """Kill `count` times, or as often as there is time for: seconds lost by kind, and what was wrong."""
    numbers = iter([only] if only is not None else range(count))
    lost: dict[str, list[float | None]] = defaultdict(list)
    wrong: list[str] = []
    lock = threading.Lock()
    end = time.monotonic() + limit_s
    target = subprocess.Popen([python, "-c", TARGET], stdout=subprocess.PIPE)
    assert target.stdout is not None
    try:
        pid = int(target.stdout.readline())
        before = state_of(pid)

        def work() -> None:
            while time.monotonic() < end:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                kind, problems, seconds = run_one(
                    number, pid, python, gone_within_s=gone_within_s, lost_at_most_s=lost_at_most_s
                )
                with lock:
                    lost[kind].append(seconds)
                    wrong.extend(f"{number} {kind}: {problem}" for problem in problems)

        workers = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if state_of(pid) != before:
            wrong.append(f"the target changed: {before} -> {state_of(pid)}")
    finally:
        target.kill()
        target.wait()
        target.stdout.close()
    return lost, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and print what came of it."""
    from tools.provision.search import find_interpreters

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("limit_s", type=float)
    parser.add_argument("--only", type=int, help="the number of one kill")
    parser.add_argument("--python", help="a free-threaded interpreter; default: the first that is found")
    asked = parser.parse_args(arguments)
    python = asked.python or str(find_interpreters().chosen[0].path)
    lost, wrong = campaign(asked.count, asked.limit_s, python, only=asked.only)
    for kind in KINDS:
        known = [seconds for seconds in lost[kind] if seconds is not None]
        longest = f"at most {max(known):.2f} s lost" if known else "nothing to lose"
        print(f"{kind:18} {len(lost[kind]):4} kills, {longest}")
    for line in wrong:
        print(f"WRONG  {line}")
    print(f"{sum(map(len, lost.values()))} kills, {len(wrong)} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
