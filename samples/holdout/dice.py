"""A simulation that throws dice with the functions of the random module."""

from __future__ import annotations

import os
import random
import threading


def throws() -> None:
    """Two dice, for ever."""
    sixes = 0
    while True:
        for _ in range(1000):
            sixes += random.randint(1, 6) + random.randint(1, 6) == 12


if __name__ == "__main__":
    threads = [threading.Thread(target=throws) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
