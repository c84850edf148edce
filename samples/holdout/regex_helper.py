"""A helper cleans text with re.sub and pattern strings."""

from __future__ import annotations

import os
import re
import threading


def slug(title: str) -> str:
    """A title for a link."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower())


def publish(number: int) -> None:
    """Many short titles."""
    title = f"Entry No {number}"
    length = 0
    while True:
        length += len(slug(title))


if __name__ == "__main__":
    threads = [threading.Thread(target=publish, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
