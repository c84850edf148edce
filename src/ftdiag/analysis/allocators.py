"""What time in the allocator goes to, by the function of machine code that was found there.

In: symbols of native samples whose state is ALLOC. Out: `AllocatorPart`. The names of allocators' functions
are in `allocator_names`, those of the kernel are of Linux 5.15-6.18; what is not in the table is kernel code
that a thread came to without a system call: a page fault.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import Final

from ftdiag import allocator_names as names
from ftdiag.model import AllocatorPart

TABLE: Final[tuple[tuple[AllocatorPart, tuple[str, ...]], ...]] = (
    (
        AllocatorPart.MAPPING,
        (
            *names.PYTHON_PAGES,
            *names.TAKING_PAGES,
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
            *names.GIVING_PAGES_BACK,
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
    (AllocatorPart.LIBC, (*names.PYTHON_RAW, *names.LIBC, *names.CPP_OPERATORS)),
    (AllocatorPart.OTHER, names.OTHER_LIBRARIES),
    (AllocatorPart.MIMALLOC, (*names.MIMALLOC, *names.PYTHON_OBJECTS)),
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
    return tuple((part, re.compile("|".join(map(fnmatch.translate, functions)))) for part, functions in TABLE)
