"""Time stamps read from lines of a log with datetime.strptime."""

from __future__ import annotations

import datetime

from throughput import Body, Tally, parse_options, run

STAMPS = [f"2025-11-{day:02} 10:{minute:02}:07" for day in range(1, 28) for minute in range(10)]


def parse(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    own = list(STAMPS)
    while tally.go_on():
        for stamp in own:
            datetime.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S")
        tally.done(len(own))


def parse_iso(worker: int, tally: Tally) -> None:
    """The same with fromisoformat."""
    own = list(STAMPS)
    while tally.go_on():
        for stamp in own:
            datetime.datetime.fromisoformat(stamp)
        tally.done(len(own))


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="datetime.fromisoformat")
    body: Body = parse_iso if options.fixed else parse
    run([body] * options.threads, options, unit="dates", name="parse")
