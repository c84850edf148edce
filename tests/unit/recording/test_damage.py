"""Files that are no recordings, newer ones, and damaged ones: an error with a hint, or gaps, or the truth."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import RecordingBuilder, a_target, spent
from ftdiag.errors import RecordingError
from ftdiag.model import Confidence, ThreadState
from ftdiag.recording import schema
from ftdiag.recording.file import RecordingFile
from ftdiag.recording.interned import InternedTables
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from profiles import profile_of
from unit.recording.windows import SECOND_NS, Content, content, create, window, write

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WINDOWS = 62
FLIPS = int(os.environ.get("FTDIAG_TEST_FLIPS", "100"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a finished recording of a minute and a bit."""
    path = tmp_path_factory.mktemp("whole") / "a.ftdiag"
    write(path, WINDOWS)
    return path.read_bytes()


@pytest.fixture(scope="module")
def truth(whole: bytes, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """What is in it."""
    path = tmp_path_factory.mktemp("truth") / "a.ftdiag"
    path.write_bytes(whole)
    with Recording.open(path) as recording:
        return content(recording)


def assert_true_or_told(path: Path, truth: Content) -> str:
    """Reads a damaged file: an error with a hint, or gaps, or exactly the truth; says which."""
    try:
        with Recording.open(path) as recording:
            found = content(recording)
            damaged = recording.verify()
    except RecordingError as error:
        return "error" if error.what and error.hint else "an error without a hint"
    if not damaged:
        assert found == truth
        return "truth"
    assert found.target == truth.target
    assert found.settings == truth.settings
    assert found.end in (truth.end, None)
    text_is_lost = any(gap.what == "dictionary" for gap in damaged)
    for t0_ns, present in found.windows.items():
        expected = truth.windows[t0_ns]
        assert present["t1_ns"] == expected["t1_ns"]
        for name in ("counters", "costs", "process", "tick_ns"):
            # The first and the last window present say more than the others.
            if present.get(name) and name in expected:
                assert present[name] == expected[name]
        for name in ("runs", "profile"):
            if present.get(name) and name in expected and not text_is_lost:
                assert present[name] == expected[name]
    return "gaps"


def test_one_flipped_bit_is_found_or_harmless(whole: bytes, truth: Content, tmp_path: Path) -> None:
    # GIVEN a recording and many places in it: all of the header, a byte of each page's, a sample of the rest
    chance = random.Random(20)
    places = [*range(100), *(chance.randrange(len(whole)) for _ in range(FLIPS))]
    places += [page + chance.randrange(12) for page in range(0, len(whole), schema.PAGE_BYTES)]
    path = tmp_path / "a.ftdiag"
    outcomes = set()
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        # WHEN it is read with one bit flipped THEN nothing is wrong silently
        try:
            outcomes.add(assert_true_or_told(path, truth))
        except BaseException as error:
            error.add_note(f"flipped byte {place}: {whole[place]:#x} -> {flipped[place]:#x}")
            raise
        for companion in tmp_path.glob("a.ftdiag-*"):
            companion.unlink()
    assert outcomes == {"error", "truth", "gaps"}


def test_a_file_cut_anywhere(whole: bytes, truth: Content, tmp_path: Path) -> None:
    # GIVEN a recording
    path = tmp_path / "a.ftdiag"
    lengths = [
        *range(120),
        *range(120, len(whole), 1021),
        *range(0, len(whole), schema.PAGE_BYTES),
        len(whole) - 1,
    ]
    outcomes = set()
    for length in lengths:
        # WHEN it is cut THEN what is read is true or told
        path.write_bytes(whole[:length])
        outcomes.add(assert_true_or_told(path, truth))
        assert length == len(whole) or outcomes <= {"error", "gaps"}
    assert "gaps" in outcomes


@given(st.binary(max_size=5000))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_no_recording(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    # GIVEN any file
    path = tmp_path_factory.mktemp("bytes") / "a.ftdiag"
    path.write_bytes(data)

    # WHEN it is opened THEN the error says what it is
    with pytest.raises(RecordingError) as caught:
        Recording.open(path)
    assert caught.value.hint


def other_database(path: Path) -> None:
    """A database of another program."""
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE window (id INTEGER)")
    database.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "is a directory"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.write_text("hello " * 1000), "not a recording"),
        (other_database, "not a recording"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    # GIVEN something else
    path = tmp_path / "a.ftdiag"
    make(path)

    # WHEN it is opened THEN the error says what it is and what to do
    with pytest.raises(RecordingError, match=words) as caught:
        Recording.open(path)
    assert caught.value.hint


def changed(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Execute statements on a recording, as another program would."""
    database = sqlite3.connect(path, isolation_level=None)
    for statement, parameters in statements:
        database.execute(statement, parameters)
    database.close()


def set_meta(path: Path, key: str, value: object) -> None:
    """Replace a meta value, with its checksum."""
    text = schema.to_json(value)
    statement = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"
    changed(path, (statement, (key, text, schema.row_checksum(key, text))))


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    # GIVEN a recording of a later major version
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    set_meta(path, "schema", {"major": schema.SCHEMA_MAJOR + 1, "minor": 0, "writer": "7.8.9"})

    # WHEN it is opened THEN the error says which version reads it
    with pytest.raises(RecordingError, match="schema version 2") as caught:
        Recording.open(path)
    assert "7.8.9" in (caught.value.hint or "")


def test_a_newer_minor_version_is_read(tmp_path: Path) -> None:
    # GIVEN a recording with a group, a column, a meta key, a state and a confidence that we do not know
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    newer = window(writer, 0)
    newer.runs.state[0], newer.runs.confidence[0] = 200, 77
    writer.write_window(newer)
    writer.close()
    set_meta(path, "schema", {"major": schema.SCHEMA_MAJOR, "minor": 99, "writer": "7.8.9"})
    set_meta(path, "weather", {"rain": True})
    extra = schema.encode_group(1, "gpu", [("watts", [1, 2, 3], False)])
    changed(
        path,
        ("INSERT INTO column_data VALUES (1, 'gpu', ?)", (extra,)),
        ("CREATE TABLE later (x)", ()),
    )

    # WHEN it is read
    with Recording.open(path) as recording:
        runs = recording.samples(0)
        # THEN what we do not know is unknown, and nothing is damaged
        assert runs.state[0] == ThreadState.UNKNOWN
        assert runs.confidence[0] == Confidence.UNKNOWN
        assert profile_of(recording, 0, 1).state.max() <= ThreadState.UNKNOWN
        assert recording.verify() == ()


def test_a_view_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    # GIVEN a recording in which a table is a program
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    changed(
        path,
        ("DROP TABLE thread", ()),
        (
            "CREATE VIEW thread AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
            " SELECT x AS number, x AS changed, '' AS value, 0 AS checksum FROM n",
            (),
        ),
    )

    # WHEN it is opened THEN it is refused and not run
    with pytest.raises(RecordingError, match="view"):
        Recording.open(path)


def stored(path: Path, window_id: int, blob: bytes, name: str = schema.GROUP_RUNS) -> None:
    """Replace a blob of a window."""
    changed(path, ("UPDATE column_data SET data = ? WHERE window = ? AND name = ?", (blob, window_id, name)))


def indexed(path: Path, window_id: int, **values: int | str) -> None:
    """Change columns of a window's entry in the index, its checksum with them."""
    database = sqlite3.connect(path)
    row = dict(
        zip(
            INDEX, database.execute("SELECT * FROM window WHERE id = ?", (window_id,)).fetchone(), strict=True
        )
    )
    database.close()
    row |= values
    row["checksum"] = schema.row_checksum(*list(row.values())[:-1])
    changed(
        path,
        ("DELETE FROM window WHERE id = ?", (window_id,)),
        (f"INSERT INTO window VALUES ({','.join('?' * len(row))})", tuple(row.values())),
    )


INDEX = ("id", "t0_ns", "t1_ns", "ticks", "threads", "runs", "dictionary", "groups", "checksum")


RUN = {
    "thread": [0],
    "first_tick": [0],
    "ticks": [1],
    "state": [2],
    "stacks": [0],
    "stack": [0],
    "wait": [0],
    "holder": [0],
    "confidence": [0],
    "tick_ns": [0],
}


def encoded_run(**changes: list[int]) -> bytes:
    """The blob of one run, with other values in some columns."""
    return schema.encode_group(
        1, schema.GROUP_RUNS, [(name, values, False) for name, values in {**RUN, **changes}.items()]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ticks": [2]},
        {"first_tick": [1]},
        {"ticks": [-1]},
        {"thread": [schema.MAX_THREADS]},
        {"thread": [-1]},
        {"state": [256]},
        {"stack": [1]},
        {"stacks": [-1]},
        {"stacks": [2**40]},
        {"wait": [2**33]},
        {"holder": [schema.MAX_THREADS + 1]},
        {"confidence": [300]},
        {"tick_ns": [2**63]},
        {"state": [2, 2]},
        {"state": []},
        {"tick_ns": [1, 2]},
    ],
)
def test_columns_out_of_bounds_are_damage(tmp_path: Path, changes: dict[str, list[int]]) -> None:
    # GIVEN a window whose checksum is right and whose values are not
    path = tmp_path / "a.ftdiag"
    write(path, 2)
    stored(path, 1, encoded_run(**changes))
    indexed(path, 1, runs=1, ticks=1)

    # WHEN it is read THEN it is skipped and told, and the next one is there
    with Recording.open(path) as recording:
        assert len(recording.samples(0)) == 0
        assert len(recording.samples(1)) == 6
        assert recording.damaged[0].what == schema.GROUP_RUNS


def test_ids_that_were_never_interned(tmp_path: Path) -> None:
    # GIVEN a run whose stack and wait are in no dictionary
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    stored(path, 1, encoded_run(stacks=[400_000], wait=[60_000]))
    indexed(path, 1, runs=1, ticks=1)

    # WHEN it is read THEN they are unkept, and that is told
    with Recording.open(path) as recording:
        runs = recording.samples(0)
        assert (runs.stack.tolist(), runs.wait.tolist()) == ([2], [0])
        assert recording.damaged[0].what == "dictionary"


def test_runs_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    # GIVEN runs in no order
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    stored(
        path,
        1,
        encoded_run(
            **{name: values * 3 for name, values in RUN.items() if name not in ("stacks",)}
            | {"thread": [1, 0, 0], "first_tick": [0, 2, 1], "tick_ns": [0, 1, 2]}
        ),
    )
    indexed(path, 1, runs=3, ticks=3)

    # WHEN they are read THEN they are by thread and time
    with Recording.open(path) as recording:
        runs = recording.samples(0)
        assert (runs.thread.tolist(), runs.first_tick.tolist()) == ([0, 0, 1], [1, 2, 0])


def test_a_thread_in_two_states_at_one_tick_is_damage(tmp_path: Path) -> None:
    # GIVEN two runs of one thread that overlap
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    twice = {name: values * 2 for name, values in RUN.items() if name not in ("stacks", "tick_ns")}
    stored(path, 1, encoded_run(**twice))
    indexed(path, 1, runs=2, ticks=1)

    # WHEN they are read THEN the window is skipped and told
    with Recording.open(path) as recording:
        assert len(recording.samples(0)) == 0
        assert recording.damaged[0].why == "a thread is in two states at one tick"


@pytest.mark.parametrize(
    "values",
    [
        {"runs": 5},
        {"ticks": 19},
        {"threads": 2},
        {"t1_ns": 2**62},
        {"t0_ns": -(2**62)},
        {"t0_ns": 500_000_000},
        {"ticks": -1},
        {"ticks": 2**40},
        {"id": 2**63 - 1},
        {"id": 2**40},
        {"dictionary": 2**62},
        {"dictionary": -1},
        {"groups": ""},
        {"groups": "runs"},
        {"groups": "counters"},
    ],
)
def test_an_index_that_says_something_else_is_damage(tmp_path: Path, values: dict[str, int | str]) -> None:
    # GIVEN three windows, the second of which has an entry in the index that cannot be right
    path = tmp_path / "a.ftdiag"
    write(path, 3)
    indexed(path, 2, **values)

    # WHEN everything is read THEN the window is left out whole, and told; the other two are there
    with Recording.open(path) as recording:
        damaged = recording.verify()
        positions = [p for p in range(len(recording)) if not recording.left_out(p, p + 1)[0]]
        assert [int(recording.t0_ns[position]) // 10**9 for position in positions] == [0, 2]
        assert {gap.what for gap in damaged} & {"window", "windows"}
        for position in set(range(len(recording))) - set(positions):
            assert len(recording.samples(position)) == 0
            assert len(recording.counters(position, position + 1)) == 0
            assert len(recording.costs(position, position + 1)) == 0


COUNTED = {name: [0] for name in schema.COUNTER_COLUMNS} | {"cost": [0] * 6, "process": [0] * 6}


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_ns": [-2]},
        {"cpu_ns": [2**62]},
        {"cpu_ns": [4_000_000_001]},
        {"run_queue_ns": [4_000_000_001]},
        {"alive_ns": [1_145_000_001]},
        {"voluntary_switches": [-(2**40)]},
        {"minor_faults": [2**61]},
        {"cost": [-1, 0, 0, 0, 0, 0]},
        {"cost": [2**60, 0, 0, 0, 0, 0]},
        {"process": [0, 0, 0, 2**61, 0, 0]},
        {"process": [0, 0, 0, 0, 2**61, 0]},
        {"process": [0, 0, 0, 0, 0, 2**61]},
        {name: [0, 0] for name in schema.COUNTER_COLUMNS},
    ],
)
def test_counters_that_no_thread_can_have_are_damage(tmp_path: Path, changes: dict[str, list[int]]) -> None:
    # GIVEN a window of a second with the right checksum, in which a thread ran for hours, or less than 0
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    columns = COUNTED | changes
    blob = schema.encode_group(1, schema.GROUP_COUNTERS, [(name, columns[name], False) for name in columns])
    stored(path, 1, blob, schema.GROUP_COUNTERS)
    indexed(path, 1, threads=len(columns["thread"]))

    # WHEN it is read THEN it has no counters, that is told, and its runs do not count either
    with Recording.open(path) as recording:
        assert len(recording.counters(0, 1)) == 0
        assert recording.damaged[0].what == schema.GROUP_COUNTERS
        assert len(recording.samples(0)) == 0
        assert recording.left_out(0, 1).tolist() == [True]


def test_a_window_shorter_than_its_ticks_is_damage(tmp_path: Path) -> None:
    # GIVEN a recording in which a window with the ticks of a second is 9 ns long
    path = tmp_path / "a.ftdiag"
    write(path, 3)
    indexed(path, 2, t1_ns=SECOND_NS + 9)

    # WHEN it is read THEN the window has no figures, and nobody used millions of cores
    with Recording.open(path) as recording:
        assert len(recording.samples(1)) == 0
        assert any("a tick's time" in gap.why for gap in recording.damaged)
        assert recording.left_out(0, 3).tolist() == [False, True, False]
        capacity = Session(recording).snapshot().metrics.capacity_cores
        assert capacity is None or capacity < 1000


def test_a_share_of_threads_above_all_is_damage(tmp_path: Path) -> None:
    # GIVEN native samples of 1.016 times all threads
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    columns = {name: [0] for name in schema.NATIVE_COLUMNS} | {"facts": [0, 1_016_192]}
    blob = schema.encode_group(1, schema.GROUP_NATIVE, [(name, columns[name], False) for name in columns])
    changed(path, ("INSERT INTO column_data VALUES (1, 'native', ?)", (blob,)))
    indexed(path, 1, groups="runs,counters,native")

    # WHEN it is read THEN it is damage
    with Recording.open(path) as recording:
        assert recording.native(0, 1).sampled_ratio is None
        assert recording.damaged[0].why == "more than all threads were sampled"


@pytest.mark.parametrize("said", ["NaN", "Infinity", "1e300"])
def test_a_capacity_that_is_none_is_not_measured(tmp_path: Path, said: str) -> None:
    # GIVEN a recording that says nonsense of the cores its program may use
    path = tmp_path / "a.ftdiag"
    with closing(RecordingBuilder(path, target=a_target(capacity_cores=1e300))) as builder:
        builder.window({"w": [spent(1, "work")]})
    with closing(sqlite3.connect(path)) as database:
        ((value,),) = database.execute("SELECT value FROM meta WHERE key = 'target'")
    value = value.replace("1e+300", said)
    row = (value, schema.row_checksum("target", value))
    changed(path, ("UPDATE meta SET value = ?, checksum = ? WHERE key = 'target'", row))
    # WHEN it is read, THEN there is none, and the reason is in words
    with Recording.open(path) as recording:
        assert recording.target.capacity_cores is None
        reason = recording.target.capacity_reason or ""
        assert "makes no sense" in reason
        assert "nan" not in reason
        assert "inf" not in reason


def test_what_a_file_says_of_itself_is_bounded(tmp_path: Path) -> None:
    # GIVEN a dictionary delta far behind the last one, and windows far apart
    path = tmp_path / "a.ftdiag"
    write(path, 2)
    changed(path, (f"UPDATE dictionary SET seq = {2**31} WHERE seq = 2", ()))
    indexed(path, 2, id=2**31, dictionary=2**31)
    changed(path, ("UPDATE column_data SET window = ? WHERE window = 2", (2**31,)))

    # WHEN it is read THEN what lies between is counted, not walked
    with Recording.open(path) as recording:
        damaged = {gap.what: gap.count for gap in recording.verify()}
    assert damaged["window"] == 2**31 - 2
    assert damaged["dictionary"] > 2**31 - 4


def test_a_deep_stack_whose_root_is_lost_is_given_up_fast(tmp_path: Path) -> None:
    # GIVEN a hundred thousand stacks, each the caller of the next, without the delta that has the first
    tables = InternedTables()
    count = 100_000
    blob = dictionary_blob(
        2,
        first=[0, 1, 9, 1],
        **{"stack.parent": [8, *range(9, 8 + count)], "stack.frame": [1] * count},
    )
    # WHEN they are taken in THEN all of them are lost, and that takes no time
    tables.add(2, blob)
    tables.settle()
    assert set(tables.leaf_frames().tolist()) == {-1}


def test_pages_that_are_used_again_and_again(tmp_path: Path) -> None:
    # GIVEN a recording whose table of windows is a tree of six levels, all branches of which are the same
    path = tmp_path / "a.ftdiag"
    write(path, 400)
    database = sqlite3.connect(path)
    (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'window'").fetchone()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.close()
    size = schema.PAGE_BYTES
    data = bytearray(path.read_bytes())
    leaf = int.from_bytes(data[(root - 1) * size + 8 : (root - 1) * size + 12], "big")
    branches = 400
    for level in range(6):
        below = leaf if level == 0 else pages + level
        page = bytearray(size)
        start = size - 5 * branches
        page[:12] = struct.pack(">BHHHBI", 5, 0, branches, start, 0, below)
        for branch in range(branches):
            page[12 + 2 * branch : 14 + 2 * branch] = struct.pack(">H", start + 5 * branch)
            page[start + 5 * branch : start + 5 * branch + 5] = struct.pack(">I", below) + bytes(
                [1 + branch % 100]
            )
        if level == 5:
            data[(root - 1) * size : root * size] = page
        else:
            data += page
    data[28:32] = struct.pack(">I", pages + 5)
    path.write_bytes(data)

    # WHEN it is opened THEN that ends, in an error or as damage
    assert outcome(path) in ("error", "gaps")


def test_a_read_without_an_end_is_ended(tmp_path: Path) -> None:
    # GIVEN a recording WHEN a read of it takes steps for ever THEN it is ended, with an error that says why
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    with (
        closing(RecordingFile(path)) as file,
        pytest.raises(RecordingError, match="without an end"),
        file.reading() as database,
    ):
        database.execute(endless).fetchone()


def test_a_blob_that_grows_without_end_is_damage(tmp_path: Path) -> None:
    # GIVEN a small blob that unpacks to more than the bound
    path = tmp_path / "a.ftdiag"
    write(path, 1)
    bomb = zstd.compress(bytes(schema.MAX_GROUP_BYTES + 1), options={201: 1})
    assert len(bomb) < 100_000
    stored(path, 1, bomb)

    # WHEN it is read THEN it is skipped and told
    with Recording.open(path) as recording:
        assert len(recording.samples(0)) == 0
        assert recording.damaged


def test_a_blob_of_another_window_is_damage(tmp_path: Path) -> None:
    # GIVEN two windows with the blobs of each other
    path = tmp_path / "a.ftdiag"
    write(path, 2)
    database = sqlite3.connect(path)
    (blob,) = database.execute("SELECT data FROM column_data WHERE window = 2 AND name = 'runs'").fetchone()
    database.close()
    stored(path, 1, blob)

    # WHEN they are read THEN the misplaced one is found
    with Recording.open(path) as recording:
        assert len(recording.samples(0)) == 0
        assert recording.damaged[0].count == 1


def dictionary_blob(seq: int, **changes: list[int]) -> bytes:
    """A delta of one string, frame and stack, with other values in some columns."""
    columns = {
        "first": [0, 1, 8, 1],
        "string.bytes": [1],
        "string.data": [65],
        "frame.filename": [0],
        "frame.function": [0],
        "frame.line": [5],
        "stack.parent": [0],
        "stack.frame": [1],
        **{
            f"wait.{name}": []
            for name in ("syscall", "detail", "lock_address", "lock_kind", "lock_type", "lock_label")
        },
    }
    return schema.encode_group(
        seq,
        schema.GROUP_DICTIONARY,
        [(name, values, False) for name, values in {**columns, **changes}.items()],
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"stack.parent": [8]},
        {"stack.parent": [9]},
        {"stack.parent": [3]},
        {"stack.frame": [2]},
        {"stack.frame": []},
        {"frame.filename": [1]},
        {"frame.line": [-4]},
        {"frame.line": []},
        {"string.bytes": [2]},
        {"string.bytes": [2**31]},
        {"string.data": [65_000]},
        {"first": [0, 1, 8]},
        {"first": [0, 0, 8, 1]},
        {"first": [2**62, 1, 8, 1]},
        {"first": [schema.MAX_STRINGS, 1, 8, 1]},
    ],
)
def test_a_dictionary_out_of_bounds_is_damage(tmp_path: Path, changes: dict[str, list[int]]) -> None:
    # GIVEN a dictionary whose checksum is right and whose values are not: a cycle, a missing frame, ...
    path = tmp_path / "a.ftdiag"
    write(path, 2)
    changed(path, ("UPDATE dictionary SET data = ? WHERE seq = 1", (dictionary_blob(1, **changes),)))

    # WHEN it is read
    with Recording.open(path) as recording:
        # THEN its stacks are unkept, that is told, and everything else is there
        assert "dictionary" in {gap.what for gap in recording.damaged}
        assert set(recording.samples(0).stack.tolist()) == {2}
        assert int(profile_of(recording, 0, 2).ticks.sum()) == 120
        assert len(recording.counters(0, 2)) == 6
        for stack in range(recording.parents().size):
            recording.stack(stack)


def outcome(path: Path) -> str:
    """What comes of reading everything in a file."""
    try:
        with Recording.open(path) as recording:
            return "gaps" if recording.verify() else "nothing told"
    except RecordingError as error:
        return "error" if error.hint else "an error without a hint"


def test_rows_of_wrong_types(tmp_path: Path) -> None:
    # GIVEN a recording in which every row of every table has values of other types
    for table, column in (
        ("thread", "value"),
        ("thread", "changed"),
        ("window", "t0_ns"),
        ("window", "groups"),
        ("window", "dictionary"),
        ("column_data", "data"),
        ("column_data", "window"),
        ("dictionary", "data"),
        ("meta", "value"),
        ("meta", "checksum"),
    ):
        for value in ("'text'", "x'00ff'", "1e300", "-9223372036854775808"):
            path = tmp_path / f"{table}-{column}.ftdiag"
            path.unlink(missing_ok=True)
            write(path, 2)
            changed(path, (f"UPDATE OR IGNORE {table} SET {column} = {value}", ()))

            # WHEN it is read THEN that is an error or told
            assert outcome(path) in ("error", "gaps"), (table, column, value)
