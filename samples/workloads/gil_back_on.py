"""An extension module that does not say it can do without the GIL: importing it switches the GIL on."""

from __future__ import annotations

import warnings

from compiling import extension
from throughput import Tally, parse_options, run

SOURCE = r"""
#include <Python.h>

/* A slot Py_mod_gil with Py_MOD_GIL_NOT_USED is missing. */
static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "legacy_codec", NULL, 0, NULL, slots};
PyMODINIT_FUNC PyInit_legacy_codec(void) { return PyModuleDef_Init(&module); }
"""


def import_extension() -> None:
    """Imports the module as any other; Python warns once, which logs tend to swallow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        extension(SOURCE, "legacy_codec")


def advance(seed: int, steps: int) -> int:
    """Arithmetic of this thread alone."""
    value = seed
    for step in range(steps):
        value = (value * 31 + step) & 0xFF
    return value


def simulate(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    value = worker
    while tally.go_on():
        value = advance(value, 2000)
        tally.done(2000)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="without the extension module")
    if not options.fixed:
        import_extension()
    run([simulate] * options.threads, options, unit="steps", name="simulation")
