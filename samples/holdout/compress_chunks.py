"""Healthy: a pool compresses chunks of half a megabyte."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor


def squeeze(number: int) -> int:
    """A chunk of this task's own."""
    chunk = bytes((n * number) & 255 for n in range(1000)) * 500
    return len(zlib.compress(chunk, 6))


if __name__ == "__main__":
    with ThreadPoolExecutor(max_workers=2) as pool:
        print(f"ready {os.getpid()}", flush=True)
        while True:
            total = sum(pool.map(squeeze, range(1, 200)))
