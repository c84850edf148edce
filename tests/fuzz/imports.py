"""Files of other profilers: speedscope, Chrome traces, collapsed stacks, pprof, Firefox, perf, JSON lines."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from ftdiag.errors import FtdiagError
from ftdiag.formats import importers, pprof_schema
from ftdiag.recording.reader import Recording
from fuzz.mutation import changed_bytes, changed_json, json_text
from fuzz.reporting import wrong_in_report

_ENDINGS: Final = ("", "-wal", "-shm", "-journal")
KINDS: Final = (
    "collapsed",
    "speedscope",
    "chrome",
    "evented",
    "complete",
    "firefox",
    "pprof",
    "perf",
    "jsonl",
)
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
    kind = chance.choice(KINDS)
    if kind in ("collapsed", "perf"):
        text = collapsed(chance) if kind == "collapsed" else perf(chance)
        return changed_bytes(text.encode(), chance)
    if kind == "pprof":
        return _mutant_of_pprof(chance)
    if kind == "jsonl":
        return _mutant_of_lines(chance)
    made: dict[str, Callable[[Random], Any]] = {
        "speedscope": speedscope,
        "evented": evented,
        "chrome": chrome_trace,
        "complete": complete_events,
        "firefox": firefox,
    }
    document: Any = made[kind](chance)
    if chance.random() < 0.35:
        return changed_bytes(json.dumps(document).encode(), chance)
    for _ in range(chance.choice((1, 1, 2, 4))):
        document = changed_json(document, chance)
    text = json_text(document)
    if chance.random() < 0.15:
        # The same key twice.
        text = re.sub('"(type|ts|weights|stack)":', r'"\1": -5, "\1":', text, count=3)
    return text.encode("utf-8", "surrogatepass")


def _mutant_of_lines(chance: Random) -> bytes:
    records: list[Any] = json_lines(chance)
    if chance.random() < 0.7:
        place = chance.randrange(len(records))
        records[place] = changed_json(records[place], chance)
    data = "\n".join(json_text(record) for record in records).encode("utf-8", "surrogatepass")
    return data if chance.random() < 0.5 else changed_bytes(data, chance)


def _mutant_of_pprof(chance: Random) -> bytes:
    """Values that cannot be in a message that can, and bytes of one."""
    message = pprof(chance)
    for _ in range(chance.choice((0, 1, 3))):
        number = chance.choice((0, 1, 2, 9, -1, 2**31, 2**62, -(2**62)))
        sample = chance.choice(message.sample)
        change = chance.randrange(7)
        if change == 0:
            sample.value[0] = number
        elif change == 1:
            sample.location_id.append(abs(number))
        elif change == 2:
            sample.label.add(key=number, str=number, num=number)
        elif change == 3:
            chance.choice(message.location).line.add(function_id=abs(number), line=number)
        elif change == 4:
            chance.choice(message.function).name = number
        elif change == 5:
            message.period = number
        else:
            chance.choice(message.sample_type).type = number
    data: bytes = message.SerializeToString()
    if chance.random() < 0.4:
        data = changed_bytes(data, chance)
    return gzip.compress(data, 1) if chance.random() < 0.5 else data


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


def evented(chance: Random) -> dict[str, Any]:
    """A speedscope file of functions that open and close."""
    document = speedscope(chance)
    for profile in document["profiles"]:
        events: list[dict[str, Any]] = []
        opened: list[int] = []
        at = 0.0
        for _ in range(chance.randrange(2, 20)):
            at += chance.random()
            if opened and chance.random() < 0.5:
                events.append({"type": "C", "frame": opened.pop(), "at": at})
            else:
                opened.append(chance.randrange(6))
                events.append({"type": "O", "frame": opened[-1], "at": at})
        del profile["samples"], profile["weights"]
        profile |= {"type": "evented", "events": events}
    return document


def complete_events(chance: Random) -> Any:
    """Trace events with lengths, of threads with names."""
    events: list[dict[str, Any]] = []
    for _ in range(chance.randrange(2, 20)):
        thread = chance.choice((1, 2, "pool"))
        at, length = chance.randrange(100_000), chance.randrange(100_000)
        name = f"f{chance.randrange(5)}"
        events.append({"ph": "X", "name": name, "pid": 7, "tid": thread, "ts": at, "dur": length})
    return events


def firefox(chance: Random) -> dict[str, Any]:
    """A processed profile as CPython 3.15 or ftdiag writes it."""
    threads = []
    in_ms = chance.random() < 0.5
    for number in range(chance.choice((1, 2))):
        count = chance.randrange(1, 12)
        samples = {
            "stack": [chance.choice((None, 0, 1, 2)) for _ in range(count)],
            "time": [10.0 * place for place in range(count)],
            "weight": [chance.random() * 20 for _ in range(count)] if in_ms else None,
            "weightType": "tracing-ms" if in_ms else "samples",
        }
        threads.append(
            {
                "name": f"w{number}",
                "tid": number,
                "pid": "7",
                "samples": samples,
                "stackTable": {"frame": [0, 1, 1], "prefix": [None, 0, 1]},
                "frameTable": {"func": [0, 1], "line": [3, None]},
                "funcTable": {"name": [0, 1], "fileName": [2, None]},
            }
        )
    return {
        "meta": {"interval": 10, "preprocessedProfileVersion": 57},
        "threads": threads,
        "shared": {"stringArray": ["f", "g", "/a.py"]},
    }


def pprof(chance: Random) -> Any:
    """A profile with two types of samples."""
    message = pprof_schema.profile()()
    message.string_table.extend(
        ["", "cpu", "nanoseconds", "f", "g", "/a.py", "thread", "w1", "samples", "count"]
    )
    message.sample_type.add(type=1, unit=2)
    message.sample_type.add(type=8, unit=9)
    message.period = 10_000_000
    message.period_type.unit = 2
    for number in (1, 2):
        message.function.add(id=number, name=2 + number, filename=5)
        message.location.add(id=number).line.add(function_id=number, line=number)
    for _ in range(chance.randrange(1, 9)):
        value = chance.randrange(10**9)
        sample = message.sample.add(location_id=[chance.choice((1, 2)), 1], value=[value, 3])
        sample.label.add(key=6, str=7)
    return message


def perf(chance: Random) -> str:
    """As `perf script` prints it."""
    lines = []
    for number in range(chance.randrange(1, 9)):
        thread = chance.choice((7, 8))
        lines.append(f"w{thread} 7/{thread} [001] {34 + number * 0.01:.6f}: 10101010 cpu-clock:ppp: ")
        for _ in range(chance.randrange(4)):
            name = chance.choice(("[unknown]", "_PyEval_Eval+0x3", "py::f:/a.py+0x1"))
            lines.append(f"\t  {chance.randrange(1 << 40):x} {name} (/usr/bin/python3)")
        lines.append("")
    return "\n".join(lines) + "\n"


def json_lines(chance: Random) -> list[Any]:
    """As CPython 3.15's profiler writes them."""
    about = {"v": 0, "run_id": "a"}
    counts = [chance.randrange(100) for _ in range(2)]
    return [
        {"type": "meta", **about, "sample_interval_usec": 1000},
        {"type": "string_table", **about, "strings": [{"str_id": n, "value": f"t{n}"} for n in range(3)]},
        {
            "type": "frame_table",
            **about,
            "frames": [{"frame_id": n, "path_str_id": 0, "func_str_id": n, "line": n} for n in range(2)],
        },
        {
            "type": "agg",
            **about,
            "samples_total": sum(counts),
            "entries": [
                {"frame_id": n, "self": count, "cumulative": count} for n, count in enumerate(counts)
            ],
        },
        {"type": "end", **about, "samples_total": sum(counts)},
    ]
