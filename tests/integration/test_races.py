"""Races seen on real interpreters: who is in the middle of an update, of whose what, under which lock."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import SharedUpdate
from ftdiag.session import Session
from ftdiag.sources.python.opcodes import OPCODES
from ftdiag.sources.python.updates import find_updates
from reading import recordings
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload

RULE = "racy-update"
FUNCTIONS = """
def attribute(self): self.count += 1
def item(table, key): table[key] += 1
def made_key(table): table[ident()] += 1
def swap(items, i, j): items[i], items[j] = items[j], items[i]
def lazy(self):
    if self.connection is None:
        self.connection = make()
    return self.connection
def early(self):
    if self.connection is not None:
        return self.connection
    self.connection = make()
def by_get(table, key): table[key] = table.get(key, 0) + 1
def missing(table, key):
    if key not in table:
        table[key] = []
def total():
    global TOTAL
    TOTAL += 1
def loop(self, numbers):
    total = self.total
    for number in numbers:
        total += number
    self.total = total
def handler(self):
    try:
        work()
    except ValueError:
        self.errors += 1
def chain(self, key): self.table[key].count += 1
def single(self, table, key, queue):
    self.latest = 1
    table[key] = 2
    queue.append(3)
    self.number = next(self.numbers)
"""
EXPECTED = {
    # Function -> (kind, whether it was checked, the first and the last instruction inside).
    "attribute": [("attribute", False, "BINARY_OP", "STORE_ATTR")],
    "item": [("item", False, "BINARY_OP", "STORE_SUBSCR")],
    "made_key": [("item", False, "BINARY_OP", "BINARY_OP"), ("item", False, "STORE_SUBSCR", "STORE_SUBSCR")],
    "swap": [("item", False, "[]", "STORE_SUBSCR"), ("item", False, "STORE_SUBSCR", "STORE_SUBSCR")],
    "lazy": [("attribute", True, "CALL", "STORE_ATTR")],
    "early": [("attribute", True, "CALL", "STORE_ATTR")],
    "by_get": [("item", False, "BINARY_OP", "STORE_SUBSCR")],
    "missing": [("item", True, "STORE_SUBSCR", "STORE_SUBSCR")],
    "total": [("global", False, "BINARY_OP", "STORE_GLOBAL")],
    "loop": [("attribute", False, "FOR_ITER", "STORE_ATTR")],
    "handler": [("attribute", False, "BINARY_OP", "STORE_ATTR")],
    "chain": [
        ("attribute", False, "BINARY_OP", "BINARY_OP"),
        ("attribute", False, "STORE_ATTR", "STORE_ATTR"),
    ],
    "single": [],
}
ASK = """
import dis, json, sys, types
def is_item(step):
    return step.argrepr == "[]" or step.opname == "BINARY_SUBSCR"
code = compile(sys.argv[1], "functions", "exec")
print(json.dumps({
    one.co_name: {
        "code": one.co_code.hex(),
        "names": one.co_names,
        "at": [
            (step.offset // 2, "[]" if is_item(step) else step.opname)
            for step in dis.get_instructions(one)
        ],
    }
    for one in code.co_consts
    if isinstance(one, types.CodeType)
}))
"""
TELLING = ("[]", "BINARY_OP", "CALL", "FOR_ITER", "STORE_ATTR", "STORE_GLOBAL", "STORE_SUBSCR")
PROGRAM = """
import os, threading, time

class Visits:
    def __init__(self): self.count = 0

SHARED, LOCKED, ACQUIRED, BOTH = Visits(), Visits(), Visits(), Visits()
LOCK, OTHER, THIRD = threading.Lock(), threading.Lock(), threading.Lock()
TOTAL = 0
TABLE = {"a": 0}
OWN = threading.local()
COUNTS = [0] * 99

def slowly(value):
    time.sleep(0.002)
    return value + 1

def shared(number):
    SHARED.count = slowly(SHARED.count)
def locked(number):
    with LOCK:
        LOCKED.count = slowly(LOCKED.count)
def acquired(number):
    OTHER.acquire()
    ACQUIRED.count = slowly(ACQUIRED.count)
    OTHER.release()
def both_ways(number):
    if number:
        with THIRD:
            BOTH.count = slowly(BOTH.count)
    else:
        BOTH.count = slowly(BOTH.count)
def total(number):
    global TOTAL
    TOTAL = slowly(TOTAL)
def item(number):
    TABLE["a"] = slowly(TABLE["a"])
def made():
    count = 0
    def cell(number):
        nonlocal count
        count = slowly(count)
    return cell
cell = made()
def own(number, mine=threading.local()):
    if not hasattr(mine, "visits"):
        mine.visits, OWN.count = Visits(), 0
    visits = mine.visits
    visits.count = slowly(visits.count)
    OWN.count = slowly(OWN.count)
    COUNTS[number] = slowly(COUNTS[number])

def again(update, number):
    while True:
        update(number)

for update in (shared, locked, acquired, both_ways, total, item, cell, own):
    for number in range(2):
        threading.Thread(target=again, args=(update, number), daemon=True, name=update.__name__).start()
print("ready", os.getpid(), flush=True)
time.sleep(1000)
"""
TOGETHER = {
    "Visits.count": ("attribute", "shared"),
    "__main__.TOTAL": ("global", "total"),
    "__main__.TABLE['a']": ("item", "item"),
    "count of made": ("cell", "cell"),
}
"""What is updated by two threads at once, of which kind it is, what these are called."""


def test_the_bytecode_of_each_version(free_threaded_python: Interpreter) -> None:
    # GIVEN functions compiled by this interpreter
    told = json.loads(
        subprocess.run(
            [free_threaded_python.path, "-I", "-c", ASK, FUNCTIONS], capture_output=True, check=True
        ).stdout
    )
    major, minor = map(int, free_threaded_python.series.split("."))
    found = {}
    # WHEN looked through THEN each is in the middle of an update where it should be
    for name, code in told.items():
        inside = []
        for update in find_updates(bytes.fromhex(code["code"]), OPCODES[major, minor], code["names"]):
            steps = [step for unit, step in code["at"] if update.start <= unit < update.end]
            telling = [step for step in steps if step in TELLING]
            inside.append((update.kind, update.check, telling[0], telling[-1]))
        found[name] = inside
    assert found == EXPECTED


def by_thread(updates: tuple[SharedUpdate, ...]) -> dict[str, SharedUpdate]:
    """By the name of the threads that update a place."""
    return {one.updaters[0].thread.name: one for one in updates}


def test_who_updates_what_and_under_which_lock(
    workload_process: Callable[..., RunningWorkload], tmp_path: Path
) -> None:
    # GIVEN threads in pairs that read, wait a while, and store: without a lock, under one, ...
    path = tmp_path / "updates.py"
    path.write_text(PROGRAM)
    pid = workload_process(path).pid

    updates: dict[str, SharedUpdate] = {}
    for recording in recordings(pid, tmp_path, 1.5):
        # WHEN recorded
        snapshot = Session(recording).snapshot()
        assert snapshot.updates is not None
        updates = by_thread(snapshot.updates)
        summaries = " ".join(one.summary for one in snapshot.findings if one.rule_id == RULE)
        # THEN what is a thread's own is none, and a lock keeps threads apart, whether it is seen or not
        assert "own" not in updates
        for name in ("locked", "acquired"):
            if name in updates:
                assert (updates[name].together, updates[name].mixed, updates[name].unguarded) == (0, 0, 0)
            assert f"{name}(" not in summaries
        for one in snapshot.updates:
            if one.together and one.place.name in TOGETHER and one.updaters[0].thread.name != "both_ways":
                assert (one.place.kind, one.updaters[0].thread.name) == TOGETHER[one.place.name]
        enough = all(name in updates and updates[name].together > 2 for _, name in TOGETHER.values())
        enough = enough and all(name in updates for name in ("locked", "acquired", "both_ways"))
        if enough and updates["both_ways"].together:
            break
    else:
        pytest.fail(f"not all were seen: {sorted(updates)}")
    assert {one.place.name for one in snapshot.updates if one.together > 2} >= set(TOGETHER)
    assert updates["locked"].guards == ("LOCK",)
    assert updates["acquired"].unknown > 0
    assert updates["both_ways"].guarded > 0
    assert updates["both_ways"].unguarded > 0
    assert "Visits.count" in summaries
