"""A few of what the campaigns do many of: targets that go away under the look, ftdiag killed under way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from campaign import dying, killed
from reading import PATIENCE_S
from tools.provision.verification import Interpreter


@pytest.fixture
def python(free_threaded_pythons: Sequence[Interpreter]) -> str:
    """The newest interpreter: what is looked at here is not a matter of versions."""
    return str(free_threaded_pythons[-1].path)


@pytest.fixture
def busy(python: str) -> Iterator[int]:
    """A program with three busy threads."""
    process = subprocess.Popen([python, "-c", killed.TARGET], stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", range(len(dying.KINDS)), ids=[kind.name for kind in dying.KINDS])
def test_a_target_that_goes_away_is_told_rightly(number: int, python: str, tmp_path: Path) -> None:
    problem, _ = dying.run_one(number, dying.KINDS[number], python, tmp_path)
    assert problem is None


@pytest.mark.parametrize("number", range(len(killed.KINDS)), ids=killed.KINDS)
def test_what_is_killed_leaves_nothing_behind_and_loses_little(number: int, busy: int, python: str) -> None:
    # GIVEN a target
    before = killed.state_of(busy)
    # WHEN ftdiag is killed while it looks at it, THEN all is as it should be, given time on a slow machine
    kind, wrong, _ = killed.run_one(number, busy, python, gone_within_s=PATIENCE_S, lost_at_most_s=PATIENCE_S)
    assert kind == killed.KINDS[number]
    assert wrong == []
    assert killed.state_of(busy) == before
