"""An abstract class and one that implements it, made anew for each request."""

from __future__ import annotations

import abc

from throughput import Body, Tally, parse_options, run


def build(number: int) -> type:
    """A handler's class."""

    class Handler(abc.ABC):
        @abc.abstractmethod
        def handle(self) -> int: ...

    class Concrete(Handler):
        def handle(self) -> int:
            return number

    return Concrete


def work(number: int) -> int:
    """What a request is about."""
    total = 0
    for step in range(3000):
        total += step * number % 7
    return total


def serve(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for number in range(5):
            build(worker)().handle()
            work(number)
        tally.done(5)


def serve_with_one_class(worker: int, tally: Tally) -> None:
    """The same with classes that are made once."""
    kind = build(worker)
    while tally.go_on():
        for number in range(5):
            kind().handle()
            work(number)
        tally.done(5)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="classes that are made once")
    body: Body = serve_with_one_class if options.fixed else serve
    run([body] * options.threads, options, unit="requests", name="serve")
