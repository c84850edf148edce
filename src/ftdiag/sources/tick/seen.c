/* What was seen of a thread of the kernel's, and the runs of a window: see sampling/seen.py. */

#include "tick.h"

static PyObject *seen_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    (void)args; /* they are for the class that is made of it */
    (void)keywords;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Seen *self = (Seen *)allocate(type, 0);
    if (self == NULL) return NULL;
    self->syscall_fd = -1;
    self->observation = Py_NewRef(Py_None);
    self->python = PyList_New(0);
    self->runs = PyList_New(0);
    self->schedstat = PyBytes_FromStringAndSize(NULL, 0);
    self->ran = 1;
    if (self->python == NULL || self->runs == NULL || self->schedstat == NULL) Py_CLEAR(self);
    return (PyObject *)self;
}

static void seen_dealloc(PyObject *object) {
    Seen *self = (Seen *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->python);
    Py_XDECREF(self->observation);
    Py_XDECREF(self->runs);
    Py_XDECREF(self->schedstat);
    Py_XDECREF(self->noted);
    Py_XDECREF(self->unsettled);
    Py_XDECREF(self->waited_line);
    Py_XDECREF(self->waited_observation);
    Py_XDECREF(self->plain);
    free(self->noted_words);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* Note the run that goes on, if there is one; -1 on error. */
static int add_run(Seen *self, Py_ssize_t tick) {
    if (self->observation == NULL || self->observation == Py_None) return 0;
    PyObject *run = Py_BuildValue("(nnO)", self->run_start, tick - self->run_start, self->observation);
    int failed = run == NULL || PyList_Append(self->runs, run) < 0;
    Py_XDECREF(run);
    return failed ? -1 : 0;
}

int observe(Seen *self, PyObject *observation, Py_ssize_t tick) {
    if (self->observation == NULL || self->runs == NULL || !PyList_Check(self->runs)) {
        PyErr_SetString(PyExc_TypeError, "runs are a list");
        return -1;
    }
    int equal = PyObject_RichCompareBool(observation, self->observation, Py_EQ);
    if (equal != 0) return equal < 0 ? -1 : 0;
    if (tick > self->run_start) {
        if (add_run(self, tick) < 0) return -1;
        self->run_start = tick;
    } else {
        Py_ssize_t last = PyList_Size(self->runs) - 1;
        if (last >= 0) {
            /* Seen otherwise for no whole tick: the same run goes on. */
            Py_ssize_t first, ticks;
            PyObject *before, *run = PyList_GetItem(self->runs, last);
            if (!PyTuple_Check(run) || !PyArg_ParseTuple(run, "nnO", &first, &ticks, &before)) {
                if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "a run is (first, ticks, observation)");
                return -1;
            }
            equal = PyObject_RichCompareBool(before, observation, Py_EQ);
            if (equal < 0) return -1;
            if (equal && ticks >= 0 && first <= tick && tick - first == ticks) {
                if (PyList_SetSlice(self->runs, last, last + 1, NULL) < 0) return -1;
                self->run_start = first;
            }
        }
    }
    REPLACE(self->observation, Py_NewRef(observation));
    return 0;
}

static PyObject *seen_observe(PyObject *object, PyObject *args) {
    PyObject *observation;
    Py_ssize_t tick;
    if (!PyArg_ParseTuple(args, "On:observe", &observation, &tick)) return NULL;
    if (observe((Seen *)object, observation, tick) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *seen_begin_run(PyObject *object, PyObject *args) {
    Seen *self = (Seen *)object;
    PyObject *observation;
    Py_ssize_t tick;
    if (!PyArg_ParseTuple(args, "On:begin_run", &observation, &tick)) return NULL;
    if (tick > self->run_start) {
        if (add_run(self, tick) < 0) return NULL;
        self->run_start = tick;
    }
    REPLACE(self->observation, Py_NewRef(observation));
    Py_RETURN_NONE;
}

static PyObject *seen_close_run(PyObject *object, PyObject *number) {
    Seen *self = (Seen *)object;
    Py_ssize_t tick = PyLong_AsSsize_t(number);
    if (tick == -1 && PyErr_Occurred()) return NULL;
    if (tick > self->run_start && add_run(self, tick) < 0) return NULL;
    self->run_start = tick;
    Py_RETURN_NONE;
}

/* What was concluded of it goes for as long as its thread state and the words in its slots stay what they are. */
static PyObject *seen_note(PyObject *object, PyObject *args) {
    Seen *self = (Seen *)object;
    PyObject *thread;
    unsigned long long generation;
    int inside;
    if (!PyArg_ParseTuple(args, "OKp:note", &thread, &generation, &inside)) return NULL;
    State *state = PyType_GetModuleState(Py_TYPE(thread)); /* of another type there is none */
    if (state == NULL || Py_TYPE(thread) != state->thread) {
        PyErr_SetString(PyExc_TypeError, "note takes a thread of this module");
        return NULL;
    }
    const Thread *python = (Thread *)thread;
    int count = python->exits + python->marks;
    if (count > self->noted_room) {
        u64 *words = realloc(self->noted_words, (size_t)count * sizeof(u64));
        if (words == NULL) return PyErr_NoMemory();
        self->noted_words = words;
        self->noted_room = count;
    }
    if (count > 0) memcpy(self->noted_words, python->words, (size_t)count * sizeof(u64));
    self->noted_exits = python->exits;
    self->noted_marks = python->marks;
    self->noted_generation = generation;
    self->inside = (char)inside;
    self->calm = 1;
    REPLACE(self->noted, Py_NewRef(thread));
    Py_RETURN_NONE;
}

/* A thread that is blocked with this line and this stack is to be observed so, without further questions. */
static PyObject *seen_remember_wait(PyObject *object, PyObject *args) {
    Seen *self = (Seen *)object;
    PyObject *line, *observation;
    long stack;
    if (!PyArg_ParseTuple(args, "O!lO!:remember_wait", &PyBytes_Type, &line, &stack, &PyTuple_Type, &observation))
        return NULL;
    REPLACE(self->waited_line, Py_NewRef(line));
    REPLACE(self->waited_observation, Py_NewRef(observation));
    self->waited_stack = stack;
    Py_RETURN_NONE;
}

static PyMemberDef seen_members[] = {
    {"python", T_OBJECT_EX, offsetof(Seen, python), 0, NULL},
    {"observation", T_OBJECT_EX, offsetof(Seen, observation), 0, NULL},
    {"runs", T_OBJECT_EX, offsetof(Seen, runs), 0, NULL},
    {"run_start", T_PYSSIZET, offsetof(Seen, run_start), 0, NULL},
    {"entry", T_ULONGLONG, offsetof(Seen, entry), 0, NULL},
    {"syscall_fd", T_INT, offsetof(Seen, syscall_fd), 0, NULL},
    {"calm", T_BOOL, offsetof(Seen, calm), 0, NULL},
    {"ran", T_BOOL, offsetof(Seen, ran), 0, NULL},
    {"looked", T_BOOL, offsetof(Seen, looked), 0, NULL},
    {"changed_ns", T_LONGLONG, offsetof(Seen, changed_ns), 0, NULL},
    {"unsettled", T_OBJECT_EX, offsetof(Seen, unsettled), 0, NULL},
    {"schedstat", T_OBJECT_EX, offsetof(Seen, schedstat), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef seen_methods[] = {
    {"observe", seen_observe, METH_VARARGS, NULL},
    {"begin_run", seen_begin_run, METH_VARARGS, NULL},
    {"close_run", seen_close_run, METH_O, NULL},
    {"note", seen_note, METH_VARARGS, NULL},
    {"remember_wait", seen_remember_wait, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot seen_slots[] = {
    {Py_tp_new, seen_new},
    {Py_tp_dealloc, seen_dealloc},
    {Py_tp_members, seen_members},
    {Py_tp_methods, seen_methods},
    {0, NULL},
};

PyType_Spec seen_spec = {
    .name = "ftdiag.sources._tick.Seen",
    .basicsize = sizeof(Seen),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = seen_slots,
};
