"""Gates for continuous integration: an efficiency that a number of threads must not fall below.

In: "0.7@4", and a sweep. Out: for each gate whether it is passed, in words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import UsageError
from ftdiag.scaling.curve import scaling_of
from ftdiag.scaling.results import Sweep
from ftdiag.wording import units

_FORM: Final = re.compile(r"([0-9]*\.?[0-9]+)@([0-9]{1,6})")
HINT: Final = (
    "--fail-below 0.7@4   is the form: an efficiency from 0 to 1, and a number of threads of the sweep"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """The efficiency with so many threads is to be `least_ratio` or more."""

    least_ratio: float
    threads: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a gate, for one interpreter ("" where there is but one)."""

    gate: Gate
    python: str
    efficiency_ratio: float | None
    passed: bool
    words: str


def asked(gates: Sequence[str]) -> tuple[Gate, ...]:
    """The gates of the command line. Raises UsageError."""
    found: list[Gate] = []
    for text in gates:
        match = _FORM.fullmatch(text.strip())
        if match is None or not 0 < float(match[1]) <= 1 or int(match[2]) < 1:
            raise UsageError(f"--fail-below {text!r} is not RATIO@THREADS", HINT)
        found.append(Gate(float(match[1]), int(match[2])))
    return tuple(found)


def check(gates: Sequence[Gate], sweep: Sweep) -> None:
    """Raise UsageError for a gate on what is not measured: before anything is run."""
    if not gates:
        return
    if sweep.kind == "layouts":
        raise UsageError("--fail-below is about numbers of threads, and layouts have no such curve", HINT)
    numbers = sorted({setting.threads for setting in sweep.settings})
    for gate in gates:
        if gate.threads not in numbers:
            missing = units.plural(gate.threads, "thread is", "threads are")
            raise UsageError(
                f"--fail-below {gate.least_ratio:g}@{gate.threads}: {missing} not measured;"
                f" there are {', '.join(map(str, numbers))}",
                HINT,
            )


def judged(gates: Sequence[Gate], sweep: Sweep) -> tuple[Result, ...]:
    """Each gate on each interpreter's curve; what was not measured has not passed."""
    results: list[Result] = []
    scaling = scaling_of(sweep)
    for curve in scaling.curves if gates else ():
        for gate in gates:
            point = curve.at(gate.threads)
            mean = None if point is None else point.efficiency
            name = f"{curve.python}, " if curve.python else ""
            if mean is None:
                words = f"{name}the efficiency with {units.plural(gate.threads, 'thread')} was not measured"
                results.append(Result(gate, curve.python, None, False, words))
                continue
            spread = ""
            if mean.low is not None and mean.high is not None:
                spread = f" ({100 * mean.low:.0f} to {100 * mean.high:.0f} %)"
            passed = mean.value >= gate.least_ratio
            on = f" on {scaling.cores:g} cores" if point is not None and point.over else ""
            words = (
                f"{name}efficiency with {units.plural(gate.threads, 'thread')}{on}:"
                f" {units.percent(mean.value)}{spread},"
                f" {'at least' if passed else 'below the'} {units.percent(gate.least_ratio)}"
                f"{'' if passed else ' asked for'}"
            )
            results.append(Result(gate, curve.python, mean.value, passed, words))
    return tuple(results)
