"""Files that py-spy wrote: what a recording made of them says, and that no file whatever breaks anything."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdiag.errors import RecordingError, UsageError
from ftdiag.formats.importers import import_recording, importer_of, importer_or_none, jsonstream
from ftdiag.formats.importers.assembly import MAX_WINDOWS, MAX_WRITTEN_TICKS
from ftdiag.model import Snapshot
from ftdiag.recording.reader import Recording
from ftdiag.session import Session

RAW = (
    "thread (4101): MainThread;<module> (/app/main.py:30) 300\n"
    "thread (4102): worker;a;b;run (/app/main.py:7);work (/app/main.py:12) 200\n"
    "thread (4102): worker;a;b;run (/app/main.py:7);work (/app/main.py:13) 100\n"
)
PLAIN_RAW = "<module> (main.py:30) 40\nrun (main.py:7);native_call (libfoo.so) 60\n"
SPEEDSCOPE = {
    "$schema": "https://www.speedscope.app/file-format-schema.json",
    "profiles": [
        {
            "type": "sampled", "name": 'Thread 4101 "MainThread"', "unit": "seconds", "startValue": 0.0,
            "endValue": 2.0, "samples": [[0, 1]] * 100, "weights": [0.02] * 100,
        },
        {
            "type": "sampled", "name": 'Thread 0x7F01 "worker"', "unit": "seconds", "startValue": 0.0,
            "endValue": 1.0, "samples": [[2]] * 50, "weights": [0.02] * 50,
        },
    ],
    "shared": {
        "frames": [
            {"name": "thread (4101): MainThread", "file": "", "line": 0, "col": None},
            {"name": "<module>", "file": "/app/main.py", "line": 30, "col": None},
            {"name": "work", "file": "/app/main.py", "line": 12, "col": None},
        ]
    },
    "exporter": "py-spy@0.4.3",
}  # fmt: skip


def event(phase: str, name: str, line: int, at_us: int, tid: int = 77) -> dict[str, Any]:
    """One event, as src/chrometrace.rs writes it."""
    args = {"filename": "/app/main.py" if line else "", "line": line}
    return {"args": args, "cat": "py-spy", "name": name, "ph": phase, "pid": 41, "tid": tid, "ts": at_us}


CHROME = [
    event("B", "thread (4102): worker", 0, 0),
    event("B", "run", 7, 0),
    event("B", "work", 12, 0),
    event("E", "work", 12, 600_000),
    event("B", "work", 13, 600_000),
    event("E", "work", 13, 1_000_000),
    event("E", "run", 7, 1_000_000),
    event("E", "thread (4102): worker", 0, 1_000_000),
]
FILES = {
    "raw": RAW.encode(),
    "plain": PLAIN_RAW.encode(),
    "speedscope": json.dumps(SPEEDSCOPE).encode(),
    "chrome": json.dumps(CHROME).encode(),
    "chrome-object": json.dumps({"other": [1, {"a": []}], "traceEvents": CHROME}).encode(),
}


def imported(tmp_path: Path, data: bytes, rate_hz: float | None = None) -> tuple[Snapshot, str]:
    """What a recording of the file says, and what was said of it."""
    source, output = tmp_path / "profile", tmp_path / "recording"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    words = import_recording(importer_of(source), source, output, lambda line: None, rate_hz)
    with Recording.open(output) as recording:
        assert recording.damaged == ()
        return Session(recording).snapshot(), words


def hot(snapshot: Snapshot) -> dict[tuple[str, int | None], float]:
    """Seconds by function and line."""
    return {(one.frame.function, one.frame.line): round(one.total_ns / 1e9, 6) for one in snapshot.hot}


def test_raw_with_threads(tmp_path: Path) -> None:
    # GIVEN a raw file that names threads, one of which has separators in its name
    snapshot, words = imported(tmp_path, FILES["raw"])
    # THEN time is samples by the default rate, and that this is assumed is said
    assert hot(snapshot) == {("<module>", 30): 3.0, ("work", 12): 2.0, ("work", 13): 1.0}
    assert [(one.info.name, one.info.tid, one.role) for one in snapshot.threads] == [
        ("MainThread", 4101, "main"),
        ("worker;a;b", 4102, "python"),
    ]
    assert "100 Hz, py-spy's default, is assumed" in words
    assert [frame.function for frame in snapshot.hot[1].stacks[0][0]] == ["work", "run"]


def test_raw_without_threads_at_another_rate(tmp_path: Path) -> None:
    snapshot, words = imported(tmp_path, FILES["plain"], rate_hz=20.0)
    assert hot(snapshot) == {("native_call", None): 3.0, ("<module>", 30): 2.0}
    assert [one.info.name for one in snapshot.threads] == ["all threads"]
    assert "all threads are shown as one" in words
    assert "assumed" not in words


def test_samples_of_a_raw_file_are_spread_evenly(tmp_path: Path) -> None:
    # GIVEN a file with two stacks, WHEN a part of the recording is looked at
    source, output = tmp_path / "profile", tmp_path / "recording"
    source.write_bytes(b"a (m.py:1) 3000\nb (m.py:2) 1000\n")
    import_recording(importer_of(source), source, output, lambda line: None)
    with Recording.open(output) as recording:
        part = Session(recording).snapshot(10_000_000_000, 20_000_000_000)
    # THEN both have their share of it
    a, b = hot(part)["a", 1], hot(part)["b", 2]
    assert a + b == pytest.approx(10.0, abs=0.1)
    assert a / b == pytest.approx(3.0, rel=0.1)


def test_a_thread_told_by_its_address(tmp_path: Path) -> None:
    # GIVEN what py-spy writes without native ids WHEN imported THEN the thread is there, undamaged
    snapshot, _ = imported(tmp_path, b"thread (0x7F12345678C0): worker;work (app.py:3) 5\n")
    assert [(thread.info.tid, thread.info.name) for thread in snapshot.threads] == [
        (0x7F12345678C0, "worker")
    ]
    assert not [gap for gap in snapshot.quality.gaps if gap.what == "thread"]


def test_a_short_file_of_a_long_time_is_written_coarsely(tmp_path: Path) -> None:
    # GIVEN two lines that say that they are samples of eleven days
    data = b"thread (1): a;slow (app.py:3) 60000000\nthread (1): a;fast (app.py:9) 30000000\n"
    # WHEN they are imported
    snapshot, told = imported(tmp_path, data)
    # THEN their time and its split are as they say, in no more windows and ticks than are shown
    assert snapshot.metrics.duration_ns == pytest.approx(900_000 * 1e9, rel=0.001)
    assert snapshot.metrics.ticks <= MAX_WRITTEN_TICKS
    times = hot(snapshot)
    assert times["slow", 3] == pytest.approx(2 * times["fast", 9], rel=0.01)
    with Recording.open(tmp_path / "recording") as recording:
        assert len(recording) <= MAX_WINDOWS
    assert "172 samples in a row are one" in told


def test_speedscope(tmp_path: Path) -> None:
    snapshot, words = imported(tmp_path, FILES["speedscope"])
    # THEN the rate comes from the weights, and labels are no frames
    assert snapshot.settings.rate_hz == pytest.approx(50.0)
    assert hot(snapshot) == {("<module>", 30): 2.0, ("work", 12): 1.0}
    assert [(one.info.name, one.info.tid) for one in snapshot.threads] == [
        ("MainThread", 4101),
        ("worker", 0x7F01),
    ]
    assert "does not say when a sample was taken" in words


@pytest.mark.parametrize("name", ["chrome", "chrome-object"])
def test_chrome_traces(tmp_path: Path, name: str) -> None:
    snapshot, _ = imported(tmp_path, FILES[name])
    assert hot(snapshot) == {("work", 12): 0.6, ("work", 13): 0.4}
    assert [(one.info.name, one.info.tid) for one in snapshot.threads] == [("worker", 4102)]
    assert snapshot.target.pid == 41


def test_a_stream_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a reader that gets a few bytes at a time, THEN it reads the same
    whole = {name: hot(imported(tmp_path, data)[0]) for name, data in FILES.items()}
    monkeypatch.setattr(jsonstream, "CHUNK_BYTES", 7)
    assert {name: hot(imported(tmp_path, data)[0]) for name, data in FILES.items()} == whole


@pytest.mark.parametrize("name", FILES)
def test_nothing_but_samples_is_claimed(tmp_path: Path, name: str) -> None:
    # GIVEN any of these files, THEN no figure of the kernel, no finding, and the reason for each is there
    snapshot, _ = imported(tmp_path, FILES[name])
    assert snapshot.imported is not None
    assert snapshot.findings == ()
    assert snapshot.workload is None
    assert snapshot.metrics.lost_cores == {}
    assert snapshot.metrics.serial_share_ratio is None
    assert snapshot.quality.unknown_ratio is None
    reasons = snapshot.quality.not_measured
    assert {"on_cpu_cores", "locks", "states", "efficiency", "capacity_cores"} <= reasons.keys()
    assert len(snapshot.not_applicable) > 20


def test_a_rate_only_where_the_file_lacks_one(tmp_path: Path) -> None:
    source = tmp_path / "profile"
    source.write_bytes(b"memray\0" + b"\0" * 100)
    found = importer_or_none(source)
    assert found is None or not getattr(found, "TAKES_RATE", False)
    if found is not None:
        with pytest.raises(UsageError, match="says itself"):
            import_recording(found, source, tmp_path / "r", lambda line: None, 50.0)


# --- files that are not what they should be ----------------------------------------------------------

DEEP = b"[" * 200_000
HOSTILE = {
    "cut raw": FILES["raw"][:-12] + b"\n",
    "deep array": b'[{"ph":"B","ts":' + DEEP,
    "deep object": b'{"profiles":[{"samples":[' + DEEP,
    "no samples": b'{"$schema":"https://www.speedscope.app/file-format-schema.json"}',
    "frame that is not there": b'{"profiles":[{"type":"sampled","samples":[[9]]}],"shared":{"frames":[]}}',
    "negative frame": b'{"profiles":[{"type":"sampled","samples":[[-1]]}],"shared":{"frames":[{}]}}',
    "bool as frame": b'{"profiles":[{"type":"sampled","samples":[[true]]}],"shared":{"frames":[{},{}]}}',
    "weights of another length": b'{"profiles":[{"samples":[[0]],"weights":[1,2]}],"shared":{"frames":[{}]}}',
    "endless weight": b'{"profiles":[{"samples":[[0]],"weights":[1e999]}],"shared":{"frames":[{}]}}',
    "no number": b'{"profiles":[{"samples":[[0]],"weights":[NaN]}],"shared":{"frames":[{}]}}',
    "huge number": b'{"profiles":[{"samples":[[0]],"weights":[1%s]}],"shared":{"frames":[{}]}}'
    % (b"0" * 5000),
    "evented": b'{"profiles":[{"type":"evented","samples":[]}],"shared":{"frames":[]}}',
    "profiles of numbers": b'{"profiles":[1,2],"samples":1,"shared":{"frames":[]}}',
    "events of numbers": b'[1,"ph","ts"]',
    "time that is text": b'[{"ph":"B","pid":1,"tid":1,"ts":"x"}]',
    "time that is true": b'[{"ph":"B","pid":1,"tid":1,"ts":true}]',
    "time before the beginning": b'[{"ph":"B","pid":1,"tid":1,"ts":-5}]',
    "time without end": b'[{"ph":"B","pid":1,"tid":1,"ts":1e300}]',
    "thread that is a list": b'[{"ph":"B","pid":1,"tid":[],"ts":1}]',
    "only ends": b'[{"ph":"E","pid":1,"tid":1,"ts":1},{"ph":"E","pid":1,"tid":1,"ts":9000000}]',
    "cut array": b'[{"ph":"B","pid":1,"tid":1,"ts":1},',
    "cut text": b'[{"ph":"B","ts":1,"name":"abc',
    "samples without end": b"a (m.py:1) 999999999999999\n",
    "raw without samples": b"a (m.py:1) 0\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_message(tmp_path: Path, name: str) -> None:
    # GIVEN a file that is damaged or made to hurt
    source, output = tmp_path / "profile", tmp_path / "recording"
    source.write_bytes(HOSTILE[name])
    # WHEN it is imported THEN one message says so, and nothing stays behind
    with pytest.raises(RecordingError) as refusal:
        import_recording(importer_of(source), source, output, lambda line: None)
    assert refusal.value.hint
    assert len(refusal.value.what) < 500
    assert [entry.name for entry in tmp_path.iterdir()] == ["profile"]


def test_strange_texts_are_kept_and_cut(tmp_path: Path) -> None:
    # GIVEN names with control characters, without an end, and in no encoding
    raw = b"thread (1): \x1b[31mred\xff;evil\x07 (%s.py:1) 5\n" % (b"x" * 50_000)
    snapshot, _ = imported(tmp_path, raw)
    assert snapshot.threads[0].info.name == "\x1b[31mred�"
    assert len(snapshot.hot[0].frame.filename) <= 4096


@pytest.mark.parametrize("text", [b"hello\n", b"just words 5 and more\n", b"\0\0\0 5\n", b"[1, 2]", b"{}"])
def test_files_of_nobody(tmp_path: Path, text: bytes) -> None:
    source = tmp_path / "profile"
    source.write_bytes(text)
    with pytest.raises(RecordingError, match="no file that can be imported"):
        importer_of(source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "ph": st.sampled_from(["B", "E", "X"]) | JSON,
            "pid": st.integers(-1, 3) | JSON,
            "tid": st.integers(-1, 3) | JSON,
            "ts": st.integers(-1, 10_000_000) | JSON,
            "name": st.text(max_size=20) | JSON,
            "args": st.fixed_dictionaries({}, optional={"filename": JSON, "line": JSON}) | JSON,
        },
    ),
    max_size=20,
)
PROFILES = st.fixed_dictionaries(
    {"profiles": st.lists(
        st.fixed_dictionaries(
            {"samples": st.lists(st.lists(st.integers(0, 3) | JSON, max_size=4) | JSON, max_size=6)},
            optional={
                "type": st.just("sampled") | JSON, "name": st.text(max_size=20) | JSON,
                "unit": st.sampled_from(["seconds", "none"]) | JSON,
                "weights": st.lists(JSON, max_size=6) | JSON,
            },
        ), max_size=3)},
    optional={"shared": st.fixed_dictionaries({"frames": st.lists(JSON, max_size=4)}) | JSON, "name": JSON},
)  # fmt: skip


def imported_or_refused(directory: Path, data: bytes) -> None:
    """Whatever the file has in it: it is taken over and can be read, or refused in words."""
    source, output = directory / "profile", directory / "recording"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    try:
        found = importer_or_none(source)
        if found is None or not getattr(found, "TAKES_RATE", False):
            return
        import_recording(found, source, output, lambda line: None)
    except RecordingError:
        assert not output.exists()
        return
    with Recording.open(output) as recording:
        assert recording.damaged == ()
        Session(recording).snapshot()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_any_events(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    imported_or_refused(tmp_path, json.dumps(events).encode("utf-8", "surrogatepass"))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profiles=PROFILES)
def test_any_profiles(tmp_path: Path, profiles: dict[str, Any]) -> None:
    imported_or_refused(tmp_path, json.dumps(profiles).encode("utf-8", "surrogatepass"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 1 << 32))
def test_any_damage(tmp_path: Path, name: str, seed: int) -> None:
    # GIVEN a good file with bytes changed, dropped or put in anywhere
    chance = random.Random(seed)
    data = bytearray(FILES[name])
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.randrange(1, 50)]
            case 2:
                data[place:place] = bytes(
                    chance.choices(b'[]{},:"0e-\\n ;(\x00\xff', k=chance.randrange(1, 9))
                )
            case _:
                del data[place:]
        if not data:
            break
    imported_or_refused(tmp_path, bytes(data))
