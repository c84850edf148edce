"""Measures the walk of many deep stacks: those of a made-up process, which lie in this one's own memory.

In: numbers of threads and their depth. Out: a table of the time of a walk with each walker: where every
thread stands where it stood, and where each has gone on to another line. The last column is the time in which
as much memory is read in one system call, from the first stack to the last: the skew of a tick is less.
Exits with 1 beyond the goals.

Usage: python bench/simulated.py [THREADS [DEPTH]]
"""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import sys
import time
from pathlib import Path

from measuring import table

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]

from fake_process import PAGE, FakeProcess, Sink  # noqa: E402
from ftdiag.sources.compiled import COMPILED  # noqa: E402
from ftdiag.sources.kernel.memory import RemoteMemory  # noqa: E402
from ftdiag.sources.python.interpreter import InterpreterReader  # noqa: E402

ROUNDS = 60
GOAL_US = {256: 1000.0}
SKEW_GOAL_US = {64: 150.0}


def laid_out(process: FakeProcess) -> None:
    """Map its pages at their addresses."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    fixed_noreplace = 0x100000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed_noreplace
    for page, data in process.memory.pages.items():
        if libc.mmap(page, PAGE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) != page:
            sys.exit(f"{page:#x} is in use here")
        ctypes.memmove(page, bytes(data), PAGE)


def walks(threads: int, depth: int, *, compiled: bool) -> tuple[float, float, float]:
    """Microseconds of a walk: the same stacks, other lines; and of reading alone."""
    process = FakeProcess()
    layout = process.layout
    codes = [process.code(f"function_{number}") for number in range(depth)]
    leaves, native_ids = [], range(1000, 1000 + threads)
    following = 0
    for native_id in native_ids:
        chunk = process.chunk()
        place, previous = chunk + 64, 0
        for code in codes:
            previous = process.frame(place, code, previous=previous, unit=5)
            place += layout.frame_size + 64
        leaves.append(previous)
        following = process.thread(previous, chunk, native_id=native_id, following=following)
    process.interpreter(following)
    laid_out(process)
    memory = RemoteMemory(os.getpid())
    reader = InterpreterReader(memory, process.runtime, Sink(), compiled=compiled)
    states = reader.threads()
    assert len(states) == threads
    same, other = [], []
    for number in range(ROUNDS):
        start = time.perf_counter_ns()
        stacks = reader.walk(states)
        same.append(time.perf_counter_ns() - start)
        assert min(stacks) >= 99
        # Each thread goes on to the next of a few lines, all of which were seen before after some rounds.
        target = codes[-1] + layout.code_bytecode + 2 * (number % 8)
        for leaf in leaves:
            ctypes.c_uint64.from_address(leaf + layout.frame_instr_ptr).value = target
        start = time.perf_counter_ns()
        reader.walk(states)
        other.append(time.perf_counter_ns() - start)
    ranges = [(leaf - 1024, 2048) for leaf in leaves]
    reading = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        memory.read_many(ranges)
        reading.append(time.perf_counter_ns() - start)
    munmap = ctypes.CDLL(None).munmap
    for page in process.memory.pages:
        munmap(ctypes.c_void_p(page), PAGE)
    return tuple(statistics.median(one[10:]) / 1000 for one in (same, other, reading))  # type: ignore[return-value]


def main() -> int:
    """Print the table; 1 beyond a goal."""
    depth = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    failed = False
    rows = []
    for threads in (int(sys.argv[1]),) if len(sys.argv) > 1 else (64, 256):
        for compiled in (True, False) if COMPILED else (False,):
            same, other, reading = walks(threads, depth, compiled=compiled)
            failed |= compiled and max(same, other) > GOAL_US.get(threads, 1e9)
            failed |= reading > SKEW_GOAL_US.get(threads, 1e9)
            rows.append((threads, depth, "compiled" if compiled else "Python", same, other, reading))
    table(("threads", "depth", "walker", "same lines, us", "other lines, us", "reading alone, us"), rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
