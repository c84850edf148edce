"""One function object of ctypes, called by all threads."""

from __future__ import annotations

import ctypes
from typing import Any

from throughput import Body, Tally, parse_options, run


def foreign() -> Any:
    """Hypot of the C library, as a function object of its own."""
    function = ctypes.CDLL("libm.so.6").hypot
    function.restype = ctypes.c_double
    function.argtypes = (ctypes.c_double, ctypes.c_double)
    return function


hypot = foreign()


def measure(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for _ in range(2000):
            hypot(3.0, 4.0)
        tally.done(2000)


def measure_with_own(worker: int, tally: Tally) -> None:
    """The same with a function object for each thread."""
    own = foreign()
    while tally.go_on():
        for _ in range(2000):
            own(3.0, 4.0)
        tally.done(2000)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a function object for each thread")
    body: Body = measure_with_own if options.fixed else measure
    run([body] * options.threads, options, unit="calls", name="measure")
