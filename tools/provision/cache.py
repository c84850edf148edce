"""The cache directory: finished interpreters, one lock a series, logs.

In: `XDG_CACHE_HOME`, the home directory. Out: paths, a lock that is held, interpreters that were run.

    <cache>/<version>t/      a finished interpreter; appears by one rename, or not at all
    <cache>/.uv/             those of a uv of ours
    <cache>/.tools/          tools from the package index (uv; pip where there is none)
    <cache>/.work/           what is unfinished
    <cache>/.logs/           logs, kept
    <cache>/.lock-<series>   held by the one run that gets this series
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools.provision.progress import Progress
from tools.provision.verification import Interpreter, Refusal, verify


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where interpreters are kept: $XDG_CACHE_HOME/ftdiag/pythons, else ~/.cache/ftdiag/pythons."""
    configured = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(configured) if os.path.isabs(configured) else Path.home() / ".cache"
    return base / "ftdiag" / "pythons"


def find_cached(cache: Path) -> Iterator[Path]:
    """Executables of the interpreters in the cache, newest version first."""
    homes: list[Path] = []
    for directory in (cache, cache / ".uv"):
        if directory.is_dir():
            # Names with a dot in front are work in progress, tools, logs and locks.
            homes += [home for home in directory.iterdir() if home.name[:1] != "." and home.is_dir()]
    for home in sorted(homes, key=_version_key, reverse=True):
        yield from sorted((home / "bin").glob("python3.[0-9]*t"))


def _version_key(home: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", home.name))


def cached_of_series(cache: Path, series: str) -> Interpreter | None:
    """The newest interpreter of a series in the cache that works."""
    for path in find_cached(cache):
        if f"/python{series}t" not in f"/{path.name}":
            continue
        verdict = verify(path, "cache")
        if isinstance(verdict, Interpreter) and verdict.series == series:
            return verdict
    return None


def verify_home(home: Path) -> Interpreter | Refusal:
    """Runs the interpreter of one installation."""
    executables = sorted((home / "bin").glob("python3.[0-9]*t"))
    if not executables:
        return Refusal(home, "has no bin/python3.*t", "cache")
    return verify(executables[0], "cache")


def log_path(cache: Path, name: str) -> Path:
    """Where the log of a version, or of a way to get one, is kept."""
    return cache / ".logs" / f"{name}.log"


@contextmanager
def series_lock(cache: Path, series: str, progress: Progress) -> Iterator[int]:
    """Holds the lock of a series; waits for a run that gets it. Yields the descriptor that holds it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".lock-{series}").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.step(f"waiting for another run that gets {series}t")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
