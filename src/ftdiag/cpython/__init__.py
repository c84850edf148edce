"""Facts about each version of CPython that ftdiag reads: data, no behaviour.

In: a (major, minor) version. Out: its table. A new version is a module more, which
`python3 -m tools.cpython_facts make` writes from headers and an interpreter, and an entry in `by_hand`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Final, TypeVar

from ftdiag.cpython.by_hand import BY_HAND
from ftdiag.cpython.facts import Facts

Version = tuple[int, int]
_Made = TypeVar("_Made")


class ByVersion(Mapping[Version, _Made]):
    """What there is of each version, made when it is first asked for: a look is at one of them."""

    def __init__(self, make: Callable[[Version], _Made]) -> None:
        self._make = make
        self._made: dict[Version, _Made] = {}

    def __getitem__(self, version: Version) -> _Made:
        """Raises KeyError for a version of which nothing is known."""
        if version not in self._made:
            if version not in BY_HAND:
                raise KeyError(version)
            self._made[version] = self._make(version)
        return self._made[version]

    def __iter__(self) -> Iterator[Version]:
        return iter(BY_HAND)

    def __len__(self) -> int:
        return len(BY_HAND)


def _facts(version: Version) -> Facts:
    facts: Facts = import_module(f"{__name__}.v{version[0]}_{version[1]}").FACTS
    return facts


FACTS: Final[Mapping[Version, Facts]] = ByVersion(_facts)
"""By version: each has a module, and an entry in `by_hand`."""
