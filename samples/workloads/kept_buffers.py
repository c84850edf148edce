"""Buffers of a C library come and go, and one block behind them keeps malloc from giving them back."""

from __future__ import annotations

import ctypes
import time

from throughput import Tally, parse_options, run

SIZE = 32_000
COUNT = 8_000
"""Below the size that libc maps by itself: a quarter of a gigabyte in its heap."""

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]


def come_and_go() -> int:
    """Buffers that are used and freed; the last block stays."""
    blocks = []
    for _ in range(COUNT):
        block = libc.malloc(SIZE)
        libc.memset(block, 1, SIZE)
        blocks.append(block)
    last: int = libc.malloc(SIZE)
    for block in blocks:
        libc.free(block)
    return last


def serve(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        time.sleep(0.002)
        tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, threads=2, fixed="malloc_trim after the buffers are gone")
    kept = come_and_go()
    if options.fixed:
        libc.malloc_trim(0)
    run([serve] * options.threads, options, unit="requests", name="serve")
