"""An extension module that returns one object of its own to everybody: all threads count its references."""

from __future__ import annotations

from types import ModuleType

from compiling import extension
from throughput import Tally, parse_options, run

SOURCE = r"""
#include <Python.h>

/* What the module gives for "no value": one object, as numpy.dtype('f8') or a library's Null is. */
static PyObject *missing;

#ifdef IMMORTAL
/* Objects that are static from the start are immortal: nobody counts references to them. */
typedef struct { PyObject_HEAD } Missing;
static PyTypeObject missing_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "columns.Missing", .tp_basicsize = sizeof(Missing), .tp_flags = Py_TPFLAGS_DEFAULT};
static Missing missing_object = {PyObject_HEAD_INIT(&missing_type)};
#else
static PyType_Slot missing_slots[] = {{0, NULL}};
static PyType_Spec missing_spec = {"columns.Missing", 0, 0, Py_TPFLAGS_DEFAULT, missing_slots};
#endif

static PyObject *value_at(PyObject *module, PyObject *index) { return Py_NewRef(missing); }

static int prepare(PyObject *module) {
#ifdef IMMORTAL
    if (PyType_Ready(&missing_type) < 0) return -1;
    missing = (PyObject *)&missing_object;
#else
    PyObject *type = PyType_FromSpec(&missing_spec);
    if (type == NULL || (missing = PyObject_CallNoArgs(type)) == NULL) return -1;
#endif
    return 0;
}

static PyMethodDef methods[] = {{"value_at", value_at, METH_O, NULL}, {NULL}};
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare}, {Py_mod_gil, Py_MOD_GIL_NOT_USED}, {0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "columns", NULL, 0, methods, slots};
PyMODINIT_FUNC PyInit_columns(void) { return PyModuleDef_Init(&module); }
"""
BATCH = 500


class Column:
    """A column that has no values."""

    def __init__(self, module: ModuleType) -> None:
        self._value_at = module.value_at

    def count_values(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        value_at, count = self._value_at, 0
        while tally.go_on():
            for index in range(BATCH):
                if value_at(index) is None:
                    count += 1
            tally.done(BATCH)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="the object is immortal")
    column = Column(extension(("#define IMMORTAL\n" if options.fixed else "") + SOURCE, "columns"))
    run([column.count_values] * options.threads, options, unit="values", name="column")
