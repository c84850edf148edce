"""A function under functools.lru_cache, whose entries are always there."""

from __future__ import annotations

import functools
import os
import threading


@functools.lru_cache(maxsize=256)
def region(code: int) -> str:
    """Slow once."""
    return "north" if code % 2 else "south"


def route() -> None:
    """Asks the cache."""
    north = 0
    while True:
        for code in range(100):
            north += region(code) == "north"


if __name__ == "__main__":
    threads = [threading.Thread(target=route) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
