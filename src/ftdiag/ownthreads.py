"""Starts threads of our own, and says plainly where there is no memory for one.

In: what is to run. Out: a daemon thread that runs, or `MemoryError`. Python says "can't start new thread"
where its stack could not be mapped or the process may have no more tasks (pthread_create(3), EAGAIN): with
the limits that people set for their shells both are a matter of what may be used, not of a mistake.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


def start_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """A daemon thread that runs `target`. Raises MemoryError where there is no room for it.

    One that runs out of memory later ends in silence: what it was to bring is not there, and not known.
    """

    def run() -> None:
        with suppress(MemoryError):
            target()

    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise MemoryError(f"no room for the thread {name!r}: {error}") from None
    return thread
