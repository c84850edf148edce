/* Reading the memory of a target: many ranges in one call, single ones where these were not enough. */

#include "tick.h"

/* Bytes that came of the ranges in `remote`, one after the other; -1 with an exception set. */
Py_ssize_t transfer(Walker *self, size_t total) {
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
int read_one(Walker *self, u64 address, void *into, size_t size) {
    if (!readable(address, size)) return 0;
    self->local[0] = (struct iovec){into, size};
    self->remote[0] = (struct iovec){(void *)(uintptr_t)address, size};
    self->vectors = 1;
    Py_ssize_t got = transfer(self, size);
    return got < 0 ? -1 : got == (Py_ssize_t)size;
}

void forget_late(Walker *self) {
    while (self->late_count > 0) free(self->late[--self->late_count]);
    self->late_bytes = 0;
}

/* The region of a chunk that was not read together with the others; 1, 0 or -1 like `read_one`. */
int fetch_chunk(Walker *self, u64 chunk, u64 wanted, Region *found) {
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
