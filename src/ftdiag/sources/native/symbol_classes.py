"""Which state code belongs to, by the name of its function: the one reviewed table.

In: a symbol and where it comes from. Out: a `ThreadState`, or `None`: the name decides nothing, the
instruction or the way into the kernel may.

How the rows were found: the functions of each object file of CPython 3.13 and 3.14 (`nm` on their builds,
Python/gc_free_threading.c, Objects/obmalloc.c, Objects/mimalloc/, Python/lock.c, Python/critical_section.c),
of glibc 2.28-2.41, libgomp, OpenBLAS and Linux 5.15-6.18, and what contended programs showed. The first row
that matches holds; docs/native-sampling.md says why rows come in this order.

Not in the table, on purpose: routines whose usual way is uncontended. `_Py_MergeZeroLocalRefcount` runs at
each death of a thread's own object and `_Py_TryIncrefCompare` at each read of one; only their atomic
instruction, which is seen in the code, means sharing. The same holds for `PyMutex_Unlock`, `_PySeqLock_*`,
`_PyObject_GC_New*`, `pthread_mutex_lock`. Parking and waking (`_PyParkingLot_*`, futex) also serve idle
threads and stay WORK.
"""

from __future__ import annotations

import enum
import fnmatch
import functools
import re
from typing import Final, NamedTuple

from ftdiag import allocator_names as names
from ftdiag.model import ThreadState


class Origin(enum.Enum):
    """Whose code it is. Short names such as `update_refs` mean something in one place only."""

    PYTHON = "python"
    LIBC = "libc"
    ALLOCATOR = "allocator"
    OPENMP = "openmp"
    KERNEL = "kernel"
    OTHER = "other"


class Row(NamedTuple):
    """Names (`*` is any text) from these origins mean this state."""

    state: ThreadState
    origins: frozenset[Origin]
    names: tuple[str, ...]


_PROGRAM: Final = frozenset({Origin.PYTHON, Origin.LIBC, Origin.ALLOCATOR, Origin.OPENMP, Origin.OTHER})
_PYTHON: Final = frozenset({Origin.PYTHON})
_LIBC: Final = frozenset({Origin.LIBC})
_KERNEL: Final = frozenset({Origin.KERNEL})

TABLE: Final[tuple[Row, ...]] = (
    # --- waiting for a lock on a core ---
    Row(
        ThreadState.SPIN,
        _PYTHON,
        (
            "_PyMutex_LockTimed",
            "_PyMutex_LockSlow",
            "PyMutex_Lock",
            "PyMutex_LockFlags",
            "_PyCriticalSection_BeginSlow",
            "_PyCriticalSection2_BeginSlow",
            "_PyRawMutex_*Slow",
            "_PyRecursiveMutex_Lock*",
            "_PyRWMutex_*Lock",
            "_PySeqLock_LockWrite",
            "_PyOnceFlag_CallOnceSlow",
            "_Py_yield",
            "raw mutex (*",
        ),
    ),
    Row(
        ThreadState.SPIN,
        _LIBC,
        (
            "sched_yield",
            "__sched_yield",
            "thrd_yield",
            "pthread_yield",
            "pthread_spin_lock",
            "__pthread_spin_lock",
            "__lll_lock_wait*",
            "__lll_lock_elision",
        ),
    ),
    Row(
        ThreadState.SPIN,
        _PROGRAM,
        (
            # libgomp (config/linux/wait.h is inlined into these), LLVM and Intel OpenMP
            "gomp_barrier_wait*",
            "gomp_team_barrier_wait*",
            "gomp_mutex_lock_slow",
            "gomp_thread_start",
            "gomp_simple_barrier_wait",
            "__kmp_hyper_barrier*",
            "__kmp_wait_*",
            "*kmp_flag_*wait*",
            "__kmp_acquire_*lock*",
            # OpenBLAS's pool waits with sched_yield or nops (driver/others/blas_server.c)
            "blas_thread_server",
            "exec_blas",
            "exec_blas_async_wait",
        ),
    ),
    Row(
        ThreadState.SPIN,
        _KERNEL,
        (
            "do_sched_yield",
            "__do_sys_sched_yield",
            "*_sys_sched_yield",
            "yield_task*",
            "native_queued_spin_lock_slowpath",
            "__pv_queued_spin_lock_slowpath",
            "queued_spin_lock_slowpath",
            "queued_*_lock_slowpath",
            "osq_lock",
            "rwsem_spin_on_owner",
            "mutex_spin_on_owner",
            "__mutex_lock*",
        ),
    ),
    # --- the cyclic collector: before the allocator, whose heaps it walks ---
    Row(
        ThreadState.GC,
        _PYTHON,
        (
            "collector (*",
            "gc_collect*",
            "gc_visit*",
            "gc_mark_*",
            "gc_clear_*",
            "gc_abort_mark_alive",
            "gc_propagate_alive*",
            "gc_prime_from_*",
            "gc_should_collect",
            "gc_restore_*",
            "gc_freeze*",
            "gc_unfreeze*",
            "PyGC_Collect",
            "_PyGC_*",
            "update_refs",
            "restore_refs",
            "mark_heap_visitor",
            "mark_reachable",
            "scan_heap_visitor",
            "validate_refcounts",
            "validate_gc_objects",
            "deduce_unreachable_heap",
            "move_legacy_finalizer_reachable",
            "handle_legacy_finalizers",
            "handle_resurrected_objects",
            "clear_weakrefs",
            "call_weakref_callbacks",
            "finalize_garbage",
            "delete_garbage",
            "cleanup_worklist",
            "merge_all_queued_objects",
            "merge_queued_objects",
            "process_delayed_frees",
            "disable_deferred_refcounting",
            "frame_disable_deferred_refcounting",
            "immortalize_visitor",
            "custom_visitor_wrapper",
            "list_from_object_stack",
            "queue_freed_object",
            "referrersvisit",
            "visit_decref",
            "visit_decref_unreachable",
            "visit_reachable",
            "visit_clear_unreachable",
            "visit_get_objects",
            "visit_get_referrers",
            "visit_freeze",
            "visit_unfreeze",
            "visit_count_frozen",
            "visit_validate",
            # tp_traverse of each type; nobody else calls them
            "*_traverse",
            "*_tp_traverse",
            "*.tp_traverse",
            "tp_traverse (*",
            "tupletraverse",
            "framelocalsproxy_visit",
            "_PyFrame_Traverse",
            "_PyObject_VisitManagedDict",
            "PyObject_VisitManagedDict",
            "_PyObject_VisitInstanceAttributes",
            # the walk over all blocks of all heaps (Objects/mimalloc/heap.c)
            "mi_heap_visit_*",
            "_mi_heap_area_visit_blocks",
            "_mi_heap_area_init",
            "mi_heap_area_visitor",
            "mi_segment_visit_pages",
            "_mi_abandoned_pool_visit_blocks",
        ),
    ),
    # --- allocation ---
    Row(
        ThreadState.ALLOC,
        _PROGRAM,
        (*names.MIMALLOC, *names.OTHER_LIBRARIES, *names.CPP_OPERATORS),
    ),
    Row(
        ThreadState.ALLOC,
        _PYTHON,
        (*names.PYTHON_OBJECTS, *names.PYTHON_RAW, *names.PYTHON_PAGES),
    ),
    Row(
        ThreadState.ALLOC,
        _LIBC,
        (*names.LIBC, *names.TAKING_PAGES, *names.GIVING_PAGES_BACK),
    ),
    Row(
        ThreadState.ALLOC,
        _KERNEL,
        (
            "asm_exc_page_fault",
            "exc_page_fault",
            "do_user_addr_fault",
            "do_page_fault",
            "do_mem_abort",
            "do_translation_fault",
            "*handle_mm_fault*",
            "do_anonymous_page",
            "do_fault*",
            "do_huge_pmd_anonymous_page",
            "do_wp_page",
            "do_cow_fault",
            "wp_page_copy",
            "lock_vma_under_rcu",
            "lock_mm_and_find_vma",
            "clear_page*",
            "__clear_page*",
            "clear_huge_page",
            "clear_subpage",
            "clear_user_highpage",
            "folio_zero_user",
            "vma_alloc_folio*",
            "*alloc_pages*",
            "*alloc_frozen_pages*",
            "get_page_from_freelist",
            "*rmqueue*",
            "prep_new_page",
            "post_alloc_hook",
            "free_pages_and_swap_cache",
            "*free_unref_*",
            "free_pcppages_bulk",
            "*mem_cgroup_charge*",
            "*mem_cgroup_uncharge*",
            "charge_memcg",
            "uncharge_folio",
            "folio_add_*",
            "folio_remove_rmap*",
            "do_mmap",
            "mmap_region",
            "vm_mmap_pgoff",
            "do_munmap",
            "__do_munmap",
            "do_vmi_*munmap",
            "unmap_*",
            "zap_*",
            "do_madvise*",
            "madvise_*",
            "do_brk*",
            "move_page_tables",
            "mremap_to",
            "do_mprotect_pkey",
            "change_protection*",
            "tlb_*mmu*",
            "flush_tlb_*",
            "__x64_sys_mmap",
            "__x64_sys_munmap",
            "__x64_sys_madvise",
            "__x64_sys_brk",
            "__arm64_sys_mmap",
            "__arm64_sys_munmap",
            "__arm64_sys_madvise",
            "__arm64_sys_brk",
        ),
    ),
    # --- reference counts of shared objects ---
    Row(
        ThreadState.ATOMIC,
        _PROGRAM,
        (
            "_Py_DecRefShared*",
            "_Py_TryIncRefShared*",
            "_Py_TryIncref_Shared*",
            "_Py_brc_*",
            # arm64 code built for any core calls libgcc for each atomic (-moutline-atomics)
            "__aarch64_cas*",
            "__aarch64_swp*",
            "__aarch64_ld*",
        ),
    ),
)

INTERRUPTS: Final = (
    "finish_task_switch",
    "irqentry_*",
    "*exit_to_user_mode*",
    "*softirq*",
    "*irq_exit*",
    "asm_sysvec_*",
    "sysvec_*",
    "asm_common_interrupt",
    "common_interrupt",
    "schedule",
    "__schedule",
    "preempt_schedule*",
    "pick_next_*",
    "put_prev_*",
    "sched_*",
    "update_group_capacity",
    "task_mm_cid_work",
    "task_work_run",
    "__get_user_8",
    "__rseq_*",
    "rcu_*",
    "*timer*",
    "tick_*",
    "ktime_*",
    "blk_*",
    "bio_*",
    "*blkcg_*",
    "__blk_*",
    "napi_*",
    "net_rx_*",
    "el0*_irq*",
    "*gic_*",
    "do_notify_resume",
)
"""Kernel code that interrupts a program: a thread that came into the kernel without a system call and is
not in one of these is there for a page fault."""

_MEMORY_IMAGES: Final = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|hoard|snmalloc|rpmalloc|tbbmalloc)")
_OPENMP_IMAGES: Final = re.compile(r"lib(gomp|omp|iomp5)\b")
_LIBC_IMAGES: Final = re.compile(r"(libc[.-]|ld-musl-|libpthread[.-])")
_PYTHON_IMAGES: Final = re.compile(r"(libpython3|python3)[\w.]*$")
_CLONE_SUFFIX: Final = re.compile(
    r"(\.(isra|part|constprop|cold|lto_priv|llvm|localalias|specialized|unlikely|hot)(\.\d+)*|\.\d+)+$"
)


MAX_REMEMBERED: Final = 4096
"""Names and files of which it is remembered what they mean: most addresses are in few functions."""
_WILD: Final = frozenset("*?[")


@functools.lru_cache(MAX_REMEMBERED)
def origin_of(path: str, python_image: str) -> Origin:
    """Whose code a mapped file is. `python_image` is the file that holds the CPython runtime."""
    if path == python_image or "/lib-dynload/" in path:
        return Origin.PYTHON
    name = path.removesuffix(" (deleted)").rsplit("/", 1)[-1]
    if _MEMORY_IMAGES.match(name):
        return Origin.ALLOCATOR
    if _OPENMP_IMAGES.match(name):
        return Origin.OPENMP
    if _LIBC_IMAGES.match(name):
        return Origin.LIBC
    if _PYTHON_IMAGES.match(name):
        return Origin.PYTHON
    return Origin.OTHER


@functools.lru_cache(MAX_REMEMBERED)
def base_name(symbol: str) -> str:
    """The function a compiler's clone was made of: `gc_collect_main` for `gc_collect_main.constprop.0`."""
    return _CLONE_SUFFIX.sub("", symbol) or symbol


@functools.lru_cache(MAX_REMEMBERED)
def state_of(symbol: str, origin: Origin) -> ThreadState | None:
    """The state that a function's name means; `None` if the name alone decides nothing."""
    name = base_name(symbol)
    for state, known in _names(origin):
        if name in known:
            return state
    return None


def state_of_image(origin: Origin) -> ThreadState | None:
    """The state of code without a name, from what the whole file is there for."""
    if origin is Origin.ALLOCATOR:
        return ThreadState.ALLOC
    # Without debug symbols libgomp's barriers and locks have no names; there is little else in it.
    if origin is Origin.OPENMP:
        return ThreadState.SPIN
    return None


def is_handover(symbol: str | None) -> bool:
    """Whether a function only runs to hand an object back to the thread that owns it.

    Each object is then seen once, so that the memory it works on shows no second thread.
    """
    return symbol is not None and symbol.startswith("_Py_brc_")


def is_interrupt(symbol: str) -> bool:
    """Whether a kernel function belongs to interrupts and preemption, not to page faults."""
    return base_name(symbol) in _interrupts()


class _Names:
    """Function names, some of them with wildcards. Compiling all of them into one expression takes 80 ms."""

    def __init__(self, names: tuple[str, ...]) -> None:
        plain = {name: name.removesuffix("*") for name in names if not _WILD & set(name.removesuffix("*"))}
        self._exact = frozenset(name for name, stem in plain.items() if name == stem)
        self._beginnings = tuple(stem for name, stem in plain.items() if name != stem)
        others = [fnmatch.translate(name) for name in names if name not in plain]
        self._others = re.compile("|".join(others)) if others else None

    def __contains__(self, name: str) -> bool:
        return (
            name in self._exact
            or name.startswith(self._beginnings)
            or (self._others is not None and self._others.match(name) is not None)
        )


@functools.cache
def _names(origin: Origin) -> tuple[tuple[ThreadState, _Names], ...]:
    return tuple((row.state, _Names(row.names)) for row in TABLE if origin in row.origins)


@functools.cache
def _interrupts() -> _Names:
    return _Names(INTERRUPTS)
