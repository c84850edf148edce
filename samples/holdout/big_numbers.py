"""Healthy: powers of big numbers, each thread its own."""

from __future__ import annotations

import os
import threading


def power(base: int) -> None:
    """Modular powers with numbers of 1,000 bits."""
    modulus = (1 << 1000) - 105
    value = base
    while True:
        value = pow(value + 1, 65537, modulus)


if __name__ == "__main__":
    threads = [threading.Thread(target=power, args=(n + 3,)) for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
