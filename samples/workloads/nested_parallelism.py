"""A numeric library with threads of its own, called from several threads: each level takes all cores."""

from __future__ import annotations

import ctypes
import os

from compiling import compiled
from throughput import Tally, parse_options, run

SOURCE = r"""
#include <pthread.h>
#include <semaphore.h>
#define MOST 64

struct part { long rounds; volatile double result; sem_t start, done; };
static struct part parts[MOST][MOST];
static int started[MOST];

static void multiply_part(struct part *part) {
    double sum = 0;
    for (long i = 0; i < part->rounds; i++) sum += (double)(i & 1023) * 0.5;
    part->result = sum;
}

static void *wait_for_parts(void *given) {
    struct part *part = given;
    for (;;) {
        sem_wait(&part->start);
        multiply_part(part);
        sem_post(&part->done);
    }
}

/* Divides the work of one caller among threads that it keeps, as BLAS and OpenMP do. */
void multiply(int caller, long rounds, int threads) {
    struct part *own = parts[caller % MOST];
    for (; started[caller % MOST] < threads - 1; started[caller % MOST]++) {
        struct part *part = &own[started[caller % MOST] + 1];
        pthread_t thread;
        sem_init(&part->start, 0, 0);
        sem_init(&part->done, 0, 0);
        pthread_create(&thread, 0, wait_for_parts, part);
    }
    for (int i = 0; i < threads; i++) own[i].rounds = rounds / threads;
    for (int i = 1; i < threads; i++) sem_post(&own[i].start);
    multiply_part(&own[0]);
    for (int i = 1; i < threads; i++) sem_wait(&own[i].done);
}
"""
ROUNDS = 5_000_000


class Matrices:
    """Python around the library."""

    def __init__(self, library_threads: int) -> None:
        self._library_threads = min(64, library_threads)
        self._multiply = ctypes.CDLL(str(compiled(SOURCE, "numeric"))).multiply
        self._multiply.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_int)

    def multiply_matrices(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            self._multiply(worker, ROUNDS, self._library_threads)
            tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="one thread in the library")
    cores = max(2, len(os.sched_getaffinity(0)))
    matrices = Matrices(1 if options.fixed else 2 * cores)
    run([matrices.multiply_matrices] * options.threads, options, unit="products", name="matrix")
