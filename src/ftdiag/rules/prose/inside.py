"""Locks of the interpreter that have a name and no rule of their own: what each is for, and what helps.

In: labels of such locks. Out: `Inside`: what takes the lock, in words, and a remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    CONSTANTS_LOCK,
    DELAYED_FREES,
    FUNCTIONS_LOCK,
    NAMES_LOCK,
    OTHERS_COUNTS,
    WARNINGS_LOCK,
    WEAK_REFERENCES,
    Remedy,
)


@dataclass(frozen=True, slots=True)
class Inside:
    """What takes a lock of the interpreter, and what to do."""

    taken_by: str
    remedy: Remedy
    """Where none of those below is known to gain on the target's version."""
    case: str = ""
    measured: tuple[tuple[str, str, str], ...] = ()
    """Variant of the case, in words, and in code."""


SET_FILTER_ONCE: Final = Remedy(
    "set the filter once, before the threads start, instead of `with warnings.catch_warnings()` for each"
    " call: the filters are the process's, and one lock guards them",
    "warnings.simplefilter('ignore', category=FutureWarning)   # once, at start",
)
UNNAMED_LOCKS: Final = ("interpreter lock", "runtime lock")
"""Labels of those of which only the struct is known that they lie in."""
INSIDE: Final[Mapping[str, Inside]] = {
    WARNINGS_LOCK: Inside(
        "whoever issues a warning or changes the filters of warnings takes it", SET_FILTER_ONCE
    ),
    CONSTANTS_LOCK: Inside(
        "whoever makes code objects takes it: compile(), exec(), eval() of text, unmarshalling of code",
        Remedy(
            "compile a text once and keep the code object",
            "code = compile(text, '<formula>', 'eval')   # once\nvalue = eval(code, names)",
        ),
    ),
    FUNCTIONS_LOCK: Inside(
        "whoever makes or changes functions takes it: a def or lambda that runs again, f.__defaults__ ="
        " (the interpreter gives each a version)",
        Remedy("make the function once, outside of the loop, and give it what differs as an argument"),
    ),
    DELAYED_FREES: Inside(
        "memory that other threads may still read is freed later, through one queue: tables of dicts and"
        " lists that grew, and arrays of types that changed",
        Remedy("let each thread fill a container of its own, and merge them at the end"),
    ),
    OTHERS_COUNTS: Inside(
        "a thread that drops its references to an object of another thread leaves the count to that thread"
        " through it",
        Remedy("let the thread that made an object drop it: hand over results, not what they were made of"),
        "handed-objects",
        (
            (
                "as-a-whole",
                "go through a container that another thread filled, and drop it as a whole: an object that is"
                " taken out and dropped alone leaves its count alone, a container takes all of them with it",
                "for item in batch:      # not: while batch: item = batch.pop()\n"
                "    use(item)\ndel batch               # one count for all of them",
            ),
            (
                "made-where-used",
                "or hand over what the objects are made of, and make them in the thread that drops them",
                "jobs.put(path)           # here\nrows = read(jobs.get())  # there: its own objects",
            ),
            (
                "given-back",
                "or give the objects back, for the thread that made them to drop",
                "done.put(used)           # there, many at a time\ndone.get()               # here",
            ),
        ),
    ),
    WEAK_REFERENCES: Inside(
        "whoever makes, follows or clears a weak reference takes one of a few locks for all objects",
        Remedy("keep the strong reference in a local name for as long as it is used, and look it up once"),
    ),
    NAMES_LOCK: Inside(
        "extension modules that look up attributes by a name for the first time take it",
        Remedy("call each of the module's functions once before the threads start"),
    ),
    **dict.fromkeys(
        UNNAMED_LOCKS,
        Inside(
            "which of its locks it is, is not known, but that classes are not changed there",
            Remedy("do what takes it less often: once for many items, or before the threads start"),
        ),
    ),
}
"""By label."""
