"""heap-type-churn: objects of C types are made in the loop; each counts a reference of the shared type."""

from __future__ import annotations

import re
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Remedy
from ftdiag.rules.attribution.changes import OTHER_CODE
from ftdiag.rules.attribution.machine_code import symbol_share
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineCharge,
    LineClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    Wasted,
)
from ftdiag.rules.prose.library import together
from ftdiag.wording.places import place, place_in

MAKING: Final = (
    *("PyObject_GC_New", "_PyObject_GC_New", "PyObject_GC_NewVar", "_PyObject_GC_NewVar"),
    *("_PyType_AllocNoTrack", "newarrayobject", "pattern_new_match", "array_dealloc", "deque_dealloc"),
    *("bytesio_dealloc", "stringio_dealloc", "partial_dealloc", "lock_dealloc", "rlock_dealloc"),
    *("match_dealloc", "itemgetter_dealloc", "count_dealloc", "simplequeue_dealloc"),
)
"""Functions of machine code that make and free objects of C types."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A C type whose objects are made: by which machine code, and what was measured to do instead."""

    name: str
    symbols: re.Pattern[str]
    case: str
    variant: str
    text: str
    code: str | None


_REUSE: Final = "make the object once per thread and use it again"
_ANY: Final = _Kind(
    *("objects of a C type", re.compile(r"(?!)"), "array", "reuse", _REUSE),
    None,  # nothing is sketched with what has no name
)
_NUMPY: Final = _Kind("NumPy arrays", re.compile(r"PyArray_\w+|npy_\w+"), "", "", "", None)
_ARGUMENTS: Final = _Kind(
    "arguments of foreign functions",
    re.compile(r"PyCArg\w*|PyCFuncPtr_\w+|_ctypes_\w+"),
    *("foreign-function", "own"),
    "give each thread a function object of its own: indexing the library makes a new one",
    "own = library['function']   # of this thread, with its argtypes\nfor item in items:\n    own(item)",
)
"""What ctypes makes for each call, not the program."""
MADE: Final = (
    _Kind(
        *("array objects", re.compile(r"newarrayobject|array_\w+"), "array", "reuse", _REUSE),
        "buffer = array.array('i', bytes(4 * n))   # before the loop\n"
        "for item in items:\n    buffer[0] = item                # fill it again",
    ),
    _Kind(
        *("BytesIO objects", re.compile(r"bytesio_\w+|_io_BytesIO\w*"), "bytesio", "reuse", _REUSE),
        "buffer = io.BytesIO()            # before the loop\nfor item in items:\n"
        "    buffer.seek(0); buffer.truncate()",
    ),
    _Kind(
        *("partial objects", re.compile(r"partial_\w+"), "partial", "reuse", _REUSE),
        "call = functools.partial(send, address)   # before the loop\nfor item in items:\n    call(item)",
    ),
    _Kind(
        *("deque objects", re.compile(r"deque_\w+"), "deque", "reuse", _REUSE),
        "queue = collections.deque()      # before the loop\nfor item in items:\n    queue.clear()",
    ),
    _Kind(
        "Lock objects",
        re.compile(r"r?lock_(?:dealloc|new\w*)|newlockobject|thread_PyThread_allocate_lock"),
        *("lock-made", "reuse", "make the lock once, not for each item"),
        "lock = threading.Lock()          # before the loop",
    ),
    _Kind(
        "Match objects",
        re.compile(r"match_\w+|pattern_new_match|pattern_match\w*"),
        *("match", "findall", "take strings instead of Match objects, many with one call"),
        "for word, rest in PATTERN.findall(text): ...",
    ),
)


def _made(lines: tuple[LineCharge, ...]) -> _Kind:
    """What is made there, as far as the machine code tells."""
    for charge in lines:
        part, kind = max(
            ((symbol_share(charge.line, kind.symbols), kind) for kind in (_NUMPY, _ARGUMENTS, *MADE)),
            key=lambda row: row[0],
        )
        if part > 0:
            return kind
    return _ANY


def _judge(facts: Facts) -> Judgement:
    if not any(line.native for line in facts.hot):
        return NotApplicable("needs the names of native functions, which this recording does not have")
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    at = place(found.frame)
    made = _made(found.lines)
    return found.finding(
        RULE,
        facts,
        confidence="likely",
        summary=(f"{found.losing(facts)} making {made.name} at {place_in(found.frame)}."),
        explanation=(
            "The atomics are in functions that make objects of C heap types (array, deque, BytesIO,"
            " partial, Lock, Match, what ctypes is given ...): each object counts a reference of its type,"
            " and the type is shared by all threads."
            f" Two threads that only make them: array {facts.scaling('array', 'new')}, deque"
            f" {facts.scaling('deque', 'new')}, partial {facts.scaling('partial', 'new')}; of a Python class"
            f" {facts.scaling('partial', 'python-class')}."
        ),
        could_also_be=("refcount-contention: arguments of the call that threads share",),
        remedy=(
            *(
                facts.remedy(
                    *(made.case, made.variant, made.text),
                    None if made.code is None else f"# {at}\n{made.code}",
                )
                if made.case
                else (Remedy("fill one array again, of this thread: give calls out=, assign to slices"),)
            ),
            *(
                ()
                if made is _ARGUMENTS
                else facts.remedy(
                    *("partial", "python-class"),
                    "or use a list or a class of your own instead",
                    "class Pair:\n    __slots__ = ('a', 'b')",
                )
            ),
        ),
        verify=f"the 'contended atomics' at {at} fall",
    )


def _counts_types(wasted: Wasted, facts: Facts) -> bool:
    """Whether the atomics at a line may be those of types: where it is known what they worked on, one is."""
    by_place = [one.type_name for one in wasted.line.shared if one.name == one.type_name]
    return not by_place or "type" in by_place


RULE: Final = Rule(
    id="heap-type-churn",
    title="Objects of C types made in the loop",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=OTHER_CODE,
    claims=Claims(lines=(LineClaim(Priority.NAMED, symbols=MAKING, when=_counts_types),)),
    advice=Advice.LINE,
    cases=("array", "deque", "partial", "bytesio", "lock-made", "match", "foreign-function"),
)
