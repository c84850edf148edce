"""Interpreters with the GIL on this machine: what ftdiag and py-spy are compared on.

In: the interpreter that runs the tests, PATH, pyenv. Out: paths, each of an interpreter that was run.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

NAMES = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")
QUESTION = (
    "import json, sys, sysconfig;"
    "print(json.dumps([sys.version_info[:3], sys.implementation.name,"
    " bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
)


@dataclass(frozen=True)
class GilPython:
    """An interpreter with the GIL."""

    path: str
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        """Like "3.13.0"."""
        return ".".join(map(str, self.version))


@functools.cache
def gil_pythons() -> tuple[GilPython, ...]:
    """One of each minor version, the one that runs the tests before others."""
    found: dict[tuple[int, ...], GilPython] = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, *(path for name in NAMES if (path := shutil.which(name)) is not None)]
    candidates += [str(path) for path in sorted(pyenv.glob("*/bin/python3"))]
    for path in candidates:
        try:
            ran = subprocess.run([path, "-c", QUESTION], capture_output=True, timeout=120, check=True)
            version, kind, free_threaded = json.loads(ran.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
        if kind == "cpython" and not free_threaded and version[0] == 3:
            found.setdefault(tuple(version[:2]), GilPython(path, tuple(version)))
    return tuple(found.values())


def readable_by_us() -> tuple[GilPython, ...]:
    """Those that ftdiag reads itself."""
    return tuple(python for python in gil_pythons() if python.version >= (3, 13))
