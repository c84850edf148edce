"""Places that several threads update, as plain values for JSON.

In: a `Snapshot`. Out: a list of dicts, or nothing where nobody looked.
"""

from __future__ import annotations

from typing import Any, Final

from ftdiag.model import Snapshot, Updater
from ftdiag.wording import Shown

MAX_PLACES: Final = 100
STACK_FRAMES: Final = 16


def update_values(snapshot: Snapshot, text: Shown) -> list[dict[str, Any]] | None:
    """Those with most evidence of a race first; `None` where nobody looked for updates."""
    if snapshot.updates is None:
        return None
    return [
        {
            "kind": text(one.place.kind),
            "name": text(one.place.name),
            "type": text(one.place.type_name),
            "address": f"{one.place.owner:#x}",
            "times_together": one.together,
            "ticks_without_lock": one.unguarded,
            "ticks_under_lock": one.guarded,
            "ticks_unknown": one.unknown,
            "seconds_updated_both_ways": one.mixed,
            "overlapping_share": one.overlap_ratio,
            "checked_first": one.check,
            "locks": [text(label) for label in one.guards],
            "pair": None if one.pair is None else [_updater(each, text) for each in one.pair],
            "threads": [_updater(each, text) for each in one.updaters],
        }
        for one in snapshot.updates[:MAX_PLACES]
    ]


def _updater(one: Updater, text: Shown) -> dict[str, Any]:
    return {
        "tid": one.thread.tid,
        "thread": text(one.thread.name),
        "ticks": one.count,
        "stack": [
            {"function": text(frame.function), "file": text(frame.filename), "line": frame.line}
            for frame in one.stack[:STACK_FRAMES]
        ],
    }
