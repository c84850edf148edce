"""What changes would bring to a range, and what its findings would be without their causes.

In: the kept results of a recording's ranges, and the snapshot of one of them. Out: `Prediction`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.analysis import whatif
from ftdiag.analysis.changed import Range
from ftdiag.analysis.ranges import Ranges
from ftdiag.datatypes import replace
from ftdiag.model import Change, Finding, Prediction, Snapshot
from ftdiag.rules import changes_of, remedy_of

MAX_PREDICTED: Final = 5
"""Findings of a snapshot, the first ones, for which a replay is made."""


class Predictor:
    """Replays one range."""

    def __init__(self, ranges: Ranges, snapshot: Snapshot) -> None:
        self._ranges = ranges
        self._snapshot = snapshot

    def predict(self, changes: Sequence[Change], remedy: Change | None = None) -> Prediction:
        """What changes would bring, judged by a measured remedy, too. Raises ValueError for a name that fits
        nothing."""
        ranges, snapshot = self._ranges, self._snapshot
        first, last = ranges.positions(snapshot.t0_ns, snapshot.t1_ns)
        return whatif.predict(
            Range(
                recording=ranges.recording,
                windows=tuple(
                    position for begin, end in ranges.quiet(first, last) for position in range(begin, end)
                ),
                periods=ranges.periods,
                snapshot=snapshot,
                time=ranges.merged_time(ranges.usable(first, last)),
                numbers=ranges.numbers,
                lock_of_wait=ranges.locks_known(),
            ),
            changes,
            remedy,
        )

    def predicted(self, finding: Finding) -> Prediction:
        """What the range would be without the cause of one of its findings."""
        changes = changes_of(finding, self._snapshot)
        if isinstance(changes, str):
            return Prediction((), not_told=f"cannot tell: {changes}")
        try:
            return self.predict(changes, remedy_of(finding, changes))
        except ValueError as error:
            return Prediction(changes, not_told=f"cannot tell: {error}")

    def with_predictions(self) -> Snapshot:
        """The snapshot whose first findings say what a replay without their cause does."""
        told = [
            replace(finding, prediction=self.predicted(finding))
            if number < MAX_PREDICTED and finding.lost_cores > 0
            else finding
            for number, finding in enumerate(self._snapshot.findings)
        ]
        return replace(self._snapshot, findings=tuple(told))
