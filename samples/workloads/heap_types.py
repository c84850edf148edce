"""A small array for every packet: instances of a C type count references on that one type."""

from __future__ import annotations

import array

from throughput import Tally, parse_options, run

BATCH = 500


def build_header(packet: int) -> array.array[int]:
    """A new array each time."""
    header = array.array("i")
    header.append(packet)
    return header


def build_packets(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        for packet in range(BATCH):
            build_header(packet & 0xFF)
        tally.done(BATCH)


def build_packets_in_lists(worker: int, tally: Tally) -> None:
    """The same with a list."""
    while tally.go_on():
        for packet in range(BATCH):
            [packet & 0xFF]
        tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a list instead of an array")
    body = build_packets_in_lists if options.fixed else build_packets
    run([body] * options.threads, options, unit="packets", name="packets")
