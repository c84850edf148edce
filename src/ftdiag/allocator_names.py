"""The functions of allocators, by name: one list for who classifies samples and for who splits their time.

`*` is any text, as in fnmatch. From CPython 3.13 and 3.14 (Objects/obmalloc.c, Objects/mimalloc/), glibc
2.28-2.41 (malloc/malloc.c, malloc/arena.c), musl (src/malloc/mallocng), jemalloc and tcmalloc.
"""

from __future__ import annotations

from typing import Final

MIMALLOC: Final = ("mi_*", "_mi_*", "mimalloc (*")
"""Inside CPython and as a library; the last are those that have no name (`sources.native.unnamed`)."""
PYTHON_RAW: Final = ("_PyMem_Raw*", "PyMem_Raw*")
"""CPython's way to libc's malloc."""
PYTHON_OBJECTS: Final = (
    "_PyObject_Mi*",
    "_PyMem_*",
    "PyMem_Malloc",
    "PyMem_Calloc",
    "PyMem_Realloc",
    "PyMem_Free",
    "PyObject_Malloc",
    "PyObject_Calloc",
    "PyObject_Realloc",
    "PyObject_Free",
    "pymalloc (*",
)
"""CPython's ways to mimalloc; `PYTHON_RAW` comes before them."""
CPP_OPERATORS: Final = ("_Znw*", "_Zna*", "_Zdl*", "_Zda*")
"""new and delete of C++: they call malloc and free."""
OTHER_LIBRARIES: Final = (
    "je_*",
    "jemalloc_*",
    "tc_malloc*",
    "tc_free*",
    "tc_calloc",
    "tc_realloc",
    "tc_memalign",
    "tc_new*",
    "tc_delete*",
    "_ZN8tcmalloc*",
    "_ZNK8tcmalloc*",
)
"""jemalloc and tcmalloc."""
LIBC: Final = (
    # glibc
    "malloc",
    "malloc (*",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "cfree",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "malloc_*",
    "__malloc*",
    "__libc_malloc*",
    "__libc_calloc*",
    "__libc_realloc*",
    "__libc_free*",
    "__libc_memalign*",
    "_int_malloc",
    "_int_free*",
    "_int_realloc",
    "_int_memalign",
    "_mid_memalign",
    "sysmalloc*",
    "systrim",
    "unlink_chunk",
    "munmap_chunk",
    "mremap_chunk",
    "arena_get*",
    "reused_arena",
    "new_heap",
    "alloc_new_heap",
    "grow_heap",
    "shrink_heap",
    "heap_trim",
    "tcache_*",
    "ptmalloc_init",
    # musl
    "alloc_slot",
    "alloc_group",
    "nontrivial_free",
    "__expand_heap",
)
PYTHON_PAGES: Final = ("unix_mmap*",)
"""mimalloc's way to the kernel's pages in CPython."""
TAKING_PAGES: Final = (
    "mmap",
    "mmap64",
    "__mmap*",
    "mremap",
    "__mremap",
    "brk",
    "__brk",
    "sbrk",
    "__sbrk",
    "mprotect",
    "__mprotect",
)
"""libc's functions that ask the kernel for memory."""
GIVING_PAGES_BACK: Final = ("munmap", "__munmap", "madvise", "__madvise")
"""libc's functions that give it back."""
