"""What to fix first, in words.

In: `Bottlenecks` of a range. Out: phrases, and sentences with how far they are set in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ftdiag.model import (
    Bottleneck,
    BottleneckKind,
    BottleneckPlace,
    Bottlenecks,
    EndOfWait,
    Finding,
    Frame,
    LockRef,
    Snapshot,
    ThreadInfo,
)
from ftdiag.wording import Shown, units
from ftdiag.wording.answer import costliest
from ftdiag.wording.locks import lock_name
from ftdiag.wording.places import frame_words

SHOWN: Final = 5
SHOWN_PLACES: Final = 2
SAID_CORES: Final = 0.02
"""Causes that cost less are left to the JSON report."""
SAID_PLACE: Final = 0.1
"""Places with less than this share of what waits there are left out."""
ITEM: Final = 2
DETAIL: Final = 4
Placed = Callable[[Frame], str]
"""How a place is said."""
_DIGITS: Final = re.compile("[0-9]+")

END_WORDS: Final[Mapping[EndOfWait, str]] = {
    EndOfWait.RUNS: "runs",
    EndOfWait.WANTS_CORE: "waits for a core",
    EndOfWait.IO: "waits for I/O",
    EndOfWait.SLEEPS: "sleeps",
    EndOfWait.IDLE: "waits for others",
    EndOfWait.WAITS: "waits",
    EndOfWait.HANDED_OVER: "it is free, and who is next has no core yet",
    EndOfWait.NOT_KNOWN: "who has it is not known",
}


_NOBODY: Final = (EndOfWait.HANDED_OVER, EndOfWait.NOT_KNOWN)


def lock_words(lock: LockRef | None, shown: Shown = str) -> str:
    return "a lock" if lock is None else lock_name(lock, shown)


def title_words(one: Bottleneck, shown: Shown = str, place: Placed = frame_words) -> str:
    """What it is, in a few words, with places as `place` says them."""
    where = place_words(one.places[0], shown, place) if one.places else ""
    match one.kind:
        case BottleneckKind.LOCK:
            words = lock_words(one.lock, shown)
            return words if words.startswith("the ") else f"lock {words}"
        case BottleneckKind.LINE:
            return f"contention at {where}" if where else "contention outside Python code"
        case BottleneckKind.SERIAL if one.thread is not None:
            return f"{shown(one.thread.name)} runs while others have nothing to do"
        case BottleneckKind.SERIAL:
            return "one thread at a time runs while others have nothing to do"
        case BottleneckKind.IO:
            return f"I/O: {shown(one.detail)}" if one.detail else "I/O"
        case BottleneckKind.CORES:
            return f"too few cores: {shown(one.detail)}" if one.detail else "too few cores for these threads"
        case BottleneckKind.STOP:
            return "stop-the-world pauses" + (
                f" ({shown(one.lock.label)})" if one.lock and one.lock.label else ""
            )
        case BottleneckKind.GIL:
            return "the GIL"
        case BottleneckKind.KNOT:
            names = [shown(member.name) for member in one.members[:3]]
            more = f" and {len(one.members) - 3} more" if len(one.members) > 3 else ""
            return f"{', '.join(names)}{more} wait for each other only"
        case _:
            return (
                f"waits that are not known ({shown(one.detail)})"
                if one.detail
                else "waits that are not known"
            )


def place_words(found: BottleneckPlace, shown: Shown = str, place: Placed = frame_words) -> str:
    """Where a chain of waits ended, for example "cache.py:88 in Cache.put"."""
    return shown(place(found.stack[0])) if found.stack else ""


def end_words(found: BottleneckPlace, shown: Shown = str, place: Placed = frame_words) -> str:
    """What who is waited for does, and where: "runs at cache.py:88 in Cache.put"."""
    words = END_WORDS[found.end]
    if found.stack:
        return f"{words} at {place_words(found, shown, place)}"
    return words if found.end in _NOBODY else f"{words}; where is not known"


def cost_words(one: Bottleneck) -> str:
    """What it costs."""
    if one.kind is BottleneckKind.CORES and one.gain_cores > one.lost_cores:
        text = f"{units.cores(one.gain_cores)} cores more would be used"
    else:
        text = f"costs {units.cores(one.lost_cores)} cores"
    parts = [text]
    if one.wasted_cores >= SAID_CORES and one.kind is not BottleneckKind.LINE:
        parts.append(f"{units.cores(one.wasted_cores)} of them wasted on a core")
    if one.wait_ns > 0:
        parts.append(f"{units.seconds(one.wait_ns)} of waiting end here")
        if one.direct_ns > 0 and one.wait_ns > 1.05 * one.direct_ns:
            parts.append(f"{units.seconds(one.wait_ns - one.direct_ns)} of it through other locks")
    if one.wall_ratio is not None:
        parts.append(f"during {units.percent(one.wall_ratio)} of the time")
    return "; ".join(parts)


def bottleneck_sentences(snapshot: Snapshot, shown: Shown) -> Iterator[tuple[int, str]]:
    """The ranked list, with how far each sentence is set in."""
    found = snapshot.bottlenecks
    if found is None:
        return
    if found.not_told is not None:
        yield ITEM, shown(found.not_told)
        return
    for number, one in enumerate(worth_saying(found)[:SHOWN], 1):
        yield ITEM, f"{number}. {title_words(one, shown)}: {cost_words(one)}"
        whole = sum(place.wait_ns for place in one.places)
        for place in one.places[:SHOWN_PLACES]:
            if place.wait_ns >= SAID_PLACE * whole and one.kind is not BottleneckKind.LINE:
                who = "" if place.end in _NOBODY else f"{_who(one)} "
                yield DETAIL, f"{units.percent(place.wait_ns / whole)}: {who}{end_words(place, shown)}"
        if one.known_ratio is not None and one.known_ratio < 0.5:
            yield DETAIL, "who holds it is not known for most of the waiting: chains end here that may go on"
    why = ranking_words(snapshot, shown)
    if why is not None:
        yield ITEM, why


_NOT_OF_LOCKS: Final = frozenset({BottleneckKind.CORES, BottleneckKind.IO, BottleneckKind.GIL})
"""A finding about one of these is not about a lock, unless it says so."""


def same_cause(finding: Finding, first: Bottleneck) -> bool:
    """Whether a finding and an entry of the list are about the same."""
    if first.kind is BottleneckKind.LOCK and first.lock is not None:
        address = str(finding.subject.get("lock", "")).rpartition(" ")[2]
        if address.startswith("0x"):
            return address == f"{first.lock.address:#x}"
    if first.kind in finding.about:
        return True
    # One cause has many lines, and locks that have no name.
    if first.kind is BottleneckKind.LINE:
        return BottleneckKind.LOCK in finding.about or not finding.about
    if first.kind is BottleneckKind.LOCK:
        return BottleneckKind.LOCK in finding.about or not finding.about & _NOT_OF_LOCKS
    return False


def ranking_words(snapshot: Snapshot, shown: Shown = str) -> str | None:
    """Why the list begins with something else than the answer names; `None` where it does not."""
    found, finding = snapshot.bottlenecks, costliest(snapshot)
    ranked = [] if found is None or found.not_told is not None else worth_saying(found)
    if finding is None or not ranked or same_cause(finding, ranked[0]):
        return None
    later = next((place for place, one in enumerate(ranked, 1) if same_cause(finding, one)), None)
    there = f"is {later}. here" if later is not None else "is not here"
    return (
        f"{finding.rule_id}, which the first line names, {there}: this list has what waiting ends at, and"
        f" not what it costs in all{_other_cost(finding, ranked[0])}"
    )


def _other_cost(finding: Finding, first: Bottleneck) -> str:
    if finding.lost_cores <= 0:
        return ""
    return f" ({units.cores(finding.lost_cores)} cores; {units.cores(first.lost_cores)} for 1.)"


def worth_saying(found: Bottlenecks) -> list[Bottleneck]:
    """Those that cost something, or all waiting if nothing does."""
    kept = [one for one in found.ranked if one.gain_cores >= SAID_CORES and not one.context]
    return kept or [one for one in found.ranked if one.wait_ns > 0][:1]


def _who(one: Bottleneck) -> str:
    return "the holder" if one.kind in (BottleneckKind.LOCK, BottleneckKind.GIL) else "the thread"


def role_words(info: ThreadInfo) -> str:
    """Threads whose names differ in their number only are one role: "worker-#"."""
    return _DIGITS.sub("#", info.name) or "thread"
