"""The flight recorder itself: follows which processes there are, looks at each, keeps what triggers ask for.

In: what is wanted, a plan, a store. Out: recordings in the store's directory; figures and profiles for
others. One `step` does all that is due; it waits for nothing but the samplers' start.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ftdiag.errors import FtdiagError, PermissionRefused
from ftdiag.watching.figures import Figure, Reading, figures
from ftdiag.watching.store import Store
from ftdiag.watching.targets import Wanted
from ftdiag.watching.watched import MANUAL, Plan, Watched

if TYPE_CHECKING:
    from ftdiag.watching.pushing import Pusher

FIND_EVERY_S: Final = 2.0
LOOK_EVERY_S: Final = 5.0
"""Conditions and figures are looked at so often; without any of either, nothing is."""
PRUNE_EVERY_S: Final = 30.0
PUSH_EVERY_S: Final = 15.0
FOREIGN_S: Final = 60.0
"""So long what is no Python is left alone: a shell may become one."""
MAX_WATCHED: Final = 64
"""Processes at a time; how many more there are is said."""


class Recorder:
    """See the module. With `look_share` each process is looked at in its turn, at most every `look_every_s`,
    and all looks together take no more than that part of a core: many processes are looked at less often.
    """

    def __init__(
        self,
        wanted: Wanted,
        plan: Plan,
        store: Store,
        say: Callable[[str], None],
        *,
        most: int = MAX_WATCHED,
        looking: bool = True,
        look_every_s: float = LOOK_EVERY_S,
        look_share: float | None = None,
        with_ready: bool = True,
        pusher: Pusher | None = None,
        complete: Callable[[Path], object] = lambda path: None,
        clock: Callable[[], float] = time.monotonic,
        make: Callable[..., Watched] = Watched,
    ) -> None:
        self._wanted = wanted
        self._plan = plan
        self._store = store
        self._say = say
        self._most = most
        self._looking = looking
        self._look_every_s = look_every_s
        self._look_share = look_share
        self._looked_s: dict[int, float] = {}
        self._with_ready = with_ready
        self._pusher = pusher
        self._complete = complete
        """Told of each recording that was kept, once it is complete."""
        self._clock = clock
        self._make = make
        self._due: dict[str, float] = {}
        self._left_out = 0
        self._told_drops = 0
        self._foreign: dict[int, float] = {}
        """Processes that are no Python, and until when they are left alone."""
        self._lock = threading.Lock()
        self._readings: tuple[Reading, ...] = ()
        self.watched: dict[int, Watched] = {}

    @property
    def over(self) -> bool:
        """Whether the one process that was to be watched has ended, and everything is written."""
        one = self._wanted.is_one and bool(self.watched)
        return one and all(each.gone and not each.recording_fully for each in self.watched.values())

    @property
    def refused(self) -> PermissionRefused | None:
        """That the one process that was to be watched may not be read; of many others may."""
        return next((each.refused for each in self.watched.values()), None) if self._wanted.is_one else None

    def figures(self) -> list[Figure]:
        """What is published now; may be called by any thread."""
        with self._lock:
            readings = self._readings
        return list(figures(readings))

    def step(self) -> None:
        """Do what is due."""
        if self._is_due("find", FIND_EVERY_S):
            self._find()
        for each in self.watched.values():
            each.step()
        if self._looking and self._look_share is not None:
            self._look_in_turn(self._look_share)
        elif self._looking and self._is_due("look", self._look_every_s):
            self._look()
        if self._pusher is not None and self._is_due("push", PUSH_EVERY_S):
            self._push(self._pusher)
        if self._is_due("prune", PRUNE_EVERY_S):
            self._store.prune()

    def keep_all(self, why: str = MANUAL) -> None:
        """Keep the rings of all processes, and record each at full rate."""
        for each in self.watched.values():
            self._keep(each, why)

    def look_now(self) -> None:
        """Look at all of them once more."""
        self._look()

    def close(self) -> None:
        """End everything."""
        for each in self.watched.values():
            each.close()

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self._clock()
        if now < self._due.get(what, float("-inf")):
            return False
        self._due[what] = now + every_s
        return True

    def _find(self) -> None:
        there = self._wanted.now()
        for pid in [pid for pid, each in self.watched.items() if each.gone and not each.recording_fully]:
            if not self._wanted.is_one:
                gone = self.watched.pop(pid)
                gone.close()
                if gone.foreign:
                    self._foreign[pid] = self._clock() + FOREIGN_S
        now = self._clock()
        self._foreign = {pid: until for pid, until in self._foreign.items() if pid in there and until > now}
        places = self._most - len(self.watched)
        new = [pid for pid in there if pid not in self.watched and pid not in self._foreign]
        for pid in new[: max(0, places)]:
            self.watched[pid] = self._make(
                pid,
                self._plan,
                self._store,
                self._say,
                self._clock,
                with_ready=self._with_ready,
                of_many=not self._wanted.is_one,
                complete=self._complete,
            )
        left_out = max(0, len(new) - max(0, places))
        if left_out > 2 * self._left_out:  # not for each that comes
            self._say(f"{left_out} more processes than the {self._most} that are watched at a time (--most)")
            self._left_out = left_out

    def _look(self) -> None:
        for each in self.watched.values():
            for condition in each.look():
                self._keep(each, condition.name)
        readings = tuple(
            Reading(pid, each.snapshot, dict(each.incidents)) for pid, each in self.watched.items()
        )
        with self._lock:
            self._readings = readings

    def _look_in_turn(self, share: float) -> None:
        """Look at the one that was looked at longest ago, and rest so long that `share` of a core is kept."""
        now = self._clock()
        if now < self._due.get("turn", float("-inf")):
            return
        turns = {pid: self._looked_s.get(pid, float("-inf")) for pid in self.watched}
        self._looked_s = {pid: when for pid, when in turns.items() if when > float("-inf")}
        pid = min(turns, key=turns.__getitem__, default=None)
        if pid is None or now - turns[pid] < self._look_every_s:
            return
        before = time.thread_time()
        for condition in self.watched[pid].look():
            self._keep(self.watched[pid], condition.name)
        self._looked_s[pid] = now
        self._due["turn"] = now + (time.thread_time() - before) / share

    def _keep(self, watched: Watched, why: str) -> None:
        files = watched.keep(why)
        names = ", ".join(path.name for path in files) or "nothing"
        self._say(f"process {watched.pid}: {why}: kept {names}")

    def _push(self, pusher: Pusher) -> None:
        from ftdiag.formats.exporters import exporter_of
        from ftdiag.formats.exporters.material import Material
        from ftdiag.watching.pushing import Pushed

        if pusher.dropped > self._told_drops:
            self._say(f"{pusher.dropped - self._told_drops} profiles were not pushed: {pusher.last_error}")
            self._told_drops = pusher.dropped
        for pid, each in self.watched.items():
            session = each.session
            span = None if session is None else session.recording.span_ns()
            if session is None or span is None:
                continue
            material = Material(session, span[1] - int(PUSH_EVERY_S * 1e9))
            out = io.BytesIO()
            try:
                exporter_of("pprof").write(material, out)
            except FtdiagError as error:
                self._say(f"process {pid}: {error.what}")
                continue
            begin = int(material.begin_unix_ns // 1e9)
            pusher.push(Pushed(f"ftdiag{{pid={pid}}}", begin, begin + int(PUSH_EVERY_S), out.getvalue()))
