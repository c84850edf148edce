"""What states, parts of the account, factors and confidences are called, in what order, in what colour.

In: nothing. Out: tables. A state has one name and one colour in the cockpit, in every report and in the
prose of rules; a part of the account, and a factor of the chain, that is a state is called like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ftdiag.model import RUNNABLE_PARTS, Confidence, CorePart, ThreadState
from ftdiag.wording import units

STATE_NAMES: Final[Mapping[ThreadState, str]] = {
    ThreadState.WORK: "work",
    ThreadState.ON_CPU: "on CPU",
    ThreadState.ALLOC: "allocation",
    ThreadState.GC: "garbage collection",
    ThreadState.ATOMIC: "contended atomics",
    ThreadState.SPIN: "spinning",
    ThreadState.RUNNABLE: "waiting for a core",
    ThreadState.GIL: "GIL",
    ThreadState.STOPPED: "stopped",
    ThreadState.LOCK: "lock",
    ThreadState.OBJECT_LOCK: "object lock",
    ThreadState.RUNTIME_LOCK: "runtime lock",
    ThreadState.NATIVE_LOCK: "lock of a C library",
    ThreadState.IO: "I/O",
    ThreadState.SLEEP: "sleep",
    ThreadState.IDLE: "idle",
    ThreadState.HALTED: "halted",
    ThreadState.UNKNOWN: "unknown",
}
"""Of each state its name, from left to right in a bar: useful, wasted on a core, kept from a core, waiting by
choice, not known."""
BAR_ORDER: Final[tuple[ThreadState, ...]] = tuple(STATE_NAMES)

STATE_MEANINGS: Final[Mapping[ThreadState, str]] = {
    ThreadState.WORK: "on a core, doing the program's work",
    ThreadState.ON_CPU: "on a core; not split further without native samples",
    ThreadState.ALLOC: "on a core, in the allocator or a page fault",
    ThreadState.GC: "on a core, in the cyclic collector",
    ThreadState.ATOMIC: "on a core, in an atomic operation or a shared reference count",
    ThreadState.SPIN: "tries to get a lock, on a core or having yielded it",
    ThreadState.RUNNABLE: "runnable: wants a core and has none",
    ThreadState.GIL: "waits for the GIL",
    ThreadState.STOPPED: "held by a stop-the-world pause",
    ThreadState.LOCK: "parked on a lock the program made",
    ThreadState.OBJECT_LOCK: "parked on the lock of a list, dict, set ...",
    ThreadState.RUNTIME_LOCK: "parked on a lock inside the interpreter",
    ThreadState.NATIVE_LOCK: "parked on a lock of a C library",
    ThreadState.IO: "in a blocking system call",
    ThreadState.SLEEP: "in a timed sleep",
    ThreadState.IDLE: "waits for work",
    ThreadState.HALTED: "by a stop signal, a debugger or a frozen cgroup",
    ThreadState.UNKNOWN: "could not be classified",
}

BY_CHOICE: Final[Mapping[ThreadState, str]] = {
    ThreadState.IDLE: "idle",
    ThreadState.SLEEP: "asleep",
    ThreadState.IO: "in I/O",
    ThreadState.HALTED: "halted",
}
"""What a thread is said to be that waits for no lock and no core."""

LOCK_STATES: Final = (
    ThreadState.LOCK,
    ThreadState.OBJECT_LOCK,
    ThreadState.RUNTIME_LOCK,
    ThreadState.NATIVE_LOCK,
    ThreadState.STOPPED,
    ThreadState.GIL,
)
"""Waits for other threads."""

_WANTING: Final = STATE_NAMES[ThreadState.RUNNABLE]
PART_NAMES: Final[Mapping[CorePart, str]] = {
    **{
        part: STATE_NAMES[ThreadState[part.name]] for part in CorePart if part.name in ThreadState.__members__
    },
    CorePart.USEFUL: "useful",
    CorePart.ON_CPU: "on a core, not told apart",
    CorePart.UNSEEN_THREADS: "threads gone unseen",
    CorePart.CPU_QUOTA: f"{_WANTING} (CPU quota)",
    CorePart.OTHER_PROGRAMS: f"{_WANTING} (other processes)",
    CorePart.FTDIAG: f"{_WANTING} (ftdiag itself)",
    CorePart.OWN_THREADS: f"{_WANTING} (too many threads)",
    CorePart.NO_DEMAND: "no demand",
}
"""What each part of the account of cores is called."""

STATE_OF_PART: Final[Mapping[CorePart, ThreadState]] = {
    **{part: ThreadState[part.name] for part in CorePart if part.name in ThreadState.__members__},
    **dict.fromkeys(RUNNABLE_PARTS, ThreadState.RUNNABLE),
    CorePart.USEFUL: ThreadState.WORK,
    CorePart.UNSEEN_THREADS: ThreadState.ON_CPU,
    CorePart.NO_DEMAND: ThreadState.IDLE,
}
"""The state in whose colour and with whose sign a part is drawn."""

FACTOR_NAMES: Final[Mapping[str, str]] = {
    **{state.label: name for state, name in STATE_NAMES.items()},
    "object_runtime_lock": "object and runtime locks",
    "stopped": "stop-the-world pauses",
    "idle_absent": "idle, or no thread at all",
}
"""What the factors of the chain are called, by their names in JSON."""

CONFIDENCE_NAMES: Final[Mapping[Confidence, str]] = {
    Confidence.KNOWN: "measured",
    Confidence.INFERRED: "likely",
    Confidence.UNKNOWN: "possible",
}
FINDING_CONFIDENCE: Final[Mapping[str, str]] = {
    "known": "measured",
    "likely": "likely",
    "possible": "possible",
}
"""What the confidence of a finding (in JSON) is called."""


SAID_SHARE: Final = 0.005
"""States with less of a whole than this are left out of sentences."""


class Colour(NamedTuple):
    """One colour on a dark ground, on a light one, and among a terminal's sixteen."""

    dark: str
    light: str
    ansi: str


# Okabe and Ito's palette, told apart with every common colour vision; greys for what is nobody's fault.
STATE_COLOURS: Final[Mapping[ThreadState, Colour]] = {
    ThreadState.ON_CPU: Colour("#6bc4a6", "#4f9d86", "green"),
    ThreadState.WORK: Colour("#009e73", "#008060", "green"),
    ThreadState.ALLOC: Colour("#56b4e9", "#2a8fc4", "bright_cyan"),
    ThreadState.GC: Colour("#2f8fd0", "#0072b2", "bright_blue"),
    ThreadState.ATOMIC: Colour("#cc79a7", "#c9679f", "bright_magenta"),
    ThreadState.SPIN: Colour("#b05f90", "#8c2f66", "magenta"),
    ThreadState.RUNNABLE: Colour("#f0e442", "#6e6300", "bright_yellow"),
    ThreadState.GIL: Colour("#9d8ce0", "#9d8fdd", "magenta"),
    ThreadState.STOPPED: Colour("#b38cc9", "#b08ac6", "bright_magenta"),
    ThreadState.LOCK: Colour("#d55e00", "#e8863b", "red"),
    ThreadState.OBJECT_LOCK: Colour("#e69f00", "#e8a92b", "yellow"),
    ThreadState.RUNTIME_LOCK: Colour("#c4a35a", "#cdb06f", "bright_red"),
    ThreadState.NATIVE_LOCK: Colour("#a8743c", "#c98f52", "red"),
    ThreadState.IO: Colour("#5f87af", "#8fb2d6", "cyan"),
    ThreadState.SLEEP: Colour("#747e88", "#b9c0c7", "bright_black"),
    ThreadState.IDLE: Colour("#7c8690", "#7a838c", "bright_black"),
    ThreadState.HALTED: Colour("#b3ada0", "#8f8a7e", "bright_black"),
    ThreadState.UNKNOWN: Colour("#9aa3ab", "#a5adb5", "white"),
}
"""A state's colour, the same in the cockpit and in HTML."""


def split_words(states: Mapping[ThreadState, float], whole: float) -> str:
    """Time split by state in one sentence, the largest first: "work 60 %, lock 40 %"."""
    return (
        ", ".join(
            f"{STATE_NAMES[state]} {units.share(spent, whole)}"
            for state, spent in longest(states)
            if whole > 0 and spent >= SAID_SHARE * whole
        )
        or "no time"
    )


def longest(states: Mapping[ThreadState, float]) -> list[tuple[ThreadState, float]]:
    """The states with time (or cores) in them, the largest first."""
    return sorted(((state, spent) for state, spent in states.items() if spent > 0), key=lambda item: -item[1])
