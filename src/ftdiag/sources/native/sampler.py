"""Samples the threads of a process that run on a core, and says what each sample is.

In: a pid, thread ids, a rate. Out: `NativeSample`s. Puts together perfevents and rings (the samples) and the
classifier (what they mean).
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final

from ftdiag.sources.kernel.perfevents import (
    MAX_BUFFER_PAGES,
    PAGE_BYTES,
    Event,
    Refused,
    kernel_permitted,
    of_core,
    read_number,
)
from ftdiag.sources.kernel.rings import rings
from ftdiag.sources.native.classifier import Classifier, NativeSample
from ftdiag.sources.python.runtime import Runtime

MAX_EVENTS: Final = 4096
"""Threads sampled at once; with more they take turns."""
TURNS_EACH_REFRESH: Final = 64
"""Threads that make room for waiting ones at each refresh."""
BUFFERED_SECONDS: Final = 0.6
"""How long a buffer holds a busy thread's samples, at least; the reader comes four times a second."""
CRAMPED_NS: Final = 100_000_000
"""How often they are emptied once some had to be smaller, for want of memory that may be locked."""
RECORD_BYTES: Final = 192
RELOAD_EVERY: Final = 10
"""Refreshes after which the mappings are read again, even if nothing unknown was hit."""
CORES_PERIOD_NS: Final = 300_000
"""The time between two samples of a core for each core that there is: all of them together take 3,300
samples per second at most, of whatever runs there."""
MAX_CORES: Final = 64
"""Cores whose events are open at once."""
MAX_ASKED: Final = 64
"""Threads that are asked which cores they may use."""


class NativeSampler:
    """Samples the threads of a process that run on a core.

    By their own events, or all together by those of the cores. The former are anybody's to have; the kernel
    sets a timer at each switch of a sampled thread. Those of the cores take privileges, a switch costs
    nothing, and they see threads that end before an event can be opened for them.

    Raises PermissionRefused, with the remedy, if perf events are not permitted; TargetGone.
    """

    def __init__(self, pid: int, rate_hz: float, runtime: Runtime, most: int = MAX_EVENTS) -> None:
        """`most` threads are sampled at once; where there are more, they take turns."""
        self._pid = pid
        self._most = max(1, min(most, MAX_EVENTS))
        self.kernel_included = kernel_permitted(pid)
        self.period_ns = self._turn_period_ns = int(1e9 / rate_hz)
        self._classifier = Classifier(pid, runtime.image, kernel=self.kernel_included)
        self._pages = buffer_pages(rate_hz)
        self._events: dict[int, Event] = {}
        self._of_cores: list[Event] = []
        self.rings = rings(pid)
        """What empties their buffers."""
        self._waiting: deque[int] = deque()
        self._resting: dict[int, None] = {}
        """Threads that are not sampled until they are woken; all while it pauses."""
        self._paused = False
        self._limit = self._most
        self._lost = 0
        self._refreshes = 0
        self._searched = False
        self.description = self._describe(rate_hz)

    @property
    def lost(self) -> int:
        """Samples that the kernel dropped since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost

    @property
    def resting(self) -> bool:
        """Whether threads wait to be woken."""
        return bool(self._resting)

    @property
    def sampled_share(self) -> float:
        """Part of the threads that are sampled at the moment."""
        if self.by_core:
            return 1.0
        threads = len(self._events) + len(self._waiting)
        return len(self._events) / threads if threads else 1.0

    @property
    def by_core(self) -> bool:
        """Whether it samples by the events of the cores."""
        return bool(self._of_cores)

    def take_unnamed(self) -> dict[tuple[str, str], int]:
        """(file, why) -> how often: files whose functions have no names, since this was asked last."""
        return self._classifier.take_unnamed()

    def know_locks(self, known: Mapping[int, str]) -> None:
        """Take the addresses of the interpreter's own locks: samples that spin for one have it."""
        self._classifier.known_locks = known

    def add_thread(self, tid: int) -> None:
        """Begin to sample a thread; one that is gone or already known is ignored."""
        if tid in self._events or tid in self._waiting:
            return
        if self._paused:
            self._resting[tid] = None
            return
        if len(self._events) >= self._limit or not self._open(tid):
            self._waiting.append(tid)

    def remove_thread(self, tid: int) -> None:
        """End sampling of a thread; its last samples still come with the next read."""
        self._resting.pop(tid, None)
        event = self._events.pop(tid, None)
        if event is None:
            if tid in self._waiting:
                self._waiting.remove(tid)
            return
        self._close(event)
        self._promote()

    def pause(self) -> None:
        """Sample nobody for now; what was sampled comes with the next read."""
        self._paused = True
        for event in self._events.values():
            self._close(event)
        self._resting.update(dict.fromkeys([*self._events, *self._waiting]))
        self._events.clear()
        self._waiting.clear()

    def resume(self, dense: float = 1.0) -> None:
        """Sample threads again, as they are woken: so many times as often as was asked for."""
        self._paused = False
        self._turn_period_ns = max(1, int(self.period_ns / dense))
        self._pages = buffer_pages(1e9 / self._turn_period_ns)

    def go_by_core(self) -> bool:
        """Sample whoever of the process runs on a core, in place of each thread; whether that is permitted.

        Until it goes by thread again, nothing need be woken, and threads that come and go cost nothing.
        """
        if self.by_core:
            return True
        cores = self._cores()
        period_ns = max(self.period_ns, len(cores) * CORES_PERIOD_NS)
        try:
            for core in cores:
                event = Event(
                    of_core(core),
                    period_ns,
                    kernel=self.kernel_included,
                    pages=buffer_pages(1e9 / period_ns),
                )
                self._of_cores.append(event)
        except Refused:
            while self._of_cores:
                self._of_cores.pop().close()
            return False
        self.pause()
        for event in self._of_cores:
            self._follow(event)
        return True

    def go_by_thread(self) -> None:
        """Sample each thread again, as it is woken."""
        while self._of_cores:
            self._close(self._of_cores.pop())
        self.resume()

    def _cores(self) -> list[int]:
        """The cores that its threads may use, at most so many of them."""
        cores: set[int] = set()
        for tid in (self._pid, *islice(self._events, MAX_ASKED)):
            with suppress(OSError):
                cores |= os.sched_getaffinity(tid)
        return any_of(sorted(cores), MAX_CORES)

    def let_rest(self, tid: int) -> None:
        """Know a thread, and do not sample it until it is woken."""
        if tid not in self._events and tid not in self._waiting:
            self._resting[tid] = None

    def wake(self, tids: Iterable[int]) -> None:
        """Sample those of them that rest since the last pause: a thread that never runs need not be."""
        if not self._resting or self._paused:
            return
        for tid in tids:
            if tid in self._resting:
                del self._resting[tid]
                self.add_thread(tid)

    def drain(self, now_ns: int) -> None:
        """Make room in the buffers; what was in them comes with `read`."""
        self._begin_search()
        self.rings.drain(now_ns)

    def _begin_search(self) -> None:
        if not self._searched:  # not before: the first ticks do not wait for it
            self._searched = True
            self._classifier.begin_search()

    def read(self) -> list[NativeSample]:
        """What was sampled since the last call, in the order of time."""
        self._begin_search()
        raw, lost = self.rings.take()
        self._lost += lost
        self._classifier.end_search()
        return self._classifier.judge_all(raw)

    def refresh(self) -> None:
        """About once a second: follow libraries that come and go, and let waiting threads have their turn."""
        self._refreshes += 1
        if self._classifier.missed or self._refreshes % RELOAD_EVERY == 0:
            self._classifier.reload()
        if self._refreshes % RELOAD_EVERY == 0:
            self._classifier.lines.age()
        if self._waiting:
            self._limit = min(self._most, 2 * self._limit)  # perhaps there is more memory now
            self._promote()
            self._take_turns()

    def _take_turns(self) -> None:
        """Threads that were not on a core make room first; if all were, those that had the longest turn."""
        active = self.rings.active()
        idle = [tid for tid in self._events if tid not in active]
        turns = min(TURNS_EACH_REFRESH, len(self._waiting), len(self._events))
        for tid in (idle or list(self._events))[:turns]:
            self._close(self._events.pop(tid))
            self._waiting.append(tid)
        self._promote()

    def close(self) -> None:
        """End sampling."""
        for event in (*self._events.values(), *self._of_cores):
            self._close(event)
        self._events.clear()
        self._of_cores.clear()
        self._waiting.clear()

    def _open(self, tid: int) -> bool:
        """Whether nothing is left to do for the thread: it is sampled now, or gone."""
        for pages in dict.fromkeys((self._pages, 1)):
            try:
                event = Event(tid, self._turn_period_ns, kernel=self.kernel_included, pages=pages)
            except Refused as refused:
                if refused.code == errno.ESRCH:
                    return True
                continue  # EPERM: the limit of locked memory; EMFILE, ENOMEM: other limits
            self._events[tid] = event
            self._follow(event)
            if pages < self._pages:
                self.rings.every_ns = CRAMPED_NS
            return True
        self._limit = max(1, len(self._events))
        return False

    def _follow(self, event: Event) -> None:
        self.rings.follow(event.number, event.head, event.tail, event.data, event.size)

    def _close(self, event: Event) -> None:
        self.rings.forget(event.number)
        event.close()

    def _promote(self) -> None:
        while self._waiting and len(self._events) < self._limit:
            tid = self._waiting.popleft()
            if not self._open(tid):
                self._waiting.appendleft(tid)
                return

    def _describe(self, rate_hz: float) -> str:
        words = f"cpu-clock at {rate_hz:g} Hz, each thread, "
        if not self.kernel_included:
            paranoid = read_number("perf_event_paranoid")
            words += (
                "without the kernel (perf_event_paranoid is "
                f"{'not readable' if paranoid is None else paranoid}):"
                " page faults and yielding are not seen; sudo sysctl kernel.perf_event_paranoid=1"
            )
        elif self._classifier.kernel_named:
            words += "with the kernel"
        else:
            words += "with the kernel, whose functions have no names here (kptr_restrict)"
        if self._classifier.python_stripped:
            words += "; the Python program is stripped: its functions were found by what refers to them"
        return words


def buffer_pages(rate_hz: float) -> int:
    """Data pages of a buffer: a power of two that holds BUFFERED_SECONDS of samples."""
    wanted = rate_hz * BUFFERED_SECONDS * RECORD_BYTES
    pages = 1
    while pages * PAGE_BYTES < wanted and pages < MAX_BUFFER_PAGES:
        pages *= 2
    return pages


def any_of(cores: list[int], most: int) -> list[int]:
    """At most so many of them, at random: what runs on some says what runs on all."""
    left = list(cores)
    while len(left) > most:
        del left[int.from_bytes(os.urandom(4), "little") % len(left)]
    return left
