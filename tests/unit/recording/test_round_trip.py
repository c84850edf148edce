"""What is written is what is read: windows, interned values, descriptions, the ring, live reading."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from array import array
from contextlib import closing
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftdiag.errors import RecordingError
from ftdiag.model import (
    FIRST_STACK_ID,
    NO_STACK,
    NO_WAIT,
    TORN_STACK,
    UNKEPT_STACK,
    End,
    EndReason,
    Frame,
    Gap,
    HookKind,
    ProcessCounters,
    Runs,
    SamplerCost,
    ThreadCounters,
    ThreadInfo,
    TracingHook,
    Wait,
    Window,
)
from ftdiag.recording import schema
from ftdiag.recording.contents import KEPT_GROUPS
from ftdiag.recording.reader import Recording
from profiles import profile_of
from unit.recording import windows
from unit.recording.windows import END, SECOND_NS, SETTINGS, TARGET, content, create, rows, window, write

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LENGTH_NS = 2**41
COUNTS = st.integers(-1, 2 * LENGTH_NS)
TEXTS = st.text(max_size=20)
GAPS = st.builds(Gap, TEXTS, TEXTS, st.integers(1, 10**6))


@st.composite
def arbitrary_windows(draw: st.DrawFn, t0_ns: int) -> Window:
    """Any window that keeps to the model's rules, with stacks and waits that were never interned."""
    ticks = draw(st.integers(1, 30))
    tick_ns = array(
        "q",
        (
            t0_ns + offset
            for offset in sorted(draw(st.lists(st.integers(0, 2**40), min_size=ticks, max_size=ticks)))
        ),
    )
    runs = Runs()
    for thread in sorted(draw(st.sets(st.integers(0, schema.MAX_THREADS - 1), max_size=4))):
        cuts = sorted(draw(st.sets(st.integers(0, ticks), max_size=6)))
        for first, end in pairwise(cuts):
            state, confidence = draw(st.integers(1, 16)), draw(st.integers(0, 2))
            stack, holder = draw(st.integers(0, 2)), draw(st.integers(0, schema.MAX_THREADS))
            windows.append(runs, (thread, first, end - first, state, stack, 0, holder, confidence))
    counters = ThreadCounters()
    for thread in draw(st.lists(st.integers(0, schema.MAX_THREADS - 1), max_size=4, unique=True)):
        alive_ns = draw(st.integers(-1, LENGTH_NS))
        windows.append(counters, (thread, alive_ns, *(draw(COUNTS) for _ in range(7))))
    cost = SamplerCost(*(draw(st.integers(0, 2 * LENGTH_NS)) for _ in range(6)))
    optional = st.none() | st.integers(0, 2**60)
    process = ProcessCounters(draw(optional), draw(optional), draw(st.none() | st.booleans()))
    gaps = draw(st.lists(GAPS, max_size=3, unique_by=lambda gap: (gap.what, gap.why)))
    return Window(t0_ns, t0_ns + LENGTH_NS, tick_ns, runs, counters, cost, process, tuple(gaps))


@st.composite
def windows_in_order(draw: st.DrawFn) -> list[Window]:
    """One after the other, with or without holes between them."""
    found: list[Window] = []
    t0_ns = draw(st.integers(0, 2**59))
    for _ in range(draw(st.integers(0, 4))):
        found.append(draw(arbitrary_windows(t0_ns)))
        t0_ns = found[-1].t1_ns + draw(st.integers(0, LENGTH_NS))
    return found


@given(windows_in_order())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_window_reads_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, given_windows: list[Window]
) -> None:
    # GIVEN any windows
    path = tmp_path_factory.mktemp("any") / "a.ftdiag"
    writer = create(path)
    for each in given_windows:
        writer.write_window(each)
    writer.finish(END)
    writer.close()

    # WHEN they are read
    with Recording.open(path) as recording:
        # THEN every column is what was written, and nothing is damaged
        assert len(recording) == len(given_windows)
        for position, each in enumerate(given_windows):
            samples = recording.samples(position)
            for column in fields(Runs):
                assert getattr(samples, column.name).tolist() == list(getattr(each.runs, column.name))
            assert samples.tick_ns.tolist() == list(each.tick_ns)
            counters = recording.counters(position, position + 1)
            for column in fields(ThreadCounters):
                assert getattr(counters, column.name).tolist() == list(getattr(each.counters, column.name))
            assert set(counters.window.tolist()) <= {position}
            costs = recording.costs(position, position + 1)
            assert (costs.sampler, costs.process) == ((each.cost,), (each.process,))
            assert recording.gaps(position, position + 1)[: len(each.gaps)] == each.gaps
        assert recording.verify() == ()


def test_counters_that_cannot_be_are_not_read(tmp_path: Path) -> None:
    # GIVEN a thread of which a second after its start hours of CPU time are counted, and less than nothing
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    impossible = window(writer, 0)
    impossible.counters.cpu_ns[1] = 3600 * SECOND_NS
    impossible.counters.run_queue_ns[2] = -5
    writer.write_window(impossible)
    writer.finish(END)
    writer.close()

    # WHEN it is read THEN these are not measured, everything else is as it was, and nothing is damaged
    with Recording.open(path) as recording:
        counters = recording.counters(0, 1)
        assert counters.cpu_ns.tolist() == [0, -1, 2]
        assert counters.run_queue_ns.tolist() == [0, 0, -1]
        assert recording.verify() == ()


@given(frame=st.builds(Frame, st.text(), st.text(), st.none() | st.integers(0, 2**40)), name=st.text())
@settings(max_examples=40, deadline=None)
def test_any_text_reads_back(tmp_path_factory: pytest.TempPathFactory, frame: Frame, name: str) -> None:
    # GIVEN names with whatever characters, lone surrogates of undecodable file names among them
    path = tmp_path_factory.mktemp("text") / "a.ftdiag"
    writer = create(path)
    frame = replace(frame, filename=frame.filename + "\udc80")
    stack = writer.intern_stack([writer.intern_frame(frame)])
    wait = Wait(name, name + "\udcff", windows.LOCK)
    wait_id = writer.intern_wait(wait)
    info = ThreadInfo(0, 1, name, True)
    writer.put_thread(info)

    # WHEN they were written
    writer.finish(replace(END, detail=name))
    writer.close()

    # THEN they read back the same
    with Recording.open(path) as recording:
        assert recording.stack(stack) == (frame,)
        assert recording.wait(wait_id) == wait
        assert list(recording.threads) == [info]
        assert recording.end == replace(END, detail=name)


def test_descriptions_read_back(tmp_path: Path) -> None:
    # GIVEN a recording whose target and thread changed while it was made
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    writer.put_thread(ThreadInfo(1, 11, "early name", True))
    writer.write_window(window(writer, 0))
    later = replace(
        TARGET,
        gil_enabled=True,
        gil_culprits=("a", "b"),
        gil_importers=(("__main__", "c"), ()),
        tracing=(TracingHook(HookKind.PROFILE, "noted", "a.py"), TracingHook(HookKind.TRACE, "CTracer")),
        capacity_cores=2.5,
        capacity_reason="quota",
    )
    writer.update_target(later)
    info = ThreadInfo(1, 11, "late name", True, False, 0, 5, 6)
    writer.put_thread(info)
    writer.finish(END)
    writer.close()

    # WHEN it is read
    with Recording.open(path) as recording:
        # THEN the last description counts, and one that is missing is made up
        assert (recording.target, recording.settings, recording.end) == (later, SETTINGS, END)
        assert recording.threads[1] == info
        assert (recording.threads[0].name, recording.threads[0].tid) == ("thread #0", 0)
        assert len(recording.threads) == 2
        assert recording.thread(77).index == 77


def test_interning(tmp_path: Path) -> None:
    # GIVEN a writer
    writer = create(tmp_path / "a.ftdiag")
    outer, inner = (writer.intern_frame(Frame("a.py", name, 1)) for name in ("outer", "inner"))

    # WHEN stacks and waits are interned
    stack = writer.intern_stack([outer, inner])

    # THEN the same has the same id, and reserved ids mean what the model says
    assert writer.intern_frame(Frame("a.py", "outer", 1)) == outer
    assert writer.extend_stack(writer.extend_stack(NO_STACK, outer), inner) == stack
    assert stack >= FIRST_STACK_ID
    assert writer.intern_stack([]) == NO_STACK
    assert writer.extend_stack(TORN_STACK, outer) == TORN_STACK
    assert writer.extend_stack(UNKEPT_STACK, outer) == UNKEPT_STACK
    assert writer.extend_stack(stack, schema.UNKEPT_FRAME) == UNKEPT_STACK
    assert writer.intern_wait(Wait("futex")) == writer.intern_wait(Wait("futex")) == 1
    writer.write_window(window(writer, 0))
    writer.close()
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        leaf, root = recording.stack(stack)
        assert (leaf.function, root.function) == ("inner", "outer")
        assert recording.leaf_frames()[stack] == inner
        assert recording.leaf_frames()[:FIRST_STACK_ID].tolist() == [-1] * FIRST_STACK_ID
        assert recording.leaf_frames()[recording.parents()[stack]] == outer
        assert recording.stack(UNKEPT_STACK) == ()
        assert recording.wait(NO_WAIT) is None


def test_full_tables_give_the_reserved_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN tables that hold very little
    monkeypatch.setattr(schema, "MAX_FRAMES", 3)
    monkeypatch.setattr(schema, "MAX_STACKS", FIRST_STACK_ID + 2)
    monkeypatch.setattr(schema, "MAX_WAITS", 2)
    monkeypatch.setattr(schema, "MAX_STACK_DEPTH", 2)
    writer = create(tmp_path / "a.ftdiag")

    # WHEN more is interned
    frames = [writer.intern_frame(Frame("a.py", f"f{number}", 1)) for number in range(4)]
    deep = writer.intern_stack([frames[0]] * 3)
    stack = writer.intern_stack([frames[1]])
    waits = [writer.intern_wait(Wait(name)) for name in ("a", "b")]

    # THEN what does not fit is UNKEPT, and the rest still counts
    assert frames[2:] == [schema.UNKEPT_FRAME] * 2
    assert deep == UNKEPT_STACK
    assert stack == UNKEPT_STACK
    assert waits == [1, NO_WAIT]
    writer.close()


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    # GIVEN a function whose name is a megabyte
    writer = create(tmp_path / "a.ftdiag")
    stack = writer.intern_stack([writer.intern_frame(Frame("a.py", "ä" * 10**6, 1))])
    writer.finish(END)
    writer.close()

    # WHEN it is read
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        (frame,) = recording.stack(stack)

    # THEN it is its beginning, within the bound
    assert frame.function.startswith("äää")
    assert frame.function.endswith("…")
    assert len(frame.function.encode()) <= schema.MAX_STRING_BYTES


def test_more_than_a_window_can_hold_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a window with a thread, runs and gaps beyond the limits
    writer = create(tmp_path / "a.ftdiag")
    full = window(writer, 0)
    full.runs.thread[-1] = schema.MAX_THREADS
    full = replace(
        full, gaps=tuple(Gap("thing", f"reason {number}") for number in range(schema.MAX_GAPS + 9))
    )
    writer.write_window(full)
    monkeypatch.setattr(schema, "MAX_WINDOW_ROWS", 3)
    writer.write_window(window(writer, 2))
    writer.finish(END)
    writer.close()
    monkeypatch.undo()

    # WHEN it is read
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        # THEN what fits is there, and the rest is counted
        assert len(recording.samples(0)) == 5
        gaps = recording.gaps(0, 1)
        assert sum(gap.count for gap in gaps if gap.what in ("thing", "gaps")) >= schema.MAX_GAPS + 9
        assert len(recording.samples(1)) == 0
        assert "samples" in {gap.what for gap in recording.gaps(1, 2)}
        assert len(recording.counters(1, 2)) == 3


def test_columns_of_different_length_are_refused(tmp_path: Path) -> None:
    # GIVEN a window with a row that lacks a value
    writer = create(tmp_path / "a.ftdiag")
    wrong = window(writer, 0)
    wrong.runs.state.pop()

    # WHEN it is written THEN that is an error
    with pytest.raises(ValueError, match="differ in length"):
        writer.write_window(wrong)
    writer.close()


def test_sums_of_minutes_of_older_versions_are_passed_over(tmp_path: Path) -> None:
    # GIVEN a recording whose sixtieth window has a sum of its minute, as earlier versions wrote it
    path = tmp_path / "a.ftdiag"
    write(path, 70)
    with Recording.open(path) as recording:
        expected = content(recording)
    with closing(sqlite3.connect(path)) as database, database:
        *row, _ = database.execute("SELECT * FROM window WHERE id = 60").fetchone()
        row[-1] += ",rollup"
        database.execute(
            "UPDATE window SET groups = ?, checksum = ? WHERE id = 60", (row[-1], schema.row_checksum(*row))
        )
        blob = schema.encode_group(60, "rollup", [("thread", [0], True), ("ticks", [6000], False)])
        database.execute("INSERT INTO column_data VALUES (60, 'rollup', ?)", (blob,))
    # WHEN it is read THEN nothing is missing, and nothing is damaged
    with Recording.open(path) as recording:
        assert content(recording) == expected
        assert recording.verify() == ()


def test_counters_of_a_growing_range(tmp_path: Path) -> None:
    # GIVEN a live recording that a view looks at again and again
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    with_cache: list[list[tuple[int, ...]]] = []
    writer.write_window(window(writer, 0))
    with Recording.open(path) as recording:
        for number in range(1, 9):
            writer.write_window(window(writer, number))
            # WHEN it takes in what is new
            assert recording.refresh()
            assert not recording.refresh()
            with_cache.append(rows(recording.counters(max(0, number - 4), number + 1)))
    writer.close()

    # THEN every look was as a fresh one
    with Recording.open(path) as recording:
        for number in range(1, 9):
            fresh = rows(recording.counters(max(0, number - 4), number + 1))
            assert with_cache[number - 1] == fresh
        assert recording.gaps(0, 2) == (
            Gap("stack", "torn", 2),
            Gap("voluntary_switches", "the kernel's counter could not be read", 4),
        )


def test_a_recording_belongs_to_its_user_alone(tmp_path: Path) -> None:
    # GIVEN an umask that would let everybody read, and one that would let nobody
    for umask in (0o000, 0o777):
        path = tmp_path / f"a{umask}.ftdiag"
        previous = os.umask(umask)
        try:
            # WHEN a recording is made
            writer = create(path)
            writer.write_window(window(writer, 0))
            modes = {each.stat().st_mode & 0o777 for each in tmp_path.glob(f"{path.name}*")}
            writer.close()
        finally:
            os.umask(previous)
        # THEN its files are for the owner to read and write
        assert modes == {0o600}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    # GIVEN a file
    path = tmp_path / "a.ftdiag"
    path.write_text("precious")

    # WHEN a recording is to have its name THEN it is refused and the file kept
    with pytest.raises(RecordingError) as caught:
        create(path)
    assert "exists" in caught.value.what
    assert caught.value.hint
    assert path.read_text() == "precious"
    with pytest.raises(RecordingError):
        create(tmp_path / "missing" / "a.ftdiag")


def test_one_file_is_left(tmp_path: Path) -> None:
    # GIVEN a reader that has looked at a live recording
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    writer.write_window(window(writer, 0))
    with Recording.open(path) as recording:
        # WHEN the writer ends the recording
        writer.finish(END)
        writer.close()

        # THEN there is one file, and the reader goes on
        assert list(tmp_path.iterdir()) == [path]
        assert recording.refresh()
        assert recording.end == END
        before = path.read_bytes()
        assert recording.verify() == ()
    # AND reading has not changed it
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_writer_needs_no_numpy() -> None:
    # GIVEN a fresh interpreter
    code = "import sys, ftdiag.recording.writer; sys.exit('numpy' in sys.modules)"

    # WHEN it imports the writer THEN it has not imported numpy
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_ring_of_bytes_stays_bounded(tmp_path: Path) -> None:
    # GIVEN a ring of two MiB
    path = tmp_path / "a.ftdiag"
    bound = 2 << 20
    writer = create(path, keep_bytes=bound)
    largest = 0

    # WHEN far more is written, with ever new stacks and threads
    for number in range(3000):
        writer.put_thread(ThreadInfo(number % 100, number, f"thread-{number}", True))
        writer.write_window(window(writer, number, threads=20, ticks=100))
        largest = max(largest, sum(each.stat().st_size for each in tmp_path.iterdir()))
    main_size = path.stat().st_size
    writer.finish(END)
    writer.close()

    # THEN the file stays within its bound, with the log within two MiB more
    assert main_size <= bound
    assert path.stat().st_size <= bound
    assert largest <= bound + (2 << 20)
    with Recording.open(path) as recording:
        # AND what is there is the end of what was written
        assert recording.t0_ns[-1] == 2999 * SECOND_NS
        assert 50 < len(recording) < 3000
        assert recording.verify() == ()
        assert int(profile_of(recording).ticks.sum()) == 20 * 100 * len(recording)


def test_a_ring_of_time_keeps_its_time(tmp_path: Path) -> None:
    # GIVEN a ring of ten seconds, and a reader that follows it
    path = tmp_path / "a.ftdiag"
    writer = create(path, keep_ns=10 * SECOND_NS)
    writer.put_thread(ThreadInfo(50, 1, "short-lived", True))
    writer.write_window(window(writer, 0))
    with Recording.open(path) as recording:
        assert recording.threads[50].name == "short-lived"
        for number in range(1, 200):
            writer.write_window(window(writer, number))
            # WHEN the ring drops windows behind the reader's back
            stale = profile_of(recording)
            assert int(stale.ticks.sum()) % 60 == 0
            recording.refresh()
        writer.close()

        # THEN the last ten seconds are there, and nothing is called damaged
        assert recording.t0_ns.tolist() == [number * SECOND_NS for number in range(190, 200)]
        assert recording.window_ids.tolist() == list(range(191, 201))
        assert recording.verify() == ()
    # AND threads without windows have gone
    with Recording.open(path) as recording:
        assert recording.thread(50).tid == 0


def test_a_thread_of_a_ring_stays_while_it_is_seen(tmp_path: Path) -> None:
    # GIVEN threads described once, in a ring of three seconds
    path = tmp_path / "a.ftdiag"
    writer = create(path, keep_ns=3 * SECOND_NS)
    for index in range(3):
        writer.put_thread(ThreadInfo(index, index + 1, f"thread-{index}", True))

    # WHEN their first windows are long gone
    for number in range(20):
        writer.write_window(window(writer, number))
    writer.finish(End(EndReason.STOPPED, "stopped", 1))
    writer.close()

    # THEN they are still described
    with Recording.open(path) as recording:
        assert [info.tid for info in recording.threads] == [1, 2, 3]


def test_long_reasons_are_counted_where_they_do_not_fit(tmp_path: Path) -> None:
    # GIVEN a window with so many so long gaps, and a target with so long names, that no row could hold them
    writer = create(tmp_path / "a.ftdiag")
    gaps = tuple(Gap("\udc80" * 5000, f"{number}" + "\udc80" * 900, 2) for number in range(200))
    writer.write_window(replace(window(writer, 0), gaps=gaps))
    writer.update_target(replace(TARGET, command="\udc80" * 9999, gil_culprits=("\U0001f600" * 4096,) * 999))
    writer.finish(END)
    writer.close()

    # WHEN it is read
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        # THEN every gap is counted, and the rest is there
        counts = [gap.count for gap in recording.gaps(0, 1) if "counter" not in gap.why]
        assert sum(counts) == 400
        assert len(recording.target.gil_culprits) == schema.MAX_CULPRITS
        assert recording.verify() == ()


def test_windows_that_are_asked_for_again_are_kept_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a recording of which a few windows are read
    write(tmp_path / "a", 40)
    with Recording.open(tmp_path / "a") as recording:
        first = [windows.resolved_runs(recording, position) for position in range(3, 6)]
        # WHEN they are read again THEN the file is not, and they are the same
        with monkeypatch.context() as patch:
            patch.setattr(recording._file, "reading", lambda: pytest.fail("read again"))
            assert [windows.resolved_runs(recording, position) for position in range(3, 6)] == first
            assert len(recording.all_samples(3, 6)) == 3
        # AND those of long ranges are not kept, nor more than a few
        recording.all_samples(0, 40)
        assert len(recording._decoded) == 3
        for position in range(40):
            recording.samples(position)
        assert len(recording._decoded) == KEPT_GROUPS


@given(st.lists(st.binary(max_size=5000), min_size=1, max_size=6))
def test_blobs_are_those_that_each_would_be_alone(contents: list[bytes]) -> None:
    # GIVEN groups one after the other, which share a context WHEN compressed
    for body in contents:
        blob = schema.compressed_group(1, "runs", [], [body])
        # THEN each is what it is without the others before it
        plain = zstd.decompress(blob)
        assert plain.endswith(body)
        assert blob == zstd.compress(plain, options=schema._COMPRESSION)
