"""A numeric library with threads of its own, called from several threads: each level takes all cores."""

from __future__ import annotations

import ctypes
import os

from compiling import compiled
from throughput import Tally, parse_options, run

SOURCE = r"""
#include <pthread.h>
struct part { long rounds; volatile double result; };

static void *multiply_part(void *given) {
    struct part *part = given;
    double sum = 0;
    for (long i = 0; i < part->rounds; i++) sum += (double)(i & 1023) * 0.5;
    part->result = sum;
    return 0;
}

/* Divides the work among threads of its own, as BLAS and OpenMP do. */
void multiply(long rounds, int threads) {
    pthread_t others[64];
    struct part parts[64];
    for (int i = 0; i < threads; i++) parts[i].rounds = rounds / threads;
    for (int i = 1; i < threads; i++) pthread_create(&others[i], 0, multiply_part, &parts[i]);
    multiply_part(&parts[0]);
    for (int i = 1; i < threads; i++) pthread_join(others[i], 0);
}
"""
ROUNDS = 5_000_000


class Matrices:
    """Python around the library."""

    def __init__(self, library_threads: int) -> None:
        self._library_threads = min(64, library_threads)
        self._multiply = ctypes.CDLL(str(compiled(SOURCE, "numeric"))).multiply
        self._multiply.argtypes = (ctypes.c_long, ctypes.c_int)

    def multiply_matrices(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            self._multiply(ROUNDS, self._library_threads)
            tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="one thread in the library")
    cores = max(2, len(os.sched_getaffinity(0)))
    matrices = Matrices(1 if options.fixed else 2 * cores)
    run([matrices.multiply_matrices] * options.threads, options, unit="products", name="matrix")
