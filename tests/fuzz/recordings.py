"""Recordings: accidents, and files made up with valid checksums and values that nothing can have.

Checksums find accidents. Here most mutants have right ones: rows and blobs are decoded, changed and stored
again as a writer would, so that only what a reader checks of the values themselves stands between them and a
figure.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

from builders import START_UNIX_NS, RecordingBuilder, a_lock, a_reading, counted, spent
from ftdiag.model import (
    Allocations,
    Confidence,
    Frame,
    Gap,
    LineAllocations,
    MemoryKind,
    Perturbation,
    ProcessCounters,
    SharedObject,
    ThreadAllocations,
)
from ftdiag.recording import schema
from ftdiag.recording.allocations import encode_allocations, encode_perturbation
from ftdiag.recording.columns import decode_columns
from ftdiag.recording.reader import Recording
from fuzz.exports import wrong_in_export
from fuzz.mutation import NUMBERS, TEXTS, changed_bytes, changed_json, json_text
from fuzz.reporting import wrong_in_report

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TABLES: Final = ("meta", "dictionary", "thread", "window", "column_data")
SQL_VALUES: Final = ("0", "-1", "'x'", "x'0001'", "1.5", str(2**62), "NULL", "''")
EVERYTHING: Final = 0.3
"""The share of mutants of which all that the cockpit shows is made, too."""
EXPORTED: Final = 0.2
"""The share of mutants that are written in another tool's format."""
WAYS: Final = {
    "bytes": 8,
    "cut": 4,
    "pages": 5,
    "tables": 10,
    "rows": 18,
    "columns": 32,
    "texts": 8,
    "json": 22,
    "bombs": 2,
}
"""How a recording is changed, and how often in so many."""
BOMBS: Final = (65, 600)
"""MiB to which what is small can grow."""
_REFUSED: Final = (
    sqlite3.Error,
    OverflowError,
    UnicodeError,
    RecursionError,  # JSON that an earlier change nested
    StopIteration,  # a number that fits no column any more
    schema.DamagedBlob,
)
"""With what a change of a recording ends that cannot be made."""
_ENDINGS: Final = ("", "-wal", "-shm", "-journal")
SAMPLES: Final = Path(__file__).parents[2] / "samples" / "recordings"


class Recordings:
    """Short recordings of everything that can be in one, and those of real programs that come with ftdiag."""

    name = "recordings"
    share = 70

    def prepare(self, folder: Path) -> None:
        """Make the short ones; read the others."""
        self._path = folder / "mutant.ftdiag"
        whole = folder / "whole.ftdiag"
        build_everything(whole)
        real = sorted(SAMPLES.glob("*/*.ftdiag"))
        # Real ones are sixty seconds long and take six times as long to look at: a few of them.
        self._short = [whole.read_bytes()]
        for mebibytes in BOMBS:
            _bomb(mebibytes)
        self._long = [path.read_bytes() for path in real[:: max(1, len(real) // 12)]]

    def attempt(self, chance: Random) -> list[str]:
        """Make a mutant, open it, make all reports."""
        self._write(chance)
        with Recording.open(self._path) as recording:
            wrong = wrong_in_report(recording, everything=chance.random() < EVERYTHING)
            if chance.random() < EXPORTED:
                wrong += wrong_in_export(recording, chance)
            return wrong

    def _write(self, chance: Random) -> None:
        for ending in _ENDINGS:
            Path(f"{self._path}{ending}").unlink(missing_ok=True)
        is_long = bool(self._long) and chance.random() < 0.06
        data = chance.choice(self._long if is_long else self._short)
        way = chance.choices(list(WAYS), list(WAYS.values()))[0]
        if way == "bytes":
            data = changed_bytes(data, chance) if chance.random() < 0.3 else _flipped(data, chance)
        elif way == "cut":
            data = data[: chance.randrange(len(data))]
        elif way == "pages":
            data = _with_other_page(data, chance)
        self._path.write_bytes(data)
        if way not in ("bytes", "cut", "pages"):
            with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
                database.execute("PRAGMA journal_mode=OFF")
                database.execute("PRAGMA synchronous=OFF")
                for _ in range(chance.choice((1, 1, 2, 4))):
                    # Two changes may not go together, and some values SQLite itself refuses.
                    with suppress(*_REFUSED):
                        _change(database, way, chance)


def build_everything(path: Path) -> None:
    """A recording of three windows with all groups, many states, locks, texts, memory, a perturbation."""
    builder = RecordingBuilder(path, rate_hz=20, native="measured")
    lock = a_lock("self._lock")
    threads = ("main", "a", "b", "c")
    for number in range(3):
        builder.window(
            {
                "main": [spent(20, "idle", at="app.py:3 main", syscall="futex")],
                "a": [
                    spent(12, "on_cpu", at="work.py:10 work < app.py:5 serve"),
                    spent(8, "io", syscall="read"),
                ],
                "b": [
                    spent(10, "lock", lock=lock, at="work.py:12 work < app.py:5 serve", holder="a"),
                    spent(6, "on_cpu", at="work.py:13 work < app.py:5 serve"),
                    spent(4, "stopped", at="work.py:13 work < app.py:5 serve", holder="c"),
                ],
                "c": [
                    spent(9, "on_cpu", at="gc.py:1 collect < app.py:5 serve"),
                    spent(6, "object_lock", lock="orders", at="work.py:20 put < app.py:5 serve"),
                    spent(5, "unknown", syscall="futex"),
                ],
            },
            counters={
                name: counted(run_queue_ns=40_000_000, minor_faults=100, migrations=2) for name in threads
            },
            native=[
                ("a", "work.py:10 work < app.py:5 serve", "work", "_PyEval_EvalFrameDefault", 30),
                ("a", "work.py:10 work < app.py:5 serve", "atomic", "_Py_DecRefShared", 12),
                ("b", "work.py:13 work < app.py:5 serve", "alloc", "mi_malloc", 9),
                ("c", "gc.py:1 collect < app.py:5 serve", "gc", "gc_collect_main", 14),
            ],
            gaps=[Gap("stack", "torn", 2)],
            process=ProcessCounters(64 << 20, 4, False, 1_500_000_000, 10_000_000, 1_400_000_000),
            shared=[("work.py:10 work", SharedObject("CONFIG", "dict", Confidence.KNOWN))],
            memory=a_reading(
                {MemoryKind.PYTHON_HEAPS: 40, MemoryKind.LIBC_HEAP: 12}, {1: (64, 900), 2: (64, -1)}
            ),
        )
        builder.pause(0 if number else 250_000_000)
    builder.end()
    begin_ns = builder.now_ns - 500_000_000
    rows = {
        f"{schema.META_PERTURBATION}0": encode_perturbation(
            Perturbation("memray", begin_ns, begin_ns + 1000)
        ),
        schema.META_ALLOCATIONS: encode_allocations(ALLOCATIONS),
    }
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for key, text in rows.items():
            _put(database, "meta", (key, text))


_LINE: Final = Frame("work.py", "work", 10)
ALLOCATIONS: Final = Allocations(
    pid=4100,
    command="python app.py",
    begin_unix_ns=START_UNIX_NS,
    duration_ns=3_000_000_000,
    python_allocators=True,
    aggregated=False,
    cut_short=False,
    count=9000,
    size_bytes=1 << 24,
    temporary=4000,
    peak_bytes=1 << 20,
    left_count=12,
    left_bytes=1 << 12,
    lines=(
        LineAllocations(
            _LINE, 2, 9000, 1 << 24, 4000, 1 << 20, 12, 1 << 12, (_LINE, Frame("app.py", "serve", 5))
        ),
    ),
    threads=(ThreadAllocations(1, "worker", 9000, 1 << 24, 4000, 12, 1 << 12),),
)
"""A capture of memray that belongs to the recording."""


def _flipped(data: bytes, chance: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 10, 100))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _with_other_page(data: bytes, chance: Random) -> bytes:
    pages = len(data) // schema.PAGE_BYTES
    begin, other = (schema.PAGE_BYTES * chance.randrange(pages) for _ in range(2))
    page = (
        data[other : other + schema.PAGE_BYTES]
        if chance.random() < 0.6
        else chance.randbytes(schema.PAGE_BYTES)
    )
    return data[:begin] + page + data[begin + schema.PAGE_BYTES :]


def _put(database: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> None:
    """Store a row with the checksum that belongs to it."""
    values = (*row, schema.row_checksum(*row))
    database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(values))})", values)


def _one(database: sqlite3.Connection, table: str, chance: Random) -> list[Any]:
    rows = database.execute(f"SELECT * FROM {table}").fetchall()
    if not rows:
        raise schema.DamagedBlob("nothing is left in it")
    return list(chance.choice(rows))


def _change(database: sqlite3.Connection, way: str, chance: Random) -> None:
    if way == "tables":
        _change_table(database, chance)
    elif way == "rows":
        _change_row(database, chance)
    elif way == "columns":
        _change_columns(database, chance)
    elif way == "texts":
        seq, blob = _one(database, "dictionary", chance)
        columns = _decoded(blob, seq, schema.GROUP_DICTIONARY)
        _change_texts(columns, chance)
        database.execute(
            "UPDATE dictionary SET data = ? WHERE seq = ?",
            (_encoded(seq, schema.GROUP_DICTIONARY, columns), seq),
        )
    elif way == "json":
        _change_json(database, chance)
    else:
        bomb = _bomb(chance.choice(BOMBS))
        if chance.random() < 0.5:
            database.execute("UPDATE dictionary SET data = ?", (bomb,))
        else:
            name = chance.choice((schema.GROUP_RUNS, schema.GROUP_COUNTERS, schema.GROUP_NATIVE))
            database.execute("UPDATE column_data SET data = ? WHERE name = ?", (bomb, name))


@cache
def _bomb(mebibytes: int) -> bytes:
    """Small, and so large when it is unpacked; made once, because that takes as long as ten mutants."""
    return zstd.compress(bytes(mebibytes << 20), options={zstd.CompressionParameter.checksum_flag: 1})


def _change_table(database: sqlite3.Connection, chance: Random) -> None:
    table = chance.choice(TABLES)
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    if not columns:
        return  # an earlier change took it away
    column = chance.choice(columns)
    statements = (
        f"DROP TABLE {table}",
        f"DELETE FROM {table}",
        f"DELETE FROM {table} WHERE random() % 3 = 0",
        f"UPDATE OR IGNORE {table} SET {column} = {chance.choice(SQL_VALUES)}",
        f"ALTER TABLE {table} RENAME COLUMN {column} TO other",
        f"PRAGMA user_version={chance.choice((0, 1, 2, -1))}",
        f"PRAGMA application_id={chance.choice((0, 1))}",
    )
    database.execute(chance.choice(statements))


def _change_row(database: sqlite3.Connection, chance: Random) -> None:
    if chance.random() < 0.7:
        row = _one(database, "window", chance)[:-1]
        place = chance.randrange(len(row))
        if place == 7:
            groups = (
                "",
                "runs",
                "counters",
                "runs,runs",
                "runs,counters,native,shared,memory",
                "other",
                "," * 1000,
            )
            row[7] = chance.choice(groups)
        else:
            old = row[place]
            row[place] = chance.choice((*NUMBERS, old + 1, old - 1, -old, 2 * old))
        _put(database, "window", tuple(row))
    elif chance.random() < 0.5:
        row = _one(database, "thread", chance)[:-1]
        row[chance.randrange(2)] = chance.choice(NUMBERS)
        _put(database, "thread", tuple(row))
    else:
        database.execute("UPDATE OR IGNORE column_data SET window = window + 1 WHERE random() % 2 = 0")


def _decoded(blob: bytes, key: int, name: str) -> list[tuple[str, list[int]]]:
    layout = schema.decode_group(blob, key, name)[1]
    columns = decode_columns(blob, key, name, tuple(layout))
    return [(column, columns[column].tolist()) for column in layout]


def _encoded(key: int, name: str, columns: list[tuple[str, list[int]]]) -> bytes:
    return schema.encode_group(key, name, [(column, values, False) for column, values in columns])


def _change_columns(database: sqlite3.Connection, chance: Random) -> None:
    if chance.random() < 0.25:
        seq, blob = _one(database, "dictionary", chance)
        columns = _decoded(blob, seq, schema.GROUP_DICTIONARY)
        _change_some(columns, chance)
        changed = _encoded(seq, schema.GROUP_DICTIONARY, columns)
        database.execute("UPDATE dictionary SET data = ? WHERE seq = ?", (changed, seq))
        return
    window, name, blob = _one(database, "column_data", chance)
    columns = _decoded(blob, window, name)
    _change_some(columns, chance)
    changed = _encoded(window, name, columns)
    database.execute("UPDATE column_data SET data = ? WHERE window = ? AND name = ?", (changed, window, name))
    # What the index says of it is changed to fit: else that alone gives it away.
    row = database.execute("SELECT * FROM window WHERE id = ?", (window,)).fetchone()
    if row is not None and chance.random() < 0.7:
        values = list(row[:-1])
        lengths = {column: len(numbers) for column, numbers in columns}
        if name == schema.GROUP_RUNS:
            values[5], values[3] = lengths.get("thread", 0), lengths.get("tick_ns", 0)
        elif name == schema.GROUP_COUNTERS:
            values[4] = lengths.get("thread", 0)
        _put(database, "window", tuple(values))


def _change_some(columns: list[tuple[str, list[int]]], chance: Random) -> None:
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if not columns:
            return
        place = chance.randrange(len(columns))
        name, values = columns[place]
        number = chance.choice(NUMBERS)
        match chance.randrange(9):
            case 0 | 1 | 2 if values:
                values[chance.randrange(len(values))] = number
            case 3 if values:
                columns[place] = name, [number] * len(values)
            case 4:
                columns[place] = name, values[: chance.randrange(len(values) + 1)]
            case 5:
                columns[place] = name, values + [number] * chance.choice((1, 3, 1000))
            case 6 if values:
                chance.shuffle(values)
            case 7 if values:
                values[chance.randrange(len(values))] += chance.choice((1, -1, 7, -7, 1000, 100_000_000))
            case 8:
                _change_layout(columns, place, chance)


def _change_layout(columns: list[tuple[str, list[int]]], place: int, chance: Random) -> None:
    name, values = columns[place]
    match chance.randrange(4):
        case 0:
            del columns[place]
        case 1:
            columns.append((name, list(values)))
        case 2:
            columns[place] = chance.choice(columns)[0], values
        case _:
            columns[place] = name, [0] * chance.choice((0, 2**18, 2**20, 2**20 + 1))


def _change_texts(columns: list[tuple[str, list[int]]], chance: Random) -> None:
    found = dict(columns)
    data = bytes(value & 255 for value in found["string.data"])
    texts, begin = [], 0
    for length in found["string.bytes"]:
        texts.append(data[begin : begin + length])
        begin += length
    texts = [
        chance.choice(TEXTS).encode("utf-8", "surrogatepass")[: schema.MAX_STRING_BYTES]
        if chance.random() < 0.6
        else text
        for text in texts
    ]
    found["string.bytes"] = [len(text) for text in texts]
    found["string.data"] = list(b"".join(texts))
    columns[:] = list(found.items())


def _change_json(database: sqlite3.Connection, chance: Random) -> None:
    where = chance.choice(("meta", "meta", "thread", "columns"))
    if where == "meta":
        key, text, _ = _one(database, "meta", chance)
        _put(database, "meta", (key, json_text(changed_json(json.loads(text), chance))))
    elif where == "thread":
        number, changed, text, _ = _one(database, "thread", chance)
        _put(database, "thread", (number, changed, json_text(changed_json(json.loads(text), chance))))
    else:
        texts = ("gaps", "objects", "reasons")
        for window, name, blob in database.execute("SELECT window, name, data FROM column_data").fetchall():
            columns = _decoded(blob, window, name)
            if any(column in texts for column, _ in columns) and chance.random() < 0.5:
                columns = [
                    (column, list(json_text(changed_json(json.loads(bytes(values)), chance)).encode()))
                    if column in texts
                    else (column, values)
                    for column, values in columns
                ]
                changed_blob = _encoded(window, name, columns)
                database.execute(
                    "UPDATE column_data SET data = ? WHERE window = ? AND name = ?",
                    (changed_blob, window, name),
                )
                return
