"""What is exported adds up to what the report says, and is what each format's readers take."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import RecordingBuilder, spent
from command_line import ftdiag
from ftdiag.errors import RecordingError, UsageError
from ftdiag.formats import exporters
from ftdiag.formats.exporters import MODULES, chrome, exporter_of
from ftdiag.formats.exporters.material import Material
from ftdiag.formats.pprof_schema import profile
from ftdiag.model import Snapshot, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from fuzz.recordings import build_everything

SAMPLES = Path(__file__).parents[4] / "samples" / "recordings" / "3.14t"
TOLERANCE_NS = 2_000.0
"""Times of a thread and state are rounded a row at a time."""
Totals = dict[tuple[str, str], float]


@pytest.fixture(params=["everything", "counter_lock", "shared_queue", "unlike"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    """Made-up and real recordings."""
    path = SAMPLES / f"{request.param}.ftdiag"
    if not path.exists():
        path = tmp_path / "made.ftdiag"
        build_everything(path) if request.param == "everything" else unlike(path)
    with Recording.open(path) as recording:
        yield Session(recording)


def unlike(path: Path) -> None:
    """Threads that come and go, without samples or counters in part, with names that mean something."""
    builder = RecordingBuilder(path, rate_hz=50)
    builder.thread("a", shown_name="evil;\n<script>\x1b[31m \udcff")
    for number in range(70):
        builder.window(
            {
                "main": [spent(50, "idle", at="app.py:3 main")],
                "a": [spent(20, "lock", lock="a;b", holder="b", at="x;y.py:3 f"), spent(30, "work")],
                "b": [spent(50, "runnable", at="app.py:9 g")] if number % 3 else [],
                f"brief-{number}": [spent(5, "on_cpu", at=f"t.py:{number} run")],
            }
        )
    builder.end()


def written(session: Session, name: str, t0_ns: int | None = None) -> bytes:
    """The file of a format."""
    out = io.BytesIO()
    exporter_of(name).write(Material(session, t0_ns), out)
    return out.getvalue()


def reported(snapshot: Snapshot) -> Totals:
    """Thread-time in ns by thread and state."""
    return {
        (f"{thread.info.name}/{thread.info.tid}", state.label): time_ns
        for thread in snapshot.threads
        for state, time_ns in thread.states_ns.items()
        if time_ns > TOLERANCE_NS
    }


def assert_equal(found: Totals, wanted: Totals, tolerance_ns: float = TOLERANCE_NS) -> None:
    """The same times."""
    assert {key for key, value in found.items() if value > tolerance_ns} == set(wanted)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, abs=tolerance_ns), key


def in_pprof(data: bytes) -> tuple[Totals, Counter[str]]:
    """Thread-time by thread and state, and the sums of all sample types."""
    message = profile()()
    message.ParseFromString(gzip.decompress(data))
    text = message.string_table
    kinds = [text[kind.type] for kind in message.sample_type]
    times: Counter[tuple[str, str]] = Counter()
    sums: Counter[str] = Counter()
    assert all(sample.location_id for sample in message.sample)  # go tool pprof drops those without
    for sample in message.sample:
        labels = {text[label.key]: text[label.str] or str(label.num) for label in sample.label}
        for kind, value in zip(kinds, sample.value, strict=True):
            sums[kind] += value
        if sample.value[0]:
            times[f"{labels['thread']}/{labels['tid']}", labels["state"]] += sample.value[0]
    return dict(times), sums


def test_pprof_has_the_times_of_the_report(session: Session) -> None:
    # GIVEN a recording WHEN it is written as pprof
    snapshot = session.snapshot()
    times, sums = in_pprof(written(session, "pprof"))

    # THEN thread-time is that of the report, and its states add up to it
    wanted = {(escaped(thread), state): time for (thread, state), time in reported(snapshot).items()}
    assert_equal(times, wanted)
    states = sum(sums[state.label] for state in ThreadState)
    assert states == sums["thread_time"]
    # THEN waits for locks are charged twice, to those who wait and to those who hold
    locks = sum(lock.wait_ns for lock in snapshot.locks)
    assert sums["lock_wait"] == pytest.approx(locks, abs=TOLERANCE_NS)
    assert sums["lock_blame"] == pytest.approx(locks, abs=TOLERANCE_NS)
    if snapshot.allocations is not None:
        assert sums["alloc_bytes"] == sum(line.size_bytes or 0 for line in snapshot.allocations.lines)


def escaped(text: str) -> str:
    """What is no UTF-8 as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def test_waits_name_lock_and_holder(tmp_path: Path) -> None:
    # GIVEN a thread that waits for a lock that another one holds
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    waits = [spent(10, "lock", lock="self._lock", holder="b", at="a.py:1 wait")]
    builder.window({"a": waits, "b": [spent(10, "work", at="b.py:2 hold")]}).end()
    with Recording.open(builder.path) as recording:
        session = Session(recording)

        # WHEN it is written
        message = profile()()
        message.ParseFromString(gzip.decompress(written(session, "pprof")))
        trace = json.loads(written(session, "chrome"))
        firefox = json.loads(written(session, "firefox"))

    # THEN the sample, the slice and the marker have both names
    text = message.string_table
    labels = [{text[each.key]: text[each.str] for each in sample.label} for sample in message.sample]
    assert any(each.get("lock", "").startswith("self._lock") and each.get("holder") == "b" for each in labels)
    slices = [each for each in trace["traceEvents"] if each["ph"] == "X" and each["name"] == "lock"]
    assert [each["args"]["holder"] for each in slices] == ["b"]
    marker = firefox["threads"][0]["markers"]["data"][0]
    assert (marker["type"], marker["holder"]) == ("LockWait", "b")
    # THEN an arrow goes from the one who waits to the one who holds
    begin, end = (next(each for each in trace["traceEvents"] if each["ph"] == phase) for phase in "sf")
    assert begin["id"] == end["id"]
    assert (begin["tid"], end["tid"]) == (slices[0]["tid"], 4102)


def test_firefox_has_the_times_of_the_report(session: Session) -> None:
    # GIVEN a recording WHEN it is written for the Firefox Profiler
    document = json.loads(written(session, "firefox"))

    # THEN weights by category are the report's times; every index leads somewhere
    states = [category["name"] for category in document["meta"]["categories"]]
    times: Totals = defaultdict(float)
    for thread in document["threads"]:
        stacks, samples = thread["stackTable"], thread["samples"]
        for stack, weight in zip(samples["stack"], samples["weight"], strict=True):
            times[f"{thread['name']}/{thread['tid']}", states[stacks["category"][stack]]] += weight * 1e6
        check_tables(thread, document["shared"]["stringArray"])
    assert_equal(dict(times), reported(session.snapshot()), 20_000)


def check_tables(thread: dict[str, Any], texts: list[str]) -> None:
    """Columns are equally long and refer to what is there."""
    for name in ("samples", "stackTable", "frameTable", "funcTable", "markers"):
        table = thread[name]
        columns = {key: value for key, value in table.items() if isinstance(value, list)}
        assert {len(column) for column in columns.values()} == {table["length"]}
    stacks = thread["stackTable"]
    assert all(prefix is None or prefix < number for number, prefix in enumerate(stacks["prefix"]))
    assert all(frame < thread["frameTable"]["length"] for frame in stacks["frame"])
    assert all(function < thread["funcTable"]["length"] for function in thread["frameTable"]["func"])
    assert all(name < len(texts) for name in thread["funcTable"]["name"])


def test_speedscope_has_the_times_of_the_report(session: Session) -> None:
    # GIVEN a recording WHEN it is written for speedscope
    document = json.loads(written(session, "speedscope"))

    # THEN every thread has all of its time, and every frame is there
    alive: Counter[str] = Counter()
    for thread in session.snapshot().threads:
        alive[f'Thread {thread.info.tid} "{thread.info.name}"'] += thread.alive_ns
    frames = len(document["shared"]["frames"])
    for each in document["profiles"]:
        assert sum(each["weights"]) == pytest.approx(alive[each["name"]], abs=TOLERANCE_NS)
        assert each["endValue"] - each["startValue"] == sum(each["weights"])
        assert all(0 <= frame < frames for sample in each["samples"] for frame in sample)


def test_a_trace_has_the_times_of_the_report(session: Session) -> None:
    # GIVEN a recording WHEN it is written as trace events
    events = json.loads(written(session, "chrome"))["traceEvents"]

    # THEN slices by state are the report's times; those of a track follow each other
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    times: dict[str, float] = defaultdict(float)
    ends: dict[int, float] = {}
    for event in events:
        if event["ph"] == "X":
            times[event["name"]] += event["dur"] * 1e3
            assert event["ts"] >= ends.get(event["tid"], 0.0) - 0.01
            ends[event["tid"]] = event["ts"] + event["dur"]
            assert event["tid"] in tracks
    wanted: dict[str, float] = defaultdict(float)
    for (_, state), time_ns in reported(session.snapshot()).items():
        wanted[state] += time_ns
    for state, time_ns in wanted.items():
        assert times[state] == pytest.approx(time_ns, rel=1e-4, abs=50_000), state
    assert any(event["ph"] == "C" for event in events)


def test_collapsed_stacks_have_the_times_of_the_report(session: Session) -> None:
    # GIVEN a recording WHEN it is written as collapsed stacks
    lines = written(session, "collapsed").decode().splitlines()

    # THEN each line is a stack and a number, and together they are all thread-time
    parts = [line.rpartition(" ") for line in lines]
    assert all(re.fullmatch(r"[0-9]+", number) and "\x1b" not in stack for stack, _, number in parts)
    alive = sum(thread.alive_ns for thread in session.snapshot().threads)
    assert sum(int(number) for _, _, number in parts) == pytest.approx(alive, abs=len(lines) + TOLERANCE_NS)


def test_parquet_has_the_times_of_the_report(session: Session, tmp_path: Path) -> None:
    # GIVEN a recording WHEN it is written as Parquet and read by pyarrow
    pq = pytest.importorskip("pyarrow.parquet", reason="it is among the development dependencies")
    table = pq.read_table(io.BytesIO(written(session, "parquet")))

    # THEN the rows add up to the report's times
    times: Counter[tuple[str, str]] = Counter()
    for row in table.to_pylist():
        times[f"{row['thread']}/{row['tid']}", row["state"]] += row["time_ns"]
    wanted = {
        (escaped(thread), state): time for (thread, state), time in reported(session.snapshot()).items()
    }
    assert_equal(dict(times), wanted, 50_000)


def test_otlp_has_the_times_of_the_report(session: Session) -> None:
    # GIVEN a recording WHEN it is written as OTLP profiles
    from opentelemetry.proto.profiles.v1development import profiles_pb2

    message = profiles_pb2.ProfilesData()
    message.ParseFromString(written(session, "otlp"))

    # THEN the values add up, and the dictionary's first entries are empty
    samples = message.resource_profiles[0].scope_profiles[0].profiles[0].samples
    alive = sum(thread.alive_ns for thread in session.snapshot().threads)
    assert sum(sample.values[0] for sample in samples) == pytest.approx(alive, abs=len(samples))
    assert message.dictionary.string_table[0] == ""
    assert len(message.dictionary.stack_table[0].location_indices) == 0


def test_markdown_is_the_report_without_markup_of_others(session: Session) -> None:
    # GIVEN a recording, perhaps with names that are markup WHEN it is written as Markdown
    text = written(session, "markdown").decode()

    # THEN the answer comes first, sections follow, and nothing of the target means anything
    assert text.startswith("**")
    assert "### Findings" in text or "### Target" in text
    assert "<script>" not in text


def test_a_part_of_a_recording(tmp_path: Path) -> None:
    # GIVEN a recording of three seconds WHEN what is after the first is written
    build_everything(tmp_path / "a.ftdiag")
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        session = Session(recording)
        begin = int(recording.t0_ns[1])
        _, sums = in_pprof(written(session, "pprof", begin))
        # THEN it has the time of that part
        assert sums["thread_time"] == sum(thread.alive_ns for thread in session.snapshot(begin).threads)


@pytest.mark.parametrize("most", [1500, 400])
def test_a_long_recording_gets_coarser_and_keeps_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    # GIVEN a recording with more rows than a format takes
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=100)
    for _ in range(70):
        at = [spent(1, "work" if tick % 2 else "lock", at=f"a.py:{tick % 5} f") for tick in range(100)]
        builder.window({"a": at, "b": [spent(100, "idle")]})
    builder.end()
    monkeypatch.setattr(chrome, "MOST", most)
    with Recording.open(builder.path) as recording:
        session = Session(recording)

        # WHEN it is written
        out = io.BytesIO()
        notes = chrome.write(Material(session), out)
        slices = [event for event in json.loads(out.getvalue())["traceEvents"] if event["ph"] == "X"]

        # THEN it is smaller, says so, and has the same time
        assert len(slices) <= most
        assert "put together" in notes[0]
        alive = sum(thread.alive_ns for thread in session.snapshot().threads)
        assert sum(event["dur"] for event in slices) * 1e3 == pytest.approx(alive, rel=1e-6)


def test_far_too_much_is_refused(tmp_path: Path) -> None:
    # GIVEN a recording with a stack of its own at every tick WHEN a handful of rows is asked for
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=100)
    for number in range(3):
        builder.window({"a": [spent(1, "work", at=f"a.py:{100 * number + tick} f") for tick in range(100)]})
    builder.end()
    with Recording.open(builder.path) as recording:
        parts, _ = Material(Session(recording)).stays(20)

        # THEN it is said what to do instead
        with pytest.raises(RecordingError, match="too much"):
            list(parts)


# --- the registry and the command -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_an_exporter_says_what_it_is(name: str) -> None:
    # GIVEN a line of the registry WHEN its module is asked THEN it is that format
    exporter = exporter_of(name)
    assert name == exporter.NAME
    assert exporter.ENDING.startswith(".")
    assert exporter.NEEDS in exporters.Needs


def test_what_is_offered_is_not_imported() -> None:
    # GIVEN the list of formats WHEN it is imported THEN no format, no numpy and no library of one is
    script = "import sys, ftdiag.formats.exporters; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"numpy", "google.protobuf", "pyarrow", "opentelemetry", "ftdiag.formats.exporters.pprof"}
    assert not heavy & set(ran.stdout.split())


@pytest.mark.parametrize(("name", "module"), [("parquet", "pyarrow"), ("otlp", "opentelemetry.proto")])
def test_a_library_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    # GIVEN an installation without an extra
    for known in [each for each in sys.modules if each.startswith(module)]:
        monkeypatch.setitem(sys.modules, known, None)
    monkeypatch.setitem(sys.modules, module, None)
    build_everything(tmp_path / "a.ftdiag")
    with Recording.open(tmp_path / "a.ftdiag") as recording, pytest.raises(UsageError) as raised:
        # WHEN its format is asked for
        exporter_of(name).write(Material(Session(recording)), io.BytesIO())

    # THEN the extra is named
    assert f"ftdiag[{name}]" in (raised.value.hint or "")


def test_the_command(tmp_path: Path) -> None:
    # GIVEN a recording
    recording = tmp_path / "app.ftdiag"
    build_everything(recording)

    # WHEN it is exported without a name, twice
    made = ftdiag("export", recording, "--to", "pprof")
    again = ftdiag("export", recording, "--to", "pprof")
    piped = ftdiag("export", recording, "--to", "markdown", "-o", "-")
    refused = ftdiag("export", recording, "--to", "otlp")

    # THEN it lies beside the recording, is not overwritten, and nothing else is left
    assert (made.status, again.status, piped.status) == (0, 3, 0)
    assert gzip.decompress((tmp_path / "app.pb.gz").read_bytes())
    assert "exists already" in again.err
    assert piped.out.startswith("**")
    assert refused.status == 2
    assert "--experimental" in refused.err
    assert {each.name for each in tmp_path.iterdir()} == {"app.ftdiag", "app.pb.gz"}


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    # GIVEN a range that is not there WHEN it is exported THEN no file is made
    build_everything(tmp_path / "a.ftdiag")
    ran = ftdiag("export", tmp_path / "a.ftdiag", "--to", "chrome", "--from", "100")
    assert ran.status == 2
    assert {each.name for each in tmp_path.iterdir()} == {"a.ftdiag"}


@pytest.mark.parametrize("name", ["firefox", "pprof", "speedscope", "chrome"])
def test_a_rate_that_is_none_costs_no_file(name: str, tmp_path: Path) -> None:
    # GIVEN a recording that says it was made with less than a sample in the age of the universe
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=1e-310)
    builder.rate_hz = 100.0
    builder.window({"a": [spent(10, "work", at="a.py:3 f")]})
    with builder.end().open() as recording:
        # WHEN it is read THEN its rate is not known, and it is written all the same
        assert recording.settings.rate_hz == 0.0
        out = io.BytesIO()
        exporter_of(name).write(Material(Session(recording)), out)
        assert out.getvalue()
