/* What the kernel wrote into the buffers of perf events: the protocol is Rings of rings.py. */

#include "tick.h"

static PyObject *rings_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"pid", NULL};
    int pid = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|i", names, &pid)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Rings *self = (Rings *)allocate(type, 0);
    if (self != NULL) {
        self->every = DRAIN_EVERY_NS;
        self->pid = (uint32_t)pid;
    }
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

/* Whether a sample is of the process whose samples are kept. */
static int is_wanted(const Rings *self, const byte *record) {
    uint32_t pid;
    memcpy(&pid, record + 16, 4);
    return self->pid == 0 || pid == self->pid;
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
        else if (kind == RECORD_SAMPLE && is_wanted(self, from)) {
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

int drain_rings(Rings *self) {
    for (int i = 0; i < self->count; i++)
        if (drain_ring(self, &self->rings[i]) < 0) return -1;
    return 0;
}

static PyObject *rings_follow(PyObject *object, PyObject *args) {
    Rings *self = (Rings *)object;
    int number;
    unsigned long long head, tail, data, size;
    if (!PyArg_ParseTuple(args, "iKKKK:follow", &number, &head, &tail, &data, &size)) return NULL;
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
    self->rings[self->count++] = (Ring){.number = number,
                                        .active = 1,
                                        .head = (u64 *)(uintptr_t)head,
                                        .tail = (u64 *)(uintptr_t)tail,
                                        .data = (const byte *)(uintptr_t)data,
                                        .size = size};
    Py_RETURN_NONE;
}

static PyObject *rings_forget(PyObject *object, PyObject *event) {
    Rings *self = (Rings *)object;
    long number = PyLong_AsLong(event);
    if (number == -1 && PyErr_Occurred()) return NULL;
    for (int i = 0; i < self->count; i++)
        if (self->rings[i].number == (int)number) {
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
        PyObject *number = PyLong_FromLong(ring->number);
        if (number == NULL || PySet_Add(result, number) < 0) Py_CLEAR(result);
        Py_XDECREF(number);
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

PyType_Spec rings_spec = {
    .name = "ftdiag.sources._tick.Rings",
    .basicsize = sizeof(Rings),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = rings_slots,
};
