"""Threads that hold locks in every way there is, each with one that waits for it.

The holder is named after its case, who waits "CASE waiter". A holder that holds several has waiters "CASE
waiter 0", "CASE waiter 1" ... in the order in which it took them. Says "ready PID" when all threads have
been started: who looks at them has to wait until they sleep.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

LONG = 1000.0
cases: dict[str, Callable[[Any], object]] = {}
held = threading.Semaphore(0)


def case(function: Callable[[Any], object]) -> Callable[[Any], object]:
    """Adds one; it is given three locks and calls `rest` when it holds what it wants to."""
    cases[function.__name__] = function
    return function


def rest() -> int:
    """The end of the line of every case."""
    held.release()
    time.sleep(LONG)
    return 0


# --- proven by `with` ---


@case
def plain(locks: Any) -> None:
    with locks[0]:
        rest()


@case
def nested(locks: Any) -> None:
    with locks[0]:  # noqa: SIM117
        with locks[1]:
            for _ in range(1):
                with locks[2]:
                    rest()


@case
def in_one_statement(locks: Any) -> None:
    with locks[0] as _first, locks[1], locks[2]:
        rest()


def deepest(locks: Any) -> None:
    with locks[2]:
        rest()


def deeper(locks: Any) -> None:
    with locks[1]:
        deepest(locks)


@case
def of_callers(locks: Any) -> None:
    with locks[0]:
        deeper(locks)


@case
def in_try(locks: Any) -> None:
    try:
        with locks[0]:
            try:
                with locks[1]:
                    rest()
            except ValueError:
                pass
            else:
                pass
    finally:
        time.sleep(0)


@case
def in_except_and_finally(locks: Any) -> None:
    with locks[0]:
        try:
            raise ValueError
        except ValueError:
            with locks[1]:
                try:
                    time.sleep(0)
                finally:
                    with locks[2]:
                        rest()


@case
def around_try(locks: Any) -> None:
    with locks[0]:  # noqa: SIM117
        with suppress(KeyError):
            try:
                raise KeyError
            finally:
                rest()


@case
def after_others(locks: Any) -> None:
    with locks[1]:
        pass
    with locks[0]:
        rest()


@case
def in_generator(locks: Any) -> None:
    def items() -> Iterator[int]:
        with locks[1]:
            yield 1
            rest()

    with locks[0]:
        for _ in items():
            pass


@case
def by_generator_that_is_suspended(locks: Any) -> None:
    def items() -> Iterator[int]:
        with locks[1]:
            yield 1

    with locks[0]:
        for _ in items():
            rest()


@case
def in_coroutine(locks: Any) -> None:
    async def inner() -> None:
        with locks[1]:
            await asyncio.sleep(0)
            rest()

    async def outer() -> None:
        with locks[0]:
            await inner()

    asyncio.run(outer())


@case
def in_async_with(locks: Any) -> None:
    @asynccontextmanager
    async def managed() -> AsyncIterator[None]:
        with locks[1]:
            yield

    async def work() -> None:
        with locks[0]:
            async with managed():
                rest()

    asyncio.run(work())


@case
def in_class_body(locks: Any) -> None:
    class Made:
        with locks[0]:
            rest()


@case
def in_comprehension(locks: Any) -> None:
    with locks[0]:
        [rest() for _ in range(1)]


@case
def in_lambda_and_sort(locks: Any) -> None:
    with locks[0]:
        sorted([1], key=lambda _: rest())


@case
def in_many_locals(locks: Any) -> None:
    names = "\n".join(f" v{number} = {number}" for number in range(300))
    scope: dict[str, Any] = {"rest": rest, "locks": locks}
    exec(f"def wide():\n{names}\n with locks[0]:\n  rest()\nwide()\n", scope)


@case
def reading(locks: Any) -> None:
    left, right = socket.socketpair()
    with locks[0]:
        held.release()
        left.recv(1)
    right.close()


@case
def waiting_for_another(locks: Any) -> None:
    with locks[0]:
        held.release()
        cases_locks["plain"][0].acquire()


@case
def again(locks: Any) -> None:
    with locks[0]:  # noqa: SIM117
        with suppress(ValueError):
            rest()


# --- not known ---


@case
def by_acquire(locks: Any) -> None:
    locks[0].acquire()
    rest()


@case
def by_acquire_beside_with(locks: Any) -> None:
    with locks[1]:
        locks[0].acquire()
        rest()


@case
def by_exit_stack(locks: Any) -> None:
    with ExitStack() as stack:
        stack.enter_context(locks[0])
        rest()


@case
def by_managed_generator(locks: Any) -> None:
    @contextmanager
    def managed() -> Iterator[None]:
        with locks[0]:
            yield

    with managed():
        rest()


@case
def released_inside(locks: Any) -> None:
    """Gives the lock to another thread although it is still in the with block."""
    with locks[0]:
        locks[0].release()

        def take() -> None:
            locks[0].acquire()
            rest()

        threading.Thread(target=take, name="released_inside taker", daemon=True).start()
        time.sleep(LONG)


def want(name: str, lock: Any) -> None:
    """A thread that waits for a lock."""

    def wait() -> None:
        with lock:
            pass

    threading.Thread(target=wait, name=name, daemon=True).start()


cases_locks: dict[str, list[Any]] = {}


def main() -> None:
    """All cases with the kind of lock that is asked for."""
    make = {"lock": threading.Lock, "rlock": threading.RLock, "condition": threading.Condition}[sys.argv[1]]
    rlocks = sys.argv[1] != "lock"
    for name, function in cases.items():
        if rlocks and name == "released_inside":
            continue
        locks = cases_locks[name] = [make() for _ in range(3)]
        threading.Thread(target=function, args=(locks,), name=name, daemon=True).start()
        held.acquire()
    for name, locks in cases_locks.items():
        for number, lock in enumerate(locks):
            if not free(lock):
                want(f"{name} waiter {number}", lock)
    sys.stdout.write(f"ready {os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(LONG)


def free(lock: Any) -> bool:
    """Whether nobody has it."""
    if lock.acquire(blocking=False):
        lock.release()
        return True
    return False


if __name__ == "__main__":
    main()
