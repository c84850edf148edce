"""Words of lines counted with Counter.update into one Counter."""

from __future__ import annotations

import collections
import os
import threading

WORDS: collections.Counter[str] = collections.Counter()
TEXT = "the quick brown fox jumps over the lazy dog and runs away from the other fox"


def count() -> None:
    """Line by line."""
    words = [str(word) for word in TEXT.split()]
    while True:
        WORDS.update(words)


if __name__ == "__main__":
    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
