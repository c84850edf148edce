"""One of each of what the campaigns do many of: targets that go away under the look, ftdiag killed under way.

Some at once, because most of their time they wait; what is wrong names the number to run it again alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from campaign import dying, killed
from reading import PATIENCE_S
from tools.provision.verification import Interpreter

LIMIT_S = 240.0
"""None is begun after that: each kind must have been tried by then, on the slowest machine."""


@pytest.fixture
def python(free_threaded_pythons: Sequence[Interpreter]) -> str:
    """The newest interpreter: what is looked at here is not a matter of versions."""
    return str(free_threaded_pythons[-1].path)


def test_targets_that_go_away_are_told_rightly(python: str) -> None:
    # GIVEN targets that die, stop, exec, fork, or lose their interpreter WHEN they are looked at meanwhile
    told, wrong = dying.campaign(len(dying.KINDS), LIMIT_S, python)

    # THEN each is told rightly
    assert wrong == []
    assert {kind: len(seconds) for kind, seconds in told.items()} == {kind.name: 1 for kind in dying.KINDS}


def test_what_is_killed_leaves_nothing_behind_and_loses_little(python: str) -> None:
    # GIVEN a target WHEN each part of ftdiag that looks at it is killed
    lost, wrong = killed.campaign(
        len(killed.KINDS), LIMIT_S, python, gone_within_s=PATIENCE_S, lost_at_most_s=PATIENCE_S
    )

    # THEN all is as it should be, given time on a slow machine
    assert wrong == []
    assert {kind: len(each) for kind, each in lost.items()} == dict.fromkeys(killed.KINDS, 1)
