"""Snapshots of growing, ringed, damaged and empty recordings."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import ftdiag.analysis.ranges
import ftdiag.analysis.threads
import ftdiag.recording.interned
from builders import START_NS, RecordingBuilder, a_target, absent, counted, spent, stands
from ftdiag.analysis.ranges import Ranges
from ftdiag.analysis.standing import Stands
from ftdiag.model import FIRST_STACK_ID, Gap, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.recording.schema import row_checksum
from ftdiag.recording.tables import RunColumns
from ftdiag.session import Session

S = 1_000_000_000


def working(builder: RecordingBuilder, windows: int) -> RecordingBuilder:
    for _ in range(windows):
        builder.window({"w": [spent(10, "on_cpu", at="a.py:1 f")]})
    return builder


def test_an_empty_recording_gives_an_empty_snapshot(tmp_path: Path) -> None:
    # GIVEN a recording without windows WHEN looked at THEN nothing is measured and nothing fails
    session = RecordingBuilder(tmp_path / "a").session()
    snapshot = session.snapshot()
    assert (snapshot.t0_ns, snapshot.t1_ns) == (START_NS, START_NS)
    assert snapshot.metrics.ticks == 0
    assert not (snapshot.threads)
    assert not (snapshot.hot)
    assert not (snapshot.locks)
    assert snapshot.quality.unknown_ratio is None
    assert {"torn_ratio", "missed_tick_ratio", "unknown_ratio"} <= set(snapshot.quality.not_measured)
    assert session.last(60 * S).metrics.ticks == 0
    assert not (session.wait_graph())
    assert stands(session) == Stands()


def test_one_tick_of_one_thread(tmp_path: Path) -> None:
    # GIVEN the smallest recording WHEN looked at THEN it is all there
    snapshot = (
        RecordingBuilder(tmp_path / "a")
        .window({"w": [spent(1, "on_cpu", at="a.py:1 f")]})
        .session()
        .snapshot()
    )
    assert snapshot.metrics.concurrency == (0.0, 1.0)
    assert snapshot.threads[0].latest_state is ThreadState.ON_CPU


def test_a_range_takes_the_windows_that_overlap_it(tmp_path: Path) -> None:
    # GIVEN ten windows of a second
    session = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 10).session()
    # WHEN ranges are asked for THEN a window counts if any of it lies within
    assert session.snapshot(START_NS + 2 * S, START_NS + 5 * S).metrics.duration_ns == 3 * S
    assert session.snapshot(START_NS + 2 * S + 1, START_NS + 5 * S + 1).metrics.duration_ns == 4 * S
    assert session.snapshot(START_NS + 20 * S).metrics.duration_ns == 0
    assert session.snapshot(None, START_NS).metrics.duration_ns == 0
    assert session.last(3 * S).metrics.duration_ns == 3 * S
    assert session.last(3 * S).t1_ns == START_NS + 10 * S


def test_holes_are_not_counted_as_time(tmp_path: Path) -> None:
    # GIVEN two windows a day apart WHEN looked at THEN only what was recorded counts
    builder = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 1).pause(86_400 * S)
    metrics = working(builder, 1).session().snapshot().metrics
    assert metrics.duration_ns == 2 * S
    assert metrics.on_cpu_cores == 1.0


def test_a_growing_recording_is_followed(tmp_path: Path) -> None:
    # GIVEN a session on a recording of one window
    builder = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 1)
    session = builder.session()
    assert session.snapshot().metrics.duration_ns == 1 * S
    assert not session.refresh()
    # WHEN it grows over several chunks THEN refreshing shows all of it, and finished work is not redone
    working(builder, 70)
    assert session.refresh()
    assert session.snapshot().metrics.duration_ns == 71 * S
    digests = dict(session._ranges._digests)
    working(builder, 1)
    session.refresh()
    session.snapshot()
    redone = set(session._ranges._digests) - set(digests)
    assert len(redone) == 1


def test_a_range_is_read_piece_by_piece(tmp_path: Path) -> None:
    # GIVEN a finished recording of several pieces
    path = tmp_path / "a"
    working(RecordingBuilder(path, rate_hz=10), 300).end()
    with Recording.open(path) as recording:
        whole = Session(recording).snapshot()
        # WHEN it is read piece by piece THEN pictures are of what is read so far, and the last is of all
        session = Session(recording)
        read = [(share, picture()) for share, picture in session.reading()]
        assert [picture.metrics.duration_ns // S for _, picture in read][:2] == [255, 300]
        assert [share for share, _ in read] == sorted({share for share, _ in read})
        assert read[-1] == (1.0, whole)
        # AND nothing is read again for what is asked of it
        kept = dict(session._ranges._digests)
        assert session.snapshot() == whole
        assert session._ranges._digests == kept
        # AND a part of it is read like all of it
        part = list(session.reading(START_NS + 100 * S, START_NS + 200 * S))
        assert part[-1][1]() == session.snapshot(START_NS + 100 * S, START_NS + 200 * S)


def test_a_long_recording_that_was_cut_off_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a long recording without an end
    monkeypatch.setattr(ftdiag.analysis.ranges, "BLOCK_WINDOWS", 16)
    monkeypatch.setattr(ftdiag.analysis.ranges, "CHUNK_WINDOWS", 4)
    monkeypatch.setattr(ftdiag.analysis.ranges, "LEAST_OF_BLOCKS", 64)
    session = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 80).session()
    read: list[int] = []
    real = Ranges._digested

    def counting(self: Ranges, first: int, last: int, capacity: float | None) -> object:
        read.extend(range(first, last))
        return real(self, first, last, capacity)

    monkeypatch.setattr(Ranges, "_digested", counting)
    # WHEN it is read with a picture of each piece THEN no window is read twice
    for _, picture in session.reading():
        picture()
    assert sorted(read) == list(range(80))


def test_a_ring_forgets_its_oldest_windows(tmp_path: Path) -> None:
    # GIVEN a ring of ten seconds
    builder = working(RecordingBuilder(tmp_path / "a", rate_hz=10, keep_ns=10 * S), 5)
    session = builder.session()
    session.snapshot()
    # WHEN more is written than it keeps
    working(builder, 60)
    session.refresh()
    snapshot = session.snapshot()
    # THEN the snapshot is that of the windows still there
    assert snapshot.t1_ns == START_NS + 65 * S
    assert snapshot.metrics.duration_ns <= 11 * S
    assert sum(each.alive_ns for each in snapshot.threads) == snapshot.metrics.duration_ns


def test_kept_digests_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN room for two digests WHEN many chunks are looked at THEN two are kept and the result is the same
    session = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 200).session()
    whole = session.snapshot()
    monkeypatch.setattr(ftdiag.analysis.ranges, "MAX_DIGESTS", 2)
    fresh = Session(session.recording)
    assert fresh.snapshot() == whole
    assert len(fresh._ranges._digests) == 2
    monkeypatch.setattr(ftdiag.analysis.ranges, "MAX_CACHED_ROWS", 0)
    fresh.snapshot(START_NS, START_NS + 5 * S)
    assert len(fresh._ranges._digests) == 1


def test_a_range_that_moves_by_a_window_digests_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a view that has followed a recording for more than a minute
    session = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 300).session()
    for end in range(60, 200):
        session.snapshot(START_NS + (end - 60) * S, START_NS + end * S)
    read: list[int] = []
    real = Ranges._digested

    def counting(self: Ranges, first: int, last: int, capacity: float | None) -> object:
        read.append(last - first)
        return real(self, first, last, capacity)

    monkeypatch.setattr(Ranges, "_digested", counting)
    # WHEN it follows it for as long as the largest chunk is
    for end in range(200, 232):
        session.snapshot(START_NS + (end - 60) * S, START_NS + end * S)
    # THEN each window was digested by itself, and once with others of a small and a large chunk, and
    # a few at the beginning, where the last of a small chunk was never the newest
    assert read.count(32) == 1
    assert sum(size for size in read if size < 32) <= 3 * 32


def test_what_a_moving_range_left_behind_is_let_go(tmp_path: Path) -> None:
    # GIVEN a view that has followed a recording for longer than digests are kept without use
    session = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 300).session()
    for end in range(60, 300):
        session.snapshot(START_NS + (end - 60) * S, START_NS + end * S)

    # THEN what is kept is about what those looks needed, and its size is known
    assert len(session._ranges._digests) < 4 * ftdiag.analysis.ranges.LOOKS_KEPT
    assert (
        min(last for _, last, _ in session._ranges._digests)
        >= 300 - 60 - 2 * ftdiag.analysis.ranges.LOOKS_KEPT
    )
    assert set(session._ranges._used) == set(session._ranges._digests)
    assert session._ranges._cached_rows == sum(digest.rows for digest in session._ranges._digests.values())


def test_threads_that_come_and_go_and_reuse_a_tid(tmp_path: Path) -> None:
    # GIVEN a thread that ends and another that gets its tid
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.thread("first", tid=77).window({"first": [spent(4, "on_cpu"), absent(6)]})
    builder.thread("second", tid=77).window({"second": [absent(7), spent(3, "idle")]})
    # WHEN looked at
    first, second = builder.session().snapshot().threads
    # THEN they are two threads, each with its own time, and only the second is there now
    assert (first.info.tid, first.alive_ns, first.latest_state) == (77, S * 4 // 10, None)
    assert (second.info.tid, second.alive_ns, second.latest_state) == (77, S * 3 // 10, ThreadState.IDLE)


def test_a_thread_storm_is_listed_in_part_and_counted_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN more threads than are listed
    monkeypatch.setattr(ftdiag.analysis.threads, "MAX_THREADS", 5)
    threads = {f"t{i}": [spent(1 + i % 3, "on_cpu")] for i in range(20)}
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(threads)
    # WHEN looked at
    snapshot = builder.session().snapshot()
    # THEN the busiest are listed, the totals cover all, and the report says what is left out
    assert [each.cpu_ns for each in snapshot.threads] == [S * 3 // 10] * 5
    assert snapshot.metrics.threads == 20
    assert Gap("thread", "only the 5 with the most active time are listed", 15) in snapshot.quality.gaps


def test_roles(tmp_path: Path) -> None:
    # GIVEN one thread of every role WHEN looked at THEN each has its own
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.thread("main").thread("blas", python=False)
    builder.window(
        {
            "main": [spent(10, "idle")],
            "blas": [spent(10, "on_cpu")],
            "worker": [spent(10, "on_cpu")],
            "contended": [spent(10, "lock", lock="l")],
            "pool": [spent(10, "idle")],
            "odd": [spent(10, "unknown", syscall="futex")],
        }
    )
    snapshot = builder.session().snapshot()
    assert {each.info.name: each.role for each in snapshot.threads} == {
        "main": "main",
        "blas": "native",
        "worker": "worker",
        "contended": "worker",
        "pool": "idle",
        "odd": "waiting",
    }
    assert "17 % of thread-time waited in futex" in snapshot.quality.not_measured["locks"]


@pytest.mark.parametrize("group", ["runs", "counters", "native"])
def test_a_damaged_window_is_in_no_figure_and_said(tmp_path: Path, group: str) -> None:
    # GIVEN a recording with one damaged blob
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for _ in range(5):
        builder.window(
            {name: [spent(10, "on_cpu", at="a.py:1 work")] for name in "abcdefgh"},
            counters={name: counted(cpu_ns=S // 4, run_queue_ns=3 * S // 4) for name in "abcdefgh"},
            native=[(name, "a.py:1 work", "work", "eval", 25) for name in "abcdefgh"],
        )
    whole = builder.end().session().snapshot()
    with sqlite3.connect(tmp_path / "a") as database:
        database.execute("UPDATE column_data SET data = x'00' WHERE window = 3 AND name = ?", (group,))
    database.close()
    # WHEN looked at, in whatever order
    with Recording.open(tmp_path / "a") as recording:
        session = Session(recording)
        recording.counters(0, 5)
        snapshot = session.snapshot()
        timeline = session.timeline(None, None, 5)
    # THEN what runs, waits and lasts comes from the other four, and the damage shows
    assert snapshot.metrics.duration_ns == 4 * S
    assert snapshot.threads[0].alive_ns == 4 * S
    assert sum(line.total_ns for line in snapshot.hot) == pytest.approx(4 * 8 * S)
    assert snapshot.metrics.efficiency_ratio == pytest.approx(whole.metrics.efficiency_ratio)
    assert snapshot.metrics.useful_cores == pytest.approx(2.0)
    assert {gap.what: gap.count for gap in snapshot.quality.gaps} == {group: 1, "windows": 1}
    assert timeline is not None
    assert timeline.on_cpu_cores == (2.0, 2.0, None, 2.0, 2.0)


def test_a_recording_whose_counters_are_all_lost_has_no_figures(tmp_path: Path) -> None:
    # GIVEN eight threads for two cores, of whom samples say that they were on a core or wanted one
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0))
    for _ in range(3):
        builder.window(
            {name: [spent(10, "on_cpu", at="a.py:1 work")] for name in "abcdefgh"},
            native=[(name, "a.py:1 work", "work", "eval", 25) for name in "abcdefgh"],
        )
    builder.end()
    with sqlite3.connect(tmp_path / "a") as database:
        database.execute("UPDATE column_data SET data = x'00' WHERE name = 'counters'")
    database.close()
    # WHEN looked at
    snapshot = builder.session().snapshot()
    # THEN nothing is made of the samples alone, and why is said
    assert snapshot.metrics.efficiency_ratio is None
    assert snapshot.metrics.duration_ns == 0
    assert snapshot.quality.not_measured["efficiency"] == "every window of this range is damaged"


@pytest.mark.parametrize("window_id", [2**63 - 1, 2**62, 2**32 + 1])
def test_window_ids_at_the_end_of_their_range(tmp_path: Path, window_id: int) -> None:
    # GIVEN a recording whose last window has an id that no recording reaches, and the checksum for it
    builder = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 3).end()
    with sqlite3.connect(tmp_path / "a") as database:
        row = list(database.execute("SELECT * FROM window WHERE id = 3").fetchone())
        row[0] = window_id
        row[8] = row_checksum(*row[:8])
        database.execute("DELETE FROM window WHERE id = 3")
        database.execute(f"INSERT INTO window VALUES ({','.join('?' * 9)})", row)
    database.close()
    # WHEN looked at THEN that window is missing, the others are there
    snapshot = builder.session().snapshot()
    assert snapshot.metrics.duration_ns == 2 * S
    assert any(gap.what == "window" for gap in snapshot.quality.gaps)


def test_many_rows_are_not_taken_in_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a recording, and room for the rows of two windows
    builder = working(RecordingBuilder(tmp_path / "a", rate_hz=10), 8).end()
    monkeypatch.setattr(ftdiag.analysis.ranges, "MAX_CHUNK_ROWS", 4)
    read: list[int] = []
    original = Recording.all_samples

    def counted_reads(self: Recording, first: int, last: int) -> list[RunColumns]:
        read.append(last - first)
        return original(self, first, last)

    monkeypatch.setattr(Recording, "all_samples", counted_reads)
    # WHEN looked at THEN it is read two windows at a time
    assert builder.session().snapshot().metrics.duration_ns == 8 * S
    assert read[:4] == [2, 2, 2, 2]


def test_the_sum_over_parts_is_the_whole(tmp_path: Path) -> None:
    # GIVEN windows with jittering counters
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for number in range(100):
        cpu = S // 2 + (number % 7 - 3) * 1_000_003
        builder.window(
            {"w": [spent(5, "on_cpu", at="a.py:1 f"), spent(5, "lock", lock="l")]},
            counters={"w": counted(cpu_ns=cpu)},
        )
    session = builder.session()
    # WHEN it is looked at in two parts cut anywhere, and as a whole
    whole = session.snapshot().threads[0].states_ns
    cut = START_NS + 43 * S
    parts = [session.snapshot(None, cut).threads[0].states_ns, session.snapshot(cut).threads[0].states_ns]
    # THEN the parts add up to the whole
    assert {state: sum(part[state] for part in parts) for state in whole} == whole


def test_a_range_that_moves_with_the_recording_computes_little_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a recording of 100 s of which the last minute is looked at
    builder = RecordingBuilder(tmp_path / "one.ftdiag")
    for second in range(100):
        builder.window({"worker": [spent(20 + second % 60, ThreadState.ON_CPU, at="app.py:10 work")]})
    recording = builder.session().recording
    begin, end = recording.t0_ns, recording.t1_ns
    session = Session(recording)
    moved = session.snapshot(int(begin[0]), int(end[59]))
    computed: list[int] = []
    original = Ranges._digested

    def noted(self: Ranges, first: int, last: int, capacity: float | None) -> object:
        computed.append(last - first)
        return original(self, first, last, capacity)

    monkeypatch.setattr(Ranges, "_digested", noted)

    # WHEN it goes on second by second
    for position in range(1, 41):
        moved = session.snapshot(int(begin[position]), int(end[59 + position]))

    # THEN each step computes a few seconds, not the minute
    assert sum(computed) <= 40 * 12
    # AND the result is that of a fresh look
    assert moved == Session(recording).snapshot(int(begin[40]), int(end[99]))


def test_stacks_that_were_put_together_are_kept_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN twenty stacks of two frames, and room for five
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for line in range(20):
        builder.window({"worker": [spent(10, ThreadState.ON_CPU, at=f"app.py:{line} work < app.py:3 main")]})
    recording = builder.session().recording
    monkeypatch.setattr(ftdiag.recording.interned, "MAX_KEPT_FRAMES", 10)
    ids = range(FIRST_STACK_ID, len(recording.leaf_frames()))

    # WHEN all are looked at, twice THEN they are the same, and no more are kept than there is room for
    first = [recording.stack(stack) for stack in ids]
    assert [recording.stack(stack) for stack in ids] == first
    assert len(set(first)) == len(first) > 20
    kept = recording._interned._stack_values
    assert 0 < sum(map(len, kept.values())) <= 10
