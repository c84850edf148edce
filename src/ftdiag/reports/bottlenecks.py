"""What to fix first as plain values for JSON, and the graph of who waits for whom as SVG.

In: a `Snapshot`. Out: a dict; SVG.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any, Final

from ftdiag.model import Bottlenecks, Snapshot
from ftdiag.wording import Shown, units
from ftdiag.wording.bottlenecks import lock_words, role_words, title_words

_ROW_PX: Final = 34
_GRAPH_ROLES: Final = 12
_GRAPH_LOCKS: Final = 10


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


def graph_svg(found: Bottlenecks, shown: Shown) -> str | None:
    """Who waits for whom: roles of threads on the left, locks in the middle, holders on the right.

    The width of a line is its part of all waiting. `None` where nobody waited for a lock.
    """
    to_lock: dict[tuple[str, str], float] = {}
    to_holder: dict[tuple[str, str], float] = {}
    for edge in found.edges:
        waiter, lock = role_words(edge.waiter), lock_words(edge.lock)
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
