"""Files of other profilers: speedscope, Chrome traces, py-spy's collapsed stacks, captures of memray."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any, Final

from ftdiag.errors import FtdiagError
from ftdiag.formats import importers
from ftdiag.recording.reader import Recording
from fuzz.mutation import changed_bytes, changed_json, json_text
from fuzz.reporting import wrong_in_report

_ENDINGS: Final = ("", "-wal", "-shm", "-journal")
REPORTED: Final = 0.15
"""The share of mutants of whose recording a report is made."""


class Imports:
    """A file of each format as its program writes it, changed as JSON or as bytes."""

    name = "imports"
    share = 178

    def prepare(self, folder: Path) -> None:
        """Where files lie."""
        self._source, self._output = folder / "profile", folder / "imported.ftdiag"

    def attempt(self, chance: Random) -> list[str]:
        """Write a file, import it, and look at some of the recordings."""
        self._source.write_bytes(_mutant(chance))
        _remove(self._output)
        try:
            importer = importers.importer_of(self._source)
            importer.import_file(self._source, self._output, lambda line: None)
        except FtdiagError:
            if any(Path(f"{self._output}{ending}").exists() for ending in _ENDINGS):
                return ["a part of a recording is left of what was refused"]
            raise
        if chance.random() >= REPORTED:
            return []
        with Recording.open(self._output) as recording:
            wrong = wrong_in_report(recording, everything=False)
            if recording.verify():
                wrong.append(f"the importer wrote damage: {recording.damaged[0].what}")
        return wrong


def _remove(path: Path) -> None:
    for ending in _ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)


def _mutant(chance: Random) -> bytes:
    kind = chance.randrange(3)
    if kind == 0:
        return changed_bytes(collapsed(chance).encode(), chance)
    document: Any = speedscope(chance) if kind == 1 else chrome_trace(chance)
    if chance.random() < 0.35:
        return changed_bytes(json.dumps(document).encode(), chance)
    for _ in range(chance.choice((1, 1, 2, 4))):
        document = changed_json(document, chance)
    text = json_text(document)
    if chance.random() < 0.15:
        # The same key twice.
        text = re.sub('"(type|ts|weights)":', r'"\1": -5, "\1":', text, count=3)
    return text.encode("utf-8", "surrogatepass")


def speedscope(chance: Random) -> dict[str, Any]:
    """As `py-spy record --format speedscope` writes it."""
    profiles = []
    for number in range(chance.choice((1, 2, 3))):
        count = chance.randrange(1, 12)
        profiles.append(
            {
                "type": chance.choice(("sampled", "sampled", "sampled", "evented")),
                "name": f'Process 7 Thread {100 + number} "worker"',
                "unit": chance.choice(("seconds", "milliseconds", "microseconds", "nanoseconds", "none")),
                "startValue": 0.0,
                "endValue": count * 0.01,
                "samples": [[chance.randrange(6) for _ in range(chance.randrange(5))] for _ in range(count)],
                "weights": [0.01] * count,
            }
        )
    frames = [{"name": f"f{number}", "file": f"/a/b{number}.py", "line": number + 1} for number in range(6)]
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "profiles": profiles,
        "shared": {"frames": frames},
        "activeProfileIndex": None,
        "exporter": "py-spy@0.4.0",
        "name": "py-spy profile",
    }


def chrome_trace(chance: Random) -> Any:
    """As `py-spy record --format chrometrace` writes it."""
    events: list[dict[str, Any]] = []
    for thread in (100, 101):
        events.append(
            {
                "args": {"name": f"w{thread}"},
                "cat": "",
                "name": "thread_name",
                "ph": "M",
                "pid": 7,
                "tid": thread,
                "ts": 0,
            }
        )
        time_us = 0
        open_calls: list[tuple[str, int]] = []
        for _ in range(chance.randrange(2, 20)):
            time_us += chance.randrange(1, 20_000)
            ends = bool(open_calls) and chance.random() < 0.5
            call = open_calls.pop() if ends else (f"f{chance.randrange(5)}", chance.randrange(50))
            if not ends:
                open_calls.append(call)
            arguments = {"filename": "/x.py", "line": call[1]}
            phase = "E" if ends else "B"
            events.append(
                {
                    "args": arguments,
                    "cat": "py-spy",
                    "name": call[0],
                    "ph": phase,
                    "pid": 7,
                    "tid": thread,
                    "ts": time_us,
                }
            )
    return events if chance.random() < 0.7 else {"traceEvents": events}


def collapsed(chance: Random) -> str:
    """As `py-spy record --format raw` writes it."""
    lines = []
    for _ in range(chance.randrange(1, 20)):
        frames = [
            f"f{chance.randrange(9)} (a/b{chance.randrange(4)}.py:{chance.randrange(99)})"
            for _ in range(chance.randrange(1, 6))
        ]
        if chance.random() < 0.7:
            frames.insert(0, f"thread (0x7F{chance.randrange(99)}): w{chance.randrange(5)}")
        lines.append(f"{';'.join(frames)} {chance.randrange(1, 90)}")
    return "\n".join(lines) + "\n"
