"""Somebody left a profile function of their own in all threads."""

from __future__ import annotations

import collections
import os
import threading
from types import FrameType
from typing import Any

calls: collections.Counter[str] = collections.Counter()


def noted(frame: FrameType, event: str, argument: Any) -> None:
    """Counts calls by name."""
    if event == "call":
        calls[frame.f_code.co_name] += 1


def step(n: int) -> int:
    """Called a lot."""
    return n * n % 7


def compute() -> None:
    """For ever."""
    total = 0
    while True:
        for n in range(1000):
            total += step(n)


if __name__ == "__main__":
    threading.setprofile(noted)
    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
