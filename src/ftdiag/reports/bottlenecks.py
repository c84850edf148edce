"""What to fix first, in words and as plain values, for the text, the JSON and the HTML report.

In: a `Snapshot`. Out: sentences with how far they are set in; a dict for JSON; the graph of who waits for
whom as SVG.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ftdiag.model import (
    Bottleneck,
    BottleneckKind,
    BottleneckPlace,
    Bottlenecks,
    EndOfWait,
    LockRef,
    Snapshot,
    ThreadInfo,
)
from ftdiag.wording import Shown, units
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
_DIGITS: Final = re.compile("[0-9]+")
_ROW_PX: Final = 34
_GRAPH_ROLES: Final = 12
_GRAPH_LOCKS: Final = 10

END_WORDS: Final[Mapping[EndOfWait, str]] = {
    EndOfWait.RUNS: "runs",
    EndOfWait.WANTS_CORE: "wants a core",
    EndOfWait.IO: "waits for I/O",
    EndOfWait.SLEEPS: "sleeps",
    EndOfWait.IDLE: "waits for others",
    EndOfWait.WAITS: "waits",
    EndOfWait.HANDED_OVER: "it is free, and who is next has no core yet",
    EndOfWait.NOT_KNOWN: "who has it is not known",
}


_NOBODY: Final = (EndOfWait.HANDED_OVER, EndOfWait.NOT_KNOWN)


def _lock(lock: LockRef | None, shown: Shown = str) -> str:
    return "a lock" if lock is None else lock_name(lock, shown)


def title_words(one: Bottleneck, shown: Shown = str) -> str:
    """What it is, in a few words."""
    where = place_words(one.places[0], shown) if one.places else ""
    match one.kind:
        case BottleneckKind.LOCK:
            return f"lock {_lock(one.lock, shown)}"
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
            return "stop-the-world pauses"
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


def place_words(place: BottleneckPlace, shown: Shown = str) -> str:
    """Where a chain of waits ended, for example "cache.py:88 in Cache.put"."""
    return frame_words(place.stack[0], shown) if place.stack else ""


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
        parts.append(f"at {units.percent(one.wall_ratio)} of the time")
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
                at = f" at {place_words(place, shown)}" if place.stack else ""
                who = "" if place.end in _NOBODY else f"{_who(one)} "
                yield DETAIL, f"{units.percent(place.wait_ns / whole)}: {who}{END_WORDS[place.end]}{at}"
        if one.known_ratio is not None and one.known_ratio < 0.5:
            yield DETAIL, "who holds it is not known for most of the waiting: chains end here that may go on"


def worth_saying(found: Bottlenecks) -> list[Bottleneck]:
    """Those that cost something, or all waiting if nothing does."""
    kept = [one for one in found.ranked if one.gain_cores >= SAID_CORES and not one.context]
    return kept or [one for one in found.ranked if one.wait_ns > 0][:1]


def _who(one: Bottleneck) -> str:
    return "the holder" if one.kind in (BottleneckKind.LOCK, BottleneckKind.GIL) else "the thread"


# --- JSON --------------------------------------------------------------------------------------------------


def bottleneck_values(snapshot: Snapshot, text: Shown) -> dict[str, Any] | None:
    """The ranked list and the graph as plain values."""
    found = snapshot.bottlenecks
    if found is None:
        return None
    return {
        "not_told": None if found.not_told is None else text(found.not_told),
        "waited_s": _seconds(found.waited_ns),
        "ranked": [
            {
                "kind": one.kind.label,
                "what": text(title_words(one)),
                "lock": f"lock-{one.number}" if one.number else None,
                "label": None if one.lock is None or one.lock.label is None else text(one.lock.label),
                "tid": None if one.thread is None else one.thread.tid,
                "members": [member.tid for member in one.members],
                "detail": None if one.detail is None else text(one.detail),
                "lost_cores": _number(one.lost_cores),
                "gain_cores": _number(one.gain_cores),
                "wasted_cores": _number(one.wasted_cores),
                "wait_s": _seconds(one.wait_ns),
                "direct_s": _seconds(one.direct_ns),
                "wall_share": _number(one.wall_ratio),
                "waiters_max": one.waiters_max,
                "known_share": _number(one.known_ratio),
                "about_the_machine": one.context,
                "places": [
                    {
                        "end": place.end.label,
                        "threads": place.threads,
                        "wait_s": _seconds(place.wait_ns),
                        "function": text(place.stack[0].function) if place.stack else None,
                        "file": text(place.stack[0].filename) if place.stack else None,
                        "line": place.stack[0].line if place.stack else None,
                    }
                    for place in one.places
                ],
            }
            for one in found.ranked
        ],
        "edges": [
            {
                "tid": edge.waiter.tid,
                "lock": f"lock-{edge.number}" if edge.number else None,
                "holder": None if edge.holder is None else edge.holder.tid,
                "wait_s": _seconds(edge.wait_ns),
            }
            for edge in found.edges
        ],
        "left_out": found.left_out,
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _seconds(value_ns: float) -> float | None:
    return _number(value_ns / 1e9)


# --- the graph ---------------------------------------------------------------------------------------------


def role_words(info: ThreadInfo) -> str:
    """Threads whose names differ in their number only are one role: "worker-#"."""
    return _DIGITS.sub("#", info.name) or "thread"


def graph_svg(found: Bottlenecks, shown: Shown) -> str | None:
    """Who waits for whom: roles of threads on the left, locks in the middle, holders on the right.

    The width of a line is its part of all waiting. `None` where nobody waited for a lock.
    """
    to_lock: dict[tuple[str, str], float] = {}
    to_holder: dict[tuple[str, str], float] = {}
    for edge in found.edges:
        waiter, lock = role_words(edge.waiter), _lock(edge.lock)
        holder = "not known" if edge.holder is None else role_words(edge.holder)
        to_lock[waiter, lock] = to_lock.get((waiter, lock), 0.0) + edge.wait_ns
        to_holder[lock, holder] = to_holder.get((lock, holder), 0.0) + edge.wait_ns
    whole = sum(to_lock.values())
    if whole <= 0:
        return None
    columns = [
        _largest(to_lock, 0, _GRAPH_ROLES),
        _largest(to_lock, 1, _GRAPH_LOCKS),
        _largest(to_holder, 1, _GRAPH_ROLES),
    ]
    height = _ROW_PX * max(map(len, columns)) + 24
    spots = [{name: 30 + _ROW_PX * place for place, name in enumerate(column)} for column in columns]
    parts: list[str] = []
    for edges, left, right, x0, x1 in ((to_lock, 0, 1, 170, 300), (to_holder, 1, 2, 490, 620)):
        for (source, target), spent in edges.items():
            if source in spots[left] and target in spots[right]:
                y0, y1 = spots[left][source], spots[right][target]
                width = max(0.7, 14.0 * spent / whole)
                middle = (x0 + x1) / 2
                label = f"{source} to {target}: {units.seconds(spent)}"
                parts.append(
                    f'<path d="M{x0} {y0} C{middle:g} {y0} {middle:g} {y1} {x1} {y1}" fill="none"'
                    f' stroke="currentColor" stroke-opacity="0.35" stroke-width="{width:.1f}">'
                    f"<title>{_escaped(label, shown)}</title></path>"
                )
    for column, x, anchor in ((0, 165, "end"), (1, 395, "middle"), (2, 625, "start")):
        for name, y in spots[column].items():
            cut = name if len(name) <= 26 else f"{name[:25]}…"
            parts.append(
                f'<text x="{x}" y="{y + 4}" text-anchor="{anchor}" font-size="12" fill="currentColor">'
                f"{_escaped(cut, shown)}</text>"
            )
    heads = "".join(
        f'<text x="{x}" y="12" text-anchor="{anchor}" font-size="11" fill="currentColor" opacity="0.7">'
        f"{word}</text>"
        for word, x, anchor in (("waits", 165, "end"), ("for", 395, "middle"), ("held by", 625, "start"))
    )
    return (
        f'<svg viewBox="0 0 790 {height}" role="img" aria-label="who waits for whom" width="100%">'
        f"{heads}{''.join(parts)}</svg>"
    )


def _largest(edges: Mapping[tuple[str, str], float], place: int, limit: int) -> list[str]:
    total: dict[str, float] = {}
    for names, spent in edges.items():
        total[names[place]] = total.get(names[place], 0.0) + spent
    return sorted(total, key=lambda name: -total[name])[:limit]


def _escaped(text: str, shown: Shown) -> str:
    return html.escape(shown(text), quote=True)
