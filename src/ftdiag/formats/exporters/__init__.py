"""What a recording is written as for other tools: which exporter writes which format.

In: the name of a format, what there is of a range (`Material`). Out: the bytes of a file, and notes for
people. Each exporter is a module of its own with NAME, ENDING, NEEDS, EXTRA and `write`; a new one is such a
module and its line in MODULES. Modules are imported only when their format is asked for.
"""

from __future__ import annotations

import importlib
from enum import Enum
from typing import IO, TYPE_CHECKING, Final, Protocol, cast

from ftdiag.errors import UsageError

if TYPE_CHECKING:
    from ftdiag.formats.exporters.material import Material


class Needs(Enum):
    """What of a range an exporter needs."""

    SNAPSHOT = "snapshot"
    """Sums and findings: its size does not grow with the recording."""
    RANGE = "range"
    """What happened one after the other."""


class Exporter(Protocol):
    """A module that writes one format."""

    NAME: str
    """What --to takes."""
    ENDING: str
    """Of the file's name, with its dot."""
    NEEDS: Needs
    EXTRA: str | None
    """The extra of ftdiag that brings the library it needs; `None` where ftdiag has all."""

    def write(self, material: Material, out: IO[bytes]) -> tuple[str, ...]:
        """Write the file; notes about what is in it that a reader should know. Raises FtdiagError."""


MODULES: Final[dict[str, str]] = {
    "pprof": "for `go tool pprof`, Pyroscope, Parca and others",
    "firefox": "for the Firefox Profiler (profiler.firefox.com)",
    "speedscope": "for speedscope.app",
    "chrome": "trace events for ui.perfetto.dev and chrome://tracing",
    "collapsed": "stacks by thread, state and lock for flame graphs",
    "markdown": "for a ticket",
    "parquet": "samples for data frames",
    "otlp": "OpenTelemetry profiles (experimental: the format still changes)",
}
"""Format -> what it is for; each is the module of that name here. `--to` offers them in this order."""
EXPERIMENTAL: Final = frozenset({"otlp"})
"""Formats that are still being changed by those who define them."""


def exporter_of(name: str) -> Exporter:
    """The exporter of a format. Raises UsageError: there is none, or its library is not installed."""
    if name not in MODULES:
        raise UsageError(f"there is no format {name!r}", f"--to takes one of {', '.join(MODULES)}")
    return cast(Exporter, importlib.import_module(f"{__name__}.{name}"))
