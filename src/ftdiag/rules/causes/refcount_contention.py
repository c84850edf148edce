"""refcount-contention: threads count references of the same objects, with an atomic instruction each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import ChangeKind, Confidence, Counting, Frame, HotLine, LockKind, Remedy, SharedObject
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.frames import is_file, leaves
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineClaim,
    LockClaim,
    Need,
    Priority,
    Rule,
    evidence,
)
from ftdiag.rules.figures.measured import SCALES, measurement
from ftdiag.rules.prose.library import Together, together
from ftdiag.wording.places import an, place, place_in, places, short

NAMED: Final = 2
"""Shared objects told in a summary."""
NUMBERS: Final = frozenset({"int", "float", "bool", "complex"})
CALLABLES: Final = frozenset(
    {
        "function",
        "method",
        "cell",
        "functools.partial",
        "functools._lru_cache_wrapper",
        "builtin_function_or_method",
    }
)
"""Types that are not copied for a thread but made in it: the function with its closure or cache."""


@dataclass(frozen=True, slots=True)
class _Hint:
    """What is counted at a line of the standard library, the case that was measured, and what to do."""

    what: str
    case: str
    variant: str
    remedy: Remedy | None = None


def _hint(frame: Frame) -> _Hint | None:
    if is_file(frame, "enum.py") or is_file(frame, "types.py"):
        return _Hint(
            "an Enum's .value",
            "enum-value",
            "once",
            Remedy("read .value once, before the loop or at import", "NEW = State.NEW.value    # at import"),
        )
    if is_file(frame, "os.py") or is_file(frame, "_collections_abc.py"):
        return _Hint(
            "os.environ",
            "environ",
            "once",
            Remedy("read the variable once at start", "LEVEL = os.environ.get('LEVEL')    # at import"),
        )
    if is_file(frame, "abc.py"):
        return _Hint(
            "isinstance() with an abstract class",
            "isinstance-abc",
            "concrete",
            Remedy("ask for a concrete class", "isinstance(value, dict)     # not collections.abc.Mapping"),
        )
    if is_file(frame, "copy.py"):
        # What gains there was not measured: no remedy is offered but to do it less often.
        return _Hint(
            "copy's tables of how each type is copied, which all threads read",
            "global-instance",
            "made-anew",
            Remedy("make the object anew", None),
        )
    if "<lambda>" in frame.function or "<locals>" in frame.function:
        return _Hint("a lambda, closure or nested function that threads share", "lambda", "own")
    return None


FOREIGN: Final = "_FuncPtr"
"""The type of ctypes' function objects, one class a library."""
CACHED: Final = "functools._lru_cache_wrapper"
CASE_OF: Final = {
    FOREIGN: "foreign-function",
    "method": "bound-method",
    "function": "decorated-function",
    "cell": "closure",
    "functools._lru_cache_wrapper": "lru-cache",
    "list": "global-list",
    "float": "global-float",
}
"""The measured case that is nearest to a shared object, by its type."""


def _case(first: SharedObject | None) -> str:
    if first is None:
        return "global-instance"
    if "." in first.name and first.type_name not in CALLABLES:
        return "attribute-value"
    return CASE_OF.get(first.type_name, "lambda" if first.type_name in CALLABLES else "global-instance")


def _named(line: HotLine) -> tuple[SharedObject, ...]:
    """The shared objects of a line that are worth a name, the surest first.

    A number that is merely another thread's is a loop variable more often than a constant.
    """
    found = [
        one
        for one in line.shared
        if one.name != "_" and (one.type_name not in NUMBERS or one.confidence is Confidence.KNOWN)
    ]
    found.sort(key=lambda one: (one.type_name in NUMBERS, -one.confidence))
    return tuple(found[:NAMED])


def _called(one: SharedObject) -> str:
    """ "CRC_TABLE (a list)"; "a list" for what the line does not name."""
    kind = short(one.type_name)
    return an(kind) if one.name == one.type_name else f"{short(one.name)} ({an(kind)})"


def _whose(shared: Sequence[SharedObject]) -> str:
    """Where the first object is to be found, who made it, and how that leaves it to be counted."""
    facts = shared[0].facts if shared else None
    if facts is None:
        return ""
    name = short(shared[0].name)
    where = f" is {short(facts.path)} and" if facts.path is not None and facts.path != shared[0].name else ""
    by = f" {short(facts.made_by)}" if facts.made_by is not None else " a thread"
    if facts.counting is Counting.MERGED:
        return f" {name}{where} has no thread of its own any more: all count it with atomic operations."
    return f" {name}{where} was made by{by}, which counts it without atomic operations; all others do with."


def _local(name: str) -> str:
    """A name for a local variable: "crc_table" for "CRC_TABLE", "discounts" for "SETTINGS.discounts"."""
    word = name.removeprefix("cell ").rpartition(".")[2].strip("_").lower()
    return word if word.isidentifier() and word != name else "mine"


def _remedies(
    facts: Facts, frame: Frame, shared: Sequence[SharedObject], hint: _Hint | None
) -> tuple[Remedy, ...]:
    at = f"# {place(frame)}\n"
    first = next((one for one in shared if one.name != one.type_name), None)
    name = short(first.name) if first is not None else "SHARED"
    local = _local(name)
    source = name.removeprefix("cell ")
    case = _case(first)
    if hint is not None and hint.remedy is not None:
        return facts.remedy(hint.case, hint.variant, hint.remedy.text, hint.remedy.code)
    copied = (
        facts.remedy(
            *(case if case in {"global-list", "attribute-value"} else "argument", "copy"),
            "give each thread a copy of its own",
            # Nothing is sketched with an object that has no name.
            f"{at}def work(items):\n    {local} = copy.deepcopy({source})   # of this thread\n"
            f"    for item in items:\n        ...                     # use {local}"
            if first is not None
            else None,
        )
        if first is None or _can_be_copied(first)
        else ()
    )
    if first is not None and first.type_name == "method":
        owner = next((one.type_name for one in shared if one.name == f"{first.name}.__self__"), "Type")
        return facts.remedy(
            *(case, "own"),
            "give each thread an object of its own and call its method",
            f"{at}def work(items):\n    own = {short(owner)}()      # not the one that {name} belongs to\n"
            "    for item in items:\n        own.method(item)",
        )
    if first is not None and first.type_name == FOREIGN:
        function = source.rpartition(".")[2]
        return facts.remedy(
            *(case, "own"),
            "give each thread a function object of its own: indexing the library makes a new one",
            f"{at}def work(items):\n    own = library['{function}']   # of this thread, with argtypes\n"
            "    for item in items:\n        own(item)",
        )
    if first is not None and first.type_name == CACHED:
        return facts.remedy(
            *(case, "own"),
            "give each thread a cache of its own, around the function without one",
            f"{at}def work(items):\n    own = functools.lru_cache(maxsize=512)({source}.__wrapped__)\n"
            "    for item in items:\n        own(item)",
        )
    if (first is not None and first.type_name in CALLABLES) or (first is None and hint is not None):
        made = facts.remedy(
            *(case if first is not None else "lambda", "own"),
            "make the function in each thread, with a wrapper, closure or cache of its own",
            f"{at}def work(items):\n    own = make()            # what makes {name}, called in this thread\n"
            "    for item in items:\n        own(item)"
            if first is not None
            else None,
        )
        return (*made, *_deferred(facts, case)) if first is not None else (*made, *copied)
    alias = (
        ()
        if _alias_is_useless(facts, case)
        else facts.remedy(
            *(case, "alias"),
            "bind the shared object to a local name before the loop, on a line of its own",
            f"{at}{local} = {source}      # before the loop: borrowed, not counted\n"
            f"for item in items:\n    ...                         # use {local}"
            if first is not None
            else None,
        )
    )
    return (*alias, *copied, *_deferred(facts, case))


def _can_be_copied(one: SharedObject) -> bool:
    """Whether a copy is another object: those of C modules (a numpy.ufunc) are mostly one of a kind."""
    return "." not in one.type_name or one.type_name.startswith("collections.")


def _alias_is_useless(facts: Facts, case: str) -> bool:
    """Whether threads that use a local name contend all the same: they only do a little less each time."""
    found = measurement(case, "alias", facts.version)
    return found is not None and found.scaling < SCALES


def _deferred(facts: Facts, case: str) -> tuple[Remedy, ...]:
    return facts.remedy(
        *(case, "deferred"),
        "an extension may switch counting off for one object that lives long, which is then freed by the"
        " collector only",
        "PyUnstable_Object_EnableDeferredRefcount(object);   /* C */",
    )


def _lines(facts: Facts, found: Together) -> list[HotLine]:
    """The lines with contended counts; where a cell is waited for (3.13), they are charged with its lock."""
    if found.lines:
        return [charge.line for charge in found.lines]
    waiting = {frame for charge in found.locks for lock in charge.locks for frame in leaves(lock)}
    return [line for line in facts.hot if line.frame in waiting]


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    lines = _lines(facts, found)
    if not lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    first = lines[0]
    frame = caller(first)
    hint = _hint(first.frame)
    shared = _named(first)
    names = " and ".join(map(_called, shared))
    touched = f": {names} is shared" if len(shared) == 1 else f": {names} are shared" if shared else ""
    if not touched and hint is not None:
        touched = f"; there, {hint.what} is touched"
    atomic = sum(line.atomic_cores for line in found.lines) + sum(lock.atomic_cores for lock in found.locks)
    on_cpu = facts.metrics.on_cpu_cores
    case = hint.case if hint is not None and not shared else _case(shared[0] if shared else None)
    remedies = (*_remedies(facts, frame, shared, hint), *facts.newer(case))
    told = _whose(shared) + f" Two threads that do only this: {facts.scaling(case)} of what one does."
    if _alias_is_useless(facts, case):
        told += " A local name, often suggested, leaves that as it is on this version."
    if not remedies:
        told += " Nothing that is usually suggested was measured to gain there on this version."
        remedies = (Remedy("have threads touch this object less often: once for many items"),)
    return found.finding(
        RULE,
        facts,
        confidence="known" if any(one.confidence is Confidence.KNOWN for one in shared) else "likely",
        frame=frame,
        summary=(
            f"{found.losing(facts)} counting references of objects that they share, most at"
            f" {place_in(frame)}{touched}."
        ),
        explanation=(
            "Native samples stood at atomic instructions, or at loads of what these change, in these lines:"
            f" {places(lines)}. Code that touches only objects of its own thread shows none. The CPU looks"
            " fully used, because a core that waits for a cache line counts as busy. Small integers, interned"
            f" strings, plain functions of a module and C functions are free of it.{told}"
        ),
        could_also_be=(
            "object-lock: the same object is changed as well",
            "heap-type-churn: objects of C types made in the loop",
        ),
        remedy=remedies,
        verify="'contended atomics' falls, 'useful' under Cores rises",
        after=(
            evidence("atomic_share_of_cpu", atomic / on_cpu if on_cpu > 0 else 0.0, "ratio"),
            evidence("lines", float(len(lines)), "lines"),
        ),
    )


_LOCK_TYPES: Final = frozenset({"lock", "RLock", "_RLock", "Condition", "Semaphore", "BoundedSemaphore"})
"""Types of the standard library that are there to be taken by several threads, without their module."""


def _counts_a_lock(line: HotLine) -> bool:
    """Whether the references that threads count at a line are a lock's, and not those of data.

    A copy for each thread, which helps data, would be no lock any more: what helps is to take it less often.
    """
    return any(one.type_name.rpartition(".")[2] in _LOCK_TYPES for one in line.shared)


RULE: Final = Rule(
    id="refcount-contention",
    title="Threads count references of the same objects",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=everywhere(ChangeKind.CONTENTION),
    claims=Claims(
        locks=(
            # A cell of a closure is locked to be read (3.13): what helps is what helps for its count.
            LockClaim(
                Priority.NAMED, kinds=(LockKind.OBJECT,), types=("cell",), when=lambda _, facts: facts.native
            ),
        ),
        lines=(LineClaim(Priority.REST, near_lock=_counts_a_lock, joins=lambda line: not line.shared),),
    ),
    advice=Advice.LINE,
    cases=(
        *("global-list", "global-instance", "attribute-value", "global-float", "argument", "closure"),
        *("decorated-function", "lambda", "bound-method", "lru-cache", "enum-value", "environ"),
        *("isinstance-abc", "classmethod", "class-attribute", "namedtuple", "struct-pack"),
        "foreign-function",
    ),
)
