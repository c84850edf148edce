"""Threads that each wait in one way that there is, for as long as the program runs.

The thread that waits is named after its case; who makes it wait is named "CASE holder". Says "ready PID" when
all cases have been started: who looks at them has to wait until they sleep.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import queue
import select
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path

LONG = 1000.0
cases: dict[str, Callable[[], object]] = {}
started: list[threading.Thread] = []


def case(function: Callable[[], object]) -> Callable[[], object]:
    """Adds one."""
    cases[function.__name__] = function
    return function


def start(name: str, function: Callable[[], object]) -> threading.Thread:
    """A thread of that name."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    started.append(thread)
    thread.start()
    return thread


def held_by_another(lock: object) -> None:
    """Somebody takes the lock by `with`, and sleeps."""
    holds = threading.Event()

    def hold() -> None:
        with lock:  # type: ignore[attr-defined]
            holds.set()
            time.sleep(LONG)

    start(f"{threading.current_thread().name} holder", hold)
    holds.wait()


# --- nothing to do ---


@case
def condition_wait() -> None:
    with (condition := threading.Condition()):
        condition.wait()


@case
def condition_wait_for() -> None:
    with (condition := threading.Condition(threading.Lock())):
        condition.wait_for(lambda: False)


@case
def condition_wait_with_timeout() -> None:
    with (condition := threading.Condition()):
        condition.wait(LONG)


@case
def event_wait() -> None:
    threading.Event().wait()


@case
def barrier_wait() -> None:
    threading.Barrier(2).wait()


@case
def semaphore_acquire() -> None:
    free = threading.Semaphore(0)
    with free:
        pass


@case
def queue_get() -> None:
    queue.Queue[int]().get()


@case
def queue_get_with_timeout() -> None:
    queue.Queue[int]().get(timeout=LONG)


@case
def queue_put() -> None:
    full = queue.Queue[int](1)
    full.put(1)
    full.put(2)


@case
def queue_join() -> None:
    unfinished = queue.Queue[int]()
    unfinished.put(1)
    unfinished.join()


@case
def priority_queue_get() -> None:
    queue.PriorityQueue[int]().get()


@case
def simple_queue_get() -> None:
    orders = queue.SimpleQueue[int]()
    orders.get()


@case
def simple_queue_get_with_timeout() -> None:
    orders = queue.SimpleQueue[int]()
    orders.get(timeout=LONG)


@case
def thread_join() -> None:
    start("sleeper of join", lambda: time.sleep(LONG)).join()


@case
def thread_join_with_timeout() -> None:
    start("sleeper of join", lambda: time.sleep(LONG)).join(LONG)


@case
def future_result() -> None:
    Future[int]().result()


@case
def futures_wait() -> None:
    wait([Future[int]()])


@case
def futures_as_completed() -> None:
    for _ in as_completed([Future[int]()]):
        pass


@case
def executor_map() -> None:
    pool = ThreadPoolExecutor(1, thread_name_prefix="mapped")
    list(pool.map(time.sleep, [LONG]))


@case
def idle_pool() -> None:
    pool = ThreadPoolExecutor(1, thread_name_prefix="pool")
    pool.submit(int).result()
    time.sleep(LONG)


@case
def timer() -> None:
    alarm = threading.Timer(LONG, print)
    alarm.name = "timer itself"
    alarm.daemon = True
    alarm.start()
    time.sleep(LONG)


@case
def event_loop() -> None:
    asyncio.run(asyncio.sleep(LONG))


@case
def selector() -> None:
    selectors.DefaultSelector().select()


@case
def poll_selector() -> None:
    selectors.PollSelector().select(LONG)


@case
def child_process() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=True
    )
    child.wait()


# --- somebody has what it wants ---


class Cache:
    """Has a lock."""

    def __init__(self, lock: object) -> None:
        self._lock = lock

    def read(self) -> None:
        with self._lock:  # type: ignore[attr-defined]
            pass


@case
def lock() -> None:
    cache = Cache(threading.Lock())
    held_by_another(cache._lock)
    cache.read()


@case
def rlock() -> None:
    cache = Cache(threading.RLock())
    held_by_another(cache._lock)
    cache.read()


class Server:
    """Owns a cache, and has parts that know it."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def answer(self) -> None:
        self.cache.read()


class Worker:
    """Belongs to a server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def run(self) -> None:
        self.server.answer()


@case
def lock_of_a_part() -> None:
    worker = Worker(Server(Cache(threading.Lock())))
    held_by_another(worker.server.cache._lock)
    worker.run()


@case
def lock_by_acquire() -> None:
    guard = threading.Lock()
    held_by_another(guard)
    guard.acquire()


@case
def lock_with_timeout() -> None:
    guard = threading.Lock()
    held_by_another(guard)
    guard.acquire(timeout=LONG)


@case
def condition() -> None:
    changed = threading.Condition()
    held_by_another(changed)
    with changed:
        pass


@case
def condition_with_lock() -> None:
    changed = threading.Condition(threading.Lock())
    held_by_another(changed)
    with changed:
        pass


def notified(changed: threading.Condition) -> None:
    """Waits, is notified, and does not get the condition's lock back."""
    waits = threading.Event()

    def notify() -> None:
        waits.wait()
        with changed:
            changed.notify()
            time.sleep(LONG)

    start(f"{threading.current_thread().name} holder", notify)
    with changed:
        waits.set()
        changed.wait()


@case
def condition_notified() -> None:
    notified(threading.Condition())


@case
def condition_with_lock_notified() -> None:
    notified(threading.Condition(threading.Lock()))


@case
def queue_mutex() -> None:
    orders = queue.Queue[int]()
    held_by_another(orders.mutex)
    orders.get()


@case
def queue_mutex_of_put() -> None:
    orders = queue.Queue[int]()
    held_by_another(orders.not_empty)
    orders.put(1)


@case
def logging_handler() -> None:
    log = logging.getLogger("slow")
    handler = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
    log.addHandler(handler)
    held_by_another(handler.lock)
    log.error("never")


@case
def importing() -> None:
    folder = tempfile.mkdtemp()
    Path(folder, "slow_module.py").write_text(f"import __main__\n__main__.slow_import({LONG})\n")
    sys.path.append(folder)
    start("importing holder", lambda: __import__("slow_module"))
    import_began.wait()
    __import__("slow_module")


import_began = threading.Event()


def slow_import(seconds: float) -> None:
    """What the module does that takes so long."""
    import_began.set()
    time.sleep(seconds)


# --- in the kernel ---

connections: list[object] = []


@case
def socket_receive() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    connections.extend((listening, listening.accept()))
    client.recv(1)


@case
def socket_receive_with_timeout() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listening.getsockname())
    connections.extend((listening, listening.accept()))
    client.settimeout(LONG)
    client.recv(1)


@case
def socket_accept() -> None:
    socket.create_server(("127.0.0.1", 0)).accept()


@case
def unix_socket() -> None:
    left, right = socket.socketpair()
    connections.append(left)
    right.recv(1)


@case
def pipe_read() -> None:
    reading, writing = os.pipe()
    connections.append(writing)
    os.read(reading, 1)


@case
def fifo_read() -> None:
    path = os.path.join(tempfile.mkdtemp(), "orders.fifo")
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    os.read(descriptor, 1)


@case
def file_lock() -> None:
    import fcntl

    path = os.path.join(tempfile.mkdtemp(), "pid.lock")
    connections.append(first := open(path, "w"))  # noqa: SIM115
    fcntl.flock(first, fcntl.LOCK_EX)
    with open(path, "w") as second:
        fcntl.flock(second, fcntl.LOCK_EX)


@case
def select_call() -> None:
    reading, writing = os.pipe()
    connections.append(writing)
    select.select([reading], [], [])


@case
def poll_call() -> None:
    reading, writing = os.pipe()
    connections.append(writing)
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    waiting.poll()


@case
def sleep() -> None:
    time.sleep(LONG)


@case
def native_threads() -> None:
    pthreads = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    pthreads.pthread_create(ctypes.byref(thread), None, pthreads.pause, None)
    pthreads.pthread_setname_np(thread, b"blas-worker")
    semaphore = ctypes.create_string_buffer(64)
    pthreads.sem_init(semaphore, 0, 0)
    parked = ctypes.c_ulong()
    pthreads.pthread_create(ctypes.byref(parked), None, pthreads.sem_wait, semaphore)
    pthreads.pthread_setname_np(parked, b"blas-parked")
    time.sleep(LONG)


@case
def inside_a_library() -> None:
    library = ctypes.CDLL(None)
    semaphore = ctypes.create_string_buffer(64)
    library.sem_init(semaphore, 0, 0)
    library.sem_wait(semaphore)


# --- each other ---


def dead(name: str, make: Callable[[], object]) -> None:
    one, other = make(), make()
    ready = threading.Barrier(2)

    def forwards() -> None:
        with one:  # type: ignore[attr-defined]
            ready.wait()
            with other:  # type: ignore[attr-defined]
                pass

    def backwards() -> None:
        with other:  # type: ignore[attr-defined]
            ready.wait()
            with one:  # type: ignore[attr-defined]
                pass

    start(f"{name} 1", forwards)
    start(f"{name} 2", backwards)


if __name__ == "__main__":
    dead("dead locks", threading.Lock)
    dead("dead rlocks", threading.RLock)
    for name, function in cases.items():
        start(name, function)
    sys.stdout.write(f"ready {os.getpid()}\n")
    sys.stdout.flush()
    while True:
        # Somebody works: what stands still beside it is stuck.
        until = time.perf_counter() + 0.01
        while time.perf_counter() < until:
            pass
        time.sleep(0.04)
