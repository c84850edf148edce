"""Whether the cockpit's memory stays flat while it is left open.

In: which way, and how long. Out: a table of resident memory over time; the exit status is 1 if it still
grows in the second half. Two ways:

- `growing`: another process writes a made-up program of 64 threads through the real writer, an hour of it,
  twenty times as fast as it would happen; the cockpit refreshes as often, and goes through all its panes.
- `live`: `ftdiag attach` on a real terminal and a real target, at its usual pace.

Usage: python bench/cockpit_memory.py growing [WINDOWS] | live [MINUTES]
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]

from generate_recording import generate  # noqa: E402
from measuring import interpreters, table, target  # noqa: E402

from ftdiag.commands.viewing import RecordingSource  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from ftdiag.tui.app import CockpitApp  # noqa: E402
from ftdiag.tui.look import DARK  # noqa: E402
from real_terminal import real_terminal  # noqa: E402

WINDOWS = 3600
PACE_S = 0.05
LOOKS = 20
MINUTES = 10.0
GROWTH_GOAL_MB = 5.0
"""By which resident memory may differ between the third and the last quarter: noise of the allocators."""
PANES = ("1", "2", "v", "enter", *"34mmm5671", "enter", *"1[+-0")
"""Keys. The whole recording is not among the ranges: what it takes follows from its length, up to a bound."""


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def write(path: Path, windows: int) -> None:
    """An hour, faster."""
    began = time.monotonic()

    def wait(second: int) -> None:
        time.sleep(max(0.0, began + PACE_S * (second + 1) - time.monotonic()))

    generate(path, seconds=windows, threads=64, busy=8, rate_hz=100, after=wait)


async def growing(path: Path, windows: int) -> list[tuple[int, float, int]]:
    """Windows shown, megabytes and objects, at regular intervals."""
    seen: list[tuple[int, float, int]] = []
    source = RecordingSource(Session(Recording.open(path)))
    app = CockpitApp(source, refresh_seconds=PACE_S, ascii_only=False, theme=DARK)
    async with app.run_test(size=(200, 60)) as pilot:
        while app.view.snapshot is None:
            await pilot.pause(0.01)
        pressed = 0
        while source.live and len(seen) < LOOKS:
            await asyncio.sleep(PACE_S * windows / LOOKS / 40)
            await pilot.press(PANES[pressed % len(PANES)])
            pressed += 1
            span = app.view.span_ns or (0, 0)
            shown = (span[1] - span[0]) // 1_000_000_000
            if shown >= (len(seen) + 1) * windows // LOOKS:
                gc.collect()
                seen.append((shown, resident_mb(), len(gc.get_objects())))
                print(*seen[-1], file=sys.stderr, flush=True)
    return seen


def live(minutes: float) -> list[tuple[int, float, int]]:
    """Seconds, megabytes of the view, and (for want of a look into it) its descriptors."""
    seen: list[tuple[int, float, int]] = []
    python = next(iter(interpreters().values()))
    with target(python, 1, 31) as running, real_terminal(120, 40) as terminal:
        terminal.start("attach", running.pid)
        terminal.shows(r"pid \d+.*Python")
        view = terminal.foreground
        began = time.monotonic()
        keys = 0
        while len(seen) < LOOKS:
            terminal.drain(60 * minutes / LOOKS / 10)
            terminal.type("123456741w"[keys % 10])
            keys += 1
            if time.monotonic() - began >= 60 * minutes * (len(seen) + 1) / LOOKS:
                descriptors = len(os.listdir(f"/proc/{view}/fd"))
                seen.append((round(time.monotonic() - began), resident_mb(view), descriptors))
                print(*seen[-1], file=sys.stderr, flush=True)
        terminal.type("q")
        terminal.ended_with(0)
    return seen


def main() -> int:
    """Measure and print."""
    way = sys.argv[1] if len(sys.argv) > 1 else "growing"
    if way == "live":
        seen = live(float(sys.argv[2]) if len(sys.argv) > 2 else MINUTES)
        head = ("seconds", "MB", "descriptors")
    else:
        windows = int(sys.argv[2]) if len(sys.argv) > 2 else WINDOWS
        with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as scratch:
            path = Path(scratch) / "growing.ftdiag"
            writer = multiprocessing.get_context("spawn").Process(target=write, args=(path, windows))
            writer.start()
            try:
                while not path.exists():
                    time.sleep(0.05)
                time.sleep(1)
                seen = asyncio.run(growing(path, windows))
            finally:
                writer.kill()
                writer.join()
        head = ("windows", "MB", "objects")
    table(head, [(when, f"{megabytes:.1f}", count) for when, megabytes, count in seen])
    quarter = len(seen) // 4
    third, last = seen[2 * quarter : 3 * quarter], seen[3 * quarter :]
    grown = sum(each[1] for each in last) / len(last) - sum(each[1] for each in third) / len(third)
    print(f"from the third quarter to the last: {grown:+.1f} MB (goal: at most {GROWTH_GOAL_MB:g} MB)")
    return 0 if grown <= GROWTH_GOAL_MB else 1


if __name__ == "__main__":
    sys.exit(main())
