"""Each frame is a new bytearray of 8 MB that is filled and thrown away."""

from __future__ import annotations

import os
import threading


def frames() -> None:
    """One after the other."""
    colour = 0
    while True:
        frame = bytearray(8 << 20)
        colour = (colour + 1) & 255
        frame[:] = bytes([colour]) * len(frame)


if __name__ == "__main__":
    threads = [threading.Thread(target=frames) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
