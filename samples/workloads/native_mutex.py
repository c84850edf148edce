"""A C library with one mutex around its cache, called from all threads: they wait for each other in C."""

from __future__ import annotations

import ctypes

from compiling import compiled
from throughput import Tally, parse_options, run

SOURCE = r"""
#include <pthread.h>
#include <stdint.h>
#define ENTRIES 16384
#define SIDES 64

static pthread_mutex_t plan_cache_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t plan_cache[SIDES][ENTRIES];

static uint64_t find_plan(uint64_t *cache, uint64_t key) {
    uint64_t found = key;
    for (int i = 0; i < ENTRIES; i++) {
        cache[i] = cache[i] * 31 + key;
        found ^= cache[i];
    }
    return found;
}

/* Looks up a plan for each of so many transforms; every look takes the one lock of the cache. */
uint64_t transform(long rounds, int side, int apart) {
    uint64_t sum = 0;
    for (long i = 0; i < rounds; i++) {
        if (apart) {
            sum += find_plan(plan_cache[side % SIDES], sum + i);
        } else {
            pthread_mutex_lock(&plan_cache_lock);
            sum += find_plan(plan_cache[0], sum + i);
            pthread_mutex_unlock(&plan_cache_lock);
        }
    }
    return sum;
}
"""
ROUNDS = 100


class Transforms:
    """Python around the library. ctypes lets go of the interpreter while C runs."""

    def __init__(self, *, apart: bool) -> None:
        self._transform = ctypes.CDLL(str(compiled(SOURCE, "fastplan"))).transform
        self._transform.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int)
        self._apart = apart

    def transform_blocks(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while tally.go_on():
            self._transform(ROUNDS, worker, self._apart)
            tally.done(ROUNDS)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="a cache for each thread")
    transforms = Transforms(apart=options.fixed)
    run([transforms.transform_blocks] * options.threads, options, unit="transforms", name="transform")
