"""Places that several threads update, and what was seen of it: together, under a lock, without.

In: a recording's rows of who was in the middle of updating what. Out: `UpdateShares` of ranges, and the
`SharedUpdate`s of several of them. What only one thread updates is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import UNKNOWN_GUARD, SharedPlace, SharedUpdate, Updater, UpdateSight
from ftdiag.recording.reader import Recording

MAX_PLACES: Final = 1000
"""Places of a range that are told, those with most evidence."""
MAX_UPDATERS: Final = 8
"""Threads and stacks of one place that are told."""
MAX_GUARDS: Final = 4
MIXED_SIGHTS: Final = 2
"""Ticks of each kind in a window from which on a place counts as updated both ways in it."""


@dataclass(frozen=True, slots=True)
class UpdateShares:
    """Of a range: its rows, windows in which a place was updated both ways, windows that were looked at."""

    rows: dict[UpdateSight, int]
    mixed: dict[SharedPlace, int]
    windows: int

    def __len__(self) -> int:
        return len(self.rows)


def update_shares(recording: Recording, first: int, last: int) -> UpdateShares:
    """What the windows at positions [first, last) add."""
    rows: Counter[UpdateSight] = Counter()
    mixed: Counter[SharedPlace] = Counter()
    windows = 0
    for _, seen in recording.updates(first, last):
        windows += 1
        for one in seen:
            rows[_uncounted(one)] += one.count
        mixed.update(_mixed(seen))
    return UpdateShares(dict(rows), dict(mixed), windows)


def _uncounted(one: UpdateSight) -> UpdateSight:
    return UpdateSight(
        *(one.place, one.thread, one.stack, one.guards, 0, one.guard_label, one.check),
        *(one.other, one.other_stack),
    )


def _mixed(seen: Iterable[UpdateSight]) -> set[SharedPlace]:
    """Places that one thread updated under a lock, and another without that lock, in one window."""
    kinds: dict[SharedPlace, dict[frozenset[int], Counter[int]]] = {}
    for one in seen:
        if one.other < 0 and UNKNOWN_GUARD not in one.guards:
            by_guards = kinds.setdefault(one.place, {})
            by_guards.setdefault(frozenset(one.guards), Counter())[one.thread] += one.count
    return {place for place, by_guards in kinds.items() if _differ(by_guards)}


def _differ(by_guards: Mapping[frozenset[int], Counter[int]]) -> bool:
    """Whether different threads held locks, or one and none, of which none is in common; often enough."""
    often = [(guards, seen) for guards, seen in by_guards.items() if seen.total() >= MIXED_SIGHTS]
    return any(
        (guards or others) and not guards & others and len(seen.keys() | them.keys()) > 1
        for place, (guards, seen) in enumerate(often)
        for others, them in often[:place]
    )


def joined_updates(parts: Sequence[UpdateShares]) -> UpdateShares:
    """What consecutive ranges add together."""
    rows: Counter[UpdateSight] = Counter()
    mixed: Counter[SharedPlace] = Counter()
    for part in parts:
        rows.update(part.rows)
        mixed.update(part.mixed)
    return UpdateShares(dict(rows), dict(mixed), sum(part.windows for part in parts))


def merge_updates(recording: Recording, parts: Sequence[UpdateShares]) -> tuple[SharedUpdate, ...] | None:
    """The places that several threads update, those with most evidence first; `None` if nobody looked."""
    whole = joined_updates(parts)
    if not whole.windows:
        return None
    by_place: dict[SharedPlace, list[tuple[UpdateSight, int]]] = {}
    for one, count in whole.rows.items():
        by_place.setdefault(one.place, []).append((one, count))
    found = [
        _told(recording, place, seen, whole.mixed.get(place, 0))
        for place, seen in by_place.items()
        if len({thread for one, _ in seen for thread in (one.thread, one.other) if thread >= 0}) > 1
    ]
    found.sort(key=lambda one: (-one.together, -one.mixed, -one.unguarded, one.place.name))
    return tuple(found[:MAX_PLACES])


def _told(
    recording: Recording, place: SharedPlace, seen: Sequence[tuple[UpdateSight, int]], mixed: int
) -> SharedUpdate:
    alone = [(one, count) for one, count in seen if one.other < 0]
    pairs = sorted(((one, count) for one, count in seen if one.other >= 0), key=lambda row: -row[1])
    updaters: Counter[tuple[int, int]] = Counter()
    labels: Counter[str] = Counter()
    for one, count in alone:
        updaters[one.thread, one.stack] += count
        if one.guard_label is not None:
            labels[one.guard_label] += count
    told = [_updater(recording, thread, stack, count) for (thread, stack), count in updaters.most_common()]
    pair = None
    if pairs:
        one, count = pairs[0]
        pair = (
            _updater(recording, one.thread, one.stack, count),
            _updater(recording, one.other, one.other_stack, count),
        )
    return SharedUpdate(
        place=place,
        unguarded=sum(count for one, count in alone if not one.guards),
        guarded=sum(count for one, count in alone if one.guards and UNKNOWN_GUARD not in one.guards),
        unknown=sum(count for one, count in alone if UNKNOWN_GUARD in one.guards),
        together=sum(count for _, count in pairs),
        mixed=mixed,
        check=all(one.check for one, _ in seen),
        guards=tuple(label for label, _ in labels.most_common(MAX_GUARDS)),
        pair=pair,
        updaters=tuple(told[:MAX_UPDATERS]),
    )


def _updater(recording: Recording, thread: int, stack: int, count: int) -> Updater:
    return Updater(recording.thread(thread), recording.stack(stack), count)
