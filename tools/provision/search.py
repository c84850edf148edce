"""Where free-threaded interpreters may already be, in the order in which they are taken.

In: `FTDIAG_PYTHONS`, `PATH`, the cache directory, uv's list. Out: verified interpreters and refusals,
each interpreter once, in order.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.provision.verification import Interpreter, Refusal, probe_environment, verify

SERIES: Final = ("3.13", "3.14", "3.15")
"""The CPython series that have free-threaded builds and that ftdiag knows."""
NAMED_VARIABLE: Final = "FTDIAG_PYTHONS"
UV_FIND_TIMEOUT_S: Final = 30.0
UV_INSTALL_TIMEOUT_S: Final = 180.0

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
    def named_refusals(self) -> tuple[Refusal, ...]:
        """Refused entries of FTDIAG_PYTHONS: a person should hear of them."""
        return tuple(refusal for refusal in self.refusals if refusal.origin == NAMED_VARIABLE)


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where interpreters are kept: $XDG_CACHE_HOME/ftdiag/pythons, else ~/.cache/ftdiag/pythons."""
    configured = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    return base / "ftdiag" / "pythons"


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


def find_cached(cache: Path) -> Iterator[Path]:
    """Executables of the interpreters in the cache, newest version first."""
    if not cache.is_dir():
        return
    # Names with a dot in front are work in progress, logs and the lock.
    homes = [home for home in cache.iterdir() if not home.name.startswith(".") and home.is_dir()]
    for home in sorted(homes, key=_version_key, reverse=True):
        yield from sorted((home / "bin").glob("python3.[0-9]*t"))


def find_with_uv(*, install: bool, series: tuple[str, ...] = SERIES[:2]) -> Iterator[Path]:
    """Interpreters of uv; with `install` it may download them. Silent when uv is not there or fails."""
    uv = shutil.which("uv")
    if uv is None:
        return
    if install:
        _run_uv([uv, "python", "install", *(f"{one}t" for one in series)], UV_INSTALL_TIMEOUT_S)
    for one in series:
        path = _run_uv([uv, "python", "find", "--managed-python", f"{one}t"], UV_FIND_TIMEOUT_S)
        if path:
            yield Path(path)


def _run_uv(command: list[str], timeout_s: float) -> str | None:
    environment = probe_environment()
    if "install" not in command:
        environment["UV_PYTHON_DOWNLOADS"] = "never"
    try:
        run = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            cwd="/",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


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
        for path in find_with_uv(install=False):
            yield "uv", path


def _version_key(home: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", home.name))
