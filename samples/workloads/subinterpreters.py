"""Threads that each run an interpreter of their own: several interpreters in one process."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from throughput import Tally, parse_options, run

ROUNDS = 200
PROGRAM = """
def advance_in_subinterpreter(seed, steps):
    value = seed
    for _ in range(steps):
        value = (value * 1103515245 + 12345) & 0x3FFFFFFF
    return value

def simulate_in_subinterpreter(rounds):
    for seed in range(rounds):
        advance_in_subinterpreter(seed, 1000)
"""


def find_module() -> Any | None:
    """CPython's private module of interpreters: there is no public one before 3.14."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


class Host:
    """Runs a program in an interpreter for each thread."""

    def __init__(self, interpreters: Any) -> None:
        self._interpreters = interpreters
        # Until 3.12 it was called run_string.
        self._execute = getattr(interpreters, "exec", None) or interpreters.run_string

    def run_interpreter(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        number = self._interpreters.create()
        try:
            self._execute(number, PROGRAM)
            while tally.go_on():
                failure = self._execute(number, f"simulate_in_subinterpreter({ROUNDS})")
                if failure is not None:
                    raise RuntimeError(f"the interpreter failed: {failure}")
                tally.done(ROUNDS * 1000)
        finally:
            self._interpreters.destroy(number)


if __name__ == "__main__":
    options = parse_options(__doc__)
    module = find_module()
    if module is None:
        sys.exit("This Python has no module for several interpreters in one process (needs CPython 3.12+).")
    host = Host(module)
    run([host.run_interpreter] * options.threads, options, unit="steps", name="interpreter")
