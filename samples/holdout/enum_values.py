"""States of an order as an Enum, written out by their value."""

from __future__ import annotations

import enum
import os
import threading


class State(enum.Enum):
    """Of an order."""

    NEW = "new"
    PAID = "paid"
    SENT = "sent"


def write() -> None:
    """The values, for ever."""
    letters = 0
    while True:
        for _ in range(500):
            letters += len(State.NEW.value) + len(State.PAID.value)


if __name__ == "__main__":
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
