"""Files of speedscope: a profile for each thread, in the order of time.

In: the material of a range. Out: JSON of https://www.speedscope.app/file-format-schema.json, times in ns.
Where a thread did not work, its state and what it waited for stand as the innermost frame.
"""

from __future__ import annotations

import json
from typing import IO, Any, Final

from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.jsontext import JsonWriter
from ftdiag.formats.exporters.material import Material, state_frame
from ftdiag.model import Frame, ThreadInfo, ThreadState

NAME: Final = "speedscope"
ENDING: Final = ".speedscope.json"
NEEDS: Final = Needs.RANGE
EXTRA: Final = None
MOST: Final = 400_000
"""Samples of all threads: with more, a browser is slow."""
SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
COLUMNS: Final = ("state", "stack", "wait")


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the file; how coarse times had to become."""
    parts, note = material.stays(MOST, COLUMNS)
    frames = _Frames(material)
    threads: dict[int, _Thread] = {}
    begin = material.begin_ns
    for part in parts:
        columns = (part.thread, part.state, part.stack, part.wait, part.begin_ns, part.time_ns)
        for thread, state, stack, wait, at, time_ns in zip(*(each.tolist() for each in columns), strict=True):
            if thread not in threads:
                threads[thread] = _Thread(at - begin)
            threads[thread].add(frames.sample(stack, state, wait), time_ns)
    writer = JsonWriter(out)
    writer.begin("{")
    writer.member("$schema", SCHEMA)
    origin = material.origin()
    writer.member("exporter", origin["made_by"])
    writer.member("name", f"{origin['command']} (process {origin['process']})"[:200])
    writer.member("activeProfileIndex", 0)
    writer.member("ftdiag", origin)
    writer.member("shared", {"frames": frames.shared})
    writer.begin("[", "profiles")
    for index in sorted(threads):
        threads[index].write(writer, material.thread(index))
    writer.end("]")
    writer.end("}")
    return () if note is None else (note,)


class _Frames:
    """The frames of the file, by number."""

    def __init__(self, material: Material) -> None:
        self._recording = material.recording
        self._numbers: dict[Frame | str, int] = {}
        self._samples: dict[tuple[int, int, int], str] = {}
        self.shared: list[dict[str, Any]] = []

    def sample(self, stack: int, state: int, wait: int) -> str:
        """The numbers of a sample's frames, root first, as JSON."""
        known = self._samples.get((stack, state, wait))
        if known is None:
            numbers = [self._number(frame) for frame in reversed(self._recording.stack(stack))]
            below = state_frame(ThreadState(state), self._recording.wait(wait))
            if below is not None:
                numbers.append(self._number(below))
            known = self._samples[stack, state, wait] = json.dumps(numbers, separators=(",", ":"))
        return known

    def _number(self, frame: Frame | str) -> int:
        known = self._numbers.get(frame)
        if known is None:
            known = self._numbers[frame] = len(self.shared)
            if isinstance(frame, str):
                self.shared.append({"name": frame})
            else:
                told = {"name": frame.function, "file": frame.filename, "line": frame.line}
                self.shared.append({name: value for name, value in told.items() if value is not None})
        return known


class _Thread:
    """A thread's samples and weights."""

    def __init__(self, begin_ns: float) -> None:
        self._begin_ns = max(0.0, begin_ns)
        self._samples: list[str] = []
        self._weights: list[int] = []
        self._rest = 0.0

    def add(self, sample: str, time_ns: float) -> None:
        """One more; what rounding leaves goes to the next."""
        exact = time_ns + self._rest
        weight = round(exact)
        self._rest = exact - weight
        self._samples.append(sample)
        self._weights.append(weight)

    def write(self, writer: JsonWriter, info: ThreadInfo) -> None:
        """The profile."""
        begin = round(self._begin_ns)
        writer.begin("{")
        writer.member("type", "sampled")
        writer.member("name", f'Thread {info.tid} "{info.name}"')
        writer.member("unit", "nanoseconds")
        writer.member("startValue", begin)
        writer.member("endValue", begin + sum(self._weights))
        writer.array("samples", self._samples)
        writer.array("weights", map(str, self._weights))
        writer.end("}")
