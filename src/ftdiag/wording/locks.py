"""Locks in words: what each is called, who holds it, what a thread waits for.

In: locks and waits of the model. Out: plain text. Two locks of one name differ by their number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Final

from ftdiag.model import (
    INTERPRETER_LOCKS,
    CollectorMetrics,
    Confidence,
    HotLine,
    LockHolder,
    LockKind,
    LockMetrics,
    LockRef,
    Stack,
    StateGroup,
    ThreadMetrics,
    ThreadState,
    Wait,
)
from ftdiag.wording import Shown, units
from ftdiag.wording.places import an, at_words, short
from ftdiag.wording.states import CONFIDENCE_NAMES, STATE_NAMES
from ftdiag.wording.threads import thread_name

MOSTLY_SHARE: Final = 0.6
"""A thread with this share of a lock's blame at a line or more is named as its holder there."""
SPUN_SHARE: Final = 0.2
"""Of a line's time on a core and in the run queue."""
KIND_NAMES: Final[Mapping[LockKind, str]] = {
    LockKind.USER: STATE_NAMES[ThreadState.LOCK],
    LockKind.OBJECT: STATE_NAMES[ThreadState.OBJECT_LOCK],
    LockKind.RUNTIME: STATE_NAMES[ThreadState.RUNTIME_LOCK],
    LockKind.GIL: STATE_NAMES[ThreadState.GIL],
    LockKind.NATIVE: STATE_NAMES[ThreadState.NATIVE_LOCK],
}
"""The kinds of locks, called like the state of a thread that waits for one."""
_EXPRESSION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def lock_name(lock: LockRef, shown: Shown = str) -> str:
    """What people call a lock, for a row: its name in the program, else what it is of, else its kind."""
    return shown(lock.label or lock.type_name or KIND_NAMES[lock.kind])


def spun_for_words(line: HotLine, shown: Shown = str) -> list[str]:
    """What threads spin for at a line: "the lock of one dict (app.PRICES)", "the lock of all types".

    Nothing below a fifth of its time on a core and in the run queue: machine code is sampled between ticks,
    so that some samples of a lock fall on lines before and after the one that takes it.
    """
    wanted_ns = sum(ns for state, ns in line.states_ns.items() if state.group is not StateGroup.OFF_CPU)
    if line.states_ns.get(ThreadState.SPIN, 0.0) < SPUN_SHARE * wanted_ns:
        return []
    words = []
    for name, path in zip_longest(line.spun_for, line.spun_paths[: len(line.spun_for)]):
        if name in INTERPRETER_LOCKS:
            words.append(name)
        else:
            where = f" ({shown(short(path))})" if path else ""
            words.append(f"the lock of one {shown(short(name))}{where}")
    return words


def names_of(locks: Iterable[LockMetrics]) -> dict[LockRef, str]:
    """What each lock is called among these: its name, and by its number where others have that name, too."""
    named: dict[str, list[LockMetrics]] = {}
    for each in locks:
        if each.number:
            named.setdefault(lock_name(each.lock), []).append(each)
    return {
        each.lock: name if len(alike) == 1 else f"lock {each.number} of {name}"
        for name, alike in named.items()
        for each in alike
    }


def lock_in_sentence(lock: LockRef) -> str:
    """What a lock is called in a sentence: "cache (PriceCache._lock)", "a list", "a lock"."""
    if lock.label:
        return short(lock.label)
    return an(short(lock.type_name)) if lock.type_name else "a lock"


def metrics_in_sentence(lock: LockMetrics) -> str:
    """A lock of a range in a sentence: its name, else the path of its object, else its type."""
    facts = None if lock.of_object is None else lock.of_object.facts
    if lock.lock.label is None and facts is not None and facts.path is not None:
        return short(facts.path)
    return lock_in_sentence(lock.lock)


def lock_key(lock: LockRef) -> str:
    """A lock in a finding, told from all others: its name in a sentence, and its address."""
    return f"{lock_in_sentence(lock)} {lock.address:#x}"


def lock_words(
    lock: LockRef,
    number: int | None = None,
    shown: Shown = str,
    names: Mapping[LockRef, str] | None = None,
) -> str:
    """A lock with what it is of and its number, as far as known: "self._lock (_thread.lock, lock 1)".

    The `number` of a lock is that of `LockMetrics`; 0 is all that are not told apart. With the `names` of
    `names_of` the number comes first where it is what tells locks apart: "lock 2 of Target (_thread.lock)".
    """
    if number == 0:
        return shown(lock.label or "other locks")
    name = None if names is None else names.get(lock)
    if name is not None and name != lock_name(lock):
        return shown(f"{name} ({lock.type_name})" if lock.label and lock.type_name else name)
    kind = lock.type_name or KIND_NAMES[lock.kind]
    about = [shown(kind)] if lock.label else []
    if number is not None:
        about.append(f"lock {number}")
    name = shown(lock.label or kind)
    return f"{name} ({', '.join(about)})" if about else name


def metrics_words(lock: LockMetrics, shown: Shown = str, names: Mapping[LockRef, str] | None = None) -> str:
    """A lock of a range with its number: "self._lock (_thread.lock, lock 1)"."""
    return lock_words(lock.lock, lock.number, shown, names)


def lock_expression(lock: LockMetrics) -> str:
    """A lock as the program may write it in a `with`: "self._lock" for "cache (PriceCache._lock)".

    For the lock inside a condition it is what the program calls the condition.
    """
    label = lock.lock.label
    if not label:
        return "lock"
    outer, _, inner = label.partition(" (")
    name = outer if inner.startswith("Condition.") else inner.rstrip(")") or label
    owner, dot, attribute = name.partition(".")
    name = f"self.{attribute}" if dot and owner[:1].isupper() else name
    return short(name) if _EXPRESSION.fullmatch(name) else "lock"


def wait_words(wait: Wait, shown: Shown = str, names: Mapping[LockRef, str] | None = None) -> str:
    """What a wait is for, in the most telling words known; "" where nothing is."""
    if wait.lock is not None and (wait.lock.label or not wait.detail):
        return shown((names or {}).get(wait.lock) or lock_name(wait.lock))
    return shown(wait.detail or wait.syscall or "")


def main_wait_words(
    thread: ThreadMetrics,
    least_share: float = 0.0,
    shown: Shown = str,
    names: Mapping[LockRef, str] | None = None,
) -> str:
    """What a thread waits for most, where that is at least this share of its life; else ""."""
    if not thread.waits or thread.waits[0][1] < least_share * thread.alive_ns:
        return ""
    return wait_words(thread.waits[0][0], shown, names)


def holder_words(holder: LockHolder, shown: Shown = str) -> str:
    """A holder's name, that it is not known, or that nobody had the lock."""
    return "nobody, it was free" if holder.free else shown(thread_name(holder.thread))


def sure_words(confidence: Confidence) -> str:
    """How sure something is, in brackets with its space, where it is not measured; else ""."""
    return "" if confidence is Confidence.KNOWN else f" ({CONFIDENCE_NAMES[confidence]})"


def holding(lock: LockMetrics, shown: Shown = str) -> list[tuple[str, float]]:
    """Where a lock is held and by whom, with the blame in ns, largest first; lines are put together."""
    by_place: dict[tuple[Stack, Confidence], dict[str, float]] = {}
    for holder in lock.holders:
        if holder.thread is not None:
            names = by_place.setdefault((holder.stack[:1], holder.confidence), {})
            name = shown(thread_name(holder.thread))
            names[name] = names.get(name, 0.0) + holder.blame_ns
    return sorted(
        (
            (f"{_by(names)}{at_words(stack, shown)} ({CONFIDENCE_NAMES[confidence]})", sum(names.values()))
            for (stack, confidence), names in by_place.items()
        ),
        key=lambda place: -place[1],
    )


def _by(names: Mapping[str, float]) -> str:
    most = max(names, key=lambda name: names[name])
    if len(names) == 1:
        return f"by {most}"
    if names[most] >= MOSTLY_SHARE * sum(names.values()):
        return f"mostly by {most}"
    return f"by {len(names)} threads in turn"


def collections_words(collector: CollectorMetrics) -> str:
    """What the collector did, by its own count: "measured: 45 collections, 456 ms in all, ..."."""
    count = collector.count
    if not count:
        return "measured: no garbage collection"
    words = (
        f"measured: {units.plural(count, 'garbage collection')}, {units.seconds(collector.total_ns)} in all"
    )
    if count > 1:
        words += f", {units.seconds(collector.total_ns / count)} each"
    if collector.longest_ns is not None and count > 1:
        words += f", {units.seconds(collector.longest_ns)} at most"
        if collector.timed < count:
            words += f" of the {collector.timed:,} timed one by one"
    return f"{words}; looked at {collector.looked_at:,} objects, freed {collector.freed:,}"
