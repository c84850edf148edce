"""A thread that waits for a lock which its owner keeps while it waits for an answer that never comes."""

from __future__ import annotations

import socket
import threading
import time

from throughput import Body, Tally, parse_options, run


class Connection:
    """One connection for all, with a lock around a read that has no timeout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers, self._server = socket.socketpair()

    def ask(self) -> bytes:
        """Waits for the answer with the lock in hand."""
        with self._lock:
            answer = self._answers.recv(100) if self._answers.fileno() >= 0 else b""
            if not answer:
                self._answers.close()
            return answer

    def refresh_prices(self, worker: int, tally: Tally) -> None:
        """The body of the threads that need an answer."""
        while tally.go_on():
            self.ask()
            tally.done()

    def close(self) -> None:
        """The server hangs up, which ends the waits."""
        self._server.close()


def serve_requests(worker: int, tally: Tally) -> None:
    """The body of the threads that go on without."""
    value = 0
    while tally.go_on():
        for number in range(5000):
            value = (value * 31 + number) & 0xFF
        tally.done()
        time.sleep(0.005)


if __name__ == "__main__":
    options = parse_options(__doc__, threads=4)
    connection = Connection()
    bodies: list[Body] = [connection.refresh_prices] * 2
    bodies += [serve_requests] * max(1, options.threads - 2)
    run(bodies, options, unit="requests", name="server", wake=connection.close)
