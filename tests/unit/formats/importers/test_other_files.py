"""Files of other profilers than py-spy and memray: what comes in, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from builders import RecordingBuilder, spent
from ftdiag.errors import RecordingError
from ftdiag.formats.exporters import exporter_of
from ftdiag.formats.exporters.material import Material
from ftdiag.formats.importers import import_recording, importer_of
from ftdiag.formats.pprof_schema import profile
from ftdiag.model import Snapshot
from ftdiag.recording.reader import Recording
from ftdiag.session import Session

PERF = """\
# captured on: today
w1 20696/20697 [001] 34312.000000:   10000000 cpu-clock:ppp:
\t          122766 [unknown] (/usr/bin/python3.14t)
\t          1ea031 _PyEval_EvalFrameDefault+0x61 (/usr/bin/python3.14t)
\t          2ea031 py::work:/app/main.py+0x8 (/tmp/perf-1.map)

main 20696/20696 [000] 34312.500000:   10000000 cpu-clock:ppp:
\t          1ea031 _PyEval_EvalFrameDefault+0x61 (/usr/bin/python3.14t)

w1 20696/20697 [001] 34313.000000:   10000000 cpu-clock:ppp:
\t          122766 [unknown] (/usr/bin/python3.14t)
"""
TACHYON = "tid:7;main.py:<module>:3;main.py:work:9 40\ntid:8;threading.py:Thread.run:5 60\n"
JSONL = [
    {"type": "meta", "v": 0, "run_id": "a", "sample_interval_usec": 1000, "mode": "wall"},
    {
        "type": "string_table", "v": 0, "run_id": "a",
        "strings": [{"str_id": 0, "value": "work"}, {"str_id": 1, "value": "/app/main.py"}],
    },
    {
        "type": "frame_table", "v": 0, "run_id": "a",
        "frames": [{"frame_id": 0, "path_str_id": 1, "func_str_id": 0, "line": 12}],
    },
    {
        "type": "agg", "v": 0, "run_id": "a", "kind": "frame", "scope": "final", "samples_total": 500,
        "entries": [{"frame_id": 0, "self": 500, "cumulative": 500}],
    },
    {"type": "end", "v": 0, "run_id": "a", "samples_total": 500},
]  # fmt: skip
EVENTED = {
    "$schema": "https://www.speedscope.app/file-format-schema.json",
    "profiles": [
        {
            "type": "evented", "name": "thread", "unit": "milliseconds", "startValue": 0, "endValue": 1000,
            "events": [
                {"type": "O", "frame": 0, "at": 0}, {"type": "O", "frame": 1, "at": 200},
                {"type": "C", "frame": 1, "at": 700}, {"type": "C", "frame": 0, "at": 1000},
            ],
        }
    ],
    "shared": {"frames": [{"name": "outer"}, {"name": "inner", "file": "a.py", "line": 3}]},
}  # fmt: skip
COMPLETE = [
    {"ph": "M", "name": "thread_name", "pid": 1, "tid": "pool", "args": {"name": "pool worker"}},
    {"ph": "X", "name": "inner", "pid": 1, "tid": "pool", "ts": 200_000, "dur": 500_000},
    {"ph": "X", "name": "outer", "pid": 1, "tid": "pool", "ts": 0, "dur": 1_000_000},
    {"ph": "C", "name": "heap", "pid": 1, "ts": 5, "args": {"bytes": 3}},
]
GECKO = {
    "meta": {"interval": 10, "version": 32, "preprocessedProfileVersion": 57},
    "threads": [
        {
            "name": "Thread-7", "tid": 7, "pid": "6", "isMainThread": True,
            "samples": {
                "stack": [1, 1, 0, None], "time": [0, 10, 20, 30], "weight": None, "weightType": "samples",
                "length": 4,
            },
            "stackTable": {"frame": [0, 1], "prefix": [None, 0], "length": 2},
            "frameTable": {"func": [0, 1], "line": [3, 12], "length": 2},
            "funcTable": {"name": [0, 1], "fileName": [2, 2], "length": 2},
        }
    ],
    "shared": {"stringArray": ["<module>", "work", "/app/main.py"]},
}  # fmt: skip


def imported(tmp_path: Path, data: bytes, rate_hz: float | None = None) -> tuple[Snapshot, str]:
    """What a recording of the file says, and what was said of it."""
    source, output = tmp_path / "profile", tmp_path / "recording"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    words = import_recording(importer_of(source), source, output, lambda line: None, rate_hz)
    with Recording.open(output) as recording:
        assert recording.damaged == ()
        assert recording.settings.imported is not None
        return Session(recording).snapshot(), words


def lines(snapshot: Snapshot) -> dict[tuple[str, int | None], float]:
    """Seconds by function and line."""
    return {(one.frame.function, one.frame.line): round(one.total_ns / 1e9, 6) for one in snapshot.hot}


def test_perf_script(tmp_path: Path) -> None:
    # GIVEN three samples of two threads WHEN they are imported
    snapshot, words = imported(tmp_path, PERF.encode())

    # THEN each is one period of its thread; Python's functions have their files
    assert {thread.info.name: thread.alive_ns for thread in snapshot.threads} == {"w1": 2e7, "main": 1e7}
    stacks = [[frame.function for frame in stack] for one in snapshot.hot for stack, _ in one.stacks]
    assert ["[unknown]", "_PyEval_EvalFrameDefault", "work"] in stacks
    assert "what they waited for is not in it" in words
    assert "100 Hz" in words


def test_collapsed_stacks_of_python(tmp_path: Path) -> None:
    # GIVEN stacks as CPython 3.15 writes them WHEN they are imported THEN threads and lines are there
    snapshot, _ = imported(tmp_path, TACHYON.encode(), 1000.0)
    assert lines(snapshot) == {("work", 9): 0.04, ("Thread.run", 5): 0.06}
    assert sorted(thread.info.tid for thread in snapshot.threads) == [7, 8]


def test_json_lines_of_python(tmp_path: Path) -> None:
    # GIVEN JSON lines as CPython 3.15 writes them WHEN they are imported
    snapshot, words = imported(tmp_path, "\n".join(map(json.dumps, JSONL)).encode())

    # THEN lines have their time, and that nothing else is there is said
    assert lines(snapshot) == {("work", 12): 0.5}
    assert "no call stacks and no threads" in words


def test_json_lines_without_an_end(tmp_path: Path) -> None:
    # GIVEN a file that was cut WHEN it is imported THEN it is refused
    with pytest.raises(RecordingError, match="cut short"):
        imported(tmp_path, "\n".join(map(json.dumps, JSONL[:-1])).encode())


@pytest.mark.parametrize("document", [EVENTED, COMPLETE, {"traceEvents": COMPLETE}])
def test_functions_that_open_and_close(tmp_path: Path, document: Any) -> None:
    # GIVEN events of another program WHEN they are imported THEN each function has the time it was innermost
    snapshot, _ = imported(tmp_path, json.dumps(document).encode())
    found = {name: seconds for (name, _), seconds in lines(snapshot).items()}
    assert found == pytest.approx({"outer": 0.5, "inner": 0.5})
    assert snapshot.threads[0].info.name in ("thread", "pool worker")


def test_a_firefox_profile(tmp_path: Path) -> None:
    # GIVEN a profile as CPython 3.15 writes it WHEN it is imported
    snapshot, _ = imported(tmp_path, json.dumps(GECKO).encode())

    # THEN each sample is there, but for the one without a stack
    assert lines(snapshot) == {("work", 12): 0.02, ("<module>", 3): 0.01}
    assert (snapshot.threads[0].info.tid, snapshot.threads[0].info.main) == (7, True)
    assert snapshot.target.pid == 6


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("threads", 0, "stackTable", "prefix"), [1, 0]),
        (("threads", 0, "stackTable", "prefix"), [0, 0]),
        (("threads", 0, "stackTable", "frame"), [0, 9]),
        (("threads", 0, "samples", "time"), [0]),
        (("threads", 0, "samples", "time"), [0, float("nan"), 1, 2]),
        (("threads", 0, "funcTable", "name"), [0, -1]),
        (("threads", 0, "samples", "stack"), [True, 1, 1, 1]),
    ],
)
def test_a_firefox_profile_that_makes_no_sense(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    # GIVEN a profile with a circle, or a number that cannot be WHEN it is imported THEN it is refused
    document = json.loads(json.dumps(GECKO))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(RecordingError):
        imported(tmp_path, json.dumps(document).encode())


def a_profile(**changes: Any) -> Any:
    """A pprof message of two samples: 0.3 s of `work`, 0.2 s of `main`, in cpu time."""
    message = profile()()
    message.string_table.extend(
        ["", "samples", "count", "cpu", "nanoseconds", "work", "main", "a.py", "thread", "w1"]
    )
    message.sample_type.add(type=1, unit=2)
    message.sample_type.add(type=3, unit=4)
    message.period_type.type, message.period_type.unit = 3, 4
    message.period = 10_000_000
    for number, name in ((1, 5), (2, 6)):
        message.function.add(id=number, name=name, filename=7)
        message.location.add(id=number).line.add(function_id=number, line=number)
    first = message.sample.add(location_id=[1, 2], value=[30, 300_000_000])
    first.label.add(key=8, str=9)
    message.sample.add(location_id=[2], value=[20, 200_000_000])
    return message


@pytest.mark.parametrize("packed", [True, False])
def test_a_profile_of_pprof(tmp_path: Path, packed: bool) -> None:
    # GIVEN a profile with two types of samples WHEN it is imported
    data = a_profile().SerializeToString()
    snapshot, words = imported(tmp_path, gzip.compress(data) if packed else data)

    # THEN the time is taken, threads are those of labels
    assert lines(snapshot) == {("work", 1): 0.3, ("main", 2): 0.2}
    assert {thread.info.name for thread in snapshot.threads} == {"w1", "all threads"}
    assert "'cpu' is taken" in words


def test_a_profile_of_pprof_that_makes_no_sense(tmp_path: Path) -> None:
    # GIVEN profiles with a value too few, a function that is not there, a text that is not there, a cut
    without = a_profile()
    without.sample[0].value.pop()
    nobody = a_profile()
    nobody.location[0].line[0].function_id = 99
    nothing = a_profile()
    nothing.function[0].name = 1000
    whole = gzip.compress(a_profile().SerializeToString())
    for data in (*(each.SerializeToString() for each in (without, nobody, nothing)), whole[:-9]):
        # WHEN they are imported THEN they are refused
        with pytest.raises(RecordingError):
            imported(tmp_path, data)


@pytest.mark.parametrize("name", ["pprof", "firefox", "speedscope", "chrome", "collapsed"])
def test_there_and_back(tmp_path: Path, name: str) -> None:
    # GIVEN a recording WHEN it is exported and the file is imported
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=100)
    for _ in range(3):
        builder.window(
            {
                "main": [spent(100, "idle", at="app.py:3 main")],
                "a": [spent(33, "work", at="app.py:9 f < app.py:3 main"), spent(67, "io", at="app.py:10 g")],
            }
        )
    builder.end()
    out = io.BytesIO()
    with Recording.open(builder.path) as recording:
        exporter_of(name).write(Material(Session(recording)), out)
    snapshot, _ = imported(tmp_path, out.getvalue())

    # THEN all thread-time is there, by thread
    alive = {thread.info.name: thread.alive_ns / 1e9 for thread in snapshot.threads}
    assert alive == pytest.approx({"main": 3.0, "a": 3.0}, abs=0.011)
    functions = {
        frame.function.partition(" ")[0] for one in snapshot.hot for stack, _ in one.stacks for frame in stack
    }
    assert name == "chrome" or {"main", "f", "g"} <= functions


def test_a_binary_profile_without_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a binary profile and no Python that knows it WHEN it is imported THEN it is said what to do
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecordingError) as raised:
        imported(tmp_path, b"TACH" + bytes(100))
    assert "FTDIAG_REPLAY_PYTHON" in (raised.value.hint or "")
