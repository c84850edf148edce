"""A target for benches: busy threads that count their work in a shared file, and idle ones.

Usage: busy_and_idle.py FILE BUSY IDLE. Says "ready PID".
"""

from __future__ import annotations

import mmap
import os
import queue
import sys
import threading
import time


def innermost(turns: int) -> int:
    """Some hundred microseconds of arithmetic."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def inner(turns: int) -> int:
    """One more frame."""
    return innermost(turns)


def outer(turns: int) -> int:
    """And another one."""
    return inner(turns) + 1


def work(counts: memoryview, place: int, begin: threading.Event) -> None:
    """The body of a busy thread: each writes to words of its own."""
    begin.wait()
    done = 0
    while True:
        outer(500)
        done += 1
        counts[place] = done


def idle(jobs: queue.Queue[int]) -> None:
    """The body of an idle thread, as in a pool: it waits for a job that never comes."""
    jobs.get()


def main() -> None:
    """Start all threads."""
    name, busy, resting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(name, "r+b") as shared:
        counts = memoryview(mmap.mmap(shared.fileno(), 4096)).cast("q")
    jobs: queue.Queue[int] = queue.Queue()
    begin = threading.Event()  # on a busy machine it takes long to start threads beside busy ones
    for _ in range(resting):
        threading.Thread(target=idle, args=(jobs,), daemon=True).start()
    for number in range(busy):
        threading.Thread(target=work, args=(counts, number, begin), daemon=True).start()
    begin.set()
    print(f"ready {os.getpid()}", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main()
