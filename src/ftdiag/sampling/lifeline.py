"""Ends a helper process soon after whoever started it is gone, whatever it is doing at that moment.

In: the descriptor of a pipe that the parent keeps open. Out: nothing; the process is gone in time.

The parent's end is noticed in two ways: the pipe closes, and the kernel gives the process another parent
(the pipe alone may be kept open by a child of the parent). In order first: the loop that samples sees the
closed pipe, too, and finishes the recording. A read that takes long keeps it from that, so after `GRACE_S`
the process ends where it stands; a recording loses what was not written yet, a second at most.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import Final

GRACE_S: Final = 1.2
"""How long an orderly end may take once the parent is gone."""
LOOK_EVERY_S: Final = 0.4
"""How often it is asked who the parent is."""
ORPHANED_STATUS: Final = 75


def end_with_parent(descriptor: int, *, grace_s: float = GRACE_S) -> None:
    """From now on end this process when its parent is gone. Returns at once."""
    parent = os.getppid()
    threading.Thread(target=_watch, args=(descriptor, parent, grace_s), name="lifeline", daemon=True).start()


def _watch(descriptor: int, parent: int, grace_s: float) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # POLLHUP and POLLERR are always told
    closed = False
    while os.getppid() == parent:
        if closed:
            # Asked to end by a parent that lives: that may take as long as it takes.
            time.sleep(LOOK_EVERY_S)
        else:
            closed = bool(poll.poll(LOOK_EVERY_S * 1000))
    time.sleep(grace_s)
    os._exit(ORPHANED_STATUS)
