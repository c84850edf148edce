"""Who stopped the world: the holder of what stopped threads wait for.

In: threads that were found stopped at a tick. Out: the holder in what was observed of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ftdiag.model import Confidence, ThreadState
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.locks.stoptheworld import StopTheWorldReader


def tell_requester(
    pauses: StopTheWorldReader, stopped: Iterable[SampledThread], alive: Collection[SampledThread], tick: int
) -> None:
    """Give those that were found stopped at this tick the thread that asked for it as holder."""
    by_state = {id(python): thread for thread in alive for python in thread.python}
    python = pauses.requester([python for thread in alive for python in thread.python])
    if python is None:
        return
    holder = by_state[id(python)].info.index + 1
    for thread in stopped:
        if thread.observation is None:
            continue
        state, stack, wait, before, _ = thread.observation
        if state == ThreadState.STOPPED and before != holder and thread.info.index + 1 != holder:
            thread.observe((state, stack, wait, holder, int(Confidence.KNOWN)), tick)
