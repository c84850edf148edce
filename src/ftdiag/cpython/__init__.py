"""Facts about each version of CPython that ftdiag reads: data, no behaviour.

In: a (major, minor) version. Out: its table. A new version is a module more, which
`python3 -m tools.cpython_facts make` writes from headers and an interpreter, and an entry in `by_hand`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from ftdiag.cpython.by_hand import BY_HAND
from ftdiag.cpython.facts import Facts

FACTS: Final[Mapping[tuple[int, int], Facts]] = {
    (major, minor): import_module(f"{__name__}.v{major}_{minor}").FACTS for major, minor in BY_HAND
}
"""By version: each has a module, and an entry in `by_hand`."""
