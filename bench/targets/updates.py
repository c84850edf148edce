"""Small programs whose threads update something: `updates.py NAME [--threads 4] [--seconds 30]`.

In: one of the names in RACY and SAFE. Out: "ready PID" on stdout; at the end one JSON line: how many updates
were made and how many are in the result, where the program counts. What is updated takes 5 % of the time
of one thread alone; the rest is work of the thread's own.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import itertools
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable

SHARE = 0.05
GLOBAL = 0
SHARED_TABLE: dict[str, int] = {"a": 0}
CONNECTION: object | None = None
Update = Callable[[int], None]
Result = Callable[[], int]
Program = Callable[[], tuple[Update, Result | None]]


class Counter:
    """Something with attributes."""

    total = 0

    def __init__(self) -> None:
        self.count = 0
        self.balance = 1 << 60
        self.best: object | None = None
        self.items = [0, 0, 0, 0]
        self.lock = threading.Lock()

    def add(self) -> None:
        """One more."""
        self.count += 1

    def changed(self, value: int) -> int:
        """A value that is made of another."""
        return value + 1


class Slotted:
    """An attribute in a slot."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


# --- races ------------------------------------------------------------------------------------------------


def attribute() -> tuple[Update, Result | None]:
    counter = Counter()

    def update(number: int) -> None:
        counter.count += 1

    return update, lambda: counter.count


def method() -> tuple[Update, Result | None]:
    counter = Counter()
    return lambda number: counter.add(), lambda: counter.count


def dict_item() -> tuple[Update, Result | None]:
    table = {"a": 0}

    def update(number: int) -> None:
        table["a"] += 1

    return update, lambda: table["a"]


def dict_get() -> tuple[Update, Result | None]:
    def update(number: int) -> None:
        SHARED_TABLE["a"] = SHARED_TABLE.get("a", 0) + 1

    return update, lambda: SHARED_TABLE["a"]


def global_name() -> tuple[Update, Result | None]:
    def update(number: int) -> None:
        global GLOBAL
        GLOBAL += 1

    return update, lambda: GLOBAL


def closure_cell() -> tuple[Update, Result | None]:
    count = 0

    def update(number: int) -> None:
        nonlocal count
        count += 1

    return update, lambda: count


def list_swap() -> tuple[Update, Result | None]:
    items = list(range(8))

    def update(number: int) -> None:
        items[1], items[2] = items[2], items[1]

    return update, None


def check_then_act() -> tuple[Update, Result | None]:
    account = Counter()

    def update(number: int) -> None:
        if account.balance >= 1:
            account.balance -= 1

    return update, lambda: (1 << 60) - account.balance


def lazy_initialisation() -> tuple[Update, Result | None]:
    def make() -> object:
        return [None] * 64

    def update(number: int) -> None:
        global CONNECTION
        if CONNECTION is None:
            CONNECTION = make()
        CONNECTION = None

    return update, None


def through_a_call() -> tuple[Update, Result | None]:
    counter = Counter()

    def update(number: int) -> None:
        value = counter.count
        value = counter.changed(value)
        counter.count = value

    return update, lambda: counter.count


def sometimes_locked() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    def update(number: int) -> None:
        if number % 2:
            with lock:
                counter.count += 1
        else:
            counter.count += 1

    return update, lambda: counter.count


def two_locks() -> tuple[Update, Result | None]:
    counter = Counter()
    first, second = threading.Lock(), threading.Lock()

    def update(number: int) -> None:
        with first if number % 2 else second:
            counter.count += 1

    return update, lambda: counter.count


def class_attribute() -> tuple[Update, Result | None]:
    def update(number: int) -> None:
        Counter.total += 1

    return update, lambda: Counter.total


def slot() -> tuple[Update, Result | None]:
    counter = Slotted()

    def update(number: int) -> None:
        counter.count += 1

    return update, lambda: counter.count


def list_item() -> tuple[Update, Result | None]:
    counter = Counter()

    def update(number: int) -> None:
        counter.items[0] += 1

    return update, lambda: counter.items[0]


# --- none -------------------------------------------------------------------------------------------------


def locked() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    def update(number: int) -> None:
        with lock:
            counter.count += 1

    return update, lambda: counter.count


def own_lock_of_object() -> tuple[Update, Result | None]:
    counter = Counter()

    def update(number: int) -> None:
        with counter.lock:
            counter.count += 1

    return update, lambda: counter.count


def recursive_lock() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.RLock()

    def update(number: int) -> None:
        with lock, lock:
            counter.count += 1

    return update, lambda: counter.count


def condition() -> tuple[Update, Result | None]:
    counter = Counter()
    changed = threading.Condition()

    def update(number: int) -> None:
        with changed:
            counter.count += 1
            changed.notify_all()

    return update, lambda: counter.count


def lock_in_caller() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    def update(number: int) -> None:
        with lock:
            counter.add()

    return update, lambda: counter.count


def decorated() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    def synchronised(function: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(function)
        def call() -> None:
            with lock:
                function()

        return call

    add = synchronised(counter.add)
    return lambda number: add(), lambda: counter.count


def acquired() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    def update(number: int) -> None:
        lock.acquire()
        try:
            counter.count += 1
        finally:
            lock.release()

    return update, lambda: counter.count


def own_manager() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    class Guard:
        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    guard = Guard()

    def update(number: int) -> None:
        with guard:
            counter.count += 1

    return update, lambda: counter.count


def generator_manager() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    @contextlib.contextmanager
    def guard():  # type: ignore[no-untyped-def]
        with lock:
            yield

    def update(number: int) -> None:
        with guard():
            counter.count += 1

    return update, lambda: counter.count


def exit_stack() -> tuple[Update, Result | None]:
    counter = Counter()
    lock = threading.Lock()

    def update(number: int) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock)
            counter.count += 1

    return update, lambda: counter.count


def semaphore() -> tuple[Update, Result | None]:
    counter = Counter()
    one = threading.Semaphore(1)

    def update(number: int) -> None:
        with one:
            counter.count += 1

    return update, lambda: counter.count


def double_checked() -> tuple[Update, Result | None]:
    holder = Counter()
    lock = threading.Lock()

    def update(number: int) -> None:
        if holder.best is None:
            with lock:
                if holder.best is None:
                    holder.best = [None] * 64
        holder.best = None

    return update, None


def object_of_each_thread() -> tuple[Update, Result | None]:
    counters = [Counter() for _ in range(64)]

    def update(number: int) -> None:
        counters[number].count += 1

    return update, lambda: sum(counter.count for counter in counters)


def method_of_each_thread() -> tuple[Update, Result | None]:
    counters = [Counter() for _ in range(64)]
    return lambda number: counters[number].add(), lambda: sum(counter.count for counter in counters)


def thread_local() -> tuple[Update, Result | None]:
    own = threading.local()

    def update(number: int) -> None:
        try:
            own.count += 1
        except AttributeError:
            own.count = 1

    return update, None


def thread_local_class() -> tuple[Update, Result | None]:
    class Own(threading.local):
        count = 0

    own = Own()

    def update(number: int) -> None:
        own.count += 1

    return update, None


def key_of_each_thread() -> tuple[Update, Result | None]:
    table: dict[int, int] = collections.defaultdict(int)

    def update(number: int) -> None:
        table[threading.get_ident()] += 1

    return update, lambda: sum(table.values())


def index_of_each_thread() -> tuple[Update, Result | None]:
    counts = [0] * 64

    def update(number: int) -> None:
        counts[number] += 1

    return update, lambda: sum(counts)


def locals_only() -> tuple[Update, Result | None]:
    def update(number: int) -> None:
        count = 0
        while count < 4:
            count += 1

    return update, None


def list_append() -> tuple[Update, Result | None]:
    found: list[int] = []

    def update(number: int) -> None:
        found.append(number)
        if len(found) > 100_000:
            found.clear()

    return update, None


def constant_key() -> tuple[Update, Result | None]:
    def update(number: int) -> None:
        SHARED_TABLE["latest"] = number

    return update, None


def plain_store() -> tuple[Update, Result | None]:
    latest = Counter()

    def update(number: int) -> None:
        latest.best = number

    return update, None


def counted_by_itertools() -> tuple[Update, Result | None]:
    numbers = itertools.count()

    def update(number: int) -> None:
        next(numbers)

    return update, None


def through_queue() -> tuple[Update, Result | None]:
    places: queue.SimpleQueue[Counter] = queue.SimpleQueue()
    for _ in range(8):
        places.put(Counter())

    def update(number: int) -> None:
        counter = places.get()
        counter.count += 1
        places.put(counter)

    return update, None


def deque_turns() -> tuple[Update, Result | None]:
    turns = collections.deque(range(16))

    def update(number: int) -> None:
        turns.append(number)
        turns.popleft()

    return update, None


def only_read() -> tuple[Update, Result | None]:
    counter = Counter()

    def update(number: int) -> None:
        if counter.balance < 0:
            counter.balance = 0

    return update, None


RACY: tuple[Program, ...] = (
    *(attribute, method, dict_item, dict_get, global_name, closure_cell, list_swap, check_then_act),
    *(lazy_initialisation, through_a_call, sometimes_locked, two_locks, class_attribute, slot, list_item),
)
SAFE: tuple[Program, ...] = (
    *(
        locked,
        own_lock_of_object,
        recursive_lock,
        condition,
        lock_in_caller,
        decorated,
        acquired,
        own_manager,
    ),
    *(generator_manager, exit_stack, semaphore, double_checked, object_of_each_thread),
    *(method_of_each_thread, thread_local, thread_local_class, key_of_each_thread, index_of_each_thread),
    *(locals_only, list_append, constant_key, plain_store, counted_by_itertools, through_queue, deque_turns),
    *(only_read,),
)
PROGRAMS = {program.__name__: program for program in (*RACY, *SAFE)}


def work(turns: int) -> int:
    """Work of a thread's own."""
    value = 1
    for turn in range(turns):
        value = (value * 31 + turn) & 0xFFFF
    return value


def turns_beside(update: Update) -> int:
    """How much work makes the update SHARE of the time of a thread alone."""
    begin = time.perf_counter_ns()
    for _ in range(20_000):
        update(0)
    of_update = (time.perf_counter_ns() - begin) / 20_000
    begin = time.perf_counter_ns()
    work(2_000_000)
    of_turn = (time.perf_counter_ns() - begin) / 2_000_000
    return max(1, round(of_update / of_turn * (1 - SHARE) / SHARE))


def main() -> None:
    """Run one program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=PROGRAMS)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    update, result = PROGRAMS[options.name]()
    turns = turns_beside(update)
    before = 0 if result is None else result()
    made = [0] * options.threads
    end = [time.monotonic() + options.seconds]
    signal.signal(signal.SIGTERM, lambda *_: end.__setitem__(0, 0.0))

    def body(number: int) -> None:
        count = 0
        while time.monotonic() < end[0]:
            for _ in range(100):
                update(number)
                work(turns)
            count += 100
        made[number] = count

    threads = [
        threading.Thread(target=body, args=(number,), name=f"updater-{number}")
        for number in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
    kept = None if result is None else result() - before
    print(json.dumps({"made": sum(made), "kept": kept}), flush=True)


if __name__ == "__main__":
    main()
