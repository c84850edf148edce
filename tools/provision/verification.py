"""Whether a file is a free-threaded interpreter that works.

In: the path of an executable. Out: an `Interpreter`, or a `Refusal` with the reason. Nothing is believed
from names or from an earlier run: the interpreter is started each time it is found (about 50 ms).
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROBE_TIMEOUT_S: Final = 120.0
RUNTIME_SECTION: Final = ".PyRuntime"
"""The ELF section that holds the runtime's state; a profiler finds everything else from there."""

_PROBE: Final = """
import json, sys, sysconfig
import threading, ctypes, asyncio
seen = []
worker = threading.Thread(target=seen.append, args=(1,))
worker.start()
worker.join()
mapped = set()
try:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and "libpython" in fields[5]:
                mapped.add(fields[5].strip())
except OSError:
    pass
is_gil_enabled = getattr(sys, "_is_gil_enabled", None)
print(json.dumps({
    "version": sys.version.split()[0].rstrip("+"),
    "implementation": sys.implementation.name,
    "executable": sys.executable,
    "prefix": sys.prefix,
    "gil_disabled_build": sysconfig.get_config_var("Py_GIL_DISABLED") == 1,
    "gil_enabled": True if is_gil_enabled is None else is_gil_enabled(),
    "libraries": sorted(mapped),
    "threads_run": seen == [1],
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A free-threaded interpreter that was run. `origin` says where it was found."""

    path: Path
    version: str
    prefix: str
    origin: str

    @property
    def series(self) -> str:
        """Like "3.15"."""
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a path is not used. `free_threaded` is None where that could not be found out."""

    path: Path
    reason: str
    origin: str
    version: str | None = None
    free_threaded: bool | None = None


def probe_environment() -> dict[str, str]:
    """The caller's environment without what changes an interpreter's ways (PYTHONHOME, PYTHON_GIL ...)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept.pop("__PYVENV_LAUNCHER__", None)
    return kept


def verify(path: Path, origin: str) -> Interpreter | Refusal:
    """Runs `path` and says what it is."""

    def refused(reason: str) -> Refusal:
        return Refusal(path, reason, origin)

    if not os.path.isfile(path):
        return refused("no such file")
    if not os.access(path, os.X_OK):
        return refused("not executable")
    try:
        run = subprocess.run(
            [os.fspath(path), "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            env=probe_environment(),
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return refused(f"did not answer within {PROBE_TIMEOUT_S:.0f} s")
    except OSError as error:
        return refused(f"cannot be run: {error.strerror or error}")
    if run.returncode != 0:
        last = run.stderr.strip().rpartition("\n")[2] or f"exit status {run.returncode}"
        return refused(f"is broken: {last[:200]}")
    try:
        facts: dict[str, Any] = json.loads(run.stdout.strip().rpartition("\n")[2])
        return _judge(path, origin, facts)
    except (ValueError, KeyError, TypeError):
        return refused("did not answer like a Python interpreter")


def _judge(path: Path, origin: str, facts: dict[str, Any]) -> Interpreter | Refusal:
    version = str(facts["version"])

    def refused(reason: str, free_threaded: bool = True) -> Refusal:
        return Refusal(path, reason, origin, version, free_threaded)

    if facts["implementation"] != "cpython":
        return refused(f"is {facts['implementation']}, not CPython", False)
    if not facts["gil_disabled_build"]:
        return refused("is not a free-threaded build (Py_GIL_DISABLED is not 1)", False)
    if facts["gil_enabled"]:
        return refused("is a free-threaded build, but its GIL is on")
    if not facts["threads_run"]:
        return refused("does not run threads")
    executable = Path(str(facts["executable"]) or path)
    images = [executable, *(Path(str(library)) for library in facts["libraries"])]
    if not any(has_section(image, RUNTIME_SECTION) for image in images):
        return refused(f"has no {RUNTIME_SECTION} section: it cannot be inspected from outside")
    return Interpreter(executable, version, str(facts["prefix"]), origin)


def has_section(image: Path, name: str) -> bool:
    """Whether a 64-bit little-endian ELF file has the named section."""
    try:
        with image.open("rb") as file:
            header = file.read(64)
            if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
                return False
            table_offset = struct.unpack_from("<Q", header, 0x28)[0]
            entry_size, entries, names_index = struct.unpack_from("<HHH", header, 0x3A)
            if entry_size != 64 or names_index >= entries:
                return False
            file.seek(table_offset)
            table = file.read(64 * entries)
            if len(table) < 64 * entries:
                return False
            names_offset, names_size = struct.unpack_from("<QQ", table, 64 * names_index + 0x18)
            file.seek(names_offset)
            names = file.read(min(names_size, 1 << 20))
    except OSError:
        return False
    wanted = name.encode() + b"\0"
    starts = (struct.unpack_from("<I", table, 64 * i)[0] for i in range(entries))
    return any(names[start : start + len(wanted)] == wanted for start in starts)
