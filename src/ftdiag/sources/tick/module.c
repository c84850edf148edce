/* The module. */

#include "tick.h"

static PyMethodDef module_methods[] = {
    {"peek", peek, METH_VARARGS, NULL},
    {"line_table", line_table, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* --- the module ------------------------------------------------------------------------------------ */

static int module_exec(PyObject *module) {
    State *state = PyModule_GetState(module);
    state->thread = (PyTypeObject *)PyType_FromModuleAndSpec(module, &thread_spec, NULL);
    state->walker = (PyTypeObject *)PyType_FromModuleAndSpec(module, &walker_spec, NULL);
    state->lines = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lines_spec, NULL);
    state->chains = (PyTypeObject *)PyType_FromModuleAndSpec(module, &chains_spec, NULL);
    state->seen = (PyTypeObject *)PyType_FromModuleAndSpec(module, &seen_spec, NULL);
    state->rings = (PyTypeObject *)PyType_FromModuleAndSpec(module, &rings_spec, NULL);
    if (state->thread == NULL || state->walker == NULL || state->lines == NULL || state->seen == NULL ||
        state->chains == NULL || state->rings == NULL)
        return -1;
    if (PyModule_AddType(module, state->thread) < 0 || PyModule_AddType(module, state->walker) < 0 ||
        PyModule_AddType(module, state->lines) < 0 || PyModule_AddType(module, state->seen) < 0 ||
        PyModule_AddType(module, state->chains) < 0 || PyModule_AddType(module, state->rings) < 0)
        return -1;
    if (PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) return -1;
    return PyModule_AddIntConstant(module, "MAX_DEPTH", MAX_DEPTH);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    Py_VISIT(state->thread);
    Py_VISIT(state->walker);
    Py_VISIT(state->lines);
    Py_VISIT(state->seen);
    Py_VISIT(state->chains);
    Py_VISIT(state->rings);
    return 0;
}

static int module_clear(PyObject *module) {
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->thread);
    Py_CLEAR(state->walker);
    Py_CLEAR(state->lines);
    Py_CLEAR(state->seen);
    Py_CLEAR(state->chains);
    Py_CLEAR(state->rings);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if !defined(Py_LIMITED_API) && PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ftdiag.sources._tick",
    .m_doc = "The compiled part of a tick; see stackwalk.py.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__tick(void) { return PyModuleDef_Init(&module_definition); }
