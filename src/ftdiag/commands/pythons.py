"""Interpreters by the names that people say: "3.14t", "3.14", "python3.15t", a path.

In: names. Out: for each the path and what it is; UsageError that lists what there is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from ftdiag.commands.interpreters import ask
from ftdiag.datatypes import dataclass
from ftdiag.errors import UsageError
from ftdiag.opening import is_ours_alone

MOST: Final = 32
_QUESTION: Final = (
    "import platform, sysconfig; print(platform.python_version(),"
    " 'free-threaded' if sysconfig.get_config_var('Py_GIL_DISABLED') else 'with GIL')"
)


@dataclass(frozen=True, slots=True)
class NamedPython:
    """An interpreter. `version` is like "3.14.1 free-threaded"."""

    name: str
    path: str
    version: str


def named_pythons(names: str, environment: Mapping[str, str] = os.environ) -> tuple[NamedPython, ...]:
    """ "3.13t,3.14" as interpreters. Raises UsageError for one that is not there or does not run."""
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted or len(wanted) > MOST:
        raise UsageError(
            f"--pythons {names!r} names {len(wanted)} interpreters; it takes 1 to {MOST}",
            "--pythons 3.13t,3.14t,3.15t,3.14   is the form; paths are taken, too",
        )
    found = [_found(name, environment) for name in wanted]
    short = [_short(python) for python in found]
    return tuple(
        NamedPython(name, python.path, python.version) if short.count(name) == 1 else python
        for name, python in zip(short, found, strict=True)
    )


def _short(python: NamedPython) -> str:
    """What a path is called in tables: "3.14.1t"."""
    if "/" not in python.name:
        return python.name
    number, _, build = python.version.partition(" ")
    return f"{number}t" if build == "free-threaded" else number


def _found(name: str, environment: Mapping[str, str]) -> NamedPython:
    for path in _candidates(name, environment):
        version = ask(path, _QUESTION)
        if version is not None and _fits(name, version):
            return NamedPython(name, path, version)
    raise UsageError(
        f"there is no interpreter {name!r} that runs",
        f"uv python install {name.removeprefix('python')}   installs one;"
        " --pythons /path/to/python   takes any",
    )


def _candidates(name: str, environment: Mapping[str, str]) -> Iterator[str]:
    if "/" in name:
        yield os.path.abspath(name)
        return
    short = name.removeprefix("python")
    for program in (name, f"python{short}"):
        found = shutil.which(program, path=environment.get("PATH"))
        if found:
            yield found
    home = Path(environment.get("HOME") or "/nonexistent")
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    series, free = short.removesuffix("t"), short.endswith("t")
    for directory, pattern in (
        (data / "uv" / "python", f"cpython-{series}*{'freethreaded*' if free else ''}/bin/python{short}"),
        (home / ".pyenv" / "versions", f"{series}*/bin/python{short}"),
        (cache / "ftdiag" / "pythons", f"{series}*/bin/python{series}*"),
    ):
        # Under sudo these may be somebody else's, who would have root run what is there.
        if series and (os.geteuid() != 0 or is_ours_alone(directory)):
            yield from map(str, sorted(directory.glob(pattern), reverse=True))


def _fits(name: str, version: str) -> bool:
    """Whether "3.14t" is what was found: a `python3.14` may be a link to anything."""
    if "/" in name:
        return True
    short = name.removeprefix("python")
    series = short.removesuffix("t")
    if not series or not series[0].isdigit():
        return True
    is_free = version.endswith("free-threaded")
    return f"{version.split(maxsplit=1)[0]}.".startswith(f"{series}.") and is_free == short.endswith("t")


def interpreters_of(pythons: Sequence[NamedPython]) -> tuple[dict[str, str], dict[str, str]]:
    """Paths and versions by name."""
    return {each.name: each.path for each in pythons}, {each.name: each.version for each in pythons}
