"""One thread forks a child for each job while others compute."""

from __future__ import annotations

import os
import threading


def forks() -> None:
    """A child that ends at once."""
    while True:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


def compute() -> None:
    """Arithmetic."""
    total = 0
    while True:
        for n in range(1000):
            total += n * n % 7


if __name__ == "__main__":
    threads = [threading.Thread(target=compute, name=f"compute-{n}") for n in range(2)]
    threads += [threading.Thread(target=forks, name="forker")]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
