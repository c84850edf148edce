"""How much a run got done: a number in its output, a fixed job over its wall time, or a counter in a file.

In: how it is to be read, and what a run left. Out: work a second, or an error that says what was found
instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import FtdiagError, UsageError

WAYS: Final = ("pattern", "wall", "counter")
TAKES: Final = ("only", "first", "last", "mean", "sum", "max")
MAX_MATCHES: Final = 100_000
SHOWN_MATCHES: Final = 3
_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9,_']*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+")


class NoThroughput(FtdiagError):
    """A run says no number, several, or one that makes no sense."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How throughput is read. `items` is the work of a fixed job, of each thread where `per_thread`."""

    way: str = "wall"
    pattern: str = ""
    take: str = "only"
    items: float = 1.0
    per_thread: bool = False
    counter: str = ""
    latency: str = ""
    """A pattern for the latency in ms, if the program prints it."""

    @property
    def unit(self) -> str:
        """What the numbers are of."""
        if self.way == "wall":
            return "jobs/s" if self.items == 1 and not self.per_thread else "items/s"
        return "a second" if self.way == "counter" else "as printed"


def check_pattern(pattern: str, option: str) -> None:
    """Raise UsageError for what is no regular expression with a group."""
    hint = f"{option} '([0-9.,]+) req/s'   takes the number in the brackets"
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{option} {pattern!r} is no regular expression: {error}", hint) from None
    if not found.groups:
        raise UsageError(f"{option} {pattern!r} has no group in brackets for the number", hint)


def number_in(text: str) -> float | None:
    """The first number of a text; separators of thousands (, _ ') are left out. `None` without one."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    value = float(re.sub("[,_']", "", found[0]))
    return value if math.isfinite(value) else None


def printed(output: str, pattern: str, take: str, option: str = "--pattern") -> float:
    """The number that a pattern finds in what a run wrote. Raises NoThroughput."""
    values: list[float] = []
    for found in re.finditer(pattern, output, re.MULTILINE):
        group = next((each for each in found.groups() if each is not None), "")
        value = number_in(group)
        if value is None:
            raise NoThroughput(
                f"{option} {pattern!r} matched {found[0]!r:.200}, and there is no number in the brackets",
                "Put the brackets of the pattern around the number.",
            )
        values.append(value)
        if len(values) >= MAX_MATCHES:
            break
    if not values:
        last = output.strip().splitlines()[-SHOWN_MATCHES:]
        said = "it wrote nothing" if not last else "it ended with: " + " | ".join(each[:200] for each in last)
        raise NoThroughput(
            f"the run printed no number that {option} {pattern!r} matches; {said}",
            f"{option} takes what stands on one line of standard output or standard error;"
            " without it the wall time of the job is taken",
        )
    return taken(values, take, option, pattern)


def taken(values: Sequence[float], take: str, option: str, pattern: str) -> float:
    """One of several numbers, or what they come to. Raises NoThroughput where that was not said."""
    if take == "only" and len(values) > 1:
        shown = ", ".join(f"{value:g}" for value in values[:SHOWN_MATCHES])
        more = f" and {len(values) - SHOWN_MATCHES} more" if len(values) > SHOWN_MATCHES else ""
        raise NoThroughput(
            f"the run printed {len(values)} numbers that {option} {pattern!r} matches: {shown}{more}",
            "--take last (first, mean, sum, max)   says which; or make the pattern match one line",
        )
    if take == "last":
        return values[-1]
    if take == "mean":
        return sum(values) / len(values)
    if take == "sum":
        return sum(values)
    return max(values) if take == "max" else values[0]


def per_second(reading: Reading, wall_s: float, workers: int) -> float:
    """The throughput of a fixed job."""
    items = reading.items * (workers if reading.per_thread else 1)
    return items / max(wall_s, 1e-9)


def counted(samples: Sequence[tuple[float, float]], skip_s: float, name: str) -> float:
    """The rate of a counter that was looked at now and then: (seconds since the start, value), ascending.

    What it gained after `skip_s`, over the time until it was last seen to change. Raises NoThroughput.
    """
    kept = [each for each in samples if each[0] >= skip_s]
    if not kept:
        raise NoThroughput(
            f"the counter in {name} had no number in it while the run lasted",
            "The program writes a number into it again and again, or once before it ends.",
        )
    if len({value for _, value in kept}) == 1 and len(samples) > len(kept):
        kept = [samples[len(samples) - len(kept) - 1], *kept]
    # A file that is written once, at the end, counts from nothing at the start.
    first = kept[0] if len({value for _, value in kept}) > 1 else (0.0, 0.0)
    end = next(
        (kept[i] for i in range(len(kept) - 1, 0, -1) if kept[i][1] != kept[i - 1][1]),
        kept[-1],
    )
    gained, length_s = end[1] - first[1], end[0] - first[0]
    if gained <= 0 or length_s <= 0:
        raise NoThroughput(
            f"the counter in {name} did not grow: it went from {first[1]:g} to {end[1]:g}",
            "It counts work done, and only goes up.",
        )
    return gained / length_s


def check_throughput(value: float) -> float:
    """The value. Raises NoThroughput where it is no amount of work."""
    if not math.isfinite(value) or value <= 0:
        raise NoThroughput(
            f"a throughput of {value:g} makes no sense: it is above 0",
            "Check what the pattern matches; without --pattern the wall time is taken.",
        )
    return value
