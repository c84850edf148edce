/* A thread of the interpreter: what the walk over its stack found, and what it will read next time. */

#include "tick.h"

PyObject *words_tuple(const u64 *words, Py_ssize_t count, Py_ssize_t step) {
    PyObject *result = PyTuple_New((count + step - 1) / step);
    for (Py_ssize_t i = 0, at = 0; result != NULL && at < count; i++, at += step) {
        PyObject *one = PyLong_FromUnsignedLongLong(words[at]);
        if (one == NULL || PyTuple_SetItem(result, i, one) < 0) Py_CLEAR(result);
    }
    return result;
}

static PyObject *thread_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    unsigned long long address, native_id, ident, interpreter;
    static char *names[] = {"address", "native_id", "ident", "interpreter", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "KKKK", names, &address, &native_id, &ident, &interpreter))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Thread *self = (Thread *)allocate(type, 0);
    if (self == NULL) return NULL;
    self->address = address;
    self->native_id = native_id;
    self->ident = ident;
    self->interpreter = interpreter;
    self->beside = PyTuple_New(0);
    if (self->beside == NULL) Py_CLEAR(self);
    return (PyObject *)self;
}

static void thread_dealloc(PyObject *object) {
    Thread *self = (Thread *)object;
    PyTypeObject *type = Py_TYPE(object);
    free(self->frames);
    free(self->chain);
    free(self->words);
    Py_XDECREF(self->beside);
    Py_XDECREF(self->known);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyObject *thread_frames(PyObject *self, void *unused) {
    (void)unused;
    return words_tuple(((Thread *)self)->frames, ((Thread *)self)->depth, 1);
}

static PyObject *thread_chain(PyObject *self, void *unused) {
    (void)unused;
    return words_tuple(((Thread *)self)->chain, 2 * (Py_ssize_t)((Thread *)self)->depth, 1);
}

static PyObject *thread_elsewhere(PyObject *self, void *unused) {
    (void)unused;
    return words_tuple(((Thread *)self)->elsewhere, ((Thread *)self)->elsewhere_count, 1);
}

static PyObject *thread_with_exits(PyObject *self, void *unused) {
    (void)unused;
    return words_tuple(((Thread *)self)->words, ((Thread *)self)->exits, 1);
}

static PyObject *thread_marked(PyObject *self, void *unused) {
    const Thread *thread = (Thread *)self;
    (void)unused;
    return words_tuple(thread->words == NULL ? NULL : thread->words + thread->exits, thread->marks, 1);
}

static PyObject *thread_beside(PyObject *self, void *unused) {
    (void)unused;
    return Py_NewRef(((Thread *)self)->beside);
}

static int thread_set_beside(PyObject *object, PyObject *value, void *unused) {
    Thread *self = (Thread *)object;
    (void)unused;
    if (value == NULL || !PyTuple_Check(value) || PyTuple_Size(value) > MAX_BESIDE) {
        PyErr_SetString(PyExc_TypeError, "beside takes a tuple of at most eight (address, size)");
        return -1;
    }
    REPLACE(self->beside, Py_NewRef(value));
    return 0;
}

static int take_words(Thread *self, const Thread *from) {
    int count = from->exits + from->marks;
    if (count > self->words_room) {
        u64 *words = realloc(self->words, (size_t)count * sizeof(u64));
        if (words == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->words = words;
        self->words_room = count;
    }
    if (count > 0) memcpy(self->words, from->words, (size_t)count * sizeof(u64));
    self->exits = from->exits;
    self->marks = from->marks;
    self->critical_section = from->critical_section;
    self->section = from->section;
    memcpy(self->elsewhere, from->elsewhere, (size_t)from->elsewhere_count * sizeof(u64));
    self->elsewhere_count = from->elsewhere_count;
    return 0;
}

/* What the last walk says of what a thread holds, to be kept beyond the next walk: a new reference. */
PyObject *snapshot(const Thread *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Thread *copy = (Thread *)allocate(type, 0);
    if (copy == NULL) return NULL;
    copy->address = self->address;
    copy->native_id = self->native_id;
    copy->ident = self->ident;
    copy->interpreter = self->interpreter;
    copy->beside = PyTuple_New(0);
    if (copy->beside == NULL || take_words(copy, self) < 0) Py_CLEAR(copy);
    return (PyObject *)copy;
}

static PyObject *thread_snapshot(PyObject *self, PyObject *unused) {
    (void)unused;
    return snapshot((Thread *)self);
}

/* Say of what it holds what a snapshot says. */
static PyObject *thread_become(PyObject *self, PyObject *other) {
    if (Py_TYPE(other) != Py_TYPE(self)) {
        PyErr_SetString(PyExc_TypeError, "become takes a snapshot of a thread");
        return NULL;
    }
    if (take_words((Thread *)self, (const Thread *)other) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef thread_methods[] = {
    {"snapshot", thread_snapshot, METH_NOARGS, NULL},
    {"become", thread_become, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef thread_members[] = {
    {"address", T_ULONGLONG, offsetof(Thread, address), READONLY, NULL},
    {"native_id", T_ULONGLONG, offsetof(Thread, native_id), READONLY, NULL},
    {"ident", T_ULONGLONG, offsetof(Thread, ident), READONLY, NULL},
    {"interpreter", T_ULONGLONG, offsetof(Thread, interpreter), READONLY, NULL},
    {"critical_section", T_ULONGLONG, offsetof(Thread, critical_section), READONLY, NULL},
    {"section", T_ULONGLONG, offsetof(Thread, section), READONLY, NULL},
    {"late", T_INT, offsetof(Thread, late), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef thread_properties[] = {
    {"frames", thread_frames, NULL, NULL, NULL},
    {"chain", thread_chain, NULL, NULL, NULL},
    {"elsewhere", thread_elsewhere, NULL, NULL, NULL},
    {"with_exits", thread_with_exits, NULL, NULL, NULL},
    {"marked", thread_marked, NULL, NULL, NULL},
    {"beside", thread_beside, thread_set_beside, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot thread_slots[] = {
    {Py_tp_new, thread_new},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_members, thread_members},
    {Py_tp_getset, thread_properties},
    {Py_tp_methods, thread_methods},
    {0, NULL},
};

PyType_Spec thread_spec = {
    .name = "ftdiag.sources._tick.Thread",
    .basicsize = sizeof(Thread),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = thread_slots,
};
