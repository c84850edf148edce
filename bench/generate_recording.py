"""Makes a recording of a made-up program, to measure size and speed with.

In: how long, how many threads, how many of them busy. Out: a recording file.

Usage: python bench/generate_recording.py FILE [--seconds 3600] [--threads 64] [--busy 8] [--rate 100]

Busy threads run one of about 200 stacks some 15 deep, and another one at every tick; the others sit in
a wait and change state once in a while. Counters have the noise that real ones have.
"""

from __future__ import annotations

import argparse
import random
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from ftdiag.model import (
    End,
    EndReason,
    Frame,
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
from ftdiag.recording.writer import RecordingWriter

STACKS = 200
OUTER_DEPTH = 12
SECOND_NS = 1_000_000_000
BUSY_STATES = (ThreadState.WORK,) * 6 + (ThreadState.ATOMIC, ThreadState.SPIN, ThreadState.ALLOC)
JITTER_NS = 60_000
COUNTER_STEPS = ("voluntary_switches", "involuntary_switches", "minor_faults", "major_faults", "migrations")


class Program:
    """The stacks and waits of the made-up program."""

    def __init__(self, writer: RecordingWriter, chance: random.Random) -> None:
        self._chance = chance
        self.busy_stacks = [writer.intern_stack(self._frames(writer, number)) for number in range(STACKS)]
        idle_frames = [Frame("/usr/lib/python3.14/queue.py", "Queue.get", line) for line in (171, 180)]
        self.idle_stack = writer.intern_stack([writer.intern_frame(frame) for frame in idle_frames])
        self.idle_wait = writer.intern_wait(Wait("futex", "queue.Queue.get"))
        lock = LockRef(0x7F00_1234_5678, LockKind.USER, "_thread.lock", "self._lock")
        self.lock_wait = writer.intern_wait(Wait("futex", None, lock))

    def _frames(self, writer: RecordingWriter, number: int) -> list[int]:
        branch = number % 7
        outer = [
            Frame(f"/app/service/module{depth}.py", f"Service.step{depth}", 10 + branch)
            for depth in range(OUTER_DEPTH)
        ]
        inner = [
            Frame("/srv/app/kernel.py", f"kernel{number // 20}", 100 + number),
            Frame("/srv/app/loop.py", f"loop{number // 10}", 200 + number),
            Frame("/srv/app/leaf.py", f"leaf{number // 8}", 300 + number),
        ]
        return [writer.intern_frame(frame) for frame in (*outer, *inner)]


def busy_rows(runs: Runs, thread: int, ticks: int, program: Program, chance: random.Random) -> None:
    """A run a tick: the leaf line changes every time."""
    runs.thread.extend([thread] * ticks)
    runs.first_tick.extend(range(ticks))
    runs.ticks.extend([1] * ticks)
    runs.state.extend(map(int, chance.choices(BUSY_STATES, k=ticks)))
    runs.stack.extend(chance.choices(program.busy_stacks, k=ticks))
    runs.wait.extend([0] * ticks)
    runs.holder.extend([0] * ticks)
    runs.confidence.extend([0] * ticks)


def idle_rows(runs: Runs, thread: int, ticks: int, program: Program, chance: random.Random) -> None:
    """One wait for the whole window, or one that a short wait for a lock interrupts."""
    if chance.random() < 0.8:
        pieces = [(0, ticks, ThreadState.IDLE)]
    else:
        start = chance.randrange(1, ticks - 3)
        pieces = [
            (0, start, ThreadState.IDLE),
            (start, 2, ThreadState.LOCK),
            (start + 2, ticks - start - 2, ThreadState.IDLE),
        ]
    for first, count, state in pieces:
        waits_for_lock = state is ThreadState.LOCK
        runs.thread.append(thread)
        runs.first_tick.append(first)
        runs.ticks.append(count)
        runs.state.append(state)
        runs.stack.append(program.idle_stack)
        runs.wait.append(program.lock_wait if waits_for_lock else program.idle_wait)
        runs.holder.append(1 if waits_for_lock else 0)
        runs.confidence.append(2 if waits_for_lock else 0)


def standing_rows(runs: Runs, thread: int, ticks: int, program: Program, holder: int) -> None:
    """One wait for a lock that never ends."""
    runs.thread.append(thread)
    runs.first_tick.append(0)
    runs.ticks.append(ticks)
    runs.state.append(ThreadState.LOCK)
    runs.stack.append(program.idle_stack)
    runs.wait.append(program.lock_wait)
    runs.holder.append(holder + 1)
    runs.confidence.append(2)


def counters(threads: int, busy: int, chance: random.Random) -> ThreadCounters:
    """A second's worth of kernel counters."""
    columns = ThreadCounters()
    for thread in range(threads):
        is_busy = thread < busy
        cpu_ns = chance.randrange(900_000_000, 990_000_000) if is_busy else chance.randrange(300_000)
        columns.thread.append(thread)
        columns.alive_ns.append(SECOND_NS + chance.randrange(-JITTER_NS, JITTER_NS))
        columns.cpu_ns.append(cpu_ns)
        columns.run_queue_ns.append(chance.randrange(5_000_000 if is_busy else 20_000))
        for name in COUNTER_STEPS:
            getattr(columns, name).append(chance.randrange(40) if is_busy else chance.randrange(3))
    return columns


def generate(
    path: Path,
    *,
    seconds: int,
    threads: int,
    busy: int,
    rate_hz: int,
    seed: int = 1,
    standing: int = 0,
    cores: float | None = None,
    after: Callable[[int], None] | None = None,
) -> None:
    """Write the recording; `after` is called after each second. Raises RecordingError if `path` exists.

    `cores` is the capacity, where it is to be known. The last `standing` threads wait for a lock all the time
    that the one before has.
    """
    chance = random.Random(seed)
    target = Target(4242, 99, "/usr/bin/python3.14t", "python3.14t app.py", "3.14.0", True, False, (), cores)
    settings = RecordingSettings(float(rate_hz), 0, time.time_ns(), "bench", "bench")
    writer = RecordingWriter(path, target, settings)
    program = Program(writer, chance)
    for index in range(threads):
        writer.put_thread(ThreadInfo(index, 5000 + index, f"worker-{index}", True, index == 0))
    for second in range(seconds):
        t0_ns = second * SECOND_NS
        step_ns = SECOND_NS // rate_hz
        tick_ns = array(
            "q", (t0_ns + tick * step_ns + chance.randrange(JITTER_NS) for tick in range(rate_hz))
        )
        runs = Runs()
        for thread in range(threads):
            if thread >= threads - standing:
                before = thread - 1 if thread > threads - standing else threads - 1
                standing_rows(runs, thread, rate_hz, program, before)
                continue
            rows = busy_rows if thread < busy else idle_rows
            rows(runs, thread, rate_hz, program, chance)
        writer.write_window(
            Window(
                t0_ns,
                t0_ns + SECOND_NS,
                tick_ns,
                runs,
                counters(threads, busy, chance),
                SamplerCost(chance.randrange(5_000_000, 9_000_000), rate_hz, 1, 0, threads * rate_hz, 2),
                ProcessCounters(500_000_000 + 4096 * chance.randrange(1000), threads, False),
            )
        )
        if after is not None:
            after(second)
    writer.finish(End(EndReason.DURATION, f"recorded for {seconds} s", seconds * SECOND_NS))
    writer.close()


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--busy", type=int, default=8)
    parser.add_argument("--rate", type=int, default=100)
    arguments = parser.parse_args()
    generate(
        arguments.file,
        seconds=arguments.seconds,
        threads=arguments.threads,
        busy=arguments.busy,
        rate_hz=arguments.rate,
    )


if __name__ == "__main__":
    main()
