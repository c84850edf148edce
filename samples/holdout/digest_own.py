"""Healthy: hashes of big buffers, one for each thread."""

from __future__ import annotations

import hashlib
import os
import threading


def digest() -> None:
    """Again and again."""
    buffer = bytearray(1 << 20)
    first = 0
    while True:
        buffer[first & 1023] = first & 255
        first += 1
        hashlib.sha256(buffer).hexdigest()


if __name__ == "__main__":
    threads = [threading.Thread(target=digest) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
