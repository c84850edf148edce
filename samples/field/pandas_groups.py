"""Tables grouped and summed with pandas, which changes the filters of warnings at many places."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pool import pooled

from throughput import parse_options

ROWS = 200_000
chance = np.random.default_rng(1)
TABLE = pd.DataFrame(
    {
        "key": chance.integers(0, 500, ROWS),
        "kind": chance.choice(["a", "b", "c", "d"], ROWS),
        "x": chance.random(ROWS),
        "y": chance.random(ROWS),
    }
)
PARTS = [part.reset_index(drop=True) for _, part in TABLE.groupby(TABLE.index // 20_000)]


def summarise(number: int) -> object:
    """One part of the table."""
    part = PARTS[number % len(PARTS)]
    sums = part.groupby(["key", "kind"]).agg({"x": "mean", "y": ["sum", "max"]})
    sums["z"] = sums[("x", "mean")] * 2
    return sums.sort_values(("x", "mean")).head(10)


if __name__ == "__main__":
    pooled(summarise, parse_options(__doc__), unit="tables")
