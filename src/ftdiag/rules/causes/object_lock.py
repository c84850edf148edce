"""object-lock: threads change one list, dict, set or other object, whose own lock is waited for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ftdiag.model import ChangeKind, LockKind, LockMetrics, Remedy
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.frames import leaves
from ftdiag.rules.attribution.locks import holding, where
from ftdiag.rules.base import (
    NOTHING_GAINS,
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Found,
    LockCharge,
    LockClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    Verdict,
)
from ftdiag.rules.prose.library import sees_nothing
from ftdiag.rules.prose.locks import Told, blame_of, cost_of, lock_findings, parked_words, waiting
from ftdiag.wording.locks import lock_expression
from ftdiag.wording.objects import locked_words
from ftdiag.wording.places import an, place, short
from ftdiag.wording.threads import verb
from ftdiag.wording.units import of_cores

MEASURED: Final = {
    "list": ("list-append", "list.append"),
    "dict": ("dict-setitem", "d[k] = v"),
    "set": ("set-add", "set.add"),
    "deque": ("deque-append", "append and popleft"),
    "Counter": ("counter-increment", "counter[key] += 1"),
    "Random": ("random", "random()"),
    "TextIOWrapper": ("text-file", "write"),
    "BufferedWriter": ("binary-file", "write"),
    "bytearray": ("bytearray-append", "bytearray.append"),
    "_lru_cache_wrapper": ("lru-cache", "calling the cached function"),
    "_FuncPtr": ("foreign-function", "calling one function of ctypes"),
    "_abc_data": ("isinstance-abc", "isinstance() with an abstract class"),
}
"""By type of the object: the measured case, and what its threads do."""
ANY: Final = MEASURED["list"]
READ_BY_C: Final = frozenset({"list", "dict", "set"})
"""Types that libraries in C are given to read."""
READER_SHARE: Final = 0.1
"""Share of a line's native samples inside of a C library from which on it is that which takes the lock."""
_C_LIBRARY: Final = re.compile(r"\[_?(?P<name>[\w-]+)\.[^\]]*\.so\]")
"""A sample in a library without function names: "[_pydantic_core.cpython-314t-x86_64-linux-gnu.so]"."""
FILES: Final = ("TextIOWrapper", "BufferedWriter", "BufferedReader", "BufferedRandom")
OWN: Final[Mapping[str, tuple[str, str]]] = {
    "list": ("[]", "{shared}.extend(mine)"),
    "dict": ("{}", "for key, value in mine.items(): ...   # add to {shared}[key]"),
    "set": ("set()", "{shared} |= mine"),
    "deque": ("deque()", "{shared}.extend(mine)"),
    "Counter": ("Counter()", "{shared}.update(mine)"),
    "bytearray": ("bytearray()", "{shared} += mine"),
}
"""How a thread makes one of its own, and how it is merged, by type."""


def _kind(lock: LockMetrics) -> str:
    """The name of the object's type without its module: "deque" for "collections.deque"."""
    return (lock.lock.type_name or "object").rpartition(".")[2]


def _remedies(facts: Facts, charge: LockCharge) -> tuple[Remedy, ...]:
    kind = _kind(charge.locks[0])
    at = place(where(charge))
    if kind == "Random":
        return (
            *facts.remedy(
                *("random", "own"),
                "a Random() for each thread",
                f"# {at}\ndef work():\n    rng = random.Random()    # of this thread\n"
                "    ... rng.random() ...     # not random.random()",
            ),
        )
    if kind in FILES:
        return (
            *facts.remedy(
                *(MEASURED.get(kind, MEASURED["TextIOWrapper"])[0], "own"),
                "a file for each thread, or collect lines per thread and write them at once",
                f"# {at}\nlines.append(line)              # a list of this thread\nif len(lines) > 1000:\n"
                "    file.write(''.join(lines)); lines.clear()",
            ),
        )
    if kind == "_lru_cache_wrapper":
        return _cache_remedies(facts, charge, at)
    if kind == "_FuncPtr":
        return facts.remedy(
            *("foreign-function", "own"),
            "give each thread a function object of its own: indexing the library makes a new one",
            f"# {at}\ndef work(items):\n    own = library['{_function(charge)}']   # with its argtypes\n"
            "    for item in items:\n        own(item)",
        ) or (NOTHING_GAINS,)
    if kind == "_abc_data":
        return (
            *facts.remedy(
                *("isinstance-abc", "concrete"),
                "ask for a concrete class: what an abstract one remembers of its subclasses is locked",
                f"# {at}\nisinstance(value, dict)     # not collections.abc.Mapping",
            ),
            *facts.newer("isinstance-abc"),
        )
    shared = lock_expression(charge.locks[0]) if charge.locks[0].lock.label else "shared"
    if kind not in OWN:
        # How such an object is made and merged is not known: nothing is sketched.
        return facts.remedy(
            "list-append", "own", f"one {short(kind)} for each thread, where it can be made so"
        )
    make, merge = OWN[kind]
    merged = merge.replace("{shared}", shared)
    remedies = [
        *facts.remedy(
            *(MEASURED.get(kind, ANY)[0], "own"),
            f"one {short(kind)} for each thread, merged under one lock at the end",
            f"# {at}\nmine = {make}                 # of this thread\nfor item in items:\n    ..."
            f"                   # change mine, not {shared}\nwith merge_lock:\n    {merged}",
        )
    ]
    if kind == "dict":
        remedies += facts.remedy(
            *("dict-get-dynamic-key", "interned"),
            "where d.get(key) is given keys that are made at run time, intern them",
            "key = sys.intern(key)\nvalue = d.get(key)",
        )
    return tuple(remedies)


def _function(charge: LockCharge) -> str:
    """The name of a foreign function, as far as the program's own name of it says."""
    return lock_expression(charge.locks[0]).rpartition(".")[2] if charge.locks[0].lock.label else "name"


def _cache_remedies(facts: Facts, charge: LockCharge, at: str) -> tuple[Remedy, ...]:
    name = lock_expression(charge.locks[0]) if charge.locks[0].lock.label else "cached"
    return (
        *facts.remedy(
            *("lru-cache", "own"),
            "give each thread a cache of its own, around the function without one",
            f"# {at}\ndef work(items):\n    own = functools.lru_cache(maxsize=512)({name}.__wrapped__)\n"
            "    for item in items:\n        own(item)",
        ),
        *facts.newer("lru-cache"),
    )


def _tell_cache(facts: Facts, charge: LockCharge) -> Told:
    name = charge.locks[0].lock.label
    called = f"the cache of {short(name)}()" if name else "a functools.lru_cache"
    line = where(charge)
    threads = waiting(charge)
    computed = (
        " On 3.13 the function itself runs under that lock: what is not in the cache is computed by one"
        " thread at a time."
        if facts.version == (3, 13)
        else ""
    )
    return Told(
        summary=(
            f"{called[0].upper()}{called[1:]} ({place(line)}) costs"
            f" {of_cores(charge.lost_cores, facts.capacity)}: {threads} {verb(threads, 'waits', 'wait')} for"
            f" it and share it; {blame_of(charge)}."
        ),
        explanation=(
            "functools.lru_cache keeps its entries in an order, which every call changes under the lock of"
            f" the cache.{computed} Two threads that only call a cached function:"
            f" {facts.scaling('lru-cache')}, with one for each thread {facts.scaling('lru-cache', 'own')}."
        ),
        remedy=_cache_remedies(facts, charge, place(line)),
        could_also_be=(),
    )


def _reader(facts: Facts, charge: LockCharge) -> str | None:
    """The C library that works at the line that waits: it may be what locks the object, to read it."""
    places = {frame for lock in charge.locks for frame in leaves(lock)}
    shares: dict[str, float] = {}
    for line in facts.hot:
        if line.frame in places:
            for symbol, part in line.native:
                found = _C_LIBRARY.fullmatch(symbol)
                if found is not None:
                    shares[found["name"]] = max(shares.get(found["name"], 0.0), part)
    name = max(shares, key=lambda each: shares[each], default=None)
    return name if name is not None and shares[name] >= READER_SHARE else None


def _tell_read(facts: Facts, charge: LockCharge, kind: str, reader: str) -> Told:
    return Told(
        summary=(
            f"{cost_of(facts, charge)}, {an(kind)} that threads give to {short(reader)} at the same time."
        ),
        explanation=(
            f"Without the GIL every {kind} has a lock of its own, which C code takes also to read one, so"
            f" that it does not change meanwhile. {parked_words(charge)}. The line is in {short(reader)}, and"
            " whether it only reads cannot be seen."
        ),
        remedy=(
            Remedy(
                f"where it is only read, give each thread a copy of its own, made once"
                f"{', or a tuple, which has no lock' if kind == 'list' else ''}"
            ),
        ),
        could_also_be=(f"{an(kind)} that threads change, too",),
    )


def _tell(facts: Facts, charge: LockCharge) -> Told:
    lock = charge.locks[0]
    if _kind(lock) == "_lru_cache_wrapper":
        return _tell_cache(facts, charge)
    kind = short(_kind(lock))
    reader = _reader(facts, charge) if kind in READ_BY_C else None
    if reader is not None:
        return _tell_read(facts, charge, kind, reader)
    case, done = MEASURED.get(kind, ANY)
    measured = f"{done} {facts.scaling(case)}, with one for each thread {facts.scaling(case, 'own')}"
    held = blame_of(charge) if holding(charge) is not None else "each holds it for a moment only"
    shared = f", {an(kind)} that they share" if lock.lock.label else ", which they share"
    return Told(
        summary=f"{cost_of(facts, charge)}{shared}; {held}.",
        explanation=(
            f"Without the GIL every object has a lock of its own, which each change of {an(kind)} takes,"
            f" whatever locks the program has. {parked_words(charge)}. Two threads that do nothing else:"
            f" {measured}.{_object_of(lock)}"
        ),
        remedy=_remedies(facts, charge),
        could_also_be=("refcount-contention: reading the shared object costs too, without any lock",),
    )


def _object_of(lock: LockMetrics) -> str:
    """Where the object is, who made it and how it is counted; "" where that was not looked at."""
    return "" if lock.of_object is None else f" It is {locked_words(lock.of_object, short)}."


def _judge(facts: Facts) -> Verdict:
    findings = lock_findings(RULE, facts, _tell)
    if findings:
        return Found(findings)
    reason = sees_nothing(facts)
    return Clear() if reason is None else NotApplicable(reason)


RULE: Final = Rule(
    id="object-lock",
    title="Threads change one object at the same time",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=everywhere(ChangeKind.CONTENTION),
    claims=Claims(locks=(LockClaim(Priority.KIND, kinds=(LockKind.OBJECT,)),)),
    advice=Advice.LINE | Advice.LOCK | Advice.OBJECT,
    cases=(
        *("list-append", "dict-setitem", "dict-histogram", "set-add", "set-contains", "deque-append"),
        *("counter-increment", "bytearray-append", "random", "text-file", "binary-file"),
        "dict-get-dynamic-key",
    ),
)
