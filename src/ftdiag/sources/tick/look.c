/* One look at the threads that ran, and what is concluded of them here: see InterpreterObserver. */

#include "tick.h"

/* Whether threads were seen waiting with that stack for what has that address; -1 on error. */
int parks_at(const Walker *self, u64 key, long stack) {
    PyObject *place = Py_BuildValue("(Kl)", (unsigned long long)key, stack);
    int found = place == NULL ? -1 : PySet_Contains(self->places, place);
    Py_XDECREF(place);
    return found;
}

/* The head of an object, as it was read with the stacks, or as it is now, which goes into `found` if that is given.
   1 if it came, 0 if not, -1 on error. */
int read_head(Walker *self, u64 object, byte *head, PyObject *found) {
    PyObject *address = found == NULL ? NULL : PyLong_FromUnsignedLongLong(object);
    PyObject *data = address == NULL ? NULL : PyDict_GetItemWithError(found, address);
    Py_XDECREF(address);
    if (data == NULL && PyErr_Occurred()) return -1;
    char *bytes;
    Py_ssize_t size;
    if (data != NULL && PyBytes_Check(data) && PyBytes_AsStringAndSize(data, &bytes, &size) == 0 &&
        (u64)size >= self->object_bytes) {
        memcpy(head, bytes, (size_t)self->object_bytes);
        return 1;
    }
    int came = read_one(self, object, head, (size_t)self->object_bytes);
    if (came <= 0 || found == NULL || data != NULL) return came;
    return tell(found, object, head, self->object_bytes) < 0 ? -1 : 1;
}

/* What is observed of a thread that is parked with that stack on what has that address, if it rests there on a lock
   that was made for this one wait: a borrowed tuple, or None; NULL on error. What is read of the lock goes into
   `found`, if that is given. */
PyObject *rest_at(Walker *self, const Thread *thread, long stack, u64 key, PyObject *found) {
    if (self->rests == NULL || key == thread->address + self->state_word || key <= self->object_bytes) return Py_None;
    PyObject *number = PyLong_FromLong(stack);
    PyObject *rest = number == NULL ? NULL : PyDict_GetItemWithError(self->rests, number), *observation;
    Py_XDECREF(number);
    if (rest == NULL) return PyErr_Occurred() ? NULL : Py_None;
    unsigned long long type;
    if (!PyArg_ParseTuple(rest, "KO!", &type, &PyTuple_Type, &observation)) return NULL;
    byte head[MAX_OBJECT_BYTES];
    int came = read_head(self, key - self->object_bytes, head, found);
    if (came < 0) return NULL;
    return came && word(head + self->object_type) == type ? observation : Py_None;
}

/* Whether what a thread does is told by its stack alone: it runs, waited for nothing and was inside of nothing
   when it was last looked at in Python. -1 on error. */
int is_plain(Walker *self, const Job *job) {
    const Seen *seen = job->seen;
    const Thread *thread = job->thread;
    if (seen == NULL || !job->running || job->stack == self->torn_stack || !seen->calm) return NOT_PLAIN;
    if (seen->noted != (PyObject *)thread || job->beside_absent != 0) return NOT_PLAIN;
    if (job->running != 1 && (thread->critical_section != 0 || seen->inside)) return NOT_PLAIN;
    if (job->running == 2 && job->stack != seen->waited_stack) return NOT_PLAIN;
    int place = thread->near_entry, has_entry = 0;
    Entry entry = {0};
    if (place >= 0 && place < job->beside_count)
        has_entry = parse_entry(job->beside_address[place], self->buffer + job->beside[place],
                                job->beside_size[place], &entry);
    if (has_entry && (entry.queued || entry.given)) {
        int parks = parks_at(self, entry.key, job->stack);
        if (parks != 0) return parks < 0 ? -1 : NOT_PLAIN;
    }
    if (job->running == 3) {
        if (!has_entry || !entry.queued) return NOT_PLAIN;
        PyObject *rest = rest_at(self, thread, job->stack, entry.key, NULL);
        if (rest == NULL || rest == Py_None) return rest == NULL ? -1 : NOT_PLAIN;
    }
    if (thread->critical_section != 0 || seen->inside) return MOVED;
    if (thread->exits != seen->noted_exits || thread->marks != seen->noted_marks) return MOVED;
    if (thread->exits == 0) return PLAIN;
    if (!self->words_last || seen->noted_generation != self->generation_of_words) return MOVED;
    size_t size = (size_t)(thread->exits + thread->marks) * sizeof(u64);
    return memcmp(thread->words, seen->noted_words, size) == 0 ? PLAIN : MOVED;
}

static const char running_line[] = "running\n";        /* as in threadlines.py */
static const char without_stack[] = "-1 0x0 0x0"; /* as in threads.py */

PyObject *walker_prepare(PyObject *object, PyObject *args) {
    Walker *self = (Walker *)object;
    PyObject *parse, *places;
    unsigned long long reach, section;
    int words_last;
    long plain[4];
    if (!PyArg_ParseTuple(args, "OO!KKp(llll):prepare", &parse, &PySet_Type, &places, &reach, &section, &words_last,
                          &plain[0], &plain[1], &plain[2], &plain[3]))
        return NULL;
    if (reach < ENTRY_BYTES || reach > MAX_BESIDE_BYTES || section == 0 || section > MAX_BESIDE_BYTES) {
        PyErr_SetString(PyExc_ValueError, "sizes of what lies beside a stack are out of all bounds");
        return NULL;
    }
    self->reach_bytes = reach;
    self->section_bytes = section;
    self->words_last = words_last;
    memcpy(self->plain, plain, sizeof plain);
    REPLACE(self->parse, Py_NewRef(parse));
    REPLACE(self->places, Py_NewRef(places));
    Py_RETURN_NONE;
}

/* What ticks take that are concluded later: see sampling/replay.py. */
PyObject *walker_prepare_later(PyObject *object, PyObject *args) {
    Walker *self = (Walker *)object;
    PyObject *places, *rests, *words, *lockless, *pauses, *ask, *learn;
    unsigned long long state_word, object_bytes, object_type;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!OOKKK:prepare_later", &PyDict_Type, &places, &PyDict_Type, &rests, &PySet_Type,
                          &words, &PySet_Type, &lockless, &PyDict_Type, &pauses, &ask, &learn, &state_word, &object_bytes, &object_type))
        return NULL;
    if (state_word > MAX_STATE_BYTES || object_bytes > MAX_OBJECT_BYTES || object_type + 8 > object_bytes) {
        PyErr_SetString(PyExc_ValueError, "an offset is out of all bounds");
        return NULL;
    }
    self->state_word = state_word;
    self->object_bytes = object_bytes;
    self->object_type = object_type;
    REPLACE(self->lock_places, Py_NewRef(places));
    REPLACE(self->rests, Py_NewRef(rests));
    REPLACE(self->known_words, Py_NewRef(words));
    REPLACE(self->lockless, Py_NewRef(lockless));
    REPLACE(self->pauses, Py_NewRef(pauses));
    REPLACE(self->ask, Py_NewRef(ask));
    REPLACE(self->learn, Py_NewRef(learn));
    Py_RETURN_NONE;
}

int know_word(Walker *self, PyObject *number) {
    if (PySet_Size(self->known_words) >= MAX_FRAMES) PySet_Clear(self->known_words);
    return PySet_Add(self->known_words, number);
}

/* What was in a thread's slots at its last walk is known to mean what it means, until the set of these is cleared. */
PyObject *walker_know(PyObject *object, PyObject *one) {
    Walker *self = (Walker *)object;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    if (Py_TYPE(one) != state->thread || self->known_words == NULL) {
        PyErr_SetString(PyExc_TypeError, "know takes a thread of this module, once it was prepared");
        return NULL;
    }
    const Thread *thread = (Thread *)one;
    for (int i = 0; thread->exits > 0 && i < thread->exits + thread->marks; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(thread->words[i]);
        int failed = number == NULL || know_word(self, number) < 0;
        Py_XDECREF(number);
        if (failed) return NULL;
    }
    Py_RETURN_NONE;
}

/* What the kernel says of a thread's system call, and what that means; -1 on error. */
static int read_line(Walker *self, Looked *looked) {
    Seen *seen = looked->seen;
    looked->entry_before = seen->entry;
    char text[SYSCALL_BYTES];
    ssize_t got;
    if (seen->syscall_fd >= 0) {
        got = pread(seen->syscall_fd, text, sizeof text, 0);
        if (got < 0 && (errno == ESRCH || errno == ENOENT)) return 0; /* gone */
        if (got < 0) got = 0;
    } else {
        PyObject *line = PyObject_CallMethod((PyObject *)seen, "syscall_line", NULL);
        if (line == NULL) return -1;
        if (line == Py_None) {
            Py_DECREF(line);
            return 0;
        }
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(line, &bytes, &length) < 0) {
            Py_DECREF(line);
            return -1;
        }
        got = length > (Py_ssize_t)sizeof text ? (ssize_t)sizeof text : length;
        memcpy(text, bytes, (size_t)got);
        Py_DECREF(line);
    }
    size_t length = (size_t)got;
    if (length >= sizeof without_stack - 1 && memcmp(text, without_stack, sizeof without_stack - 1) == 0) return 0;
    looked->state = IS_RUNNING;
    if (length == sizeof running_line - 1 && memcmp(text, running_line, length) == 0) return 0;
    looked->line = PyBytes_FromStringAndSize(text, got);
    looked->blocked = looked->line == NULL ? NULL : PyObject_CallFunctionObjArgs(self->parse, looked->line, NULL);
    if (looked->blocked == NULL) return -1;
    looked->state = IS_BLOCKED; /* or what cannot be told from it: it is concluded in Python in any case */
    if (looked->blocked == Py_None) return 0;
    PyObject *number = PyObject_GetAttrString(looked->blocked, "entry");
    unsigned long long entry = number == NULL ? 0 : PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(number);
    if (PyErr_Occurred()) return -1;
    looked->entry = entry;
    if (entry != 0) seen->entry = entry;
    return 0;
}

int is_unreadable(PyObject *unreadable, u64 address) {
    if (PySet_Size(unreadable) == 0) return 0;
    PyObject *one = PyLong_FromUnsignedLongLong(address);
    int found = one == NULL ? -1 : PySet_Contains(unreadable, one);
    Py_XDECREF(one);
    return found;
}

/* What is read beside a thread state: the wait entry (0: none) and the last critical section; -1 on error. */
static int want_near(const Walker *self, Thread *thread, u64 entry, PyObject *unreadable, unsigned long long count) {
    if (thread->near_known && thread->near_for[0] == entry && thread->near_for[1] == thread->section &&
        thread->near_unreadable == count)
        return 0;
    thread->near_count = thread->near_known = 0;
    thread->near_entry = -1;
    int bad = entry == 0 ? 1 : is_unreadable(unreadable, entry);
    if (bad == 0) {
        thread->near_entry = thread->near_count;
        thread->near[thread->near_count++] = (Range){entry, self->reach_bytes};
    }
    if (bad >= 0) bad = thread->section == 0 ? 1 : is_unreadable(unreadable, thread->section);
    if (bad == 0) thread->near[thread->near_count++] = (Range){thread->section, self->section_bytes};
    if (bad < 0) return -1;
    thread->near_for[0] = entry;
    thread->near_for[1] = thread->section;
    thread->near_unreadable = count;
    thread->near_known = 1;
    return 0;
}

/* Observe a thread that runs; -1 on error. */
static int observe_plain(const Walker *self, Seen *seen, long stack, Py_ssize_t tick) {
    if (seen->plain != NULL && seen->plain == seen->observation && seen->plain_stack == stack) return 0;
    PyObject *fresh =
        Py_BuildValue("(lllll)", self->plain[0], stack, self->plain[1], self->plain[2], self->plain[3]);
    if (fresh == NULL || observe(seen, fresh, tick) < 0) {
        Py_XDECREF(fresh);
        return -1;
    }
    REPLACE(seen->plain, Py_NewRef(seen->observation));
    seen->plain_stack = stack;
    Py_DECREF(fresh);
    return 0;
}

/* Whether a thread is blocked in what it was blocked in before, which its line alone tells. */
static int is_known_wait(const Looked *looked) {
    const Seen *seen = looked->seen;
    if (looked->line == NULL || seen->waited_line == NULL) return 0;
    /* Of a call that its line alone tells only the number counts, and whether the first argument is 0. */
    const char *line = PyBytes_AsString(looked->line), *waited = PyBytes_AsString(seen->waited_line);
    size_t number = strcspn(line, " ");
    return strncmp(line, waited, number + 1) == 0 && line[number] == ' ' &&
           (strncmp(line + number, " 0x0 ", 5) == 0) == (strncmp(waited + number, " 0x0 ", 5) == 0);
}

/* Observe a thread that is known to be off its core; -1 on error. */
static int observe_wait(Seen *seen, PyObject *observed, Py_ssize_t tick) {
    PyObject *observation = Py_NewRef(observed), *unsettled = seen->unsettled;
    int failed = observe(seen, observation, tick) < 0;
    Py_DECREF(observation);
    if (failed || unsettled == NULL || !PyDict_Check(unsettled)) return failed ? -1 : 0;
    int there = PyDict_Contains(unsettled, (PyObject *)seen);
    if (there > 0) there = PyDict_DelItem(unsettled, (PyObject *)seen);
    return there < 0 ? -1 : 0;
}

/* Observe what a look concluded of a thread; -1 on error. */
static int observe_job(const Walker *self, const Job *job, Py_ssize_t tick) {
    if (job->running == 1) return observe_plain(self, job->seen, job->stack, tick);
    if (job->running == 2) return observe_wait(job->seen, job->seen->waited_observation, tick);
    PyObject *number = PyLong_FromLong(job->stack);
    PyObject *rest = number == NULL ? NULL : PyDict_GetItemWithError(self->rests, number);
    Py_XDECREF(number);
    if (rest == NULL || !PyTuple_Check(rest)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "what is observed of a rest is missing");
        return -1;
    }
    return observe_wait(job->seen, PyTuple_GetItem(rest, 1), tick);
}

/* What is left to conclude in Python of a thread. */
static PyObject *rest_of(const Looked *looked, const Job *jobs) {
    PyObject *stacks = PyTuple_New(looked->count);
    for (int i = 0; stacks != NULL && i < looked->count; i++) {
        PyObject *number = PyLong_FromLong(jobs[looked->first + i].stack);
        if (number == NULL || PyTuple_SetItem(stacks, i, number) < 0) Py_CLEAR(stacks);
    }
    if (stacks == NULL) return NULL;
    PyObject *blocked = looked->blocked == NULL ? Py_None : looked->blocked;
    PyObject *result = Py_BuildValue("(OOOO)", (PyObject *)looked->seen, looked->pythons, blocked, stacks);
    Py_DECREF(stacks);
    return result;
}

/* (those that are gone, (thread, its state, its stack) of those that may hold other locks than before, (thread, its
   states, what blocks it, their stacks) of those that are left to conclude, number of stacks that were walked, of
   those that were torn). */
static PyObject *conclude(const Walker *self, const Looked *looked, Py_ssize_t count, const Job *jobs, int job_count,
                          Py_ssize_t tick, int later) {
    PyObject *gone = PyList_New(0), *moved = PyList_New(0), *rest = PyList_New(0), *result = NULL;
    int failed = gone == NULL || moved == NULL || rest == NULL;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        const Looked *one = &looked[i];
        if (one->state == IS_GONE)
            failed = PyList_Append(gone, (PyObject *)one->seen) < 0;
        else if (later && jobs[one->first].plain != PLAIN)
            continue; /* it was taken */
        else if (one->count == 1 && jobs[one->first].plain != NOT_PLAIN) {
            const Job *job = &jobs[one->first];
            failed = observe_job(self, job, tick) < 0;
            one->seen->looked = job->running == 1;
            if (!failed && job->plain == MOVED) {
                PyObject *held = Py_BuildValue("(OOl)", (PyObject *)one->seen, (PyObject *)job->thread, job->stack);
                failed = held == NULL || PyList_Append(moved, held) < 0;
                Py_XDECREF(held);
            }
        } else {
            PyObject *left = rest_of(one, jobs);
            failed = left == NULL || PyList_Append(rest, left) < 0;
            Py_XDECREF(left);
        }
    }
    int torn = 0;
    for (int j = 0; j < job_count; j++) torn += jobs[j].stack == self->torn_stack;
    if (!failed) result = Py_BuildValue("(OOOii)", gone, moved, rest, job_count, torn);
    Py_XDECREF(gone);
    Py_XDECREF(moved);
    Py_XDECREF(rest);
    return result;
}

static int take_looked(State *state, Looked *one, PyObject *object, int *job_count) {
    if (!PyObject_TypeCheck(object, state->seen)) {
        PyErr_SetString(PyExc_TypeError, "look takes what was seen of threads");
        return -1;
    }
    one->seen = (Seen *)Py_NewRef(object);
    one->state = IS_GONE;
    if (one->seen->python == NULL) {
        PyErr_SetString(PyExc_TypeError, "its thread states are missing");
        return -1;
    }
    one->pythons = PySequence_Tuple(one->seen->python);
    Py_ssize_t count = one->pythons == NULL ? -1 : PyTuple_Size(one->pythons);
    if (count < 0) return -1;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyObject_TypeCheck(PyTuple_GetItem(one->pythons, i), state->thread)) {
            PyErr_SetString(PyExc_TypeError, "look takes threads of this module");
            return -1;
        }
    if (count > (1 << 20) - *job_count) {
        PyErr_SetString(PyExc_ValueError, "too many threads");
        return -1;
    }
    one->count = (int)count;
    *job_count += (int)count;
    return 0;
}

/* What a look at these threads gives, as `conclude` says. */
PyObject *look_at(Walker *self, State *state, PyObject *threads, PyObject *wanted, PyObject *found,
                         PyObject *unreadable, unsigned long long unreadable_count, unsigned long long generation,
                         Py_ssize_t tick, Later *later) {
    PyObject *result = NULL;
    if (self->busy || self->parse == NULL) {
        PyErr_SetString(PyExc_RuntimeError, self->busy ? "a walk is under way" : "nothing was prepared");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(threads), taken = 0;
    int job_count = 0, most = 0;
    Looked *looked = calloc((size_t)count + 1, sizeof(Looked));
    Job *jobs = NULL;
    Wanted *ranges = NULL;
    if (looked == NULL) return PyErr_NoMemory();
    self->busy = 1;
    self->work = 0;
    self->generation_of_words = generation;
    int failed = 0;
    for (; taken < count && !failed; taken++) {
        if (taken >= PyList_Size(threads)) { /* a method that was called has taken some away */
            count = taken;
            break;
        }
        failed = take_looked(state, &looked[taken], PyList_GetItem(threads, taken), &most) < 0 ||
                 read_line(self, &looked[taken]) < 0;
    }
    if (!failed) {
        jobs = calloc((size_t)most + 1, sizeof(Job));
        if (jobs == NULL) {
            PyErr_NoMemory();
            failed = 1;
        }
    }
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        Looked *one = &looked[i];
        if (one->state == IS_GONE) continue;
        one->first = job_count;
        for (int k = 0; k < one->count && !failed; k++) {
            Job *job = &jobs[job_count++];
            job->thread = (Thread *)PyTuple_GetItem(one->pythons, k);
            job->seen = one->seen;
            if (one->count == 1)
                job->running = one->state == IS_RUNNING ? 1 : is_known_wait(one) ? 2 : one->entry != 0 ? 3 : 0;
            failed = want_near(self, job->thread, k == 0 ? one->seen->entry : 0, unreadable, unreadable_count) < 0;
        }
    }
    int range_count = failed ? -1 : take_wanted(wanted, &ranges);
    if (!failed) failed = range_count < 0;
    if (!failed && job_count + range_count > 0) failed = walk_all(self, jobs, job_count, found, ranges, range_count) < 0;
    int left_out = 0;
    if (!failed && later != NULL)
        left_out = take_later(self, later, state, looked, count, jobs, wanted, found, unreadable);
    if (!failed && left_out >= 0) result = conclude(self, looked, count, jobs, job_count, tick, left_out);
    for (Py_ssize_t i = 0; i < taken; i++) {
        Py_XDECREF((PyObject *)looked[i].seen);
        Py_XDECREF(looked[i].pythons);
        Py_XDECREF(looked[i].line);
        Py_XDECREF(looked[i].blocked);
    }
    forget_late(self);
    free(looked);
    free(jobs);
    free(ranges);
    self->busy = 0;
    return result;
}

PyObject *walker_look(PyObject *object, PyObject *args) {
    PyObject *threads, *wanted, *found, *unreadable;
    unsigned long long unreadable_count, generation;
    Py_ssize_t tick;
    if (!PyArg_ParseTuple(args, "O!O!O!O!KKn:look", &PyList_Type, &threads, &PyDict_Type, &wanted, &PyDict_Type,
                          &found, &PySet_Type, &unreadable, &unreadable_count, &generation, &tick))
        return NULL;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    return look_at((Walker *)object, state, threads, wanted, found, unreadable, unreadable_count, generation, tick,
                   NULL);
}
