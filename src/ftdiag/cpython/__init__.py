"""Facts about each version of CPython that ftdiag reads: data, no behaviour.

In: a (major, minor) version. Out: its table. A new version is a module more, which
`python3 -m tools.cpython_facts make` writes from headers and an interpreter, and a row in `by_hand`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.cpython import v3_13, v3_14, v3_15
from ftdiag.cpython.facts import Facts

FACTS: Final[Mapping[tuple[int, int], Facts]] = {
    module.FACTS.version: module.FACTS for module in (v3_13, v3_14, v3_15)
}
