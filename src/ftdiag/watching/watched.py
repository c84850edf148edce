"""One process that is watched: its ring, the full-rate recording after a trigger, and what they cost.

In: a pid, a plan, the store. Out: recordings; snapshots of the last seconds; a sampler that is started again
after it failed, less and less often. A second sampler waits, imported and idle, so that a trigger has full
rate at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import DiskFull, FtdiagError, NoSuchProcess, NotPython, PermissionRefused, TargetGone
from ftdiag.launcher import SamplerProcess
from ftdiag.sampling.options import SamplerOptions
from ftdiag.watching.store import Store
from ftdiag.watching.triggers import Condition, Trigger

if TYPE_CHECKING:
    from ftdiag.model import Snapshot
    from ftdiag.recording.reader import Recording
    from ftdiag.session import Session

FIRST_RETRY_S: Final = 2.0
LONGEST_RETRY_S: Final = 300.0
SETTLED_S: Final = 60.0
"""A sampler that ran for so long starts anew with short waits."""
STARTING_S: Final = 60.0
"""For so long a ring may not be a recording yet."""
LOOK_BACK_NS: Final = 10_000_000_000
"""Conditions and figures are of the last ten seconds."""
MANUAL: Final = "signal"


@dataclass(frozen=True, slots=True)
class Plan:
    """How to watch. `ring_bytes` is of each process."""

    rate_hz: float
    full_rate_hz: float
    native_rate_hz: float
    budget_cores: float | None
    """What the sampler of a ring may use; it looks less often rather than use more."""
    before_s: float
    after_s: float
    ring_bytes: int
    conditions: tuple[Condition, ...]
    quiet_s: float
    source: str = "auto"


class Watched:
    """See the module. `say` takes lines for people; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        pid: int,
        plan: Plan,
        store: Store,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        with_ready: bool = True,
        of_many: bool = False,
        complete: Callable[[Path], object] = lambda path: None,
    ) -> None:
        self.pid = pid
        self._plan = plan
        self._store = store
        self._say = say
        self._clock = clock
        self._with_ready = with_ready
        self._of_many = of_many
        self._complete = complete
        self._ring: Path | None = None
        self._sampler: SamplerProcess | None = None
        self._ready: SamplerProcess | None = None
        self._after: tuple[SamplerProcess, Path, str] | None = None
        self._recording: Recording | None = None
        self._session: Session | None = None
        self._begun_s: float | None = None
        """When the sampler of the ring began, while it is there."""
        self._retry_s = FIRST_RETRY_S
        self._next_s = float("-inf")
        self._triggers = [Trigger(condition, plan.quiet_s) for condition in plan.conditions]
        self.incidents: dict[str, int] = {}
        """How often each trigger kept something."""
        self.snapshot: Snapshot | None = None
        """Of the last seconds, as of the last look."""
        self.gone = False
        """The process has ended: nothing more will come."""
        self.foreign = False
        """That it is one of many and no Python: there is nothing to say of it."""
        self.refused: PermissionRefused | None = None
        """That the kernel does not let us read it, as of the last try."""

    @property
    def session(self) -> Session | None:
        """A session on the ring, as of the last look."""
        return self._session

    @property
    def ring(self) -> Path | None:
        """The recording that is written, where one was begun."""
        return self._ring

    # --- the ring ----------------------------------------------------------------------------------

    def step(self) -> None:
        """Look after the samplers: start, follow, start again."""
        self._follow_after()
        if self.gone:
            return
        if self._sampler is None:
            if self._clock() >= self._next_s:
                self._start()
            return
        try:
            end = self._sampler.poll()
        except FtdiagError as error:
            self._failed(error)
            return
        self._sampler.take_notes()
        if end is not None:
            self._say_of_it(end.detail)
            self._stop_ring()
            self.gone = True

    def _start(self) -> None:
        self._store.prune()
        ring = self._store.ring(self.pid)
        sampler = SamplerProcess()
        try:
            sampler.start(
                self._options(ring, self._plan.rate_hz, self._plan.native_rate_hz, self._plan.before_s)
            )
            # Many are started at once: what prevents one is said when it is followed.
        except FtdiagError as error:
            sampler.close()
            self._failed(error)
            return
        self._sampler, self._ring, self._begun_s = sampler, ring, self._clock()
        self._store.writing.add(ring)
        self._make_ready()

    def _options(
        self,
        path: Path,
        rate_hz: float,
        native_rate_hz: float,
        keep_s: float | None,
        duration_s: float | None = None,
    ) -> SamplerOptions:
        return SamplerOptions(
            pid=self.pid,
            path=str(path),
            rate_hz=rate_hz,
            native_rate_hz=native_rate_hz,
            keep_ns=None if keep_s is None else int(keep_s * 1e9),
            keep_bytes=self._plan.ring_bytes,
            duration_s=duration_s,
            budget_cores=self._plan.budget_cores if duration_s is None else None,
            source=self._plan.source,
        )

    def _failed(self, error: FtdiagError) -> None:
        """Say so; try again later, unless the process is gone."""
        begun_s, self._begun_s = self._begun_s, None
        self._stop_ring()
        if self._of_many and isinstance(error, NotPython):
            self.foreign = self.gone = True
            return
        if isinstance(error, NoSuchProcess | TargetGone):
            self._say_of_it(error.what)
            self.gone = True
            return
        if isinstance(error, DiskFull):
            self._store.prune(self._plan.ring_bytes)
        if begun_s is not None and self._clock() - begun_s > SETTLED_S:
            self._retry_s = FIRST_RETRY_S
        self.refused = error if isinstance(error, PermissionRefused) else None
        why = f"; ftdiag doctor {self.pid} says why" if self.refused is not None else ""
        self._say(f"process {self.pid}: {error.what}{why}; next try in {self._retry_s:.0f} s")
        self._next_s = self._clock() + self._retry_s
        self._retry_s = min(LONGEST_RETRY_S, 2 * self._retry_s)

    def _say_of_it(self, what: str) -> None:
        """Say it, with the process's number where it is not in it."""
        self._say(what if str(self.pid) in what else f"process {self.pid}: {what}")

    def _make_ready(self) -> None:
        if self._ready is None and self._with_ready:
            ready = SamplerProcess()
            with suppress(FtdiagError):
                ready.spawn()
                self._ready = ready

    def _stop_ring(self) -> None:
        if self._recording is not None:
            self._recording.close()
        self._recording = self._session = None
        if self._sampler is not None:
            with suppress(FtdiagError):
                self._sampler.stop()
            self._sampler.close()
            self._sampler = None
        if self._ring is not None:
            self._store.writing.discard(self._ring)

    # --- looking -----------------------------------------------------------------------------------

    def look(self) -> list[Condition]:
        """Take a snapshot of the last seconds; which conditions fire with it."""
        if self._sampler is None or self._ring is None:
            self.snapshot = None
            return []
        if not self._ring.exists():
            return []
        from ftdiag.recording.reader import Recording
        from ftdiag.session import Session

        try:
            if self._session is None:
                self._recording = Recording.open(self._ring)
                self._session = Session(self._recording)
            self._session.refresh()
            if not len(self._session.recording):
                return []
            self.snapshot = self._session.last(LOOK_BACK_NS)
        except FtdiagError as error:
            if self._clock() - (self._begun_s or 0.0) > STARTING_S:
                self._say(f"process {self.pid}: {error.what}")
            return []
        snapshot = self.snapshot
        return [trigger.condition for trigger in self._triggers if trigger.feed(snapshot)]

    # --- keeping -----------------------------------------------------------------------------------

    def keep(self, why: str) -> list[Path]:
        """Keep what is in the ring, and record what follows at full rate; the files."""
        from ftdiag.recording.copying import copy_recording

        kept = []
        if self._after is None and not self.gone:
            kept += self._record_after(why)
        if self._ring is not None:
            before = self._store.kept(self.pid, why, "before")
            for attempt in (1, 2):
                try:
                    copy_recording(self._ring, before)
                    kept.append(before)
                    self._complete(before)
                    break
                except DiskFull as error:
                    # What is oldest makes room for what was waited for; once.
                    if attempt == 2 or not self._store.prune(2 * self._plan.ring_bytes):
                        self._say(f"process {self.pid}: {error.what}")
                        break
                except FtdiagError as error:
                    self._say(f"process {self.pid}: {error.what}")
                    break
        self.incidents[why] = self.incidents.get(why, 0) + 1
        self._store.prune()
        return kept

    def _record_after(self, why: str) -> list[Path]:
        path = self._store.kept(self.pid, why, "after")
        sampler, self._ready = self._ready or SamplerProcess(), None
        plan = self._plan
        try:
            sampler.start(self._options(path, plan.full_rate_hz, 199.0, None, plan.after_s))
        except FtdiagError as error:
            sampler.close()
            self._say(f"process {self.pid}: {error.what}")
            return []
        self._store.writing.add(path)
        self._after = sampler, path, why
        return [path]

    def _follow_after(self) -> None:
        if self._after is None:
            return
        sampler, path, why = self._after
        try:
            end = sampler.poll()
        except FtdiagError as error:
            self._say(f"process {self.pid}: {error.what}")
        else:
            if end is None:
                return
            self._say(f"process {self.pid}: {path.name} is complete ({why}): {end.detail}")
        self._end_after(sampler, path)
        self._make_ready()

    def _end_after(self, sampler: SamplerProcess, path: Path) -> None:
        sampler.close()
        self._store.writing.discard(path)
        self._after = None
        if path.exists():
            self._complete(path)

    @property
    def recording_fully(self) -> bool:
        """Whether a full-rate recording is under way."""
        return self._after is not None

    def close(self) -> None:
        """End all samplers; what they wrote stays."""
        if self._after is not None:
            with suppress(FtdiagError):
                self._after[0].stop()
            self._end_after(*self._after[:2])
        if self._ready is not None:
            self._ready.close()
            self._ready = None
        self._stop_ring()
