"""Ends a helper process soon after whoever started it is gone, whatever it is doing at that moment.

In: the descriptor of a pipe that the parent keeps open. Out: the process is gone in time, and with it what
is nobody's without the parent.

The parent's end is noticed in two ways: the pipe closes, and the kernel gives the process another parent
(the pipe alone may be kept open by a child of the parent). In order first: the loop that samples sees the
closed pipe, too, and finishes the recording. A read that takes long keeps it from that, so after `GRACE_S`
the process ends where it stands; a recording loses what was not written yet, a second at most.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Final

from ftdiag.ownthreads import start_thread

GRACE_S: Final = 1.2
"""How long an orderly end may take once the parent is gone."""
LOOK_EVERY_S: Final = 0.4
"""How often it is asked who the parent is."""
ORPHANED_STATUS: Final = 75


class Lifeline:
    """Watches the parent from a thread of its own, from now on."""

    def __init__(self, descriptor: int, *, grace_s: float = GRACE_S) -> None:
        self._descriptor = descriptor
        self._grace_s = grace_s
        self._parent = os.getppid()
        self.abandoned: Path | None = None
        """A folder that only the parent wants: it is removed when that is gone."""
        start_thread(self._watch, "lifeline")

    def clear_away(self) -> None:
        """At an end in order: remove what is nobody's, if the parent is gone."""
        if self.abandoned is not None and self._parent_is_gone():
            import shutil

            shutil.rmtree(self.abandoned, ignore_errors=True)

    def _parent_is_gone(self) -> bool:
        """Whether it has ended or is about to: it lets go of its memory before it closes the pipe (do_exit in
        kernel/exit.c), and hands over its children last."""
        if os.getppid() != self._parent:
            return True
        try:
            return Path(f"/proc/{self._parent}/statm").read_bytes().startswith(b"0 ")
        except OSError:
            return True

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, 0)  # POLLHUP and POLLERR are always told
        closed = False
        while os.getppid() == self._parent:
            if closed:
                # Asked to end by a parent that lives: that may take as long as it takes.
                time.sleep(LOOK_EVERY_S)
            else:
                closed = bool(poll.poll(LOOK_EVERY_S * 1000))
        time.sleep(self._grace_s)
        self.clear_away()
        os._exit(ORPHANED_STATUS)
