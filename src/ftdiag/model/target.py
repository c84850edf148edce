"""The process that is looked at: its threads, frames of their stacks, and whose code a file is.

In: nothing. Out: frozen types.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final

from ftdiag.datatypes import dataclass


@dataclass(frozen=True, slots=True)
class Library:
    """A distribution that is installed for the target: what is at or below `prefix` is its code.

    `name` and `version` are those of its metadata.
    """

    prefix: str
    name: str
    version: str

    def has(self, filename: str) -> bool:
        """Whether a file is the library's."""
        return filename == self.prefix or filename.startswith(f"{self.prefix}/")


STANDARD_LIBRARY: Final = "standard library"
PROGRAM: Final = "program"
CACHED_FILES: Final = 4096
"""Files of which it is kept whether they are of the standard library: each frame of each look asks."""
NO_METADATA: Final = "a library without metadata"
_INSTALLED: Final = re.compile(r"/(?:site|dist)-packages/")
_STANDARD: Final = re.compile(
    r"/(?:lib|lib64)/python3\.[0-9]+t?/(?!(?:site|dist)-packages/)|/Lib/(?!site-packages/)"
)


@lru_cache(maxsize=CACHED_FILES)
def is_standard_library(filename: str) -> bool:
    """Whether a file is of Python's standard library."""
    return filename.startswith("<frozen ") or _STANDARD.search(filename) is not None


class HookKind(enum.StrEnum):
    """How a hook was set. The value is stored, and said."""

    PROFILE = "profile function"
    TRACE = "trace function"
    TOOL = "tool of sys.monitoring"


@dataclass(frozen=True, slots=True)
class TracingHook:
    """What runs for every call or line of the target.

    `name` is its function, or the type of an object in C, or the name of a tool of sys.monitoring; `filename`
    is empty where it is no Python function.
    """

    kind: HookKind
    name: str
    filename: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The process that is looked at.

    `start_ticks` is field 22 of /proc/PID/stat: with `pid` it identifies the process. `gil_enabled` is
    `None` where it could not be read. `python_version` is like "3.14.0" or "3.15.0a5". `gil_culprits` are
    the extension modules that ask for the GIL. `environment` has the variables that change how Python,
    its allocator or its libraries use threads, as "NAME=value", in the order of the process. `distribution`
    has the names of the target's Linux distribution and of those it is like ("ubuntu", "debian"), the nearest
    first; `machine` is the kernel's name of the processor ("x86_64"). `libraries` are those of which code was
    seen to run.
    """

    pid: int
    start_ticks: int
    executable: str
    command: str
    python_version: str
    free_threaded: bool
    gil_enabled: bool | None
    gil_culprits: tuple[str, ...] = ()
    capacity_cores: float | None = None
    capacity_reason: str | None = None
    capacity_quota: bool = False
    """Whether the capacity is the CPU quota of a control group."""
    environment: tuple[str, ...] = ()
    distribution: tuple[str, ...] = ()
    machine: str | None = None
    libraries: tuple[Library, ...] = ()
    gil_importers: tuple[tuple[str, ...], ...] = ()
    """For each of the culprits who imported it, the outermost first; empty where it is not known."""
    tracing: tuple[TracingHook, ...] | None = None
    """Profile and trace functions that were set at any time; `None` where nobody looked."""

    def library_of(self, filename: str) -> Library | None:
        """The library that a file belongs to; the one that says it most closely."""
        having = (library for library in self.libraries if library.has(filename))
        return max(having, key=lambda library: len(library.prefix), default=None)

    def whose(self, filename: str) -> str:
        """Whose code a file is: "program", "standard library", "SQLAlchemy 2.0", or that nobody says so."""
        library = self.library_of(filename)
        if library is not None:
            return f"{library.name} {library.version}"
        if is_standard_library(filename):
            return STANDARD_LIBRARY
        return NO_METADATA if _INSTALLED.search(filename) else PROGRAM


@dataclass(frozen=True, slots=True)
class Frame:
    """One Python frame: file, function (qualified name) and line. `line` is `None` where unknown."""

    filename: str
    function: str
    line: int | None


Stack = tuple[Frame, ...]
"""Frames of a thread, leaf (the innermost call) first."""


@dataclass(frozen=True, slots=True)
class ThreadInfo:
    """A thread of the target.

    `index` is its number in the recording (a tid can be reused, an index cannot). `name` is the Python
    name where there is one, else the OS name. `python` is false for threads that the interpreter does
    not know. `started_ns`/`ended_ns` are on the recording's clock; `None` when not seen.
    """

    index: int
    tid: int
    name: str
    python: bool
    main: bool = False
    interpreter: int = 0
    started_ns: int | None = None
    ended_ns: int | None = None
