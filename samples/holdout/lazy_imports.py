"""Functions that import what they need when they are called, several modules deep."""

from __future__ import annotations

import os
import threading


def decode(value: int) -> int:
    """Late imports, as they are written to break cycles between modules."""
    import math
    import operator
    from os import path

    return operator.add(math.isqrt(value), len(path.sep))


def decoder() -> None:
    """For ever."""
    total = 0
    while True:
        for value in range(200):
            total += decode(value)


if __name__ == "__main__":
    threads = [threading.Thread(target=decoder) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
