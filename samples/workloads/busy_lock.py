"""A lock that all threads take a few thousand times a second and hold for a moment: busy, not contended."""

from __future__ import annotations

import threading

from throughput import Tally, parse_options, run

STEPS = 5000


def compute_report(report: int) -> int:
    """Arithmetic of this thread alone, half a millisecond of it."""
    value = report
    for step in range(STEPS):
        value = (value * 31 + step) & 0xFF
    return value


class Ledger:
    """A total of all reports; the lock is held for one addition."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0

    def book(self, amount: int) -> None:
        """Adds to the total."""
        with self._lock:
            self._total += amount

    def write_reports(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            self.book(compute_report(worker))
            tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([Ledger().write_reports] * options.threads, options, unit="reports", name="reporter")
