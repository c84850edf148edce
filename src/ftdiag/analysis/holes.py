"""Slices of time into which no tick fell although none was missed: a lane shows what was there before them.

In: times of ticks, states by thread and slice. Out: the same states, without such holes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ftdiag.analysis.grouping import Ints

MAX_HOLE: Final = 2
"""Slices in a row that are filled; what is longer is a pause of the sampler, or of the thread."""

States = npt.NDArray[np.uint8]


def longest_hole(tick_ns: Ints, slice_ns: float) -> int:
    """How many slices in a row can be without a tick where none was missed: their pace is not steady."""
    if len(tick_ns) < 2:
        return 0
    apart = float(np.median(np.diff(tick_ns)))
    return min(MAX_HOLE, int(2 * apart / max(1.0, slice_ns)))


def fill_holes(table: States, longest: int) -> None:
    """Fill holes of up to so many cells between cells of a row that have a state (0: none), in place."""
    slices = table.shape[1]
    place = np.arange(slices)
    before = np.maximum.accumulate(np.where(table > 0, place, -1), axis=1)
    after = np.minimum.accumulate(np.where(table > 0, place, slices)[:, ::-1], axis=1)[:, ::-1]
    hole = (table == 0) & (before >= 0) & (after < slices) & (after - before - 1 <= longest)
    line, cell = np.nonzero(hole)
    table[line, cell] = table[line, before[line, cell]]
