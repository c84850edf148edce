"""What the cockpit costs and how soon it answers.

In: made-up recordings with 64 and 512 threads, one of an hour with 500, and a live target with 8 busy and 56
idle threads. Out: a table with the goals; the exit status is 1 if one is missed. Takes about five minutes.

A refresh is what happens once a second while a program is recorded: the worker reads the new second, computes
the last minute anew, and the screen of 200x60, with four panes on it, is painted. Keys are pressed on a real
terminal (a pseudo-terminal of the kernel), and answered when the first bytes of the new pane arrive.

Usage: python bench/cockpit.py [REFRESHES]
"""

from __future__ import annotations

import asyncio
import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]

from generate_recording import generate  # noqa: E402
from measuring import interpreters, process_cpu_s, table, target  # noqa: E402

from ftdiag.model import Snapshot  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from ftdiag.summing import sum_up  # noqa: E402
from ftdiag.tui.app import CockpitApp  # noqa: E402
from ftdiag.tui.base import collect_seldom  # noqa: E402
from ftdiag.tui.look import DARK  # noqa: E402
from real_terminal import RealTerminal, real_terminal  # noqa: E402

SECOND_NS = 1_000_000_000
GOALS_MS = {64: 40.0, 512: 90.0}
KEY_GOAL_MS = 100.0
VIEW_GOAL_CORES = 0.15
FIRST_LIVE_GOAL_S, FIRST_OPEN_GOAL_S = 1.5, 1.0
WATCHED_S = 15.0
WARM_REFRESHES = 70
KEYS = 40
FLAME_GOAL_S, HTML_GOAL_S, HTML_GOAL_MB = 2.0, 10.0, 5.0


class Growing:
    """A finished recording as if it were written now: every refresh it is a second longer."""

    live = True
    watches = False

    def __init__(self, session: Session, first_s: int) -> None:
        self._session = session
        self._whole = session.recording.span_ns() or (0, 0)
        self._end_ns = self._whole[0] + first_s * SECOND_NS
        self.refreshes = 0

    @property
    def session(self) -> Session:
        """What answers questions about time."""
        return self._session

    @property
    def failure(self) -> None:
        """Nothing fails."""

    def refresh(self) -> bool:
        """A second more, from the start again at the end."""
        self.refreshes += 1
        self._end_ns += SECOND_NS
        if self._end_ns > self._whole[1]:
            self._end_ns = self._whole[0] + 60 * SECOND_NS
        return True

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The picture of a range."""
        return self._session.snapshot(t0_ns, self._end_ns if t1_ns is None else t1_ns)

    def span_ns(self) -> tuple[int, int]:
        """What there is so far."""
        return self._whole[0], self._end_ns

    def close(self) -> None:
        """Nothing to let go of."""


async def refreshing(path: Path, count: int) -> float:
    """CPU milliseconds a refresh."""
    with Recording.open(path) as recording:
        source = Growing(Session(recording), 60)
        app = CockpitApp(source, refresh_seconds=0.001, ascii_only=False, theme=DARK)
        async with app.run_test(size=(200, 60)) as pilot:
            # After its first minute a view has seen all that it shows while it was new.
            while source.refreshes < WARM_REFRESHES:
                await pilot.pause(0.01)
            # As the cockpit does on a real terminal.
            collect_seldom()
            begin, cpu = source.refreshes, time.process_time()
            while source.refreshes < begin + count:
                # Painted between two of them, as it is when they are a second apart.
                await asyncio.sleep(0.02)
            spent = time.process_time() - cpu
            return 1000 * spent / (source.refreshes - begin)


def first_screen(terminal: RealTerminal, *arguments: object) -> float:
    """Seconds from the command to the first picture with data."""
    begin = time.monotonic()
    terminal.start(*arguments)
    terminal.shows(r"pid \d+.*Python")
    return time.monotonic() - begin


def key_latency_ms(terminal: RealTerminal) -> list[float]:
    """Milliseconds from each key to the new pane, in which bytes of it are on their way to the screen."""
    times: list[float] = []
    for number in range(KEYS):
        key, title = (("3", b"3 Locks"), ("2", b"2 Threads"))[number % 2]
        terminal.drain(0.15)
        begin = time.monotonic()
        terminal.type(key)
        seen = b""
        while title not in seen and time.monotonic() < begin + 10:
            if select.select([terminal.descriptor], [], [], 0.05)[0]:
                seen += os.read(terminal.descriptor, 65_536)
        times.append(1000 * (time.monotonic() - begin))
    return times


def echo_latency_ms(terminal: RealTerminal) -> list[float]:
    """Milliseconds from each letter of a filter to its echo."""
    times: list[float] = []
    for _ in range(KEYS // 8):
        terminal.type("/")
        terminal.drain(0.3)
        for letter in "worker-1":
            begin = time.monotonic()
            terminal.type(letter)
            seen = b""
            while letter.encode() not in seen and time.monotonic() < begin + 10:
                if select.select([terminal.descriptor], [], [], 0.05)[0]:
                    seen += os.read(terminal.descriptor, 65_536)
            times.append(1000 * (time.monotonic() - begin))
            terminal.drain(0.1)
        terminal.type("\x1b")
        terminal.drain(0.3)
    return times


def whole_recording(path: Path) -> tuple[float, float, float]:
    """Seconds for the flame graph of all of a long recording, for its HTML report, and the report's MB."""
    command = [sys.executable, "-m", "ftdiag", "report", os.fspath(path), "--format", "html"]
    begin = time.monotonic()
    report = subprocess.run(command, check=True, capture_output=True).stdout
    html_s = time.monotonic() - begin
    with Recording.open(path) as recording:
        session = Session(recording)
        begin = time.monotonic()
        session.flame_graph(None, None)
        return time.monotonic() - begin, html_s, len(report) / 1e6


def main() -> int:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rows: list[tuple[str, str, str, bool]] = []
    pythons = interpreters(13)

    def row(what: str, value: float, goal: float, unit: str, more: str = "") -> None:
        rows.append((what, f"at most {goal:g} {unit}", f"{value:.3g} {unit}{more}", value <= goal))

    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
        for threads, goal in GOALS_MS.items():
            path = Path(scratch) / f"{threads}.ftdiag"
            generate(
                path, seconds=80 + WARM_REFRESHES + count, threads=threads, busy=threads // 8, rate_hz=100
            )
            row(f"CPU of a refresh, {threads} threads", asyncio.run(refreshing(path, count)), goal, "ms")
        minute = Path(scratch) / "minute.ftdiag"
        generate(minute, seconds=60, threads=64, busy=8, rate_hz=100)
        opening: list[float] = []
        for _ in range(3):
            with real_terminal(120, 40) as terminal:
                opening.append(first_screen(terminal, "open", minute))
                terminal.type("q")
                terminal.ended_with(0)
        row("first screen of a minute's recording", statistics.median(opening), FIRST_OPEN_GOAL_S, "s")
        python = next(iter(pythons.values()))
        with target(python, 1, 63) as running, real_terminal(120, 40) as terminal:
            row("first screen, live", first_screen(terminal, "attach", running.pid), FIRST_LIVE_GOAL_S, "s")
            time.sleep(1)
            view = terminal.foreground
            begin, cpu = time.monotonic(), process_cpu_s(view)
            terminal.drain(WATCHED_S)
            used = (process_cpu_s(view) - cpu) / (time.monotonic() - begin)
            row("CPU of the view, live, a refresh a second", used, VIEW_GOAL_CORES, "core")
            times = sorted(key_latency_ms(terminal))
            more = f" (worst of {len(times)}: {times[-1]:.0f} ms)"
            row("key to new pane, live", statistics.median(times), KEY_GOAL_MS, "ms", more)
            echoes = sorted(echo_latency_ms(terminal))
            more = f" (worst of {len(echoes)}: {echoes[-1]:.0f} ms)"
            row("echo of a letter of a filter, live", statistics.median(echoes), KEY_GOAL_MS, "ms", more)
            terminal.type("q")
            terminal.shows("Keep the recording")
            terminal.type("d")
            terminal.ended_with(0)
        hour = Path(scratch) / "hour.ftdiag"
        generate(hour, seconds=3600, threads=500, busy=30, rate_hz=100)
        ended = threading.Event()
        ended.set()
        sum_up(hour, ended)  # as `ftdiag record` does while it records
        flame_s, html_s, html_mb = whole_recording(hour)
        row("flame graph of an hour of 500 threads", flame_s, FLAME_GOAL_S, "s")
        row("HTML of an hour of 500 threads", html_s, HTML_GOAL_S, "s")
        row("size of it", html_mb, HTML_GOAL_MB, "MB")
    table(("what", "goal", "reached", "met"), [(*cells, "yes" if met else "no") for *cells, met in rows])
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
