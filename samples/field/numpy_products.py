"""Products of matrices in threads of a pool, each of which OpenBLAS computes with threads of its own."""

from __future__ import annotations

import os
import sys

if "--fixed" in sys.argv:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from pool import pooled

from throughput import parse_options


def multiply(seed: int) -> float:
    """Eight products."""
    chance = np.random.default_rng(seed)
    first, second = chance.random((400, 400)), chance.random((400, 400))
    for _ in range(8):
        first = first @ second
        first /= first.max()
    return float(first[0, 0])


if __name__ == "__main__":
    pooled(multiply, parse_options(__doc__, fixed="one thread of OpenBLAS"), unit="products", of_job=8)
