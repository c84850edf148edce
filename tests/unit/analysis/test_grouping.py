"""Grouping of columns, and the largest of each group."""

from __future__ import annotations

import numpy as np
import pytest

from ftdiag.analysis.grouping import group_by, largest_of_each


@pytest.mark.parametrize("largest_key", [7, 2**40, 2**61])
def test_groups_come_in_order_and_their_rows_too(largest_key: int) -> None:
    # GIVEN keys that repeat, some too large to be packed with a row's number
    chance = np.random.default_rng(1)
    keys = chance.choice(chance.integers(0, largest_key, 20), 500)
    keys[0] = largest_key

    groups = group_by(keys)

    # THEN rows are sorted by key, those with the same key as they came
    assert groups.order.tolist() == np.argsort(keys, kind="stable").tolist()
    assert groups.key(keys).tolist() == sorted(set(keys.tolist()))
    ones = np.ones(len(keys))
    assert groups.total(ones).tolist() == [keys.tolist().count(key) for key in groups.key(keys).tolist()]


def test_no_rows() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert len(group_by(none, none)) == 0
    assert len(largest_of_each(none, none.astype(np.float64), 3)) == 0


def test_the_largest_of_each() -> None:
    owner = np.array([4, 4, 4, 4, 9, 1, 1])
    value = np.array([1.0, 3.0, 3.0, 2.0, 5.0, 0.0, 7.0])

    # THEN owners ascend, their largest come first, and equal ones keep their order
    assert largest_of_each(owner, value, 2).tolist() == [6, 5, 1, 2, 4]
