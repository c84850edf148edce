"""Processed profiles of the Firefox Profiler: a track a thread, states as categories, waits as markers.

In: the material of a range. Out: JSON, version 57 of the processed format (CPython's own profiler writes the
same: Lib/profiling/sampling/gecko_collector.py, 3.15). Weights and times in ms; a sample's weight is its
thread-time. Markers: waits for locks with the holder, times in which a thread was stopped for all to stand
still, collections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Final

from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.analysis.stays import chunks
from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.jsontext import JsonWriter, text_of
from ftdiag.formats.exporters.material import Material, holder_name, wait_name
from ftdiag.model import Confidence, Frame, ThreadState

NAME: Final = "firefox"
ENDING: Final = ".firefox.json"
NEEDS: Final = Needs.RANGE
EXTRA: Final = None
MOST: Final = 400_000
MOST_MARKERS: Final = 100_000
"""Markers of all threads, the first ones."""
GECKO_VERSION: Final = 32
PROCESSED_VERSION: Final = 57
COLUMNS: Final = ("state", "stack", "wait", "holder", "confidence")
_COLOURS: Final = {
    ThreadState.WORK: "green",
    ThreadState.ON_CPU: "green",
    ThreadState.ATOMIC: "orange",
    ThreadState.SPIN: "orange",
    ThreadState.ALLOC: "yellow",
    ThreadState.GC: "brown",
    ThreadState.RUNNABLE: "magenta",
    ThreadState.LOCK: "red",
    ThreadState.OBJECT_LOCK: "red",
    ThreadState.RUNTIME_LOCK: "red",
    ThreadState.NATIVE_LOCK: "red",
    ThreadState.GIL: "red",
    ThreadState.STOPPED: "purple",
    ThreadState.IO: "blue",
    ThreadState.SLEEP: "lightblue",
    ThreadState.IDLE: "transparent",
}
_STATES: Final = tuple(ThreadState)
_PYTHON: Final = 0
"""The category of frames that are not the innermost."""
_CATEGORY: Final = {int(state): place + 1 for place, state in enumerate(_STATES)}


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the profile; how coarse times had to become."""
    parts, note = material.stays(MOST, COLUMNS)
    shared = _Shared(material)
    threads: dict[int, _Thread] = {}
    begin = material.begin_ns
    for part in parts:
        columns = (part.thread, part.state, part.stack, part.wait, part.holder, part.confidence)
        times = ((part.begin_ns - begin) / 1e6).round(6).tolist(), (part.time_ns / 1e6).round(6).tolist()
        for thread, state, stack, wait, holder, confidence, begin_ms, length_ms in zip(
            *(column.tolist() for column in columns), *times, strict=True
        ):
            if thread not in threads:
                threads[thread] = _Thread(shared, thread)
            threads[thread].add(state, stack, wait, holder, confidence, begin_ms, length_ms)
    writer = JsonWriter(out)
    writer.begin("{")
    writer.member("meta", _meta(material))
    writer.member("libs", [])
    writer.begin("[", "threads")
    for index in sorted(threads, key=lambda each: (not material.thread(each).main, each)):
        threads[index].write(writer, collections=material.thread(index).main)
    writer.end("]")
    writer.member("pages", [])
    writer.member(
        "shared",
        {"stringArray": list(shared.texts), "sources": {"length": 0, "uuid": [], "filename": []}},
    )
    writer.end("}")
    return () if note is None else (note,)


def _meta(material: Material) -> dict[str, Any]:
    recording, origin = material.recording, material.origin()
    rate = recording.settings.rate_hz
    target = recording.target
    cores = target.capacity_cores
    category = {"subcategories": ["Other"]}
    return {
        "interval": 1000 / rate if rate > 0 else 10.0,
        "startTime": material.begin_unix_ns / 1e6,
        "abi": target.machine or "",
        "misc": " ".join(f"{name}={words}" for name, words in origin.items())[:2000],
        "oscpu": target.machine or "",
        "platform": "Linux",
        "processType": 0,
        "categories": [
            {"name": "Python", "color": "grey", **category},
            *({"name": each.label, "color": _COLOURS.get(each, "grey"), **category} for each in _STATES),
        ],
        "stackwalk": 0,
        "toolkit": "",
        "version": GECKO_VERSION,
        "preprocessedProfileVersion": PROCESSED_VERSION,
        "appBuildID": "",
        "physicalCPUs": 0 if cores is None else max(1, round(cores)),
        "logicalCPUs": 0 if cores is None else max(1, round(cores)),
        "CPUName": "",
        "product": f"{origin['command']} (process {origin['process']})"[:200],
        "symbolicated": True,
        "importedFrom": origin["made_by"],
        "extensions": {"id": [], "name": [], "baseURL": [], "length": 0},
        "markerSchema": [
            _schema(
                "LockWait", "{marker.data.lock} held by {marker.data.holder}", ("lock", "holder", "state")
            ),
            _schema("Stopped", "stopped", ("holder",)),
            _schema("Collection", "generation {marker.data.generation}", ("generation",)),
        ],
    }


def _schema(name: str, label: str, fields: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "display": ["marker-chart", "marker-table", "timeline-overview"],
        "tooltipLabel": label,
        "tableLabel": label,
        "chartLabel": label,
        "fields": [{"key": key, "label": key, "format": "string", "searchable": True} for key in fields],
    }


class _Shared:
    """Texts of all threads."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.texts: dict[str, int] = {}
        self.markers = 0

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))


class _Thread:
    """The tables of one thread, which grow."""

    def __init__(self, shared: _Shared, index: int) -> None:
        self._shared = shared
        self._info = shared.material.thread(index)
        self._functions: dict[tuple[str, str], int] = {}
        self._frames: dict[tuple[Frame, int], int] = {}
        self._stacks: dict[tuple[int | None, int], int] = {}
        self._samples: dict[tuple[int, int], int | None] = {}
        self._stack: list[int | None] = []
        self._time: list[float] = []
        self._weight: list[float] = []
        self._markers: list[tuple[int, float, float, int, dict[str, Any]]] = []
        self._end_ms = 0.0

    def add(
        self,
        state: int,
        stack: int,
        wait: int,
        holder: int,
        confidence: int,
        begin_ms: float,
        length_ms: float,
    ) -> None:
        """A sample, and a marker if it is a wait."""
        if (stack, state) not in self._samples:
            self._samples[stack, state] = self._stack_of(stack, state)
        self._stack.append(self._samples[stack, state])
        self._time.append(begin_ms)
        self._weight.append(length_ms)
        self._end_ms = max(self._end_ms, begin_ms + length_ms)
        known = ThreadState(state)
        if known in LOCK_STATES and self._shared.markers < MOST_MARKERS:
            self._shared.markers += 1
            self._mark(known, wait, holder, confidence, begin_ms, begin_ms + length_ms)

    def _mark(
        self, state: ThreadState, wait: int, holder: int, confidence: int, begin_ms: float, end_ms: float
    ) -> None:
        material = self._shared.material
        who = holder_name(state, material.holder(holder), Confidence(confidence)) or "not known"
        stopped = state is ThreadState.STOPPED
        data: dict[str, Any] = {"type": "Stopped" if stopped else "LockWait", "holder": who}
        if not stopped:
            data |= {"lock": wait_name(material.recording.wait(wait)) or "not known", "state": state.label}
        category = _CATEGORY[int(state)]
        self._markers.append((self._shared.text(data["type"]), begin_ms, end_ms, category, data))

    def _stack_of(self, stack: int, state: int) -> int | None:
        frames = self._shared.material.recording.stack(stack)
        category = _CATEGORY[state]
        if not frames:
            frames = (Frame("", f"[{ThreadState(state).label}]", None),)
        prefix: int | None = None
        for depth, frame in enumerate(reversed(frames), 1):
            number = self._frame(frame, category if depth == len(frames) else _PYTHON)
            prefix = self._stacks.setdefault((prefix, number), len(self._stacks))
        return prefix

    def _frame(self, frame: Frame, category: int) -> int:
        function = frame.function, frame.filename
        self._functions.setdefault(function, len(self._functions))
        return self._frames.setdefault((frame, category), len(self._frames))

    def write(self, writer: JsonWriter, *, collections: bool) -> None:
        """The thread's object."""
        if collections:
            self._add_collections()
        writer.begin("{")
        target = self._shared.material.recording.target
        for key, value in (
            ("name", self._info.name),
            ("isMainThread", self._info.main),
            ("processStartupTime", 0),
            ("processShutdownTime", None),
            ("registerTime", self._time[0] if self._time else 0),
            ("unregisterTime", self._end_ms),
            ("pausedRanges", []),
            ("pid", str(target.pid)),
            ("tid", min(self._info.tid, 1 << 53)),
            ("processType", "default"),
            ("processName", target.command[:200]),
        ):
            writer.member(key, value)
        self._write_samples(writer)
        self._write_tables(writer)
        self._write_markers(writer)
        writer.end("}")

    def _write_samples(self, writer: JsonWriter) -> None:
        writer.begin("{", "samples")
        writer.array("stack", ("null" if each is None else str(each) for each in self._stack))
        writer.array("time", map(repr, self._time))
        writer.array("weight", map(repr, self._weight))
        writer.array("eventDelay", ("null" for _ in self._stack))
        writer.member("weightType", "tracing-ms")
        writer.member("length", len(self._stack))
        writer.end("}")

    def _write_tables(self, writer: JsonWriter) -> None:
        text = self._shared.text
        frames, functions = list(self._frames), list(self._functions)
        of_frame = [category for _, category in frames]
        stacks = list(self._stacks)
        of_stack = [of_frame[frame] for _, frame in stacks]
        none: list[None] = [None] * len(frames)
        zero = [0] * len(frames)
        writer.member(
            "stackTable",
            {
                "frame": [frame for _, frame in stacks],
                "category": of_stack,
                "subcategory": [0] * len(stacks),
                "prefix": [prefix for prefix, _ in stacks],
                "length": len(stacks),
            },
        )
        writer.member(
            "frameTable",
            {
                "address": [-1] * len(frames),
                "category": of_frame,
                "subcategory": zero,
                "func": [self._functions[frame.function, frame.filename] for frame, _ in frames],
                "innerWindowID": none,
                "implementation": none,
                "optimizations": none,
                "line": [frame.line for frame, _ in frames],
                "column": none,
                "inlineDepth": zero,
                "nativeSymbol": none,
                "length": len(frames),
            },
        )
        count = len(functions)
        writer.member(
            "funcTable",
            {
                "name": [text(name) for name, _ in functions],
                "isJS": [False] * count,
                "relevantForJS": [False] * count,
                "resource": [-1] * count,
                "fileName": [text(file) if file else None for _, file in functions],
                "lineNumber": [None] * count,
                "columnNumber": [None] * count,
                "length": count,
            },
        )
        writer.member("resourceTable", {"lib": [], "name": [], "host": [], "type": [], "length": 0})
        native: dict[str, Any] = {"libIndex": [], "address": [], "name": [], "functionSize": []}
        writer.member("nativeSymbols", {**native, "length": 0})

    def _write_markers(self, writer: JsonWriter) -> None:
        writer.begin("{", "markers")
        writer.array("data", (text_of(each[4]) for each in self._markers))
        writer.array("name", (str(each[0]) for each in self._markers))
        writer.array("startTime", (repr(each[1]) for each in self._markers))
        writer.array("endTime", (repr(each[2]) for each in self._markers))
        writer.array("phase", ("1" for _ in self._markers))
        writer.array("category", (str(each[3]) for each in self._markers))
        writer.member("length", len(self._markers))
        writer.end("}")

    def _add_collections(self) -> None:
        for generation, begin_ms, end_ms in _collections(self._shared.material):
            data = {"type": "Collection", "generation": str(generation)}
            category = _CATEGORY[int(ThreadState.GC)]
            self._markers.append((self._shared.text("Collection"), begin_ms, end_ms, category, data))


def _collections(material: Material) -> Iterator[tuple[int, float, float]]:
    """Collections whose times are known: generation, begin and end in ms of the range."""
    begin = material.begin_ns
    for first, last in chunks(material.recording, material.t0_ns, material.t1_ns):
        for _, done in material.recording.collections(first, last):
            for generation, at_ns, end_ns in zip(done.generation, done.begin_ns, done.end_ns, strict=True):
                yield generation, max(0.0, (at_ns - begin) / 1e6), max(0.0, (end_ns - begin) / 1e6)
