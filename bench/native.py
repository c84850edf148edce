"""Measures native sampling: what it recognises, and what it costs.

In: free-threaded interpreters (FTDIAG_PYTHONS, separated by colons). Out: tables. Comparisons are made within
one run, in turns, since cores are shared; `perf` is only used to compare allocation with, if it is at hand.

Usage: python bench/native.py [--seconds 3] [--only shares|perf|slowdown|cost]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from ftdiag.model import ThreadState
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.perfevents import RawSample, parse_records
from ftdiag.sources.kernel.procfs import thread_ids
from ftdiag.sources.native.classifier import NativeSample
from ftdiag.sources.native.sampler import NativeSampler
from ftdiag.sources.python.runtime import find_runtime

RATE_HZ = 199.0
"""The usual rate: for costs. Recognition is measured with more samples."""
RECOGNITION_HZ = 1999.0
TICK_S = 0.01

FRAME = """
import gc, os, sys, threading, time
{setup}
counts = [0] * int(sys.argv[1])
def body(index):
    steps = 0
    start = time.monotonic()
{body}
for index in range(len(counts)):
    threading.Thread(target=body, args=(index,), daemon=True).start()
print("ready", flush=True)
while sys.stdin.readline():
    print(sum(counts), flush=True)
"""
# Each body is the inside of an endless loop, prepared by its setup.
WORKLOADS = {
    "integers": ("x = index + 1", "for _ in range(20000): x = (x * 1103515245 + 12345) & 0x3FFFFFFF", ""),
    "own dictionaries": ("", "for n in range(5000): {}.update(a=n, b=n)", ""),
    "own list": ("own = []", "for n in range(5000): own.append(n); own.pop()", ""),
    "own lock": ("lock = threading.Lock()", "for _ in range(5000):\n            with lock: pass", ""),
    "shared attribute": (
        "settings = shared",
        "for _ in range(20000): settings.value",
        "class Settings: pass\nshared = Settings()\nshared.value = [1]",
    ),
    "shared list": ("", "for n in range(5000): shared.append(n)\n        del shared[:]", "shared = []"),
    "shared lock": ("", "for _ in range(5000):\n            with lock: pass", "lock = threading.Lock()"),
    "yielding": ("", "for _ in range(2000): os.sched_yield()", ""),
    "allocation": ("", "[bytearray(size) for size in range(64, 16384, 64)]", ""),
    "collection": ("", "gc.collect()", "heap = [[n] for n in range(200_000)]"),
}
ALLOCATION = re.compile(
    r"_?mi_|_PyObject_Mi|_PyMem_|PyObject_(Malloc|Free|Calloc|Realloc)|PyMem_|unix_mmap"
    r"|(__libc_)?(malloc|free|calloc|realloc)$|_int_|cfree|.*page_fault|.*mm_fault|do_anonymous_page|clear_page"
    r"|.*alloc_.*(pages|folio)|get_page_from|.*rmqueue|.*mem_cgroup|(un)?charge_|folio_(add|remove)|.*munmap|unmap_"
    r"|zap_|free_(unref|pages|frozen)|.*(lru|memcg)|.*pte_|lock_vma|mas_|.*rcu_read|policy_|count_memcg|mod_|get_mem_"
)


@contextmanager
def running(python: str, name: str, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A workload in so many threads; a line to its stdin gives the work done so far."""
    prepare, loop, setup = WORKLOADS[name]
    body = f"    {prepare or 'pass'}\n    while True:\n        {loop}\n        counts[index] += 1"
    with tempfile.NamedTemporaryFile("w", suffix=".py") as program:
        program.write(FRAME.format(setup=setup, body=body))
        program.flush()
        process = subprocess.Popen(
            [python, program.name, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.3)
            yield process
        finally:
            process.kill()
            process.wait()


def sampler_of(pid: int, rate_hz: float = RATE_HZ) -> NativeSampler:
    """A sampler of all threads."""
    sampler = NativeSampler(pid, rate_hz, find_runtime(pid, RemoteMemory(pid)))
    for tid in thread_ids(pid):
        sampler.add_thread(tid)
    return sampler


def sample(pid: int, seconds: float) -> list[NativeSample]:
    """What is sampled in a while, at the rate for recognition."""
    sampler = sampler_of(pid, RECOGNITION_HZ)
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(TICK_S)
        found += sampler.read()
    sampler.close()
    return found


def shares(pythons: list[str], seconds: float) -> None:
    """What each load looks like."""
    print(f"{'':34}{'samples':>8}" + "".join(f"{state:>9}" for state in STATES) + "  classified")
    for python in pythons:
        for name in WORKLOADS:
            for threads in (1, 2, 4) if name.startswith(("integers", "shared a")) else (2,):
                with running(python, name, threads) as process:
                    print_shares(f"{Path(python).name} {name} x{threads}", sample(process.pid, seconds))


STATES = ("work", "atomic", "spin", "alloc", "gc")


def print_shares(title: str, samples: list[NativeSample]) -> None:
    """One row."""
    counts = Counter(one.state.label for one in samples)
    total = max(1, len(samples))
    row = "".join(f"{100 * counts[state] / total:8.1f}%" for state in STATES)
    print(f"{title:34}{len(samples):8}{row}{100 - 100 * counts['unknown'] / total:11.1f}%")


def compared_with_perf(pythons: list[str], seconds: float) -> None:
    """Allocation and yielding by us and by perf, over the same time."""
    if shutil.which("perf") is None:
        print("perf is not at hand: not compared")
        return
    print(f"{'':34}{'ftdiag':>9}{'perf':>9}")
    for python in pythons:
        for name, state, pattern in (
            ("allocation", ThreadState.ALLOC, ALLOCATION),
            ("own dictionaries", ThreadState.ALLOC, ALLOCATION),
        ):
            with running(python, name, 2) as process, tempfile.TemporaryDirectory() as scratch:
                data = f"{scratch}/perf.data"
                recorder = subprocess.Popen(
                    [
                        *"perf record -q -e cpu-clock -F 1999 -o".split(),
                        data,
                        "-p",
                        str(process.pid),
                        "sleep",
                        str(seconds),
                    ],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                samples = sample(process.pid, seconds)
                recorder.wait()
                report = subprocess.run(
                    ["perf", "report", "-i", data, "--sort", "symbol", "--stdio", "-g", "none"],
                    capture_output=True,
                    text=True,
                    check=False,
                ).stdout
            theirs = sum(
                float(found[1])
                for line in report.splitlines()
                if (found := re.match(r"\s*([\d.]+)%\s+\[[.k]\]\s+(\S+)", line)) and pattern.match(found[2])
            )
            ours = 100 * sum(one.state is state for one in samples) / max(1, len(samples))
            print(f"{Path(python).name + ' ' + name:34}{ours:8.1f}%{theirs:8.1f}%")


def slowdown(pythons: list[str], seconds: float) -> None:
    """Throughput of the target without and with sampling, in turns."""
    print(f"{'':34}{'slowdown':>9}{'spread':>9}")
    for python in pythons:
        for name in ("integers", "shared lock"):
            with running(python, name, 2) as process:
                ratios = []
                for _ in range(10):
                    without = rate(process, seconds)
                    stop = threading.Event()
                    reader = threading.Thread(target=keep_reading, args=(process.pid, stop))
                    reader.start()
                    time.sleep(0.2)
                    sampled = rate(process, seconds)
                    stop.set()
                    reader.join()
                    ratios.append(without / sampled - 1)
                print(
                    f"{Path(python).name + ' ' + name:34}{100 * statistics.median(ratios):8.2f}%"
                    f"{100 * statistics.stdev(ratios):8.2f}%"
                )


def keep_reading(pid: int, stop: threading.Event) -> None:
    """Sample until told to stop."""
    sampler = sampler_of(pid)
    while not stop.wait(TICK_S):
        sampler.read()
    sampler.close()


def rate(process: subprocess.Popen[str], seconds: float) -> float:
    """Work for each second of CPU: what others do on our cores is not counted."""

    def reading() -> tuple[int, int]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        work = int(process.stdout.readline())
        cpu = 0
        for tid in os.listdir(f"/proc/{process.pid}/task"):
            cpu += int(Path(f"/proc/{process.pid}/task/{tid}/schedstat").read_text().split()[0])
        return work, cpu

    work, cpu = reading()
    time.sleep(seconds)
    work_after, cpu_after = reading()
    return (work_after - work) / max(1, cpu_after - cpu)


def cost(pythons: list[str], seconds: float) -> None:
    """Our CPU to read 16 threads, and what it would be if each had a core.

    Samples that were really taken are judged again and again; parsing is measured with made-up records.
    """
    print(f"{'':34}{'read us':>9}{'parse us':>9}{'judge us':>9}{'16 busy':>9}")
    for python in pythons:
        with running(python, "shared attribute", 16) as process:
            sampler = sampler_of(process.pid)
            taken: list[RawSample] = []
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(TICK_S)
                taken += sampler.rings.take()[0]
            judging, parsing = judge_s(sampler, taken), parse_s()
            sampler.rings.take()
            reading = min(cpu_of(sampler.read) for _ in range(200))
            sampler.close()
        cores = reading / TICK_S + (parsing + judging) * 16 * RATE_HZ
        row = "".join(f"{1e6 * value:9.2f}" for value in (reading, parsing, judging))
        print(f"{Path(python).name + ' 16 threads':34}{row}{cores:9.4f} cores")


def judge_s(sampler: NativeSampler, taken: list[RawSample]) -> float:
    """CPU to judge a sample, once its address is known."""
    judge = sampler._classifier.judge
    list(map(judge, taken))
    many = taken * (1 + 20_000 // max(1, len(taken)))
    return cpu_of(lambda: list(map(judge, many))) / len(many)


def parse_s() -> float:
    """CPU to parse a sample with the registers of x86-64."""
    record = struct.pack("<IHHQIIQQ17Q", 9, 0, 176, 0x1000, 1, 1, 5, 2, *range(17))
    return cpu_of(lambda: parse_records(record * 20_000, [])) / 20_000


def cpu_of(work: Callable[[], object]) -> float:
    """CPU seconds of this thread for a call."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def main() -> None:
    """Print all tables, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", choices=["shares", "perf", "slowdown", "cost"])
    arguments = parser.parse_args()
    pythons = [path for path in os.environ.get("FTDIAG_PYTHONS", "").split(os.pathsep) if path]
    if not pythons:
        sys.exit("name free-threaded interpreters: export FTDIAG_PYTHONS=/path/to/python3.14t")
    tables = {"shares": shares, "perf": compared_with_perf, "slowdown": slowdown, "cost": cost}
    for name, table in tables.items():
        if arguments.only in (None, name):
            print(f"\n{name}")
            table(pythons, arguments.seconds)


if __name__ == "__main__":
    main()
