/* The compiled part of a tick: lines of /proc that changed, and the walk over the stacks of many threads.

   In: descriptors of /proc files; addresses of thread states and where their fields lie. Out: only what changed;
   one number a stack. Nothing here knows a version of CPython: offsets come from the caller, and what a new
   chain of frames means is asked of it, once a chain.

   `sources/python/stackwalk.py` is the same in Python: it says why things are done so, takes over where this cannot be
   built, and is the oracle in the tests. Everything that is read is hostile: lengths are checked before they are
   used, chains and fetches are bounded, additions cannot overflow because addresses stay below 2^63.

   The GIL is kept while lines of /proc are read, each of which takes less than a microsecond, and let go of while
   memory is: such a read may never come back, and the threads that notice that need the GIL. */

#define PY_SSIZE_T_CLEAN
#ifdef FTDIAG_STABLE_ABI
#define Py_LIMITED_API 0x030B0000
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
typedef unsigned char byte;

/* The same numbers as in stackwalk.py, where they are explained. */
enum {
    INTERFACE = 7, /* as in compiled.py: changes with what is below */
    MAX_VECTORS = 1024,
    MAX_DEPTH = 4096,
    CYCLE_CHECK_DEPTH = MAX_DEPTH / 2,
    MAX_CHUNK_BYTES = 8 << 20,
    MAX_ELSEWHERE = 24,
    FORMER_ELSEWHERE = 4,
    CHUNK_HEADER_BYTES = 24,
    CHUNK_SLACK_BYTES = 768,
    FIRST_CHUNK_BYTES = 4096,
    PIECE_BYTES = 4096,
    PAGE_SHIFT = 12,
    MAX_PIECES = 4,
    MAX_CHUNKS_AHEAD = 16,
    MAX_CHUNKS = 512,
    MAX_ABSENCES = 16,
    ATTEMPTS = 8,
    MAX_LATE_BYTES = 16 << 20,
    MAX_BESIDE = 8,
    MAX_BESIDE_BYTES = 1 << 16,
    MAX_STATE_BYTES = 1 << 16,
    MAX_KNOWN = 100000,
    MAX_KNOWN_WORDS = 1 << 23,
    MAX_QUIET_WORDS = 1 << 21,
    MAX_BATCH_BYTES = 128 << 20,
    MAX_WORK = 200000000,
    READ_WORK = 2000,
    BYTES_PER_WORK = 8,
    FRAME_WORK = 20,
    THREAD_WORK = 200,
    MAX_PEEK_BYTES = 4096, /* as in memory.py */
    SCHEDSTAT_BYTES = 96, /* as in threadlines.py */
    SYSCALL_BYTES = 256,
    MANY_THREADS = 256,
    STILL_CALLS = 100,
    STILL_EVERY = 4,
    MAX_NEAR = 2,
    MAX_WORDS = 1 << 16,
    MAX_POLLED = 8,
    QUIET_STACK = 1, /* as in updates.py */
    MAX_FRAMES = 200000,
    MARKED_FRAMES = 2,
    ENTRY_BYTES = 65, /* as in parkinglot.py, where a wait entry is explained */
    HANDED_OFF_OFFSET = 8,
    LOWEST_ADDRESS = 4096,
    RING_BYTES = 1 << 24, /* as in rings.py */
    DRAIN_EVERY_NS = 250000000,
    MAX_RECORD_BYTES = 4096, /* as in perfevents.py, where records are explained */
    MAX_PENDING_BYTES = 64 << 20,
    SAMPLE_BYTES = 40,
    RECORD_LOST = 2,
    RECORD_SAMPLE = 9,
    RECORD_LOST_SAMPLES = 13,
};
#define CODE_WORDS (2 * MAX_DEPTH)
#define TOP ((u64)1 << 63)
#define SECTION_TAGS ((u64)3)

/* Take the new value before the old one is let go of, which may run code. */
#define REPLACE(member, value) \
    do { \
        PyObject *before_ = (member); \
        (member) = (value); \
        Py_XDECREF(before_); \
    } while (0)

static u64 word(const byte *at) {
    u64 value;
    memcpy(&value, at, 8);
    return value;
}

static int readable(u64 address, u64 size) {
    return address > 0 && address < TOP && size > 0 && size < TOP && address + size <= TOP;
}

/* --- types of the module ------------------------------------------------------------------------- */

typedef struct {
    u64 start, size;
} Range;

typedef struct {
    u64 low, end;
    const byte *data;
    int order; /* place among the chunks that frames were found in; -1: none was */
    u64 highest;
} Region;

typedef struct {
    PyObject_HEAD
    u64 address, native_id, ident, interpreter;
    Range chunks[MAX_CHUNKS_AHEAD];
    int chunk_count, absences;
    u64 elsewhere[MAX_ELSEWHERE], ahead[MAX_ELSEWHERE];
    int elsewhere_count, ahead_count;
    int late;
    u64 critical_section, section;
    u64 *frames, *chain;
    int depth, room;
    PyObject *beside; /* tuple of (address, size) */
    u64 *words;       /* of stack slots: those of `with` blocks first, then what is marked */
    int exits, marks, words_room;
    Range near[MAX_NEAR]; /* of a look: what is read beside its state */
    int near_count, near_entry; /* place of the wait entry in it; -1: none */
    int near_known;
    u64 near_for[2]; /* the entry and the section that it was made for */
    unsigned long long near_unreadable;
    PyObject *known;      /* what the chain means: (stack, exits); NULL if that was not asked */
    unsigned generation;  /* of `known` */
    int quiet_chain;      /* whether the chain was said not to matter (`mark_quiet`) */
} Thread;

typedef struct {
    PyObject_HEAD
    PyObject *frame, *stack;   /* what knows them */
    PyObject *frames, *stacks; /* what was said */
    unsigned long long words;
} Chains;

typedef struct {
    PyObject_HEAD
    int pid;
    PyObject *reader, *resolve, *known;
    PyObject *quiet_chains; /* set of chains that do not matter */
    unsigned long long quiet_words;
    Chains *chains; /* the same as `resolve`, if it is one of these */
    unsigned generation;
    /* where fields lie */
    u64 current_frame, thread_native_id, thread_section, chunk, state_bytes;
    u64 executable, previous, instruction, owner, frame_bytes;
    int foreign;
    long no_stack, torn_stack;
    unsigned long long cut, late_reads, given_up;
    /* of a look */
    PyObject *parse, *places;
    unsigned long long reach_bytes, section_bytes;
    int words_last;                          /* whether what slots of `with` blocks mean stays for a generation */
    unsigned long long generation_of_words;
    int absent_told;                         /* something that was wanted could not be read */
    long plain[4];                           /* of a thread that runs: state, wait, holder, confidence */
    unsigned long long work, known_words;
    /* scratch of a walk */
    struct iovec local[MAX_VECTORS], remote[MAX_VECTORS];
    int vectors;
    byte *buffer;
    size_t buffer_size;
    u64 chain[CODE_WORDS], frames[MAX_DEPTH];
    u64 visited[2 * MAX_DEPTH];
    Region regions[MAX_CHUNKS + MAX_CHUNKS_AHEAD];
    int region_count, order_count;
    byte *late[MAX_CHUNKS + MAX_CHUNKS_AHEAD];
    int late_count;
    size_t late_bytes;
    int busy;
} Walker;

typedef struct {
    struct Seen *seen; /* or NULL */
    int tid, fd;
    int length; /* -1: not read yet */
    int still;  /* calls in a row that found it as it was */
    char line[SCHEDSTAT_BYTES];
} Slot;

typedef struct {
    PyObject_HEAD
    Slot *slots;
    int count, room;
    unsigned calls;
} Lines;

/* What was seen of a thread of the kernel's: the base of SampledThread. */
typedef struct Seen {
    PyObject_HEAD
    PyObject *python;      /* list of its thread states */
    PyObject *observation; /* tuple, or None */
    PyObject *runs;        /* list of (first tick, ticks, observation) */
    Py_ssize_t run_start;
    unsigned long long entry;
    int syscall_fd;
    char calm, ran, inside;
    char looked;          /* whether it was seen to run, or to want to, since `changed_ns` */
    long long changed_ns; /* when its line was last seen to be another one */
    PyObject *unsettled; /* dict of those that are not known to be off their cores; or NULL */
    PyObject *schedstat; /* its line, as it was last read */
    /* as of the last look at it that was concluded in Python */
    PyObject *noted; /* its only thread state */
    u64 *noted_words;
    int noted_exits, noted_marks, noted_room;
    unsigned long long noted_generation;
    /* the last wait that line and stack alone tell, and what was observed */
    PyObject *waited_line, *waited_observation;
    long waited_stack;
    /* the last observation that was made here */
    PyObject *plain;
    long plain_stack;
} Seen;

/* The ring buffer of one perf event, as the kernel maps it. */
typedef struct {
    int tid, active;
    u64 *head, *tail;
    const byte *data;
    u64 size; /* a power of two */
} Ring;

typedef struct {
    PyObject_HEAD
    Ring *rings;
    int count, room;
    byte *records; /* those of samples, one after the other */
    size_t used, size;
    Py_ssize_t samples;
    unsigned long long lost;
    long long due, every;
} Rings;

typedef struct {
    PyTypeObject *thread, *walker, *lines, *seen, *chains, *rings;
} State;

/* --- a thread ------------------------------------------------------------------------------------ */

static PyObject *words_tuple(const u64 *words, Py_ssize_t count, Py_ssize_t step) {
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
    {0, NULL},
};

static PyType_Spec thread_spec = {
    .name = "ftdiag.sources._tick.Thread",
    .basicsize = sizeof(Thread),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = thread_slots,
};

/* --- what was seen of a thread: see seen.py -------------------------------------------------------- */

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

static int observe(Seen *self, PyObject *observation, Py_ssize_t tick) {
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

static PyType_Spec seen_spec = {
    .name = "ftdiag.sources._tick.Seen",
    .basicsize = sizeof(Seen),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = seen_slots,
};

/* Whether that is what a chain or a frame can mean: (number, exits, marks). */
static int is_meaning(PyObject *found) {
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
static PyObject *chain_meaning(Chains *self, const u64 *chain, int depth) {
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

static PyType_Spec chains_spec = {
    .name = "ftdiag.sources._tick.Chains",
    .basicsize = sizeof(Chains),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = chains_slots,
};

/* --- reading ------------------------------------------------------------------------------------- */

/* Whether this walk has cost as much as one may. */
static int spent(const Walker *self) {
    return self->work > MAX_WORK;
}

/* Bytes that came of the ranges in `remote`, one after the other; -1 with an exception set. */
static Py_ssize_t transfer(Walker *self, size_t total) {
    self->work += READ_WORK + total / BYTES_PER_WORK;
    if (self->reader == Py_None) {
        ssize_t got;
        int code;
        Py_BEGIN_ALLOW_THREADS
        got = process_vm_readv(self->pid, self->local, (unsigned long)self->vectors, self->remote,
                               (unsigned long)self->vectors, 0);
        code = errno;
        Py_END_ALLOW_THREADS
        if (got >= 0) return got;
        errno = code;
        if (errno == ESRCH || errno == EPERM || errno == EACCES || errno == ENOSYS) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        return 0;
    }
    PyObject *vectors = PyBytes_FromStringAndSize(NULL, 16 * (Py_ssize_t)self->vectors);
    if (vectors == NULL) return -1;
    char *at = PyBytes_AsString(vectors);
    for (int i = 0; i < self->vectors; i++, at += 16) {
        u64 pair[2] = {(u64)(uintptr_t)self->remote[i].iov_base, self->remote[i].iov_len};
        memcpy(at, pair, 16);
    }
    PyObject *answer = PyObject_CallFunction(self->reader, "Oin", vectors, self->vectors, (Py_ssize_t)total);
    Py_DECREF(vectors);
    if (answer == NULL) return -1;
    Py_buffer view;
    if (PyObject_GetBuffer(answer, &view, PyBUF_SIMPLE) < 0) {
        Py_DECREF(answer);
        return -1;
    }
    size_t left = (size_t)view.len < total ? (size_t)view.len : total, got = left;
    const byte *from = view.buf;
    for (int i = 0; i < self->vectors && left > 0; i++) {
        size_t part = self->local[i].iov_len < left ? self->local[i].iov_len : left;
        memcpy(self->local[i].iov_base, from, part);
        from += part;
        left -= part;
    }
    PyBuffer_Release(&view);
    Py_DECREF(answer);
    return (Py_ssize_t)got;
}

/* 1 if all `size` bytes came, 0 if not, -1 with an exception set. */
static int read_one(Walker *self, u64 address, void *into, size_t size) {
    if (!readable(address, size)) return 0;
    self->local[0] = (struct iovec){into, size};
    self->remote[0] = (struct iovec){(void *)(uintptr_t)address, size};
    self->vectors = 1;
    Py_ssize_t got = transfer(self, size);
    return got < 0 ? -1 : got == (Py_ssize_t)size;
}

static void forget_late(Walker *self) {
    while (self->late_count > 0) free(self->late[--self->late_count]);
    self->late_bytes = 0;
}

/* The region of a chunk that was not read together with the others; 1, 0 or -1 like `read_one`. */
static int fetch_chunk(Walker *self, u64 chunk, u64 wanted, Region *found) {
    byte header[CHUNK_HEADER_BYTES];
    self->late_reads++;
    int came = read_one(self, chunk, header, sizeof header);
    if (came <= 0) return came;
    u64 size = word(header + 8);
    if (size <= CHUNK_HEADER_BYTES || size > (u64)1 << 32) return 0;
    if (size > wanted) size = wanted;
    if (size > MAX_CHUNK_BYTES) size = MAX_CHUNK_BYTES;
    if (self->late_count >= MAX_CHUNKS || self->late_bytes + size > MAX_LATE_BYTES) return 0;
    byte *data = malloc(size);
    if (data == NULL) return 0;
    self->late[self->late_count++] = data;
    self->late_bytes += size;
    came = read_one(self, chunk, data, size);
    if (came > 0) *found = (Region){chunk, chunk + size, data, -1, 0};
    return came;
}

/* --- following the frames ------------------------------------------------------------------------- */

static int holds(const Walker *self, const Region *region, u64 frame) {
    return region->low < frame && frame < TOP && frame + self->frame_bytes <= region->end;
}

static Region *region_at(Walker *self, u64 low) {
    for (int i = 0; i < self->region_count; i++)
        if (self->regions[i].low == low) return &self->regions[i];
    return NULL;
}

static int add_region(Walker *self, Region region) {
    if (self->region_count >= (int)(sizeof self->regions / sizeof self->regions[0])) return 0;
    self->regions[self->region_count++] = region;
    return 1;
}

/* The region that holds a frame, fetched if need be: its place; -1 if there is none, -2 with an exception. */
static int region_with(Walker *self, u64 frame, u64 top_chunk) {
    for (int i = 0; i < self->region_count; i++)
        if (holds(self, &self->regions[i], frame)) return i;
    u64 chunk = top_chunk;
    for (int hop = 0; chunk != 0 && hop < MAX_CHUNKS; hop++) {
        Region fresh, *known = region_at(self, chunk);
        if (known == NULL) {
            int came = fetch_chunk(self, chunk, FIRST_CHUNK_BYTES, &fresh);
            if (came <= 0) return came < 0 ? -2 : -1;
            known = &fresh;
            if (holds(self, known, frame)) return add_region(self, fresh) ? self->region_count - 1 : -1;
        }
        if (known->end - known->low < CHUNK_HEADER_BYTES) return -1;
        u64 previous = word(known->data), size = word(known->data + 8);
        if (chunk < frame && size < TOP && chunk < TOP && frame < chunk + size) {
            /* In this chunk, behind the part that was read. */
            int came = fetch_chunk(self, chunk, frame - chunk + self->frame_bytes, &fresh);
            if (came < 0) return -2;
            if (came == 0 || !holds(self, &fresh, frame)) return -1;
            for (int i = 0; i < self->region_count; i++)
                if (self->regions[i].low == chunk) {
                    fresh.order = self->regions[i].order;
                    fresh.highest = self->regions[i].highest;
                    memmove(&self->regions[i], &self->regions[i + 1],
                            (size_t)(self->region_count - i - 1) * sizeof(Region));
                    self->region_count--;
                    i--;
                }
            return add_region(self, fresh) ? self->region_count - 1 : -1;
        }
        chunk = previous;
    }
    return -1;
}

/* Whether a frame was seen already; notes it. */
static int seen_before(Walker *self, u64 frame) {
    size_t mask = sizeof self->visited / sizeof self->visited[0] - 1;
    for (size_t at = (size_t)((frame >> 3) * 0x9E3779B97F4A7C15u >> 40) & mask;; at = (at + 1) & mask) {
        if (self->visited[at] == frame) return 1;
        if (self->visited[at] == 0) {
            self->visited[at] = frame;
            return 0;
        }
    }
}

/* Which parts of which chunks to read next time: see PythonWalker._predict. */
static void predict(Walker *self, Thread *thread) {
    if (self->order_count == 1 && thread->chunk_count == 1) {
        Region *region = region_at(self, thread->chunks[0].start);
        u64 highest = region == NULL || region->order < 0 ? 0 : region->highest;
        u64 needed = highest - thread->chunks[0].start + self->frame_bytes + CHUNK_SLACK_BYTES;
        u64 size = thread->chunks[0].size;
        if (highest != 0 && needed <= size && size <= needed + 512) return;
    }
    Range next[MAX_CHUNKS_AHEAD];
    int count = 0, above = 0;
    for (int i = 0; i < thread->chunk_count; i++) {
        Region *region = region_at(self, thread->chunks[i].start);
        if (region != NULL && region->order >= 0) continue;
        if (above < MAX_CHUNKS_AHEAD / 4) next[count++] = thread->chunks[i];
        above++;
    }
    int room = MAX_CHUNKS_AHEAD - above;
    for (int order = 0; order < self->order_count && room > 0 && count < MAX_CHUNKS_AHEAD; order++) {
        Region *region = NULL;
        for (int i = 0; i < self->region_count; i++)
            if (self->regions[i].order == order) region = &self->regions[i];
        if (region == NULL || region->end - region->low < 16) continue;
        u64 wanted = region->highest - region->low + self->frame_bytes + CHUNK_SLACK_BYTES, old = 0;
        for (int i = 0; i < thread->chunk_count; i++)
            if (thread->chunks[i].start == region->low) old = thread->chunks[i].size;
        if (old - (old >> 5) > wanted) wanted = old - (old >> 5);
        wanted = (wanted + 255) & ~(u64)255;
        u64 size = word(region->data + 8), read = region->end - region->low;
        if (size < read) size = read;
        if (wanted > size) wanted = size;
        if (wanted > MAX_CHUNK_BYTES) wanted = MAX_CHUNK_BYTES;
        next[count++] = (Range){region->low, wanted};
        room--;
    }
    memcpy(thread->chunks, next, (size_t)count * sizeof(Range));
    thread->chunk_count = count;
}

static void predict_elsewhere(Thread *thread, const u64 *used, int count) {
    if (count > MAX_ELSEWHERE) count = MAX_ELSEWHERE;
    size_t size = (size_t)count * sizeof(u64);
    if (count == thread->elsewhere_count && memcmp(used, thread->elsewhere, size) == 0 &&
        count <= thread->ahead_count && memcmp(used, thread->ahead, size) == 0)
        return;
    u64 next[MAX_ELSEWHERE];
    int total = count;
    memcpy(next, used, size);
    for (int i = 0, former = 0; i < thread->ahead_count && former < FORMER_ELSEWHERE && total < MAX_ELSEWHERE; i++) {
        int again = 0;
        for (int j = 0; j < count; j++) again |= used[j] == thread->ahead[i];
        if (!again) {
            next[total++] = thread->ahead[i];
            former++;
        }
    }
    memcpy(thread->elsewhere, used, size);
    thread->elsewhere_count = count;
    memcpy(thread->ahead, next, (size_t)total * sizeof(u64));
    thread->ahead_count = total;
}

enum { TORN = -1, FAILED = -2 };

/* Follow the frames from `frame` on into chain and frames: how many there are, TORN, or FAILED (an exception). */
static int follow(Walker *self, Thread *thread, u64 frame, u64 top_chunk, const size_t *ahead) {
    u64 used[MAX_ELSEWHERE];
    int used_count = 0, depth = 0, popped = 0, steps = 0, region = -1;
    byte alone[256];
    while (frame != 0) {
        const byte *at = NULL;
        if (region >= 0 && holds(self, &self->regions[region], frame))
            at = self->regions[region].data + (frame - self->regions[region].low);
        else {
            for (int i = 0; i < thread->ahead_count && at == NULL; i++)
                if (thread->ahead[i] == frame) at = self->buffer + ahead[i];
            if (at == NULL) {
                int found = region_with(self, frame, top_chunk);
                if (found == -2) return FAILED;
                if (found >= 0) {
                    region = found;
                    if (self->regions[region].order < 0) {
                        /* The first one is the highest: frames go down within a chunk. */
                        self->regions[region].order = self->order_count++;
                        self->regions[region].highest = frame;
                    }
                    at = self->regions[region].data + (frame - self->regions[region].low);
                } else {
                    self->late_reads++;
                    int came = read_one(self, frame, alone, self->frame_bytes);
                    if (came <= 0) return came < 0 ? FAILED : TORN;
                    at = alone;
                }
            }
            if (region < 0 || !holds(self, &self->regions[region], frame)) {
                if (used_count < MAX_ELSEWHERE) used[used_count++] = frame;
            }
        }
        u64 executable = word(at + self->executable), previous = word(at + self->previous);
        u64 instruction = word(at + self->instruction);
        int owner = at[self->owner];
        if (owner < self->foreign && executable == 0 && depth == 0)
            popped = 1; /* returned from since the thread state was read: its caller is the leaf */
        else if (owner < self->foreign) {
            self->chain[2 * depth] = executable;
            self->chain[2 * depth + 1] = instruction;
            self->frames[depth++] = frame;
        } else if (owner > self->foreign + 1)
            return TORN;
        frame = previous;
        steps++;
        self->work += FRAME_WORK;
        if (steps > CYCLE_CHECK_DEPTH) {
            if (steps == CYCLE_CHECK_DEPTH + 1) memset(self->visited, 0, sizeof self->visited);
            if (frame != 0 && seen_before(self, frame)) return TORN;
            if (steps >= MAX_DEPTH) {
                self->cut += frame != 0;
                break;
            }
        }
    }
    if (popped && depth == 0) return TORN;
    predict(self, thread);
    predict_elsewhere(thread, used, used_count);
    return depth;
}

/* --- a thread's stack ----------------------------------------------------------------------------- */

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
                if (PyDict_Size(self->known) >= MAX_KNOWN || self->known_words > MAX_KNOWN_WORDS) {
                    PyDict_Clear(self->known);
                    self->known_words = 0;
                }
                self->known_words += 2 * (unsigned long long)thread->depth;
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
static int stack_of(Walker *self, Thread *thread, const byte *state, const byte *chunks, const size_t *ahead,
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

/* --- many threads in one call ---------------------------------------------------------------------- */

enum { STATE, BESIDE, CHUNK, AHEAD, WANTED };

typedef struct {
    Thread *thread;
    size_t state, chunks, ahead[MAX_ELSEWHERE]; /* where they lie in the buffer */
    size_t beside[MAX_BESIDE];
    u64 beside_address[MAX_BESIDE], beside_size[MAX_BESIDE];
    int beside_count;
    unsigned beside_absent; /* bits of those that could not be read */
    int gone;
    Range absent;
    int place;
    long stack;
    /* of a look */
    Seen *seen;
    int running; /* it has no other thread state, and the kernel says that it runs, or wants to: 1; or that it
                    is blocked in what it was blocked in before: 2 */
    int plain;   /* what it does is told by its stack: NOT_PLAIN, PLAIN or MOVED */
} Job;

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

enum { NOT_PLAIN, PLAIN, MOVED /* but it may hold other locks than before */ };

/* Whether a wait entry says something that matters of a thread that runs: that it is queued, or was given a lock. */
static int entry_matters(u64 address, const byte *data, u64 size) {
    if (size < ENTRY_BYTES) return 0;
    u64 argument = word(data), key = word(data + 8), following = word(data + 48), previous = word(data + 56);
    if (key <= LOWEST_ADDRESS || data[64] > 1) return 0;
    if (following > LOWEST_ADDRESS && previous > LOWEST_ADDRESS) return 1;
    if (following != 0 || previous != 0) return 0;
    if (argument < address || argument - address >= size) return 0;
    u64 start = argument - address + HANDED_OFF_OFFSET;
    static const byte handed_off[4] = {1, 0, 0, 0};
    return start >= ENTRY_BYTES && start + sizeof handed_off <= size &&
           memcmp(data + start, handed_off, sizeof handed_off) == 0;
}

/* Whether threads were seen waiting with that stack for what has that address; -1 on error. */
static int parks_at(const Walker *self, u64 key, long stack) {
    PyObject *place = Py_BuildValue("(Kl)", (unsigned long long)key, stack);
    int found = place == NULL ? -1 : PySet_Contains(self->places, place);
    Py_XDECREF(place);
    return found;
}

/* Whether what a thread does is told by its stack alone: it runs, waited for nothing and was inside of nothing
   when it was last looked at in Python. -1 on error. */
static int is_plain(const Walker *self, const Job *job) {
    const Seen *seen = job->seen;
    const Thread *thread = job->thread;
    if (seen == NULL || !job->running || job->stack == self->torn_stack || !seen->calm) return NOT_PLAIN;
    if (seen->noted != (PyObject *)thread || job->beside_absent != 0) return NOT_PLAIN;
    if (job->running == 2 && (job->stack != seen->waited_stack || thread->critical_section != 0 || seen->inside))
        return NOT_PLAIN;
    int entry = thread->near_entry;
    if (entry >= 0 && entry < job->beside_count) {
        const byte *data = self->buffer + job->beside[entry];
        if (entry_matters(job->beside_address[entry], data, job->beside_size[entry])) {
            int parks = parks_at(self, word(data + 8), job->stack);
            if (parks != 0) return parks < 0 ? -1 : NOT_PLAIN;
        }
    }
    if (thread->critical_section != 0 || seen->inside) return MOVED;
    if (thread->exits != seen->noted_exits || thread->marks != seen->noted_marks) return MOVED;
    if (thread->exits == 0) return PLAIN;
    if (!self->words_last || seen->noted_generation != self->generation_of_words) return MOVED;
    size_t size = (size_t)(thread->exits + thread->marks) * sizeof(u64);
    return memcmp(thread->words, seen->noted_words, size) == 0 ? PLAIN : MOVED;
}

typedef struct {
    int job, kind, index;
} Origin;

typedef struct {
    u64 address, size;
    size_t at;
    int absent;
} Wanted;

static int tell(PyObject *found, u64 address, const byte *data, u64 size) {
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
    for (int first = 0; first < count;) {
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

static int walk_all(Walker *self, Job *jobs, int count, PyObject *found, Wanted *wanted, int wanted_count) {
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

static int take_wanted(PyObject *wanted, Wanted **into) {
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

static PyObject *walker_walk(PyObject *object, PyObject *args) {
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

/* --- who ran ------------------------------------------------------------------------------------------ */

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
static int note_ran(Lines *self, PyObject *unsettled, long long now) {
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
static int let_wait(PyObject *unsettled, const State *state, long long now, long long after) {
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

/* --- one look at the threads that ran: see InterpreterObserver ------------------------------------------ */

enum { IS_GONE, IS_RUNNING, IS_BLOCKED };
static const char running_line[] = "running\n";        /* as in threadlines.py */
static const char without_stack[] = "-1 0x0 0x0"; /* as in threads.py */

typedef struct {
    Seen *seen;
    PyObject *pythons; /* tuple: what is walked of it */
    PyObject *line, *blocked;
    int state;
    int first, count; /* its jobs */
} Looked;

static PyObject *walker_prepare(PyObject *object, PyObject *args) {
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

/* What the kernel says of a thread's system call, and what that means; -1 on error. */
static int read_line(Walker *self, Looked *looked) {
    Seen *seen = looked->seen;
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
    if (entry != 0) seen->entry = entry;
    return 0;
}

static int is_unreadable(PyObject *unreadable, u64 address) {
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

/* Observe that it is; -1 on error. */
static int observe_wait(Seen *seen, Py_ssize_t tick) {
    PyObject *observation = Py_NewRef(seen->waited_observation), *unsettled = seen->unsettled;
    int failed = observe(seen, observation, tick) < 0;
    Py_DECREF(observation);
    if (failed || unsettled == NULL || !PyDict_Check(unsettled)) return failed ? -1 : 0;
    int there = PyDict_Contains(unsettled, (PyObject *)seen);
    if (there > 0) there = PyDict_DelItem(unsettled, (PyObject *)seen);
    return there < 0 ? -1 : 0;
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
                          Py_ssize_t tick) {
    PyObject *gone = PyList_New(0), *moved = PyList_New(0), *rest = PyList_New(0), *result = NULL;
    int failed = gone == NULL || moved == NULL || rest == NULL;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        const Looked *one = &looked[i];
        if (one->state == IS_GONE)
            failed = PyList_Append(gone, (PyObject *)one->seen) < 0;
        else if (one->count == 1 && jobs[one->first].plain != NOT_PLAIN) {
            const Job *job = &jobs[one->first];
            failed = (job->running == 2 ? observe_wait(one->seen, tick)
                                        : observe_plain(self, one->seen, job->stack, tick)) < 0;
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
static PyObject *look_at(Walker *self, State *state, PyObject *threads, PyObject *wanted, PyObject *found,
                         PyObject *unreadable, unsigned long long unreadable_count, unsigned long long generation,
                         Py_ssize_t tick) {
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
            if (one->count == 1) job->running = one->state == IS_RUNNING ? 1 : is_known_wait(one) ? 2 : 0;
            failed = want_near(self, job->thread, k == 0 ? one->seen->entry : 0, unreadable, unreadable_count) < 0;
        }
    }
    int range_count = failed ? -1 : take_wanted(wanted, &ranges);
    if (!failed) failed = range_count < 0;
    if (!failed && job_count > 0) failed = walk_all(self, jobs, job_count, found, ranges, range_count) < 0;
    if (!failed) result = conclude(self, looked, count, jobs, job_count, tick);
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

static PyObject *walker_look(PyObject *object, PyObject *args) {
    PyObject *threads, *wanted, *found, *unreadable;
    unsigned long long unreadable_count, generation;
    Py_ssize_t tick;
    if (!PyArg_ParseTuple(args, "O!O!O!O!KKn:look", &PyList_Type, &threads, &PyDict_Type, &wanted, &PyDict_Type,
                          &found, &PySet_Type, &unreadable, &unreadable_count, &generation, &tick))
        return NULL;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    return look_at((Walker *)object, state, threads, wanted, found, unreadable, unreadable_count, generation, tick);
}

/* --- what the kernel wrote into the buffers of perf events: the protocol is Rings of rings.py ------------------ */

static PyObject *rings_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "", names)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Rings *self = (Rings *)allocate(type, 0);
    if (self != NULL) self->every = DRAIN_EVERY_NS;
    return (PyObject *)self;
}

static void rings_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    free(((Rings *)object)->rings);
    free(((Rings *)object)->records);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* Keep the samples among the records that were put behind those that are kept: `length` bytes. */
static void keep_samples(Rings *self, size_t length) {
    byte *from = self->records + self->used, *end = from + length, *into = from;
    while (from < end) {
        size_t left = (size_t)(end - from), size = 0;
        uint32_t kind = 0;
        if (left >= 8) {
            uint16_t told;
            memcpy(&kind, from, 4);
            memcpy(&told, from + 6, 2);
            size = told;
        }
        int damaged = size < 8 || size > MAX_RECORD_BYTES || size > left || (kind == RECORD_SAMPLE && size < SAMPLE_BYTES);
        if (damaged) {
            self->lost++; /* what follows has no known beginning: one sample at least */
            break;
        }
        if (kind == RECORD_LOST && size >= 24)
            self->lost += word(from + 16);
        else if (kind == RECORD_LOST_SAMPLES && size >= 16)
            self->lost += word(from + 8);
        else if (kind == RECORD_SAMPLE) {
            memmove(into, from, size);
            into += size;
            self->samples++;
        }
        from += size;
    }
    self->used = (size_t)(into - self->records);
}

/* Empty a buffer; -1 on error. */
static int drain_ring(Rings *self, Ring *ring) {
    u64 head = __atomic_load_n(ring->head, __ATOMIC_ACQUIRE), tail = *ring->tail;
    if (head == tail) return 0;
    ring->active = 1;
    u64 length = head - tail;
    if (length > ring->size || self->used + length > MAX_PENDING_BYTES) {
        self->lost++;
        __atomic_store_n(ring->tail, head, __ATOMIC_RELEASE);
        return 0;
    }
    if (self->used + length > self->size) {
        size_t size = 2 * self->size > self->used + length ? 2 * self->size : self->used + (size_t)length;
        byte *records = realloc(self->records, size);
        if (records == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->records = records;
        self->size = size;
    }
    u64 start = tail & (ring->size - 1), first = ring->size - start;
    if (first > length) first = length;
    memcpy(self->records + self->used, ring->data + start, (size_t)first);
    memcpy(self->records + self->used + first, ring->data, (size_t)(length - first));
    __atomic_store_n(ring->tail, head, __ATOMIC_RELEASE);
    keep_samples(self, (size_t)length);
    return 0;
}

static int drain_rings(Rings *self) {
    for (int i = 0; i < self->count; i++)
        if (drain_ring(self, &self->rings[i]) < 0) return -1;
    return 0;
}

static PyObject *rings_follow(PyObject *object, PyObject *args) {
    Rings *self = (Rings *)object;
    int tid;
    unsigned long long head, tail, data, size;
    if (!PyArg_ParseTuple(args, "iKKKK:follow", &tid, &head, &tail, &data, &size)) return NULL;
    if (size == 0 || size > RING_BYTES || (size & (size - 1)) != 0) {
        PyErr_SetString(PyExc_ValueError, "a ring has a size that is a power of two");
        return NULL;
    }
    if (self->count == self->room) {
        int room = self->room == 0 ? 64 : 2 * self->room;
        Ring *rings = realloc(self->rings, (size_t)room * sizeof(Ring));
        if (rings == NULL) return PyErr_NoMemory();
        self->rings = rings;
        self->room = room;
    }
    self->rings[self->count++] = (Ring){.tid = tid,
                                        .active = 1,
                                        .head = (u64 *)(uintptr_t)head,
                                        .tail = (u64 *)(uintptr_t)tail,
                                        .data = (const byte *)(uintptr_t)data,
                                        .size = size};
    Py_RETURN_NONE;
}

static PyObject *rings_forget(PyObject *object, PyObject *number) {
    Rings *self = (Rings *)object;
    long tid = PyLong_AsLong(number);
    if (tid == -1 && PyErr_Occurred()) return NULL;
    for (int i = 0; i < self->count; i++)
        if (self->rings[i].tid == (int)tid) {
            int failed = drain_ring(self, &self->rings[i]) < 0;
            memmove(&self->rings[i], &self->rings[i + 1], (size_t)(self->count - i - 1) * sizeof(Ring));
            self->count--;
            if (failed) return NULL;
            break;
        }
    Py_RETURN_NONE;
}

static PyObject *rings_drain(PyObject *object, PyObject *time) {
    Rings *self = (Rings *)object;
    long long now = PyLong_AsLongLong(time);
    if (now == -1 && PyErr_Occurred()) return NULL;
    self->due = now + self->every;
    if (drain_rings(self) < 0) return NULL;
    Py_RETURN_NONE;
}

typedef struct {
    u64 time;
    size_t place;
} Order;

static int earlier(const void *one, const void *other) {
    const Order *a = one, *b = other;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

static PyObject *rings_take(PyObject *object, PyObject *unused) {
    Rings *self = (Rings *)object;
    (void)unused;
    if (drain_rings(self) < 0) return NULL;
    Order *order = malloc((size_t)(self->samples + 1) * sizeof(Order));
    if (order == NULL) return PyErr_NoMemory();
    size_t count = 0;
    for (size_t at = 0; at < self->used && count < (size_t)self->samples; count++) {
        uint16_t size;
        memcpy(&size, self->records + at + 6, 2);
        order[count] = (Order){word(self->records + at + 24), at};
        at += size;
    }
    qsort(order, count, sizeof(Order), earlier);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        const byte *record = self->records + order[i].place;
        uint16_t size;
        uint32_t tid;
        memcpy(&size, record + 6, 2);
        memcpy(&tid, record + 20, 4);
        Py_ssize_t registers = word(record + 32) != 0 ? size - SAMPLE_BYTES : 0;
        PyObject *one = Py_BuildValue("(IKKy#)", (unsigned)tid, (unsigned long long)order[i].time,
                                      (unsigned long long)word(record + 8), (const char *)record + SAMPLE_BYTES,
                                      registers);
        if (one == NULL || PyList_SetItem(list, (Py_ssize_t)i, one) < 0) Py_CLEAR(list);
    }
    free(order);
    if (list == NULL) return NULL;
    PyObject *result = Py_BuildValue("(NK)", list, self->lost);
    if (result == NULL) return NULL;
    self->used = 0;
    self->samples = 0;
    self->lost = 0;
    return result;
}

static PyObject *rings_active(PyObject *object, PyObject *unused) {
    Rings *self = (Rings *)object;
    (void)unused;
    PyObject *result = PySet_New(NULL);
    for (int i = 0; result != NULL && i < self->count; i++) {
        Ring *ring = &self->rings[i];
        if (!ring->active) continue;
        PyObject *tid = PyLong_FromLong(ring->tid);
        if (tid == NULL || PySet_Add(result, tid) < 0) Py_CLEAR(result);
        Py_XDECREF(tid);
    }
    for (int i = 0; result != NULL && i < self->count; i++) self->rings[i].active = 0;
    return result;
}

static PyMemberDef rings_members[] = {
    {"due_ns", T_LONGLONG, offsetof(Rings, due), READONLY, NULL},
    {"every_ns", T_LONGLONG, offsetof(Rings, every), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef rings_methods[] = {
    {"follow", rings_follow, METH_VARARGS, NULL}, {"forget", rings_forget, METH_O, NULL},
    {"drain", rings_drain, METH_O, NULL},         {"take", rings_take, METH_NOARGS, NULL},
    {"active", rings_active, METH_NOARGS, NULL},  {NULL, NULL, 0, NULL},
};

static PyType_Slot rings_slots[] = {
    {Py_tp_new, rings_new},         {Py_tp_dealloc, rings_dealloc}, {Py_tp_members, rings_members},
    {Py_tp_methods, rings_methods}, {0, NULL},
};

static PyType_Spec rings_spec = {
    .name = "ftdiag.sources._tick.Rings",
    .basicsize = sizeof(Rings),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = rings_slots,
};

/* --- ticks of which nothing is left to conclude: see steady.py ------------------------------------------------ */

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
static int is_untold(PyObject *told, PyObject *found) {
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
    if (stretch->quiet_stacks == NULL || seen->observation == NULL || !PyTuple_Check(seen->observation) ||
        PyTuple_Size(seen->observation) < 2)
        return 0;
    Py_ssize_t stack = PyLong_AsSsize_t(PyTuple_GetItem(seen->observation, 1));
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

static PyObject *walker_stretch(PyObject *object, PyObject *args) {
    Walker *self = (Walker *)object;
    PyObject *lines, *unsettled, *wanted, *found, *unreadable, *watched, *files, *quiet_stacks, *rings, *told;
    PyObject *result = NULL;
    unsigned long long count, generation;
    Py_ssize_t tick;
    int directory, quiet, process;
    long long links, due, period, last, slack, waits;
    State *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) return NULL;
    Py_ssize_t first_stack;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!KKO!iLO!pn(LLLLL)OniOO:stretch", state->lines, &lines, &PyDict_Type, &unsettled,
                          &PyDict_Type, &wanted, &PyDict_Type, &found, &PySet_Type, &unreadable, &count, &generation,
                          &PyDict_Type, &watched, &directory, &links, &PyTuple_Type, &files, &quiet, &tick, &due,
                          &period, &last, &slack, &waits, &quiet_stacks, &first_stack, &process, &rings, &told))
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
    if (quiet_stacks != Py_None && !PyByteArray_Check(quiet_stacks)) {
        PyErr_SetString(PyExc_TypeError, "what stacks do not matter is told by a bytearray");
        return NULL;
    }
    Stretch stretch = {.times = PyList_New(0), .ran = PyDict_New(), .moved = PyDict_New(), .due = due,
                       .clock = -1};
    stretch.last = PyList_New(0);
    stretch.first_stack = first_stack;
    int failed = stretch.times == NULL || stretch.ran == NULL || stretch.moved == NULL || stretch.last == NULL;
    int enough = 0;
    while (!failed && !enough && stretch.pending == NULL) {
        stretch.other = rest_until(stretch.due, polled, (nfds_t)file_count);
        long long now = now_ns(CLOCK_MONOTONIC);
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
                                                       generation, tick);
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
            failed = add_all(state, &stretch, threads) < 0 || take_look(&stretch, look) < 0;
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
        if (!failed && !quiet && told != Py_None) {
            stretch.asked = PyDict_Size(stretch.moved) > 0 ? 1 : is_untold(told, found);
            failed = stretch.asked < 0;
        }
        if (changed || self->absent_told || stretch.sighted || stretch.asked) break;
    }
    if (!failed)
        result = Py_BuildValue("(OOOOOiiLLLLii)", stretch.times, stretch.ran, stretch.moved,
                               stretch.pending == NULL ? Py_None : stretch.pending,
                               stretch.sighted || stretch.asked || stretch.pending != NULL ? stretch.last : Py_None,
                               stretch.other, stretch.asked, stretch.due, stretch.late, stretch.missed, stretch.clock, stretch.walked,
                               stretch.torn);
    Py_XDECREF(stretch.times);
    Py_XDECREF(stretch.ran);
    Py_XDECREF(stretch.moved);
    Py_XDECREF(stretch.pending);
    Py_XDECREF(stretch.last);
    return result;
}

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
    self->known_words = 0;
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

static PyType_Spec walker_spec = {
    .name = "ftdiag.sources._tick.Walker",
    .basicsize = sizeof(Walker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = walker_slots,
};

/* --- lines of /proc: the protocol is ThreadLines of threadlines.py ----------------------------------- */

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

static PyType_Spec lines_spec = {
    .name = "ftdiag.sources._tick.Lines",
    .basicsize = sizeof(Lines),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = lines_slots,
};

/* --- reading single places, for what is not part of a walk ------------------------------------------- */

/* The bytes at an address; None where not all of them came. */
static PyObject *peek(PyObject *module, PyObject *args) {
    int pid;
    unsigned long long address;
    Py_ssize_t size;
    byte into[MAX_PEEK_BYTES];
    (void)module;
    if (!PyArg_ParseTuple(args, "iKn:peek", &pid, &address, &size)) return NULL;
    if (size <= 0 || size > MAX_PEEK_BYTES || !readable(address, (u64)size)) Py_RETURN_NONE;
    struct iovec local = {into, (size_t)size}, remote = {(void *)(uintptr_t)address, (size_t)size};
    ssize_t got;
    /* It may not come back (userfaultfd): who watches over us must be able to run. */
    Py_BEGIN_ALLOW_THREADS
    got = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    Py_END_ALLOW_THREADS
    if (got != size) Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((const char *)into, size);
}

/* --- tables of line numbers: see locations.py --------------------------------------------------------- */

static int add_line(PyObject *starts, PyObject *lines, long long units, long long line) {
    PyObject *start = PyLong_FromLongLong(units);
    PyObject *number = line < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(line);
    int failed = start == NULL || number == NULL || PyList_Append(starts, start) < 0 ||
                 PyList_Append(lines, number) < 0;
    Py_XDECREF(start);
    Py_XDECREF(number);
    return failed ? -1 : 0;
}

/* (first units of runs of one line, their lines, number of units). */
static PyObject *line_table(PyObject *module, PyObject *args) {
    const byte *table;
    Py_ssize_t length, position = 0;
    long long line, units = 0, last = -2; /* -1: no line */
    (void)module;
    if (!PyArg_ParseTuple(args, "y#L:line_table", &table, &length, &line)) return NULL;
    PyObject *starts = PyList_New(0), *lines = PyList_New(0);
    int failed = starts == NULL || lines == NULL;
    while (!failed && position < length && table[position] & 0x80) {
        byte head = table[position];
        int code = head >> 3 & 15;
        Py_ssize_t end = position + 1;
        while (end < length && !(table[end] & 0x80)) end++;
        if (code == 14 || code == 13) {
            u64 value = 0;
            int ended = 0;
            for (int place = 0; place < 6 && position + 1 + place < end && !ended; place++) {
                byte one = table[position + 1 + place];
                value |= (u64)(one & 0x3F) << 6 * place;
                ended = !(one & 0x40);
            }
            if (!ended) break;
            line += value & 1 ? -(long long)(value >> 1) : (long long)(value >> 1);
        } else if (code >= 10 && code != 15)
            line += code - 10;
        if (line < 0 || line > 0x7FFFFFFF) break;
        long long found = code == 15 ? -1 : line;
        if (found != last) failed = add_line(starts, lines, units, found) < 0;
        last = found;
        units += (head & 7) + 1;
        position = end;
    }
    PyObject *result = failed ? NULL : Py_BuildValue("(OOL)", starts, lines, units);
    Py_XDECREF(starts);
    Py_XDECREF(lines);
    return result;
}

static PyMethodDef module_methods[] = {
    {"peek", peek, METH_VARARGS, NULL},
    {"line_table", line_table, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* --- the module ------------------------------------------------------------------------------------ */

static int module_exec(PyObject *module) {
    State *state = PyModule_GetState(module);
    state->thread = (PyTypeObject *)PyType_FromModuleAndSpec(module, &thread_spec, NULL);
    state->walker = (PyTypeObject *)PyType_FromModuleAndSpec(module, &walker_spec, NULL);
    state->lines = (PyTypeObject *)PyType_FromModuleAndSpec(module, &lines_spec, NULL);
    state->chains = (PyTypeObject *)PyType_FromModuleAndSpec(module, &chains_spec, NULL);
    state->seen = (PyTypeObject *)PyType_FromModuleAndSpec(module, &seen_spec, NULL);
    state->rings = (PyTypeObject *)PyType_FromModuleAndSpec(module, &rings_spec, NULL);
    if (state->thread == NULL || state->walker == NULL || state->lines == NULL || state->seen == NULL ||
        state->chains == NULL || state->rings == NULL)
        return -1;
    if (PyModule_AddType(module, state->thread) < 0 || PyModule_AddType(module, state->walker) < 0 ||
        PyModule_AddType(module, state->lines) < 0 || PyModule_AddType(module, state->seen) < 0 ||
        PyModule_AddType(module, state->chains) < 0 || PyModule_AddType(module, state->rings) < 0)
        return -1;
    if (PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) return -1;
    return PyModule_AddIntConstant(module, "MAX_DEPTH", MAX_DEPTH);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    Py_VISIT(state->thread);
    Py_VISIT(state->walker);
    Py_VISIT(state->lines);
    Py_VISIT(state->seen);
    Py_VISIT(state->chains);
    Py_VISIT(state->rings);
    return 0;
}

static int module_clear(PyObject *module) {
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->thread);
    Py_CLEAR(state->walker);
    Py_CLEAR(state->lines);
    Py_CLEAR(state->seen);
    Py_CLEAR(state->chains);
    Py_CLEAR(state->rings);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if !defined(Py_LIMITED_API) && PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ftdiag.sources._tick",
    .m_doc = "The compiled part of a tick; see stackwalk.py.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__tick(void) { return PyModuleDef_Init(&module_definition); }
