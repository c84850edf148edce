"""A program whose threads clock their own waits for locks, their CPU time and every hold.

Usage: accuracy_target.py FILE KIND THREADS LOCKS HOLD_US THINK_US SECONDS. Says "ready PID", begins when it
is sent a line (a sampler then sees the threads from their start), and writes to FILE, as JSON: the CPU time
of each thread by its native id; for each lock its address and what its waiters waited: in all, spinning on a
core, and in the run queue; and the holds as [lock, thread, acquired, released] in nanoseconds of
CLOCK_MONOTONIC.

What a thread itself can see of a hold begins when it runs after it got the lock, and ends before it gives it
back. In between two such holds, nobody in the program can say who has the lock.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import queue
import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path

OBJECT_BYTES = 32
"""The header of an object of a free-threaded build; a lock's mutex lies behind it."""
OBJECT_MUTEX = 10
"""Where the header has the lock of the object itself."""
SHORTEST_SLEEP_S = 0.001
PR_SET_PTRACER = 0x59616D61

PYTHON = ctypes.PyDLL(None)
"""Calls that keep the thread attached to the interpreter."""

now = time.perf_counter_ns
"""CLOCK_MONOTONIC on Linux, as the sampler's clock."""


class Stopping:
    """Set for all threads at the end."""

    now = False


class Clock:
    """One thread's account of its waits and holds.

    The calls are in such an order that a preemption by the kernel, which comes at the end of a system call,
    counts either for the time and the run queue or for neither. None of them lets go of the thread state,
    because that would suspend the locks of objects: `pread` is called through PyDLL.
    """

    def __init__(self, locks: int) -> None:
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._buffer = ctypes.create_string_buffer(96)
        self.waited = [0] * locks
        self.spun = [0] * locks
        self.queued = [0] * locks
        self.operations = [0] * locks
        self.holds = array("q")
        self.cpu_ns = 0
        self._began = self._cpu = self._delay = self._acquired = 0
        self._own_wait = self._own_cpu = 0
        self._calibrate()

    def _calibrate(self) -> None:
        """What the clocking itself takes, to be subtracted."""
        own = []
        for _ in range(300):
            self.begin()
            self.acquired(0)
            own.append((self.waited[0], self.spun[0]))
            self.waited[0] = self.spun[0] = self.queued[0] = self.operations[0] = 0
        self._own_wait, self._own_cpu = sorted(own)[len(own) // 2]

    def run_queue_ns(self) -> int:
        """The kernel's count for this thread."""
        PYTHON.pread(self._schedstat, self._buffer, 96, 0)
        return int(self._buffer.value.split()[1])

    def begin(self) -> None:
        """Right before the lock is asked for."""
        self._cpu = time.thread_time_ns()
        self._began = now()
        self._delay = self.run_queue_ns()

    def acquired(self, lock: int) -> None:
        """Right after it was got."""
        self._acquired = at = now()
        self.queued[lock] += self.run_queue_ns() - self._delay
        self.spun[lock] += time.thread_time_ns() - self._cpu - self._own_cpu
        self.waited[lock] += at - self._began - self._own_wait
        self.operations[lock] += 1

    def releasing(self, lock: int) -> None:
        """Right before it is given back."""
        self.holds.extend((lock, self._acquired, now()))


def spend(seconds: float, *, computing: bool = False) -> None:
    """Sleep, or compute for what is too short to sleep."""
    if Stopping.now:
        return
    if seconds >= SHORTEST_SLEEP_S and not computing:
        time.sleep(seconds)
        return
    end = now() + int(seconds * 1e9)
    while now() < end:
        pass


Use = Callable[[Clock, int], None]


def mutexes(make: Callable[[], object], count: int, hold_s: float) -> tuple[Use, list[int]]:
    """`with lock:` around the hold."""
    locks = [make() for _ in range(count)]

    def use(clock: Clock, number: int) -> None:
        lock = locks[number]
        clock.begin()
        with lock:  # type: ignore[attr-defined]
            clock.acquired(number)
            spend(hold_s)
            clock.releasing(number)

    return use, [mutex_address(getattr(lock, "_lock", lock)) for lock in locks]


def mutex_address(lock: object) -> int:
    """What waiters of a Lock or RLock wait on: its mutex; the semaphore of 3.13's RLock."""
    address = id(lock) + OBJECT_BYTES
    if sys.version_info < (3, 14) and type(lock).__name__ == "RLock":
        return ctypes.c_uint64.from_address(address).value
    return address


class ClockedQueue(queue.Queue[int]):
    """A queue whose every get and put holds the queue's mutex for a while."""

    def __init__(self, number: int, hold_s: float, clocks: threading.local) -> None:
        super().__init__()
        self._number, self._hold_s, self._clocks = number, hold_s, clocks

    def _held(self) -> None:
        clock: Clock | None = getattr(self._clocks, "clock", None)
        if clock is not None:
            clock.acquired(self._number)
            spend(self._hold_s)
            clock.releasing(self._number)

    def _get(self) -> int:
        self._held()
        return super()._get()

    def _put(self, item: int) -> None:
        self._held()
        super()._put(item)


def queues(count: int, hold_s: float, threads: int) -> tuple[Use, list[int]]:
    """`get` and `put` in turn; the queues are never empty, so all waiting is for the mutex."""
    clocks = threading.local()
    all_queues = [ClockedQueue(number, hold_s, clocks) for number in range(count)]
    for each in all_queues:
        for item in range(2 * threads):
            each.put(item)

    def use(clock: Clock, number: int) -> None:
        clocks.clock = clock
        clock.begin()
        item = all_queues[number].get()
        clock.begin()
        all_queues[number].put(item)

    return use, [mutex_address(each.mutex) for each in all_queues]


def lists(count: int, hold_s: float) -> tuple[Use, list[int]]:
    """`list.sort` holds the list's own lock while it computes the keys."""
    shared = [[2, 1] for _ in range(count)]

    def use(clock: Clock, number: int) -> None:
        def key(value: int) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                clock.acquired(number)
                spend(hold_s, computing=True)  # sleeping would suspend the list's lock
            else:
                clock.releasing(number)
            return value

        calls = 0
        clock.begin()
        shared[number].sort(key=key)

    return use, [id(each) + OBJECT_MUTEX for each in shared]


class Slow:
    """A value whose comparison takes the hold's time."""

    def __init__(self, hold_s: float = 0.0) -> None:
        self.hold_s = hold_s
        self.clock: Clock | None = None
        self.number = 0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        mine = other if isinstance(other, Slow) and other.clock else self
        if mine.clock is not None:
            mine.clock.acquired(mine.number)
            spend(mine.hold_s, computing=True)
            mine.clock.releasing(mine.number)
        return True


def dicts(count: int, hold_s: float) -> tuple[Use, list[int]]:
    """`==` of two dicts holds the locks of both; one of them is the thread's own."""
    shared = [{"value": Slow()} for _ in range(count)]

    def use(clock: Clock, number: int) -> None:
        value = Slow(hold_s)
        value.clock, value.number = clock, number
        own = {"value": value}
        clock.begin()
        _ = shared[number] == own

    return use, [id(each) + OBJECT_MUTEX for each in shared]


def made(kind: str, locks: int, hold_s: float, threads: int) -> tuple[Use, list[int]]:
    """The way to use a lock of a kind, and the addresses of the locks."""
    if kind == "queue":
        return queues(locks, hold_s, threads)
    if kind == "list":
        return lists(locks, hold_s)
    if kind == "dict":
        return dicts(locks, hold_s)
    makers = {"lock": threading.Lock, "rlock": threading.RLock, "condition": threading.Condition}
    return mutexes(makers[kind], locks, hold_s)


def work(use: Use, clock: Clock, locks: int, think_s: float, seed: int) -> None:
    """Takes one lock after the other until the end."""
    number = seed
    while not Stopping.now:
        number = (number * 1_103_515_245 + 12345) & 0x7FFFFFFF
        use(clock, (number >> 8) % locks)
        spend(think_s)


def main() -> None:
    """Run as the arguments say."""
    file, kind = sys.argv[1:3]
    threads, locks = map(int, sys.argv[3:5])
    hold_s, think_s = (float(value) / 1e6 for value in sys.argv[5:7])
    seconds = float(sys.argv[7])
    # A collection stops all threads, and with that suspends the locks of objects.
    gc.disable()
    # Where only relatives may read a process (Yama), let everybody.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
    use, addresses = made(kind, locks, hold_s, threads)
    clocks: dict[int, Clock] = {}

    def body(seed: int) -> None:
        clock = clocks[threading.get_native_id()] = Clock(locks)
        work(use, clock, locks, think_s, seed)
        clock.cpu_ns = time.thread_time_ns()
        time.sleep(3600)  # not ended: what that takes is not in the clock

    print(f"ready {os.getpid()}", flush=True)
    sys.stdin.readline()
    workers = [threading.Thread(target=body, args=(seed,), daemon=True) for seed in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    Stopping.now = True
    while len(clocks) < threads or not all(clock.cpu_ns for clock in list(clocks.values())):
        time.sleep(0.02)
    time.sleep(0.05)
    report(Path(file), addresses, clocks)
    os._exit(0)


def report(file: Path, addresses: list[int], clocks: dict[int, Clock]) -> None:
    """Write down all that was clocked."""
    holds = [
        (holds[i], tid, holds[i + 1], holds[i + 2])
        for tid, clock in clocks.items()
        for holds in [clock.holds]
        for i in range(0, len(holds), 3)
    ]
    columns = {
        name: [sum(getattr(clock, name)[lock] for clock in clocks.values()) for lock in range(len(addresses))]
        for name in ("waited", "spun", "queued", "operations")
    }
    file.write_text(
        json.dumps(
            {
                "addresses": addresses,
                **columns,
                "cpu_ns": {tid: clock.cpu_ns for tid, clock in clocks.items()},
                "holds": sorted(holds, key=lambda hold: hold[2]),
            }
        )
    )


if __name__ == "__main__":
    main()
