/* Wait entries of parked threads: see parkinglot.py, where it is said how they are known. */

#include "tick.h"

enum { SHARED = 128 };
#define SIGN ((uint32_t)1 << 31)

/* Whether `data`, read from `address` on, begins with a wait entry; what it says. */
int parse_entry(u64 address, const byte *data, size_t size, Entry *entry) {
    if (size < ENTRY_BYTES) return 0;
    u64 argument = word(data), key = word(data + 8), following = word(data + 48), previous = word(data + 56);
    uint32_t value, waiters, shared;
    memcpy(&value, data + 16, 4);
    memcpy(&waiters, data + 20, 4);
    memcpy(&shared, data + 24, 4);
    if (key <= LOWEST_ADDRESS || data[64] > 1) return 0;
    uint32_t posted = value & ~SIGN;
    if (posted > 1 || waiters > 1 || (shared != 0 && shared != SHARED)) return 0;
    int queued = following > LOWEST_ADDRESS && previous > LOWEST_ADDRESS;
    if (queued ? posted != 0 : following != 0 || previous != 0) return 0;
    entry->key = key;
    entry->queued = queued;
    entry->given = 0;
    if (queued || argument < address || argument - address >= size) return 1;
    u64 start = argument - address + HANDED_OFF_OFFSET;
    static const byte handed_off[4] = {1, 0, 0, 0};
    entry->given = start >= ENTRY_BYTES && start + sizeof handed_off <= size &&
                   memcmp(data + start, handed_off, sizeof handed_off) == 0;
    return 1;
}

/* The same of bytes that were read, or None, or nothing. */
int parses_entry(u64 address, PyObject *data, Entry *entry) {
    char *bytes;
    Py_ssize_t size;
    if (data == NULL || !PyBytes_Check(data) || PyBytes_AsStringAndSize(data, &bytes, &size) < 0) return 0;
    return parse_entry(address, (const byte *)bytes, (size_t)size, entry);
}
