"""Threads share a cache of a library that locks inside."""

from __future__ import annotations

import os
import threading

from tinycache import LRU

CACHE = LRU(512)


def answer(first: int) -> None:
    """Looks up names and keeps what was missing."""
    names = [f"user-{first + n}" for n in range(600)]
    while True:
        for name in names:
            if CACHE.get(name) is None:
                CACHE.put(name, len(name))


if __name__ == "__main__":
    workers = [threading.Thread(target=answer, args=(n * 300,)) for n in range(3)]
    for worker in workers:
        worker.start()
    print(f"ready {os.getpid()}", flush=True)
    workers[0].join()
