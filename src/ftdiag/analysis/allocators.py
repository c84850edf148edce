"""What time in the allocator goes to, by the function of machine code that was found there.

In: symbols of native samples whose state is ALLOC. Out: `AllocatorPart`. The names are those by which
sources.symbol_classes knows the allocator, of the same builds of CPython, glibc and Linux; what is not in
the table is kernel code that a thread came to without a system call: a page fault.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import Final

from ftdiag.model import AllocatorPart

TABLE: Final[tuple[tuple[AllocatorPart, tuple[str, ...]], ...]] = (
    (
        AllocatorPart.MAPPING,
        (
            "unix_mmap*",
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
            "do_mmap",
            "mmap_region",
            "vm_mmap_pgoff",
            "do_brk*",
            "move_page_tables",
            "mremap_to",
            "do_mprotect_pkey",
            "change_protection*",
            "__*_sys_mmap",
            "__*_sys_brk",
        ),
    ),
    (
        AllocatorPart.UNMAPPING,
        (
            "munmap",
            "__munmap",
            "madvise",
            "__madvise",
            "free_pages_and_swap_cache",
            "*free_unref_*",
            "free_pcppages_bulk",
            "*mem_cgroup_uncharge*",
            "uncharge_folio",
            "folio_remove_rmap*",
            "do_munmap",
            "__do_munmap",
            "do_vmi_*munmap",
            "unmap_*",
            "zap_*",
            "do_madvise*",
            "madvise_*",
            "tlb_*mmu*",
            "flush_tlb_*",
            "__*_sys_munmap",
            "__*_sys_madvise",
        ),
    ),
    (
        AllocatorPart.LIBC,
        (
            "_PyMem_Raw*",
            "PyMem_Raw*",
            # glibc, malloc/malloc.c and malloc/arena.c
            "malloc",
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
            # operators new and delete of C++ call malloc and free
            "_Znw*",
            "_Zna*",
            "_Zdl*",
            "_Zda*",
        ),
    ),
    (
        AllocatorPart.OTHER,
        ("je_*", "jemalloc_*", "tc_*", "_ZN8tcmalloc*", "_ZNK8tcmalloc*"),
    ),
    (
        AllocatorPart.MIMALLOC,
        (
            "mi_*",
            "_mi_*",
            "_PyObject_Mi*",
            "_PyMem_*",
            "PyMem_*",
            "PyObject_Malloc",
            "PyObject_Calloc",
            "PyObject_Realloc",
            "PyObject_Free",
        ),
    ),
    (AllocatorPart.UNKNOWN, ("?", "")),
)
"""The first row that matches holds."""


@functools.lru_cache(maxsize=4096)
def part_of(symbol: str) -> AllocatorPart:
    """What a function of the allocator does. Compilers' suffixes (".part.0") do not matter."""
    name = symbol.partition(".")[0]
    for part, pattern in _patterns():
        if pattern.match(name):
            return part
    return AllocatorPart.FAULTS


@functools.cache
def _patterns() -> tuple[tuple[AllocatorPart, re.Pattern[str]], ...]:
    return tuple((part, re.compile("|".join(map(fnmatch.translate, names)))) for part, names in TABLE)
