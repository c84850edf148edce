/* The stacks of many threads in one call. */

#include "tick.h"

enum { STATE, BESIDE, CHUNK, AHEAD, WANTED };

static int pieces_of(u64 size) {
    if (size <= PIECE_BYTES) return 1;
    u64 length = (size + MAX_PIECES - 1) / MAX_PIECES;
    length = (length + 4095) & ~(u64)4095;
    if (length < PIECE_BYTES) length = PIECE_BYTES;
    return (int)((size + length - 1) / length);
}

static int vectors_of(const Job *job) {
    const Thread *thread = job->thread;
    int count = 1 + thread->ahead_count;
    for (int i = 0; i < job->beside_count; i++) count += !(job->beside_absent >> i & 1);
    for (int i = 0; i < thread->chunk_count; i++) count += pieces_of(thread->chunks[i].size);
    return count;
}

static int take_beside(Job *job) {
    job->beside_count = 0;
    job->beside_absent = 0;
    if (job->seen != NULL) {
        for (int i = 0; i < job->thread->near_count; i++) {
            Range near = job->thread->near[i];
            job->beside_address[i] = near.start;
            job->beside_size[i] = near.size;
            if (!readable(near.start, near.size)) job->beside_absent |= 1u << i;
        }
        job->beside_count = job->thread->near_count;
        return 0;
    }
    PyObject *beside = job->thread->beside;
    Py_ssize_t count = PyTuple_Size(beside);
    for (Py_ssize_t i = 0; i < count && i < MAX_BESIDE; i++) {
        unsigned long long address, size;
        PyObject *pair = PyTuple_GetItem(beside, i);
        if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "KK", &address, &size)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "beside takes (address, size)");
            return -1;
        }
        job->beside_address[i] = address;
        job->beside_size[i] = size;
        if (!readable(address, size) || size > MAX_BESIDE_BYTES) job->beside_absent |= 1u << i;
        job->beside_count++;
    }
    return 0;
}

typedef struct {
    int job, kind, index;
} Origin;

int tell(PyObject *found, u64 address, const byte *data, u64 size) {
    PyObject *key = PyLong_FromUnsignedLongLong(address);
    PyObject *value = data == NULL ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
    int failed = key == NULL || value == NULL || PyDict_SetItem(found, key, value) < 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

/* What is read as one range: what `kind` and `index` say, and frames of which all lies on its page, so that they
   can be read where it can. Each range of a call costs a look-up of its page. */
typedef struct {
    u64 low, high;
    int kind, index;
} Span;

static int same_page(u64 low, u64 high) {
    return low >> PAGE_SHIFT == (high - 1) >> PAGE_SHIFT;
}

/* Lay out the state of a job, what lies beside and its frames ahead in as few ranges as that takes; how many. The
   frame with a number is read with the span whose place is in `of_frame`. */
static int lay_out(const Walker *self, const Job *job, Span *spans, int *of_frame) {
    const Thread *thread = job->thread;
    int count = 0;
    if (!job->gone)
        spans[count++] = (Span){thread->address, thread->address + self->state_bytes, STATE, 0};
    for (int i = 0; i < job->beside_count; i++)
        if (!(job->beside_absent >> i & 1))
            spans[count++] =
                (Span){job->beside_address[i], job->beside_address[i] + job->beside_size[i], BESIDE, i};
    for (int i = 0; !job->gone && i < thread->ahead_count; i++) {
        u64 low = thread->ahead[i], high = low + self->frame_bytes;
        int place = 0;
        for (; place < count; place++) {
            u64 least = low < spans[place].low ? low : spans[place].low;
            u64 most = high > spans[place].high ? high : spans[place].high;
            if (!same_page(least, most)) continue;
            spans[place].low = least;
            spans[place].high = most;
            break;
        }
        if (place == count) spans[count++] = (Span){low, high, AHEAD, i};
        of_frame[i] = place;
    }
    return count;
}

static void add_vector(Walker *self, Origin *origins, Origin origin, size_t at, u64 address, u64 size) {
    /* The place in the buffer first: it may still move. */
    self->local[self->vectors] = (struct iovec){(void *)(uintptr_t)at, size};
    self->remote[self->vectors] = (struct iovec){(void *)(uintptr_t)address, size};
    origins[self->vectors++] = origin;
}

/* Read a span to that place of the buffer: the place behind it. */
static size_t add_span(Walker *self, Origin *origins, int number, const Span *span, size_t total, size_t *at,
                       Job *job) {
    add_vector(self, origins, (Origin){number, span->kind, span->index}, total, span->low, span->high - span->low);
    *at = total;
    if (span->kind == STATE)
        job->state = total + (job->thread->address - span->low);
    else if (span->kind == BESIDE)
        job->beside[span->index] = total + (job->beside_address[span->index] - span->low);
    return total + (size_t)(span->high - span->low);
}

/* Read what is known to be needed of all jobs, and of what is wanted beside, in one call. What cannot be read
   is left out and the whole read again, so that all is of one moment. -1 on error. */
static int read_jobs(Walker *self, Job *jobs, int count, Wanted *wanted, int wanted_count) {
    Origin origins[MAX_VECTORS];
    for (;;) {
        size_t total = 0;
        self->vectors = 0;
        for (int j = 0; j < count; j++) {
            Job *job = &jobs[j];
            Thread *thread = job->thread;
            Span spans[1 + MAX_BESIDE + MAX_ELSEWHERE];
            size_t at[1 + MAX_BESIDE + MAX_ELSEWHERE];
            int of_frame[MAX_ELSEWHERE], span_count = lay_out(self, job, spans, of_frame), next = 0;
            for (; next < span_count && spans[next].kind != AHEAD; next++)
                total = add_span(self, origins, j, &spans[next], total, &at[next], job);
            if (job->gone) continue;
            job->chunks = total;
            for (int i = 0; i < thread->chunk_count; i++) {
                Range chunk = thread->chunks[i];
                if (total + chunk.size > MAX_BATCH_BYTES) {
                    thread->chunk_count = i; /* read when a frame is found to lie there */
                    break;
                }
                u64 pieces = (u64)pieces_of(chunk.size), length = chunk.size;
                if (pieces > 1) {
                    length = (chunk.size + MAX_PIECES - 1) / MAX_PIECES;
                    length = (length + 4095) & ~(u64)4095;
                }
                /* The leaf's frame lies highest: it is read first. */
                for (u64 piece = pieces; piece-- > 0;) {
                    u64 start = piece * length;
                    u64 size = start + length > chunk.size ? chunk.size - start : length;
                    add_vector(self, origins, (Origin){j, CHUNK, i}, total + start, chunk.start + start, size);
                }
                total += chunk.size;
            }
            for (; next < span_count; next++)
                total = add_span(self, origins, j, &spans[next], total, &at[next], job);
            for (int i = 0; i < thread->ahead_count; i++)
                job->ahead[i] = at[of_frame[i]] + (thread->ahead[i] - spans[of_frame[i]].low);
        }
        for (int i = 0; i < wanted_count; i++) {
            if (wanted[i].absent) continue;
            wanted[i].at = total;
            add_vector(self, origins, (Origin){0, WANTED, i}, total, wanted[i].address, wanted[i].size);
            total += wanted[i].size;
        }
        if (self->vectors == 0) return 0;
        if (total > self->buffer_size) {
            size_t room = 2 * self->buffer_size > total ? 2 * self->buffer_size : total;
            byte *buffer = realloc(self->buffer, room);
            if (buffer == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            self->buffer = buffer;
            self->buffer_size = room;
        }
        for (int i = 0; i < self->vectors; i++)
            self->local[i].iov_base = self->buffer + (size_t)(uintptr_t)self->local[i].iov_base;
        Py_ssize_t got = transfer(self, total);
        if (got < 0) return -1;
        if ((size_t)got == total) return 0;
        int bad = 0;
        for (size_t sum = 0; bad < self->vectors - 1; bad++) {
            sum += self->remote[bad].iov_len;
            if (sum > (size_t)got) break;
        }
        Origin origin = origins[bad];
        Job *job = &jobs[origin.job];
        Thread *thread = job->thread;
        if (spent(self)) {
            for (int j = 0; j < count; j++) {
                jobs[j].gone = 1;
                jobs[j].beside_absent = ~0u;
            }
            for (int i = 0; i < wanted_count; i++) wanted[i].absent = 1;
            return 0;
        }
        if (origin.kind == WANTED)
            wanted[origin.index].absent = 1;
        else if (origin.kind == STATE)
            job->gone = 1;
        else if (origin.kind == BESIDE)
            job->beside_absent |= 1u << origin.index;
        else if (origin.kind == AHEAD)
            thread->ahead_count = 0;
        else {
            /* The top of the data stack comes and goes, what lies below it stays. */
            if (origin.index == 0 && job->absent.size == 0) job->absent = thread->chunks[0];
            memmove(&thread->chunks[origin.index], &thread->chunks[origin.index + 1],
                    (size_t)(thread->chunk_count - origin.index - 1) * sizeof(Range));
            thread->chunk_count--;
        }
    }
}

static int tell_beside(Walker *self, const Job *job, PyObject *found) {
    for (int i = 0; found != Py_None && i < job->beside_count; i++) {
        const byte *data = job->beside_absent >> i & 1 ? NULL : self->buffer + job->beside[i];
        self->absent_told |= data == NULL;
        if (tell(found, job->beside_address[i], data, job->beside_size[i]) < 0) return -1;
    }
    return 0;
}

static int follow_jobs(Walker *self, Job *jobs, int count, PyObject *found) {
    for (int j = 0; j < count; j++) {
        Job *job = &jobs[j];
        Thread *thread = job->thread;
        job->stack = self->torn_stack;
        job->plain = NOT_PLAIN;
        if (job->gone) {
            thread->depth = 0;
            if (tell_beside(self, job, found) < 0) return -1;
            continue;
        }
        if (stack_of(self, thread, self->buffer + job->state, self->buffer + job->chunks, job->ahead,
                     &job->stack) < 0)
            return -1;
        job->plain = is_plain(self, job);
        if (job->plain < 0) return -1;
        if (job->plain != PLAIN && tell_beside(self, job, found) < 0) return -1; /* else nobody asks */
        if (job->absent.size == 0)
            thread->absences = 0;
        else if (++thread->absences <= MAX_ABSENCES) {
            int there = 0;
            for (int i = 0; i < thread->chunk_count; i++) there |= thread->chunks[i].start == job->absent.start;
            if (!there) {
                int moved = thread->chunk_count < MAX_CHUNKS_AHEAD ? thread->chunk_count : MAX_CHUNKS_AHEAD - 1;
                memmove(&thread->chunks[1], &thread->chunks[0], (size_t)moved * sizeof(Range));
                thread->chunks[0] = job->absent;
                thread->chunk_count = moved + 1;
            }
        }
    }
    return 0;
}

/* Walk the jobs, as many at a time as fit into a call; -1 on error. */
static int walk_jobs(Walker *self, Job *jobs, int count, PyObject *found, Wanted *wanted, int wanted_count) {
    for (int first = 0; first < count || wanted_count > 0;) {
        if (spent(self)) {
            for (; first < count; first++) {
                jobs[first].stack = self->torn_stack;
                jobs[first].plain = NOT_PLAIN;
                jobs[first].thread->depth = 0;
            }
            return 0;
        }
        int vectors = 0, last = first;
        for (; last < count; last++) {
            jobs[last].gone = 0;
            jobs[last].absent = (Range){0, 0};
            if (take_beside(&jobs[last]) < 0) return -1;
            if (found == Py_None) jobs[last].beside_count = 0;
            int needed = vectors_of(&jobs[last]);
            if (vectors + needed > MAX_VECTORS) break;
            vectors += needed;
        }
        int along = vectors + wanted_count <= MAX_VECTORS ? wanted_count : 0;
        if (read_jobs(self, &jobs[first], last - first, wanted, along) < 0) return -1;
        for (int i = 0; i < along; i++) {
            const byte *data = wanted[i].absent ? NULL : self->buffer + wanted[i].at;
            self->absent_told |= data == NULL;
            if (tell(found, wanted[i].address, data, wanted[i].size) < 0) return -1;
        }
        wanted_count = 0; /* what did not fit is the caller's to read */
        if (follow_jobs(self, &jobs[first], last - first, found) < 0) return -1;
        first = last;
    }
    return 0;
}

static int is_torn(const Walker *self, const Job *job, int late_too) {
    return job->stack == self->torn_stack || (late_too && job->stack != self->no_stack && job->thread->late);
}

int walk_all(Walker *self, Job *jobs, int count, PyObject *found, Wanted *wanted, int wanted_count) {
    if (walk_jobs(self, jobs, count, found, wanted, wanted_count) < 0) return -1;
    Job *again = NULL;
    int left = 0, failed = 0;
    for (int j = 0; j < count; j++) left += is_torn(self, &jobs[j], 1);
    if (left == 0) return 0;
    again = malloc((size_t)left * sizeof(Job));
    if (again == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int attempt = 1; attempt < ATTEMPTS && left > 0 && !failed && !spent(self); attempt++) {
        left = 0;
        for (int j = 0; j < count; j++)
            if (is_torn(self, &jobs[j], attempt == 1)) {
                again[left] = jobs[j];
                again[left++].place = j;
            }
        failed = walk_jobs(self, again, left, found, NULL, 0) < 0;
        for (int i = 0; i < left && !failed; i++) {
            jobs[again[i].place].stack = again[i].stack;
            jobs[again[i].place].plain = again[i].plain;
        }
        left = 0;
        for (int j = 0; j < count; j++) left += is_torn(self, &jobs[j], 0);
    }
    free(again);
    for (int j = 0; j < count && spent(self); j++) self->given_up += is_torn(self, &jobs[j], 0);
    return failed ? -1 : 0;
}

int take_wanted(PyObject *wanted, Wanted **into) {
    Py_ssize_t count = PyDict_Size(wanted), place = 0;
    if (count <= 0 || count > MAX_VECTORS) return 0;
    *into = calloc((size_t)count, sizeof(Wanted));
    if (*into == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *key, *value;
    for (int i = 0; PyDict_Next(wanted, &place, &key, &value) && i < count; i++) {
        Wanted *one = &(*into)[i];
        one->address = PyLong_AsUnsignedLongLong(key);
        one->size = PyLong_AsUnsignedLongLong(value);
        if (PyErr_Occurred()) return -1;
        one->absent = !readable(one->address, one->size) || one->size > MAX_BESIDE_BYTES;
    }
    return (int)count;
}

PyObject *walker_walk(PyObject *object, PyObject *args) {
    Walker *self = (Walker *)object;
    PyObject *threads, *wanted, *found, *result = NULL;
    if (!PyArg_ParseTuple(args, "O!OO:walk", &PyList_Type, &threads, &wanted, &found)) return NULL;
    if (found != Py_None && (!PyDict_Check(found) || !PyDict_Check(wanted))) {
        PyErr_SetString(PyExc_TypeError, "wanted and found are dicts, or found is None");
        return NULL;
    }
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "a walk is under way");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(threads);
    if (count > 1 << 20) {
        PyErr_SetString(PyExc_ValueError, "too many threads");
        return NULL;
    }
    Job *jobs = calloc((size_t)count + 1, sizeof(Job));
    Wanted *ranges = NULL;
    if (jobs == NULL) return PyErr_NoMemory();
    self->busy = 1;
    self->work = 0;
    int range_count = found == Py_None ? 0 : take_wanted(wanted, &ranges);
    int failed = range_count < 0, held = 0;
    for (; held < count && !failed; held++) {
        PyObject *thread = PyList_GetItem(threads, held);
        if (!PyObject_TypeCheck(thread, state->thread)) {
            PyErr_SetString(PyExc_TypeError, "walk takes threads of this module");
            failed = 1;
            break;
        }
        jobs[held].thread = (Thread *)Py_NewRef(thread);
    }
    if (!failed && count > 0) failed = walk_all(self, jobs, (int)count, found, ranges, range_count) < 0;
    if (!failed) {
        result = PyList_New(count);
        for (Py_ssize_t j = 0; result != NULL && j < count; j++) {
            PyObject *number = PyLong_FromLong(jobs[j].stack);
            if (number == NULL || PyList_SetItem(result, j, number) < 0) Py_CLEAR(result);
        }
    }
    for (int j = 0; j < held; j++) Py_DECREF(jobs[j].thread);
    forget_late(self);
    free(jobs);
    free(ranges);
    self->busy = 0;
    return result;
}
