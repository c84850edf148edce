/* The compiled part of a tick: lines of /proc that changed, and the walk over the stacks of many threads.

   In: descriptors of /proc files; addresses of thread states and where their fields lie. Out: only what changed;
   one number a stack. Nothing here knows a version of CPython: offsets come from the caller, and what a new
   chain of frames means is asked of it, once a chain.

   `sources/python/stackwalk.py` is the same in Python: it says why things are done so, takes over where this cannot be
   built, and is the oracle in the tests. Everything that is read is hostile: lengths are checked before they are
   used, chains and fetches are bounded, additions cannot overflow because addresses stay below 2^63.

   The GIL is kept while lines of /proc are read, each of which takes less than a microsecond, and let go of while
   memory is: such a read may never come back, and the threads that notice that need the GIL.

   This header has what the files share. `module.c` makes one extension of them, `ftdiag.sources._tick`; but for its
   entry none of their names can be seen from outside. */

#ifndef FTDIAG_TICK_H
#define FTDIAG_TICK_H

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
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#pragma GCC visibility push(hidden)

typedef uint64_t u64;
typedef unsigned char byte;

/* The same numbers as in stackwalk.py, where they are explained. */
enum {
    INTERFACE = 10, /* as in compiled.py: changes with what is below */
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
    MAX_WAITING = 64, /* as in replay.py */
    MAX_LATER = 32,
    REACH_MOST = 512,
    MAX_OBJECT_BYTES = 256,
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
#define REFERENCE_TAGS ((u64)7) /* STACKREF_TAGS of names.py */

/* Take the new value before the old one is let go of, which may run code. */
#define REPLACE(member, value) \
    do { \
        PyObject *before_ = (member); \
        (member) = (value); \
        Py_XDECREF(before_); \
    } while (0)

static inline u64 word(const byte *at) {
    u64 value;
    memcpy(&value, at, 8);
    return value;
}

static inline int readable(u64 address, u64 size) {
    return address > 0 && address < TOP && size > 0 && size < TOP && address + size <= TOP;
}

/* --- types ---------------------------------------------------------------------------------------- */

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
    PyObject *lock_places; /* dict: (lock, stack) that threads were seen to wait at -> the lock's owner, or 0 */
    PyObject *rests;       /* dict: stack of threads that rest on a lock of their own -> (its type, observation) */
    PyObject *known_words; /* set of what was in slots of `with` blocks, of which it is known what it means */
    PyObject *lockless;    /* set of types of context managers that are no locks */
    PyObject *pauses;      /* dict: places that tell who stopped the threads that are -> their sizes */
    PyObject *ask;         /* finds out what a thread waits for; or None */
    PyObject *learn;       /* finds out what a word in a slot means; or None */
    u64 state_word, object_bytes, object_type; /* offsets: in a thread state, and where objects have their type */
    unsigned long long work, words_of_known;
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
    /* of ticks that are concluded later */
    char later;
    long later_stack;
} Seen;

/* The ring buffer of one perf event, as the kernel maps it. */
typedef struct {
    int number, active;
    u64 *head, *tail;
    const byte *data;
    u64 size; /* a power of two */
} Ring;

typedef struct {
    PyObject_HEAD
    Ring *rings;
    int count, room;
    uint32_t pid; /* whose samples are kept; 0: everybody's */
    byte *records; /* those of samples, one after the other */
    size_t used, size;
    Py_ssize_t samples;
    unsigned long long lost;
    long long due, every;
} Rings;

typedef struct {
    PyTypeObject *thread, *walker, *lines, *seen, *chains, *rings;
} State;

/* One stack of a walk. */
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

/* What the kernel says of a thread, and what is walked of it. */
typedef struct {
    Seen *seen;
    PyObject *pythons; /* tuple */
    PyObject *line, *blocked;
    u64 entry, entry_before; /* the wait entry that its line tells, or 0; that of its last wait until then */
    int state;
    int first, count; /* its jobs */
} Looked;

enum { IS_GONE, IS_RUNNING, IS_BLOCKED };

/* A wait entry: see parkinglot.py. */
typedef struct {
    u64 key;
    int queued, given;
} Entry;

/* A thread that waits for a mutex of the program's. */
typedef struct {
    Seen *seen;
    u64 entry, key, owner;
} Waiting;

/* Ticks of a stretch that are concluded when it ends. */
typedef struct {
    int on;           /* whether each tick from now on is one of these: somebody waits, or did */
    PyObject *moved;  /* dict: those that may hold other locks, while it is not */
    PyObject *told;   /* dict, or None */
    PyObject *ticks;  /* list of (number, who was looked at, held, left, found, late) */
    PyObject *before; /* dict: threads of them -> the wait entries that they had before */
    PyObject *left, *held, *late; /* of the tick at hand, if it is left for later; else NULL */
    Waiting waiting[MAX_WAITING];
    int count;
} Later;

enum { NOT_PLAIN, PLAIN, MOVED /* but it may hold other locks than before */ };

/* What is read in the call that reads stacks. */
typedef struct {
    u64 address, size;
    size_t at;
    int absent;
} Wanted;

/* Whether this walk has cost as much as one may. */
static inline int spent(const Walker *self) {
    return self->work > MAX_WORK;
}

enum { TORN = -1, FAILED = -2 };

/* --- what the files have for each other ------------------------------------------------------------ */

/* thread.c */
PyObject *words_tuple(const u64 *words, Py_ssize_t count, Py_ssize_t step);
PyObject *snapshot(const Thread *self);
extern PyType_Spec thread_spec;

/* seen.c */
int observe(Seen *self, PyObject *observation, Py_ssize_t tick);
extern PyType_Spec seen_spec;

/* chains.c */
int is_meaning(PyObject *found);
PyObject *chain_meaning(Chains *self, const u64 *chain, int depth);
extern PyType_Spec chains_spec;

/* entry.c */
int parse_entry(u64 address, const byte *data, size_t size, Entry *entry);
int parses_entry(u64 address, PyObject *data, Entry *entry);

/* reading.c */
Py_ssize_t transfer(Walker *self, size_t total);
int read_one(Walker *self, u64 address, void *into, size_t size);
void forget_late(Walker *self);
int fetch_chunk(Walker *self, u64 chunk, u64 wanted, Region *found);

/* frames.c */
int add_region(Walker *self, Region region);
int follow(Walker *self, Thread *thread, u64 frame, u64 top_chunk, const size_t *ahead);

/* stack.c */
int stack_of(Walker *self, Thread *thread, const byte *state, const byte *chunks, const size_t *ahead, long *stack);

/* walk.c */
int walk_all(Walker *self, Job *jobs, int count, PyObject *found, Wanted *wanted, int wanted_count);
int take_wanted(PyObject *wanted, Wanted **into);
int tell(PyObject *found, u64 address, const byte *data, u64 size);
PyObject *walker_walk(PyObject *object, PyObject *args);

/* lines.c */
int note_ran(Lines *self, PyObject *unsettled, long long now);
int let_wait(PyObject *unsettled, const State *state, long long now, long long after);
extern PyType_Spec lines_spec;

/* look.c */
int is_plain(Walker *self, const Job *job);
int parks_at(const Walker *self, u64 key, long stack);
int read_head(Walker *self, u64 object, byte *head, PyObject *found);
PyObject *rest_at(Walker *self, const Thread *thread, long stack, u64 key, PyObject *found);
int is_unreadable(PyObject *unreadable, u64 address);
PyObject *walker_prepare(PyObject *object, PyObject *args);
PyObject *walker_prepare_later(PyObject *object, PyObject *args);
int know_word(Walker *self, PyObject *number);
PyObject *walker_know(PyObject *object, PyObject *one);
PyObject *look_at(Walker *self, State *state, PyObject *threads, PyObject *wanted, PyObject *found, PyObject *unreadable,
                  unsigned long long unreadable_count, unsigned long long generation, Py_ssize_t tick, Later *later);
PyObject *walker_look(PyObject *object, PyObject *args);

/* rings.c */
int drain_rings(Rings *self);
extern PyType_Spec rings_spec;

/* later.c */
int take_later(Walker *self, Later *later, const State *state, const Looked *looked, Py_ssize_t count, const Job *jobs,
               PyObject *wanted, PyObject *found, PyObject *unreadable);
int begin_later(const State *state, Later *later, PyObject *waiting);
int add_later(Later *later, Py_ssize_t number, PyObject *found, PyObject *threads);
void end_later(Later *later);

/* stretch.c */
int is_untold(PyObject *told, PyObject *found);
PyObject *walker_stretch(PyObject *object, PyObject *args);

/* walker.c */
extern PyType_Spec walker_spec;

/* places.c */
PyObject *peek(PyObject *module, PyObject *args);
PyObject *line_table(PyObject *module, PyObject *args);

#pragma GCC visibility pop

#endif
