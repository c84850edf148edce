"""Functions of large arrays, in parts: NumPy computes them without the interpreter."""

from __future__ import annotations

import numpy as np
from pool import pooled

from throughput import parse_options

DATA = np.random.default_rng(1).random(8_000_000)
PART = 2_000_000


def compute(number: int) -> float:
    """One part."""
    part = DATA[number % 4 * PART : (number % 4 + 1) * PART]
    return float(np.sqrt(np.exp(part) * 2 + np.sin(part) ** 2).mean())


if __name__ == "__main__":
    pooled(compute, parse_options(__doc__), unit="parts")
