"""Who is charged with which lost core: decided once for all rules, so that one cause is one finding.

In: the bare facts, the claims of all rules. Out: `Charges`. Whose something is, rules declare themselves:

- A lock belongs to the rule that knows it best: a handler's lock to logging, a queue's to queues, one in
  a cycle of holders to the deadlock, the rest to the locks of programs or of objects. It is charged with its
  share of the cores that its state lost, by critical wait.
- A line's spinning and atomics belong to the program's lock that is waited for there; to the lock of an
  object or of the interpreter that registers say is spun for, or that is waited for there; or to the one
  near it if it counts the references of a lock; else to the rule that its library, its machine code or its
  file name point to; else to spinning or to reference counts.
- Locks and lines inside of what the standard library keeps for the whole process are one charge.
- Stops of all threads belong to the collector as far as it asked for them, else to those who did.
- What is left of the cores is the program's shape (`shape`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.analysis.locks import OTHER_LOCKS
from ftdiag.datatypes import replace
from ftdiag.model import (
    INTERPRETER_LOCKS,
    Frame,
    HotLine,
    LockKind,
    LockMetrics,
    LockRef,
    LockWaiter,
    ThreadState,
)
from ftdiag.rules.attribution.claims import ClaimTable
from ftdiag.rules.attribution.frames import is_library, leaves
from ftdiag.rules.attribution.libraries import process_wide, process_wide_lock
from ftdiag.rules.attribution.locks import NATIVE_MUTEX
from ftdiag.rules.attribution.machine_code import NEIGHBOUR_SHARE, pattern_of, symbol_share
from ftdiag.rules.attribution.shape import shape_of
from ftdiag.rules.attribution.stops import stop_shares
from ftdiag.rules.base import (
    SPIN_SHARE,
    Charges,
    Facts,
    LineCharge,
    LineClaim,
    LockCharge,
    Wasted,
    finite,
)

NEAR_FRAMES: Final = 3
"""Innermost frames of a spinning line among which the function that waits for a lock is looked for: the line
before or after a `with`, or a function called there. The machine code is sampled at other moments than the
Python stack, which is then the one of a few instructions before or after."""

_TOLD: Final = (ThreadState.OBJECT_LOCK, ThreadState.RUNTIME_LOCK)
"""States of locks that registers of threads that spin can tell."""


def charges_of(facts: Facts, claims: ClaimTable) -> Charges:
    """Everything charged: locks, then lines, then stops, then the shape with what is left."""
    locks, charge_of_line = _locks(facts, claims)
    inside = _InProcess(facts)
    locks, lines = _lines(facts, claims, locks, charge_of_line, inside)
    locks = _together_in_process(locks, inside)
    charges = Charges(
        locks=tuple(sorted(locks, key=lambda each: (-each.lost_cores, each.locks[0].number))),
        lines=tuple(sorted(lines, key=lambda each: -each.lost_cores)),
        stop_shares={claims.stops(cause): part for cause, part in stop_shares(facts).items()},
    )
    return replace(charges, shape=shape_of(facts, charges))


# --- locks -----------------------------------------------------------------------------------------------


def _state_of(lock: LockMetrics, rule: str, claims: ClaimTable) -> ThreadState:
    kind = lock.lock.kind
    if kind is LockKind.GIL:
        return ThreadState.GIL
    if kind is LockKind.OBJECT:
        return ThreadState.OBJECT_LOCK
    if kind is LockKind.NATIVE and lock.lock.type_name == NATIVE_MUTEX:
        return ThreadState.NATIVE_LOCK
    if kind is LockKind.USER and not claims.has_locks_of_interpreter(rule):
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


def _locks(facts: Facts, claims: ClaimTable) -> tuple[list[LockCharge], dict[Frame, int]]:
    """Charges of locks, and for every line at which one is waited for: its charge."""
    ruled = [(lock, claims.lock(lock, facts)) for lock in facts.locks if lock.number != OTHER_LOCKS]
    waited: dict[ThreadState, float] = {}
    critical: dict[ThreadState, float] = {}
    for lock in facts.locks:
        state = next((_state_of(one, rule, claims) for one, rule in ruled if one is lock), ThreadState.LOCK)
        waited[state] = waited.get(state, 0.0) + finite(lock.wait_ns)
        critical[state] = critical.get(state, 0.0) + finite(lock.critical_wait_ns)
    groups: dict[tuple[str, ThreadState, str | None, str | None, Frame | None], list[LockMetrics]] = {}
    for lock, rule in ruled:
        where = leaves(lock)[0] if leaves(lock) else None
        name = lock.lock.label
        key = (rule, _state_of(lock, rule, claims), lock.lock.type_name, name, where)
        groups.setdefault(key, []).append(lock)
    charges: list[LockCharge] = []
    at_line: dict[Frame, int] = {}
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
                    at_line[waiter.stack[0]] = len(charges)
        parked = min(1.0, part) * finite(facts.metrics.lost_cores.get(state, 0.0))
        charges.append(LockCharge(rule, tuple(locks), state, parked, 0.0, 0.0))
    return charges, at_line


def _spun_for(wasted: Wasted, facts: Facts, claims: ClaimTable, locks: list[LockCharge]) -> int | None:
    """The charge of the lock that is spun for at a line, where registers tell; made where nobody was seen
    parked on that lock."""
    line = wasted.line
    if not line.spun_for or wasted.spin_share < SPIN_SHARE:
        return None
    number = _charge_of(line, locks)
    if number is None:
        lock = _never_parked(line, facts)
        rule = claims.lock(lock, facts)
        locks.append(LockCharge(rule, (lock,), _state_of(lock, rule, claims), 0.0, 0.0, 0.0))
        number = len(locks) - 1
    return number


def _never_parked(line: HotLine, facts: Facts) -> LockMetrics:
    """A lock that is known only by those who spin for it: no wait, at the line, of those who spin most."""
    name = line.spun_for[0]
    inside = name in INTERPRETER_LOCKS
    reference = LockRef(
        0,
        LockKind.RUNTIME if inside else LockKind.OBJECT,
        None if inside else name,
        name if inside else next(iter(line.spun_paths), None),
    )
    spinning = sorted(facts.threads, key=lambda thread: -thread.states_ns.get(ThreadState.SPIN, 0.0))
    stack = line.stacks[0][0] if line.stacks else (line.frame,)
    waiters = tuple(LockWaiter(thread.info, 0.0, stack) for thread in spinning[: line.threads])
    return LockMetrics(0, reference, 0.0, 0.0, 0.0, 0, 0.0, waiters, ())


def _charge_of(line: HotLine, locks: list[LockCharge]) -> int | None:
    """The charge of the lock that is spun for at a line: that with the longest waits, where only the type of
    its object is known."""
    kinds = [
        (number, charge)
        for number, charge in enumerate(locks)
        if (charge.state is ThreadState.OBJECT_LOCK and charge.locks[0].lock.type_name in line.spun_for)
        or (charge.locks[0].lock.kind is LockKind.RUNTIME and charge.locks[0].lock.label in line.spun_for)
    ]
    return max(kinds, key=lambda each: each[1].parked_cores, default=(None, None))[0]


class _InProcess:
    """Which charges are inside of what the standard library keeps for the process; found out once each."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._files: dict[int, str | None] = {}

    def file(self, charge: LockCharge) -> str | None:
        """The file that it is in; the GIL is of everything."""
        if charge.state is ThreadState.GIL:
            return None
        first = charge.locks[0]
        if id(first) not in self._files:
            self._files[id(first)] = process_wide_lock(first, self._facts)
        return self._files[id(first)]

    def charge_of(self, line: HotLine, locks: list[LockCharge]) -> int | None:
        """The charge of a lock in the same file as a line is in."""
        file = process_wide(line.stacks[0][0]) if line.stacks else None
        if file is None:
            return None
        return next((number for number, charge in enumerate(locks) if self.file(charge) == file), None)


def _together_in_process(locks: list[LockCharge], inside: _InProcess) -> list[LockCharge]:
    """One charge for each file with something of the whole process: what it guards is one cause."""
    together: dict[tuple[str, str], list[LockCharge]] = {}
    apart: list[LockCharge] = []
    for charge in locks:
        file = inside.file(charge)
        if file is None:
            apart.append(charge)
        else:
            together.setdefault((charge.rule_id, file), []).append(charge)
    for charges in together.values():
        first, *others = sorted(charges, key=lambda each: -each.lost_cores)
        apart.append(
            replace(
                first,
                parked_cores=sum(each.parked_cores for each in charges),
                spin_cores=sum(each.spin_cores for each in charges),
                atomic_cores=sum(each.atomic_cores for each in charges),
                threads=max(each.threads for each in charges),
                beside=tuple(lock for each in others for lock in each.locks),
            )
        )
    return apart


# --- lines -----------------------------------------------------------------------------------------------


def _lines(
    facts: Facts,
    claims: ClaimTable,
    locks: list[LockCharge],
    at_line: Mapping[Frame, int],
    inside: _InProcess,
) -> tuple[list[LockCharge], list[LineCharge]]:
    duration = facts.metrics.duration_ns
    if duration <= 0 or not facts.native:
        return locks, []
    lines: list[tuple[LineCharge, LineClaim | None]] = []
    waiting, callers = _functions_that_wait(locks)
    on_core = facts.spinning_on_core
    for line in facts.hot:
        spin = on_core * finite(line.states_ns.get(ThreadState.SPIN, 0.0)) / duration
        atomic = finite(line.states_ns.get(ThreadState.ATOMIC, 0.0)) / duration
        if spin + atomic <= 0:
            continue
        number = at_line.get(line.frame)
        wasted = Wasted(line, spin, atomic)
        if number is None:
            number = inside.charge_of(line, locks)
        if number is None or (locks[number].state in _TOLD and inside.file(locks[number]) is None):
            # Registers are of the very samples; who parks at a line may spin there for something else.
            spun = _spun_for(wasted, facts, claims, locks)
            number = number if spun is None else spun
        rule, claim = ("", None) if number is not None else claims.line(wasted, facts)
        if claim is not None and claim.near_lock is not None and claim.near_lock(line):
            number = _near(line, waiting, callers)
        if number is not None:
            charge = locks[number]
            locks[number] = replace(
                charge,
                spin_cores=charge.spin_cores + spin,
                atomic_cores=charge.atomic_cores + atomic,
                threads=max(charge.threads, line.threads),
            )
        elif claim is None or claim.nobodys is None or not claim.nobodys(line):
            lines.append((LineCharge(rule, line, spin, atomic), claim))
    return locks, _with_neighbours(lines, claims)


def _with_neighbours(
    lines: list[tuple[LineCharge, LineClaim | None]], claims: ClaimTable
) -> list[LineCharge]:
    """Lines whose few telling samples are like those of a line of the same function go with it.

    What is sampled in machine code falls on the lines before and after, too; where the cause is spread over a
    function, a line of it may have a little less than it takes to be told alone.
    """
    told = {
        (charge.line.frame.filename, charge.line.frame.function): charge.rule_id
        for charge, _ in reversed(lines)
        if claims.symbols(charge.rule_id)
    }
    gone_along = []
    for charge, claim in lines:
        rule = told.get((charge.line.frame.filename, charge.line.frame.function))
        alike = (
            rule is not None
            and claim is not None
            and claim.joins is not None
            and claim.joins(charge.line)
            and symbol_share(charge.line, pattern_of(claims.symbols(rule))) >= NEIGHBOUR_SHARE
        )
        gone_along.append(replace(charge, rule_id=rule) if alike and rule is not None else charge)
    return gone_along
