"""How soon something is there: the first tick, a report, a list, the first picture of the cockpit.

In: a target of our own with no, 8 or 24 busy threads, in a session of its own, as services are. Out: a table,
medians of seconds from the command on, and CPU seconds of all that a command started. As root, and with the
same user but no capabilities: then there are no early turns, no events of the kernel, as for any user.

A target without busy threads has nothing to be found: "none".

Usage: python bench/start.py [--rounds N] [--busy 0,8,24] [--rights root,user] [--against PYTHON]
                             [--only attach,list,open,demo,cockpit] [--same-session]

`--against` is the interpreter of another installation of ftdiag: both are measured in turns.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

import pyte

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from generate_recording import generate  # noqa: E402
from measuring import TARGET, interpreters, table, without_capabilities  # noqa: E402

from ftdiag.recording.reader import Recording  # noqa: E402

PATIENCE_S = 60.0
WATCHED_S = 6.0
"""How long a cockpit is left alone: until it shows a finding, at most so long."""
GIVEN_UP_S = 3.0
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=][0-9;]*[A-Za-z]")

Figures = dict[str, list[float]]


def rights(name: str) -> Callable[[], None] | None:
    """What a child does before it executes a command, for `root` and `user`."""
    return without_capabilities if name == "user" and os.geteuid() == 0 else None


@contextmanager
def busy_target(python: Path, busy: int, name: str, *, own_session: bool) -> Iterator[int]:
    """A target with `busy` threads that compute and four that wait; its pid."""
    lower = rights(name)

    def begin() -> None:
        if own_session:
            os.setsid()
        if lower is not None:
            lower()

    with tempfile.NamedTemporaryFile(prefix="ftdiag-bench-") as shared:
        shared.truncate(4096)
        process = subprocess.Popen(
            [python, TARGET, shared.name, str(busy), "4"],
            stdout=subprocess.PIPE,
            preexec_fn=begin,  # noqa: PLW1509 - system calls alone, takes no lock
        )
        assert process.stdout is not None
        try:
            process.stdout.readline()
            time.sleep(1.0)
            yield process.pid
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def children_cpu_s() -> float:
    """CPU time of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    """Ours, in which Python writes its compiled files, as everywhere."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    return {**{k: v for k, v in os.environ.items() if k not in left_out}, "TERM": "xterm-256color"}


def attached(python: str, pid: int, name: str, figures: Figures) -> None:
    """`attach --duration 1 --format json`."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        path = Path(scratch) / "seen"
        cpu_s, begin_ns = children_cpu_s(), time.monotonic_ns()
        command = [python, "-P", "-m", "ftdiag", "attach", str(pid), "--duration", "1", "--format", "json"]
        done = subprocess.run(
            [*command, "--record", path],
            preexec_fn=rights(name),
            start_new_session=True,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        whole_s = (time.monotonic_ns() - begin_ns) / 1e9
        if done.returncode:
            sys.exit(f"attach ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
        figures["attach: CPU"].append(children_cpu_s() - cpu_s)
        figures["attach, 1 s: whole command"].append(whole_s)
        with Recording.open(path) as recording:
            ticks = next(iter(recording.all_samples(0, 1))).tick_ns
            figures["attach: first tick"].append((int(ticks[0]) - begin_ns) / 1e9)
            figures["attach: from the last tick to the end"].append(
                whole_s - (int(recording.t1_ns[-1]) - begin_ns) / 1e9
            )


def listed(python: str, pid: int, name: str, figures: Figures) -> None:
    """`list`."""
    cpu_s, begin = children_cpu_s(), time.monotonic()
    done = subprocess.run(
        [python, "-P", "-m", "ftdiag", "list"],
        preexec_fn=rights(name),
        start_new_session=True,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    figures["list"].append(time.monotonic() - begin)
    figures["list: CPU"].append(children_cpu_s() - cpu_s)
    if str(pid) not in done.stdout.decode():
        sys.exit(f"list does not show process {pid}:\n{done.stdout.decode()}")


def cockpit(python: str, name: str, figures: Figures, what: str, sights: dict[str, str], *args: str) -> None:
    """A command that draws on a terminal of 80x24: seconds until the screen matches each of `sights`."""
    master, slave = os.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    lower = rights(name)

    def begin_child() -> None:
        os.login_tty(slave)
        if lower is not None:
            lower()

    begin, cpu_s = time.monotonic(), children_cpu_s()
    process = subprocess.Popen(
        [python, "-P", "-m", "ftdiag", *args],
        env=environment(),
        preexec_fn=begin_child,  # noqa: PLW1509 - system calls alone
    )
    os.close(slave)
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    left = {sight: re.compile(pattern, re.MULTILINE) for sight, pattern in sights.items()}
    while left and time.monotonic() < begin + WATCHED_S + GIVEN_UP_S * (not args[0].startswith("attach")):
        if not select.select([master], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(master, 65_536)
        except OSError:
            break
        now = time.monotonic() - begin
        stream.feed(_UNKNOWN_TO_PYTE.sub(b"", data))
        text = "\n".join(screen.display)
        for sight in [one for one, pattern in left.items() if pattern.search(text)]:
            del left[sight]
            figures[f"{what}: {sight}"].append(now)
    for sight in left:
        figures[f"{what}: {sight}"].append(float("inf"))
    if left and os.environ.get("FTDIAG_BENCH_SHOW"):
        print("\n".join(screen.display))
    with suppress(OSError):
        os.write(master, b"q")
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([master], [], [], 0.02)[0]:
            with suppress(OSError):
                os.read(master, 65_536)
    if process.poll() is None:
        process.kill()
    process.wait()
    os.close(master)
    figures[f"{what}: CPU"].append(children_cpu_s() - cpu_s)


OPEN_SIGHTS = {"first picture": r"\S", "data": r"useful|not used|busy"}
LIVE_SIGHTS = {**OPEN_SIGHTS, "first finding": r"[●▲■!]|critical|warning"}


def one_round(python: str, pid: int, name: str, only: set[str], recording: Path, figures: Figures) -> None:
    """Each command once."""
    if "attach" in only:
        attached(python, pid, name, figures)
    if "list" in only:
        listed(python, pid, name, figures)
    if "open" in only:
        cockpit(python, name, figures, "open", OPEN_SIGHTS, "open", str(recording))
    if "demo" in only:
        cockpit(python, name, figures, "demo", OPEN_SIGHTS, "demo")
    if "cockpit" in only:
        cockpit(python, name, figures, "cockpit", LIVE_SIGHTS, "attach", str(pid))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", default="0,8,24")
    parser.add_argument("--rights", default="root,user" if os.geteuid() == 0 else "user")
    parser.add_argument("--only", default="attach,list,open,demo,cockpit")
    parser.add_argument("--against")
    parser.add_argument("--same-session", action="store_true")
    asked = parser.parse_args()
    only = set(asked.only.split(","))
    if os.geteuid() == 0:  # what measures comes before what is measured; children do not inherit it
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(50))
    pythons = {"here": sys.executable, **({"there": asked.against} if asked.against else {})}
    python = list(interpreters().values())[-1]
    columns: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        recording = Path(scratch) / "minute.ftdiag"
        generate(recording, seconds=60, threads=64, busy=8, rate_hz=100)
        for name in asked.rights.split(","):
            for busy in map(int, asked.busy.split(",")):
                with busy_target(python, busy, name, own_session=not asked.same_session) as pid:
                    for which in pythons:
                        columns[f"{name}, {busy} busy, {which}"] = defaultdict(list)
                    for _ in range(asked.rounds):
                        for which, interpreter in pythons.items():
                            figures = columns[f"{name}, {busy} busy, {which}"]
                            one_round(interpreter, pid, name, only, recording, figures)
    names = list(dict.fromkeys(what for figures in columns.values() for what in figures))
    table(
        ["seconds, median (worst)", *columns],
        [
            [
                what,
                *(
                    f"{statistics.median(figures[what]):.2f} ({max(figures[what]):.2f})".replace(
                        "inf", "none"
                    )
                    if figures[what]
                    else "-"
                    for figures in columns.values()
                ),
            ]
            for what in names
        ],
    )


if __name__ == "__main__":
    main()
