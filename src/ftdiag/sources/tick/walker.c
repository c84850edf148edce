/* The walker: what it knows of a target, and what is asked of it. */

#include "tick.h"

/* Ticks at which a thread has the chain that it has now need not be looked at by whoever looks for updates. */
static PyObject *walker_mark_quiet(PyObject *object, PyObject *one) {
    Walker *self = (Walker *)object;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    if (Py_TYPE(one) != state->thread) {
        PyErr_SetString(PyExc_TypeError, "mark_quiet takes a thread of this module");
        return NULL;
    }
    Thread *thread = (Thread *)one;
    if (thread->depth == 0) Py_RETURN_NONE;
    PyObject *key = PyBytes_FromStringAndSize((const char *)thread->chain, 16 * (Py_ssize_t)thread->depth);
    if (key == NULL) return NULL;
    if (self->quiet_words > MAX_QUIET_WORDS && PySet_Clear(self->quiet_chains) == 0) self->quiet_words = 0;
    self->quiet_words += 2 * (unsigned long long)thread->depth;
    int failed = PySet_Add(self->quiet_chains, key) < 0;
    Py_DECREF(key);
    if (failed) return NULL;
    /* What it stands for has to be known to be that of this walker: else it is found out at the next walk. */
    if (thread->known != NULL && thread->generation == self->generation) thread->quiet_chain = 1;
    Py_RETURN_NONE;
}

static PyObject *walker_forget(PyObject *object, PyObject *unused) {
    Walker *self = (Walker *)object;
    (void)unused;
    PyDict_Clear(self->known);
    PySet_Clear(self->quiet_chains);
    self->quiet_words = 0;
    self->words_of_known = 0;
    self->generation++;
    Py_RETURN_NONE;
}

static PyObject *walker_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"pid", "reader", "resolve", "thread_fields", "frame_fields", "foreign_owner",
                            "no_stack", "torn_stack", NULL};
    int pid, foreign;
    long no_stack, torn_stack;
    PyObject *reader, *resolve;
    unsigned long long t[4], f[4];
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "iOO(KKKK)(KKKK)ill", names, &pid, &reader, &resolve, &t[0],
                                     &t[1], &t[2], &t[3], &f[0], &f[1], &f[2], &f[3], &foreign, &no_stack,
                                     &torn_stack))
        return NULL;
    u64 state_bytes = 0, frame_bytes = 0;
    for (int i = 0; i < 4; i++) {
        if (t[i] > MAX_STATE_BYTES || f[i] > 200) {
            PyErr_SetString(PyExc_ValueError, "an offset is out of all bounds");
            return NULL;
        }
        if (t[i] + 8 > state_bytes) state_bytes = t[i] + 8;
        u64 size = i == 3 ? 1 : 8; /* the owner is a byte */
        if (f[i] + size > frame_bytes) frame_bytes = f[i] + size;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Walker *self = (Walker *)allocate(type, 0);
    if (self == NULL) return NULL;
    self->pid = pid;
    self->reader = Py_NewRef(reader);
    self->resolve = Py_NewRef(resolve);
    State *state = PyType_GetModuleState(type);
    if (state != NULL && PyObject_TypeCheck(resolve, state->chains)) self->chains = (Chains *)resolve;
    PyErr_Clear();
    self->known = PyDict_New();
    self->quiet_chains = PySet_New(NULL);
    self->current_frame = t[0];
    self->thread_native_id = t[1];
    self->thread_section = t[2];
    self->chunk = t[3];
    self->state_bytes = state_bytes;
    self->executable = f[0];
    self->previous = f[1];
    self->instruction = f[2];
    self->owner = f[3];
    self->frame_bytes = frame_bytes;
    self->foreign = foreign;
    self->no_stack = no_stack;
    self->torn_stack = torn_stack;
    self->buffer_size = 1 << 16;
    self->buffer = malloc(self->buffer_size);
    if (self->known == NULL || self->quiet_chains == NULL || self->buffer == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static int walker_traverse(PyObject *object, visitproc visit, void *arg) {
    Walker *self = (Walker *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->reader);
    Py_VISIT(self->resolve);
    Py_VISIT(self->known);
    Py_VISIT(self->quiet_chains);
    Py_VISIT(self->parse);
    Py_VISIT(self->places);
    Py_VISIT(self->lock_places);
    Py_VISIT(self->rests);
    Py_VISIT(self->known_words);
    Py_VISIT(self->lockless);
    Py_VISIT(self->pauses);
    Py_VISIT(self->ask);
    Py_VISIT(self->learn);
    return 0;
}

static int walker_clear(PyObject *object) {
    Walker *self = (Walker *)object;
    Py_CLEAR(self->reader);
    self->chains = NULL;
    Py_CLEAR(self->resolve);
    Py_CLEAR(self->known);
    Py_CLEAR(self->quiet_chains);
    Py_CLEAR(self->parse);
    Py_CLEAR(self->places);
    Py_CLEAR(self->lock_places);
    Py_CLEAR(self->rests);
    Py_CLEAR(self->known_words);
    Py_CLEAR(self->lockless);
    Py_CLEAR(self->pauses);
    Py_CLEAR(self->ask);
    Py_CLEAR(self->learn);
    return 0;
}

static void walker_dealloc(PyObject *object) {
    Walker *self = (Walker *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    walker_clear(object);
    forget_late(self);
    free(self->buffer);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyObject *walker_take_cut(PyObject *object, PyObject *unused) {
    Walker *self = (Walker *)object;
    unsigned long long cut = self->cut;
    (void)unused;
    self->cut = 0;
    return PyLong_FromUnsignedLongLong(cut);
}

static PyObject *walker_take_given_up(PyObject *object, PyObject *unused) {
    Walker *self = (Walker *)object;
    unsigned long long given_up = self->given_up;
    (void)unused;
    self->given_up = 0;
    return PyLong_FromUnsignedLongLong(given_up);
}

static PyMethodDef walker_methods[] = {
    {"take_cut", walker_take_cut, METH_NOARGS, NULL},
    {"take_given_up", walker_take_given_up, METH_NOARGS, NULL},
    {"walk", walker_walk, METH_VARARGS, NULL},
    {"prepare", walker_prepare, METH_VARARGS, NULL},
    {"look", walker_look, METH_VARARGS, NULL},
    {"stretch", walker_stretch, METH_VARARGS, NULL},
    {"prepare_later", walker_prepare_later, METH_VARARGS, NULL},
    {"know", walker_know, METH_O, NULL},
    {"mark_quiet", walker_mark_quiet, METH_O, NULL},
    {"forget", walker_forget, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot walker_slots[] = {
    {Py_tp_new, walker_new},
    {Py_tp_dealloc, walker_dealloc},
    {Py_tp_traverse, walker_traverse},
    {Py_tp_clear, walker_clear},
    {Py_tp_methods, walker_methods},
    {0, NULL},
};

PyType_Spec walker_spec = {
    .name = "ftdiag.sources._tick.Walker",
    .basicsize = sizeof(Walker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = walker_slots,
};
