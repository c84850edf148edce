"""Workers take numbers from the left of one deque and put follow-ups to the right."""

from __future__ import annotations

import collections
import os
import threading

todo: collections.deque[int] = collections.deque(range(1000))


def work() -> None:
    """Small steps."""
    while True:
        try:
            number = todo.popleft()
        except IndexError:
            continue
        todo.append((number * 7 + 1) % 5003)


if __name__ == "__main__":
    threads = [threading.Thread(target=work, name=f"w{n}") for n in range(3)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
