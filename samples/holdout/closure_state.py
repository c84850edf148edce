"""The threads' target is a nested function that reads a list of the function around it."""

from __future__ import annotations

import os
import threading


def start(number: int) -> list[threading.Thread]:
    """Threads that share `weights` through their closure."""
    weights = [float(n) for n in range(64)]

    def score() -> None:
        total = 0.0
        while True:
            for n in range(64):
                total = total * 0.5 + weights[n]

    threads = [threading.Thread(target=score, name=f"score-{n}") for n in range(number)]
    for thread in threads:
        thread.start()
    return threads


if __name__ == "__main__":
    started = start(2)
    print(f"ready {os.getpid()}", flush=True)
    started[0].join()
