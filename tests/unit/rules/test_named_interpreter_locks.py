"""Locks of the interpreter that are known by name: each goes to the rule that knows what takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import a_lock
from ftdiag.model import (
    CONSTANTS_LOCK,
    DELAYED_FREES,
    EXTENSIONS_LOCK,
    FUNCTIONS_LOCK,
    IMPORT_LOCK,
    NAMES_LOCK,
    OTHERS_COUNTS,
    STOP_EVENT,
    STOP_TURN,
    TYPES_LOCK,
    WARNINGS_LOCK,
    WEAK_REFERENCES,
    LockKind,
)
from unit.rules.scenes import LIB, WORK, look, named, target, waiting_for


@pytest.mark.parametrize(
    ("label", "rule"),
    [
        (TYPES_LOCK, "class-mutation"),
        (IMPORT_LOCK, "import-in-hot-path"),
        (EXTENSIONS_LOCK, "import-in-hot-path"),
        (STOP_TURN, "stop-the-world"),
        (STOP_EVENT, "stop-the-world"),
        *((label, "hot-lock") for label in (WARNINGS_LOCK, CONSTANTS_LOCK, FUNCTIONS_LOCK, DELAYED_FREES)),
        *((label, "hot-lock") for label in (OTHERS_COUNTS, WEAK_REFERENCES, NAMES_LOCK)),
    ],
)
def test_the_rule_of_a_named_lock(label: str, rule: str, tmp_path: Path) -> None:
    # GIVEN threads that wait for a lock of the interpreter
    lock = a_lock(label, kind=LockKind.RUNTIME, type_name=None)
    snapshot = look(tmp_path, waiting_for(lock, "runtime_lock", WORK))

    # WHEN judged, THEN the first finding is of the rule that knows it, and says what it is
    first = snapshot.findings[0]
    assert first.rule_id == rule
    if rule in ("hot-lock", "class-mutation"):
        assert label in first.summary
    # and a lock of the interpreter has no `with` block that could be made shorter
    assert not any("with " in (remedy.code or "") for remedy in first.remedy)


@pytest.mark.parametrize(
    ("symbol", "rule"),
    [("type_setattro", "class-mutation"), ("_PyObject_GC_New", "hot-lock"), (None, "class-mutation")],
)
def test_a_lock_without_a_name_is_that_of_types_only_where_classes_change(
    symbol: str | None, rule: str, tmp_path: Path
) -> None:
    # GIVEN threads that wait for a lock of the interpreter of which only the struct is known
    lock = a_lock("interpreter lock", kind=LockKind.RUNTIME, type_name=None)
    snapshot = look(tmp_path, waiting_for(lock, "runtime_lock", WORK))

    # WHEN judged with its machine code, THEN it is charged to changes of classes only where there are some
    native = () if symbol is None else ((symbol, 0.2),)
    finding = named(snapshot, 10, native).findings[0]
    assert finding.rule_id == rule
    assert finding.confidence != "known"


@pytest.mark.parametrize(
    ("version", "advised"),
    [
        (
            "3.13.5",
            ("drop it as a whole", "make them in the thread that drops them", "give the objects back"),
        ),
        (
            "3.14.9",
            ("drop it as a whole", "make them in the thread that drops them", "give the objects back"),
        ),
        ("3.15.1", ("drop it as a whole", "make them in the thread that drops them")),
    ],
)
def test_what_helps_where_threads_drop_objects_of_others(
    version: str, advised: tuple[str, ...], tmp_path: Path
) -> None:
    # GIVEN threads that wait for the counts of objects that other threads own
    lock = a_lock(OTHERS_COUNTS, kind=LockKind.RUNTIME, type_name=None)
    snapshot = look(tmp_path, waiting_for(lock, "runtime_lock", WORK), of=target(python_version=version))
    # WHEN judged, THEN what was measured to gain on that version is advised, with its gain, and nothing else
    remedies = snapshot.findings[0].remedy
    assert len(remedies) == len(advised)
    for remedy, words in zip(remedies, advised, strict=True):
        assert words in remedy.text
        assert remedy.gain is not None
        assert remedy.gain > 1.0


def test_counts_of_others_are_no_matter_of_the_library_that_a_thread_is_in(tmp_path: Path) -> None:
    # GIVEN threads that wait for these counts inside of queue.py, where they see to what others dropped
    lock = a_lock(OTHERS_COUNTS, kind=LockKind.RUNTIME, type_name=None)
    waits = f"{LIB}/queue.py:199 Queue.get < /srv/app.py:12 run"
    snapshot = look(tmp_path, waiting_for(lock, "runtime_lock", waits))
    # WHEN judged THEN it is not the queue that they wait for
    assert snapshot.findings[0].rule_id == "hot-lock"
    assert OTHERS_COUNTS in snapshot.findings[0].summary
