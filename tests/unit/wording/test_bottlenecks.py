"""What bottlenecks are called."""

from __future__ import annotations

import pytest

from builders import a_lock
from ftdiag.model import STOP_EVENT, STOP_TURN, TYPES_LOCK, Bottleneck, BottleneckKind, LockKind
from ftdiag.wording.bottlenecks import title_words


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
