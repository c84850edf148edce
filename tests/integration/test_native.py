"""Native samples of real free-threaded processes: each kind of load is recognised, and nothing else.

Where the kernel permits no perf events the tests check how it is said.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ftdiag.errors import PermissionRefused
from ftdiag.model import ThreadState
from ftdiag.sources.kernel import perfevents
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.procfs import thread_ids
from ftdiag.sources.native import sampler as native
from ftdiag.sources.native.classifier import NativeSample
from ftdiag.sources.native.sampler import NativeSampler
from ftdiag.sources.python.runtime import find_runtime
from reading import cores, eventually, prefer
from tools.workloads import RunningWorkload

RATE_HZ = 997.0
SECONDS = 2.0
TICK_S = 0.01
FEWEST_SAMPLES = 200
"""Of fewer, shares say little."""

MOST_UNKNOWN = 0.02
"""Share of the samples that may be unknown, of interpreters with a table of their functions and without."""

Start = Callable[..., RunningWorkload]
Program = Callable[..., RunningWorkload]

FRAME = """
import os, sys, threading, time
{setup}
def body(index):
{body}
for index in range(int(sys.argv[1])):
    threading.Thread(target=body, args=(index,), daemon=True).start()
time.sleep(0.2)
print("ready", os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def program(workload_process: Start, tmp_path: Path) -> Program:
    """Runs a loop in so many threads."""

    def start(threads: int, body: str, setup: str = "") -> RunningWorkload:
        path = tmp_path / "program.py"
        source = FRAME.format(
            setup=textwrap.dedent(setup), body=textwrap.indent(textwrap.dedent(body), "    ")
        )
        path.write_text(source)
        return workload_process(path, str(threads))

    return start


def opened(pid: int) -> NativeSampler | None:
    """A sampler of all threads; `None` where the kernel refuses, after a look at how that is said."""
    try:
        sampler = NativeSampler(pid, RATE_HZ, find_runtime(pid, RemoteMemory(pid)))
    except PermissionRefused as refusal:
        check_refusal(refusal)
        return None
    for tid in thread_ids(pid):
        sampler.add_thread(tid)
    return sampler


def check_refusal(refusal: PermissionRefused) -> None:
    """It says what cannot be done, and the command that changes it."""
    assert "perf_event" in refusal.what
    assert "is not split into work, atomics, spinning, allocation and gc" in refusal.what
    assert refusal.hint
    assert refusal.hint.startswith(("sudo ", "docker run ", "perf stat "))


def judged(pid: int, fits: Callable[[list[NativeSample]], bool]) -> list[NativeSample] | None:
    """Samples that fit, of several whiles, each longer; fails if none do. `None` where the kernel refuses.

    A busy machine may let hardly anything run in a while, or only one thread at once.
    """
    samples: list[NativeSample] = []
    for seconds in (SECONDS, SECONDS, 4.0, 4.0, 8.0, 8.0, 12.0):
        samples = sampled(pid, seconds)
        if may_not_sample():
            assert not samples
            return None
        if len(samples) >= FEWEST_SAMPLES and fits(samples):
            return samples
    states = Counter(one.state.name for one in samples)
    pytest.fail(f"not what was expected: {states.most_common()}")


def sampled(pid: int, seconds: float = SECONDS) -> list[NativeSample]:
    """What was sampled in a while; empty where the kernel refuses."""
    sampler = opened(pid)
    if sampler is None:
        return []
    samples = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(TICK_S)
        samples += sampler.read()
    sampler.close()
    return samples


def share(samples: Sequence[NativeSample], state: ThreadState) -> float:
    """Part of the samples in a state; 0 without samples."""
    return sum(one.state is state for one in samples) / max(1, len(samples))


def may_not_sample() -> bool:
    """Whether the kernel permits no perf events, even of ourselves."""
    try:
        perfevents.kernel_permitted(os.getpid())
    except PermissionRefused as refusal:
        check_refusal(refusal)
        return True
    return False


def test_independent_work_is_work(workload: Callable[..., int]) -> None:
    # GIVEN threads that compute and share nothing
    pid = workload("independent_cpu", "--threads", "2")
    begin = time.monotonic_ns()

    # WHEN they are sampled
    samples = judged(
        pid,
        # THEN nearly nothing is atomic or spinning, and nearly everything is classified
        lambda found: (
            share(found, ThreadState.ATOMIC) <= 0.02
            and share(found, ThreadState.SPIN) <= 0.02
            and share(found, ThreadState.UNKNOWN) <= MOST_UNKNOWN
            and share(found, ThreadState.WORK) >= 0.5
        ),
    )
    if samples is None:
        return

    # AND the samples are of its threads, of this time, in order, with functions of the interpreter
    assert {one.tid for one in samples} <= set(thread_ids(pid))
    for tid in {one.tid for one in samples}:
        times = [one.time_ns for one in samples if one.tid == tid]
        assert times == sorted(times)
        assert begin <= times[0] <= times[-1] <= time.monotonic_ns()
    assert "_PyEval_EvalFrameDefault" in {one.symbol for one in samples}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("while True:\n    {}.update(a=1, b=2)", id="dictionaries"),
        pytest.param("mine = []\nwhile True:\n    mine.append(1)\n    mine.pop()", id="list"),
        pytest.param("lock = threading.Lock()\nwhile True:\n    with lock: pass", id="lock"),
    ],
)
def test_atomic_instructions_on_own_objects_are_work(program: Program, body: str) -> None:
    # GIVEN threads whose own objects take uncontended atomic instructions
    running = program(2, body)

    # WHEN they are sampled THEN that is neither contention nor spinning
    judged(
        running.pid,
        lambda found: share(found, ThreadState.ATOMIC) <= 0.03 and share(found, ThreadState.SPIN) <= 0.05,
    )


SHARED = """
class Settings:
    pass
shared = Settings()
shared.value = [1]
"""


CONTENDED = 0.08
"""Far above what independent work shows (0.03 below). How much it is depends on how often the machine's cores
run the threads at once and on what they share; bench/native.py measures it."""


def test_a_shared_attribute_is_atomic(program: Program) -> None:
    # GIVEN two threads that read one attribute of one object
    body = "settings = shared\nwhile True:\n    for _ in range(1000):\n        settings.value"
    running = program(2, body, SHARED)
    prefer(running.pid)

    # WHEN they are sampled: again if they took turns instead of running at once, as on a busy machine
    # THEN much of the time is atomic; on one core, where they always take turns, nearly nothing is
    samples = judged(
        running.pid,
        lambda found: (share(found, ThreadState.ATOMIC) >= CONTENDED) is (cores() > 1),
    )
    if samples is None or cores() == 1:
        return

    # AND most of it is on very few objects
    addresses = Counter(
        one.address for one in samples if one.state is ThreadState.ATOMIC and one.address is not None
    )
    assert sum(count for _, count in addresses.most_common(4)) >= 0.8 * addresses.total()


def test_one_thread_alone_contends_with_nobody(program: Program) -> None:
    # GIVEN one thread that reads the attribute of an object of another
    body = "settings = shared\nwhile True:\n    for _ in range(1000):\n        settings.value"
    running = program(1, body, SHARED)

    # WHEN it is sampled THEN its atomic instructions are work
    judged(running.pid, lambda found: share(found, ThreadState.ATOMIC) <= 0.1)


def test_yielding_is_spinning(program: Program) -> None:
    # GIVEN threads that only yield, as a contended lock does
    running = program(2, "from os import sched_yield\nwhile True:\n    sched_yield()")

    # WHEN they are sampled over a time in which the kernel counts its own part
    seen = None
    for seconds in (3.0, 4.0, 8.0, 12.0):
        before = times_of(running.pid)
        samples = sampled(running.pid, seconds)
        user, system = (now - then for now, then in zip(times_of(running.pid), before, strict=True))

        # THEN at least 80 % of that part is recognised
        if may_not_sample() or (samples and all("[kernel]" not in str(one.symbol) for one in samples)):
            return
        seen = share(samples, ThreadState.SPIN), user, system
        if system and share(samples, ThreadState.SPIN) >= 0.8 * system / (user + system):
            return
    pytest.fail(f"share that spins, user and system time: {seen}")


def until_used(pid: int, seconds: float) -> None:
    """Wait until a process has used so much more CPU time: how long that takes is up to the machine."""
    wanted = sum(times_of(pid)) + seconds * os.sysconf("SC_CLK_TCK")
    eventually(lambda: sum(times_of(pid)) >= wanted)


def times_of(pid: int) -> tuple[int, int]:
    """User and system time of a process, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def test_allocation(program: Program) -> None:
    # GIVEN threads that allocate blocks of many sizes
    running = program(2, "while True:\n    [bytearray(size) for size in range(64, 8192, 64)]")

    # WHEN they are sampled THEN allocation is a good part of it
    judged(
        running.pid,
        lambda found: (
            share(found, ThreadState.ATOMIC) <= 0.02
            and share(found, ThreadState.UNKNOWN) <= MOST_UNKNOWN
            and share(found, ThreadState.ALLOC) >= 0.15
        ),
    )


def test_garbage_collection(program: Program) -> None:
    # GIVEN a thread that collects a big heap (who does that without a rest may never let another thread in)
    collects = "while True:\n    gc.collect()\n    time.sleep(0.001)"
    running = program(1, collects, "import gc\nheap = [[n] for n in range(200_000)]")

    # WHEN it is sampled THEN nearly all of it is gc
    judged(
        running.pid,
        lambda found: (
            share(found, ThreadState.GC) >= 0.8 and share(found, ThreadState.UNKNOWN) <= MOST_UNKNOWN
        ),
    )


def test_a_library_that_is_loaded_later(program: Program, tmp_path: Path) -> None:
    # GIVEN a program that loads a library only while it is sampled, and then works in it
    body = """
    while not os.path.exists("GATE"):
        time.sleep(0.02)
    import zlib
    data = os.urandom(1 << 20)
    while True:
        zlib.compress(data, 9)
    """
    gate = tmp_path / "gate"
    running = program(1, body.replace("GATE", str(gate)))
    sampler = opened(running.pid)
    if sampler is None:
        return
    gate.touch()

    # WHEN it is sampled
    samples: list[NativeSample] = []

    def enough() -> bool:
        samples.extend(sampler.read())
        return len(samples) >= 1500

    eventually(enough, every_s=TICK_S)
    sampler.close()

    # THEN its code is known
    assert share(samples, ThreadState.UNKNOWN) <= MOST_UNKNOWN


def test_threads_that_are_not_there(workload: Callable[..., int]) -> None:
    # GIVEN a sampler
    pid = workload("independent_cpu", "--threads", "2")
    sampler = opened(pid)
    if sampler is None:
        return

    # WHEN threads that are gone, known or never seen are added and removed
    sampler.add_thread((1 << 22) - 1)
    sampler.add_thread(pid)
    sampler.remove_thread((1 << 22) - 2)
    for tid in thread_ids(pid):
        sampler.remove_thread(tid)
    time.sleep(0.2)

    # THEN it goes on; what was sampled before still comes, once
    sampler.read()
    assert sampler.read() == []
    assert sampler.sampled_share == 1.0
    assert sampler.lost == 0
    sampler.close()
    sampler.close()


def test_threads_take_turns(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN room for three of nine threads
    monkeypatch.setattr(native, "MAX_EVENTS", 3)
    running = program(8, "while True:\n    for n in range(1000): n * n")
    sampler = opened(running.pid)
    if sampler is None:
        return
    assert 0 < sampler.sampled_share < 0.5

    # WHEN some turns have passed
    seen: set[int] = set()

    def turned() -> bool:
        seen.update(one.tid for one in sampler.read())
        sampler.refresh()
        return len(seen) > 3

    # THEN more threads were seen than there is room for
    eventually(turned, every_s=0.3)
    sampler.close()


def test_a_reader_that_is_late_knows_what_it_lost(
    workload: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a sampler that is not read for longer than its buffers last
    monkeypatch.setattr(native, "buffer_pages", lambda _rate_hz: 1)
    pid = workload("independent_cpu", "--threads", "2")
    sampler = opened(pid)
    if sampler is None:
        return
    until_used(pid, 2.0)

    # WHEN it is read again for a while
    kept = len(sampler.read())
    time.sleep(0.2)
    sampler.read()

    # THEN both what was kept and what was lost is known
    assert kept > 0
    assert sampler.lost > 0
    assert sampler.lost == 0
    sampler.close()


def test_without_the_kernel(workload: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a machine that permits samples of programs only
    monkeypatch.setattr(native, "kernel_permitted", lambda _pid: False)
    pid = workload("shared_list", "--threads", "2")
    sampler = opened(pid)
    if sampler is None:
        return

    # WHEN a program that enters the kernel often is sampled
    until_used(pid, 1.0)
    samples = sampler.read()
    sampler.close()

    # THEN no sample is of the kernel, and the description says what to do about it
    assert samples
    assert not any("[kernel]" in str(one.symbol) for one in samples)
    assert not sampler.kernel_included
    assert "sudo sysctl kernel.perf_event_paranoid=1" in sampler.description


def test_a_target_that_ends(program: Program) -> None:
    # GIVEN a sampler of a busy program
    running = program(2, "while True:\n    for n in range(1000): n * n")
    sampler = opened(running.pid)
    if sampler is None:
        return
    until_used(running.pid, 0.3)

    # WHEN the program is killed
    running.process.kill()
    running.process.wait()

    # THEN the last samples can be read, and all calls still work
    assert sampler.read()
    sampler.refresh()
    sampler.add_thread(running.pid)
    sampler.remove_thread(running.pid)
    assert sampler.read() == []
    sampler.close()
