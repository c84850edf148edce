"""refcount-contention: threads count references of the same objects, with an atomic instruction each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Confidence, Frame, HotLine, Remedy, SharedObject
from ftdiag.rules.base import WORTH_SAYING, Clear, Facts, Need, Rule, Verdict, evidence
from ftdiag.rules.library import Together, caller, together
from ftdiag.rules.wording import is_file, leaves, place, place_in, places, short

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
_DEFERRED: Final = Remedy(
    "on 3.14, an extension may switch counting off for one object that lives long (0.59x -> 1.99x); it is"
    " then freed by the collector only",
    "PyUnstable_Object_EnableDeferredRefcount(object);   /* C */",
)


@dataclass(frozen=True, slots=True)
class _Hint:
    """What is counted at a line of the standard library, how it scaled (3.13 / 3.14), and what to do."""

    what: str
    measured: str
    remedy: Remedy | None = None


def _hint(frame: Frame) -> _Hint | None:
    if is_file(frame, "enum.py") or is_file(frame, "types.py"):
        return _Hint(
            "an Enum's .value",
            "0.78x / 0.41x",
            Remedy("read .value once, before the loop or at import", "NEW = State.NEW.value    # at import"),
        )
    if is_file(frame, "os.py") or is_file(frame, "_collections_abc.py"):
        return _Hint(
            "os.environ",
            "1.01x / 1.06x",
            Remedy("read the variable once at start", "LEVEL = os.environ.get('LEVEL')    # at import"),
        )
    if is_file(frame, "abc.py"):
        return _Hint("isinstance() with an abstract class", "0.85x / 1.04x")
    if "<lambda>" in frame.function or "<locals>" in frame.function:
        return _Hint("a lambda, closure or nested function that threads share", "0.69x / 0.65x")
    return None


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


def _local(name: str) -> str:
    """A name for a local variable: "crc_table" for "CRC_TABLE", "discounts" for "SETTINGS.discounts"."""
    word = name.removeprefix("cell ").rpartition(".")[2].strip("_").lower()
    return word if word.isidentifier() and word != name else "mine"


def _remedies(
    facts: Facts, frame: Frame, shared: Sequence[SharedObject], hint: _Hint | None
) -> tuple[Remedy, ...]:
    at = f"# {place(frame)}\n"
    first = shared[0] if shared else None
    name = short(first.name) if first is not None else "SHARED"
    local = _local(name)
    source = name.removeprefix("cell ")
    made = Remedy(
        "make the function in each thread, with a wrapper, closure or cache of its own: 1.8-2.05x on 3.13"
        " and 3.14",
        f"{at}def work(items):\n    own = make()            # what makes {name}, called in this thread\n"
        "    for item in items:\n        own(item)",
    )
    if first is not None and first.type_name == "method":
        owner = next((one.type_name for one in shared if one.name == f"{first.name}.__self__"), "Type")
        made = Remedy(
            "give each thread an object of its own and call its method: 1.8-2.05x on 3.13 and 3.14",
            f"{at}def work(items):\n    own = {short(owner)}()      # not the one that {name} belongs to\n"
            "    for item in items:\n        own.method(item)",
        )
    copied = Remedy(
        "give each thread a copy of its own: 1.8-2.05x on 3.13 and 3.14",
        f"{at}def work(items):\n    {local} = copy.deepcopy({source})   # of this thread\n"
        f"    for item in items:\n        ...                     # use {local}",
    )
    alias = Remedy(
        "on 3.14, bind the shared object to a local name before the loop (1.81x); on a line of its own",
        f"{at}{local} = {source}      # before the loop; a local is borrowed, not counted\n"
        f"for item in items:\n    ...                         # use {local}",
    )
    if hint is not None and hint.remedy is not None:
        return (hint.remedy,)
    if first is not None and first.type_name in CALLABLES:
        return (made, _DEFERRED) if facts.version >= (3, 14) else (made,)
    if first is None and hint is not None:
        return (made, copied)
    return (alias, copied, _DEFERRED) if facts.version >= (3, 14) else (copied,)


def _lines(facts: Facts, found: Together) -> list[HotLine]:
    """The lines with contended counts; where a cell is waited for (3.13), they are charged with its lock."""
    if found.lines:
        return [charge.line for charge in found.lines]
    waiting = {frame for charge in found.locks for lock in charge.locks for frame in leaves(lock)}
    return [line for line in facts.hot if line.frame in waiting]


def _judge(facts: Facts) -> Verdict:
    found = together(facts, RULE.id)
    lines = _lines(facts, found)
    if not lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    first = lines[0]
    frame = caller(first)
    hint = _hint(first.frame)
    shared = _named(first)
    names = " and ".join(f"{short(one.name)} (a {short(one.type_name)})" for one in shared)
    touched = f": {names} is shared" if len(shared) == 1 else f": {names} are shared" if shared else ""
    if not touched and hint is not None:
        touched = f"; there, {hint.what} is touched (measured {hint.measured})"
    atomic = sum(line.atomic_cores for line in found.lines) + sum(lock.atomic_cores for lock in found.locks)
    on_cpu = facts.metrics.on_cpu_cores
    useless = ""
    if facts.version < (3, 14):
        useless = " A local alias, often suggested, does nothing on 3.13 (0.98x)."
    elif any(one.type_name == "method" for one in shared):
        useless = (
            " Binding a bound method anew in each thread does not help (0.7x): the object behind it stays"
            " shared."
        )
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
            f"Native samples stood right behind atomic instructions in these lines: {places(lines)}. Code"
            " that touches only objects of its own thread shows none. The CPU looks fully used, because a"
            " core that waits for a cache line counts as busy. Small integers, interned strings, plain"
            f" functions of a module and C functions are free of it.{useless}"
        ),
        could_also_be=(
            "object-lock: the same object is changed as well",
            "heap-type-churn: objects of C types made in the loop",
        ),
        remedy=_remedies(facts, frame, shared, hint),
        verify="'contended atomics' falls, 'useful' under Cores rises",
        after=(
            evidence("atomic_share_of_cpu", atomic / on_cpu if on_cpu > 0 else 0.0, "ratio"),
            evidence("lines", float(len(lines)), "lines"),
        ),
    )


RULE: Final = Rule(
    id="refcount-contention",
    title="Threads count references of the same objects",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
