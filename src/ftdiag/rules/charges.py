"""Who is charged with which lost core: decided once for all rules, so that one cause is one finding.

In: the bare facts. Out: the facts with `Charges`.

- A lock belongs to the rule that knows it best: a handler's lock to logging, a queue's to queues, one in
  a cycle of holders to the deadlock, the rest to hot-lock or object-lock. It is charged with its share of
  the cores that its state lost, by critical wait.
- A line's spinning and atomics belong to the lock that is waited for at that very line, or to the one near
  it if it counts the references of a lock; else to the rule that its library, its machine code or its file
  name point to; else to spinning or to reference counts.
- Stops of all threads belong to the collector as far as it asked for them, else to stop-the-world.
- What is left of the cores is the program's shape (`shape`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Final

from ftdiag.analysis.locks import OTHER_LOCKS
from ftdiag.analysis.pauses import GARBAGE_COLLECTION
from ftdiag.datatypes import replace
from ftdiag.model import (
    EXTENSIONS_LOCK,
    IMPORT_LOCK,
    STOP_EVENT,
    STOP_TURN,
    THREADS_LOCK,
    TYPES_LOCK,
    Frame,
    HotLine,
    LockKind,
    LockMetrics,
    Severity,
    SharedObject,
    Snapshot,
    ThreadState,
)
from ftdiag.rules import settings
from ftdiag.rules.base import Charges, Facts, LineCharge, LockCharge, Now, finite
from ftdiag.rules.inside import INSIDE
from ftdiag.rules.libraries import has_executor, library_rule, process_wide
from ftdiag.rules.shape import shape_of
from ftdiag.rules.wording import is_library, is_wait_for_others, leaves

SPIN_SHARE: Final = 0.25
"""From this share of spinning in what a line wasted on, a lock is behind it and not reference counts alone:
measured, shared containers spin 30-40 % of their CPU time, shared reference counts next to nothing."""
SYMBOL_SHARE: Final = 0.03
"""A function of machine code with this share of a line's samples decides whose its atomics are. Measured:
making and freeing C objects 4-25 %, setting class attributes 9-12 %, super() 8 %, imports 10 %."""
NEIGHBOUR_SHARE: Final = SYMBOL_SHARE / 3
"""Enough where another line of the function has the whole share."""
NEAR_FRAMES: Final = 3
"""Innermost frames of a spinning line among which the function that waits for a lock is looked for: the line
before or after a `with`, or a function called there. The machine code is sampled at other moments than the
Python stack, which is then the one of a few instructions before or after."""
GC_SHARE: Final = 0.3
"""Where nobody is known to have asked for them, stops belong to the collector if it ran for this share of
them or more; the rest is waking up."""
SMALL_PART: Final = 0.1
"""A smaller part of the stops than this is no finding of its own, but told with the rest."""
MOSTLY_COVERED: Final = 0.95
"""From this part of a range on, the collector's own statistics tell of all of it."""
STOP_EVENT_OFFSET: Final = 4
"""Where `stop_event` lies behind `mutex` in `struct _stoptheworld_state {PyMutex mutex; bool requested;
bool world_stopped; bool is_global; PyEvent stop_event; ...}` (Include/internal/pycore_interp.h in 3.13 and
3.14)."""

UNNAMED_LOCKS: Final = ("interpreter lock", "runtime lock")
"""Labels of those of which only the struct is known that they lie in."""
RULE_OF_RUNTIME_LOCK: Final[Mapping[str, str]] = {
    TYPES_LOCK: "class-mutation",
    IMPORT_LOCK: "import-in-hot-path",
    EXTENSIONS_LOCK: "import-in-hot-path",
    THREADS_LOCK: "short-lived-threads",
    **{label: "hot-lock" for label in INSIDE if label not in UNNAMED_LOCKS},
}
"""The rule of each lock of the interpreter that is known by name, but for those of stops."""

_LOCK_TYPES: Final = frozenset({"lock", "RLock", "_RLock", "Condition", "Semaphore", "BoundedSemaphore"})
"""Types of the standard library that are there to be taken by several threads, without their module."""
NATIVE_MUTEX: Final = "pthread mutex"
"""The type name of a mutex of a C library; the other locks of native code are malloc's."""
ITERATORS: Final = frozenset(
    {
        *(
            "itertools.count",
            "itertools.cycle",
            "itertools.islice",
            "itertools.chain",
            "itertools.accumulate",
        ),
        *("itertools.batched", "itertools.pairwise", "itertools.zip_longest", "itertools.starmap"),
        *("zip", "map", "filter", "enumerate", "reversed", "generator", "list_iterator", "tuple_iterator"),
        *("dict_keyiterator", "dict_valueiterator", "dict_itemiterator", "set_iterator", "range_iterator"),
        *("iterator", "callable_iterator", "str_iterator", "longrange_iterator", "re.SRE_Scanner"),
    }
)
"""Types of iterators, as CPython calls them: each next() changes them."""
MAIN_SYMBOLS: Final = 5
"""libc's allocator counts only where it is among so many first functions of a line: a little of it is
everywhere."""
_IMPORT: Final = re.compile(r"_?PyImport_\w+|import_\w+|_PyEval_ImportName")

_SYMBOLS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    # Whose atomics and spinning it is, by the function of machine code; found in native-symbols of programs
    # of each kind on 3.13 and 3.14.
    (
        "heap-type-churn",
        re.compile(
            r"_?PyObject_GC_New(?:Var)?|_PyType_AllocNoTrack|newarrayobject|pattern_new_match"
            r"|(?:array|deque|bytesio|stringio|partial|lock|rlock|match|itemgetter|count|simplequeue)_dealloc"
        ),
    ),
    (
        "class-mutation",
        re.compile(
            r"type_setattro|type_update_dict|PyType_Modified|type_modified\w*|_?PySuper_Lookup"
            r"|super_(?:getattro|init\w*|descr_get)|supercheck"
        ),
    ),
    ("import-in-hot-path", _IMPORT),
    (
        "allocator-contention",
        re.compile(
            r"_int_(?:malloc|free\w*|realloc|memalign)|malloc_consolidate|unlink_chunk|sysmalloc\w*|arena_get\w*"
            r"|(?:__libc_|__)?(?:malloc|free|calloc|realloc)|tcache_\w+|__lll_lock_wait\w*"
        ),
    ),
)


def facts_of(
    snapshot: Snapshot,
    *,
    now: Now | None = None,
    standing: Mapping[str, Severity] | None = None,
) -> Facts:
    """The facts of a snapshot, with everything charged."""
    facts = Facts(
        target=snapshot.target,
        metrics=snapshot.metrics,
        threads=snapshot.threads,
        hot=snapshot.hot,
        locks=snapshot.locks,
        quality=snapshot.quality,
        pauses=snapshot.pauses,
        collector=snapshot.collector,
        native_settings=snapshot.settings.native,
        imported=snapshot.imported,
        allocations=snapshot.allocations,
        now=now,
        standing=standing or {},
        memory=snapshot.memory,
    )
    return replace(facts, charges=charges_of(facts))


def charges_of(facts: Facts) -> Charges:
    """Everything charged: locks, then lines, then stops, then the shape with what is left."""
    locks, rule_of_line = _locks(facts)
    locks, lines = _lines(facts, locks, rule_of_line)
    charges = Charges(
        locks=tuple(sorted(locks, key=lambda each: (-each.lost_cores, each.locks[0].number))),
        lines=tuple(sorted(lines, key=lambda each: -each.lost_cores)),
        stop_shares=_stop_shares(facts),
    )
    return replace(charges, shape=shape_of(facts, charges))


# --- locks -----------------------------------------------------------------------------------------------


def lock_rule(lock: LockMetrics, facts: Facts) -> str:
    """The rule that a lock belongs to."""
    reference = lock.lock
    if reference.kind is LockKind.GIL:
        return "gil-enabled" if facts.target.free_threaded else "gil-bound"
    if facts.now is not None:
        if any(edge.lock_number == lock.number for cycle in facts.now.deadlocks for edge in cycle):
            return "deadlock"
        if _all_waiters_stuck(lock, facts.now):
            return "stuck-thread"
    library = _library_of(lock)
    if library is not None and (library != "executor-tiny-tasks" or has_executor(facts)):
        return library
    if reference.kind is not LockKind.OBJECT and _is_process_wide(lock):
        return "hot-lock"
    if reference.kind is LockKind.NATIVE:
        return "native-lock" if reference.type_name == NATIVE_MUTEX else "allocator-contention"
    if reference.kind is LockKind.OBJECT:
        return _object_rule(lock, facts)
    if reference.kind is LockKind.RUNTIME:
        if reference.label in (STOP_TURN, STOP_EVENT):
            return _main_stop_rule(facts) or "stop-the-world"
        named = RULE_OF_RUNTIME_LOCK.get(reference.label or "")
        if named is not None:
            return named
        if reference.label == "runtime lock" and settings.tracing_settings(facts):
            return "tracing-on"
        if reference.type_name == "_queue.SimpleQueue":
            return "queue-contention"
        return _stops_behind(lock, facts) or ("class-mutation" if _may_be_types(lock, facts) else "hot-lock")
    return "hot-lock"


def _object_rule(lock: LockMetrics, facts: Facts) -> str:
    """The rule that the own lock of an object belongs to.

    The dict that an import statement looks a module up in is the interpreter's, and a cell of a closure is
    locked to be read (3.13): what helps is what helps for its reference count.
    """
    if lock.lock.type_name == "type":
        return "class-mutation"
    if lock.lock.type_name in ITERATORS:
        return "shared-iterator"
    if lock.lock.type_name == "cell" and facts.native:
        return "refcount-contention"
    if lock.lock.type_name == "dict" and lock.lock.label is None:
        places = set(leaves(lock))
        lines = [line for line in facts.hot if line.frame in places]
        if lines and all(symbol_share(line, _IMPORT) >= SYMBOL_SHARE for line in lines):
            return "import-in-hot-path"
        if _is_beside_types(lock, facts):
            return "class-mutation"
    return "object-lock"


def _is_beside_types(lock: LockMetrics, facts: Facts) -> bool:
    """Whether the lock of all types is waited for at the same lines: who sets an attribute of a class takes
    that and the lock of the class's dict (3.15)."""
    places = set(leaves(lock))
    return any(
        other.lock.kind is LockKind.RUNTIME
        and other.lock.type_name is None
        and places & set(leaves(other))
        and lock_rule(other, facts) == "class-mutation"
        for other in facts.locks
        if other.number != OTHER_LOCKS
    )


def _may_be_types(lock: LockMetrics, facts: Facts) -> bool:
    """Whether a lock of the interpreter without a name may be that of all types.

    Where machine code was sampled at the lines that wait for it, and its functions have names, some of it is
    of changes to classes.
    """
    places = set(leaves(lock))
    sampled = [
        line
        for line in facts.hot
        if line.frame in places
        and line.native
        and not any(symbol.startswith(("[python", "[libpython")) for symbol, _ in line.native)
    ]
    pattern = dict(_SYMBOLS)["class-mutation"]
    return not sampled or any(symbol_share(line, pattern) > 0 for line in sampled)


def _stops_behind(lock: LockMetrics, facts: Facts) -> str | None:
    """The rule of the stops if threads wait for their turn to stop all others, or for these to stand still.

    The two waits are for neighbouring bytes of one structure: that is proof. Without it: who wants to stop
    the world waits parked until the one before has finished; the lock of all types is held for a moment and
    mostly spun for.
    """
    stops = _main_stop_rule(facts)
    if is_stop_request(lock, facts):
        return stops or "stop-the-world"
    lost = facts.metrics.lost_cores
    if lost.get(ThreadState.SPIN, 0.0) >= lost.get(ThreadState.RUNTIME_LOCK, 0.0):
        return None
    return stops


def is_stop_request(lock: LockMetrics, facts: Facts) -> bool:
    """Whether a lock of the interpreter is one of the two that requests of stops wait for."""
    if lock.lock.label in (STOP_TURN, STOP_EVENT):
        return True
    address = lock.lock.address
    near = {address - STOP_EVENT_OFFSET, address + STOP_EVENT_OFFSET}
    return any(other.lock.kind is LockKind.RUNTIME and other.lock.address in near for other in facts.locks)


def _library_of(lock: LockMetrics) -> str | None:
    """The library that most of the wait is in."""
    waits: dict[str | None, float] = {}
    for waiter in lock.waiters:
        rule = library_rule(waiter.stack)
        waits[rule] = waits.get(rule, 0.0) + waiter.wait_ns
    if not waits:
        return None
    return max(sorted(waits, key=str), key=lambda rule: waits[rule])


def _is_process_wide(lock: LockMetrics) -> bool:
    """Whether most of the wait is in a file of the standard library that has one lock for the process."""
    inside = sum(finite(waiter.wait_ns) for waiter in lock.waiters if process_wide(waiter.stack) is not None)
    return inside > 0.5 * sum(finite(waiter.wait_ns) for waiter in lock.waiters)


def _all_waiters_stuck(lock: LockMetrics, now: Now) -> bool:
    waiting = {edge.waiter.index for edge in now.edges if edge.lock_number == lock.number}
    stuck = {each.thread.index for each in now.stuck}
    listed = {waiter.thread.index for waiter in lock.waiters}
    return bool(waiting) and waiting <= stuck and listed <= waiting


def _state_of(lock: LockMetrics, rule: str) -> ThreadState:
    kind = lock.lock.kind
    if kind is LockKind.GIL:
        return ThreadState.GIL
    if kind is LockKind.OBJECT:
        return ThreadState.OBJECT_LOCK
    if kind is LockKind.NATIVE and rule == "native-lock":
        return ThreadState.NATIVE_LOCK
    if kind is LockKind.USER and rule != "import-in-hot-path":
        return ThreadState.LOCK
    return ThreadState.RUNTIME_LOCK


Function = tuple[str, str]
"""File and name."""


def _functions_that_wait(locks: list[LockCharge]) -> tuple[dict[Function, int], dict[Function, int]]:
    """The charges of functions in which a lock is waited for, and of their callers; longest waits first."""
    waits = sorted(
        (
            (finite(waiter.wait_ns), number, waiter.stack)
            for number, charge in enumerate(locks)
            for lock in charge.locks
            for waiter in lock.waiters
        ),
        key=lambda wait: wait[:2],
        reverse=True,
    )
    waiting: dict[Function, int] = {}
    callers: dict[Function, int] = {}
    for _, number, stack in waits:
        # Condition.__enter__ is nobody's; the function of the program that called it waits.
        own = next((depth for depth, frame in enumerate(stack) if not is_library(frame)), 0)
        for frame in stack[own : own + 1]:
            waiting.setdefault((frame.filename, frame.function), number)
        for frame in stack[own + 1 : own + 2]:
            callers.setdefault((frame.filename, frame.function), number)
    return waiting, callers


def _near(line: HotLine, waiting: Mapping[Function, int], callers: Mapping[Function, int]) -> int | None:
    """The charge of the lock that a spinning line is near to."""
    stack = line.stacks[0][0] if line.stacks else (line.frame,)
    for frame in stack[:NEAR_FRAMES]:
        number = waiting.get((frame.filename, frame.function))
        if number is not None:
            return number
    return callers.get((line.frame.filename, line.frame.function))


def _locks(facts: Facts) -> tuple[list[LockCharge], dict[Frame, tuple[str, int]]]:
    """Charges of locks, and for every line at which one is waited for: its rule and charge."""
    ruled = [(lock, lock_rule(lock, facts)) for lock in facts.locks if lock.number != OTHER_LOCKS]
    waited: dict[ThreadState, float] = {}
    critical: dict[ThreadState, float] = {}
    for lock in facts.locks:
        state = next((_state_of(one, rule) for one, rule in ruled if one is lock), ThreadState.LOCK)
        waited[state] = waited.get(state, 0.0) + finite(lock.wait_ns)
        critical[state] = critical.get(state, 0.0) + finite(lock.critical_wait_ns)
    groups: dict[tuple[str, ThreadState, str | None, str | None, Frame | None], list[LockMetrics]] = {}
    for lock, rule in ruled:
        where = leaves(lock)[0] if leaves(lock) else None
        name = lock.lock.label
        key = (rule, _state_of(lock, rule), lock.lock.type_name, name, where)
        groups.setdefault(key, []).append(lock)
    charges: list[LockCharge] = []
    at_line: dict[Frame, tuple[str, int]] = {}
    longest: dict[Frame, float] = {}
    for (rule, state, _, _, _), locks in groups.items():
        locks.sort(key=lambda lock: (-lock.wait_ns, lock.number))
        unnamed = max(0.0, facts.metrics.states_ns.get(state, 0.0) - waited.get(state, 0.0))
        whole = critical.get(state, 0.0) + unnamed
        part = sum(finite(lock.critical_wait_ns) for lock in locks) / whole if whole > 0 else 0.0
        for lock in locks:
            for waiter in lock.waiters:
                if waiter.stack and waiter.wait_ns > longest.get(waiter.stack[0], 0.0):
                    longest[waiter.stack[0]] = waiter.wait_ns
                    at_line[waiter.stack[0]] = (rule, len(charges))
        parked = min(1.0, part) * finite(facts.metrics.lost_cores.get(state, 0.0))
        charges.append(LockCharge(rule, tuple(locks), state, parked, 0.0, 0.0))
    return charges, at_line


# --- lines -----------------------------------------------------------------------------------------------


def _lines(
    facts: Facts, locks: list[LockCharge], at_line: Mapping[Frame, tuple[str, int]]
) -> tuple[list[LockCharge], list[LineCharge]]:
    duration = facts.metrics.duration_ns
    if duration <= 0 or not facts.native:
        return locks, []
    lines: list[LineCharge] = []
    waiting, callers = _functions_that_wait(locks)
    on_core = facts.spinning_on_core
    for line in facts.hot:
        spin = on_core * finite(line.states_ns.get(ThreadState.SPIN, 0.0)) / duration
        atomic = finite(line.states_ns.get(ThreadState.ATOMIC, 0.0)) / duration
        if spin + atomic <= 0:
            continue
        rule, number = at_line.get(line.frame, (None, None))
        if number is None:
            rule = _line_rule(facts, line, spin, atomic)
            if rule == "spin-contention" or (rule == "refcount-contention" and _counts_a_lock(line)):
                number = _near(line, waiting, callers)
        if number is not None:
            charge = locks[number]
            locks[number] = replace(
                charge,
                spin_cores=charge.spin_cores + spin,
                atomic_cores=charge.atomic_cores + atomic,
                threads=max(charge.threads, line.threads),
            )
        elif rule == "spin-contention" and is_wait_for_others(line.frame):
            continue  # who waits for an event yields a few times, too, before it parks
        elif rule is not None:
            lines.append(LineCharge(rule, line, spin, atomic))
    return locks, _with_neighbours(lines)


def _with_neighbours(lines: list[LineCharge]) -> list[LineCharge]:
    """Lines whose few telling samples are like those of a line of the same function go with it.

    What is sampled in machine code falls on the lines before and after, too; where the cause is spread over a
    function, a line of it may have a little less than it takes to be told alone.
    """
    told = {
        (charge.line.frame.filename, charge.line.frame.function): charge.rule_id
        for charge in reversed(lines)
        if charge.rule_id in dict(_SYMBOLS)
    }
    gone_along = []
    for charge in lines:
        rule = told.get((charge.line.frame.filename, charge.line.frame.function))
        alike = (
            rule is not None
            and charge.rule_id == "refcount-contention"
            and not charge.line.shared
            and symbol_share(charge.line, dict(_SYMBOLS)[rule]) >= NEIGHBOUR_SHARE
        )
        gone_along.append(replace(charge, rule_id=rule) if alike and rule is not None else charge)
    return gone_along


def _counts_a_lock(line: HotLine) -> bool:
    """Whether the references that threads count at a line are a lock's, and not those of data.

    A copy for each thread, which helps data, would be no lock any more: what helps is to take it less often.
    """
    return any(one.type_name.rpartition(".")[2] in _LOCK_TYPES for one in line.shared)


def _line_rule(facts: Facts, line: HotLine, spin: float, atomic: float) -> str:
    library = library_rule(line.stacks[0][0]) if line.stacks else None
    if library == "executor-tiny-tasks" and not has_executor(facts):
        library = None  # an event loop's own code
    if library is not None:
        return library
    if any(one.type_name in ITERATORS for one in line.shared):
        return "shared-iterator"
    for rule, pattern in _SYMBOLS:
        most = MAIN_SYMBOLS if rule == "allocator-contention" else None
        if symbol_share(line, pattern, most) >= SYMBOL_SHARE:
            return rule
    if spin >= SPIN_SHARE * (spin + atomic):
        return "spin-contention"
    if constants_contend(facts) and (
        settings.bytecode_settings(facts) or settings.is_compiled_at_run_time(line.frame)
    ):
        return "no-bytecode-cache"
    return "extension-singleton" if from_extension(line) is not None else "refcount-contention"


def constants_contend(facts: Facts) -> bool:
    """Whether threads contend for constants of code without a bytecode file on the target's version."""
    return not facts.scales("bytecode-cache", "compiled-at-run-time")


def from_extension(line: HotLine) -> SharedObject | None:
    """An object of an extension's type that threads count at a line which does not name it; None without.

    Types that are written in C have their module in their name, those of Python's classes have not.
    """
    if any(one.name != one.type_name for one in line.shared):
        return None
    for one in line.shared:
        module, dot, _ = one.type_name.partition(".")
        if dot and module not in sys.stdlib_module_names:
            return one
    return None


def symbol_share(line: HotLine, pattern: re.Pattern[str], most: int | None = None) -> float:
    """Share of a line's native samples in functions of that name (compilers add suffixes: .part.0).

    With `most`, only its first so many functions count.
    """
    return sum(part for symbol, part in line.native[:most] if pattern.fullmatch(symbol.partition(".")[0]))


# --- stops -----------------------------------------------------------------------------------------------


def _stop_shares(facts: Facts) -> dict[str, float]:
    """The rules that stops of all threads belong to, and to what part; empty without any.

    Who asked, or what for, is known of most pauses. One whose reason is not known is taken to be like the
    others of the same thread; but not for the collector, where the times of all collections are known.
    """
    stopped = facts.metrics.states_ns.get(ThreadState.STOPPED, 0.0)
    if stopped <= 0:
        return {}
    others = max(1, facts.metrics.threads_with_work - 1)
    own = facts.collector
    collecting = own.total_ns if own is not None else facts.metrics.states_ns.get(ThreadState.GC, 0.0)
    collector = 1.0 if collecting >= GC_SHARE * stopped / others else 0.0
    asked: dict[int | None, list[float]] = {}
    for pauses in facts.pauses:
        if pauses.requester is not None or pauses.reason is not None:
            kind = 2 if pauses.reason is None else int(pauses.reason == GARBAGE_COLLECTION)
            asker = None if pauses.requester is None else pauses.requester.index
            asked.setdefault(asker, [0.0, 0.0, 0.0])[kind] += finite(pauses.total_ns)
    whole = sum(sum(times) for times in asked.values())
    if whole > 0 and own is not None and own.timed == own.count and own.covered_ratio >= MOSTLY_COVERED:
        collector = sum(gc for _, gc, _ in asked.values()) / whole
    elif whole > 0:
        part = 0.0
        for other, gc, unknown in asked.values():
            part += gc + unknown * (gc / (gc + other) if gc + other > 0 else collector)
        collector = part / whole
    if collector < SMALL_PART or collector > 1.0 - SMALL_PART:
        collector = float(collector > 0.5)
    shares = {"gc-pressure": collector, "stop-the-world": 1.0 - collector}
    return {rule: share for rule, share in shares.items() if share > 0}


def _main_stop_rule(facts: Facts) -> str | None:
    shares = _stop_shares(facts)
    return max(shares, key=shares.__getitem__) if shares else None
