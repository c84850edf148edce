/* What chains of frames mean: see InterpreterReader.meaning. */

#include "tick.h"

/* Whether that is what a chain or a frame can mean: (number, exits, marks). */
int is_meaning(PyObject *found) {
    return PyTuple_Check(found) && PyTuple_Size(found) == 3 && PyTuple_Check(PyTuple_GetItem(found, 1)) &&
           PyTuple_Check(PyTuple_GetItem(found, 2));
}

/* --- what chains of frames mean: see InterpreterReader.meaning ------------------------------------------- */

static PyObject *chains_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"frame", "stack", NULL};
    PyObject *frame, *stack;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO", names, &frame, &stack)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Chains *self = (Chains *)allocate(type, 0);
    if (self == NULL) return NULL;
    self->frame = Py_NewRef(frame);
    self->stack = Py_NewRef(stack);
    self->frames = PyDict_New();
    self->stacks = PyDict_New();
    if (self->frames == NULL || self->stacks == NULL) Py_CLEAR(self);
    return (PyObject *)self;
}

static int chains_traverse(PyObject *object, visitproc visit, void *arg) {
    Chains *self = (Chains *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->frame);
    Py_VISIT(self->stack);
    Py_VISIT(self->frames);
    Py_VISIT(self->stacks);
    return 0;
}

static int chains_clear(PyObject *object) {
    Chains *self = (Chains *)object;
    Py_CLEAR(self->frame);
    Py_CLEAR(self->stack);
    Py_CLEAR(self->frames);
    Py_CLEAR(self->stacks);
    return 0;
}

static void chains_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    chains_clear(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* A (frame's id, offsets of its `with` slots, offsets of what is marked), or None: a new reference. */
static PyObject *frame_meaning(Chains *self, const u64 *pair) {
    PyObject *key = PyBytes_FromStringAndSize((const char *)pair, 16);
    PyObject *found = key == NULL ? NULL : PyDict_GetItemWithError(self->frames, key);
    Py_XINCREF(found);
    if (key != NULL && found == NULL && !PyErr_Occurred()) {
        found = PyObject_CallFunction(self->frame, "KK", (unsigned long long)pair[0], (unsigned long long)pair[1]);
        if (found != NULL && found != Py_None) {
            if (!is_meaning(found)) {
                PyErr_SetString(PyExc_TypeError, "a frame means (id, exits, marks) or None");
                Py_CLEAR(found);
            } else {
                if (PyDict_Size(self->frames) >= MAX_FRAMES) PyDict_Clear(self->frames);
                if (PyDict_SetItem(self->frames, key, found) < 0) Py_CLEAR(found);
            }
        }
    }
    Py_XDECREF(key);
    return found;
}

/* Add (number, offset) of each of the offsets; -1 on error. */
static int add_slots(PyObject *slots, int number, PyObject *offsets) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(offsets); i++) {
        PyObject *slot = Py_BuildValue("(iO)", number, PyTuple_GetItem(offsets, i));
        int failed = slot == NULL || PyList_Append(slots, slot) < 0;
        Py_XDECREF(slot);
        if (failed) return -1;
    }
    return 0;
}

/* The number of the stack that frames with these ids form, root first: a new reference. */
static PyObject *stack_number(Chains *self, const u64 *ids, int depth) {
    PyObject *key = PyBytes_FromStringAndSize((const char *)ids, (Py_ssize_t)sizeof(u64) * depth);
    PyObject *found = key == NULL ? NULL : PyDict_GetItemWithError(self->stacks, key);
    Py_XINCREF(found);
    if (key != NULL && found == NULL && !PyErr_Occurred()) {
        PyObject *list = PyList_New(depth);
        for (int i = 0; list != NULL && i < depth; i++) {
            PyObject *one = PyLong_FromUnsignedLongLong(ids[i]);
            if (one == NULL || PyList_SetItem(list, i, one) < 0) Py_CLEAR(list);
        }
        if (list != NULL) found = PyObject_CallFunctionObjArgs(self->stack, list, NULL);
        Py_XDECREF(list);
        if (found != NULL) {
            if (PyDict_Size(self->stacks) >= MAX_KNOWN || self->words > MAX_KNOWN_WORDS) {
                PyDict_Clear(self->stacks);
                self->words = 0;
            }
            self->words += (unsigned long long)depth;
            if (PyDict_SetItem(self->stacks, key, found) < 0) Py_CLEAR(found);
        }
    }
    Py_XDECREF(key);
    return found;
}

/* (stack, exits, marks) of a chain, leaf first, or None: a new reference. */
PyObject *chain_meaning(Chains *self, const u64 *chain, int depth) {
    PyObject *exits = PyList_New(0), *marks = PyList_New(0), *result = NULL;
    u64 *ids = malloc((size_t)(depth + 1) * sizeof(u64));
    if (ids == NULL) PyErr_NoMemory();
    int failed = ids == NULL || exits == NULL || marks == NULL;
    for (int i = 0; i < depth && !failed && result == NULL; i++) {
        PyObject *frame = frame_meaning(self, chain + 2 * i);
        if (frame == Py_None)
            result = Py_NewRef(Py_None);
        else if (frame != NULL) {
            ids[depth - 1 - i] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(frame, 0));
            failed = PyErr_Occurred() || add_slots(exits, i, PyTuple_GetItem(frame, 1)) < 0 ||
                     (i < MARKED_FRAMES && add_slots(marks, i, PyTuple_GetItem(frame, 2)) < 0);
        } else
            failed = 1;
        Py_XDECREF(frame);
    }
    if (!failed && result == NULL) {
        PyObject *number = stack_number(self, ids, depth);
        PyObject *all_exits = number == NULL ? NULL : PyList_AsTuple(exits);
        PyObject *all_marks = all_exits == NULL ? NULL : PyList_AsTuple(marks);
        if (all_marks != NULL) result = Py_BuildValue("(OOO)", number, all_exits, all_marks);
        Py_XDECREF(number);
        Py_XDECREF(all_exits);
        Py_XDECREF(all_marks);
    }
    free(ids);
    Py_XDECREF(exits);
    Py_XDECREF(marks);
    if (failed) Py_CLEAR(result);
    return result;
}

static PyObject *chains_call(PyObject *object, PyObject *args, PyObject *keywords) {
    PyObject *words, *result = NULL;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O!:chain", &PyTuple_Type, &words)) return NULL;
    Py_ssize_t count = PyTuple_Size(words);
    if (count % 2 != 0 || count > CODE_WORDS) {
        PyErr_SetString(PyExc_ValueError, "a chain is pairs of (code, instruction)");
        return NULL;
    }
    u64 *chain = malloc((size_t)(count + 1) * sizeof(u64));
    if (chain == NULL) return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        chain[i] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(words, i));
    if (!PyErr_Occurred()) result = chain_meaning((Chains *)object, chain, (int)(count / 2));
    free(chain);
    return result;
}

static PyObject *chains_forget(PyObject *object, PyObject *unused) {
    (void)unused;
    PyDict_Clear(((Chains *)object)->frames);
    Py_RETURN_NONE;
}

static PyMethodDef chains_methods[] = {
    {"forget", chains_forget, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot chains_slots[] = {
    {Py_tp_new, chains_new},         {Py_tp_dealloc, chains_dealloc}, {Py_tp_traverse, chains_traverse},
    {Py_tp_clear, chains_clear},     {Py_tp_call, chains_call},       {Py_tp_methods, chains_methods},
    {0, NULL},
};

PyType_Spec chains_spec = {
    .name = "ftdiag.sources._tick.Chains",
    .basicsize = sizeof(Chains),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = chains_slots,
};
