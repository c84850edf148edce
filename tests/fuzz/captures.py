"""Captures of memray: the files, through the confined reader, and what a reader that a file took over says.

In: captures that memray itself makes. Out: two families. A capture costs a process; the messages that come
out of that process cost nothing, and can be anything: memray's reader is C++ that trusts its input.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from array import array
from pathlib import Path
from random import Random
from typing import Any, Final

from ftdiag.formats.importers import memray, memray_reading
from ftdiag.recording.reader import Recording
from fuzz.mutation import NUMBERS, TEXTS, changed_bytes, changed_json, json_text
from fuzz.reporting import wrong_in_report

PROGRAM: Final = """
import sys, threading, memray
def churn():
    for number in range(300):
        bytearray(2000 + number)
form = getattr(memray.FileFormat, sys.argv[2])
with memray.Tracker(destination=memray.FileDestination(sys.argv[1], compress_on_exit=sys.argv[3] == "packed"),
                    file_format=form, trace_python_allocators=True):
    thread = threading.Thread(target=churn, name="churner")
    thread.start()
    thread.join()
    kept = [bytearray(9000) for _ in range(50)]
"""
FORMS: Final = (
    ("ALL_ALLOCATIONS", "plain"),
    ("ALL_ALLOCATIONS", "packed"),
    ("AGGREGATED_ALLOCATIONS", "plain"),
)
HEADER_BYTES: Final = 160
"""About what stands before the records: magic, version, statistics, the command line."""
REPORTED: Final = 0.2
"""The share of mutants of whose recording a report is made."""


class MemrayCaptures:
    """Whole captures, changed in the header, in the records, or cut off."""

    name = "memray captures"
    share = 2

    def prepare(self, folder: Path) -> None:
        """A capture of each form."""
        self._source, self._output = folder / "capture.bin", folder / "imported.ftdiag"
        self._whole = []
        for form, packed in FORMS:
            path = folder / f"{form}-{packed}"
            command = [sys.executable, "-c", PROGRAM, str(path), form, packed]
            subprocess.run(command, check=True, timeout=240)
            self._whole.append(path.read_bytes())

    def attempt(self, chance: Random) -> list[str]:
        """Write a capture and import it."""
        data = chance.choice(self._whole)
        if chance.random() < 0.4:
            data = _with_number(data, chance)
        else:
            at = chance.randrange(len(data) - 64)
            data = data[:at] + changed_bytes(data[at:], chance)
        self._source.write_bytes(data)
        self._output.unlink(missing_ok=True)
        memray.import_file(self._source, self._output, lambda words: None)
        return _wrong_in(self._output)


def _with_number(data: bytes, chance: Random) -> bytes:
    """Numbers in the header, or anywhere, that nothing can be."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        end = HEADER_BYTES if chance.random() < 0.6 else len(data)
        place = chance.randrange(8, end - 8)
        form, bits = chance.choice((("<Q", 64), ("<I", 32), ("<B", 8)))
        struct.pack_into(form, changed, place, chance.choice(NUMBERS) % (1 << bits))
    return bytes(changed)


class MemrayMessages:
    """What a reader says of a capture, with any of it changed."""

    name = "memray messages"
    share = 40

    def prepare(self, folder: Path) -> None:
        """Where recordings lie."""
        self._output = folder / "imported.ftdiag"

    def attempt(self, chance: Random) -> list[str]:
        """Take the messages in; make a recording of what came of it."""
        reading = memray_reading.Reading(Path("capture.bin"), lambda words: None)
        for kind, payload in _messages(chance):
            reading.take(kind, payload)
        allocations = reading.result()
        if chance.random() >= REPORTED:
            return []
        self._output.unlink(missing_ok=True)
        memray.write_recording(allocations, self._output, Path("capture.bin"))
        return _wrong_in(self._output)


def _wrong_in(path: Path) -> list[str]:
    with Recording.open(path) as recording:
        wrong = wrong_in_report(recording, everything=False)
        if recording.verify():
            wrong.append(f"the importer wrote damage: {recording.damaged[0].what}")
        if recording.allocations is None:
            wrong.append("what was imported is not in the recording")
    return wrong


def _messages(chance: Random) -> list[tuple[bytes, bytes]]:
    """As `memray_child` sends them, then changed."""
    aggregated = chance.random() < 0.3
    about: Any = {
        "begin_ms": 1_700_000_000_000,
        "end_ms": 1_700_000_003_000,
        "last_ms": 1_700_000_003_000,
        "pid": 7,
        "command": "python app.py",
        "python_allocators": True,
        "aggregated": aggregated,
        "peak_bytes": 1 << 20,
    }
    stacks: Any = [
        [number, [[f"f{chance.randrange(5)}", "/a/b.py", chance.randrange(90)] for _ in range(3)]]
        for number in range(1, 8)
    ]
    names: Any = {"1": "main", "2": "churner"}
    said: list[tuple[bytes, Any]] = [(b"M", about), (b"S", stacks)]
    if aggregated:
        said += [
            (kind, [chance.choice((1, 2, 3)), chance.randrange(9), chance.randrange(99), 4096] * 5)
            for kind in (b"H", b"L")
        ]
    else:
        for _ in range(chance.choice((1, 2))):
            records = []
            for _ in range(chance.randrange(1, 60)):
                address = 4096 * chance.randrange(1, 12)
                allocator = chance.choice((1, 3, 5, 9, 14, 15))
                records += [chance.choice((1, 2)), address, chance.randrange(9000), allocator]
                records.append(chance.randrange(8))
            said.append((b"R", records))
    said.append((b"T", names))
    if chance.random() < 0.3:
        said.append((b"A", {"last_ms": 1_700_000_001_000, "peak_bytes": 1 << 21, "cut_short": True}))
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(said, chance)
    return [(kind, _as_bytes(value)) for kind, value in said]


def _change(said: list[tuple[bytes, Any]], chance: Random) -> None:
    """One thing of one message, or which messages there are."""
    if not said:
        return
    place = chance.randrange(len(said))
    kind, value = said[place]
    how = chance.random()
    if how < 0.05:
        del said[place]
    elif how < 0.1:
        said.insert(chance.randrange(len(said) + 1), (kind, value))
    elif how < 0.15:
        said[place] = chance.choice((b"M", b"A", b"S", b"T", b"R", b"H", b"L", b"?")), value
    elif how < 0.25:
        said[place] = kind, changed_bytes(_as_bytes(value), chance)
    elif isinstance(value, bytes):
        said[place] = kind, changed_bytes(value, chance)
    elif kind in (b"R", b"H", b"L") and isinstance(value, list) and value:
        changed = list(value)
        for _ in range(chance.choice((1, 2, 5))):
            changed[chance.randrange(len(changed))] = chance.choice(NUMBERS)
        if chance.random() < 0.1:
            changed = changed * chance.choice((2, 500))
        said[place] = kind, changed
    elif isinstance(value, dict) and chance.random() < 0.2:
        said[place] = kind, {**value, chance.choice(list(value) or ["x"]): chance.choice((*TEXTS, *NUMBERS))}
    else:
        said[place] = kind, changed_json(value, chance)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, list) and value and all(type(number) is int for number in value):
        try:
            return array("q", value).tobytes()
        except OverflowError:
            return json.dumps(value).encode()
    return json_text(value).encode("utf-8", "surrogatepass")
