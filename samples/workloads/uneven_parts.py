"""Work divided once, unevenly: the thread with the big part works while the others wait for it."""

from __future__ import annotations

import threading
from collections import deque

from throughput import Tally, parse_options, run

CHUNKS = 40
STEPS = 3000


def process_chunk(chunk: int) -> int:
    """Arithmetic of this thread alone."""
    value = chunk
    for step in range(STEPS):
        value = (value * 31 + step) & 0xFF
    return value


class Batches:
    """Rounds over the same number of chunks."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._done = threading.Barrier(threads, action=self._refill)
        self._left: deque[int] = deque(range(CHUNKS))

    def _refill(self) -> None:
        self._left.extend(range(CHUNKS))

    def process_fixed_parts(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread: the first has nine tenths of the chunks."""
        others = max(1, CHUNKS // 10 // max(1, self._threads - 1))
        own = CHUNKS - others * (self._threads - 1) if worker == 0 else others
        try:
            while tally.go_on():
                for chunk in range(own):
                    process_chunk(chunk)
                    tally.done()
                self._done.wait()
        except threading.BrokenBarrierError:
            pass

    def process_what_is_left(self, worker: int, tally: Tally) -> None:
        """The same, each thread taking the next chunk when it is done with one."""
        try:
            while tally.go_on():
                while self._left:
                    try:
                        chunk = self._left.popleft()
                    except IndexError:
                        break
                    process_chunk(chunk)
                    tally.done()
                self._done.wait()
        except threading.BrokenBarrierError:
            pass

    def end(self) -> None:
        """Unblocks whoever waits for others that ended."""
        self._done.abort()


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="chunks are taken as threads get free")
    batches = Batches(options.threads)
    body = batches.process_what_is_left if options.fixed else batches.process_fixed_parts
    run([body] * options.threads, options, unit="chunks", name="batch", wake=batches.end)
