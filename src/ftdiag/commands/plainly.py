"""The plain form of `record`, told without the command line framework.

In: the arguments. Out: what to record, or `None` for anything that is not in order, or not plain: the
framework says what is wrong, and shows help. Its import alone takes as long as all else that the command does
before the first tick, of which the process that is looked at has that much less.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ftdiag.sampling.options import (
    BUDGETS,
    DEFAULT_NATIVE_RATE_HZ,
    DEFAULT_RATE_HZ,
    DURATIONS,
    MAX_PID,
    NATIVE_RATES,
    RATES,
    Effort,
    Limits,
)

_RECORD: Final = "record"
_OUTPUT: Final = frozenset({"-o", "--output"})
_NUMBERS: Final[dict[str, Limits]] = {
    "--duration": DURATIONS,
    "--rate": RATES,
    "--native-rate": NATIVE_RATES,
    "--budget": BUDGETS,
}


class Plain(NamedTuple):
    """What `record` was asked, as `recording.record` takes it."""

    pid: int
    path: str
    duration_s: float | None
    effort: Effort


def recording(arguments: list[str]) -> Plain | None:
    """What a plain `record PID -o FILE` asks for, with numbers if need be."""
    if arguments[:1] != [_RECORD]:
        return None
    pid: int | None = None
    path: str | None = None
    numbers: dict[str, float] = {}
    words = iter(arguments[1:])
    for word in words:
        if word in _OUTPUT or word in _NUMBERS:
            value = next(words, "")
            if not value or value.startswith("-") or word in numbers:
                return None
            if word in _NUMBERS:
                number = _number(value)
                if not _NUMBERS[word].admit(number):
                    return None
                numbers[word] = number
            elif path is None and _is_in_short(value):
                path = value
            else:
                return None
        elif pid is None and word.isascii() and word.isdigit() and len(word) <= len(str(MAX_PID)):
            pid = int(word)
        else:
            return None
    if pid is None or path is None or not 0 < pid <= MAX_PID:
        return None
    effort = Effort(
        numbers.get("--rate", DEFAULT_RATE_HZ),
        numbers.get("--native-rate", DEFAULT_NATIVE_RATE_HZ),
        numbers.get("--budget"),
    )
    return Plain(pid, path, numbers.get("--duration"), effort)


def _number(word: str) -> float:
    """A word as a number; nan, which no limits admit, if it is none."""
    try:
        return float(word)
    except ValueError:
        return float("nan")


def _is_in_short(path: str) -> bool:
    """Whether a path is as `pathlib` would show it: without empty names and dots for the same directory."""
    return {"", "."}.isdisjoint(path.removeprefix("/").split("/"))
