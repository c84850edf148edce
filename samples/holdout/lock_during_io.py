"""A journal is written and flushed to the disk under the lock that all requests take."""

from __future__ import annotations

import os
import tempfile
import threading
import time

journal_lock = threading.Lock()


class Journal:
    """Appends lines."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def append(self, line: bytes) -> None:
        """Durable when it returns; the sleep stands for the disk."""
        journal_lock.acquire()
        try:
            self.file.write(line)
            self.file.flush()
            time.sleep(0.002)
        finally:
            journal_lock.release()


def requests(journal: Journal, number: int) -> None:
    """Some work, then a line."""
    line = b"request %d\n" % number
    while True:
        total = 0
        for step in range(4000):
            total += step % 13
        journal.append(line)


if __name__ == "__main__":
    shared = Journal()
    threads = [threading.Thread(target=requests, args=(shared, n)) for n in range(6)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
