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
    parts = [f"{shown(one.type_name)}{possibly}", *fact_words(one, shown)]
    return f"{shown(one.name)} ({'; '.join(parts)})"


def fact_words(one: SharedObject, shown: Shown = str) -> list[str]:
    """Where it is, who made it and how it is counted, as far as that is known."""
    parts = []
    facts = one.facts
    if facts is not None:
        if facts.path is not None:
            parts.append(f"at {shown(facts.path)}")
        if facts.made_by is not None:
            parts.append(f"made by {shown(facts.made_by)}")
        parts.append(COUNTED[facts.counting])
    return parts


def locked_words(one: SharedObject, shown: Shown = str) -> str:
    """The object that a lock is of: "the dict at app.COUNTS; made by MainThread; ..."."""
    return f"the {' '.join(filter(None, (shown(one.type_name), '; '.join(fact_words(one, shown)))))}"
