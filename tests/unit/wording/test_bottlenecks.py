"""What bottlenecks are called."""

from __future__ import annotations

import pytest

from builders import a_lock, a_stack
from ftdiag.model import (
    STOP_EVENT,
    STOP_TURN,
    TYPES_LOCK,
    Bottleneck,
    BottleneckKind,
    BottleneckPlace,
    EndOfWait,
    Finding,
    LockKind,
    Severity,
)
from ftdiag.wording.bottlenecks import end_words, same_cause, title_words


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


@pytest.mark.parametrize(
    ("end", "stack", "words"),
    [
        (EndOfWait.RUNS, "cache.py:88 put", "runs at cache.py:88 in put"),
        (EndOfWait.RUNS, None, "runs; where is not known"),
        (EndOfWait.NOT_KNOWN, None, "who has it is not known"),
    ],
)
def test_where_waiting_ends_is_said_or_that_it_is_not_known(
    end: EndOfWait, stack: str | None, words: str
) -> None:
    """GIVEN chains of waits that end at a thread with or without a stack, or at nobody WHEN said THEN no
    place is left out without a word: threads that live for a moment are never seen anywhere."""
    assert end_words(BottleneckPlace(end, () if stack is None else a_stack(stack), 1, 1e9)) == words
