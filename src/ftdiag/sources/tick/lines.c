/* Lines of /proc: who ran, and the protocol of ThreadLines (threadlines.py). */

#include "tick.h"

enum { NO_NEWS, CHANGED, GONE };

/* Read the line of a thread, if it is its turn: whether it is another than the last one, or the thread gone. */
static int read_slot(Lines *self, int place) {
    Slot *slot = &self->slots[place];
    if (slot->still >= STILL_CALLS && self->count > MANY_THREADS && (place + self->calls) % STILL_EVERY != 0)
        return NO_NEWS;
    char line[SCHEDSTAT_BYTES];
    ssize_t got = pread(slot->fd, line, sizeof line, 0);
    if (got <= 0) return got < 0 && (errno == ESRCH || errno == ENOENT) ? GONE : NO_NEWS; /* or nothing is known */
    if (slot->length == got && memcmp(slot->line, line, (size_t)got) == 0) {
        if (slot->still < STILL_CALLS) slot->still++;
        return NO_NEWS;
    }
    slot->still = 0;
    slot->length = (int)got;
    memcpy(slot->line, line, (size_t)got);
    return CHANGED;
}

/* Note in `unsettled` who ran; whether somebody is gone, or is not known here. -1 on error. */
int note_ran(Lines *self, PyObject *unsettled, long long now) {
    int other = 0;
    self->calls++;
    for (int i = 0; i < self->count; i++) {
        Slot *slot = &self->slots[i];
        int news = read_slot(self, i);
        if (news == NO_NEWS) continue;
        if (news == GONE || slot->seen == NULL) {
            slot->length = -1; /* it is told again */
            other = 1;
            continue;
        }
        PyObject *line = PyBytes_FromStringAndSize(slot->line, slot->length);
        if (line == NULL) return -1;
        REPLACE(slot->seen->schedstat, line);
        slot->seen->changed_ns = now;
        slot->seen->looked = 0;
        if (PyDict_SetItem(unsettled, (PyObject *)slot->seen, Py_None) < 0) return -1;
    }
    return other;
}

/* Take out of `unsettled` those that were looked at and were on no core since, but for the last one of all: see
   Threads.let_wait. -1 on error. */
int let_wait(PyObject *unsettled, const State *state, long long now, long long after) {
    PyObject *threads = PyDict_Keys(unsettled);
    int failed = threads == NULL;
    for (Py_ssize_t i = 0; !failed && i < PyList_Size(threads) && PyDict_Size(unsettled) > 1; i++) {
        PyObject *one = PyList_GetItem(threads, i);
        if (!PyObject_TypeCheck(one, state->seen)) continue;
        const Seen *seen = (Seen *)one;
        if (seen->looked && now - seen->changed_ns >= after) failed = PyDict_DelItem(unsettled, one) < 0;
    }
    Py_XDECREF(threads);
    return failed ? -1 : 0;
}

static PyObject *lines_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "", names)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return allocate(type, 0);
}

static void lines_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    for (int i = 0; i < ((Lines *)object)->count; i++) Py_XDECREF((PyObject *)((Lines *)object)->slots[i].seen);
    free(((Lines *)object)->slots);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static void let_go(Lines *self, int tid) {
    for (int i = 0; i < self->count; i++)
        if (self->slots[i].tid == tid) {
            PyObject *seen = (PyObject *)self->slots[i].seen;
            memmove(&self->slots[i], &self->slots[i + 1], (size_t)(self->count - i - 1) * sizeof(Slot));
            self->count--;
            Py_XDECREF(seen);
            return;
        }
}

static PyObject *lines_follow(PyObject *object, PyObject *args) {
    Lines *self = (Lines *)object;
    int tid, fd;
    PyObject *seen = NULL;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL || !PyArg_ParseTuple(args, "ii|O:follow", &tid, &fd, &seen)) return NULL;
    if (seen != NULL && !PyObject_TypeCheck(seen, state->seen)) {
        PyErr_SetString(PyExc_TypeError, "follow takes what was seen of a thread");
        return NULL;
    }
    let_go(self, tid);
    if (self->count == self->room) {
        int room = self->room == 0 ? 64 : 2 * self->room;
        Slot *slots = realloc(self->slots, (size_t)room * sizeof(Slot));
        if (slots == NULL) return PyErr_NoMemory();
        self->slots = slots;
        self->room = room;
    }
    Slot *slot = &self->slots[self->count++];
    slot->seen = (Seen *)Py_XNewRef(seen);
    slot->tid = tid;
    slot->fd = fd;
    slot->length = -1;
    slot->still = 0;
    Py_RETURN_NONE;
}

static PyObject *lines_forget(PyObject *object, PyObject *number) {
    long tid = PyLong_AsLong(number);
    if (tid == -1 && PyErr_Occurred()) return NULL;
    let_go((Lines *)object, (int)tid);
    Py_RETURN_NONE;
}

static PyObject *lines_ran(PyObject *object, PyObject *unused) {
    Lines *self = (Lines *)object;
    (void)unused;
    PyObject *result = PyList_New(0);
    self->calls++;
    for (int i = 0; result != NULL && i < self->count; i++) {
        Slot *slot = &self->slots[i];
        PyObject *one;
        int news = read_slot(self, i);
        if (news == NO_NEWS) continue;
        if (news == CHANGED)
            one = Py_BuildValue("(iy#)", slot->tid, slot->line, (Py_ssize_t)slot->length);
        else
            one = Py_BuildValue("(iO)", slot->tid, Py_None);
        if (one == NULL || PyList_Append(result, one) < 0) Py_CLEAR(result);
        Py_XDECREF(one);
    }
    return result;
}

static PyObject *lines_syscalls(PyObject *object, PyObject *descriptors) {
    (void)object;
    Py_ssize_t count = PySequence_Size(descriptors);
    PyObject *result = count < 0 ? NULL : PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *number = PySequence_GetItem(descriptors, i), *line = NULL;
        long fd = number == NULL ? -1 : PyLong_AsLong(number);
        Py_XDECREF(number);
        if (!PyErr_Occurred()) {
            char text[SYSCALL_BYTES];
            ssize_t got = pread((int)fd, text, sizeof text, 0);
            if (got < 0 && (errno == ESRCH || errno == ENOENT))
                line = Py_NewRef(Py_None);
            else
                line = PyBytes_FromStringAndSize(text, got < 0 ? 0 : (Py_ssize_t)got);
        }
        if (line == NULL || PyList_SetItem(result, i, line) < 0) Py_CLEAR(result);
    }
    return result;
}

static PyMethodDef lines_methods[] = {
    {"follow", lines_follow, METH_VARARGS, NULL},
    {"forget", lines_forget, METH_O, NULL},
    {"ran", lines_ran, METH_NOARGS, NULL},
    {"syscalls", lines_syscalls, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lines_slots[] = {
    {Py_tp_new, lines_new},
    {Py_tp_dealloc, lines_dealloc},
    {Py_tp_methods, lines_methods},
    {0, NULL},
};

PyType_Spec lines_spec = {
    .name = "ftdiag.sources._tick.Lines",
    .basicsize = sizeof(Lines),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = lines_slots,
};
