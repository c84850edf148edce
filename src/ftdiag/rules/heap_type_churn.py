"""heap-type-churn: objects of C types are made in the loop; each counts a reference of the shared type."""

from __future__ import annotations

import re
from typing import Final

from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    LineCharge,
    Need,
    NotApplicable,
    Rule,
    Verdict,
)
from ftdiag.rules.charges import symbol_share
from ftdiag.rules.library import together
from ftdiag.rules.wording import place, place_in

MADE: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = (
    # Type, the machine code that makes or frees its objects, and how one object is used again.
    (
        "array",
        re.compile(r"newarrayobject|array_\w+"),
        "buffer = array.array('i', bytes(4 * n))   # before the loop\n"
        "for item in items:\n    buffer[0] = item                # fill it again",
    ),
    (
        "BytesIO",
        re.compile(r"bytesio_\w+|_io_BytesIO\w*"),
        "buffer = io.BytesIO()            # before the loop\nfor item in items:\n"
        "    buffer.seek(0); buffer.truncate()",
    ),
    (
        "partial",
        re.compile(r"partial_\w+"),
        "call = functools.partial(send, address)   # before the loop\nfor item in items:\n    call(item)",
    ),
    (
        "deque",
        re.compile(r"deque_\w+"),
        "queue = collections.deque()      # before the loop\nfor item in items:\n    queue.clear()",
    ),
    (
        "Lock",
        re.compile(r"r?lock_(?:dealloc|new\w*)|newlockobject|thread_PyThread_allocate_lock"),
        "lock = threading.Lock()          # once, not for each item",
    ),
    (
        "Match",
        re.compile(r"match_\w+|pattern_new_match|pattern_match\w*"),
        "for match in PATTERN.finditer(text): ...   # one call for many matches, or findall",
    ),
)
_ANY: Final = "thing = make()                   # before the loop\nfor item in items:\n    thing.reset(item)"


def _made(lines: tuple[LineCharge, ...]) -> tuple[str, str]:
    """What is made there, as far as the machine code tells, and how to use one of it again."""
    for charge in lines:
        shares = [(symbol_share(charge.line, pattern), kind, code) for kind, pattern, code in MADE]
        part, kind, code = max(shares, key=lambda row: row[0])
        if part > 0:
            return f"{kind} objects", code
    return "objects of a C type", _ANY


def _judge(facts: Facts) -> Verdict:
    if not any(line.native for line in facts.hot):
        return NotApplicable("needs the names of native functions, which this recording does not have")
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    at = place(found.frame)
    made, again = _made(found.lines)
    case = "bytesio" if made.startswith("BytesIO") else "array"
    return found.finding(
        RULE,
        facts,
        confidence="likely",
        summary=(f"{found.losing(facts)} making {made} at {place_in(found.frame)}."),
        explanation=(
            "The atomics are in functions that make objects of C heap types (array, deque, BytesIO,"
            " partial, Lock, Match ...): each object counts a reference of its type, and the type is shared"
            f" by all threads. Two threads that only make them: array {facts.scaling('array', 'new')}, deque"
            f" {facts.scaling('deque', 'new')}, partial {facts.scaling('partial', 'new')}; of a Python class"
            f" {facts.scaling('partial', 'python-class')}."
        ),
        could_also_be=("refcount-contention: arguments of the call that threads share",),
        remedy=(
            *facts.remedy(
                *(case, "reuse"),
                "make the object once per thread and use it again",
                f"# {at}\n{again}",
            ),
            *facts.remedy(
                *("partial", "python-class"),
                "or use a list or a class of your own instead",
                "class Pair:\n    __slots__ = ('a', 'b')",
            ),
        ),
        verify=f"the 'contended atomics' at {at} fall",
    )


RULE: Final = Rule(
    id="heap-type-churn",
    title="Objects of C types made in the loop",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
