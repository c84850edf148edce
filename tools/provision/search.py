"""Where free-threaded interpreters may already be, in the order in which they are taken.

In: `FTDIAG_PYTHONS`, `PATH`, the cache directory, uv's list. Out: verified interpreters and refusals,
each interpreter once, in order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.provision.cache import cache_directory, find_cached
from tools.provision.verification import Interpreter, Refusal, verify
from tools.provision.with_uv import find_with_uv

SERIES: Final = ("3.13", "3.14", "3.15")
"""The CPython series that have free-threaded builds and that ftdiag knows."""
NEWEST: Final = SERIES[-1]
NAMED_VARIABLE: Final = "FTDIAG_PYTHONS"

PATH_NAMES: Final = (
    *(f"python{series}t" for series in SERIES),
    "python3",
    *(f"python{series}" for series in SERIES),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was looked at. A `named` refusal is one that the user asked for by name."""

    interpreters: tuple[Interpreter, ...]
    refusals: tuple[Refusal, ...]

    @property
    def named(self) -> tuple[Interpreter, ...]:
        """The interpreters of FTDIAG_PYTHONS."""
        return tuple(one for one in self.interpreters if one.origin == NAMED_VARIABLE)

    @property
    def chosen(self) -> tuple[Interpreter, ...]:
        """What is worked with: the named ones, else the first of each series, newest series first."""
        if self.named:
            return self.named
        first: dict[str, Interpreter] = {}
        for one in self.interpreters:
            first.setdefault(one.series, one)
        return tuple(first[series] for series in sorted(first, key=_numbers, reverse=True))

    @property
    def named_refusals(self) -> tuple[Refusal, ...]:
        """Refused entries of FTDIAG_PYTHONS: a person should hear of them."""
        return tuple(refusal for refusal in self.refusals if refusal.origin == NAMED_VARIABLE)


def find_interpreters(environ: Mapping[str, str] = os.environ, *, ask_uv: bool = True) -> Found:
    """All free-threaded interpreters at hand, verified."""
    interpreters: list[Interpreter] = []
    refusals: list[Refusal] = []
    seen_files: set[str] = set()
    seen_builds: set[tuple[str, str]] = set()
    for origin, path in _candidates(environ, ask_uv=ask_uv):
        real = os.path.realpath(path)
        if real in seen_files:
            continue
        seen_files.add(real)
        verdict = verify(path, origin)
        if isinstance(verdict, Refusal):
            refusals.append(verdict)
            continue
        # bin/python3.13 and bin/python3.13t of one installation are hard links of one interpreter.
        build = (verdict.version, os.path.realpath(verdict.prefix))
        if build not in seen_builds:
            seen_builds.add(build)
            interpreters.append(verdict)
    return Found(tuple(interpreters), tuple(refusals))


def _candidates(environ: Mapping[str, str], *, ask_uv: bool) -> Iterator[tuple[str, Path]]:
    for entry in environ.get(NAMED_VARIABLE, "").split(os.pathsep):
        if entry:
            yield NAMED_VARIABLE, Path(entry)
    directories = [Path(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    for name in PATH_NAMES:
        for directory in directories:
            path = directory / name
            # Not Path.is_file: that raises where a directory of PATH may not be entered.
            if os.path.isfile(path) and os.access(path, os.X_OK):
                yield "PATH", path
    for path in find_cached(cache_directory(environ)):
        yield "cache", path
    if ask_uv:
        for path in find_with_uv(SERIES):
            yield "uv", path


def _numbers(series: str) -> tuple[int, ...]:
    return tuple(int(part) for part in series.split("."))
