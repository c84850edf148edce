"""A connection pool of one: a semaphore around every use."""

from __future__ import annotations

import os
import threading

gate = threading.BoundedSemaphore(1)


def query(number: int) -> int:
    """What needs the connection."""
    with gate:
        return sum(range(number % 64))


def client() -> None:
    """Asks for ever."""
    number = 0
    while True:
        number += query(number) % 7 + 1


if __name__ == "__main__":
    clients = [threading.Thread(target=client, name=f"client {n}") for n in range(4)]
    for each in clients:
        each.start()
    print(f"ready {os.getpid()}", flush=True)
    clients[0].join()
