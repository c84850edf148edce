/* Reading single places, for what is not part of a walk, and tables of line numbers (locations.py). */

#include "tick.h"

/* The bytes at an address; None where not all of them came. */
PyObject *peek(PyObject *module, PyObject *args) {
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
PyObject *line_table(PyObject *module, PyObject *args) {
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
