"""Fields of a row are read with getattr and names put together at run time."""

from __future__ import annotations

import os
import threading


class Row:
    """Five columns."""

    def __init__(self, base: int) -> None:
        for column in range(5):
            setattr(self, f"column_{column}", base + column)


def total(rows: list[Row]) -> int:
    """Over all columns."""
    found = 0
    for row in rows:
        for column in range(5):
            found += getattr(row, f"column_{column}")
    return found


def report() -> None:
    """Of rows that are this thread's own."""
    rows = [Row(n) for n in range(50)]
    while True:
        total(rows)


if __name__ == "__main__":
    threads = [threading.Thread(target=report) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
