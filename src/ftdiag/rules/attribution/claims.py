"""What all rules claim, in one table: whose a lock, a line, a library call, a stop or a shape is.

In: rules. Out: `ClaimTable`, which answers by priority, and what two rules claim alike, which none may.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ftdiag.model import OTHERS_COUNTS, Frame, LockKind, LockMetrics, Stack
from ftdiag.rules.attribution.frames import LIBRARY_FRAMES, is_file, is_library
from ftdiag.rules.attribution.machine_code import SYMBOL_SHARE, may_be_same, pattern_of, symbol_share
from ftdiag.rules.base import (
    Facts,
    LineClaim,
    LockClaim,
    Priority,
    Room,
    Rule,
    Shape,
    Shortage,
    StopCause,
    Wasted,
)

KNOWN_FRAMES: Final = 8192
"""Frames whose rule is kept; beyond, all are looked up anew."""


class ClaimTable:
    """The claims of all rules, in the order in which they are asked."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raise `ValueError` where nobody claims what is left: every lock and every line has a rule."""
        locks = [(claim.priority, rule.id, claim) for rule in rules for claim in rule.claims.locks]
        lines = [(claim.priority, rule.id, claim) for rule in rules for claim in rule.claims.lines]
        shapes = [(rule.claims.shape, rule.id) for rule in rules if rule.claims.shape is not None]
        self._locks = [(rule, claim) for _, rule, claim in sorted(locks, key=lambda row: row[0])]
        self._lines = [(rule, claim) for _, rule, claim in sorted(lines, key=lambda row: row[0])]
        self._shapes = [claim.find for claim, _ in sorted(shapes, key=lambda row: row[0].priority)]
        libraries = [(rule.id, claim) for rule in rules for claim in rule.claims.libraries]
        self._frames = [(rule, claim.frames) for rule, claim in libraries if claim.frames is not None]
        self._files = [(end, rule, claim.functions) for rule, claim in libraries for end in claim.files]
        self._known_frames: dict[tuple[str, str, int | None], tuple[str | None, bool]] = {}
        self._conditions = {rule: claim.when for rule, claim in libraries if claim.when is not None}
        self._locks_of_interpreter = {rule for rule, claim in libraries if claim.locks_of_interpreter}
        self._symbols = {rule: claim.symbols for rule, claim in reversed(self._lines) if claim.symbols}
        self._shortages = {
            rule.claims.shortage: rule.id for rule in rules if rule.claims.shortage is not None
        }
        self._stops = {rule.claims.stops: rule.id for rule in rules if rule.claims.stops is not None}
        if not any(_takes_all_locks(claim) for _, claim in self._locks):
            raise ValueError("no rule claims the locks that nobody else does")
        if not any(_takes_all_lines(claim) for _, claim in self._lines):
            raise ValueError("no rule claims the lines that nobody else does")

    # --- libraries ---------------------------------------------------------------------------------------

    def library(self, stack: Stack) -> str | None:
        """The rule of the library call that a stack is inside of, seen from the program: the outermost."""
        found = None
        for frame in stack[:LIBRARY_FRAMES]:
            rule, goes_on = self._of_frame(frame)
            found = rule or found
            if not goes_on:
                break
        return found

    def _of_frame(self, frame: Frame) -> tuple[str | None, bool]:
        """The rule of a frame, and whether a library's frame may call it; kept, since frames come again."""
        key = frame.filename, frame.function, frame.line
        known = self._known_frames.get(key)
        if known is None:
            if len(self._known_frames) >= KNOWN_FRAMES:
                self._known_frames.clear()
            known = self._known_frames[key] = self._looked_up(frame)
        return known

    def _looked_up(self, frame: Frame) -> tuple[str | None, bool]:
        by_frame = next((rule for rule, fits in self._frames if fits(frame)), None)
        if by_frame is not None or not is_library(frame):
            return by_frame, by_frame is not None
        by_file = (
            rule
            for end, rule, functions in self._files
            if is_file(frame, end) and (not functions or frame.function in functions)
        )
        return next(by_file, None), True

    def _holds(self, rule: str, facts: Facts) -> bool:
        condition = self._conditions.get(rule)
        return condition is None or condition(facts)

    # --- locks -------------------------------------------------------------------------------------------

    def lock(self, lock: LockMetrics, facts: Facts) -> str:
        """The rule that a lock belongs to."""
        library = None if _is_met_anywhere(lock) else self._library_of(lock)
        if library is not None and not self._holds(library, facts):
            library = None
        for rule, claim in self._locks:
            if library is not None and claim.priority >= Priority.LIBRARY:
                return library
            if _fits(claim, lock) and (claim.when is None or claim.when(lock, facts)):
                return rule
        raise ValueError("no rule claims the locks that nobody else does")

    def _library_of(self, lock: LockMetrics) -> str | None:
        """The library that most of the wait is in."""
        waits: dict[str | None, float] = {}
        for waiter in lock.waiters:
            rule = self.library(waiter.stack)
            waits[rule] = waits.get(rule, 0.0) + waiter.wait_ns
        if not waits:
            return None
        return max(sorted(waits, key=str), key=lambda rule: waits[rule])

    def has_locks_of_interpreter(self, rule: str) -> bool:
        """Whether locks inside of the rule's library are the interpreter's, though they look like others."""
        return rule in self._locks_of_interpreter

    # --- lines -------------------------------------------------------------------------------------------

    def line(self, wasted: Wasted, facts: Facts) -> tuple[str, LineClaim | None]:
        """The rule that the wasted time of a line belongs to, and its claim; None for the library's rule."""
        line = wasted.line
        library = self.library(line.stacks[0][0]) if line.stacks else None
        if library is not None and self._holds(library, facts):
            return library, None
        for rule, claim in self._lines:
            if claim.symbols and (
                symbol_share(line, pattern_of(claim.symbols), claim.among_first) < SYMBOL_SHARE
            ):
                continue
            if claim.when is None or claim.when(wasted, facts):
                return rule, claim
        raise ValueError("no rule claims the lines that nobody else does")

    def symbols(self, rule: str) -> tuple[str, ...]:
        """The functions of machine code by which a rule claims lines; none where it does not."""
        return self._symbols.get(rule, ())

    # --- the rest ----------------------------------------------------------------------------------------

    def stops(self, cause: StopCause) -> str:
        """The rule that stops of all threads for this belong to."""
        return self._stops[cause]

    def shortage(self, cause: Shortage) -> str:
        """The rule that a shortage of cores for this reason belongs to; "" where nobody claims it."""
        return self._shortages.get(cause, "")

    def shape(self, facts: Facts, room: Room) -> Shape | None:
        """The first shape that is found."""
        return next(filter(None, (find(facts, room) for find in self._shapes)), None)


def _is_met_anywhere(lock: LockMetrics) -> bool:
    """Whether a lock says nothing of the library in which it is waited for: what other threads dropped is
    seen to by its owner wherever it happens to be."""
    return lock.lock.kind is LockKind.RUNTIME and lock.lock.label == OTHERS_COUNTS


def _takes_all_locks(claim: LockClaim) -> bool:
    return not (claim.kinds or claim.types or claim.labels or claim.when)


def _takes_all_lines(claim: LineClaim) -> bool:
    return not (claim.symbols or claim.when)


def _fits(claim: LockClaim, lock: LockMetrics) -> bool:
    reference = lock.lock
    return (
        (not claim.kinds or reference.kind in claim.kinds)
        and (not claim.types or reference.type_name in claim.types)
        and (not claim.labels or reference.label in claim.labels)
    )


# --- overlaps --------------------------------------------------------------------------------------------


def overlaps(one: Rule, other: Rule) -> Iterator[str]:
    """What two rules claim with the same right, in words; nothing as it shall be."""
    both = f"{one.id} and {other.id} claim"
    for mine, theirs in itertools.product(one.claims.locks, other.claims.locks):
        if mine.priority == theirs.priority and _same_lock(mine, theirs):
            yield f"{both} the same locks with priority {int(mine.priority)}"
    for line, others_line in itertools.product(one.claims.lines, other.claims.lines):
        if line.priority == others_line.priority:
            yield f"{both} lines with priority {int(line.priority)}"
        for name, others_name in itertools.product(line.symbols, others_line.symbols):
            if may_be_same(name, others_name):
                yield f"{both} the same functions of machine code: {name}, {others_name}"
    for library, others_library in itertools.product(one.claims.libraries, other.claims.libraries):
        for file, others_file in itertools.product(library.files, others_library.files):
            if _same_file(file, others_file) and _meet(library.functions, others_library.functions):
                yield f"{both} the same file of a library: {file}, {others_file}"
    if one.claims.stops is not None and one.claims.stops is other.claims.stops:
        yield f"{both} stops for {one.claims.stops.value}"
    if one.claims.shortage is not None and one.claims.shortage is other.claims.shortage:
        yield f"{both} a shortage of cores by {one.claims.shortage.value}"
    shape, others_shape = one.claims.shape, other.claims.shape
    if shape is not None and others_shape is not None and shape.priority == others_shape.priority:
        yield f"{both} shapes of programs with priority {shape.priority}"


def _same_lock(one: LockClaim, other: LockClaim) -> bool:
    return _meet(one.kinds, other.kinds) and _meet(one.types, other.types) and _meet(one.labels, other.labels)


def _meet(one: Iterable[object], other: Iterable[object]) -> bool:
    """Whether two lists have something in common; an empty one has everything."""
    first, second = set(one), set(other)
    return not first or not second or bool(first & second)


def _same_file(one: str, other: str) -> bool:
    return one == other or one.endswith("/" + other) or other.endswith("/" + one)
