"""Slices without a tick: filled where ticks are just not in step with them, and not where nobody looked."""

from __future__ import annotations

import numpy as np

from ftdiag.analysis.holes import MAX_HOLE, fill_holes, longest_hole


def test_holes_between_ticks_are_filled_and_pauses_are_not() -> None:
    # GIVEN lanes with a hole of a slice, one of two, a longer one, and a beginning and an end without a state
    table = np.array([[0, 1, 0, 2, 0, 0, 3, 0, 0, 0, 1, 0]], dtype=np.uint8)
    # WHEN filled THEN the short ones have what was before them, and the others stay
    fill_holes(table, 2)
    assert table.tolist() == [[0, 1, 1, 2, 2, 2, 3, 0, 0, 0, 1, 0]]


def test_slices_longer_than_the_time_between_ticks_have_no_holes() -> None:
    ticks = np.arange(0, 1_000_000_000, 10_000_000, dtype=np.int64)
    assert longest_hole(ticks, 10_000_000.0) == MAX_HOLE
    assert longest_hole(ticks, 15_000_000.0) == 1
    assert longest_hole(ticks, 50_000_000.0) == 0
    assert longest_hole(ticks[:1], 1.0) == 0
