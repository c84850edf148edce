"""Starts threads of our own, says plainly where there is no memory for one, and gives our processes a name.

In: what is to run. Out: a daemon thread that runs, or `MemoryError`; a name in process lists. Python
says "can't start new thread" where its stack could not be mapped or the process may have no more tasks
(pthread_create(3), EAGAIN): with the limits that people set for their shells both are a matter of what may be
used, not of a mistake.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

OWN_NAME: Final = "ftdiag"
"""What the kernel calls ftdiag's processes, in `top` as in recordings; a longer name begins so."""


def take_name(part: str = "") -> None:
    """Call this process ftdiag, and which part of it, where processes are listed. Of 15 characters in all."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as stream:
        stream.write(f"{OWN_NAME}{part}")


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
