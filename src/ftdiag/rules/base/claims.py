"""What a rule may claim: locks, lines, calls of libraries, stops of all threads, shapes of programs.

In and out: frozen types, each with a priority: where several claims fit, the lowest number counts. Whose
something is, is decided by the claims of all rules (`attribution.claims`), so that one cause is one finding.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Frame, HotLine, LockKind, LockMetrics
from ftdiag.rules.base.charged import Shape, Shortage
from ftdiag.rules.base.facts import Facts, Room

SPIN_SHARE: Final = 0.25
"""From this share of spinning in what a line wasted on, a lock is behind it and not reference counts alone:
measured, shared containers spin 30-40 % of their CPU time, shared reference counts next to nothing."""


class Priority(enum.IntEnum):
    """Whose claim counts where several fit: the lowest. Numbers between these order claims of one kind.

    Claims of the same priority must not fit the same lock or line (`claims.overlaps`).
    """

    GIL = 10
    PROVEN = 20
    """What stands at the recording's end proves it: a cycle, a holder that does not come back."""
    LIBRARY = 30
    """The library that a stack is inside of, seen from the program."""
    PROCESS = 40
    """One for the whole process."""
    NAMED = 50
    """Its type, its label, or a function of machine code names it."""
    SIGNS = 60
    """What is around it speaks for it."""
    KIND = 80
    """Nothing better is known than its kind."""
    REST = 90


@dataclass(frozen=True, slots=True)
class LockClaim:
    """Locks that belong to a rule: of these kinds, types and labels (any where none is named), if `when`."""

    priority: int
    kinds: tuple[LockKind, ...] = ()
    types: tuple[str, ...] = ()
    labels: tuple[str | None, ...] = ()
    when: Callable[[LockMetrics, Facts], bool] | None = None


@dataclass(frozen=True, slots=True)
class LibraryClaim:
    """Library calls that belong to a rule, with the locks and lines inside of them.

    `files` are ends of names of files of the standard library, where there are `functions` only these of
    them; `frames` says of any other frame whether it is one. `when` is asked of what was found.
    """

    files: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    frames: Callable[[Frame], bool] | None = None
    when: Callable[[Facts], bool] | None = None
    locks_of_interpreter: bool = False
    """Whether locks of the kind that programs make are the interpreter's own here."""


@dataclass(frozen=True, slots=True)
class Wasted:
    """Cores that were wasted at a line, by spinning and by contended atomics."""

    line: HotLine
    spin_cores: float
    atomic_cores: float

    @property
    def spin_share(self) -> float:
        """The part of it that is spinning."""
        whole = self.spin_cores + self.atomic_cores
        return self.spin_cores / whole if whole > 0 else 0.0


@dataclass(frozen=True, slots=True)
class LineClaim:
    """Wasted time of lines that belongs to a rule: by functions of machine code, and `when`.

    `symbols` are names, in which `?` stands for one letter and `*` for any number of them; where there is
    `among_first`, they count only among so many functions of a line. `near_lock` says of which lines the time
    belongs to a lock that is waited for near by, if there is one, and `nobodys` of which it is no loss
    without; `joins` of which it goes with another line of the function that a rule claims by its symbols.
    """

    priority: int
    symbols: tuple[str, ...] = ()
    among_first: int | None = None
    when: Callable[[Wasted, Facts], bool] | None = None
    near_lock: Callable[[HotLine], bool] | None = None
    nobodys: Callable[[HotLine], bool] | None = None
    joins: Callable[[HotLine], bool] | None = None


class StopCause(enum.Enum):
    """What all threads are stopped for."""

    COLLECTOR = "the cyclic collector"
    REQUESTS = "what a thread of the program does"


@dataclass(frozen=True, slots=True)
class ShapeClaim:
    """The way in which threads share the work that belongs to a rule; the lowest priority is asked first."""

    priority: int
    find: Callable[[Facts, Room], Shape | None]


@dataclass(frozen=True, slots=True)
class Claims:
    """All that a rule claims. What nobody claims falls to those that claim the rest."""

    locks: tuple[LockClaim, ...] = ()
    lines: tuple[LineClaim, ...] = ()
    libraries: tuple[LibraryClaim, ...] = ()
    stops: StopCause | None = None
    shortage: Shortage | None = None
    shape: ShapeClaim | None = None
