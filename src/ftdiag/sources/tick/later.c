/* Ticks that are concluded later, all at once: see sampling/replay.py.

   A thread that parks on a known lock at a known place, that was woken, or that runs with other locks than before
   leaves something to conclude. All that this takes was read at the tick: it is kept, and the next tick can
   follow. What would take more (a new place, a lock of another kind, a thread that is gone) is not left. */

#include "tick.h"

enum { NOT_LATER, RUNS, WAITS, RESTS, ASKS };

typedef struct {
    int kind;
    int settles; /* whether it is known to be off its core */
    int given;   /* it was handed a lock, and is where it waited for it */
    u64 key, owner;
    PyObject *asked; /* what was found out of its wait, or NULL */
} What;

/* Whether the kernel and its wait entry say that a thread waits where it is known what for: 1, 0, or -1 on error. */
static int waits_for(const Walker *self, PyObject *found, u64 key, long stack, What *what) {
    PyObject *place = Py_BuildValue("(Kl)", (unsigned long long)key, stack);
    PyObject *owner = place == NULL ? NULL : PyDict_GetItemWithError(self->lock_places, place);
    Py_XDECREF(place);
    if (owner == NULL) return PyErr_Occurred() ? -1 : 0;
    what->key = key;
    what->owner = PyLong_AsUnsignedLongLong(owner);
    if (PyErr_Occurred()) return -1;
    if (what->owner == 0) return 1;
    PyObject *data = PyDict_GetItemWithError(found, owner); /* else it would be read when it is concluded */
    if (data == NULL) return PyErr_Occurred() ? -1 : 0;
    return data != Py_None;
}

/* Whether a context manager is of a type that is known to be no lock; what is read goes into `found`. -1 on error. */
static int holds_nothing(Walker *self, u64 slot, PyObject *found) {
    byte head[MAX_OBJECT_BYTES];
    u64 manager = slot & ~REFERENCE_TAGS;
    int came = read_head(self, manager, head, found);
    if (came <= 0) return came;
    PyObject *type = PyLong_FromUnsignedLongLong(word(head + self->object_type));
    int known = type == NULL ? -1 : PySet_Contains(self->lockless, type);
    Py_XDECREF(type);
    return known;
}

/* Whether it could be found out what a word in a slot means; -1 on error. */
static int learns_word(Walker *self, PyObject *number) {
    if (self->learn == NULL || self->learn == Py_None) return 0;
    PyObject *said = PyObject_CallFunctionObjArgs(self->learn, number, NULL);
    int learnt = said == NULL ? -1 : PyObject_IsTrue(said);
    Py_XDECREF(said);
    return learnt > 0 && know_word(self, number) < 0 ? -1 : learnt;
}

/* Whether it is known what the words in a thread's slots mean; -1 on error. */
static int knows_words(Walker *self, const Thread *thread, PyObject *found) {
    if (thread->exits == 0) return 1;
    if (!self->words_last) return 0;
    for (int i = 0; i < thread->exits + thread->marks; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(thread->words[i]);
        int known = number == NULL ? -1 : PySet_Contains(self->known_words, number);
        if (known == 0 && i < thread->exits) known = holds_nothing(self, thread->words[i], found);
        if (known == 0) known = learns_word(self, number);
        Py_XDECREF(number);
        if (known <= 0) return known;
    }
    return 1;
}

/* Whether all was read that tells who stopped the threads that are stopped; -1 on error. */
static int knows_pause(const Walker *self, PyObject *found) {
    PyObject *address, *size;
    Py_ssize_t place = 0;
    if (self->pauses == NULL || PyDict_Size(self->pauses) == 0) return 0;
    while (PyDict_Next(self->pauses, &place, &address, &size)) {
        PyObject *data = PyDict_GetItemWithError(found, address);
        if (data == NULL || data == Py_None) return PyErr_Occurred() ? -1 : 0;
    }
    return 1;
}

/* What a thread does, if no more has to be read for it than was: see InterpreterObserver._see. -1 on error. */
static int what_does(Walker *self, const Looked *one, const Job *job, PyObject *found, What *what) {
    const Thread *thread = job->thread;
    Seen *seen = one->seen;
    what->kind = NOT_LATER;
    if (job->stack == self->torn_stack || job->gone || job->beside_absent != 0) return 0;
    int known = knows_words(self, thread, found), parks = 0;
    if (known <= 0) return known;
    Entry entry = {0};
    int has_entry = 0;
    if (seen->entry != 0) {
        PyObject *address = PyLong_FromUnsignedLongLong(seen->entry);
        PyObject *data = address == NULL ? NULL : PyDict_GetItemWithError(found, address);
        Py_XDECREF(address);
        if (data == NULL && PyErr_Occurred()) return -1;
        has_entry = parses_entry(seen->entry, data, &entry);
    }
    if (has_entry) parks = parks_at(self, entry.key, job->stack);
    if (parks < 0) return -1;
    int blocked = one->state == IS_BLOCKED && one->blocked != Py_None;
    if (blocked && one->entry != 0) {
        what->kind = ASKS; /* if it left its wait, or does not wait as CPython does, the kernel is asked again */
        if (!has_entry) return 0;
        if (entry.queued) {
            what->settles = 1;
            if (entry.key == thread->address + self->state_word) { /* its world was stopped */
                int knows = knows_pause(self, found);
                what->kind = knows > 0 ? RESTS : NOT_LATER;
                return knows < 0 ? -1 : 0;
            }
            int waits = waits_for(self, found, entry.key, job->stack, what);
            if (waits < 0) return -1;
            PyObject *rest = waits ? NULL : rest_at(self, thread, job->stack, entry.key, found);
            if (rest == NULL && PyErr_Occurred()) return -1;
            what->kind = waits ? WAITS : rest != NULL && rest != Py_None && !parks ? RESTS : NOT_LATER;
            return 0;
        }
        if (!parks) return 0;
    } else if (has_entry && entry.queued && parks) {
        int waits = waits_for(self, found, entry.key, job->stack, what);
        what->kind = waits > 0 ? WAITS : NOT_LATER; /* it parks since the kernel was asked */
        return waits < 0 ? -1 : 0;
    } else if (blocked) {
        what->kind = job->running == 2 && job->stack == seen->waited_stack ? RESTS : ASKS;
        what->settles = 1;
        return 0;
    }
    what->kind = RUNS;
    what->given = has_entry && entry.given && parks;
    return 0;
}

/* Find out what a thread waits for that is not told by what was read, and is no lock; -1 on error. */
static int ask(Walker *self, const Looked *one, const Job *job, What *what) {
    what->kind = NOT_LATER;
    if (self->ask == NULL || self->ask == Py_None) return 0;
    PyObject *asked = PyObject_CallFunction(self->ask, "OOl", (PyObject *)one->seen, one->blocked, job->stack);
    if (asked == NULL) return -1;
    if (!PyTuple_Check(asked) || PyTuple_Size(asked) == 0) {
        Py_DECREF(asked);
        return 0;
    }
    PyObject *blocked = PyTuple_GetItem(asked, 0);
    what->kind = blocked == Py_None ? RUNS : RESTS;
    what->settles = blocked == one->blocked;
    what->asked = asked;
    return 0;
}

/* --- who waits --------------------------------------------------------------------------------------------- */

static void waits_no_more(Later *later, const Seen *seen) {
    for (int i = 0; i < later->count; i++)
        if (later->waiting[i].seen == seen) {
            Py_DECREF((PyObject *)later->waiting[i].seen);
            later->waiting[i] = later->waiting[--later->count];
            return;
        }
}

static int waits_from_now_on(Later *later, Seen *seen, u64 key, u64 owner) {
    if (owner == 0) return 1; /* of who waits for it nothing is read */
    if (later->count == MAX_WAITING) return 0;
    later->waiting[later->count++] =
        (Waiting){(Seen *)Py_NewRef((PyObject *)seen), seen->entry, key, owner};
    return 1;
}

/* Whether nobody has a lock, as was read; 1 also where that is not known. */
static int may_be_free(PyObject *found, u64 key, u64 owner) {
    PyObject *address = PyLong_FromUnsignedLongLong(owner);
    PyObject *data = address == NULL ? NULL : PyDict_GetItemWithError(found, address);
    char *bytes;
    Py_ssize_t size;
    Py_XDECREF(address);
    PyErr_Clear();
    if (data == NULL || !PyBytes_Check(data) || PyBytes_AsStringAndSize(data, &bytes, &size) < 0) return 1;
    return key - owner >= (u64)size || !(bytes[key - owner] & 1);
}

static int was_looked_at(const Looked *looked, Py_ssize_t count, const Seen *seen) {
    for (Py_ssize_t i = 0; i < count; i++)
        if (looked[i].seen == seen) return 1;
    return 0;
}

/* Of those that wait and did not run: whether one was handed its lock (it is looked at from now on), 0; -1 on error,
   -2 if that is not for later. */
static int who_was_given(Later *later, const Looked *looked, Py_ssize_t count, PyObject *found, int *given) {
    *given = 0;
    int places[MAX_WAITING];
    for (int i = 0; i < later->count; i++) {
        const Waiting *one = &later->waiting[i];
        if (was_looked_at(looked, count, one->seen)) continue;
        PyObject *address = PyLong_FromUnsignedLongLong(one->entry);
        PyObject *data = address == NULL ? NULL : PyDict_GetItemWithError(found, address);
        Py_XDECREF(address);
        if (data == NULL && PyErr_Occurred()) return -1;
        if (data == NULL || data == Py_None) return -2; /* it was not read */
        Entry entry;
        if (!parses_entry(one->entry, data, &entry) || entry.queued) continue;
        if (!entry.given || entry.key != one->key || may_be_free(found, one->key, one->owner)) return -2;
        places[(*given)++] = i;
    }
    for (int i = *given; i-- > 0;) {
        Seen *seen = later->waiting[places[i]].seen;
        if (seen->unsettled == NULL || PyDict_SetItem(seen->unsettled, (PyObject *)seen, Py_None) < 0) return -1;
        seen->looked = 0;
        waits_no_more(later, seen);
    }
    return 0;
}

static int want(PyObject *wanted, u64 address, u64 size) {
    PyObject *key = PyLong_FromUnsignedLongLong(address), *value = PyLong_FromUnsignedLongLong(size);
    int failed = key == NULL || value == NULL || PyDict_SetItem(wanted, key, value) < 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

/* --- a tick ------------------------------------------------------------------------------------------------- */

/* The wait entries of those that wait as they are once the stacks were read: see Holders._left. */
static int read_late(Walker *self, Later *later) {
    byte into[MAX_WAITING][REACH_MOST];
    size_t size = (size_t)self->reach_bytes;
    later->late = PyDict_New();
    if (later->late == NULL) return -1;
    if (later->count == 0 || size > REACH_MOST) return 0;
    for (int i = 0; i < later->count; i++) {
        self->local[i] = (struct iovec){into[i], size};
        self->remote[i] = (struct iovec){(void *)(uintptr_t)later->waiting[i].entry, size};
    }
    self->vectors = later->count;
    Py_ssize_t got = transfer(self, size * (size_t)later->count);
    if (got < 0) { /* whoever reads next meets the same, and knows what it means */
        PyErr_Clear();
        return 0;
    }
    for (int i = 0; i < later->count && (size_t)got >= size * (size_t)(i + 1); i++) {
        PyObject *key = PyLong_FromUnsignedLongLong(later->waiting[i].entry);
        PyObject *data = PyBytes_FromStringAndSize((const char *)into[i], (Py_ssize_t)size);
        int failed = key == NULL || data == NULL || PyDict_SetItem(later->late, key, data) < 0;
        Py_XDECREF(key);
        Py_XDECREF(data);
        if (failed) return -1;
    }
    return 0;
}

/* Note which wait entry a thread had before the ticks that are concluded later. */
static int note_before(Later *later, Seen *seen, u64 entry) {
    int there = PyDict_Contains(later->before, (PyObject *)seen);
    if (there != 0) return there < 0 ? -1 : 0;
    PyObject *number = PyLong_FromUnsignedLongLong(entry);
    int failed = number == NULL || PyDict_SetItem(later->before, (PyObject *)seen, number) < 0;
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

/* From now on all that is seen of a thread is concluded later. */
static int begins_later(Later *later, Seen *seen, u64 entry) {
    seen->calm = 0;
    return note_before(later, seen, entry);
}

static int leave_for_later(Later *later, const Looked *one, const Job *job, const What *what) {
    Seen *seen = one->seen;
    PyObject *copy = snapshot(job->thread);
    PyObject *blocked = what->asked != NULL ? what->asked : one->blocked == NULL ? Py_None : one->blocked;
    PyObject *left = copy == NULL ? NULL
                                  : Py_BuildValue("(OOOKOl)", (PyObject *)seen, (PyObject *)job->thread, copy,
                                                  (unsigned long long)seen->entry, blocked, job->stack);
    Py_XDECREF(copy);
    int failed = left == NULL || PyList_Append(later->left, left) < 0 || begins_later(later, seen, one->entry_before) < 0;
    Py_XDECREF(left);
    if (failed) return -1;
    seen->later = 1;
    seen->later_stack = job->stack;
    seen->looked = what->kind == RUNS && !what->given;
    if (what->settles && seen->unsettled != NULL) {
        int there = PyDict_Contains(seen->unsettled, (PyObject *)seen);
        if (there > 0) there = PyDict_DelItem(seen->unsettled, (PyObject *)seen);
        if (there < 0) return -1;
    }
    return 0;
}

/* What those that moved until now hold is as of their last walk. */
static int hold_later(Later *later) {
    PyObject *seen, *unused;
    Py_ssize_t place = 0;
    while (PyDict_Next(later->moved, &place, &seen, &unused)) {
        Seen *one = (Seen *)seen;
        if (one->noted == NULL || one->observation == NULL || !PyTuple_Check(one->observation)) continue;
        PyObject *copy = snapshot((const Thread *)one->noted);
        PyObject *held = copy == NULL ? NULL
                                      : Py_BuildValue("(OOOO)", seen, one->noted, copy,
                                                      PyTuple_GetItem(one->observation, 1));
        Py_XDECREF(copy);
        int failed = held == NULL || PyList_Append(later->held, held) < 0 || begins_later(later, one, one->entry) < 0;
        Py_XDECREF(held);
        if (failed) return -1;
    }
    PyDict_Clear(later->moved);
    return 0;
}

static int hold_is_known(Walker *self, const State *state, PyObject *moved, PyObject *found) {
    PyObject *seen, *unused;
    Py_ssize_t place = 0;
    while (PyDict_Next(moved, &place, &seen, &unused)) {
        const Seen *one = (Seen *)seen;
        if (!PyObject_TypeCheck(seen, state->seen) || !one->calm || one->noted == NULL || one->python == NULL ||
            PyList_Size(one->python) != 1 || PyList_GetItem(one->python, 0) != one->noted)
            return 0;
        int known = knows_words(self, (const Thread *)one->noted, found);
        if (known <= 0) return known;
    }
    return 1;
}

/* Whether what a look left is concluded later: 1, and all of it is taken; 0 if it is not; -1 on error. */
int take_later(Walker *self, Later *later, const State *state, const Looked *looked, Py_ssize_t count, const Job *jobs,
               PyObject *wanted, PyObject *found, PyObject *unreadable) {
    for (Py_ssize_t i = 0; i < count && PyList_Size(later->ticks) > 0; i++)
        if (looked[i].seen->entry != looked[i].entry_before &&
            note_before(later, looked[i].seen, looked[i].entry_before) < 0)
            return -1;
    What *all = calloc((size_t)count + 1, sizeof(What));
    if (all == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int taken = 0, any = 0, parks = 0, moved = 0, given = 0;
    if (self->lock_places == NULL || PyList_Size(later->ticks) >= MAX_LATER) goto done;
    for (Py_ssize_t i = 0; i < count; i++) {
        const Looked *one = &looked[i];
        if (one->state == IS_GONE || one->count != 1) goto done;
        const Job *job = &jobs[one->first];
        if (job->plain == PLAIN || (job->plain == MOVED && !later->on)) {
            moved |= job->plain == MOVED;
            continue;
        }
        if (what_does(self, one, job, found, &all[i]) < 0) goto failed;
        if (all[i].kind == NOT_LATER) goto done;
        any = 1;
        parks += all[i].kind == WAITS && all[i].owner != 0;
    }
    if (!later->on) {
        int known = any && !moved ? hold_is_known(self, state, later->moved, found) : 0;
        if (known < 0) goto failed;
        if (!known) goto done;
    }
    if (later->count + parks > MAX_WAITING) goto done;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (all[i].kind != WAITS || all[i].owner == 0) continue;
        int bad = is_unreadable(unreadable, looked[i].seen->entry);
        if (bad < 0) goto failed;
        if (bad) goto done;
    }
    if (later->on && !any && PyList_Size(later->ticks) == 0) {
        /* As long as nothing was left, and all is as it was told, nobody has to be told. */
        int untold = later->told == Py_None ? 0 : is_untold(later->told, found);
        if (untold < 0) goto failed;
        if (!untold) goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (all[i].kind != ASKS) continue;
        if (ask(self, &looked[i], &jobs[looked[i].first], &all[i]) < 0) goto failed;
        if (all[i].kind == NOT_LATER) goto done;
    }
    taken = who_was_given(later, looked, count, found, &given);
    if (taken == -1) goto failed;
    if (taken == -2) {
        taken = 0;
        goto done;
    }
    later->left = PyList_New(0);
    later->held = PyList_New(0);
    if (later->left == NULL || later->held == NULL) goto failed;
    if (!later->on && hold_later(later) < 0) goto failed;
    later->on = 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (all[i].kind == NOT_LATER) continue;
        if (leave_for_later(later, &looked[i], &jobs[looked[i].first], &all[i]) < 0) goto failed;
        waits_no_more(later, looked[i].seen);
        if (all[i].kind != WAITS || all[i].owner == 0) continue;
        waits_from_now_on(later, looked[i].seen, all[i].key, all[i].owner);
        if (want(wanted, looked[i].seen->entry, self->reach_bytes) < 0) goto failed;
    }
    if (any && read_late(self, later) < 0) goto failed;
    taken = 1;
    goto done;
failed:
    taken = -1;
done:
    for (Py_ssize_t i = 0; i < count; i++) Py_XDECREF(all[i].asked);
    free(all);
    return taken;
}

/* --- a stretch ---------------------------------------------------------------------------------------------- */

int begin_later(const State *state, Later *later, PyObject *waiting) {
    later->ticks = PyList_New(0);
    later->before = PyDict_New();
    if (later->ticks == NULL || later->before == NULL) return -1;
    for (Py_ssize_t i = 0; i < PyTuple_Size(waiting); i++) {
        PyObject *seen;
        unsigned long long key, owner;
        if (!PyArg_ParseTuple(PyTuple_GetItem(waiting, i), "OKK", &seen, &key, &owner)) return -1;
        if (!PyObject_TypeCheck(seen, state->seen) || later->count == MAX_WAITING) {
            PyErr_SetString(PyExc_TypeError, "few threads wait, each with a lock and its owner");
            return -1;
        }
        waits_from_now_on(later, (Seen *)seen, key, owner);
    }
    return 0;
}

/* Keep what the tick at hand left, if it did; -1 on error. */
int add_later(Later *later, Py_ssize_t number, PyObject *found, PyObject *threads) {
    if (later->left == NULL) return 0;
    PyObject *copy = PyDict_Copy(found);
    PyObject *tick = copy == NULL ? NULL
                                  : Py_BuildValue("(nOOOOO)", number, threads, later->held, later->left, copy,
                                                  later->late == NULL ? Py_None : later->late);
    Py_XDECREF(copy);
    int failed = tick == NULL || PyList_Append(later->ticks, tick) < 0;
    Py_XDECREF(tick);
    Py_CLEAR(later->left);
    Py_CLEAR(later->held);
    Py_CLEAR(later->late);
    return failed ? -1 : 0;
}

void end_later(Later *later) {
    PyObject *seen, *unused;
    Py_ssize_t place = 0;
    while (later->before != NULL && PyDict_Next(later->before, &place, &seen, &unused)) ((Seen *)seen)->later = 0;
    for (int i = 0; i < later->count; i++) Py_DECREF((PyObject *)later->waiting[i].seen);
    later->count = 0;
    Py_CLEAR(later->ticks);
    Py_CLEAR(later->before);
    Py_CLEAR(later->left);
    Py_CLEAR(later->held);
    Py_CLEAR(later->late);
}
