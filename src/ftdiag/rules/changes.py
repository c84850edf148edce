"""The change that a finding stands for: what a replay leaves out to say what fixing it would bring.

In: a finding and its snapshot. Out: `Change`s, or in words why a replay cannot know.

Only the cause is taken away, not the remedy put in its place: what that costs itself is not in the figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ftdiag.model import TYPES_LOCK, Change, ChangeKind, Finding, Snapshot

EXECUTOR_FILES: Final = "concurrent/futures/|threading.py|queue.py"
"""Where an executor's own code is, and what it is made of."""
MAX_ASKING: Final = 4
"""Places that ask for pauses, the ones with most time."""
MAX_FUNCTIONS: Final = 3
"""Functions in which a lock is waited for, the ones with the longest waits."""

_NO_LOSS: Final = "it costs no work a second that a replay could give back"
_OTHER_CODE: Final = "what the other code would take instead is not in the recording"
_UNSEEN: Final = "threads that begin and end between two looks are not in the recording"


def changes_of(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """What is different when the finding's cause is gone; or why that cannot be told."""
    known = _CHANGES.get(finding.rule_id)
    if known is None:
        return _WHY_NOT.get(finding.rule_id, _NO_LOSS)
    return known(finding, snapshot)


def _place(finding: Finding) -> str:
    """The line of the finding, "" where it names none."""
    file, line = finding.subject.get("file"), finding.subject.get("line")
    return f"{file}:{line}" if file is not None and line is not None else ""


def _lock(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    name = str(finding.subject.get("lock", ""))
    if name:
        return (Change(ChangeKind.LOCK, name),)
    place = finding.subject.get("file"), finding.subject.get("line")
    for lock in snapshot.locks:
        for waiter in lock.waiters:
            if lock.number and any((frame.filename, frame.line) == place for frame in waiter.stack):
                return (Change(ChangeKind.LOCK, f"lock-{lock.number}"),)
    return "no lock is known that is waited for there"


def _lock_and_its_memory(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """A lock that is mostly spun for: what it guards for a moment is contended memory, which goes with it."""
    found = _lock(finding, snapshot)
    if isinstance(found, str):
        return found
    address = str(finding.subject.get("lock", "")).rpartition(" ")[2]
    ranked = snapshot.bottlenecks.ranked if snapshot.bottlenecks is not None else ()
    for one in ranked:
        if one.lock is None or f"{one.lock.address:#x}" != address or 2 * one.wasted_cores < one.lost_cores:
            continue
        functions = {
            waiter.stack[0].function
            for lock in snapshot.locks
            if lock.number == one.number
            for waiter in lock.waiters[:MAX_FUNCTIONS]
            if waiter.stack
        }
        return (*found, *(Change(ChangeKind.CONTENTION, function) for function in sorted(functions)))
    return found


def _contention_there(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    """A lock of an object: its waits go, and what lines waste on it."""
    return (Change(ChangeKind.CONTENTION),)


def _line(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    place = _place(finding)
    return (Change(ChangeKind.LINE, place),) if place else "the finding names no line"


def _everywhere(kind: ChangeKind) -> Callable[[Finding, Snapshot], tuple[Change, ...]]:
    return lambda finding, snapshot: (Change(kind),)


def _stops(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    """No pauses, and the lines that asked for them left out."""
    asking = [pauses.stack[0] for pauses in snapshot.pauses[:MAX_ASKING] if pauses.stack]
    places = [
        _place(finding),
        *(f"{frame.filename}:{frame.line}" for frame in asking if frame.line is not None),
    ]
    lines = dict.fromkeys(place for place in places if place)
    return (Change(ChangeKind.STOPS), *(Change(ChangeKind.LINE, place) for place in lines))


def _collector(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    return (Change(ChangeKind.COLLECTOR),)


def _loops(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    """A loop for each thread: they do not hand work to each other either."""
    return (Change(ChangeKind.BALANCE), Change(ChangeKind.CONTENTION))


def _classes(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    waited = any(lock.lock.label == TYPES_LOCK for lock in snapshot.locks)
    locks = (Change(ChangeKind.LOCK, TYPES_LOCK),) if waited else ()
    return (*locks, Change(ChangeKind.CONTENTION))


def _threads(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...] | str:
    capacity = snapshot.metrics.capacity_cores
    if capacity is None:
        return "the number of cores is not known"
    return (Change(ChangeKind.THREADS, number=max(1, round(capacity))),)


def _own(files: str) -> Callable[[Finding, Snapshot], tuple[Change, ...]]:
    return lambda finding, snapshot: (Change(ChangeKind.OVERHEAD, files),)


_CHANGES: Final[Mapping[str, Callable[[Finding, Snapshot], tuple[Change, ...] | str]]] = {
    "hot-lock": _lock_and_its_memory,
    "queue-contention": _lock,
    "native-lock": _lock,
    "logging-contention": _line,
    "object-lock": _contention_there,
    "shared-iterator": _contention_there,
    "refcount-contention": _everywhere(ChangeKind.CONTENTION),
    "extension-singleton": _everywhere(ChangeKind.CONTENTION),
    "spin-contention": _everywhere(ChangeKind.CONTENTION),
    "no-bytecode-cache": _everywhere(ChangeKind.CONTENTION),
    "class-mutation": _classes,
    "import-in-hot-path": _line,
    "stop-the-world": _stops,
    "gc-pressure": _collector,
    "page-fault-storm": _everywhere(ChangeKind.ALLOCATION),
    "serial-section": _everywhere(ChangeKind.BALANCE),
    "load-imbalance": _everywhere(ChangeKind.BALANCE),
    "event-loop-bound": _loops,
    "oversubscription": _threads,
    "gil-enabled": _everywhere(ChangeKind.GIL),
    "gil-bound": _everywhere(ChangeKind.GIL),
    "executor-tiny-tasks": _own(EXECUTOR_FILES),
}
_WHY_NOT: Final[Mapping[str, str]] = {
    "heap-type-churn": _OTHER_CODE,
    "regex-recompile": _OTHER_CODE,
    "allocation-churn": _OTHER_CODE,
    "allocator-contention": "what another allocator would take is not in the recording",
    "nested-parallelism": "what the library would take with fewer threads is not in the recording",
    "tracing-on": "how much slower the interpreter itself is while it traces is not in the recording",
    "tlbc-disabled": "no sample shows what it costs",
    "short-lived-threads": _UNSEEN,
    "deadlock": "nothing is done until it is gone",
    "stuck-thread": "what the threads would do is not in the recording",
    "cpu-quota": "how many cores there would be is not known: ftdiag whatif FILE --cores N",
}
