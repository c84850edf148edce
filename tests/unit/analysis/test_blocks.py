"""Blocks of windows that are joined, and stored: what is made of them is what all rows give."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import ftdiag.analysis.ranges
import ftdiag.analysis.stored
from builders import RecordingBuilder, Spent, a_reading, absent, spent
from ftdiag.analysis.ranges import Ranges
from ftdiag.analysis.stored import TABLES, TEXTS
from ftdiag.datatypes import replace
from ftdiag.model import (
    Collections,
    Confidence,
    Gap,
    GenerationCollections,
    MemoryKind,
    OtherProcess,
    ProcessCounters,
    SharedObject,
    SharedPlace,
)
from ftdiag.recording import summaries
from ftdiag.recording.additions import put_summaries
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from golden_files import GOLDEN

S: Final = 1_000_000_000
NAMES: Final = [f"w-{number}" for number in range(5)]
LINES: Final = [f"app.py:{line} work < app.py:3 main" for line in (10, 20, 30)]
ON_CORE: Final = ("work", "alloc", "gc", "spin", "unknown")
STATES: Final = ("on_cpu", "on_cpu", "lock", "lock", "idle", "io", "stopped", "runnable", "away")
WINDOWS: Final = 29
"""Three whole blocks of eight: ids 1 to 7, 8 to 15, 16 to 23; and the rest, 24 to 29."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight windows, of chunks of two: as good as long ones."""
    monkeypatch.setattr(ftdiag.analysis.ranges, "BLOCK_WINDOWS", 8)
    monkeypatch.setattr(ftdiag.analysis.ranges, "CHUNK_WINDOWS", 2)
    monkeypatch.setattr(ftdiag.analysis.ranges, "END_WINDOWS", 1)


def without_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is made of all rows."""
    with monkeypatch.context() as patch, Recording.open(path) as recording:
        patch.setattr(Ranges, "_block_end", lambda *_: None)
        return pictures(recording)


def pictures(recording: Recording) -> tuple[Any, ...]:
    """All that is made of a range: of all of it, and of one whose ends cut blocks."""
    session = Session(recording)
    whole = recording.span_ns()
    assert whole is not None
    made: list[Any] = []
    for begin, end in ((None, None), (whole[0] + 5 * S // 10, whole[1] - 3 * S // 10)):
        made += [
            session.snapshot(begin, end),
            session.timeline(begin, end, 7),
            session.lanes(begin, end, 7),
            session.flame_graph(begin, end),
            session.pauses(begin, end),
            session.hot_functions(begin, end),
            session.scaling(begin, end),
            session.history(0, begin, end, 5),
        ]
    return tuple(made)


def a_program(path: Path, seed: int) -> Path:
    """A finished recording in which anything may happen."""
    chance = random.Random(seed)
    builder = RecordingBuilder(path, rate_hz=100, native="199 Hz")
    for number in range(WINDOWS):
        threads = {name: parts(chance, number) for name in NAMES if chance.random() < 0.9 or number == 0}
        seen = [(name, line) for name, some in threads.items() for line in LINES if some]
        native = [
            (
                name,
                line,
                chance.choice(ON_CORE),
                "sym",
                1 + chance.randrange(9),
            )
            for name, line in seen
        ]
        if chance.random() < 0.1:
            builder.pause(7 * S)
        builder.window(
            threads,
            ticks=10,
            native=native if chance.random() < 0.8 else None,
            shared=[(LINES[0], SharedObject("CONFIG", "dict", Confidence.KNOWN))] if number % 3 == 0 else (),
            gaps=(Gap("stack", "torn", 1 + number),) if number % 4 == 0 else (),
            process=ProcessCounters(
                rss_bytes=(64 + number) << 20,
                threads=5,
                gil_enabled=None if number % 5 == 0 else False,
                machine_busy_ns=S // 5,
                cpu_ns=chance.randrange(S // 3),
                others=(OtherProcess(7, "make", number),),
            ),
            memory=a_reading({MemoryKind.PYTHON_HEAPS: 40 + number}, {0: (64, 128)}) if number % 2 else None,
            collections=collections(number) if seed % 2 else None,
            updates=[
                (SharedPlace("attribute", "total", "Bank", 77), NAMES[0], LINES[0], {"count": 2}),
                (SharedPlace("attribute", "total", "Bank", 77), NAMES[1], LINES[1], {"count": 1 + number}),
            ],
        )
    builder.end()
    return path


def parts(chance: random.Random, number: int) -> Sequence[Spent]:
    """Ten ticks of a thread."""
    left, made = 10, []
    while left:
        ticks = min(left, chance.choice((1, 2, 5, 10)))
        left -= ticks
        what = chance.choice(
            ("on_cpu", "on_cpu", "lock", "lock", "idle", "io", "stopped", "runnable", "away")
        )
        line = chance.choice(LINES)
        if what == "away":
            made.append(absent(ticks))
        elif what == "lock":
            label = chance.choice(("self._lock", "other", f"late-{number}"))
            holder = chance.choice((None, NAMES[0], NAMES[1]))
            made.append(spent(ticks, "lock", at=line, lock=label, holder=holder))
        elif what == "stopped":
            made.append(spent(ticks, "stopped", at=line, lock="world", holder=NAMES[2]))
        else:
            made.append(spent(ticks, what, at=line, syscall="read" if what == "io" else None))
    return made


def collections(number: int) -> Collections:
    """What the collector did in a window."""
    sums = (GenerationCollections(0, 1, 1000 + number, 10, 3),)
    return Collections(sums, array("B"), array("q"), array("q"))


def store(path: Path) -> int:
    """Add the summaries of all blocks; how many bytes they are."""
    with Recording.open(path) as recording:
        blocks = list(Ranges(recording).blocks_to_store(0))
        ids = recording.window_ids.tolist()
    assert [end - first for first, end, _ in blocks] == [7, 8, 8, 6]
    assert all(blobs for *_, blobs in blocks)
    for first, end, blobs in blocks:
        put_summaries(path, ids[first], ids[end - 1], blobs)
    return sum(len(blob) for *_, blobs in blocks for blob in blobs.values())


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Where two values differ by more than a millionth, and large ones (nanoseconds) by a few."""
    if isinstance(left, float) and isinstance(right, float | int):
        allowed = max(2e-6, 1e-6 * abs(left)) + (20 if abs(left) > 1e4 else 0)
        same = left == right or abs(left - right) <= allowed
        return [] if same else [f"{where}: {left} {right}"]
    if is_dataclass(left) and type(left) is type(right):
        return [
            line
            for each in fields(left)
            for line in differences(
                getattr(left, each.name), getattr(right, each.name), f"{where}.{each.name}"
            )
        ]
    if isinstance(left, Mapping):
        if left.keys() != right.keys():
            return [f"{where}: {set(left) ^ set(right)}"]
        return [line for key in left for line in differences(left[key], right[key], f"{where}[{key}]")]
    if isinstance(left, Sequence) and not isinstance(left, str | bytes | array):
        if len(left) != len(right):
            return [f"{where}: {len(left)} and {len(right)} of them"]
        pairs = zip(left, right, strict=True)
        return [line for place, (a, b) in enumerate(pairs) for line in differences(a, b, f"{where}[{place}]")]
    return [] if left == right else [f"{where}: {left} {right}"]


@pytest.mark.parametrize("seed", range(4))
def test_blocks_say_what_all_rows_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    # GIVEN a recording in which anything may happen
    path = a_program(tmp_path / "a", seed)
    of_rows = without_blocks(path, monkeypatch)
    # WHEN pictures are made of blocks THEN they are those of all rows
    with Recording.open(path) as recording:
        of_blocks = pictures(recording)
    assert differences(of_rows, of_blocks) == []
    # AND WHEN the blocks come out of the recording THEN they are the same to the last digit
    store(path)
    with monkeypatch.context() as patch, Recording.open(path) as recording:
        patch.setattr(Ranges, "_made_block", lambda *_: pytest.fail("made anew"))
        assert pictures(recording) == of_blocks


def test_blocks_of_other_versions_and_other_capacities_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a recording with stored blocks
    path = a_program(tmp_path / "a", 3)
    store(path)
    made: list[int] = []
    real = Ranges._made_block

    def counting(self: Ranges, first: int, last: int, capacity: float | None) -> Any:
        made.append(first)
        return real(self, first, last, capacity)

    monkeypatch.setattr(Ranges, "_made_block", counting)
    with Recording.open(path) as recording:
        expected = Session(recording).snapshot()
        assert made == []
        # WHEN the analysis is another one THEN they are not used
        monkeypatch.setattr(ftdiag.analysis.stored, "VERSION", 1_000_000)
        assert Session(recording).snapshot() == expected
    assert made == [0, 7, 15, 23]
    monkeypatch.undo()


def test_damaged_blocks_are_made_anew(tmp_path: Path) -> None:
    # GIVEN a recording with stored blocks, and any one of their parts
    path = a_program(tmp_path / "a", 5)
    store(path)
    with Recording.open(path) as recording:
        expected = Session(recording).snapshot()
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT window, name, data FROM column_data WHERE name LIKE 'summary.%'"
        stored = database.execute(query).fetchall()
    assert len({name for _, name, _ in stored}) == 13
    chance = random.Random(1)
    for number, (window, name, blob) in enumerate(stored[13:26]):
        place = chance.randrange(len(blob))
        flipped = blob[:place] + bytes([blob[place] ^ 1 << chance.randrange(8)]) + blob[place + 1 :]
        another = next(other for at, other_name, other in stored if other_name != name or at != window)
        # WHEN it is damaged, another one, or not there
        bad = (flipped, another, None)[number % 3]
        with closing(sqlite3.connect(path)) as database:
            database.execute("DELETE FROM column_data WHERE window = ? AND name = ?", (window, name))
            if bad is not None:
                database.execute("INSERT INTO column_data VALUES (?, ?, ?)", (window, name, bad))
            database.commit()
        # THEN the picture is the same
        with Recording.open(path) as recording:
            assert Session(recording).snapshot() == expected
        with closing(sqlite3.connect(path)) as database:
            database.execute("INSERT OR REPLACE INTO column_data VALUES (?, ?, ?)", (window, name, blob))
            database.commit()


def test_hostile_blocks_do_no_harm(tmp_path: Path) -> None:
    # GIVEN a recording whose stored blocks have anything that their bounds allow
    path = a_program(tmp_path / "a", 2)
    store(path)
    chance = np.random.default_rng(4)
    with Recording.open(path) as recording:
        parts = {
            name: summaries.decoded(recording.summary_parts(15)[name], 15, name, tables, TEXTS.get(name, ()))
            for name, tables in TABLES.items()
        }
    for name, tables in TABLES.items():
        if name == "facts":
            continue
        wild = {
            column: chance.integers(
                low, min(high, chance.choice([3, 40, high])), len(parts[name].columns[column]), endpoint=True
            )
            for table in tables
            for column, (low, high) in table.items()
        }
        bad = replace(parts[name], columns=wild)
        put_summaries(path, 15, 15, {name: summaries.encoded(15, name, bad)})
        # WHEN looked at THEN there are pictures, whatever they show
        with Recording.open(path) as recording:
            session = Session(recording)
            assert session.snapshot().metrics.duration_ns > 0
            assert session.lanes(None, None, 7) is not None
        put_summaries(path, 15, 15, {name: summaries.encoded(15, name, parts[name])})


def test_a_changed_analysis_has_another_version(tmp_path: Path) -> None:
    # GIVEN the blocks of a recording that never changes WHEN they are made THEN they are what they were
    # when VERSION was raised last. If not: raise it in analysis/stored.py (recordings have older summaries)
    # and write the file anew, as tests/golden/README.md says.
    made: dict[str, list[int]] = {}
    with Recording.open(a_program(tmp_path / "a", 1)) as recording:
        for first, end, blobs in Ranges(recording).blocks_to_store(0):
            for name, tables in TABLES.items():
                key = int(recording.window_ids[end - 1])
                part = summaries.decoded(blobs[name], key, name, tables, TEXTS.get(name, ()))
                for column, values in part.columns.items():
                    made[f"{first} {name} {column}"] = [len(values), int(values.sum())]
    path = GOLDEN / "blocks.json"
    if os.environ.get("FTDIAG_UPDATE_GOLDEN"):
        path.write_text("".join(f"{line}\n" for line in json.dumps(made, indent=0).splitlines()))
    expected = json.loads(path.read_text())
    assert made.keys() == expected.keys()
    assert expected["0 facts facts"] == made["0 facts facts"], "VERSION is among them"
    # Whole nanoseconds: some may be rounded the other way on another machine.
    assert [key for key in made if made[key][0] != expected[key][0]] == []
    assert [key for key in made if abs(made[key][1] - expected[key][1]) > 1000] == []
