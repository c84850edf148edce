"""A forgotten profiler: a function of Python is called at every call and every return of all threads."""

from __future__ import annotations

import threading
from types import FrameType

from throughput import Tally, parse_options, run


class CallCounter:
    """Counts calls for all threads."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def on_event(self, frame: FrameType, event: str, argument: object) -> None:
        """What the interpreter calls."""
        name = frame.f_code.co_name
        self.calls[name] = (self.calls.get(name, 0) + 1) & 0xFF


def step(value: int) -> int:
    """A small function."""
    return (value * 31 + 7) & 0xFF


def simulate(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    value = worker
    while tally.go_on():
        for _ in range(200):
            value = step(value)
        tally.done(200)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="no profiler")
    if not options.fixed:
        threading.setprofile(CallCounter().on_event)
    run([simulate] * options.threads, options, unit="steps", name="simulation")
