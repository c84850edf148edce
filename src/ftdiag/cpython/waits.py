"""Functions of the standard library in which threads wait, and what for: the words of all versions.

In: nothing. Out: (end of the file, qualified name) -> words. Which of them a version has stands in its table
(`Facts.waits`), which `tools.cpython_facts` makes from its standard library and checks: a function that was
renamed shows there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Place = tuple[str, str]
"""End of the file's path, qualified name of the function."""

PRIMITIVE_WAITS: Final[Mapping[Place, str]] = {
    # (end of the file's path, qualified name) -> what a thread blocked right there waits for
    ("threading.py", "Condition.wait"): "Condition.wait",
    ("threading.py", "Thread.join"): "Thread.join",
    ("threading.py", "Thread._wait_for_tstate_lock"): "Thread.join",
    ("threading.py", "_shutdown"): "threads to end (interpreter exit)",
    ("concurrent/futures/thread.py", "_worker"): "work for the thread pool",
    ("multiprocessing/connection.py", "wait"): "a connection of multiprocessing",
    ("selectors.py", "SelectSelector.select"): "events (selector)",
    ("selectors.py", "SelectSelector._select"): "events (selector)",
    ("selectors.py", "_PollLikeSelector.select"): "events (selector)",
    ("selectors.py", "EpollSelector.select"): "events (selector)",
    ("selectors.py", "DevpollSelector.select"): "events (selector)",
    ("subprocess.py", "Popen._wait"): "a child process",
    ("subprocess.py", "Popen._try_wait"): "a child process",
}
"""Functions whose own frame is the innermost when they wait for work, a signal or an end."""

ENCLOSING_WAITS: Final[Mapping[Place, str]] = {
    ("threading.py", "Condition.wait_for"): "Condition.wait_for",
    ("threading.py", "Event.wait"): "Event.wait",
    ("threading.py", "Barrier.wait"): "Barrier.wait",
    ("threading.py", "Barrier._wait"): "Barrier.wait",
    ("threading.py", "Barrier._enter"): "Barrier.wait",
    ("threading.py", "Semaphore.acquire"): "Semaphore.acquire",
    ("threading.py", "Thread.start"): "a thread to start",
    ("threading.py", "Timer.run"): "a timer",
    ("queue.py", "Queue.get"): "Queue.get",
    ("queue.py", "Queue.put"): "room in a Queue (put)",
    ("queue.py", "Queue.join"): "Queue.join",
    ("concurrent/futures/_base.py", "Future.result"): "Future.result",
    ("concurrent/futures/_base.py", "Future.exception"): "Future.result",
    ("concurrent/futures/_base.py", "_result_or_cancel"): "Future.result",
    ("concurrent/futures/_base.py", "Executor.map.<locals>.result_iterator"): "Executor.map",
    ("concurrent/futures/_base.py", "wait"): "futures.wait",
    ("concurrent/futures/_base.py", "as_completed"): "futures.as_completed",
    ("concurrent/futures/thread.py", "ThreadPoolExecutor.shutdown"): "the thread pool to end",
    ("multiprocessing/pool.py", "ApplyResult.wait"): "a pool's result",
    ("multiprocessing/pool.py", "ApplyResult.get"): "a pool's result",
    ("multiprocessing/pool.py", "IMapIterator.next"): "a pool's result",
    ("asyncio/base_events.py", "BaseEventLoop._run_once"): "events (asyncio event loop)",
    ("socketserver.py", "BaseServer.serve_forever"): "requests (socketserver)",
    ("subprocess.py", "Popen.wait"): "a child process",
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
