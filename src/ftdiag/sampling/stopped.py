"""Who stopped the world: the holder of what stopped threads wait for.

In: threads that were found stopped at a tick. Out: the holder in what was observed of them. For some time
after one was, the state of pauses is read together with the stacks: read later, a pause is often over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import Confidence, ThreadState
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.locks.stoptheworld import StopTheWorldReader

LIKELY_TICKS: Final = 100
"""For so many ticks after a thread was found stopped it is likely that another one will be."""


class Stopped:
    """The stopped threads of one target."""

    def __init__(
        self, pauses: StopTheWorldReader, locks: LockReader, alive: Mapping[int, SampledThread]
    ) -> None:
        self._pauses = pauses
        self._locks = locks
        self._alive = alive
        self._threads: list[SampledThread] = []
        self._likely = 0

    @property
    def places(self) -> dict[int, int]:
        """What tells who stopped them, if it is read: address -> size. The same one all the time."""
        return self._pauses.places

    def add(self, thread: SampledThread) -> None:
        """It was found stopped at this tick."""
        self._threads.append(thread)
        self._likely = LIKELY_TICKS

    def want(self) -> None:
        """Have what tells who stops threads read together with stacks, if that is likely to be asked."""
        if self._likely > 0:
            self._locks.want_places(self.places)

    def pass_over(self, ticks: int) -> None:
        """So many ticks were taken."""
        self._likely -= ticks

    def tell(self, tick: int) -> None:
        """Give those that were found stopped at this tick the thread that asked for it as holder."""
        if not self._threads:
            return
        stopped, self._threads = self._threads, []
        alive = self._alive.values()
        by_state = {id(python): thread for thread in alive for python in thread.python}
        python = self._pauses.requester(
            [python for thread in alive for python in thread.python], self._locks.bytes_at
        )
        if python is None:
            return
        holder = by_state[id(python)].info.index + 1
        for thread in stopped:
            if thread.observation is None:
                continue
            state, stack, wait, before, _ = thread.observation
            if state == ThreadState.STOPPED and before != holder and thread.info.index + 1 != holder:
                thread.observe((state, stack, wait, holder, int(Confidence.KNOWN)), tick)
