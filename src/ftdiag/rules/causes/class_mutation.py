"""class-mutation: classes are changed, or looked up the slow way, under a lock of the interpreter."""

from __future__ import annotations

import re
from typing import Final

from ftdiag.analysis.locks import OTHER_LOCKS
from ftdiag.model import (
    TYPES_LOCK,
    UNNAMED_INTERPRETER,
    Change,
    ChangeKind,
    Finding,
    Frame,
    LockKind,
    LockMetrics,
    Remedy,
    Snapshot,
)
from ftdiag.rules.attribution.frames import is_file, leaves
from ftdiag.rules.attribution.machine_code import pattern_of, symbol_share
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
    NotApplicable,
    Priority,
    Rule,
)
from ftdiag.rules.prose.library import Together, together
from ftdiag.wording.locks import lock_in_sentence
from ftdiag.wording.places import place

SETS: Final = ("type_setattro", "type_update_dict", "PyType_Modified", "type_modified*")
"""Functions of machine code that change classes."""
CHANGES: Final = (
    *(*SETS, "PySuper_Lookup"),
    *("_PySuper_Lookup", "super_getattro", "super_init*", "super_descr_get", "supercheck"),
)
"""Functions of machine code that change classes, or look them up under the lock of all types."""
_MAKES: Final = re.compile(r"builtin___build_class__|type_new\w*|type_ready\w*|PyType_Ready|type_dealloc")
"""Functions of machine code that make and end classes."""
MAKES_SHARE: Final = 0.02
_NAMELESS: Final = ("[python", "[libpython")
"""Files of an interpreter whose functions were not even told apart."""


def _makes_classes(found: Together) -> bool:
    """Whether classes are made where the loss is: by the machine code, or by frames of abc.py above it."""
    lines = [charge.line for charge in found.lines]
    stacks = [stack for line in lines for stack, _ in line.stacks]
    stacks += [waiter.stack for charge in found.locks for lock in charge.locks for waiter in lock.waiters]
    if any(
        is_file(frame, "abc.py") and frame.function.endswith("__new__") for s in stacks for frame in s[:4]
    ):
        return True
    return any(symbol_share(line, _MAKES) >= MAKES_SHARE for line in lines)


def _made_once(facts: Facts, at: str) -> tuple[Remedy, ...]:
    return (
        *facts.remedy(
            *("made-class", "once"),
            "make the class once, and give its objects what differs",
            f"# {at}\nclass Handler(Base):          # at module level\n    def __init__(self, value): ...\n"
            "handler = Handler(value)         # for each request: an object, not a class",
            instead=True,
        ),
    )


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    if not facts.loses(found.lost_cores, RULE.id):
        if not found.locks and not facts.native:
            return NotApplicable(
                "no lock of the interpreter was waited for, and spinning needs native samples"
            )
        return Clear()
    named = found.locks[0].locks[0] if found.locks else None
    certain = named is not None and (named.lock.type_name == "type" or named.lock.label == TYPES_LOCK)
    makes = _makes_classes(found)
    what = lock_in_sentence(named.lock) if named is not None else TYPES_LOCK
    interpreter = named is not None and named.lock.kind is LockKind.RUNTIME and not certain
    at = place(found.frame)
    return found.finding(
        RULE,
        facts,
        confidence="likely" if certain or found.lines else "possible",
        summary=(
            f"{found.losing(facts)} waiting for"
            f" {'a lock of the interpreter' if interpreter else what}{found.at}: a class is"
            f" {'made' if makes else 'changed or searched'} there."
        ),
        explanation=(
            "Setting an attribute of a class, getattr() with a name made at run time, and super() on a"
            " class that threads share take one lock for all types, even for different classes. Two threads"
            f" that do nothing else: setting a class attribute {facts.scaling('class-setattr')},"
            f" getattr(dynamic) {facts.scaling('getattr-dynamic')}, super() {facts.scaling('super')}."
        ),
        could_also_be=(
            "another lock inside the interpreter: which one cannot be told from outside",
            "import-in-hot-path: imports inside functions",
        )
        if interpreter
        else (),
        remedy=_made_once(facts, at)
        if makes
        else (
            *facts.remedy(
                *("class-setattr", "instance-per-thread"),
                "keep state that changes in an object of the thread, not in the class",
                f"# {at}\nself.count += 1    # or a per-thread object; not Type.count += 1",
                instead=True,
            ),
            *facts.remedy(
                *("getattr-dynamic", "literal"),
                "write attribute names as literals, or intern them",
                "value = item.price       # not getattr(item, prefix + name)\n"
                "name = sys.intern(name)  # where it must be dynamic",
            ),
        ),
        verify="'runtime lock' and 'spinning' fall",
    )


def _is_beside_types(lock: LockMetrics, facts: Facts) -> bool:
    """Whether the lock of all types is waited for at the same lines: who sets an attribute of a class takes
    that and the lock of the class's dict (3.15)."""
    places = set(leaves(lock))
    if not _may_be(SETS, places, facts, (*_NAMELESS, UNNAMED_INTERPRETER)):
        return False  # another dict: at a line that does many things both are waited for
    return any(
        other.lock.kind is LockKind.RUNTIME
        and other.lock.type_name is None
        and places & set(leaves(other))
        and facts.attribution.lock(other, facts) == RULE.id
        for other in facts.locks
        if other.number != OTHER_LOCKS
    )


def _may_be_types(lock: LockMetrics, facts: Facts) -> bool:
    """Whether a lock of the interpreter without a name may be that of all types."""
    return _may_be(CHANGES, set(leaves(lock)), facts)


def _may_be(
    functions: tuple[str, ...], places: set[Frame], facts: Facts, nameless: tuple[str, ...] = _NAMELESS
) -> bool:
    """Whether lines may be in functions of machine code.

    Where machine code was sampled at these lines, and all of it has names, some of it is of these.
    """
    sampled = [
        line
        for line in facts.hot
        if line.frame in places
        and line.native
        and not any(symbol.startswith(nameless) for symbol, _ in line.native)
    ]
    return not sampled or any(symbol_share(line, pattern_of(functions)) > 0 for line in sampled)


def _without(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    waited = any(lock.lock.label == TYPES_LOCK for lock in snapshot.locks)
    locks = (Change(ChangeKind.LOCK, TYPES_LOCK),) if waited else ()
    return (*locks, Change(ChangeKind.CONTENTION))


RULE: Final = Rule(
    id="class-mutation",
    title="Classes change while threads run",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=_without,
    claims=Claims(
        locks=(
            LockClaim(Priority.NAMED, kinds=(LockKind.OBJECT,), types=("type",)),
            LockClaim(Priority.NAMED, kinds=(LockKind.RUNTIME,), labels=(TYPES_LOCK,)),
            LockClaim(
                Priority.SIGNS + 1,
                kinds=(LockKind.OBJECT,),
                types=("dict",),
                labels=(None,),
                when=_is_beside_types,
            ),
            LockClaim(Priority.SIGNS + 2, kinds=(LockKind.RUNTIME,), when=_may_be_types),
        ),
        lines=(LineClaim(Priority.NAMED + 1, symbols=CHANGES),),
    ),
    advice=Advice.LINE,
    cases=("class-setattr", "getattr-dynamic", "super", "made-class", "runner"),
)
