"""Free-threaded interpreters at hand, for a demo.

In: FTDIAG_PYTHONS, PATH, where uv, pyenv and this project's provisioning keep theirs. Out: the first that
really is free-threaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ftdiag.opening import is_ours_alone

SERIES: Final = ("3.13", "3.14", "3.15")
NAMED_VARIABLE: Final = "FTDIAG_PYTHONS"
ASK_TIMEOUT_S: Final = 20.0
HOW_TO_GET_ONE: Final = (
    "uv python install 3.14t   installs one; then again: ftdiag demo --live\n"
    f"{NAMED_VARIABLE}=/path/to/python3.14t ftdiag demo --live   takes yours\n"
    "ftdiag demo   needs none: it shows a recording"
)
# The build alone does not say it: PYTHON_GIL=1 or an extension may have turned the GIL on.
_QUESTION: Final = "import sysconfig; print(sysconfig.get_config_var('Py_GIL_DISABLED'))"


def free_threaded_interpreter(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The first free-threaded interpreter there is."""
    seen: set[str] = set()
    for candidate in candidates(environment):
        real = os.path.realpath(candidate)
        if real not in seen and os.access(candidate, os.X_OK) and is_free_threaded(candidate):
            return candidate
        seen.add(real)
    return None


def candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    """Where one may be, the places that were named first."""
    for name in environment.get(NAMED_VARIABLE, "").split(os.pathsep):
        if name:
            yield Path(name)
    for series in reversed(SERIES):
        found = shutil.which(f"python{series}t", path=environment.get("PATH"))
        if found:
            yield Path(found)
    home = Path(environment.get("HOME") or "/nonexistent")
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    for directory, pattern in (
        (data / "uv" / "python", "cpython-3.*freethreaded*/bin/python3.*t"),
        (home / ".pyenv" / "versions", "3.*t/bin/python3.*t"),
        (cache / "ftdiag" / "pythons", "*/bin/python3.*t"),
    ):
        # Under sudo these may be somebody else's, who would have root run what is there.
        if os.geteuid() != 0 or is_ours_alone(directory):
            yield from sorted(directory.glob(pattern), reverse=True)


def is_free_threaded(python: Path) -> bool:
    """Ask it."""
    return ask(python, _QUESTION) == "1"


def ask(python: str | Path, question: str) -> str | None:
    """What an interpreter prints for a line of code, alone; `None` where it does not run or says nothing."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        answer = subprocess.run(
            [python, "-I", "-c", question],
            capture_output=True,
            text=True,
            timeout=ASK_TIMEOUT_S,
            env=clean,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
