"""A session as the cockpit's source.

In: a way to open a session. Out: a `SnapshotSource`. The session is opened by the first refresh, so by the
worker: SQLite wants to be used by the thread that opened it, and the screen is there before the file is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ftdiag.model import Snapshot
from ftdiag.tui.source import Queries

if TYPE_CHECKING:
    # Brings numpy, which the first picture (without data) need not wait for.
    from ftdiag.session import Session


class RecordedSource:
    """The source of a recording that grows (`live`) or is finished."""

    def __init__(self, open_session: Callable[[], Session], *, live: bool) -> None:
        self._open_session = open_session
        self._session: Session | None = None
        self._live = live

    @property
    def live(self) -> bool:
        """True until the recording says that it ended."""
        return self._live and (self._session is None or self._session.recording.end is None)

    @property
    def watches(self) -> bool:
        """A file names its process; who wrote it is not known."""
        return False

    @property
    def failure(self) -> None:
        """A recording says itself how it ended."""

    @property
    def queries(self) -> Queries | None:
        """The session, once it is open."""
        return self._session

    def refresh(self) -> bool:
        """Open the recording, or read what is new."""
        if self._session is None:
            self._session = self._open_session()
            return True
        return self._session.refresh()

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The picture of a range."""
        return self._opened().snapshot(t0_ns, t1_ns)

    def span_ns(self) -> tuple[int, int] | None:
        """Begin and end of what is recorded."""
        return self._opened().recording.span_ns()

    def close(self) -> None:
        """Close the recording, if it was opened."""
        session, self._session = self._session, None
        if session is not None:
            session.recording.close()

    def _opened(self) -> Session:
        if self._session is None:
            raise RuntimeError("asked for data before the first refresh")
        return self._session
