"""The baseline of a look: a good recording, and what the look drifted from it.

In: the path of a recording. Out: what the cockpit and reports show of the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ftdiag.errors import UsageError

if TYPE_CHECKING:
    from ftdiag.model import Snapshot
    from ftdiag.scaling.comparing import Comparison, Side
    from ftdiag.session import Session
    from ftdiag.tui.queries import Drifted


class Baseline:
    """A recording that others are compared with. Raises RecordingError, UsageError for results of a sweep."""

    def __init__(self, path: Path) -> None:
        from ftdiag.commands import viewing
        from ftdiag.commands.sides import is_sweep, side_of_session

        if is_sweep(path):
            raise UsageError(
                f"{path} has results of a sweep, and a baseline is a recording",
                f"--baseline {path}.runs/...   one of its recordings",
            )
        self.name = str(path)
        with viewing.opened(path) as session:
            # Named before what is in parts: an empty recording is told there.
            self.snapshot: Snapshot = session.snapshot()
            self.side: Side = side_of_session(session, self.name, self.snapshot)

    def comparison(self, session: Session) -> Comparison:
        """What a look that is over differs in."""
        from ftdiag.commands.sides import side_of_session
        from ftdiag.scaling.comparing import compare

        return compare(self.side, side_of_session(session, "this look"))

    def drifted(self, snapshot: Snapshot) -> Drifted:
        """What is on the screen against what was usual, for the cockpit."""
        from ftdiag.scaling.digest import digest_of
        from ftdiag.scaling.drift import drift_of
        from ftdiag.tui.queries import Drifted

        assert self.side.digest is not None
        drift = drift_of(self.side.parts, self.side.digest, digest_of(snapshot))
        rows = tuple(
            (figure.name, figure.now, figure.low, figure.high, figure.worse) for figure in drift.outside
        )
        causes = tuple(
            (word, cause.summary)
            for word, found in (("new", drift.new), ("gone", drift.gone))
            for cause in found
        )
        return Drifted(self.name, drift.words(), rows, causes)
