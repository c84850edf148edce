"""Garbage in cycles beside a big cache: every collection walks the cache, with all threads stopped."""

from __future__ import annotations

from throughput import Tally, parse_options, run

CACHED = 400_000
BATCH = 300


class Node:
    """Knows its parent, which knows it: a cycle that only the collector frees."""

    def __init__(self) -> None:
        self.parent: Node | None = None
        self.children: list[Node] = []


def build_tree(size: int) -> Node:
    """A tree that is garbage at once."""
    root = Node()
    for _ in range(size):
        child = Node()
        child.parent = root
        root.children.append(child)
    return root


def build_flat_tree(size: int) -> list[Node]:
    """The same without cycles."""
    return [Node() for _ in range(size)]


def parse_documents(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        build_tree(BATCH)
        tally.done(BATCH)


def parse_flat_documents(worker: int, tally: Tally) -> None:
    """The same without cycles: the collector has nothing to find, and is called less."""
    while tally.go_on():
        build_flat_tree(BATCH)
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="no cycles, so that the collector has little to do")
    cache = [[number] for number in range(CACHED)]
    body = parse_flat_documents if options.fixed else parse_documents
    run([body] * options.threads, options, unit="nodes", name="parser")
