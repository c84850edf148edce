"""The key that says what fixing a finding would bring: a replay of the range without its cause.

In: the finding at hand. Out: a notice, when the worker has replayed it.
"""

from __future__ import annotations

from ftdiag.tui.base import LONG_NOTICE_S, CockpitBase, Predicted


class PredictActions(CockpitBase):
    """The part of the application that is about predictions."""

    def action_predict(self) -> None:
        """What fixing the finding would bring: a replay of the range without its cause, in the background."""
        finding = self._pages.finding_at_hand()
        if finding is None:
            self.say("no finding here: 1 shows them")
            return
        if self._source.session is None:
            self.say("nothing can be replayed here", alarm=True)
            return
        self._to_replay = finding
        self._wake.set()
        self.say(f"replaying without {finding.rule_id} ...")

    def on_predicted(self, event: Predicted) -> None:
        """Say it."""
        self.say(event.words, seconds=LONG_NOTICE_S)
