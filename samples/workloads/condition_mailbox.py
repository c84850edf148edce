"""A mailbox guarded by a Condition that every thread notifies for every message."""

from __future__ import annotations

import threading

from throughput import Tally, parse_options, run

BATCH = 50
KEPT = 1000


class Mailbox:
    """Messages of all threads; a Condition is a lock with a list of waiters."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[int] = []

    def post(self, message: int) -> None:
        """Adds a message and tells whoever waits for one."""
        with self._changed:
            self._messages.append(message)
            if len(self._messages) > KEPT:
                self._messages.clear()
            self._changed.notify()

    def post_messages(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            for message in range(BATCH):
                self.post(message)
            tally.done(BATCH)


def post_to_own_mailbox(worker: int, tally: Tally) -> None:
    """The same with a mailbox of the thread's own."""
    Mailbox().post_messages(worker, tally)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a mailbox for each thread")
    body = post_to_own_mailbox if options.fixed else Mailbox().post_messages
    run([body] * options.threads, options, unit="messages", name="poster")
