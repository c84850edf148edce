"""Releases of libraries that are free of a cause which their earlier ones had.

In: a library as a target has it installed. Out: a remedy that names the release. Each row has its source; a
library without a row may be fixed, too: nothing is known of it.
"""

from __future__ import annotations

import re
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Remedy
from ftdiag.wording.places import short

GIL: Final = "gil"
"""The cause: a module of the library asks for the GIL."""


@dataclass(frozen=True, slots=True)
class Fix:
    """From `since` on a library is free of a cause; `source` is where that is written."""

    library: str
    cause: str
    since: str
    source: str


FIXES: Final[tuple[Fix, ...]] = (
    # Issue sqlalchemy/sqlalchemy#13592: the 2.1 series declares its modules, 2.0.x does not.
    Fix("sqlalchemy", GIL, "2.1", "sqlalchemy/sqlalchemy#13592"),
    # Pull request lxml/lxml#477; tried: 7.0.0b1 leaves the GIL off on 3.14t.
    Fix("lxml", GIL, "7.0.0b1", "lxml/lxml#477"),
)


def known_fix(library: str, version: str, cause: str) -> Remedy | None:
    """The remedy where a later release than this is known to be free of the cause."""
    for fix in FIXES:
        if _same(fix.library, library) and fix.cause == cause and _numbers(version) < _numbers(fix.since):
            return Remedy(
                f"upgrade {short(library)} to {fix.since} or later, which is free of this ({fix.source})",
                f"pip install --upgrade '{short(library)}>={fix.since}'",
            )
    return None


def _same(one: str, other: str) -> bool:
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 0, 53) for "2.0.53"; of "7.0.0b1" what stands before the first letter."""
    found = re.match(r"\d{1,9}(?:\.\d{1,9}){0,8}", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
