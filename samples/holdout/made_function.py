"""A validator is made once by a factory and called by all threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


def between(low: int, high: int) -> Callable[[int], bool]:
    """A function that knows its bounds."""

    def valid(value: int) -> bool:
        return low <= value <= high

    return valid


is_port = between(1, 65535)


def scan(first: int) -> None:
    """Counts the valid ones."""
    found = 0
    while True:
        for value in range(first, first + 200):
            if is_port(value):
                found += 1


if __name__ == "__main__":
    threads = [threading.Thread(target=scan, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
