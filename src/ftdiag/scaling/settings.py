"""What a sweep varies: numbers of threads, processes and interpreters, and the order in which they are run.

In: the words of the command line. Out: `Setting`s, command lines with the placeholders filled in, a plan.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import UsageError

MAX_WORKERS: Final = 4096
MAX_SETTINGS: Final = 256
MAX_REPEATS: Final = 1000
THREADS: Final = "{threads}"
PROCESSES: Final = "{processes}"
PYTHON: Final = "{python}"
_PYTHON_NAME: Final = re.compile(r"(?:.*/)?python[0-9.]*t?")
_RANGE: Final = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")
_LAYOUT: Final = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of a sweep. `python` is the name that was asked for; "" where interpreters are not varied."""

    threads: int
    processes: int = 1
    python: str = ""

    @property
    def workers(self) -> int:
        """Threads of all processes together."""
        return self.threads * self.processes

    def words(self) -> str:
        """For example "4 threads", "2 processes x 4 threads", "3.14t: 4 threads"."""
        text = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        if self.processes != 1:
            text = f"{self.processes} processes x {text}"
        return f"{self.python}: {text}" if self.python else text


@dataclass(frozen=True, slots=True)
class Planned:
    """One run that is to be made: a setting, and the round of repeats that it is of (from 0)."""

    setting: Setting
    round: int


def thread_numbers(text: str) -> tuple[int, ...]:
    """ "1,2,4" or "1-4,8" as ascending numbers, each once. Raises UsageError for 0 and what is no number."""
    hint = "--threads 1,2,4,8   is the form; ranges such as 1-4 are taken, too"
    found: set[int] = set()
    for part in text.split(","):
        word = part.strip()
        span = _RANGE.fullmatch(word)
        if span is not None:
            first, last = int(span[1]), int(span[2])
            if first > last:
                raise UsageError(f"--threads {word}: the range goes backwards", hint)
            _check_count(first, "--threads", "threads", hint)
            _check_count(last, "--threads", "threads", hint)
            found.update(range(first, last + 1))
        elif word.isascii() and word.isdigit():
            number = int(word[:10])
            _check_count(number, "--threads", "threads", hint)
            found.add(number)
        else:
            raise UsageError(f"--threads: {word!r} is not a number of threads", hint)
    if len(found) > MAX_SETTINGS:
        raise UsageError(f"--threads has {len(found)} numbers; at most {MAX_SETTINGS} are run", hint)
    return tuple(sorted(found))


def layouts(text: str) -> tuple[Setting, ...]:
    """ "1x8,2x4" (processes x threads) as settings, in the order given. Raises UsageError."""
    hint = "--layouts 1x8,2x4,4x2,8x1   is the form: processes x threads of each"
    found: dict[Setting, None] = {}
    for part in text.split(","):
        match = _LAYOUT.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"--layouts: {part.strip()!r} is not PROCESSESxTHREADS", hint)
        processes, threads = int(match[1]), int(match[2])
        _check_count(processes, "--layouts", "processes", hint)
        _check_count(threads, "--layouts", "threads", hint)
        _check_count(processes * threads, "--layouts", "threads in all", hint)
        found[Setting(threads, processes)] = None
    return tuple(found)


def _check_count(number: int, option: str, what: str, hint: str) -> None:
    if not 1 <= number <= MAX_WORKERS:
        raise UsageError(f"{option}: {number} {what} cannot be run; it takes 1 to {MAX_WORKERS:,}", hint)


def check_command(command: Sequence[str], settings: Sequence[Setting]) -> None:
    """Raise UsageError where the command line would be the same for all settings."""
    text = "\0".join(command)
    threads = {setting.threads for setting in settings}
    if THREADS not in text and len(threads) > 1:
        raise UsageError(
            f"the command has no {THREADS}: it would run the same for every number of threads",
            f"ftdiag scale --threads 1,2,4 -- python bench.py --threads {THREADS}   puts the number there;"
            f" for an environment variable: -- env WORKERS={THREADS} python bench.py",
        )
    varied = any(setting.python for setting in settings)
    if varied and PYTHON not in text and not _PYTHON_NAME.fullmatch(command[0]):
        raise UsageError(
            f"--pythons does not know where the interpreter stands in {command[0]!r} ...",
            f"ftdiag scale --pythons 3.14t,3.14 -- {PYTHON} bench.py   says it",
        )


def starts_processes_itself(command: Sequence[str]) -> bool:
    """Whether the program is told how many processes to start; else so many copies of it are started."""
    return any(PROCESSES in word for word in command)


def filled(command: Sequence[str], setting: Setting, interpreter: str | None) -> list[str]:
    """The command line of one process; `interpreter` is the path of the setting's Python, if it has one."""
    words = [
        word.replace(THREADS, str(setting.threads)).replace(PROCESSES, str(setting.processes))
        for word in command
    ]
    if interpreter is not None:
        if any(PYTHON in word for word in words):
            words = [word.replace(PYTHON, interpreter) for word in words]
        else:
            words[0] = interpreter
    return words


def plan(settings: Sequence[Setting], repeats: int, seed: int) -> tuple[Planned, ...]:
    """All runs: round by round, each round has every setting once, in an order of its own.

    So what drifts while the sweep runs (heat, other programs) does not look like a difference of settings.
    """
    chance = random.Random(seed)
    order: list[Planned] = []
    for number in range(repeats):
        mixed = list(settings)
        chance.shuffle(mixed)
        order += [Planned(setting, number) for setting in mixed]
    return tuple(order)


def missing(planned: Iterable[Planned], done: Iterable[tuple[Setting, int]]) -> tuple[Planned, ...]:
    """What of a plan is still to be run."""
    there = set(done)
    return tuple(each for each in planned if (each.setting, each.round) not in there)
