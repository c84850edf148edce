"""A class keeps totals of all its instances in class attributes."""

from __future__ import annotations

import os
import threading


class Transfer:
    """Counted as it is made."""

    made = 0
    amount = 0

    def __init__(self, amount: int) -> None:
        self.value = amount
        Transfer.made += 1
        Transfer.amount += amount


def transfers() -> None:
    """One after the other."""
    while True:
        for amount in range(200):
            Transfer(amount)


if __name__ == "__main__":
    threads = [threading.Thread(target=transfers) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
