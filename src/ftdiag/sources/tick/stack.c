/* A thread's stack: its frames, what their chain means, and the words in slots of its `with` blocks. */

#include "tick.h"

static int keep(Thread *thread, const Walker *self, int depth) {
    if (depth > thread->room) {
        int room = depth + 16;
        u64 *frames = realloc(thread->frames, (size_t)room * sizeof(u64));
        if (frames != NULL) thread->frames = frames;
        u64 *chain = realloc(thread->chain, 2 * (size_t)room * sizeof(u64));
        if (chain != NULL) thread->chain = chain;
        if (frames == NULL || chain == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        thread->room = room;
    }
    memcpy(thread->frames, self->frames, (size_t)depth * sizeof(u64));
    memcpy(thread->chain, self->chain, 2 * (size_t)depth * sizeof(u64));
    thread->depth = depth;
    return 0;
}

/* What the thread's chain means, as the caller said of it: a borrowed triple, None, or NULL on error. */
static PyObject *meaning(Walker *self, Thread *thread, int same) {
    if (same && thread->known != NULL && thread->generation == self->generation) return thread->known;
    Py_CLEAR(thread->known);
    PyObject *key = PyBytes_FromStringAndSize((const char *)thread->chain, 16 * (Py_ssize_t)thread->depth);
    if (key == NULL) return NULL;
    PyObject *found = PyDict_GetItemWithError(self->known, key);
    Py_XINCREF(found);
    thread->quiet_chain = PySet_Contains(self->quiet_chains, key) == 1;
    if (found == NULL && !PyErr_Occurred()) {
        if (self->chains != NULL)
            found = chain_meaning(self->chains, thread->chain, thread->depth);
        else {
            PyObject *chain = words_tuple(thread->chain, 2 * (Py_ssize_t)thread->depth, 1);
            found = chain == NULL ? NULL : PyObject_CallFunctionObjArgs(self->resolve, chain, NULL);
            Py_XDECREF(chain);
        }
        if (found != NULL && found != Py_None) {
            if (!is_meaning(found)) {
                PyErr_SetString(PyExc_TypeError, "resolve returns (stack, exits, marks) or None");
                Py_CLEAR(found);
            } else {
                if (PyDict_Size(self->known) >= MAX_KNOWN || self->words_of_known > MAX_KNOWN_WORDS) {
                    PyDict_Clear(self->known);
                    self->words_of_known = 0;
                }
                self->words_of_known += 2 * (unsigned long long)thread->depth;
                if (PyDict_SetItem(self->known, key, found) < 0) Py_CLEAR(found);
            }
        }
    }
    Py_DECREF(key);
    if (found == NULL) return NULL;
    thread->known = found; /* the thread owns it; None as well, which is asked anew */
    thread->generation = self->generation;
    if (found == Py_None) {
        Py_CLEAR(thread->known);
        return Py_None;
    }
    return found;
}

/* Add the words in the (frame number, offset) stack slots to those of the thread, from the same read as the
   frames; how many came, or -1 on error. */
static int collect_words(Walker *self, Thread *thread, PyObject *slots) {
    Py_ssize_t count = PyTuple_Size(slots);
    int before = thread->exits + thread->marks, came_all = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyTuple_GetItem(slots, i);
        if (pair == NULL || !PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
            PyErr_SetString(PyExc_TypeError, "a slot is (frame number, offset)");
            return -1;
        }
        unsigned long long number = PyLong_AsUnsignedLongLong(PyTuple_GetItem(pair, 0));
        unsigned long long offset = PyLong_AsUnsignedLongLong(PyTuple_GetItem(pair, 1));
        if (PyErr_Occurred()) return -1;
        if (number >= (u64)thread->depth || before + came_all >= MAX_WORDS) continue;
        u64 address = thread->frames[number] + offset, value = 0;
        int came = 0;
        for (int j = 0; j < self->region_count && !came; j++) {
            Region *region = &self->regions[j];
            if (region->low < address && address < TOP && address + 8 <= region->end) {
                value = word(region->data + (address - region->low));
                came = 1;
            }
        }
        if (!came) {
            came = read_one(self, address, &value, 8);
            if (came < 0) return -1;
        }
        if (!came) continue;
        if (before + came_all == thread->words_room) {
            int room = 2 * thread->words_room + 16;
            u64 *words = realloc(thread->words, (size_t)room * sizeof(u64));
            if (words == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            thread->words = words;
            thread->words_room = room;
        }
        thread->words[before + came_all++] = value;
    }
    return came_all;
}

/* The slots of `with` blocks, and, if there are any, what is marked; -1 on error. */
static int collect_slots(Walker *self, Thread *thread, PyObject *exits, PyObject *marks) {
    int came = collect_words(self, thread, exits);
    if (came <= 0) return came;
    thread->exits = came;
    came = collect_words(self, thread, marks);
    thread->marks = came < 0 ? 0 : came;
    return came < 0 ? -1 : 0;
}

/* The stack of a thread whose ranges were read: `state` its thread state, `chunks` what lies behind, `ahead` where
   frames that lie elsewhere are in the buffer. The number of the stack goes to `stack`; -1 on error. */
int stack_of(Walker *self, Thread *thread, const byte *state, const byte *chunks, const size_t *ahead,
                    long *stack) {
    *stack = self->torn_stack;
    thread->late = 0;
    int before = thread->depth;
    thread->depth = 0;
    self->work += THREAD_WORK;
    if (spent(self)) return 0;
    if (word(state + self->thread_native_id) != thread->native_id)
        return 0; /* the thread state was freed, or reused by another thread */
    u64 frame = word(state + self->current_frame), section = word(state + self->thread_section);
    thread->critical_section = section;
    if (section != 0) thread->section = section & ~SECTION_TAGS;
    thread->exits = thread->marks = 0;
    if (frame == 0) {
        *stack = self->no_stack;
        return 0;
    }
    self->region_count = self->order_count = 0;
    for (int i = 0; i < thread->chunk_count; i++) {
        Range chunk = thread->chunks[i];
        add_region(self, (Region){chunk.start, chunk.start + chunk.size, chunks, -1, 0});
        chunks += chunk.size;
    }
    unsigned long long late = self->late_reads;
    int depth = follow(self, thread, frame, word(state + self->chunk), ahead);
    thread->late = self->late_reads != late;
    if (depth < 0) {
        forget_late(self);
        return depth == FAILED ? -1 : 0;
    }
    if (depth == 0) {
        forget_late(self);
        *stack = self->no_stack;
        return 0;
    }
    int same = depth == before && memcmp(thread->chain, self->chain, 2 * (size_t)depth * sizeof(u64)) == 0;
    PyObject *means = keep(thread, self, depth) < 0 ? NULL : meaning(self, thread, same);
    int failed = means == NULL;
    if (!failed && means != Py_None) {
        long number = PyLong_AsLong(PyTuple_GetItem(means, 0));
        if (number == -1 && PyErr_Occurred())
            failed = 1;
        else if (PyTuple_Size(PyTuple_GetItem(means, 1)) != 0) {
            Py_INCREF(means); /* a reader that calls back must not take it away */
            failed = collect_slots(self, thread, PyTuple_GetItem(means, 1), PyTuple_GetItem(means, 2)) < 0;
            Py_DECREF(means);
        }
        *stack = number;
    }
    forget_late(self);
    return failed ? -1 : 0;
}
