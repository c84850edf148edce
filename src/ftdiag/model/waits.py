"""What the standard library waits for, and for whom.

In: nothing. Out: `LibraryWait`, the words that a recording has of such a wait (`Wait.detail`).
"""

from __future__ import annotations

import enum


class LibraryWait(enum.StrEnum):
    """What a function of the standard library waits for; the value is recorded and shown."""

    CONDITION = "Condition.wait"
    CONDITION_FOR = "Condition.wait_for"
    JOIN = "Thread.join"
    EXIT = "threads to end (interpreter exit)"
    POOL_WORK = "work for the thread pool"
    CONNECTION = "a connection of multiprocessing"
    SELECTOR = "events (selector)"
    CHILD = "a child process"
    EVENT = "Event.wait"
    BARRIER = "Barrier.wait"
    SEMAPHORE = "Semaphore.acquire"
    THREAD_START = "a thread to start"
    TIMER = "a timer"
    QUEUE_GET = "Queue.get"
    QUEUE_PUT = "room in a Queue (put)"
    QUEUE_JOIN = "Queue.join"
    FUTURE = "Future.result"
    EXECUTOR_MAP = "Executor.map"
    FUTURES_WAIT = "futures.wait"
    AS_COMPLETED = "futures.as_completed"
    POOL_END = "the thread pool to end"
    POOL_RESULT = "a pool's result"
    EVENT_LOOP = "events (asyncio event loop)"
    REQUESTS = "requests (socketserver)"

    @property
    def for_others(self) -> bool:
        """Whether who waits handed its work to others: it is no worker without work."""
        return self in _FOR_OTHERS

    @property
    def for_a_task(self) -> bool:
        """Whether the wait ends when tasks of an executor do."""
        return self in _FOR_A_TASK


_FOR_A_TASK = frozenset({LibraryWait.FUTURE, LibraryWait.FUTURES_WAIT, LibraryWait.AS_COMPLETED})
_FOR_OTHERS = _FOR_A_TASK | {
    LibraryWait.JOIN,
    LibraryWait.EXECUTOR_MAP,
    LibraryWait.POOL_END,
    LibraryWait.EXIT,
    LibraryWait.THREAD_START,
    LibraryWait.CHILD,
}


def library_wait_of(words: str | None) -> LibraryWait | None:
    """The wait of the standard library that these words are; None if it is another one."""
    if words is None or words not in LibraryWait._value2member_map_:
        return None
    return LibraryWait(words)
