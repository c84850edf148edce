"""How functions of CPython are told that have no names: facts of its code, the same in 3.13, 3.14 and 3.15.

In: nothing. Out: names and numbers, each with the file that has them. Checked on a build with all names: what
is found in a copy without them must be what it is called (tests/integration/test_stripped.py).
"""

from __future__ import annotations

from typing import Final

FREE_THREADED_MARK: Final = "_Py_DecRefShared"
"""Exported by free-threaded builds only (Objects/object.c)."""

COLLECTOR: Final = "gc_collect_main"
COLLECTOR_MESSAGES: Final = (b"gc: collecting generation ", b"gc: done, ")
"""What `gc.set_debug(gc.DEBUG_STATS)` prints, begins so: gc_collect_main has both
(Python/gc_free_threading.c, Python/gc.c)."""

LOCK_WAIT: Final = "_PyMutex_LockTimed"
PARK: Final = "_PyParkingLot_Park"
"""It yields before it parks; nothing else does both (Python/lock.c)."""
YIELD: Final = "_Py_yield"
"""Some versions yield through it (Python/lock.c)."""
RAW_MUTEX_USERS: Final = ("_PyParkingLot_Park", "_PyParkingLot_Unpark", "_PyParkingLot_UnparkAll")
"""All three take a bucket's _PyRawMutex, and call the slow ways of it (Python/parking_lot.c)."""
SHARED_DECREFS: Final = ("_Py_DecRefShared", "_Py_DecRefSharedDebug")
HANDOVER: Final = "_Py_brc_queue_object"
"""The only function they call that is not exported (Objects/object.c, Python/brc.c)."""

DICT_TRAVERSAL: Final = "PyObject_VisitManagedDict"
"""Only functions of the kind tp_traverse call it (Objects/dictobject.c)."""
TRAVERSE_SLOT: Final = 71
"""Py_tp_traverse (Include/typeslots.h)."""
TRAVERSE_BEHIND_FLAGS_BYTES: Final = 16
"""PyTypeObject: tp_flags, tp_doc, tp_traverse (Include/cpython/object.h)."""
HAVE_GC_BIT: Final = 14
"""Py_TPFLAGS_HAVE_GC (Include/object.h)."""
IMMORTAL: Final = 0xFFFF_FFFF
"""What the owner counts for an object that is never freed, as static types (Include/refcount.h)."""

ALLOCATOR_FILE: Final = ("PyMem_", "_PyMem_", "PyObject_", "_PyObject_")
"""Exported functions of Objects/obmalloc.c, which includes mimalloc, begin so."""
ALLOCATOR_WORDS: Final = 5
"""PyMemAllocatorEx: ctx, malloc, calloc, realloc, free (Include/cpython/pymem.h). Those of the domains raw,
mem and object stand in a row in the runtime (struct _pymem_allocators, pycore_pymem.h)."""
RAW_ALLOCATORS: Final = ("_PyMem_RawMalloc", "_PyMem_RawCalloc", "_PyMem_RawRealloc", "_PyMem_RawFree")
MIMALLOC_ALLOCATORS: Final = (
    ("_PyMem_MiMalloc", "_PyMem_MiCalloc", "_PyMem_MiRealloc", "_PyMem_MiFree"),
    ("_PyObject_MiMalloc", "_PyObject_MiCalloc", "_PyObject_MiRealloc", "_PyObject_MiFree"),
)
PYMALLOC_ALLOCATORS: Final = (
    ("_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc", "_PyObject_Free"),
    ("_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc", "_PyObject_Free"),
)
"""What domains mem and object have in free-threaded builds and in those with the GIL (Objects/obmalloc.c)."""
