"""What things take in memory: `memory.py NAME` prints bytes of resident memory; `--list` the names as JSON.

Runs with the standard library alone, on the interpreter that is measured; bench/memory_costs.py runs it.
"""

from __future__ import annotations

import base64
import collections
import csv
import ctypes
import datetime
import decimal
import fractions
import gc
import io
import json
import pprint
import random
import re
import sys
import textwrap
import threading
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable

OBJECTS = 100_000
THREADS = 24
PEAK_BLOCKS, BLOCK_BYTES = 60_000, 1000


def resident() -> int:
    """Bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


class Attributes:
    """Two attributes in a dictionary or beside the object, as the interpreter likes."""

    def __init__(self, number: int) -> None:
        self.one, self.two = number, None


class Slots:
    """Two attributes in slots."""

    __slots__ = ("one", "two")

    def __init__(self, number: int) -> None:
        self.one, self.two = number, None


def function(number: int) -> Callable[[], None]:
    """A function of its own."""

    def inner() -> None:
        return None

    return inner


KINDS: dict[str, Callable[[int], object]] = {
    "float": lambda number: number + 0.5,
    "int": lambda number: number + 1_000_000,
    "str-10": lambda number: f"{number:010}",
    "empty-list": lambda number: [],
    "list-8": lambda number: [None] * 8,
    "dict-3": lambda number: {"one": None, "two": None, "three": None},
    "set-3": lambda number: {1, 2, 3},
    "attributes-2": Attributes,
    "slots-2": Slots,
    "function": function,
}


def of_object(make: Callable[[int], object]) -> float:
    """Of one object, beside the pointer to it."""
    places: list[object] = [None] * OBJECTS
    make(0)
    gc.collect()
    before = resident()
    for number in range(OBJECTS):
        places[number] = make(number)
    return (resident() - before) / OBJECTS


def a_little_of_everything() -> None:
    """What requests do: text, numbers, dates, tables, patterns, trees, compressed data."""
    own = random.Random(1)
    for number in range(10):
        text = json.dumps([{"id": n, "name": f"user-{n}", "tags": ["a", "b"]} for n in range(200)])
        rows = json.loads(text)
        re.findall(r"user-(\d+)", text)
        out = io.StringIO()
        csv.writer(out).writerows((row["id"], row["name"]) for row in rows)
        sum(decimal.Decimal(number) / 7 for _ in range(100))
        sum((fractions.Fraction(1, n) for n in range(1, 30)), fractions.Fraction(0))
        [datetime.date(2020, 1, 1) + datetime.timedelta(days=n) for n in range(200)]
        collections.Counter(own.choices(text, k=500)).most_common(5)
        pprint.pformat(rows[:20])
        textwrap.fill(text[:2000])
        base64.b64encode(zlib.compress(text.encode()))
        root = ElementTree.fromstring("<all>" + "".join(f"<u id='{n}'/>" for n in range(200)) + "</all>")
        root.findall("u")


def of_thread(work: Callable[[], None]) -> float:
    """Of one of some threads that have done something and wait now."""
    work()
    gc.collect()
    done, leave = threading.Barrier(THREADS + 1), threading.Event()

    def run() -> None:
        work()
        done.wait()
        leave.wait()

    before = resident()
    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for each in threads:
        each.start()
    done.wait()
    size = (resident() - before) / THREADS
    leave.set()
    for each in threads:
        each.join()
    return size


def peak() -> None:
    """Makes many objects, and drops them."""
    kept = [bytes(BLOCK_BYTES + (number & 7)) for number in range(PEAK_BLOCKS)]
    del kept


def left_by_ended_thread() -> float:
    """What a thread that made many objects, dropped them and ended leaves resident."""
    gc.collect()
    before = resident()
    thread = threading.Thread(target=peak)
    thread.start()
    thread.join()
    gc.collect()
    return resident() - before


def left_by_live_thread() -> float:
    """What stays resident of objects that were made and dropped, while their thread lives."""
    gc.collect()
    before = resident()
    peak()
    gc.collect()
    return resident() - before


def left_by_libc(trim: bool) -> float:
    """What stays resident of blocks that a C library allocated and freed, but for the last of them."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes, libc.memset.argtypes = (
        [ctypes.c_void_p],
        [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t],
    )
    places = (ctypes.c_void_p * PEAK_BLOCKS)()
    gc.collect()
    before = resident()
    for number in range(PEAK_BLOCKS):
        places[number] = libc.malloc(BLOCK_BYTES)
        libc.memset(places[number], 1, BLOCK_BYTES)
    for number in range(PEAK_BLOCKS - 1):
        libc.free(places[number])
    if trim:
        libc.malloc_trim(0)
    return resident() - before


NAMES: dict[str, Callable[[], float]] = {
    "idle-thread": lambda: of_thread(lambda: None),
    "used-thread": lambda: of_thread(a_little_of_everything),
    "kept-by-ended-thread": left_by_ended_thread,
    "kept-by-live-thread": left_by_live_thread,
    "libc-kept": lambda: left_by_libc(trim=False),
    "libc-kept-after-trim": lambda: left_by_libc(trim=True),
    **{f"object-{kind}": lambda make=make: of_object(make) for kind, make in KINDS.items()},
}

if __name__ == "__main__":
    if sys.argv[1] == "--list":
        json.dump(list(NAMES), sys.stdout)
    else:
        print(NAMES[sys.argv[1]]())
