"""A C library whose threads free what another thread allocated: they meet at malloc's arenas."""

from __future__ import annotations

import ctypes

from compiling import compiled
from throughput import Tally, parse_options, run

SOURCE = r"""
#include <stdlib.h>
#define SLOTS 4096
#define SIDES 64
static char *slots[SIDES][SLOTS];

/* Allocates into the slots of one thread; frees what it finds in the slots of `peer`. */
void exchange_buffers(long rounds, long size, int own, int peer) {
    for (long i = 0; i < rounds; i++) {
        int slot = i % SLOTS;
        char *made = malloc(size);
        made[0] = 1;
        free(__atomic_exchange_n(&slots[own % SIDES][slot], made, __ATOMIC_ACQ_REL));
        free(__atomic_exchange_n(&slots[peer % SIDES][slot], NULL, __ATOMIC_ACQ_REL));
    }
}
"""
ROUNDS = 20_000
SIZE = 4000


class Codec:
    """Python around the library. ctypes lets go of the interpreter while C runs."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._exchange = ctypes.CDLL(str(compiled(SOURCE, "codec"))).exchange_buffers
        self._exchange.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int)

    def decode_frames(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread: frees its neighbour's buffers."""
        while tally.go_on():
            self._exchange(ROUNDS, SIZE, worker, (worker + 1) % self._threads)
            tally.done(ROUNDS)

    def decode_frames_apart(self, worker: int, tally: Tally) -> None:
        """The same, each thread freeing what it allocated."""
        while tally.go_on():
            self._exchange(ROUNDS, SIZE, worker, worker)
            tally.done(ROUNDS)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="each thread frees what it allocated")
    codec = Codec(options.threads)
    body = codec.decode_frames_apart if options.fixed else codec.decode_frames
    run([body] * options.threads, options, unit="buffers", name="decoder")
