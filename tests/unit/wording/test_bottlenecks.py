"""What bottlenecks are called."""

from __future__ import annotations

import pytest

from builders import a_lock
from ftdiag.model import (
    STOP_EVENT,
    STOP_TURN,
    TYPES_LOCK,
    Bottleneck,
    BottleneckKind,
    Finding,
    LockKind,
    Severity,
)
from ftdiag.wording.bottlenecks import same_cause, title_words


@pytest.mark.parametrize(
    ("kind", "label", "title"),
    [
        (BottleneckKind.LOCK, "self._lock", "lock self._lock"),
        (BottleneckKind.LOCK, TYPES_LOCK, "the lock of all types"),
        (BottleneckKind.STOP, STOP_TURN, "stop-the-world pauses (the turn to stop all threads)"),
        (BottleneckKind.STOP, STOP_EVENT, "stop-the-world pauses (all threads to stand still)"),
        (BottleneckKind.STOP, None, "stop-the-world pauses"),
    ],
)
def test_titles_tell_bottlenecks_of_one_kind_apart(
    kind: BottleneckKind, label: str | None, title: str
) -> None:
    # GIVEN a bottleneck that is a lock of the program or of the interpreter, or pauses
    lock = None if label is None else a_lock(label, kind=LockKind.RUNTIME, type_name=None)
    # WHEN called something THEN it is its name, and pauses have what is waited for
    assert title_words(Bottleneck(kind, 1e9, 0.5, 0.5, lock=lock)) == title


@pytest.mark.parametrize(
    ("about", "same"),
    [
        (frozenset(), True),
        (frozenset({BottleneckKind.LOCK}), True),
        (frozenset({BottleneckKind.SERIAL}), False),
        (frozenset({BottleneckKind.CORES}), False),
    ],
)
def test_a_line_is_the_cause_of_findings_about_lines_only(
    about: frozenset[BottleneckKind], same: bool
) -> None:
    # GIVEN a list that begins with a line WHEN a finding is about threads that live for a moment, or cores
    finding = Finding(
        rule_id="short-lived-threads",
        severity=Severity.CRITICAL,
        score=1.0,
        confidence="possible",
        lost_cores=1.07,
        subject={},
        summary="",
        explanation="",
        could_also_be=(),
        remedy=(),
        verify="",
        evidence=(),
        about=about,
    )
    line = Bottleneck(BottleneckKind.LINE, 1e9, 0.04, 0.04)
    # THEN it is not that, and the list says why it does not begin with what the first line names
    assert same_cause(finding, line) is same
