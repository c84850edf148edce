"""What a change would bring.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum

from ftdiag.datatypes import dataclass


class ChangeKind(enum.Enum):
    """What is changed. The values are the names used in reports and JSON."""

    LOCK = "lock"
    LINE = "line"
    REMEDY = "remedy"
    """A line done in another way: `factor` is what the other way took where it was measured alone."""
    IO = "io"
    CONTENTION = "contention"
    """Contended memory, spinning and waits for the lock of an object, at a line or everywhere."""
    ALLOCATION = "allocation"
    OVERHEAD = "overhead"
    """The own code of some files: an executor, a tracer."""
    COLLECTOR = "gc"
    STOPS = "stops"
    GIL = "gil"
    THREADS = "threads"
    CORES = "cores"
    BALANCE = "balance"
    """All work shared evenly among the threads that do some."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `what` names the lock, line ("app.py:10"), peer or files; `factor` is what is left of its
    time (0: it is gone); of threads and cores `number` is how many there are to be."""

    kind: ChangeKind
    what: str = ""
    factor: float = 0.0
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What changes would bring: work a second over what it is now, with the bounds of an 80 % interval.

    Where next to nothing would be left only `low` is known: it gains at least so much, 90 % sure. `not_told`
    says why nothing, or no more, can be told; the other figures are then `None`. `useful_cores` is the useful
    work a second as it is, in cores. `faithful_ratio` is what a replay without the change does over what was
    recorded. `notes` are what the reader has to know beside.
    """

    changes: tuple[Change, ...]
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    useful_cores: float | None = None
    blocks: int = 0
    faithful_ratio: float | None = None
    not_told: str | None = None
    notes: tuple[str, ...] = ()
