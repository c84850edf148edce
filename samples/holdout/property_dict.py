"""Sessions live in a dictionary behind a property; every request writes into it."""

from __future__ import annotations

import os
import threading


class Server:
    """Has the sessions."""

    def __init__(self) -> None:
        self._sessions: dict[int, int] = {}

    @property
    def sessions(self) -> dict[int, int]:
        """By number."""
        return self._sessions


def visitors(server: Server, first: int) -> None:
    """Each visit is noted."""
    while True:
        for visitor in range(first, first + 500):
            server.sessions[visitor] = first


if __name__ == "__main__":
    shop = Server()
    threads = [threading.Thread(target=visitors, args=(shop, n * 400), name=f"web-{n}") for n in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
