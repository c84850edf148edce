"""A functools.partial and a BytesIO are made for every message."""

from __future__ import annotations

import functools
import io
import os
import threading


def messages() -> None:
    """Small ones."""
    size = 0
    while True:
        for number in range(200):
            encode = functools.partial(int.to_bytes, number, 4)
            body = io.BytesIO()
            body.write(encode("big"))
            size += body.tell()


if __name__ == "__main__":
    threads = [threading.Thread(target=messages) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
