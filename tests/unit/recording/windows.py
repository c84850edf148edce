"""Windows and recordings for the tests of the recording room.

In: numbers. Out: model values, and what a reader makes of a recording in a form that can be compared.
Also a program: `python windows.py FILE COUNT` writes windows for ever (COUNT 0) or COUNT of them.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ftdiag.model import (
    End,
    EndReason,
    Frame,
    Gap,
    LockKind,
    LockRef,
    ProcessCounters,
    RecordingSettings,
    Runs,
    SamplerCost,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadState,
    Wait,
    Window,
)
from ftdiag.recording.reader import Recording
from ftdiag.recording.writer import RecordingWriter

SECOND_NS = 1_000_000_000
TARGET = Target(
    4242, 17, "/usr/bin/python3.14t", "python3.14t app.py", "3.14.0", True, False, ("numpy",), 4.0
)
SETTINGS = RecordingSettings(100.0, 5 * SECOND_NS, 1_700_000_000 * SECOND_NS, "0.1.0", "host")
END = End(EndReason.EXITED, "the process exited with status 0", 99)
LOCK = LockRef(0xFFFF_8000_1234_5678, LockKind.USER, "_thread.lock", "self._lock")


def create(path: Path, **ring: int) -> RecordingWriter:
    """A writer of a new recording."""
    return RecordingWriter(path, TARGET, SETTINGS, **ring)


def window(
    writer: RecordingWriter, number: int, *, threads: int = 3, ticks: int = 20, new_stacks: bool = True
) -> Window:
    """The window `number` of a program in which each thread works, then waits for a lock."""
    t0_ns = number * SECOND_NS
    runs, counters = Runs(), ThreadCounters()
    wait = writer.intern_wait(Wait("futex", "the lock", LOCK))
    for thread in range(threads):
        line = 10 + thread + (10 * number if new_stacks else 0)
        names = (Frame("/app/main.py", "main", 3), Frame("/app/work.py", f"work{thread}", line))
        stack = writer.intern_stack([writer.intern_frame(frame) for frame in names])
        split = 1 + (number + thread) % (ticks - 2)
        for first, count, state, waits in (
            (0, split, ThreadState.WORK, 0),
            (split, ticks - split, ThreadState.LOCK, wait),
        ):
            row = (thread, first, count, state, stack, waits, 1 if waits else 0, 2 if waits else 0)
            append(runs, row)
        append(counters, (thread, SECOND_NS, 7 * number + thread, number, -1 if thread else 4, 5, 6, 7, 8))
    tick_ns = array("q", (t0_ns + tick * (SECOND_NS // ticks) + tick % 7 for tick in range(ticks)))
    return Window(
        t0_ns,
        t0_ns + SECOND_NS,
        tick_ns,
        runs,
        counters,
        SamplerCost(number, ticks, 1, 2, 3, 4),
        ProcessCounters(4096 * number, threads, None),
        (Gap("stack", "torn", 1 + number),) if number % 2 else (),
    )


def append(columns: Any, row: tuple[int, ...]) -> None:
    """Append one row to columns of the model."""
    for column, value in zip(fields(columns), row, strict=True):
        getattr(columns, column.name).append(int(value))


def write(path: Path, count: int, *, finish: bool = True, **ring: int) -> None:
    """A recording of `count` windows."""
    writer = create(path, **ring)
    for thread in range(3):
        writer.put_thread(ThreadInfo(thread, 100 + thread, f"thread-{thread}", True, thread == 0))
    for number in range(count):
        writer.write_window(window(writer, number))
    if finish:
        writer.finish(END)
    writer.close()


@dataclass
class Content:
    """All that a reader makes of a recording; the windows by their beginning."""

    target: Target
    settings: RecordingSettings
    end: End | None
    threads: list[ThreadInfo]
    windows: dict[int, dict[str, Any]]
    totals: dict[tuple[int, ...], int] = field(default_factory=dict)


def content(recording: Recording) -> Content:
    """Everything in a recording, ids resolved."""
    count = len(recording)
    # The whole range first: the parts then come from what is decoded already.
    recording.counters(0, count)
    windows: dict[int, dict[str, Any]] = {
        int(recording.t0_ns[position]): {
            "t1_ns": int(recording.t1_ns[position]),
            "counters": [row[:-1] for row in rows(recording.counters(position, position + 1))],
            "costs": recording.costs(position, position + 1).sampler,
            "process": recording.costs(position, position + 1).process,
            "gaps": recording.gaps(position, position + 1),
            "profile": [],
        }
        for position in range(count)
    }
    # Not where it is a program: that writes alone.
    from profiles import profile_of

    profile = profile_of(recording)
    totals: dict[tuple[int, ...], int] = {}
    for thread, state, stack, wait, ticks, position in rows(profile):
        row = (thread, state, ticks, recording.stack(stack), recording.wait(wait))
        windows[int(recording.t0_ns[position])]["profile"].append(row)
        key = (thread, state, stack, wait)
        totals[key] = totals.get(key, 0) + ticks
    for position in {0, count - 1} if count else ():
        found = windows[int(recording.t0_ns[position])]
        found["runs"] = resolved_runs(recording, position)
        found["tick_ns"] = recording.samples(position).tick_ns.tolist()
    return Content(
        recording.target, recording.settings, recording.end, list(recording.threads), windows, totals
    )


def resolved_runs(recording: Recording, position: int) -> list[tuple[Any, ...]]:
    """The runs of a window with stacks and waits instead of their ids."""
    runs = recording.samples(position)
    return [
        (thread, first, ticks, state, recording.stack(stack), recording.wait(wait), holder, confidence)
        for thread, first, ticks, state, stack, wait, holder, confidence in zip(
            *(getattr(runs, each.name).tolist() for each in fields(runs)[:-1]), strict=True
        )
    ]


def rows(columns: Any) -> list[tuple[int, ...]]:
    """The rows of columns of numpy arrays."""
    return list(zip(*(getattr(columns, each.name).tolist() for each in fields(columns)), strict=True))


def main() -> None:
    """Write windows until killed, and say so after each."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    writer = create(path)
    writer.put_thread(ThreadInfo(0, 1, "only", True))
    number = 0
    while count == 0 or number < count:
        writer.write_window(window(writer, number, threads=8, ticks=100))
        number += 1
        print(number, flush=True)  # noqa: T201 (this is the child's way to say how far it is)
    writer.finish(END)
    writer.close()


if __name__ == "__main__":
    main()
