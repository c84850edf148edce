"""Trace events of Chrome, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

In: the material of a range. Out: JSON with a track for each thread (slices by state, with the innermost
frame, the lock and its holder), arrows from a thread that waits for a lock to the thread that holds it, and
counter tracks: cores in each state over time. Times in microseconds from the beginning of the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Final

from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.analysis.stays import Stays
from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.jsontext import JsonWriter, text_of
from ftdiag.formats.exporters.material import Material, wait_name
from ftdiag.model import NO_WAIT, ThreadInfo, ThreadState

NAME: Final = "chrome"
ENDING: Final = ".trace.json"
NEEDS: Final = Needs.RANGE
EXTRA: Final = None
MOST: Final = 500_000
"""Slices of all threads: some 80 MB."""
MOST_ARROWS: Final = 100_000
MOST_COUNTS: Final = 3_600
"""Points of a counter track."""
COLUMNS: Final = ("state", "wait", "holder")
_OTHER_TIDS: Final = 1 << 30
"""Tracks of threads whose number another thread had before."""


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the trace; how coarse times had to become."""
    parts, note = material.stays(MOST, COLUMNS)
    trace = _Trace(material)
    writer = JsonWriter(out)
    writer.begin("{")
    writer.member("displayTimeUnit", "ms")
    writer.member("otherData", material.origin())
    writer.begin("[", "traceEvents")
    for part in parts:
        writer.elements(trace.slices(part))
    writer.elements(trace.names())
    writer.elements(trace.counts())
    writer.end("]")
    writer.end("}")
    return tuple(each for each in (note, trace.note()) if each is not None)


class _Trace:
    """Events as JSON texts."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._pid = min(material.recording.target.pid, (1 << 31) - 1)
        self._begin = material.begin_ns
        self._tracks: dict[int, int] = {}
        self._taken: set[int] = set()
        self._details: dict[tuple[int, int, int, int], str] = {}
        self._arrows = 0
        self._left_out = 0

    def slices(self, part: Stays) -> Iterator[str]:
        """The slices of a part, each with its arrow."""
        lock_states = {int(state) for state in LOCK_STATES}
        columns = (part.thread, part.state, part.stack, part.wait, part.holder)
        times = (
            ((part.begin_ns - self._begin) / 1e3).round(3).tolist(),
            (part.time_ns / 1e3).round(3).tolist(),
        )
        rows = zip(*(column.tolist() for column in columns), *times, strict=True)
        for thread, state, stack, wait, holder, begin_us, length_us in rows:
            track = self._track(thread)
            details = self._detail(state, stack, wait, holder)
            yield f'{{"ph":"X","pid":{self._pid},"tid":{track},"ts":{begin_us},"dur":{length_us},{details}}}'
            if holder and state in lock_states:
                yield from self._arrow(track, self._track(holder - 1), begin_us)

    def _arrow(self, waiter: int, holder: int, at_us: float) -> Iterable[str]:
        if self._arrows >= MOST_ARROWS:
            self._left_out += 1
            return ()
        self._arrows += 1
        both = f'"pid":{self._pid},"ts":{at_us},"id":{self._arrows},"cat":"lock","name":"waits for"'
        return (
            f'{{"ph":"s","tid":{waiter},{both}}}',
            f'{{"ph":"f","bp":"e","tid":{holder},{both}}}',
        )

    def _detail(self, state: int, stack: int, wait: int, holder: int) -> str:
        key = state, stack, wait, holder
        known = self._details.get(key)
        if known is None:
            recording = self._material.recording
            named = ThreadState(state)
            arguments: dict[str, str | int] = {}
            frames = recording.stack(stack)
            if frames:
                frame = frames[0]
                arguments["at"] = f"{frame.function} ({frame.filename}:{frame.line or '?'})"
            waited = recording.wait(wait) if wait != NO_WAIT else None
            words = wait_name(waited)
            if words is not None:
                arguments["lock" if waited is not None and waited.lock is not None else "waits for"] = words
            who = self._material.holder(holder)
            if who is not None:
                arguments["holder"] = who.name
            label = text_of(named.label)
            known = f'"name":{label},"cat":{text_of(named.group.value)},"args":{text_of(arguments)}'
            self._details[key] = known
        return known

    def _track(self, thread: int) -> int:
        known = self._tracks.get(thread)
        if known is None:
            tid = self._material.thread(thread).tid
            if not 0 < tid < _OTHER_TIDS or tid in self._taken:
                tid = _OTHER_TIDS + thread
            self._taken.add(tid)
            known = self._tracks[thread] = tid
        return known

    def names(self) -> Iterator[str]:
        """The names of the process and its tracks, the main thread first."""
        origin = self._material.origin()
        process = {"name": f"{origin['command']} (recorded by {origin['made_by']})"[:200]}
        yield text_of({"ph": "M", "pid": self._pid, "name": "process_name", "args": process})
        for thread, track in self._tracks.items():
            info: ThreadInfo = self._material.thread(thread)
            about = {"ph": "M", "pid": self._pid, "tid": track}
            yield text_of({**about, "name": "thread_name", "args": {"name": info.name}})
            place = -1 if info.main else thread
            yield text_of({**about, "name": "thread_sort_index", "args": {"sort_index": place}})

    def counts(self) -> Iterator[str]:
        """Cores in each state over time."""
        material = self._material
        windows = len(material.recording)
        line = material.session.timeline(material.t0_ns, material.t1_ns, min(max(1, windows), MOST_COUNTS))
        if line is None:
            return
        slices = len(line.on_cpu_cores)
        step = (line.t1_ns - line.t0_ns) / max(1, slices)
        for place in range(slices):
            at_us = round((line.t0_ns + place * step - self._begin) / 1e3, 3)
            cores = {state.label: values[place] for state, values in line.cores.items()}
            measured = {label: round(value, 4) for label, value in cores.items() if value is not None}
            if measured:
                event = {"ph": "C", "pid": self._pid, "ts": at_us, "name": "threads by state"}
                yield text_of({**event, "args": measured})
            used = line.on_cpu_cores[place]
            useful = None if line.useful_cores is None else line.useful_cores[place]
            named = {"in use": used, "useful": useful}
            known = {name: round(value, 4) for name, value in named.items() if value is not None}
            if known:
                yield text_of({"ph": "C", "pid": self._pid, "ts": at_us, "name": "cores", "args": known})

    def note(self) -> str | None:
        """What was left out."""
        return f"{self._left_out:,} arrows to holders are left out" if self._left_out else None
