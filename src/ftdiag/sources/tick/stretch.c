/* Ticks of which nothing is left to conclude: see sampling/steady.py. */

#include "tick.h"

#include <poll.h>
#include <sys/stat.h>
#include <time.h>

static long long now_ns(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return (long long)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* The CPU time of all threads that a process ever had (procfs.process_cpu_ns), or -1. */
static long long process_clock(int pid) {
    struct timespec at;
    if (pid <= 0 || clock_gettime((clockid_t)(~(unsigned)pid << 3 | 2), &at) != 0) return -1;
    return (long long)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* Sleep until a time; 1 if a descriptor is ready before, or a signal came, 0 if not. */
static int rest_until(long long due, struct pollfd *files, nfds_t count) {
    int ready;
    long long left = due - now_ns(CLOCK_MONOTONIC);
    if (left < 0) left = 0;
    struct timespec wait = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    Py_BEGIN_ALLOW_THREADS
    ready = ppoll(files, count, &wait, NULL);
    Py_END_ALLOW_THREADS
    return ready != 0;
}

/* Whether one of the places that are watched has something else than before; -1 on error. */
static int has_changed(PyObject *watched, PyObject *found) {
    PyObject *address, *before;
    Py_ssize_t place = 0;
    while (PyDict_Next(watched, &place, &address, &before)) {
        PyObject *now = PyDict_GetItemWithError(found, address);
        if (now == NULL && PyErr_Occurred()) return -1;
        if (now == NULL || now == Py_None) continue;
        int equal = PyObject_RichCompareBool(now, before, Py_EQ);
        if (equal <= 0) return equal < 0 ? -1 : 1;
    }
    return 0;
}

/* Whether one of the places that are told has something else than before, or was not read; -1 on error. */
int is_untold(PyObject *told, PyObject *found) {
    PyObject *address, *before;
    Py_ssize_t place = 0;
    while (PyDict_Next(told, &place, &address, &before)) {
        PyObject *now = PyDict_GetItemWithError(found, address);
        if (now == NULL) return PyErr_Occurred() ? -1 : 1;
        int equal = PyObject_RichCompareBool(now, before, Py_EQ);
        if (equal <= 0) return equal < 0 ? -1 : 1;
    }
    return 0;
}

typedef struct {
    PyObject *times;  /* list of them */
    PyObject *ran;    /* dict: those that ran at one of them */
    PyObject *moved;  /* dict: those that may hold other locks than before */
    PyObject *pending; /* (gone, left) of the last one; NULL if that was concluded */
    PyObject *last;    /* list: those that were looked at at the last one */
    const char *quiet_stacks;
    Py_ssize_t quiet_size, first_stack;
    int sighted; /* one of these stands where it may matter */
    int other;   /* the tick that is due is somebody else's to take */
    int asked;   /* at the last one it may have changed who holds what */
    long long due, late, missed;
    long long clock; /* of the process, at the tick that ends it; -1: not read */
    int walked, torn;
} Stretch;

/* Whether a thread has a stack, and a chain, of which it is not known that they do not matter; -1 on error. */
static int is_sighted(const State *state, const Stretch *stretch, const Seen *seen) {
    PyObject *noted = seen->noted;
    if (noted != NULL && PyList_Size(seen->python) == 1 && PyList_GetItem(seen->python, 0) == noted &&
        Py_TYPE(noted) == state->thread && ((const Thread *)noted)->depth > 0 && ((const Thread *)noted)->quiet_chain)
        return 0;
    if (stretch->quiet_stacks == NULL) return 0;
    if (!seen->later && (seen->observation == NULL || !PyTuple_Check(seen->observation) ||
                         PyTuple_Size(seen->observation) < 2))
        return 0;
    Py_ssize_t stack =
        seen->later ? seen->later_stack : PyLong_AsSsize_t(PyTuple_GetItem(seen->observation, 1));
    if (stack == -1 && PyErr_Occurred()) return -1;
    return stack >= stretch->first_stack &&
           (stack >= stretch->quiet_size || stretch->quiet_stacks[stack] != QUIET_STACK);
}

/* Note threads that were looked at; -1 on error. */
static int add_all(const State *state, Stretch *stretch, PyObject *threads) {
    REPLACE(stretch->last, Py_NewRef(threads));
    stretch->sighted = 0;
    for (Py_ssize_t i = 0; i < PyList_Size(threads); i++) {
        PyObject *thread = PyList_GetItem(threads, i);
        ((Seen *)thread)->ran = 1;
        if (PyDict_SetItem(stretch->ran, thread, Py_None) < 0) return -1;
        int sighted = is_sighted(state, stretch, (Seen *)thread);
        if (sighted < 0) return -1;
        stretch->sighted |= sighted;
    }
    return 0;
}

/* Take in what a look gave: (gone, moved, left, walked, torn); -1 on error. */
static int take_look(Stretch *stretch, PyObject *look) {
    PyObject *gone, *moved, *left;
    int walked, torn;
    if (!PyArg_ParseTuple(look, "OOOii", &gone, &moved, &left, &walked, &torn)) return -1;
    stretch->walked += walked;
    stretch->torn += torn;
    for (Py_ssize_t i = 0; i < PyList_Size(moved); i++)
        if (PyDict_SetItem(stretch->moved, PyTuple_GetItem(PyList_GetItem(moved, i), 0), Py_None) < 0) return -1;
    if (PyList_Size(gone) == 0 && PyList_Size(left) == 0) return 0;
    stretch->pending = PyTuple_Pack(2, gone, left);
    return stretch->pending == NULL ? -1 : 0;
}

/* Have what a look left concluded right away; what is still to be done then is done by who is asked next. -1 on
   error. */
static int conclude_left(Stretch *stretch, PyObject *conclude, Py_ssize_t tick) {
    PyObject *gone = PyTuple_GetItem(stretch->pending, 0), *left = PyTuple_GetItem(stretch->pending, 1);
    if (PyList_Size(gone) > 0) return 0;
    PyObject *said = PyObject_CallFunction(conclude, "On", left, tick);
    int goes_on = said == NULL ? -1 : PyObject_IsTrue(said);
    Py_XDECREF(said);
    if (goes_on < 0) return -1;
    PyObject *none = goes_on ? NULL : PyList_New(0);
    PyObject *pending = none == NULL ? NULL : PyTuple_Pack(2, gone, none);
    Py_XDECREF(none);
    REPLACE(stretch->pending, pending);
    return goes_on || pending != NULL ? 0 : -1;
}

/* Have it looked at whether those that were looked at at this tick are inside of something, while all that they do is
   concluded; whether the next tick can follow, -1 on error. */
static int look_inside(Stretch *stretch, PyObject *sight) {
    PyObject *said = PyObject_CallFunctionObjArgs(sight, stretch->ran, stretch->last, NULL);
    int goes_on = said == NULL ? -1 : PyObject_IsTrue(said);
    Py_XDECREF(said);
    stretch->sighted = 0;
    return goes_on;
}

PyObject *walker_stretch(PyObject *object, PyObject *args) {
    Walker *self = (Walker *)object;
    PyObject *lines, *unsettled, *wanted, *found, *unreadable, *watched, *files, *quiet_stacks, *rings, *told, *moved;
    PyObject *waiting, *conclude, *sight, *result = NULL;
    unsigned long long count, generation;
    Py_ssize_t tick;
    int directory, quiet, process;
    long long links, due, period, last, slack, waits;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    Py_ssize_t first_stack;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!KKO!iLO!pn(LLLLL)OniOOO!OOO:stretch", state->lines, &lines, &PyDict_Type, &unsettled,
                          &PyDict_Type, &wanted, &PyDict_Type, &found, &PySet_Type, &unreadable, &count, &generation,
                          &PyDict_Type, &watched, &directory, &links, &PyTuple_Type, &files, &quiet, &tick, &due,
                          &period, &last, &slack, &waits, &quiet_stacks, &first_stack, &process, &rings, &told,
                          &PyDict_Type, &moved, &waiting, &conclude, &sight))
        return NULL;
    struct pollfd polled[MAX_POLLED];
    Py_ssize_t file_count = PyTuple_Size(files);
    if (period <= 0 || file_count > MAX_POLLED) {
        PyErr_SetString(PyExc_ValueError, "a stretch has a period above 0, and few files");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < file_count; i++) {
        long fd = PyLong_AsLong(PyTuple_GetItem(files, i));
        if (fd == -1 && PyErr_Occurred()) return NULL;
        polled[i] = (struct pollfd){(int)fd, POLLIN, 0};
    }
    if (rings != Py_None && Py_TYPE(rings) != state->rings) {
        PyErr_SetString(PyExc_TypeError, "rings are those of this module, or None");
        return NULL;
    }
    if (told != Py_None && !PyDict_Check(told)) {
        PyErr_SetString(PyExc_TypeError, "what was told of locks is a dict, or None");
        return NULL;
    }
    if (waiting != Py_None && !PyTuple_Check(waiting)) {
        PyErr_SetString(PyExc_TypeError, "who waits is told by a tuple, or None");
        return NULL;
    }
    if (quiet_stacks != Py_None && !PyByteArray_Check(quiet_stacks)) {
        PyErr_SetString(PyExc_TypeError, "what stacks do not matter is told by a bytearray");
        return NULL;
    }
    Stretch stretch = {.times = PyList_New(0), .ran = PyDict_New(), .moved = Py_NewRef(moved), .due = due,
                       .clock = -1};
    stretch.last = PyList_New(0);
    stretch.first_stack = first_stack;
    int failed = stretch.times == NULL || stretch.ran == NULL || stretch.moved == NULL || stretch.last == NULL;
    Later later = {.moved = moved, .told = told, .on = told != Py_None};
    failed = failed || (waiting != Py_None && begin_later(state, &later, waiting) < 0);
    int enough = 0;
    while (!failed && !enough && stretch.pending == NULL) {
        stretch.other = rest_until(stretch.due, polled, (nfds_t)file_count);
        long long now = now_ns(CLOCK_MONOTONIC);
        int was_left = 0;
        struct stat about;
        stretch.other = stretch.other || fstat(directory, &about) != 0 || (long long)about.st_nlink != links;
        if (stretch.other) break;
        int gone = note_ran((Lines *)lines, unsettled, now);
        failed = gone < 0 || let_wait(unsettled, state, now, waits) < 0;
        /* Who ran is noted in `unsettled`: whoever looks next finds them there. */
        stretch.other = gone || quiet != (PyDict_Size(unsettled) == 0);
        if (failed || stretch.other) break;
        enough = now >= last;
        if (enough) stretch.clock = process_clock(process);
        if (!quiet) {
            PyObject *threads = PyDict_Keys(unsettled);
            PyDict_Clear(found);
            self->absent_told = 0;
            PyObject *look = threads == NULL ? NULL
                                             : look_at(self, state, threads, wanted, found, unreadable, count,
                                                       generation, tick, waiting == Py_None ? NULL : &later);
            if (look == NULL) {
                /* Whoever looks next meets the same, and knows what it means. */
                PyErr_Clear();
                Py_XDECREF(threads);
                stretch.other = 1;
                break;
            }
            if (quiet_stacks != Py_None) { /* it may have been grown meanwhile */
                stretch.quiet_stacks = PyByteArray_AsString(quiet_stacks);
                stretch.quiet_size = PyByteArray_Size(quiet_stacks);
            }
            was_left = later.left != NULL;
            failed = take_look(&stretch, look) < 0;
            if (!failed && stretch.pending != NULL && conclude != Py_None && !later.on)
                failed = conclude_left(&stretch, conclude, tick) < 0;
            failed = failed || add_all(state, &stretch, threads) < 0 ||
                     add_later(&later, PyList_Size(stretch.times), found, threads) < 0;
            Py_XDECREF(look);
            Py_XDECREF(threads);
            if (failed) break;
        }
        if (now - stretch.due > slack) {
            stretch.late++;
            if (now - stretch.due > period) {
                long long missed = (now - stretch.due) / period;
                stretch.missed += missed;
                stretch.due += missed * period;
            }
        }
        stretch.due += period;
        tick++;
        PyObject *time = PyLong_FromLongLong(now);
        failed = time == NULL || PyList_Append(stretch.times, time) < 0;
        Py_XDECREF(time);
        if (!failed && rings != Py_None && now >= ((Rings *)rings)->due) {
            ((Rings *)rings)->due = now + ((Rings *)rings)->every;
            failed = drain_rings((Rings *)rings) < 0;
        }
        int changed = failed || quiet ? 0 : has_changed(watched, found);
        failed = failed || changed < 0;
        if (!failed && !quiet && !was_left && (told != Py_None || later.on)) {
            /* Once something was left, locks may be others' than when it was told whose they are. */
            stretch.asked = later.ticks != NULL && PyList_Size(later.ticks) > 0 ? 1
                            : PyDict_Size(stretch.moved) > 0        ? 1
                                                                     : is_untold(told, found);
            failed = stretch.asked < 0;
        }
        if (!failed && stretch.sighted && sight != Py_None && !later.on && stretch.pending == NULL && !enough) {
            int goes_on = look_inside(&stretch, sight);
            failed = goes_on < 0;
            enough = goes_on == 0;
        }
        if (changed || self->absent_told || stretch.sighted || stretch.asked) break;
    }
    if (!failed)
        result = Py_BuildValue("(OOOOOOiiLLLLii)", stretch.times, stretch.ran,
                               later.ticks == NULL ? Py_None : later.ticks,
                               later.before == NULL ? Py_None : later.before,
                               stretch.pending == NULL ? Py_None : stretch.pending,
                               stretch.sighted || stretch.asked || stretch.pending != NULL ? stretch.last : Py_None,
                               stretch.other, stretch.asked, stretch.due, stretch.late, stretch.missed, stretch.clock, stretch.walked,
                               stretch.torn);
    end_later(&later);
    Py_XDECREF(stretch.times);
    Py_XDECREF(stretch.ran);
    Py_XDECREF(stretch.moved);
    Py_XDECREF(stretch.pending);
    Py_XDECREF(stretch.last);
    return result;
}
