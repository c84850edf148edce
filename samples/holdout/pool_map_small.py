"""executor.map over single numbers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


def square(number: int) -> int:
    """Next to nothing."""
    return number * number


if __name__ == "__main__":
    with ThreadPoolExecutor(max_workers=2) as pool:
        print(f"ready {os.getpid()}", flush=True)
        while True:
            total = sum(pool.map(square, range(1000)))
