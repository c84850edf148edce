"""The table of symbols: an example for every class and origin, and what must not be in it."""

from __future__ import annotations

import fnmatch

import pytest

from ftdiag.model import ThreadState
from ftdiag.sources.native import symbol_classes
from ftdiag.sources.native.symbol_classes import (
    TABLE,
    Origin,
    base_name,
    is_handover,
    is_interrupt,
    origin_of,
    state_of,
    state_of_image,
)

SPIN, ALLOC, GC, ATOMIC = ThreadState.SPIN, ThreadState.ALLOC, ThreadState.GC, ThreadState.ATOMIC
P, L, K, O = Origin.PYTHON, Origin.LIBC, Origin.KERNEL, Origin.OTHER  # noqa: E741


@pytest.mark.parametrize(
    ("symbol", "origin", "state"),
    [
        ("_PyMutex_LockTimed", P, SPIN),
        ("PyMutex_Lock", P, SPIN),
        ("PyMutex_LockFlags.part.0.constprop.0", P, SPIN),
        ("_PyCriticalSection_BeginSlow", P, SPIN),
        ("_PyCriticalSection2_BeginSlow", P, SPIN),
        ("_PyRawMutex_LockSlow", P, SPIN),
        ("sched_yield", L, SPIN),
        ("__sched_yield", L, SPIN),
        ("do_sched_yield", K, SPIN),
        ("__x64_sys_sched_yield", K, SPIN),
        ("__arm64_sys_sched_yield", K, SPIN),
        ("yield_task_fair", K, SPIN),
        ("gomp_team_barrier_wait_end", O, SPIN),
        ("blas_thread_server", O, SPIN),
        ("gc_collect_main.constprop.0", P, GC),
        ("gc_mark_alive_from_roots", P, GC),
        ("visit_decref", P, GC),
        ("update_refs", P, GC),
        ("deduce_unreachable_heap", P, GC),
        ("list_traverse", P, GC),
        ("_PyGC_CollectNoFail", P, GC),
        ("_mi_heap_area_visit_blocks", P, GC),
        ("mi_free", P, ALLOC),
        ("_mi_page_retire", P, ALLOC),
        ("_PyObject_MiMalloc", P, ALLOC),
        ("_mi_page_unfull.part.0", P, ALLOC),
        ("PyObject_Malloc", P, ALLOC),
        ("malloc", L, ALLOC),
        ("_int_free", L, ALLOC),
        ("arena_get2", L, ALLOC),
        ("je_arena_malloc_hard", O, ALLOC),
        ("tc_malloc", O, ALLOC),
        ("_ZN8tcmalloc10ThreadCache11ScavengeEv", O, ALLOC),
        ("_Znwm", O, ALLOC),
        ("mi_malloc", O, ALLOC),
        ("asm_exc_page_fault", K, ALLOC),
        ("handle_mm_fault", K, ALLOC),
        ("__handle_mm_fault", K, ALLOC),
        ("clear_page_erms", K, ALLOC),
        ("__alloc_frozen_pages_noprof", K, ALLOC),
        ("unmap_page_range", K, ALLOC),
        ("_Py_DecRefShared", P, ATOMIC),
        ("_Py_brc_queue_object", P, ATOMIC),
        ("__aarch64_cas8_acq_rel", P, ATOMIC),
    ],
)
def test_names_mean_states(symbol: str, origin: Origin, state: ThreadState) -> None:
    # GIVEN a function WHEN it is looked up THEN it means this
    assert state_of(symbol, origin) is state


@pytest.mark.parametrize(
    ("symbol", "origin"),
    [
        ("_PyEval_EvalFrameDefault", P),
        ("_Py_MergeZeroLocalRefcount", P),  # runs at each death of an own object
        ("_Py_TryIncrefCompare", P),  # runs at each read of an own object
        ("_PyObject_GC_New", P),
        ("PyMutex_Unlock", P),
        ("_PyParkingLot_Park", P),
        ("update_refs", O),  # a name of somebody else's
        ("graph_traverse", O),
        ("malloc_statistics_of_mine", O),
        ("memset", L),
        ("pthread_mutex_lock", L),
        ("__schedule", K),
        ("futex_wait", K),
        ("do_syscall_64", K),
        ("finish_task_switch.isra.0", K),
        ("", P),
    ],
)
def test_names_that_decide_nothing(symbol: str, origin: Origin) -> None:
    # GIVEN such a function WHEN it is looked up THEN the table is silent
    assert state_of(symbol, origin) is None


def test_every_row_is_sound() -> None:
    # GIVEN the table
    on_cpu = {SPIN, ALLOC, GC, ATOMIC}

    # WHEN its rows are looked at THEN each has a state on a core, an origin, and names without blanks
    for row in TABLE:
        assert row.state in on_cpu
        assert row.origins
        assert all(name and name == name.strip() for name in row.names)
        assert len(set(row.names)) == len(row.names)


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/opt/py/bin/python3.14t", P),
        ("/usr/lib/libpython3.13t.so.1.0", P),
        ("/usr/bin/anything", P),
        ("/opt/py/lib/python3.14t/lib-dynload/_heapq.cpython-314t-x86_64-linux-gnu.so", P),
        ("/lib/x86_64-linux-gnu/libc.so.6", L),
        ("/lib/libc-2.31.so", L),
        ("/lib/ld-musl-x86_64.so.1", L),
        ("/usr/lib/libjemalloc.so.2", Origin.ALLOCATOR),
        ("/usr/lib/libtcmalloc_minimal.so.4 (deleted)", Origin.ALLOCATOR),
        ("/x/numpy.libs/libgomp-a34b3233.so.1.0.0", Origin.OPENMP),
        ("/x/numpy/_core/_multiarray_umath.so", O),
        ("/usr/lib/libcrypto.so.3", O),
        ("", O),
    ],
)
def test_origins(path: str, origin: Origin) -> None:
    # GIVEN a mapped file WHEN asked THEN it is known whose code it is
    assert origin_of(path, "/usr/bin/anything") is origin


def test_whole_files() -> None:
    # GIVEN code without names WHEN its file serves one purpose THEN that is its state
    assert state_of_image(Origin.ALLOCATOR) is ALLOC
    assert state_of_image(Origin.OPENMP) is SPIN
    assert state_of_image(Origin.OTHER) is None


@pytest.mark.parametrize(
    ("clone", "base"),
    [
        ("gc_collect_main.constprop.0", "gc_collect_main"),
        ("PyMutex_LockFlags.part.0.constprop.0", "PyMutex_LockFlags"),
        ("_PyEval_EvalFrameDefault.cold", "_PyEval_EvalFrameDefault"),
        ("f.lto_priv.12", "f"),
        ("plain", "plain"),
        (".cold", ".cold"),
    ],
)
def test_clones_of_compilers(clone: str, base: str) -> None:
    # GIVEN a clone WHEN asked THEN it is the function it was made of
    assert base_name(clone) == base


def test_interrupts_and_handovers() -> None:
    # GIVEN kernel functions WHEN asked THEN interrupts are told from page faults
    assert is_interrupt("finish_task_switch.isra.0")
    assert is_interrupt("irqentry_exit_to_user_mode")
    assert is_interrupt("handle_softirqs")
    assert not is_interrupt("_raw_spin_lock")
    assert is_handover("_Py_brc_queue_object")
    assert not is_handover(None)


def test_names_are_matched_as_their_wildcards_say() -> None:
    # GIVEN every name of the table, with its wildcards filled in, cut off, and with something behind
    for row in symbol_classes.TABLE:
        for pattern in row.names:
            for filled in ("", "x", "_free", "0"):
                name = pattern.replace("*", filled)
                for tried in (name, name + "x", name[:-1], "x" + name):
                    # WHEN it is looked up, THEN it is found if, and only if, one of the patterns fits
                    expected = any(fnmatch.fnmatchcase(tried, each) for each in row.names)
                    assert (tried in symbol_classes._Names(row.names)) is expected, (pattern, tried)
