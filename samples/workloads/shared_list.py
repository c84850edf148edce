"""All threads append to one list: the list's own lock makes them take turns."""

from __future__ import annotations

from throughput import Tally, parse_options, run

EVENTS_KEPT = 100_000


class EventLog:
    """A list that everybody appends to. No lock is in sight: the interpreter locks the list itself."""

    def __init__(self) -> None:
        self._events: list[int] = []

    def record_events(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        events = self._events
        while tally.go_on():
            for _ in range(500):
                events.append(worker)
            tally.done(500)
            if len(events) > EVENTS_KEPT:
                events.clear()


if __name__ == "__main__":
    options = parse_options(__doc__)
    log = EventLog()
    run([log.record_events] * options.threads, options, unit="appends", name="recorder")
