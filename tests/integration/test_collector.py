"""What the collector says that it did, against a program that clocks its own collections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import ftdiag
from ftdiag.session import Session
from reading import recordings
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload

Program = Callable[..., RunningWorkload]

CLOCKED = """
    import gc, json, os, sys, threading, time
    told = []
    def clock(phase, info):
        now = time.monotonic_ns()
        if phase == "start":
            told.append([info["generation"], now, None])
        else:
            told[-1][2] = now
    gc.disable()
    kept = [[number] for number in range(60_000)]
    gc.callbacks.append(clock)
    class Node:
        pass
    def work():
        while True:
            node = Node()
            node.itself = node
            time.sleep(0.0001)
    threading.Thread(target=work, daemon=True).start()
    print("ready", os.getpid(), flush=True)
    number = 0
    while True:
        time.sleep(0.03)
        gc.collect(number % 3)
        number += 1
        temporary = sys.argv[1] + ".new"
        with open(temporary, "w") as file:
            json.dump(told, file)
        os.replace(temporary, sys.argv[1])
"""


def test_collections_are_those_that_the_program_clocked(
    program: Program, free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a program that collects, and writes down when each collection began and ended
    clocked = tmp_path / "clocked.json"
    pid = program(CLOCKED, str(clocked)).pid
    published = free_threaded_python.series not in ("3.13", "3.14")

    # WHEN it is recorded
    for recording in recordings(pid, tmp_path, 1.0):
        snapshot = Session(recording).snapshot()
        told = [each for _, each in recording.collections(0, len(recording))]
        # THEN versions that do not say what their collector did are said not to
        if not published:
            assert snapshot.collector is None
            assert "sampled" in snapshot.quality.not_measured["collections"]
            return
        times = [
            (generation, begin, end)
            for each in told
            for generation, begin, end in zip(each.generation, each.begin_ns, each.end_ns, strict=True)
        ]
        collector = snapshot.collector
        assert collector is not None
        if collector.count < 12:
            continue
        own = [tuple(each) for each in json.loads(clocked.read_text())]
        # AND each that has times ran within one that the program clocked: its callbacks are called around it
        for generation, begin, end in times:
            (around,) = (each for each in own if each[2] and each[1] <= begin and end <= each[2])
            assert around[0] == generation
        # AND number and time of all are exact: those from the first to the last that were seen
        first, last = min(begin for _, begin, _ in times), max(end for _, _, end in times)
        between = [each for each in own if each[2] and first <= each[2] and each[1] <= last]
        assert collector.count == len(between)
        assert {each.generation: each.count for each in collector.generations} == {
            generation: sum(each[0] == generation for each in between) for generation in (0, 1, 2)
        }
        if collector.timed == collector.count:
            assert abs(collector.total_ns - sum(end - begin for _, begin, end in times)) < 1_000_000
        assert collector.total_ns < sum(each[2] - each[1] for each in between)
        assert collector.looked_at >= 60_000 * collector.count
        # AND reports have them
        said = ftdiag("report", str(recording.path), "--format", "json").json["collections"]
        assert said["count"] == collector.count
        assert "garbage collections" in ftdiag("report", str(recording.path)).out
        return
    pytest.fail("no collections were seen")
