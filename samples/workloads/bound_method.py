"""One callback, a bound method, called by all threads: each call counts references on it and its object."""

from __future__ import annotations

from collections.abc import Callable

from throughput import Tally, parse_options, run

BATCH = 500


class Scorer:
    """Scores events."""

    def score(self, event: int) -> int:
        """So little that the call is most of it."""
        return event & 0x7F


class Dispatcher:
    """Has one callback for everybody."""

    def __init__(self, callback: Callable[[int], int]) -> None:
        self._callback = callback

    def dispatch_events(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        dispatch(self._callback, tally)


def dispatch(callback: Callable[[int], int], tally: Tally) -> None:
    """Calls back for every event."""
    while tally.go_on():
        for event in range(BATCH):
            callback(event)
        tally.done(BATCH)


def dispatch_to_own_scorer(worker: int, tally: Tally) -> None:
    """The same with an object for each thread."""
    dispatch(Scorer().score, tally)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="an object, and so a bound method, for each thread")
    body = dispatch_to_own_scorer if options.fixed else Dispatcher(Scorer().score).dispatch_events
    run([body] * options.threads, options, unit="events", name="dispatcher")
