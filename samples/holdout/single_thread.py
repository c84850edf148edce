"""Healthy: a script with one thread. Nothing is lost to other threads where there are none."""

from __future__ import annotations

import os


def primes(limit: int) -> int:
    """The plain way."""
    found = 0
    for n in range(2, limit):
        if all(n % d for d in range(2, int(n**0.5) + 1)):
            found += 1
    return found


if __name__ == "__main__":
    print(f"ready {os.getpid()}", flush=True)
    while True:
        primes(3000)
