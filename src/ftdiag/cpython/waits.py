"""Functions of the standard library in which threads wait, and what for, of all versions.

In: nothing. Out: (end of the file, qualified name) -> what for. Which of them a version has stands in its
table (`Facts.waits`), which `tools.cpython_facts` makes from its standard library and checks: a function that
was renamed shows there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import LibraryWait

Place = tuple[str, str]
"""End of the file's path, qualified name of the function."""

PRIMITIVE_WAITS: Final[Mapping[Place, LibraryWait]] = {
    # (end of the file's path, qualified name) -> what a thread blocked right there waits for
    ("threading.py", "Condition.wait"): LibraryWait.CONDITION,
    ("threading.py", "Thread.join"): LibraryWait.JOIN,
    ("threading.py", "Thread._wait_for_tstate_lock"): LibraryWait.JOIN,
    ("threading.py", "_shutdown"): LibraryWait.EXIT,
    ("concurrent/futures/thread.py", "_worker"): LibraryWait.POOL_WORK,
    ("multiprocessing/connection.py", "wait"): LibraryWait.CONNECTION,
    ("selectors.py", "SelectSelector.select"): LibraryWait.SELECTOR,
    ("selectors.py", "SelectSelector._select"): LibraryWait.SELECTOR,
    ("selectors.py", "_PollLikeSelector.select"): LibraryWait.SELECTOR,
    ("selectors.py", "EpollSelector.select"): LibraryWait.SELECTOR,
    ("selectors.py", "DevpollSelector.select"): LibraryWait.SELECTOR,
    ("subprocess.py", "Popen._wait"): LibraryWait.CHILD,
    ("subprocess.py", "Popen._try_wait"): LibraryWait.CHILD,
}
"""Functions whose own frame is the innermost when they wait for work, a signal or an end."""

ENCLOSING_WAITS: Final[Mapping[Place, LibraryWait]] = {
    ("threading.py", "Condition.wait_for"): LibraryWait.CONDITION_FOR,
    ("threading.py", "Event.wait"): LibraryWait.EVENT,
    ("threading.py", "Barrier.wait"): LibraryWait.BARRIER,
    ("threading.py", "Barrier._wait"): LibraryWait.BARRIER,
    ("threading.py", "Barrier._enter"): LibraryWait.BARRIER,
    ("threading.py", "Semaphore.acquire"): LibraryWait.SEMAPHORE,
    ("threading.py", "Thread.start"): LibraryWait.THREAD_START,
    ("threading.py", "Timer.run"): LibraryWait.TIMER,
    ("queue.py", "Queue.get"): LibraryWait.QUEUE_GET,
    ("queue.py", "Queue.put"): LibraryWait.QUEUE_PUT,
    ("queue.py", "Queue.join"): LibraryWait.QUEUE_JOIN,
    ("concurrent/futures/_base.py", "Future.result"): LibraryWait.FUTURE,
    ("concurrent/futures/_base.py", "Future.exception"): LibraryWait.FUTURE,
    ("concurrent/futures/_base.py", "_result_or_cancel"): LibraryWait.FUTURE,
    ("concurrent/futures/_base.py", "Executor.map.<locals>.result_iterator"): LibraryWait.EXECUTOR_MAP,
    ("concurrent/futures/_base.py", "wait"): LibraryWait.FUTURES_WAIT,
    ("concurrent/futures/_base.py", "as_completed"): LibraryWait.AS_COMPLETED,
    ("concurrent/futures/thread.py", "ThreadPoolExecutor.shutdown"): LibraryWait.POOL_END,
    ("multiprocessing/pool.py", "ApplyResult.wait"): LibraryWait.POOL_RESULT,
    ("multiprocessing/pool.py", "ApplyResult.get"): LibraryWait.POOL_RESULT,
    ("multiprocessing/pool.py", "IMapIterator.next"): LibraryWait.POOL_RESULT,
    ("asyncio/base_events.py", "BaseEventLoop._run_once"): LibraryWait.EVENT_LOOP,
    ("socketserver.py", "BaseServer.serve_forever"): LibraryWait.REQUESTS,
    ("subprocess.py", "Popen.wait"): LibraryWait.CHILD,
}
"""Functions that lead to a primitive wait and say better what it is for; looked for around it."""

IMPORT_WAITS: Final[frozenset[Place]] = frozenset(
    {
        ("importlib/_bootstrap.py", "_ModuleLock.acquire"),
        ("importlib/_bootstrap.py", "_ModuleLockManager.__enter__"),
        ("importlib/_bootstrap.py", "_BlockingOnManager.__enter__"),
    }
)
"""Functions in which a thread waits for another one's import."""

ALL: Final[tuple[Place, ...]] = tuple(sorted({*PRIMITIVE_WAITS, *ENCLOSING_WAITS, *IMPORT_WAITS}))
