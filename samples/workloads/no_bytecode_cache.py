"""A module without a .pyc file (run it with -B): its numeric constants are counted by all threads."""

from __future__ import annotations

import sys
import tempfile

from throughput import Tally, parse_options, run


def advance(seed: int, steps: int) -> int:
    """Each step reads constants; from a .pyc they would be immortal, and reading them would write nothing."""
    value = seed
    for _ in range(steps):
        value = (value * 1103515245 + 12345) & 0x3FFFFFFF
    return value


def simulate(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    state = worker + 1
    while tally.go_on():
        state = advance(state, 2000)
        tally.done(2000)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="the module is read from a .pyc file")
    with tempfile.TemporaryDirectory(prefix="bytecode-") as directory:
        # The program itself is no imported module: this imports it as one, without a cache from earlier runs.
        sys.pycache_prefix = directory
        if options.fixed:
            import py_compile

            py_compile.compile(__file__)
        import no_bytecode_cache

        run([no_bytecode_cache.simulate] * options.threads, options, unit="steps", name="simulation")
