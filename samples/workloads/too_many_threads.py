"""Many more computing threads than cores: most of them wait for a core, and none gets more done."""

from __future__ import annotations

import os
from dataclasses import replace

from throughput import Tally, parse_options, run


def encode(block: int, steps: int) -> int:
    """Arithmetic of this thread alone."""
    value = block
    for step in range(steps):
        value = (value * 31 + step) & 0xFF
    return value


def encode_blocks(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        encode(worker & 0xFF, 2000)
        tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, threads=32, fixed="as many threads as cores")
    if options.fixed:
        options = replace(options, threads=max(2, len(os.sched_getaffinity(0))))
    run([encode_blocks] * options.threads, options, unit="blocks", name="encoder")
