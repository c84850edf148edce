"""Recordings for the rules: for each one that triggers it, a healthy look-alike, one it cannot judge.

All go through `RecordingBuilder` and `Session`. `named` adds what native samples say of lines, which the
builder does not write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from builders import (
    Counted,
    RecordingBuilder,
    Spent,
    a_lock,
    a_reading,
    a_stack,
    a_target,
    absent,
    counted,
    spent,
)
from ftdiag.analysis.allocations import joined
from ftdiag.model import (
    Allocations,
    Confidence,
    CorePart,
    Frame,
    LineAllocations,
    LockKind,
    MemoryKind,
    MemoryReading,
    OtherProcess,
    ProcessCounters,
    SharedObject,
    SharedPlace,
    Snapshot,
    Stack,
    Target,
)
from ftdiag.rules import diagnose, facts_of

Scene = Callable[[Path], Snapshot]
Threads = Mapping[str, Sequence[Spent]]

LIB: Final = "/usr/lib/python3.14"
WORK: Final = "/srv/app.py:10 work < /srv/app.py:3 main"
GET: Final = f"{LIB}/threading.py:355 Condition.wait < {LIB}/queue.py:180 Queue.get < /srv/app.py:5 worker"
FIND: Final = Frame("<frozen importlib._bootstrap>", "_find_and_load", 1360)
JOIN: Final = f"{LIB}/threading.py:1094 Thread.join"


def target(environment: tuple[str, ...] = (), **changes: Any) -> Target:
    """A target with these variables."""
    changes.setdefault("capacity_cores", 2.0)
    changes.setdefault("capacity_reason", "all 2 cores of the machine")
    return replace(a_target(**changes), environment=environment)


def look(
    folder: Path,
    threads: Threads,
    *,
    windows: int = 5,
    of: Target | None = None,
    counters: Mapping[str, Counted | None] | None = None,
    native_threads: Sequence[str] = (),
    rate_hz: float = 100.0,
    memory: MemoryReading | None = None,
    process: ProcessCounters | None = None,
    updates: Sequence[tuple[SharedPlace, str, str, dict[str, Any]]] | None = None,
) -> Snapshot:
    """The snapshot of a recording with the same window again and again."""
    number = len(list(folder.iterdir()))
    builder = RecordingBuilder(folder / f"scene-{number}.ftdiag", target=of or target(), rate_hz=rate_hz)
    for name in native_threads:
        builder.thread(name, python=False)
    for _ in range(windows):
        builder.window(threads, counters=counters, memory=memory, process=process, updates=updates)
    with builder.end().open() as recording:
        from ftdiag.session import Session

        return Session(recording).snapshot()


def named(
    snapshot: Snapshot,
    line: int,
    native: tuple[tuple[str, float], ...] = (),
    shared: tuple[SharedObject, ...] = (),
) -> Snapshot:
    """The snapshot judged again with machine code and shared objects for a line."""
    hot = tuple(
        replace(each, native=native, shared=shared) if each.frame.line == line else each
        for each in snapshot.hot
    )
    return judged(replace(snapshot, hot=hot))


def judged(snapshot: Snapshot) -> Snapshot:
    """The snapshot with what the rules say of it now."""
    diagnosis = diagnose(facts_of(snapshot))
    return replace(snapshot, findings=diagnosis.findings, not_applicable=diagnosis.not_applicable)


def workers(count: int, *parts: Spent, name: str = "worker") -> dict[str, Sequence[Spent]]:
    """Threads that all do the same."""
    return {f"{name}-{number}": parts for number in range(1, count + 1)}


def waiting_for(
    lock: Any,
    state: str,
    at: str | Stack,
    *,
    share: int = 60,
    count: int = 4,
    holder: str | None = None,
    free: bool = False,
) -> dict[str, Sequence[Spent]]:
    """Workers that wait for a lock `share` % of the time and work the rest, each at another time."""
    threads: dict[str, Sequence[Spent]] = {}
    for number in range(count):
        before = (100 - share) * number // max(1, count - 1)
        threads[f"worker-{number + 1}"] = [
            spent(before, "on_cpu", at=WORK),
            spent(share, state, at=at, lock=lock, holder=holder, free=free),
            spent(100 - share - before, "on_cpu", at=WORK),
        ]
    return threads


def wasting(state: str, at: str, *, share: int = 50, count: int = 2) -> dict[str, Sequence[Spent]]:
    """Workers that waste `share` % of their time on a core."""
    return workers(count, spent(share, state, at=at), spent(100 - share, "work", at=at))


def healthy(folder: Path) -> Snapshot:
    """Two threads at work on two cores."""
    return look(folder, workers(2, spent(98, "work", at=WORK), spent(2, "alloc", at=WORK)))


# --- first what explains that nothing scales -------------------------------------------------------------

GIL_WAITS: Final = {
    "worker-1": [spent(50, "on_cpu", at=WORK), spent(50, "gil", at=WORK, lock="the GIL", holder="worker-2")],
    "worker-2": [spent(50, "gil", at=WORK, lock="the GIL", holder="worker-1"), spent(50, "on_cpu", at=WORK)],
}


def gil_on(folder: Path) -> Snapshot:
    return look(folder, GIL_WAITS, of=target(gil_enabled=True, gil_culprits=("oldmodule._core",)))


def gil_build(folder: Path) -> Snapshot:
    return look(folder, GIL_WAITS, of=target(free_threaded=False, gil_enabled=True))


def no_bytecode(folder: Path) -> Snapshot:
    return look(folder, wasting("atomic", WORK), of=target(("PYTHONDONTWRITEBYTECODE=1",)))


def no_bytecode_without_atomics(folder: Path) -> Snapshot:
    return look(folder, workers(2, spent(100, "work", at=WORK)), of=target(("PYTHONDONTWRITEBYTECODE=1",)))


def tlbc_off(folder: Path) -> Snapshot:
    return look(folder, workers(2, spent(100, "on_cpu", at=WORK)), of=target(("PYTHON_TLBC=0",)))


def tlbc_off_on_313(folder: Path) -> Snapshot:
    of = target(("PYTHON_TLBC=0",), python_version="3.13.5")
    return look(folder, workers(2, spent(100, "on_cpu", at=WORK)), of=of)


def traced(folder: Path) -> Snapshot:
    at = f"{LIB}/trace.py:560 Trace.localtrace_count < {WORK}"
    return look(folder, workers(2, spent(40, "on_cpu", at=at), spent(60, "on_cpu", at=WORK)))


def crowded(folder: Path) -> Snapshot:
    share = {
        f"worker-{number}": counted(cpu_ns=62_500_000, run_queue_ns=937_500_000) for number in range(1, 33)
    }
    return look(folder, workers(32, spent(100, "on_cpu", at=WORK)), counters=share)


def two_of_one(folder: Path) -> Snapshot:
    """Two threads on two cores, one of which a compiler has."""
    half = counted(cpu_ns=500_000_000, run_queue_ns=500_000_000)
    return look(
        folder,
        workers(2, spent(100, "on_cpu", at=WORK)),
        counters={"worker-1": half, "worker-2": half},
        process=ProcessCounters(
            cpu_ns=1_000_000_000,
            machine_busy_ns=2_000_000_000,
            ftdiag_ns=0,
            others=(OtherProcess(4711, "cc1", 950_000_000),),
        ),
    )


def two_busy(folder: Path) -> Snapshot:
    return look(folder, workers(2, spent(100, "on_cpu", at=WORK)))


def throttled(folder: Path) -> Snapshot:
    of = target(capacity_cores=2.0, capacity_reason="cgroup CPU quota: 2 cores (/sys/fs/cgroup/a)")
    share = {
        f"worker-{number}": counted(cpu_ns=500_000_000, run_queue_ns=500_000_000) for number in range(1, 5)
    }
    return look(folder, workers(4, spent(100, "on_cpu", at=WORK)), of=of, counters=share)


def within_quota(folder: Path) -> Snapshot:
    of = target(capacity_cores=2.0, capacity_reason="cgroup CPU quota: 2 cores (/sys/fs/cgroup/a)")
    return look(folder, workers(2, spent(100, "on_cpu", at=WORK)), of=of)


def nested(folder: Path) -> Snapshot:
    threads = {**workers(2, spent(100, "on_cpu", at=WORK)), **workers(2, spent(100, "on_cpu"), name="blas")}
    share = {name: counted(cpu_ns=500_000_000, run_queue_ns=500_000_000) for name in threads}
    return look(folder, threads, counters=share, native_threads=("blas-1", "blas-2"))


def blas_alone(folder: Path) -> Snapshot:
    threads = {"main": [spent(100, "on_cpu", at=WORK)], "blas-1": [spent(100, "on_cpu")]}
    return look(folder, threads, native_threads=("blas-1",))


# --- locks -----------------------------------------------------------------------------------------------


def hot_lock(folder: Path) -> Snapshot:
    return look(
        folder, waiting_for("self._lock", "lock", "/srv/cache.py:88 Cache.get < /srv/app.py:5 worker")
    )


def hot_lock_in_much_memory(folder: Path) -> Snapshot:
    return look(
        folder,
        waiting_for("self._lock", "lock", "/srv/cache.py:88 Cache.get < /srv/app.py:5 worker"),
        process=ProcessCounters(rss_bytes=400 << 20, threads=5),
    )


def hot_lock_with_the_gil(folder: Path) -> Snapshot:
    return look(folder, workers(2, spent(100, "on_cpu", at=WORK)), of=target(gil_enabled=True))


def busy_lock(folder: Path) -> Snapshot:
    at = "/srv/cache.py:88 Cache.get < /srv/app.py:5 worker"
    return look(folder, workers(2, spent(99, "on_cpu", at=at), spent(1, "lock", at=at, lock="self._lock")))


def queue_lock(folder: Path) -> Snapshot:
    at = f"{LIB}/queue.py:142 Queue.put < /srv/app.py:7 produce"
    return look(folder, waiting_for(a_lock("jobs (Queue.mutex)"), "lock", at))


def idle_queue(folder: Path) -> Snapshot:
    return look(
        folder, workers(4, spent(2, "on_cpu", at=WORK), spent(98, "idle", at=GET, detail="Queue.get"))
    )


def log_lock(folder: Path) -> Snapshot:
    at = (
        f"{LIB}/logging/__init__.py:1011 Handler.handle < {LIB}/logging/__init__.py:1736 Logger.callHandlers"
        " < /srv/app.py:20 handle"
    )
    return look(folder, waiting_for(a_lock("Handler.lock", type_name="_thread.RLock"), "lock", at))


def circle(folder: Path, windows: int = 5) -> Snapshot:
    threads = {
        "alice": [spent(100, "lock", at="/srv/bank.py:9 debit", lock="account_b", holder="bob")],
        "bob": [spent(100, "lock", at="/srv/bank.py:19 credit", lock="account_a", holder="alice")],
        "carol": [spent(100, "on_cpu", at=WORK)],
        "dave": [spent(100, "lock", at="/srv/bank.py:29 audit", lock="account_a", holder="alice")],
    }
    return look(folder, threads, windows=windows)


def brief_circle(folder: Path) -> Snapshot:
    return circle(folder, windows=2)


def stuck(folder: Path, windows: int = 12) -> Snapshot:
    threads = {
        "reader": [spent(100, "unknown", at="/srv/wait.py:8 await_reply", syscall="futex")],
        **workers(4, spent(100, "on_cpu", at=WORK)),
    }
    return look(folder, threads, windows=windows, of=target(capacity_cores=8.0))


def briefly_stuck(folder: Path) -> Snapshot:
    return stuck(folder, windows=3)


def list_lock(folder: Path) -> Snapshot:
    lock = a_lock("results", kind=LockKind.OBJECT, type_name="list")
    return look(folder, waiting_for(lock, "object_lock", "/srv/app.py:31 collect < /srv/app.py:5 worker"))


def library_mutex(folder: Path) -> Snapshot:
    lock = a_lock("plan_lock of libfft.so", kind=LockKind.NATIVE, type_name="pthread mutex")
    at = "/srv/app.py:34 transform < /srv/app.py:5 worker"
    return look(folder, waiting_for(lock, "native_lock", at, holder="worker-1"))


def one_counter(folder: Path) -> Snapshot:
    snapshot = look(folder, wasting("atomic", WORK))
    shared = (SharedObject("itertools.count", "itertools.count", Confidence.KNOWN),)
    return named(snapshot, 10, (("_PyEval_EvalFrameDefault", 0.7),), shared)


# --- the interpreter -------------------------------------------------------------------------------------


def extension_object(folder: Path) -> Snapshot:
    snapshot = look(folder, wasting("atomic", WORK))
    shared = (SharedObject("columns.Missing", "columns.Missing", Confidence.KNOWN),)
    return named(snapshot, 10, (("value_at", 0.2), ("_PyEval_EvalFrameDefault", 0.6)), shared)


def named_extension_object(folder: Path) -> Snapshot:
    snapshot = look(folder, wasting("atomic", WORK))
    shared = (SharedObject("TABLE", "columns.Column", Confidence.KNOWN),)
    return named(snapshot, 10, (("_PyEval_EvalFrameDefault", 0.6),), shared)


def refcounts(folder: Path) -> Snapshot:
    snapshot = look(folder, wasting("atomic", WORK))
    shared = (SharedObject("CONFIG", "dict", Confidence.KNOWN),)
    return named(snapshot, 10, (("_PyEval_EvalFrameDefault", 0.7),), shared)


def pattern_strings(folder: Path) -> Snapshot:
    at = f"{LIB}/re/__init__.py:330 _compile < {LIB}/re/__init__.py:167 match < /srv/app.py:44 parse"
    return look(
        folder,
        workers(2, spent(30, "work", at=at), spent(30, "atomic", at=at), spent(40, "work", at=WORK)),
    )


def heap_types(folder: Path) -> Snapshot:
    native = (("_PyEval_EvalFrameDefault", 0.5), ("_PyObject_GC_NewVar", 0.2))
    return named(look(folder, wasting("atomic", WORK)), 10, native)


def type_lock(folder: Path) -> Snapshot:
    lock = a_lock("interpreter lock", kind=LockKind.RUNTIME, type_name=None)
    return look(folder, waiting_for(lock, "runtime_lock", "/srv/app.py:50 count < /srv/app.py:5 worker"))


def imports(folder: Path) -> Snapshot:
    at = (FIND, *a_stack("/srv/app.py:60 handle"))
    lock = a_lock("import lock", kind=LockKind.RUNTIME, type_name=None)
    return look(folder, waiting_for(lock, "runtime_lock", at))


def starting(folder: Path) -> Snapshot:
    at = (FIND, *a_stack("/srv/app.py:1 <module>"))
    return look(folder, {"main": [spent(100, "work", at=at)]})


def stops(folder: Path) -> Snapshot:
    at = f"{LIB}/functools.py:56 update_wrapper < /srv/app.py:70 decorate"
    return look(
        folder,
        {
            "worker-1": [spent(60, "work", at=at), spent(40, "stopped", at=WORK)],
            "worker-2": [spent(60, "stopped", at=WORK), spent(40, "work", at=at)],
        },
    )


def collector(folder: Path) -> Snapshot:
    return look(
        folder,
        {
            "worker-1": [spent(30, "gc", at=WORK), spent(70, "work", at=WORK)],
            "worker-2": [spent(30, "stopped", at=WORK), spent(70, "work", at=WORK)],
        },
    )


def spinning(folder: Path) -> Snapshot:
    return look(folder, wasting("spin", WORK))


# --- memory ----------------------------------------------------------------------------------------------


def arena(folder: Path) -> Snapshot:
    lock = a_lock("malloc arena", kind=LockKind.NATIVE, type_name="malloc arena")
    return look(folder, waiting_for(lock, "runtime_lock", "/srv/app.py:80 free_all < /srv/app.py:5 worker"))


def python_allocations(folder: Path) -> Snapshot:
    snapshot = look(folder, workers(2, spent(40, "alloc", at=WORK), spent(60, "work", at=WORK)))
    return named(snapshot, 10, (("_PyObject_MiMalloc", 0.3), ("mi_free", 0.2)))


def faults(folder: Path, rate: int = 300_000) -> Snapshot:
    threads = workers(2, spent(40, "alloc", at="/srv/app.py:90 load"), spent(60, "work", at=WORK))
    return look(folder, threads, counters={name: counted(minor_faults=rate // 2) for name in threads})


def few_faults(folder: Path) -> Snapshot:
    return faults(folder, 20_000)


def held(each_kib: int, *, count: int, ended: int = 0, rest: int = 20, folder: Path) -> Snapshot:
    """So many idle threads with so much memory each (KiB); `ended` and `rest` in MiB."""
    threads = {"main": [spent(100, "idle")], **workers(count, spent(100, "idle", at=GET))}
    heaps = {number + 1: (12, each_kib) for number in range(count)}
    kinds = {MemoryKind.PYTHON_HEAPS: count * each_kib // 1024 + ended + rest, MemoryKind.FILES: 8}
    reading = a_reading(kinds, {0: (60, 4000), **heaps}, ended_heap_bytes=ended << 20)
    return look(folder, threads, memory=reading)


def large_threads(folder: Path) -> Snapshot:
    return held(9000, count=32, folder=folder)


def large_program(folder: Path) -> Snapshot:
    """Threads that are large, beside a program that is much larger."""
    return held(9000, count=32, rest=4000, folder=folder)


def many_heaps(folder: Path) -> Snapshot:
    return held(1050, count=48, folder=folder)


def few_heaps(folder: Path) -> Snapshot:
    return held(1050, count=4, rest=300, folder=folder)


def kept_by_libc(folder: Path, free: int = 300) -> Snapshot:
    """A process of 500 MiB, of which so many are free in libc's heap."""
    kinds = {MemoryKind.LIBC_HEAP: 320, MemoryKind.PYTHON_HEAPS: 160, MemoryKind.FILES: 20}
    reading = a_reading(kinds, {0: (60, 4000)}, libc_free_bytes=free << 20, heaps_free_bytes=4 << 20)
    return look(folder, {"main": [spent(100, "idle")]}, memory=reading)


def little_kept_by_libc(folder: Path) -> Snapshot:
    return kept_by_libc(folder, 40)


def heaps_of_ended_threads(folder: Path) -> Snapshot:
    return held(200, count=2, ended=300, folder=folder)


# --- shape -----------------------------------------------------------------------------------------------


def serial(folder: Path) -> Snapshot:
    parts = (spent(70, "idle", at=GET, detail="Queue.get"), spent(30, "on_cpu", at=WORK))
    threads = {"main": [spent(70, "on_cpu", at="/srv/app.py:95 merge"), spent(30, "idle", at=JOIN)]}
    return look(folder, {**threads, **workers(3, *parts)}, of=target(capacity_cores=4.0))


def unequal(folder: Path) -> Snapshot:
    wait = f"{LIB}/threading.py:719 Barrier.wait < /srv/app.py:5 worker"
    return look(
        folder,
        {
            "main": [spent(100, "idle", at=JOIN, detail="Thread.join")],
            "worker-1": [spent(95, "on_cpu", at=WORK), spent(5, "idle", at=wait, detail="Barrier.wait")],
            "worker-2": [spent(12, "on_cpu", at=WORK), spent(88, "idle", at=wait, detail="Barrier.wait")],
        },
    )


def tiny_tasks(folder: Path) -> Snapshot:
    submit = f"{LIB}/concurrent/futures/thread.py:176 ThreadPoolExecutor.submit < /srv/app.py:99 spread"
    run = f"{LIB}/concurrent/futures/thread.py:86 _worker"
    threads = {
        "main": [spent(100, "on_cpu", at=submit)],
        **workers(2, spent(25, "on_cpu", at=run), spent(10, "on_cpu", at=WORK), spent(65, "idle", at=run)),
    }
    return look(folder, threads, counters={name: counted(voluntary_switches=20_000) for name in threads})


def chunked_tasks(folder: Path) -> Snapshot:
    run = f"{LIB}/concurrent/futures/thread.py:86 _worker"
    pool = f"{WORK} < {LIB}/concurrent/futures/thread.py:59 _WorkItem.run < {run}"
    return look(folder, workers(2, spent(99, "on_cpu", at=pool), spent(1, "on_cpu", at=run)))


STARTS: Final = f"{LIB}/threading.py:999 Thread.start < /srv/app.py:70 Server.accept < /srv/app.py:3 main"


def _short(snapshot: Snapshot, unseen_cores: float) -> Snapshot:
    """The snapshot with its jobs as threads that lived for 30 ms, and CPU time of some that nobody met."""
    born = 5_000_000_000_000
    threads = tuple(
        replace(one, info=replace(one.info, started_ns=born, ended_ns=born + 30_000_000))
        if one.info.name.startswith("job")
        else one
        for one in snapshot.threads
    )
    metrics = replace(
        snapshot.metrics,
        on_cpu_cores=snapshot.metrics.on_cpu_cores + unseen_cores,
        unseen_threads_cores=unseen_cores,
        account={**snapshot.metrics.account, CorePart.UNSEEN_THREADS: unseen_cores},
    )
    return judged(replace(snapshot, threads=threads, metrics=metrics))


def thread_each(folder: Path) -> Snapshot:
    """A thread for each request: forty a second are met, most are not."""
    accept = [spent(40, "on_cpu", at=STARTS), spent(60, "idle", at=STARTS, detail="a thread to start")]
    jobs = {
        f"job-{number}": [
            absent(2 * number),
            spent(2, "on_cpu", at=f"{LIB}/threading.py:1073 _bootstrap_inner"),
        ]
        for number in range(40)
    }
    return _short(look(folder, {"main": accept, **jobs}, windows=1), 0.5)


def some_threads(folder: Path) -> Snapshot:
    """A program that starts a few threads at its beginning."""
    jobs = {f"job-{number}": [spent(2, "on_cpu", at=WORK)] for number in range(4)}
    return _short(look(folder, {**workers(2, spent(100, "on_cpu", at=WORK)), **jobs}, windows=1), 0.0)


def loop_busy(folder: Path) -> Snapshot:
    at = (
        f"/srv/app.py:120 compute < {LIB}/asyncio/events.py:89 Handle._run"
        f" < {LIB}/asyncio/base_events.py:2034 BaseEventLoop._run_once"
    )
    pool = spent(
        100, "idle", at=f"{LIB}/concurrent/futures/thread.py:86 _worker", detail="work for the thread pool"
    )
    return look(folder, {"main": [spent(97, "on_cpu", at=at), spent(3, "idle")], **workers(2, pool)})


def loop_idle(folder: Path) -> Snapshot:
    once = f"{LIB}/asyncio/base_events.py:2000 BaseEventLoop._run_once"
    at = f"{LIB}/selectors.py:452 EpollSelector.select < {once}"
    wait = spent(95, "idle", at=at, syscall="epoll_wait", detail="events")
    return look(folder, {"main": [spent(5, "on_cpu", at=WORK), wait]})


def io(folder: Path) -> Snapshot:
    wait = spent(92, "io", at="/srv/app.py:130 fetch", syscall="recvfrom", detail="socket 10.0.0.5:5432")
    return look(folder, workers(4, wait, spent(8, "on_cpu", at=WORK)))


def empty(folder: Path) -> Snapshot:
    builder = RecordingBuilder(folder / "empty.ftdiag", target=target())
    with builder.end().open() as recording:
        from ftdiag.session import Session

        return Session(recording).snapshot()


def no_capacity(folder: Path) -> Snapshot:
    return look(folder, waiting_for("l", "lock", WORK), of=target(capacity_cores=None, capacity_reason=None))


def gone(folder: Path) -> Snapshot:
    """A thread that ends, and one that lives for a moment."""
    return look(
        folder, {"worker-1": [spent(50, "work", at=WORK), absent(50)], "worker-2": [spent(1, "on_cpu")]}
    )


def captured(snapshot: Snapshot, count: int, temporary: int) -> Snapshot:
    """The snapshot judged again with a capture of memray of ten seconds, all of the line `work`."""
    frame = a_stack(WORK)[0]
    line = LineAllocations(frame, 2, count, 64 * count, temporary, 64, 1, 64, a_stack(WORK))
    capture = Allocations(
        pid=snapshot.target.pid,
        command="app.py",
        begin_unix_ns=0,
        duration_ns=10_000_000_000,
        python_allocators=True,
        aggregated=False,
        cut_short=False,
        count=count,
        size_bytes=64 * count,
        temporary=temporary,
        peak_bytes=64,
        left_count=1,
        left_bytes=64,
        lines=(line,),
        threads=(),
    )
    snapshot = replace(snapshot, allocations=capture, hot=joined(snapshot.hot, capture))
    diagnosis = diagnose(facts_of(snapshot))
    return replace(snapshot, findings=diagnosis.findings, not_applicable=diagnosis.not_applicable)


def churning(folder: Path) -> Snapshot:
    """A hot line whose objects die at once."""
    return captured(healthy(folder), 12_000_000, 11_000_000)


def building(folder: Path) -> Snapshot:
    """A hot line that makes as many, which live on."""
    return captured(healthy(folder), 12_000_000, 400_000)


def _once(scenes: Mapping[str, Scene]) -> Mapping[str, Scene]:
    """The scenes, each of which is recorded and judged for the first test that asks."""
    seen: dict[Scene, Snapshot] = {}

    def kept(scene: Scene) -> Scene:
        def look_once(folder: Path) -> Snapshot:
            if scene not in seen:
                seen[scene] = scene(folder)
            return seen[scene]

        return look_once

    return {rule: kept(scene) for rule, scene in scenes.items()}


COUNT: Final = SharedPlace("attribute", "Visits.count", "Visits", 0x7F00_0000_1000)
ADD: Final = "/srv/app.py:12 add < /srv/app.py:5 worker"


def updating(folder: Path, *updates: tuple[str, dict[str, Any]]) -> Snapshot:
    """Two threads that are busy, of which it is known what they were in the middle of updating."""
    return look(
        folder,
        workers(2, spent(100, "on_cpu", at=WORK)),
        updates=[(COUNT, name, ADD, more) for name, more in updates],
    )


def racing(folder: Path) -> Snapshot:
    return updating(
        folder,
        ("worker-1", {"count": 4}),
        ("worker-2", {"count": 2}),
        ("worker-1", {"count": 1, "other": "worker-2"}),
    )


def taking_turns(folder: Path) -> Snapshot:
    """Both update it under one lock, and never at the same tick."""
    return updating(
        folder, ("worker-1", {"count": 4, "guards": (4096,)}), ("worker-2", {"count": 2, "guards": (4096,)})
    )


TRIGGERS: Final[Mapping[str, Scene]] = _once(
    {
        "gil-enabled": gil_on,
        "no-bytecode-cache": no_bytecode,
        "tlbc-disabled": tlbc_off,
        "tracing-on": traced,
        "oversubscription": crowded,
        "starved-by-others": two_of_one,
        "cpu-quota": throttled,
        "nested-parallelism": nested,
        "deadlock": circle,
        "stuck-thread": stuck,
        "racy-update": racing,
        "hot-lock": hot_lock,
        "queue-contention": queue_lock,
        "logging-contention": log_lock,
        "native-lock": library_mutex,
        "object-lock": list_lock,
        "shared-iterator": one_counter,
        "extension-singleton": extension_object,
        "refcount-contention": refcounts,
        "regex-recompile": pattern_strings,
        "heap-type-churn": heap_types,
        "class-mutation": type_lock,
        "import-in-hot-path": imports,
        "stop-the-world": stops,
        "gc-pressure": collector,
        "gil-bound": gil_build,
        "spin-contention": spinning,
        "allocator-contention": arena,
        "page-fault-storm": faults,
        "memory-per-thread": large_threads,
        "memory-overhead": many_heaps,
        "retained-memory": kept_by_libc,
        "allocation-churn": churning,
        "serial-section": serial,
        "load-imbalance": unequal,
        "executor-tiny-tasks": tiny_tasks,
        "short-lived-threads": thread_each,
        "event-loop-bound": loop_busy,
        "io-bound": io,
        "idle-workers": idle_queue,
        "threads-or-processes": hot_lock_in_much_memory,
    }
)
"""Rule -> what triggers it: it is then the first finding, and the only one above info."""

LOOKALIKES: Final[Mapping[str, Scene]] = _once(
    {
        "gil-enabled": two_busy,
        "no-bytecode-cache": no_bytecode_without_atomics,
        "tlbc-disabled": two_busy,
        "tracing-on": two_busy,
        "oversubscription": two_of_one,
        "starved-by-others": crowded,
        "cpu-quota": within_quota,
        "nested-parallelism": blas_alone,
        "deadlock": brief_circle,
        "stuck-thread": briefly_stuck,
        "racy-update": taking_turns,
        "hot-lock": busy_lock,
        "queue-contention": idle_queue,
        "logging-contention": hot_lock,
        "native-lock": arena,
        "object-lock": healthy,
        "shared-iterator": refcounts,
        "extension-singleton": named_extension_object,
        "refcount-contention": healthy,
        "regex-recompile": healthy,
        "heap-type-churn": python_allocations,
        "class-mutation": healthy,
        "import-in-hot-path": starting,
        "stop-the-world": healthy,
        "gc-pressure": healthy,
        "gil-bound": lambda folder: look(
            folder,
            workers(1, spent(100, "on_cpu", at=WORK)),
            of=target(free_threaded=False, gil_enabled=True),
        ),
        "spin-contention": refcounts,
        "allocator-contention": python_allocations,
        "page-fault-storm": few_faults,
        "memory-per-thread": large_program,
        "memory-overhead": few_heaps,
        "retained-memory": little_kept_by_libc,
        "allocation-churn": building,
        "serial-section": two_busy,
        "load-imbalance": two_busy,
        "executor-tiny-tasks": chunked_tasks,
        "short-lived-threads": some_threads,
        "event-loop-bound": loop_idle,
        "io-bound": idle_queue,
        "idle-workers": two_busy,
        "threads-or-processes": hot_lock,
    }
)
"""Rule -> what looks like it to somebody: the rule stays clear."""

UNJUDGED: Final[Mapping[str, Scene]] = _once(
    {
        "gil-enabled": gil_build,
        "no-bytecode-cache": gil_on,
        "tlbc-disabled": tlbc_off_on_313,
        "tracing-on": no_capacity,
        "oversubscription": no_capacity,
        "starved-by-others": no_capacity,
        "cpu-quota": no_capacity,
        "nested-parallelism": empty,
        "deadlock": empty,
        "stuck-thread": empty,
        "racy-update": two_busy,
        "hot-lock": no_capacity,
        "queue-contention": no_capacity,
        "logging-contention": no_capacity,
        "native-lock": no_capacity,
        "object-lock": two_busy,
        "shared-iterator": two_busy,
        "extension-singleton": two_busy,
        "refcount-contention": two_busy,
        "regex-recompile": gil_build,
        "heap-type-churn": healthy,
        "class-mutation": two_busy,
        "import-in-hot-path": gil_build,
        "stop-the-world": gil_on,
        "gc-pressure": two_busy,
        "gil-bound": gil_on,
        "spin-contention": two_busy,
        "allocator-contention": two_busy,
        "page-fault-storm": empty,
        "memory-per-thread": healthy,
        "memory-overhead": healthy,
        "retained-memory": healthy,
        "allocation-churn": healthy,
        "serial-section": empty,
        "load-imbalance": no_capacity,
        "executor-tiny-tasks": empty,
        "short-lived-threads": empty,
        "event-loop-bound": empty,
        "io-bound": no_capacity,
        "idle-workers": empty,
        "threads-or-processes": hot_lock_with_the_gil,
    }
)
"""Rule -> where it cannot look, and says why."""
