"""Shared objects in words: what they are called, where they are, who made them, how they are counted.

In: a `SharedObject`. Out: phrases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import Confidence, Counting, SharedObject
from ftdiag.wording import Shown

COUNTED: Final[Mapping[Counting, str]] = {
    Counting.IMMORTAL: "immortal: never counted",
    Counting.DEFERRED: "counting deferred",
    Counting.PER_THREAD: "counted by each thread for itself",
    Counting.BIASED: "counted by its own thread only so far",
    Counting.SHARED: "counted by the others with atomic operations",
    Counting.MERGED: "counted by all with atomic operations",
}
"""How references to an object are counted."""


def object_words(one: SharedObject, shown: Shown = str) -> str:
    """ "CONFIG (dict; app.CONFIG; made by MainThread; counted by the others with atomic operations)"."""
    possibly = "" if one.confidence is Confidence.KNOWN else ", possibly"
    parts = [f"{shown(one.type_name)}{possibly}"]
    facts = one.facts
    if facts is not None:
        if facts.path is not None:
            parts.append(f"at {shown(facts.path)}")
        if facts.made_by is not None:
            parts.append(f"made by {shown(facts.made_by)}")
        parts.append(COUNTED[facts.counting])
    return f"{shown(one.name)} ({'; '.join(parts)})"
