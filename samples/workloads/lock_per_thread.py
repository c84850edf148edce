"""A lock in every object and an object for every thread: millions of acquires, and never a wait."""

from __future__ import annotations

import threading

from throughput import Tally, parse_options, run

BATCH = 200


class Account:
    """Safe to share, and not shared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._balance = 0

    def book(self, amount: int) -> None:
        """Adds to the balance."""
        with self._lock:
            self._balance = (self._balance + amount) & 0xFF


def book_on_own_account(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    account = Account()
    while tally.go_on():
        for amount in range(BATCH):
            account.book(amount)
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([book_on_own_account] * options.threads, options, unit="bookings", name="account")
