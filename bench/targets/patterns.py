"""Patterns of threaded programs, each with the variants that are said to help: what advice is measured on.

In: `CASE VARIANT SECONDS [THREADS]` or `--list`. Out: one line of JSON: steps a second with one thread and
with THREADS (2). Runs on the free-threaded interpreter that is measured, with the standard library alone;
bench/advice.py runs it and writes the table that rules read.

A variant is made once in the main thread (what threads share is made there) and gives a function that is
called in each thread with its number (what is of one thread is made there); that gives the loop, which is
called with a number of steps again and again until the time is over. The first variant of a case is the
pattern itself.
"""

from __future__ import annotations

import abc
import asyncio
import atexit
import collections
import copy  # noqa: F401 - what loops use
import ctypes
import datetime  # noqa: F401 - what loops use
import enum
import functools
import gc
import importlib
import importlib.util
import io
import itertools
import json
import logging
import logging.handlers
import mmap
import os
import py_compile
import queue
import random
import re
import shutil
import struct
import sys
import tempfile
import threading
import time
import warnings
from array import array  # noqa: F401 - what loops use
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Loop = Callable[[int], object]
PATTERNS: dict[str, dict[str, Callable[[], Callable[[int], Loop]]]] = {}
SLICE_S = 0.001
"""A call of a loop with one thread takes about so long; with several it may take 500 times as long."""


def pattern(case: str, variant: str):
    """Registers a variant of a case."""

    def register(make):
        PATTERNS.setdefault(case, {})[variant] = make
        return make

    return register


def built(lines: list[str], **names: object) -> Loop:
    """The function `work` of a text, by way of a bytecode file, as programs have theirs.

    Code that is compiled at run time keeps its numbers mortal, and threads then count references to them.
    """
    global BUILT
    with BUILDING:
        BUILT += 1
        path = os.path.join(FOLDER, f"built{BUILT}.py")
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        spec = importlib.util.spec_from_file_location("built", py_compile.compile(path, doraise=True))
        module = importlib.util.module_from_spec(spec)
        vars(module).update({name: one for name, one in globals().items() if name[:2] != "__"} | names)
        spec.loader.exec_module(module)
        return module.work


FOLDER = tempfile.mkdtemp(dir="/dev/shm")
BUILDING, BUILT = threading.Lock(), 0
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def loop(source: str, **names: object) -> Loop:
    """A loop of some lines on global names, of which some are given."""
    lines = [f"        {line}" for line in source.split("\n")]
    return built(["def work(steps):", "    for step in range(steps):", *lines], **names)


def local_loop(before: str, source: str) -> Callable[[int], Loop]:
    """A loop with a statement before it: what that binds is local. One function, run by all threads."""
    lines = [f"        {line}" for line in source.split("\n")]
    work = built(["def work(steps):", f"    {before}", "    for step in range(steps):", *lines])
    return lambda number: work


def per_thread_loop(before: str, source: str) -> Callable[[int], Loop]:
    """A loop on `one`, which a statement makes once in each thread."""
    lines = [f"        {line}" for line in source.split("\n")]
    work = built(["def work(one, steps):", "    for step in range(steps):", *lines])
    make = built(["def work():", f"    {before}", "    return one"])
    return lambda number: functools.partial(work, make())


def shared_or_own(case: str, make: Callable[[], object], step: str) -> None:
    """A case whose object is shared by all threads, and as the remedy one for each."""
    lines = [f"        {line}" for line in step.split("\n")]
    text = ["def work(shared, number, steps):", "    for step in range(steps):", *lines]

    @pattern(case, "shared")
    def shared():
        work, one = built(text), make()
        return lambda number: functools.partial(work, one, number)

    @pattern(case, "own")
    def own():
        work = built(text)
        return lambda number: functools.partial(work, make(), number)


def burn(steps: int) -> int:
    """Work on small numbers of its own."""
    value = 1
    for _ in range(steps):
        value = (value * 1103 + 12345) & 0xFF
    return value


def sample(name: str):
    """A module of samples/workloads."""
    folder = os.path.join(os.path.dirname(__file__), "..", "..", "samples", "workloads")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


@functools.cache
def library(name: str, include: str = "") -> ctypes.CDLL:
    """The C library of a sample, which lets go of the interpreter while it runs."""
    return ctypes.CDLL(str(sample("compiling").compiled(include + sample(name).SOURCE, name)))


# --- what scales ----------------------------------------------------------------------------------


@pattern("independent", "shared")
def independent():
    return lambda number: burn


# --- locks of objects -----------------------------------------------------------------------------

shared_or_own("list-append", list, "shared.append(None)\nif not step & 1023: shared.clear()")
shared_or_own("dict-setitem", dict, "shared[number] = step & 255")
shared_or_own("dict-histogram", dict, "shared[step & 63] = shared.get(step & 63, 0) + 1")
shared_or_own("set-add", set, "shared.add(step & 255)")
shared_or_own("set-contains", lambda: set(range(100)), "5 in shared")
shared_or_own("deque-append", collections.deque, "shared.append(None); shared.popleft()")
shared_or_own("counter-increment", collections.Counter, "shared['a'] += 1")
shared_or_own("bytearray-append", bytearray, "shared.append(1)\nif not step & 1023: shared.clear()")
shared_or_own("random", random.Random, "shared.random()")
shared_or_own("count-next", itertools.count, "next(shared)")
shared_or_own("zip-next", lambda: zip(itertools.count(), itertools.count(), strict=False), "next(shared)")
shared_or_own("text-file", lambda: _file("w"), "shared.write('x' * 80)\nif not step & 1023: shared.seek(0)")
shared_or_own(
    "binary-file", lambda: _file("wb"), "shared.write(b'x' * 80)\nif not step & 1023: shared.seek(0)"
)


def _file(mode: str) -> io.IOBase:
    return open(os.path.join(tempfile.mkdtemp(dir=FOLDER), "out"), mode)


@pattern("count-next", "block-of-256")
def count_in_blocks():
    lock, blocks = threading.Lock(), itertools.count()

    def start(number):
        def work(steps):
            for _ in range(steps // 256 + 1):
                with lock:
                    block = next(blocks)
                for _value in range(256 * block, 256 * block + 256):
                    pass

        return work

    return start


def _numbers():
    number = 0
    while True:
        yield number
        number += 1


class _Locked:
    """A generator behind a lock: without one, threads that meet in it fail."""

    def __init__(self):
        self.numbers, self.lock = _numbers(), threading.Lock()

    def __next__(self):
        with self.lock:
            return next(self.numbers)


@pattern("generator", "shared-behind-a-lock")
def generator_locked():
    one = _Locked()
    return lambda number: loop("next(ONE)", ONE=one)


@pattern("generator", "own")
def generator_own():
    return local_loop("one = _numbers()", "next(one)")


@pattern("generator", "serialize_iterator")
def generator_serialized():
    one = threading.serialize_iterator(_numbers())
    return lambda number: loop("next(ONE)", ONE=one)


@pattern("generator", "block-of-256")
def generator_blocks():
    one, lock = _numbers(), threading.Lock()

    def start(number):
        def work(steps):
            for _ in range(steps // 256 + 1):
                with lock:
                    block = list(itertools.islice(one, 256))
                for _value in block:
                    pass

        return work

    return start


@pattern("generator", "concurrent_tee")
def generator_teed():
    """All values for each thread, and none shared out."""
    own = threading.concurrent_tee(_numbers(), 2)
    return lambda number: functools.partial(next_of, own[number])


def next_of(one, steps):
    for _ in range(steps):
        next(one)


@pattern("count-next", "serialize_iterator")
def count_serialized():
    one = threading.serialize_iterator(itertools.count())
    return lambda number: functools.partial(next_of, one)


@pattern("dict-get-dynamic-key", "get")
def dict_get():
    table = {f"key{n}": n for n in range(64)}
    return lambda number: loop("TABLE.get(f'key{step & 63}')", TABLE=table)


@pattern("dict-get-dynamic-key", "subscript")
def dict_subscript():
    table = {f"key{n}": n for n in range(64)}
    return lambda number: loop("TABLE[f'key{step & 63}']", TABLE=table)


@pattern("dict-get-dynamic-key", "interned")
def dict_interned():
    table = {sys.intern(f"key{n}"): n for n in range(64)}
    return lambda number: loop("TABLE.get(intern(f'key{step & 63}'))", TABLE=table, intern=sys.intern)


@pattern("dict-get-dynamic-key", "own")
def dict_own():
    return lambda number: loop("TABLE.get(f'key{step & 63}')", TABLE={f"key{n}": n for n in range(64)})


# --- locks of the program -------------------------------------------------------------------------


class Tally:
    """A count under a lock."""

    def __init__(self):
        self.lock, self.count = threading.Lock(), 0


@pattern("lock-counter", "shared")
def lock_counter():
    tally = Tally()
    return lambda number: loop("with TALLY.lock: TALLY.count += 1", TALLY=tally)


@pattern("lock-counter", "merged-at-the-end")
def lock_counter_merged():
    tally = Tally()

    def start(number):
        def work(steps):
            count = 0
            for _ in range(steps):
                count += 1
            with tally.lock:
                tally.count += count

        return work

    return start


@pattern("lock-counter", "once-per-256")
def lock_counter_batch():
    tally = Tally()

    def start(number):
        def work(steps):
            count = 0
            for step in range(steps):
                count += 1
                if not step & 255:
                    with tally.lock:
                        tally.count += count
                    count = 0

        return work

    return start


@pattern("lock-dict", "shared")
def lock_dict():
    lock, table = threading.Lock(), {}
    return lambda number: loop("with LOCK: TABLE[step & 255] = step & 63", LOCK=lock, TABLE=table)


@pattern("lock-dict", "sharded-16")
def lock_sharded():
    shards = [(threading.Lock(), {}) for _ in range(16)]

    def start(number):
        def work(steps):
            for step in range(steps):
                lock, table = shards[hash(step) & 15]
                with lock:
                    table[step & 255] = step & 63

        return work

    return start


@pattern("queue", "shared")
def queue_shared():
    one = queue.Queue()
    return lambda number: loop("ONE.put(step & 63); ONE.get()", ONE=one)


@pattern("queue", "own")
def queue_own():
    return lambda number: loop("ONE.put(step & 63); ONE.get()", ONE=queue.Queue())


@pattern("queue", "batches-of-64")
def queue_batches():
    one = queue.Queue()

    def start(number):
        def work(steps):
            for _ in range(steps // 64 + 1):
                one.put(list(range(64)))
                for _item in one.get():
                    pass

        return work

    return start


@pattern("queue", "SimpleQueue")
def queue_simple():
    one = queue.SimpleQueue()
    return lambda number: loop("ONE.put(step & 63); ONE.get()", ONE=one)


def _logger(name: str, level: int = logging.INFO) -> logging.Logger:
    logger = logging.getLogger(name)
    logger.propagate, logger.level = False, level
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger


@pattern("logging", "shared")
def logging_shared():
    logger = _logger("shared")
    return lambda number: loop("LOGGER.info('step %d', step)", LOGGER=logger)


@pattern("logging", "level-off")
def logging_off():
    logger = _logger("off", logging.WARNING)
    return lambda number: loop("LOGGER.info('step %d', step)", LOGGER=logger)


@pattern("logging", "logger-per-thread")
def logging_own():
    return lambda number: loop("LOGGER.info('step %d', step)", LOGGER=_logger(f"own{number}"))


@pattern("logging", "QueueHandler")
def logging_queue():
    logger = logging.getLogger("queued")
    logger.propagate, logger.level = False, logging.INFO
    records = queue.SimpleQueue()
    logger.addHandler(logging.handlers.QueueHandler(records))
    listener = logging.handlers.QueueListener(records, logging.StreamHandler(io.StringIO()))
    listener.start()
    return lambda number: loop("LOGGER.info('step %d', step)", LOGGER=logger)


# --- reference counts -----------------------------------------------------------------------------

GLOBAL_LIST = [1, 2, 3]
GLOBAL_FLOAT = 1234.5


class Settings:
    """An instance that threads share."""

    def __init__(self):
        self.rates, self.size, self.scale = [1, 2, 3], 7, 1.5

    def method(self):
        return None


SETTINGS = Settings()


class Holder:
    """Where another module would keep what threads share."""


HOLDER = Holder()
HOLDER.settings = Settings()
METHOD = Settings().method


class Color(enum.Enum):
    """An enumeration."""

    RED = "red"


class Constants:
    """A class whose attributes are read."""

    RATES = (1.5, [2])

    @classmethod
    def make(cls):
        return None


def plain():
    return None


def decorate(function):
    @functools.wraps(function)
    def inner():
        return function()

    return inner


DECORATED = decorate(plain)
CACHED = functools.lru_cache(maxsize=128)(lambda key: key)
Point = collections.namedtuple("Point", "x y")
FORMAT = struct.Struct("<ii")


def deferred(one: object) -> object:
    """Has references to an object counted by the collector only (3.14 and later)."""
    switch = ctypes.pythonapi.PyUnstable_Object_EnableDeferredRefcount
    switch.argtypes, switch.restype = [ctypes.py_object], ctypes.c_int
    assert switch(one) == 1
    return one


def _variants(case: str, **sources: tuple[str, str]) -> None:
    for variant, (before, step) in sources.items():
        make = per_thread_loop if variant in {"own", "copy"} else local_loop
        pattern(case, variant.replace("_", "-"))(functools.partial(make, before or "pass", step))


_variants(
    "global-list",
    shared=("", "GLOBAL_LIST[0]"),
    alias=("one = GLOBAL_LIST", "one[0]"),
    copy=("one = list(GLOBAL_LIST)", "one[0]"),
)
_variants(
    "global-instance",
    shared=("", "SETTINGS.size"),
    alias=("one = SETTINGS", "one.size"),
    copy=("one = copy.deepcopy(SETTINGS)", "one.size"),
)
_variants(
    "attribute-value",
    shared=("", "HOLDER.settings.rates[0]"),
    alias=("one = HOLDER.settings.rates", "one[0]"),
    copy=("one = list(HOLDER.settings.rates)", "one[0]"),
)
_variants("global-float", shared=("", "GLOBAL_FLOAT + 1.0"), alias=("one = GLOBAL_FLOAT", "one + 1.0"))
_variants(
    "argument",
    shared=("one = SETTINGS", "identity(one)"),
    copy=("one = copy.deepcopy(SETTINGS)", "identity(one)"),
)
_variants(
    "decorated-function",
    shared=("", "DECORATED()"),
    alias=("one = DECORATED", "one()"),
    own=("one = decorate(plain)", "one()"),
)
_variants(
    "bound-method",
    shared=("", "METHOD()"),
    rebound=("one = SETTINGS.method", "one()"),
    own=("one = Settings().method", "one()"),
)
_variants(
    "lru-cache",
    shared=("", "CACHED(1)"),
    alias=("one = CACHED", "one(1)"),
    own=("one = functools.lru_cache(maxsize=128)(lambda key: key)", "one(1)"),
)
_variants(
    "enum-value",
    shared=("", "Color.RED.value"),
    once=("one = Color.RED.value", "one"),
)
_variants("environ", shared=("", "os.environ.get('HOME')"), once=("one = os.environ.get('HOME')", "one"))
_variants(
    "isinstance-abc",
    shared=("one = Settings()", "isinstance(one, collections.abc.Mapping)"),
    concrete=("one = Settings()", "isinstance(one, dict)"),
)
_variants("classmethod", shared=("", "Constants.make()"), function=("", "plain()"))
_variants("class-attribute", shared=("", "Constants.RATES"), alias=("one = Constants.RATES", "one"))
_variants("namedtuple", shared=("", "Point(1, 2)"), tuple=("", "(step, 2)"))
_variants(
    "struct-pack", shared=("", "FORMAT.pack(1, 2)"), own=("one = struct.Struct('<ii')", "one.pack(1, 2)")
)


def identity(one):
    return one


@pattern("global-instance", "deferred")
def deferred_instance():
    deferred(SETTINGS)
    return local_loop("pass", "SETTINGS.size")


@pattern("global-list", "deferred")
def deferred_list():
    deferred(GLOBAL_LIST)
    return local_loop("pass", "GLOBAL_LIST[0]")


@pattern("attribute-value", "deferred")
def deferred_attribute():
    deferred(HOLDER.settings), deferred(HOLDER.settings.rates)
    return local_loop("pass", "HOLDER.settings.rates[0]")


@pattern("decorated-function", "deferred")
def deferred_function():
    deferred(DECORATED)
    return local_loop("pass", "DECORATED()")


@pattern("closure", "shared")
def closure_shared():
    cell = [1, 2, 3]

    def work(steps):
        for _ in range(steps):
            cell[0]

    return lambda number: work


@pattern("closure", "alias")
def closure_alias():
    cell = [1, 2, 3]

    def work(steps):
        one = cell
        for _ in range(steps):
            one[0]

    return lambda number: work


@pattern("closure", "own")
def closure_own():
    def start(number):
        cell = [1, 2, 3]

        def work(steps):
            for _ in range(steps):
                cell[0]

        return work

    return start


def make_lambda():
    return lambda: None


LAMBDA = make_lambda()
_variants(
    "lambda", shared=("", "LAMBDA()"), alias=("one = LAMBDA", "one()"), own=("one = make_lambda()", "one()")
)


# --- C libraries and extensions -------------------------------------------------------------------


def values_at(define: str):
    columns = sample("extension_singleton")
    return sample("compiling").extension(define + columns.SOURCE, "columns").value_at


def calling(value_at, steps):
    for step in range(steps):
        value_at(step)


for _variant, _define in (("shared", ""), ("immortal", "#define IMMORTAL\n")):

    def _singleton(define=_define):
        value_at = values_at(define)
        return lambda number: functools.partial(calling, value_at)

    pattern("extension-singleton", _variant)(_singleton)


@pattern("extension-singleton", "asked-once")
def singleton_asked_once():
    value_at = values_at("")
    work = built(
        ["def work(value_at, steps):", "    one = value_at(0)", "    for _ in range(steps):", "        one"]
    )
    return lambda number: functools.partial(work, value_at)


for _variant in ("shared", "own"):

    def _mutex(apart=_variant == "own"):
        transform = library("native_mutex").transform
        transform.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int)
        return lambda number: lambda steps: transform(steps, number, apart)

    pattern("native-mutex", _variant)(_mutex)


# --- re -------------------------------------------------------------------------------------------

TEXT = "GET /index.html HTTP/1.1"
PATTERN = re.compile(r"(\w+) (\S+)")
_variants(
    "regex",
    string=("", r"re.match(r'(\w+) (\S+)', TEXT)"),
    compiled=("", "PATTERN.match(TEXT)"),
)


@pattern("regex", "own")
def regex_own():
    def start(number):
        own = re.compile(rf"(\w+) (\S+)(?#{number})")

        def work(steps):
            for _ in range(steps):
                own.match(TEXT)

        return work

    return start


# --- types and classes ----------------------------------------------------------------------------


class Vector:
    """A class written in Python."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def add(self, x, y):
        self.x += x
        self.y += y


_variants(
    "array", new=("", "array('b')"), reuse=("one = array('b')", "one.append(1); one.pop()"), list=("", "[]")
)
_variants(
    "deque",
    new=("", "collections.deque()"),
    reuse=("one = collections.deque()", "one.append(1); one.pop()"),
    list=("", "[]"),
)
_variants(
    "partial",
    new=("", "functools.partial(plain)"),
    reuse=("one = functools.partial(plain)", "one()"),
    python_class=("", "Vector(1, 2)"),
)
_variants(
    "lock-made",
    new=("", "threading.Lock()"),
    reuse=("one = threading.Lock()", "one.acquire(); one.release()"),
)


def matching(step: str):
    def start(number):
        own = re.compile(rf"(\w+) (\S+)(?#match {number})")
        return functools.partial(built(["def work(one, steps):", "    for _ in range(steps):", step]), own)

    return start


for _variant, _step in (("new", "        one.match(TEXT)"), ("findall", "        one.findall(TEXT)")):
    pattern("match", _variant)(functools.partial(matching, _step))
_variants(
    "bytesio", new=("", "io.BytesIO(b'x')"), reuse=("one = io.BytesIO(b'x')", "one.seek(0); one.read()")
)
_variants(
    "temporary-objects",
    new=("total = Vector(0, 0)", "total = Vector(total.x + 1 & 63, total.y + 1 & 63)"),
    in_place=("total = Vector(0, 0)", "total.x = total.x + 1 & 63; total.y = total.y + 1 & 63"),
)


class Counted:
    """A class whose attribute is set."""

    count = 0


_variants("class-setattr", shared=("", "Counted.count = step & 63"))


@pattern("class-setattr", "instance-per-thread")
def class_instance():
    return lambda number: loop("ONE.size = step & 63", ONE=Settings())


_variants(
    "getattr-dynamic",
    shared=("one, prefix = Settings(), 'si'", "getattr(one, f'{prefix}ze')"),
    literal=("one = Settings()", "getattr(one, 'size')"),
)


class Base:
    """What super() finds."""

    def method(self):
        return 1


class Derived(Base):
    """A class whose method calls super()."""

    def method(self):
        return super().method()

    def direct(self):
        return Base.method(self)


_variants("super", shared=("one = Derived()", "one.method()"), named=("one = Derived()", "one.direct()"))
_variants("import", function=("", "import json.decoder\njson.decoder"), module=("", "json.decoder"))


@pattern("import", "lazy")
def import_lazily():
    """3.15: an import statement of a module that imports when its name is first used."""
    head = ["lazy import json.decoder", "def work(steps):", "    for step in range(steps):"]
    work = built([*head, "        json.decoder"])
    return lambda number: work


# --- stop-the-world and collection ----------------------------------------------------------------


@pattern("function-name", "set-in-loop")
def set_name():
    def start(number):
        def function():
            return None

        def work(steps):
            for _ in range(steps):
                function.__name__ = "other"

        return work

    return start


@pattern("function-name", "set-once")
def set_name_once():
    def start(number):
        def function():
            return None

        function.__name__ = "other"

        def work(steps):
            for _ in range(steps):
                _name = function.__name__

        return work

    return start


@pattern("wraps", "in-loop")
def wraps_in_loop():
    return local_loop("pass", "decorate(plain)()")


@pattern("wraps", "once")
def wraps_once():
    return per_thread_loop("one = decorate(plain)", "one()")


class Other(Settings):
    """Another class of the same layout."""


@pattern("class-assignment", "in-loop")
def assign_class():
    return local_loop("one = Settings()", "one.__class__ = Other if step & 1 else Settings")


@pattern("class-assignment", "composition")
def compose_class():
    return local_loop("one = Settings()", "one.rates = Other if step & 1 else Settings")


@pattern("attach-under-stops", "stopper-beside")
def attach_beside_stops():
    """One thread stops the world over and over; the measured ones leave and enter Python at each step."""
    go_on = threading.Event()

    def stop():
        def function():
            return None

        while not go_on.is_set():
            function.__name__ = "other"

    threading.Thread(target=stop, daemon=True).start()
    return local_loop("pass", "os.getppid(); time.sleep(0)")


@pattern("attach-under-stops", "no-stopper")
def attach_without_stops():
    return local_loop("pass", "os.getppid(); time.sleep(0)")


@pattern("collect", "in-loop")
def collect_in_loop():
    """A collection for each piece of work, beside a heap that it has to look at."""
    HEAP.extend([number] for number in range(HEAP_LISTS))
    return local_loop("pass", "burn(2000); gc.collect()")


@pattern("collect", "frozen")
def collect_frozen():
    HEAP.extend([number] for number in range(HEAP_LISTS))
    gc.collect()
    gc.freeze()
    return local_loop("pass", "burn(2000); gc.collect()")


@pattern("collect", "left-alone")
def collect_left_alone():
    HEAP.extend([number] for number in range(HEAP_LISTS))
    return local_loop("pass", "burn(2000)")


HEAP, HEAP_LISTS = [], 200_000


class Node:
    """In a cycle with another, which only the collector frees."""

    def __init__(self):
        self.other = None


def cycle():
    one, two = Node(), Node()
    one.other, two.other = two, one


def no_cycle():
    one, two = Node(), Node()
    one.other = two


@pattern("cycles", "made")
def cycles_made():
    HEAP.extend([number] for number in range(HEAP_LISTS))
    return local_loop("pass", "cycle()")


@pattern("cycles", "frozen-heap")
def cycles_frozen():
    HEAP.extend([number] for number in range(HEAP_LISTS))
    gc.collect()
    gc.freeze()
    return local_loop("pass", "cycle()")


@pattern("cycles", "threshold-50000")
def cycles_seldom():
    HEAP.extend([number] for number in range(HEAP_LISTS))
    gc.set_threshold(50_000)
    return local_loop("pass", "cycle()")


@pattern("cycles", "none")
def cycles_none():
    HEAP.extend([number] for number in range(HEAP_LISTS))
    return local_loop("pass", "no_cycle()")


# --- memory ---------------------------------------------------------------------------------------

FRAME_BYTES = 16 << 20
TOUCHED = b"\1" * (FRAME_BYTES // mmap.PAGESIZE)


@pattern("fresh-buffers", "16-MB-each-step")
def fresh_buffers():
    return local_loop(
        "pass", "one = mmap.mmap(-1, FRAME_BYTES); one[:: mmap.PAGESIZE] = TOUCHED; one.close()"
    )


@pattern("fresh-buffers", "used-again")
def buffers_used_again():
    return per_thread_loop("one = mmap.mmap(-1, FRAME_BYTES)", "one[:: mmap.PAGESIZE] = TOUCHED")


RAW = "#include <Python.h>\n#define malloc PyMem_RawMalloc\n#define free PyMem_RawFree\n"


def exchanging(own: bool, include: str = "") -> Callable[[int], Loop]:
    """Threads of a C library that free what they allocated, or what their neighbour did."""
    exchange = library("cross_thread_free", include).exchange_buffers
    exchange.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int)
    return lambda number: lambda steps: exchange(steps, 4000, number, number if own else 1 - number)


for _variant in ("freed-by-another", "freed-by-its-owner", "jemalloc", "one-arena"):
    pattern("malloc", _variant)(functools.partial(exchanging, "owner" in _variant))
    if "arena" not in _variant:
        # By PyMem_RawMalloc and PyMem_RawFree, whatever these are on a version.
        pattern("raw-malloc", _variant)(functools.partial(exchanging, "owner" in _variant, RAW))
for _variant in ("one", "all"):
    pattern("arenas", _variant)(functools.partial(exchanging, True))

_variants("python-objects", **dict.fromkeys(("mimalloc", "jemalloc", "purge_at_once"), ("", "[step, step]")))

# --- the shape of the program ---------------------------------------------------------------------


def pooled(case: str, variant: str):
    """A variant that makes its own threads: it is given how many, and does that many steps with them."""

    def register(run):
        def whole():
            return run

        whole.pooled = True
        PATTERNS.setdefault(case, {})[variant] = whole
        return run

    return register


def _threads(threads: int, work: Callable[[int], object]) -> None:
    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for each in started:
        each.start()
    for each in started:
        each.join()


def _chunk(costs):
    for cost in costs:
        burn(cost)


TASK, LONG_TASK = 20, 5000


@pooled("tiny-tasks", "submit-each")
def submit_each(threads, steps):
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(burn, TASK) for _ in range(steps)]:
            future.result()


@pooled("tiny-tasks", "chunks-of-64")
def submit_chunks(threads, steps):
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(_chunk, [TASK] * 64) for _ in range(steps // 64 + 1)]:
            future.result()


PER_CORE = 16


@pooled("many-threads", "16-per-core")
def many_threads(threads, steps):
    many = threads * PER_CORE if threads > 1 else 1
    _threads(many, lambda number: [burn(2000) for _ in range(steps // many + 1)])


@pooled("many-threads", "1-per-core")
def few_threads(threads, steps):
    _threads(threads, lambda number: [burn(2000) for _ in range(steps // threads + 1)])


def _counted(threads, steps, lock):
    done = 0

    def work(number):
        nonlocal done
        for _ in range(steps // threads + 1):
            burn(200)
            with lock:
                done += 1

    _threads(threads, work)


@pooled("many-threads-and-a-lock", "16-per-core")
def many_threads_with_lock(threads, steps):
    _counted(threads * PER_CORE if threads > 1 else 1, steps, threading.Lock())


@pooled("many-threads-and-a-lock", "1-per-core")
def few_threads_with_lock(threads, steps):
    _counted(threads, steps, threading.Lock())


@pooled("thread-storm", "thread-for-each")
def thread_for_each(threads, steps):
    def work(number):
        for _ in range(steps // threads + 1):
            _threads(1, lambda number: burn(200))

    _threads(threads, work)


@pooled("thread-storm", "pool")
def pool_for_each(threads, steps):
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(burn, 200) for _ in range(steps)]:
            future.result()


HANDED = 1000
"""Objects of a batch that one thread makes and another one uses up."""


def _made() -> list[tuple[int, int]]:
    return [(number, number + 1) for number in range(HANDED)]


def _handed_over(threads, steps, use_up):
    """One thread makes batches, another one uses them up; a thread alone does both."""
    batches = steps // HANDED + 1
    if threads == 1:
        for _ in range(batches):
            use_up(_made())
        return
    inbox: queue.Queue[list[tuple[int, int]]] = queue.Queue(8)
    back: queue.SimpleQueue[object] = queue.SimpleQueue()

    def make():
        for _ in range(batches):
            inbox.put(_made())
            while not back.empty():
                back.get()

    def use():
        for _ in range(batches):
            used = use_up(inbox.get())
            if used is not None:
                back.put(used)
                del used

    _threads(2, lambda number: (make, use)[number]())


def _one_by_one(batch):
    while batch:
        batch.pop()


def _as_a_whole(batch):
    for _ in batch:
        pass


def _given_back(batch):
    used = []
    while batch:
        used.append(batch.pop())
    return used


@pooled("handed-objects", "one-by-one")
def handed_one_by_one(threads, steps):
    _handed_over(threads, steps, _one_by_one)


@pooled("handed-objects", "as-a-whole")
def handed_as_a_whole(threads, steps):
    _handed_over(threads, steps, _as_a_whole)


@pooled("handed-objects", "given-back")
def handed_and_given_back(threads, steps):
    _handed_over(threads, steps, _given_back)


@pooled("handed-objects", "made-where-used")
def made_where_used(threads, steps):
    """What is handed over is what to make."""
    orders: queue.Queue[int] = queue.Queue(8)

    def order():
        for _ in range(steps // HANDED + 1):
            orders.put(HANDED)

    def use():
        for _ in range(steps // HANDED + 1):
            orders.get()
            _one_by_one(_made())

    if threads == 1:
        _handed_over(1, steps, _one_by_one)
    else:
        _threads(2, lambda number: (order, use)[number]())


FOREIGN = ["def work(one, steps):", "    for step in range(steps):", "        one(3.0, 4.0)"]


def foreign_function():
    """A function of the C library, as a function object of its own."""
    function = ctypes.CDLL("libm.so.6").hypot
    function.restype = ctypes.c_double
    function.argtypes = (ctypes.c_double, ctypes.c_double)
    return function


@pattern("foreign-function", "shared")
def foreign_shared():
    work, one = built(FOREIGN), foreign_function()
    return lambda number: functools.partial(work, one)


@pattern("foreign-function", "own")
def foreign_own():
    work = built(FOREIGN)
    return lambda number: functools.partial(work, foreign_function())


@pattern("made-class", "each")
def class_each():
    work = loop("class Handler(Base):\n    def handle(self): return step\nHandler().handle()", Base=abc.ABC)
    return lambda number: work


@pattern("made-class", "once")
def class_once():
    lines = [
        "def work(steps):",
        "    class Handler(abc.ABC):",
        "        def handle(self): return 1",
        "    for step in range(steps):",
        "        Handler().handle()",
    ]
    work = built(lines)
    return lambda number: work


@pattern("strptime", "each")
def parse_each():
    work = loop('datetime.datetime.strptime("2025-11-07 10:12:07", "%Y-%m-%d %H:%M:%S")')
    return lambda number: work


@pattern("strptime", "fromisoformat")
def parse_iso():
    work = loop('datetime.datetime.fromisoformat("2025-11-07 10:12:07")')
    return lambda number: work


@pattern("warnings", "catch-each")
def catch_each():
    work = loop("with warnings.catch_warnings():\n    warnings.simplefilter('ignore')\n    step")
    return lambda number: work


@pattern("warnings", "once")
def filter_once():
    warnings.simplefilter("ignore")
    work = loop("step")
    return lambda number: work


@pooled("runner", "run-each")
def run_each(threads, steps):
    async def nothing():
        await asyncio.sleep(0)

    def call(number):
        for _ in range(steps // threads):
            asyncio.run(nothing())

    _threads(threads, call)


@pooled("runner", "kept")
def runner_kept(threads, steps):
    async def nothing():
        await asyncio.sleep(0)

    def call(number):
        with asyncio.Runner() as runner:
            for _ in range(steps // threads):
                runner.run(nothing())

    _threads(threads, call)


@pooled("run-in-executor", "each")
def executor_each(threads, steps):
    async def main():
        running = asyncio.get_running_loop()
        with ThreadPoolExecutor(threads) as pool:
            await asyncio.gather(*[running.run_in_executor(pool, burn, 400) for _ in range(steps)])

    asyncio.run(main())


@pooled("run-in-executor", "chunks-of-16")
def executor_chunks(threads, steps):
    async def main():
        running = asyncio.get_running_loop()
        with ThreadPoolExecutor(threads) as pool:
            chunks = [running.run_in_executor(pool, _chunk, [400] * 16) for _ in range(steps // 16 + 1)]
            await asyncio.gather(*chunks)

    asyncio.run(main())


@pooled("event-loop", "inline")
def loop_inline(threads, steps):
    async def handle():
        burn(400)

    async def main():
        await asyncio.gather(*[handle() for _ in range(steps)])

    asyncio.run(main())


@pooled("event-loop", "loop-per-thread")
def loop_per_thread(threads, steps):
    _threads(threads, lambda number: loop_inline(1, steps // threads))


@pooled("event-loop", "pieces-in-threads")
def loop_with_threads(threads, steps):
    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
        pieces = [asyncio.to_thread(_chunk, [400] * 32) for _ in range(steps // 32 + 1)]
        await asyncio.gather(*pieces)

    asyncio.run(main())


@pooled("uneven-parts", "fixed-split-90-10")
def fixed_split(threads, steps):
    half = steps // 2
    costs = [1800] * half + [200] * half
    size = len(costs) // threads
    _threads(threads, lambda number: _chunk(costs[number * size : (number + 1) * size]))


@pooled("uneven-parts", "chunks-of-8")
def dynamic_chunks(threads, steps):
    half = steps // 2
    costs = [1800] * half + [200] * half
    chunks = iter([costs[at : at + 8] for at in range(0, len(costs), 8)])
    lock = threading.Lock()

    def work(number):
        while True:
            with lock:
                chunk = next(chunks, None)
            if chunk is None:
                return
            _chunk(chunk)

    _threads(threads, work)


# --- settings of the interpreter: the same code, started differently --------------------------------

CONSTANTS = ["def work(steps):", "    for step in range(steps):", "        one = step & 0x3FFFFFFF"]


@pattern("bytecode-cache", "compiled-at-run-time")
def constants_compiled():
    scope: dict[str, Loop] = {}
    exec(compile("\n".join(CONSTANTS), "<formula>", "exec"), scope)  # noqa: S102 - what is measured
    return lambda number: scope["work"]


@pattern("bytecode-cache", "imported")
def constants_imported():
    work = built(CONSTANTS)
    return lambda number: work


@pattern("bytecode-cache", "compiled-by-each-thread")
def constants_of_each_thread():
    def start(number):
        scope: dict[str, Loop] = {}
        exec(compile("\n".join(CONSTANTS), "<formula>", "exec"), scope)  # noqa: S102 - what is measured
        return scope["work"]

    return start


# bench/advice.py starts these with options of the interpreter.
for _case, _names in (("gil", ("on", "off")), ("tlbc", ("off", "on"))):
    for _name in _names:
        _variants(_case, **{_name: ("", "one = step & 63\ntwo = one + 1\nthree = two - 1")})


# --- measuring ------------------------------------------------------------------------------------


def measure(case: str, variant: str, seconds: float, threads: int) -> dict[str, float]:
    """Steps a second with one thread and with several."""
    made = PATTERNS[case][variant]()
    if getattr(PATTERNS[case][variant], "pooled", False):
        return {"one": whole_rate(made, 1, seconds), "many": whole_rate(made, threads, seconds)}
    size = calibrate(made)
    return {"one": rate(made, 1, size, seconds), "many": rate(made, threads, size, seconds)}


def calibrate(start: Callable[[int], Loop]) -> int:
    """Steps of about a slice, found on a warm loop."""
    work, size = start(0), 1
    while True:
        began = time.perf_counter()
        work(size)
        took = time.perf_counter() - began
        if took >= SLICE_S / 4:
            return max(1, int(size * SLICE_S / took))
        size *= 4


def rate(start: Callable[[int], Loop], threads: int, size: int, seconds: float) -> float:
    """Steps a second of all threads together."""
    gate = threading.Barrier(threads)
    rates = [0.0] * threads

    def run(number: int) -> None:
        work = start(number)
        work(size)  # warm, and by all of them, before the time runs
        gate.wait()
        began, done = time.perf_counter(), 0
        while (now := time.perf_counter()) - began < seconds:
            work(size)
            done += size
        rates[number] = done / (now - began)

    _threads(threads, run)
    return sum(rates)


def whole_rate(run: Callable[[int, int], object], threads: int, seconds: float) -> float:
    """Steps a second of a variant that makes its own threads."""
    run(threads, 1)  # what is made once: modules, libraries, threads of a library
    size = 128
    while True:
        began = time.perf_counter()
        run(threads, size)
        took = time.perf_counter() - began
        if took >= seconds / 3:
            return size / took
        size = max(size * 2, int(size * seconds / 2 / max(took, 1e-6)) // 128 * 128)


def main(words: list[str]) -> None:
    if words == ["--list"]:
        json.dump({case: list(variants) for case, variants in PATTERNS.items()}, sys.stdout)
        return
    case, variant, seconds, *more = words
    json.dump(measure(case, variant, float(seconds), int(more[0]) if more else 2), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
