"""A look-up table as a global list, read by a pool that came from processes: each process had its own."""

from __future__ import annotations

from throughput import Tally, parse_options, run

CRC_TABLE = [(step * 37 + 11) & 0xFF for step in range(256)]


def checksum(data: bytes) -> int:
    """Looks up the global for every byte."""
    value = 0
    for byte in data:
        value = CRC_TABLE[value ^ byte]
    return value


def checksum_with(table: list[int], data: bytes) -> int:
    """Is given the table."""
    value = 0
    for byte in data:
        value = table[value ^ byte]
    return value


def check_blocks(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    block = bytes(range(256)) * 2
    while tally.go_on():
        checksum(block)
        tally.done(len(block))


def check_blocks_with_copy(worker: int, tally: Tally) -> None:
    """The same with a table for each thread, as each process had one."""
    block, table = bytes(range(256)) * 2, list(CRC_TABLE)
    while tally.go_on():
        checksum_with(table, block)
        tally.done(len(block))


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a copy of the table for each thread")
    body = check_blocks_with_copy if options.fixed else check_blocks
    run([body] * options.threads, options, unit="bytes", name="checker")
