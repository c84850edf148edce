"""Where the standard library waits for work or for others to finish: what tells idleness from contention.

In: the innermost Python frames of a blocked thread. Out: the library wait it is in, if any.
The parking lot looks the same from outside whether a worker has nothing to do or fights for a lock; only
the Python frames above the wait tell. One table serves 3.13 to 3.15: the functions have the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.model import Frame

PRIMITIVE_WAITS: Final[dict[tuple[str, str], str]] = {
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

ENCLOSING_WAITS: Final[dict[tuple[str, str], str]] = {
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

IMPORT_LOCKS: Final = frozenset(
    {"_ModuleLock.acquire", "_ModuleLockManager.__enter__", "_BlockingOnManager.__enter__"}
)
"""Functions of importlib._bootstrap in which a thread waits for another one's import."""

RAW_SIMPLE_QUEUE: Final = "SimpleQueue.get"


def _plain(table: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """The table by unqualified names, without those that several functions of a file share."""
    found: dict[tuple[str, str], set[str]] = {}
    for (file_end, function), words in table.items():
        found.setdefault((file_end, function.rpartition(".")[2]), set()).add(words)
    return {key: next(iter(words)) for key, words in found.items() if len(words) == 1}


_PLAIN_PRIMITIVE_WAITS: Final = _plain(PRIMITIVE_WAITS)
_PLAIN_ENCLOSING_WAITS: Final = _plain(ENCLOSING_WAITS)


def library_wait(frames: Sequence[Frame], *, qualified: bool = True) -> str | None:
    """What the standard library waits for in these frames (leaf first), or `None` if it is no such wait.

    Only the innermost frame decides whether it is one; the frames around it make the words better. Before
    3.11 code has no `qualified` name: a method is then told by its own name, where the file has only one.
    """
    if not frames:
        return None
    primitive, enclosing = (
        (PRIMITIVE_WAITS, ENCLOSING_WAITS) if qualified else (_PLAIN_PRIMITIVE_WAITS, _PLAIN_ENCLOSING_WAITS)
    )
    words = _look_up(primitive, frames[0])
    if words is None:
        return None
    for frame in frames[1:]:
        better = _look_up(enclosing, frame) or _look_up(primitive, frame)
        if better is None:
            break
        words = better
    return words


def is_condition_wait(frame: Frame) -> bool:
    """Whether the frame is Condition.wait: it has released the condition's lock and waits for a signal."""
    return frame.function == "Condition.wait" and _is_library_file(frame.filename, "threading.py")


def is_import_wait(frames: Sequence[Frame]) -> bool:
    """Whether the innermost frames wait for an import that another thread is doing."""
    return any(
        frame.function in IMPORT_LOCKS and "importlib._bootstrap" in frame.filename for frame in frames[:3]
    )


def _look_up(table: dict[tuple[str, str], str], frame: Frame) -> str | None:
    for (file_end, function), words in table.items():
        if frame.function == function and _is_library_file(frame.filename, file_end):
            return words
    return None


def _is_library_file(filename: str, file_end: str) -> bool:
    """A file of the standard library: a program's own queue.py is not one (its path has no "python3")."""
    return filename.endswith("/" + file_end) and ("/python3" in filename or "/Lib/" in filename)
