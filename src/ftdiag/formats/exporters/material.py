"""What exporters write: the samples of a range, in order or summed, with the names that people know.

In: a session on a recording, a range. Out: `Stays` that add up to the report's totals, the same summed by
stack (`Sample`), names of threads and locks, and where it all came from. Sums have the times of
`Snapshot.threads`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from ftdiag import __version__
from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.analysis.stays import CHUNK_WINDOWS, Stays, chunks, merged, stays
from ftdiag.datatypes import dataclass
from ftdiag.errors import RecordingError
from ftdiag.model import Confidence, LockRef, Snapshot, Stack, ThreadInfo, ThreadState, Wait
from ftdiag.session import Session
from ftdiag.wording.locks import lock_words

Progress = Callable[[str], None]
"""Called now and then with one line that says how far it is."""
ONE_BY_ONE: Final = ("state", "stack", "wait", "holder", "confidence")
MAX_MERGED: Final = 4_000_000
"""Different samples of a range at most (some 100 bytes each)."""
PENDING: Final = 1_000_000
"""Rows of sums that are kept apart before they are put together."""
FAR_TOO_MANY: Final = 4
"""As many times what a format takes are refused; how many there will be is an estimate."""
TOGETHER_NOTE: Final = (
    "the range is long: what a thread did within {} is put together by what it did; times are exact to that"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Thread-time of one thread in one state at one stack (leaf first), waiting for one thing.

    `holder` held the lock that it waited for; None with KNOWN confidence: nobody had it.
    """

    thread: ThreadInfo
    state: ThreadState
    stack: Stack
    wait: Wait | None
    holder: ThreadInfo | None
    confidence: Confidence
    time_ns: float


class Material:
    """What there is of the windows that overlap [t0_ns, t1_ns); without bounds of the whole recording."""

    def __init__(
        self,
        session: Session,
        t0_ns: int | None = None,
        t1_ns: int | None = None,
        progress: Progress = lambda words: None,
    ) -> None:
        self.session = session
        self.recording = session.recording
        self.t0_ns = t0_ns
        self.t1_ns = t1_ns
        self.progress = progress
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """What a report of the range shows."""
        if self._snapshot is None:
            self.progress("adding up")
            self._snapshot = self.session.snapshot(self.t0_ns, self.t1_ns)
        return self._snapshot

    @property
    def begin_ns(self) -> int:
        """When the range begins, on the recording's clock."""
        first, _ = next(chunks(self.recording, self.t0_ns, self.t1_ns), (0, 0))
        return int(self.recording.t0_ns[first]) if len(self.recording) else 0

    @property
    def begin_unix_ns(self) -> int:
        """The same by the clock on the wall."""
        settings = self.recording.settings
        return settings.started_unix_ns + self.begin_ns - settings.started_ns

    def origin(self) -> dict[str, str]:
        """Where it came from: to be kept in every file."""
        recording, target = self.recording, self.recording.target
        found = {
            "made_by": f"ftdiag {__version__}",
            "recording": recording.path.name,
            "process": str(target.pid),
            "command": target.command,
            "host": recording.settings.host,
            "python": f"{target.python_version}{' free-threaded' if target.free_threaded else ''}",
            "rate_hz": f"{recording.settings.rate_hz:g}",
        }
        if recording.settings.imported is not None:
            found["imported_from"] = recording.settings.imported
        return found

    # --- names -------------------------------------------------------------------------------------

    def thread(self, index: int) -> ThreadInfo:
        """The thread with this index."""
        return self.recording.thread(index)

    def holder(self, number: int) -> ThreadInfo | None:
        """The thread of a holder's column (its index + 1)."""
        return None if number <= 0 else self.recording.thread(number - 1)

    # --- in order ----------------------------------------------------------------------------------

    def stays(
        self, most: int | None, columns: tuple[str, ...] = ONE_BY_ONE
    ) -> tuple[Iterator[Stays], str | None]:
        """What threads did in order, in at most about `most` rows; how coarse it became, in words.

        Where there are more, equal stays (in `columns`) of a window are put together, or of chunks.
        Raises RecordingError where even those are far too many.
        """
        if most is None or self._rows() <= most:
            return self._followed(lambda stay: stay), None
        seconds = self._window_s()
        by_window, by_chunk = self._sizes_together(columns)
        if by_window <= most:
            parts = self._followed(lambda stay: stay.together(columns))
            return self._bounded(parts, most), TOGETHER_NOTE.format(f"{seconds:.3g} s")
        chunks_together = -(-by_chunk // most)
        parts = self._followed(lambda stay: stay.together(columns, whole=True))
        words = TOGETHER_NOTE.format(f"{chunks_together * CHUNK_WINDOWS * seconds:.3g} s")
        return self._bounded(_by_several(parts, chunks_together, columns), most), words

    def _bounded(self, parts: Iterator[Stays], most: int) -> Iterator[Stays]:
        rows = 0
        for part in parts:
            rows += len(part)
            if rows > FAR_TOO_MANY * most:
                raise RecordingError(
                    f"{self.recording.path} has too much in it for this format: more than {rows:,} rows",
                    "--from SECONDS --to-second SECONDS   takes a part of it; --to pprof takes all",
                )
            yield part

    def _followed(self, shaped: Callable[[Stays], Stays]) -> Iterator[Stays]:
        windows = max(1, sum(last - first for first, last in chunks(self.recording, self.t0_ns, self.t1_ns)))
        done = 0
        for stay in stays(self.recording, self.t0_ns, self.t1_ns):
            yield shaped(stay)
            done += stay.last - stay.first
            self.progress(f"{100 * done / windows:.0f} %")

    def _rows(self) -> int:
        """About how many stays there are."""
        recording = self.recording
        return sum(
            int(recording.row_counts(first, last).sum())
            for first, last in chunks(recording, self.t0_ns, self.t1_ns)
        )

    def _window_s(self) -> float:
        length = self.recording.t1_ns - self.recording.t0_ns
        return float(np.median(length)) / 1e9 if len(length) else 1.0

    def _sizes_together(self, columns: tuple[str, ...]) -> tuple[int, int]:
        """How many rows there will be by window and by chunk, as the chunk in the middle has them."""
        all_chunks = list(chunks(self.recording, self.t0_ns, self.t1_ns))
        first, last = all_chunks[len(all_chunks) // 2]
        middle = next(
            stays(self.recording, int(self.recording.t0_ns[first]), int(self.recording.t1_ns[last - 1]))
        )
        parts = len(all_chunks)
        return len(middle.together(columns)) * parts, len(middle.together(columns, whole=True)) * parts

    # --- summed ------------------------------------------------------------------------------------

    def totals(self) -> Stays:
        """The whole range summed by thread, state, stack, wait and holder, with the snapshot's times."""
        kept: list[Stays] = []
        pending = 0
        for stay in self._followed(lambda stay: stay.together(ONE_BY_ONE, whole=True)):
            kept.append(stay)
            pending += len(stay)
            if pending > PENDING:
                kept = [merged(kept, ONE_BY_ONE)]
                pending = 0
                if len(kept[0]) > MAX_MERGED:
                    raise RecordingError(
                        f"{self.recording.path} has more than {MAX_MERGED:,} different samples",
                        "--from SECONDS --to-second SECONDS   takes a part of it",
                    )
        return self._as_reported(merged(kept, ONE_BY_ONE))

    def _as_reported(self, sums: Stays) -> Stays:
        """With the report's times for every thread and state, which differ by the grain of clocks at most."""
        reported = {
            (thread.info.index, int(state)): float(time_ns)
            for thread in self.snapshot.threads
            for state, time_ns in thread.states_ns.items()
        }
        had: dict[tuple[int, int], float] = {}
        for key, time_ns in zip(
            zip(sums.thread.tolist(), sums.state.tolist(), strict=True), sums.time_ns.tolist(), strict=True
        ):
            had[key] = had.get(key, 0.0) + time_ns
        keys = zip(sums.thread.tolist(), sums.state.tolist(), strict=True)
        sums.time_ns[:] *= [reported[key] / had[key] if had[key] and key in reported else 1.0 for key in keys]
        return sums

    def samples(self) -> Iterator[Sample]:
        """The sums, one by one."""
        sums = self.totals()
        recording = self.recording
        waits: dict[int, Wait | None] = {}
        columns = (sums.thread, sums.state, sums.stack, sums.wait, sums.holder, sums.confidence, sums.time_ns)
        for thread, state, stack, wait, holder, confidence, time_ns in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            if wait not in waits:
                waits[wait] = recording.wait(wait)
            yield Sample(
                recording.thread(thread),
                ThreadState(state),
                recording.stack(stack),
                waits[wait],
                self.holder(holder),
                Confidence(confidence),
                time_ns,
            )


def _by_several(parts: Iterator[Stays], several: int, columns: tuple[str, ...]) -> Iterator[Stays]:
    """So many parts each as one, with what is equal in `columns` put together."""
    while part := list(itertools.islice(parts, several)):
        yield part[0] if len(part) == 1 else merged(part, columns)


def lock_name(lock: LockRef) -> str:
    """A lock in few words: "self._lock (_thread.lock)", "list at 0x7f0012345678"."""
    name = lock_words(lock)
    return name if lock.label else f"{name} at {lock.address:#x}"


def wait_name(wait: Wait | None) -> str | None:
    """What was waited for in few words; `None` where that is not known."""
    if wait is None:
        return None
    if wait.lock is not None:
        return lock_name(wait.lock)
    return wait.detail or wait.syscall


def holder_name(state: ThreadState, holder: ThreadInfo | None, confidence: Confidence) -> str | None:
    """Who held the lock that a thread waited for: a name, "nobody", or `None` where it is not known."""
    if state not in LOCK_STATES:
        return None
    if holder is None:
        return "nobody" if confidence is Confidence.KNOWN else None
    return holder.name


def state_frame(state: ThreadState, wait: Wait | None) -> str | None:
    """What stands below the innermost function where it did not work there: "[lock self._lock]"."""
    if state is ThreadState.WORK:
        return None
    words = wait_name(wait)
    return f"[{state.label}{'' if words is None else f' {words}'}]"
