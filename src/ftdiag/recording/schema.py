"""The format of a recording: names, limits, table definitions and the codecs of its blobs.

In: columns of integers, texts, rows' values. Out: checked blobs (zstd with content checksum) and back.
Only the standard library and zstd are imported: the sampler's process loads this module.

docs/recording-format.md describes the same format for people who write another reader.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import sub
from typing import Any, Final

from ftdiag.datatypes import dataclass
from ftdiag.model import FIRST_STACK_ID

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# --- versions -------------------------------------------------------------------------------------

APPLICATION_ID: Final = 0x66746467
"""SQLite's application_id of a recording: "ftdg"."""
FINISHED: Final = 1
"""SQLite's user_version of a recording that was ended; 0 before. Tells a lost end from a missing one."""
SCHEMA_MAJOR: Final = 1
"""Readers refuse a recording of a higher major version."""
SCHEMA_MINOR: Final = 9
"""Raised when groups, columns, meta keys or state codes are added; readers ignore what they do not know."""

# --- limits: a writer keeps them, a reader refuses what exceeds them ---------------------------------

PAGE_BYTES: Final = 4096
MAX_STRING_BYTES: Final = 4096
"""Longest text kept, in UTF-8 bytes; longer ones are cut and end in an ellipsis."""
MAX_STRINGS: Final = 1 << 19
MAX_FRAMES: Final = 1 << 19
MAX_STACKS: Final = 1 << 19
"""Stack ids are below this (nodes of the prefix tree, not call stacks)."""
MAX_WAITS: Final = 1 << 16
MAX_THREADS: Final = 1 << 20
"""Thread indexes are below this."""
MAX_STACK_DEPTH: Final = 4096
MAX_WINDOW_ROWS: Final = 1 << 20
"""Most rows of one column of a window."""
MAX_WINDOWS: Final = 1 << 22
"""Most windows of a recording: 48 days of one-second windows."""
MAX_WINDOW_ID: Final = 1 << 32
"""Window ids are up to this: a ring that drops its windows has room for 136 years."""
MAX_TIME_NS: Final = 1 << 60
"""Times are within this of 0 (36 years), so that sums and differences of a few of them fit 64 bits."""
COUNTER_SLACK_NS: Final = 2_000_000_000
"""A counter of a thread may exceed twice its window's length by this: a sampler without a core reads late."""
LIFE_SLACK_NS: Final = 20_000_000
"""A thread is seen at ticks, of which the last of a window may be a little before its end."""
MAX_CORES: Final = 1 << 16
"""Most cores of a machine: what a second of all of them adds up to is below this."""
MAX_GAPS: Final = 256
"""Most distinct gaps of one window; the rest are counted in one more."""
MAX_SHARED: Final = 256
"""Most objects of one window that are named as shared."""
MAX_SHARED_CHARACTERS: Final = 160
"""Longest name or type of one of them."""
MAX_UPDATES: Final = 512
"""Most rows of a window that say who was in the middle of updating what."""
MAX_GUARDS: Final = 16
"""Most locks of one of them."""
MAX_GENERATIONS: Final = 8
"""Most generations of a collector that a window tells of."""
MAX_COLLECTIONS: Final = 1 << 14
"""Most collections of a window whose own times are kept."""
MAX_MEMORY_REASONS: Final = 32
"""Most reasons why a part of a memory reading is missing."""
MAX_CULPRITS: Final = 256
MAX_CULPRIT_CHARACTERS: Final = 256
"""Longest name of a module that re-enabled the GIL: so many of them fit a row whatever they contain."""
MAX_CHAINS: Final = 16
"""Culprits whose importers are kept."""
MAX_IMPORTERS: Final = 8
MAX_DISTRIBUTIONS: Final = 8
"""Most names of the target's Linux distribution that are kept."""
MAX_HOOKS: Final = 8
"""Most profile and trace functions of the target that are kept."""
MAX_LIBRARIES: Final = 128
"""Most libraries of the target that are kept."""
MAX_LIBRARY_CHARACTERS: Final = 256
"""Longest path, name or version of one of them: so many of them fit a row whatever they contain."""
MAX_ENVIRONMENT: Final = 64
"""Most environment variables of the target that are kept."""
MAX_VARIABLE_CHARACTERS: Final = 1024
"""Longest "NAME=value" of one of them."""
MAX_COLUMNS: Final = 64
MAX_NAME_BYTES: Final = 64
MAX_JSON_BYTES: Final = 1 << 20
"""Longest JSON text of a meta or thread row."""
MAX_GROUP_BYTES: Final = 1 << 26
"""Largest blob after decompression."""
MAX_BLOB_BYTES: Final = 1 << 26
"""Largest value of a row as stored."""
MAX_EXPANSION: Final = 1 << 10
"""A blob unpacks to at most so many times its size, or to FREE_EXPANSION_BYTES: a small file stays small."""
FREE_EXPANSION_BYTES: Final = 1 << 22
MAX_ZSTD_WINDOW_LOG: Final = 26
"""zstd frames that ask for a larger window (memory) are refused; 2**26 = MAX_GROUP_BYTES."""

# --- reserved ids and names ---------------------------------------------------------------------------

UNKEPT_FRAME: Final = 0
"""Frame id: the table of frames is full. A stack with this frame is UNKEPT_STACK."""
FIRST_FRAME_ID: Final = 1
FIRST_WAIT_ID: Final = 1

GROUP_RUNS: Final = "runs"
GROUP_COUNTERS: Final = "counters"
GROUP_NATIVE: Final = "native"
GROUP_SHARED: Final = "shared"
GROUP_UPDATES: Final = "updates"
GROUP_MEMORY: Final = "memory"
GROUP_COLLECTIONS: Final = "collections"
GROUP_DICTIONARY: Final = "dictionary"
SUMMARY_PREFIX: Final = "summary."
"""How the names of parts of summaries begin: rows of `column_data` that the index of windows does not name,
added when the windows are there (since minor version 8)."""

RUN_COLUMNS: Final = ("thread", "first_tick", "ticks", "state", "stack", "wait", "holder", "confidence")
NATIVE_COLUMNS: Final = ("thread", "stack", "state", "frame", "samples")
UNSEEN_COLUMNS: Final = ("unseen_state", "unseen_frame", "unseen_samples")
"""Of the same group, where there are any (since minor version 9)."""
COUNTER_COLUMNS: Final = (
    "thread",
    "alive_ns",
    "cpu_ns",
    "run_queue_ns",
    "voluntary_switches",
    "involuntary_switches",
    "minor_faults",
    "major_faults",
    "migrations",
)
OPTIONAL_COUNTER_COLUMNS: Final = ("migrations",)
"""Later minor versions added them; -1 (not read) where a recording has none."""
COLLECTION_COLUMNS: Final = ("generation", "count", "total_ns", "looked_at", "freed")
TIMED_COLUMNS: Final = ("timed_generation", "begin_ns", "end_ns")
MEMORY_COLUMNS: Final = ("thread", "stack_bytes", "heap_bytes")
MEMORY_FACTS: Final = (
    "at_ns",
    "cost_ns",
    "rss_bytes",
    "pss_bytes",
    "uss_bytes",
    "swap_bytes",
    "virtual_bytes",
    "threads",
    "arenas",
    "ended_heap_bytes",
)
"""Each is stored plus 1; 0: not measured."""
LATER_MEMORY_FACTS: Final = ("libc_free_bytes", "heaps_free_bytes")
"""Stored behind them; older recordings end before."""
COST_FIELDS: Final = ("cpu_ns", "ticks", "late_ticks", "missed_ticks", "walked_stacks", "torn_stacks")

PROCESS_FIELDS: Final = (
    "rss_bytes",
    "threads",
    "gil_enabled",
    "machine_busy_ns",
    "throttled_ns",
    "cpu_ns",
    "ftdiag_ns",
)
REQUIRED_PROCESS_FIELDS: Final = 3
"""The first so many have been there since minor version 0."""

IMPORTED_PREFIX: Final = "import: "
"""How `source` of the settings begins in what was made of another program's file; its kind follows."""
NO_STACKS_PREFIX: Final = "none: "
"""How it begins where nobody read the stacks; the reason follows."""
NOT_MEASURED_PREFIX: Final = "not measured: "
"""How `native` of the settings begins where machine code was not sampled; the reason follows."""
QUOTA_PREFIX: Final = "cgroup CPU quota"
"""How `capacity_reason` of the process begins where that is one; older recordings say it so alone."""
META_SCHEMA: Final = "schema"
META_TARGET: Final = "target"
META_SETTINGS: Final = "settings"
META_RING: Final = "ring"
META_END: Final = "end"
META_ALLOCATIONS: Final = "allocations"
"""A capture of memray, by line and thread (since minor version 2)."""
META_PERTURBATION: Final = "intrusion."
"""With a number behind it: a time in which an instrument changed how the target ran (since minor 2)."""

TABLES: Final = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "dictionary": "CREATE TABLE dictionary (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "thread": "CREATE TABLE thread (number INTEGER PRIMARY KEY, changed INTEGER NOT NULL,"
    " value TEXT NOT NULL, checksum INTEGER NOT NULL)",
    "window": "CREATE TABLE window (id INTEGER PRIMARY KEY, t0_ns INTEGER NOT NULL, t1_ns INTEGER NOT NULL,"
    " ticks INTEGER NOT NULL, threads INTEGER NOT NULL, runs INTEGER NOT NULL, dictionary INTEGER NOT NULL,"
    " groups TEXT NOT NULL, checksum INTEGER NOT NULL)",
    "column_data": "CREATE TABLE column_data (window INTEGER NOT NULL, name TEXT NOT NULL,"
    " data BLOB NOT NULL, PRIMARY KEY (window, name))",
}
"""Table name -> its definition. A reader compares the text: it runs no view or trigger of a foreign file."""
INDEXES: Final = {"thread_changed": "CREATE INDEX thread_changed ON thread (changed)"}


class DamagedBlob(ValueError):
    """A blob or row is not what its checksum, bounds or layout say it must be."""


def largest_counter(length_ns: int) -> int:
    """What a thread can have used, or done, at most in a window of this length; -1 stands for not read."""
    return 2 * length_ns + COUNTER_SLACK_NS


def longest_life(length_ns: int) -> int:
    """How long a thread can have been there at most in a window of this length."""
    return length_ns + length_ns // 8 + LIFE_SLACK_NS


# --- rows ---------------------------------------------------------------------------------------------


def row_checksum(*values: int | str) -> int:
    """CRC-32 of a row's values, in the order of its columns: decimal or text, each ended by a zero byte."""
    return zlib.crc32("".join(f"{value}\0" for value in values).encode("utf-8", "surrogatepass"))


def to_json(value: object) -> str:
    """Compact JSON in ASCII (so that surrogates of undecodable names survive)."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def from_json(text: object) -> Any:
    """The value of a JSON text of at most MAX_JSON_BYTES. Raises DamagedBlob."""
    if not isinstance(text, str) or len(text) > MAX_JSON_BYTES:
        raise DamagedBlob("a JSON value is missing or too long")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedBlob(f"a JSON value cannot be read: {error}") from None


def bounded_text(text: str) -> str:
    """The text itself, or its beginning with an ellipsis where it exceeds MAX_STRING_BYTES."""
    # Four bytes a character is the most that UTF-8 takes: most texts need no encoding to be measured.
    if 4 * len(text) <= MAX_STRING_BYTES or len(encode_text(text)) <= MAX_STRING_BYTES:
        return text
    return text[: MAX_STRING_BYTES // 4 - 1] + "…"


def encode_text(text: str) -> bytes:
    """UTF-8 that keeps lone surrogates (undecodable bytes of file names)."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes) -> str:
    """The inverse of `encode_text`; bytes that are no UTF-8 become replacement characters."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


# --- columns ------------------------------------------------------------------------------------------

FLAG_DELTA: Final = 1
"""The column holds differences: the value is the running sum."""
FLAG_PLANES: Final = 2
"""All first bytes come first, then all second bytes, and so on: high bytes are mostly equal and pack well."""
KNOWN_FLAGS: Final = FLAG_DELTA | FLAG_PLANES

_UNSIGNED: Final = (("B", 0xFF), ("H", 0xFFFF), ("I", 0xFFFF_FFFF), ("Q", 0xFFFF_FFFF_FFFF_FFFF))
_SIGNED: Final = (("b", 0x7F), ("h", 0x7FFF), ("i", 0x7FFF_FFFF), ("q", 0x7FFF_FFFF_FFFF_FFFF))
ITEM_BYTES: Final = {"B": 1, "b": 1, "H": 2, "h": 2, "I": 4, "i": 4, "Q": 8, "q": 8}
"""Typecode -> bytes of one value, little-endian; the typecodes are those of `array` and `struct`."""

_GROUP_HEADER: Final = struct.Struct("<QBB")
_COLUMN_HEADER: Final = struct.Struct("<BBIB")
_COMPRESSION: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}
_KEPT: Final = threading.local()
_DECOMPRESSION: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG}
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_CHECKSUM_FLAG: Final = 0x04


def delta(values: Sequence[int]) -> list[int]:
    """First value, then the differences: sorted and counting columns become small numbers."""
    return list(chain(values[:1], map(sub, values[1:], values)))


def _narrow(values: Sequence[int]) -> array[int]:
    """The values in the narrowest integer type that holds them all."""
    if isinstance(values, array) and values.typecode == "B":
        return values
    low, high = (min(values), max(values)) if values else (0, 0)
    if low >= 0:
        return array(next(code for code, limit in _UNSIGNED if high <= limit), values)
    return array(next(code for code, limit in _SIGNED if high <= limit and low >= -limit - 1), values)


def _column_bytes(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    data = column.tobytes()
    size = column.itemsize
    return data if size == 1 else b"".join(data[plane::size] for plane in range(size))


def encode_group(key: int, name: str, columns: Iterable[tuple[str, Sequence[int], bool]]) -> bytes:
    """One blob of named columns.

    `key` and `name` say which row the blob belongs to, so that a misplaced blob is found out. Each
    column is (name, values, use differences). Values must fit 64 bits. Raises OverflowError otherwise.
    """
    headers: list[bytes] = []
    bodies: list[bytes] = []
    for column_name, values, as_delta in columns:
        column = _narrow(delta(values) if as_delta else values)
        flags = (FLAG_DELTA if as_delta else 0) | (FLAG_PLANES if column.itemsize > 1 else 0)
        headers.append(column_header(column_name, column.typecode, flags, len(column)))
        bodies.append(_column_bytes(column))
    return compressed_group(key, name, headers, bodies)


def column_header(name: str, typecode: str, flags: int, count: int) -> bytes:
    """What a blob says of one of its columns."""
    label = name.encode("ascii")
    return _COLUMN_HEADER.pack(ord(typecode), flags, count, len(label)) + label


def compressed_group(key: int, name: str, headers: Sequence[bytes], bodies: Sequence[bytes]) -> bytes:
    """One blob of columns that are encoded already."""
    label = name.encode("ascii")
    header = _GROUP_HEADER.pack(key, len(headers), len(label)) + label
    return _compressed(b"".join((header, *headers, *bodies)))


def _compressed(data: bytes) -> bytes:
    """One zstd frame, as `zstd.compress` makes it. Its context is kept: a window has five of these."""
    compressor: zstd.ZstdCompressor | None = getattr(_KEPT, "compressor", None)
    if compressor is None:
        compressor = _KEPT.compressor = zstd.ZstdCompressor(options=_COMPRESSION)
    try:
        return compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    except BaseException:
        del _KEPT.compressor  # it may be in the middle of a frame
        raise


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """Where a column lies in a decompressed group: `count` values from byte `offset` on."""

    typecode: str
    flags: int
    count: int
    offset: int


def decompress(blob: object) -> bytes:
    """The content of one zstd frame with content checksum, of at most MAX_GROUP_BYTES. Raises DamagedBlob."""
    if not isinstance(blob, bytes) or len(blob) > MAX_BLOB_BYTES:
        raise DamagedBlob("a blob is missing or too large")
    # A flipped bit could also switch the checksum off: a frame without one is not ours.
    if blob[:4] != _ZSTD_MAGIC or len(blob) < 6 or not blob[4] & _ZSTD_CHECKSUM_FLAG:
        raise DamagedBlob("a blob is not a checked zstd frame")
    decompressor = zstd.ZstdDecompressor(options=_DECOMPRESSION)
    most = min(MAX_GROUP_BYTES, max(FREE_EXPANSION_BYTES, MAX_EXPANSION * len(blob)))
    try:
        content = decompressor.decompress(blob, most)
    except (zstd.ZstdError, EOFError, MemoryError) as error:
        raise DamagedBlob(f"a blob cannot be decompressed: {error}") from None
    if not decompressor.eof or decompressor.unused_data:
        raise DamagedBlob("a blob is cut short, too large, or followed by something else")
    return content


def decode_group(blob: object, key: int, name: str) -> tuple[bytes, dict[str, EncodedColumn]]:
    """The decompressed bytes of a group and where each of its columns lies.

    Checks the checksum, that the blob belongs to (`key`, `name`), and that the columns fill it exactly;
    at most MAX_COLUMNS columns. Raises DamagedBlob.
    """
    content = decompress(blob)
    try:
        return content, _column_layout(content, key, name)
    except (struct.error, UnicodeDecodeError, IndexError):
        raise DamagedBlob("a blob's header is damaged") from None


def _column_layout(content: bytes, key: int, name: str) -> dict[str, EncodedColumn]:
    found_key, columns, name_bytes = _GROUP_HEADER.unpack_from(content, 0)
    position = _GROUP_HEADER.size
    found_name = content[position : position + name_bytes].decode("ascii")
    position += name_bytes
    if found_key != key or found_name != name:
        raise DamagedBlob(f"a blob of {found_name} {found_key} is stored as {name} {key}")
    if columns > MAX_COLUMNS:
        raise DamagedBlob("a blob has too many columns")
    described: list[tuple[str, str, int, int]] = []
    for _ in range(columns):
        typecode, flags, count, label_bytes = _COLUMN_HEADER.unpack_from(content, position)
        position += _COLUMN_HEADER.size
        label = content[position : position + label_bytes].decode("ascii")
        position += label_bytes
        if chr(typecode) not in ITEM_BYTES or flags & ~KNOWN_FLAGS or label_bytes > MAX_NAME_BYTES:
            raise DamagedBlob("a column's header is damaged")
        # Only plain bytes (texts) may be longer: they stay as they are, numbers grow when they are decoded.
        if count > MAX_WINDOW_ROWS and (flags or ITEM_BYTES[chr(typecode)] > 1):
            raise DamagedBlob("a column is too long")
        described.append((label, chr(typecode), flags, count))
    layout: dict[str, EncodedColumn] = {}
    for label, code, flags, count in described:
        layout[label] = EncodedColumn(code, flags, count, position)
        position += count * ITEM_BYTES[code]
    if position != len(content):
        raise DamagedBlob("a blob's columns do not fill it")
    return layout


FIRST_IDS: Final = {"string": 0, "frame": FIRST_FRAME_ID, "stack": FIRST_STACK_ID, "wait": FIRST_WAIT_ID}
"""Kind of a dictionary entry -> the id of its first entry; ids count up from there without a hole."""
ID_LIMITS: Final = {
    "string": MAX_STRINGS,
    "frame": MAX_FRAMES,
    "stack": MAX_STACKS,
    "wait": MAX_WAITS,
}
"""Kind of a dictionary entry -> its ids are below this."""
