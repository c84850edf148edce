"""A new vector for every step of a path, dead with the next one; --fixed moves one vector."""

from __future__ import annotations

from throughput import Tally, parse_options, run

PATH = (0.75, -0.25) * 1000
"""How far up each step goes. Made once: numbers that are counted would be temporary objects, too."""


class Vector:
    """A place in the plane."""

    __slots__ = ("x", "y")

    def __init__(self, x: float, y: float) -> None:
        self.x = x
        self.y = y

    def moved(self, x: float, y: float) -> Vector:
        """Another vector."""
        return Vector(self.x + x, self.y + y)

    def move(self, x: float, y: float) -> None:
        """The same vector elsewhere."""
        self.x += x
        self.y += y


def walk(path: tuple[float, ...]) -> Vector:
    """Where a path ends."""
    place = Vector(0.0, 0.0)
    for up in path:
        place = place.moved(0.5, up)
    return place


def walk_in_place(path: tuple[float, ...]) -> Vector:
    """The same with one vector."""
    place = Vector(0.0, 0.0)
    for up in path:
        place.move(0.5, up)
    return place


def walk_paths(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        walk(PATH)
        tally.done(len(PATH))


def walk_paths_in_place(worker: int, tally: Tally) -> None:
    """The same, moving one vector."""
    while tally.go_on():
        walk_in_place(PATH)
        tally.done(len(PATH))


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="one vector for each path, moved in place")
    body = walk_paths_in_place if options.fixed else walk_paths
    run([body] * options.threads, options, unit="steps", name="walker")
