"""Facts that installed headers do not hold, checked by hand, with what they were tried on.

In: nothing. Out: (major, minor) -> `ByHand`. A version that is added is tried on a real interpreter first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.cpython.facts import ByHand

BY_HAND: Final[Mapping[tuple[int, int], ByHand]] = {
    (3, 13): ByHand(
        verified_on=("3.13.0", "3.13.5t"),
        with_keeps_exit_method=True,
        rlock_is_semaphore=True,
        defers_global_loads=False,
    ),
    (3, 14): ByHand(
        verified_on=("3.14.0t", "3.14.9t"),
        with_keeps_exit_method=False,
        rlock_is_semaphore=False,
        defers_global_loads=False,
    ),
    (3, 15): ByHand(
        verified_on=("3.15.1t",),
        with_keeps_exit_method=False,
        rlock_is_semaphore=False,
        defers_global_loads=True,
    ),
}
