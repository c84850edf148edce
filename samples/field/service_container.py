"""A container that looks services up for each request: all threads ask one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from throughput import Body, Tally, parse_options, run


class Settings:
    """What others need."""


class Repository:
    """A service with a need."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Container:
    """Makes services when they are first asked for, and keeps them."""

    def __init__(self) -> None:
        self.singletons: dict[type, Any] = {}
        self.resolvers: dict[type, Callable[[], Any]] = {}

    def add(self, kind: type, *needs: type) -> None:
        """How a service is made."""

        def resolver() -> Any:
            found = self.singletons.get(kind)
            if found is None:
                found = kind(*[self.resolve(need) for need in needs])
                self.singletons[kind] = found
            return found

        self.resolvers[kind] = resolver

    def resolve(self, kind: type) -> Any:
        """The service."""
        return self.resolvers[kind]()


def build() -> Container:
    """A container with two services."""
    container = Container()
    container.add(Settings)
    container.add(Repository, Settings)
    return container


APP = build()


def serve(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for _ in range(2000):
            APP.resolve(Repository)
        tally.done(2000)


def serve_from_own(worker: int, tally: Tally) -> None:
    """The same with a container for each thread."""
    own = build()
    while tally.go_on():
        for _ in range(2000):
            own.resolve(Repository)
        tally.done(2000)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a container for each thread")
    body: Body = serve_from_own if options.fixed else serve
    run([body] * options.threads, options, unit="services", name="serve")
