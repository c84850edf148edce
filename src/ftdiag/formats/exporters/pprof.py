"""Profiles of pprof: for `go tool pprof`, Pyroscope, Parca and what else reads them.

In: the material of a range. Out: a gzipped protobuf message. Its sample types, in ns unless said otherwise:

- `thread_time`: all of it, and one type for each state that was seen (`work`, `lock`, ...): they add up to
  it.
- `lock_wait`: waits for locks, charged to the waiter; `lock_blame`: the same waits charged to who held the
  lock, at what the holder did. Their totals are equal.
- `alloc_bytes` and `alloc_objects` (count), where a capture of memray was joined.

What has no Python stack stands at a function `[state]`: `go tool pprof` drops samples without any. Labels:
`thread`, `tid`, `state`, `lock` (what was waited for), `holder`.
"""

from __future__ import annotations

import gzip
from typing import IO, Any, Final

from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.material import Material, holder_name, lock_name, wait_name
from ftdiag.formats.pprof_schema import profile
from ftdiag.model import Confidence, Frame, Stack, ThreadState

NAME: Final = "pprof"
ENDING: Final = ".pb.gz"
NEEDS: Final = Needs.SNAPSHOT
EXTRA: Final = None
COMPRESSION: Final = 6
_TIME: Final = ("thread_time", "lock_wait", "lock_blame")


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the profile; no notes."""
    snapshot = material.snapshot
    states = [state for state in ThreadState if any(each.states_ns.get(state) for each in snapshot.threads)]
    made = _Profile(states, with_allocations=snapshot.allocations is not None)
    for sample in material.samples():
        time_ns = round(sample.time_ns)
        if not time_ns:
            continue
        waits = sample.state in LOCK_STATES and sample.wait is not None and sample.wait.lock is not None
        made.add(
            sample.stack or (Frame("", f"[{sample.state.label}]", None),),
            {"thread_time": time_ns, sample.state.label: time_ns, "lock_wait": time_ns if waits else 0},
            {
                "thread": sample.thread.name,
                "state": sample.state.label,
                "lock" if waits else "wait": wait_name(sample.wait),
                "holder": holder_name(sample.state, sample.holder, sample.confidence) if waits else None,
            },
            sample.thread.tid,
        )
    for lock in snapshot.locks:
        name = "other locks" if lock.number == 0 else lock_name(lock.lock)
        for holder in lock.holders:
            nobody = "nobody" if holder.confidence is Confidence.KNOWN else "not known"
            who = nobody if holder.thread is None else holder.thread.name
            made.add(
                holder.stack or (Frame("", f"[{who}]", None),),
                {"lock_blame": round(holder.blame_ns)},
                {"lock": name, "holder": who, "thread": None if holder.thread is None else who},
                0 if holder.thread is None else holder.thread.tid,
            )
    if snapshot.allocations is not None:
        for line in snapshot.allocations.lines:
            values = {"alloc_bytes": line.size_bytes or 0, "alloc_objects": line.count or 0}
            made.add(line.stack or (line.frame,), values, {}, 0)
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=COMPRESSION, mtime=0, filename="") as packed:
        packed.write(made.finished(material))
    return ()


class _Profile:
    """A message that is filled."""

    def __init__(self, states: list[ThreadState], *, with_allocations: bool) -> None:
        self._message: Any = profile()()
        self._texts: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[Frame, int] = {}
        self._stacks: dict[Stack, list[int]] = {}
        names = [*_TIME, *(state.label for state in states)]
        self._units = dict.fromkeys(names, "nanoseconds")
        if with_allocations:
            self._units |= {"alloc_bytes": "bytes", "alloc_objects": "count"}
        self._place = {name: place for place, name in enumerate(self._units)}

    def add(self, stack: Stack, values: dict[str, int], labels: dict[str, str | None], tid: int) -> None:
        """A sample, its stack leaf first."""
        sample = self._message.sample.add()
        sample.location_id.extend(self._located(stack))
        row = [0] * len(self._units)
        for name, value in values.items():
            row[self._place[name]] = value
        sample.value.extend(row)
        for key, words in labels.items():
            if words is not None:
                sample.label.add(key=self._text(key), str=self._text(words))
        if tid:
            sample.label.add(key=self._text("tid"), num=min(tid, (1 << 63) - 1))

    def _located(self, stack: Stack) -> list[int]:
        known = self._stacks.get(stack)
        if known is None:
            known = self._stacks[stack] = [self._location(frame) for frame in stack]
        return known

    def _location(self, frame: Frame) -> int:
        known = self._locations.get(frame)
        if known is None:
            known = self._locations[frame] = len(self._locations) + 1
            location = self._message.location.add(id=known, mapping_id=1)
            location.line.add(function_id=self._function(frame), line=frame.line or 0)
        return known

    def _function(self, frame: Frame) -> int:
        key = frame.filename, frame.function
        known = self._functions.get(key)
        if known is None:
            known = self._functions[key] = len(self._functions) + 1
            name = self._text(frame.function)
            self._message.function.add(
                id=known, name=name, system_name=name, filename=self._text(frame.filename)
            )
        return known

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def finished(self, material: Material) -> bytes:
        """The message's bytes."""
        message, snapshot = self._message, material.snapshot
        for name, unit in self._units.items():
            message.sample_type.add(type=self._text(name), unit=self._text(unit))
        message.mapping.add(
            id=1,
            filename=self._text(snapshot.target.executable),
            has_functions=True,
            has_filenames=True,
            has_line_numbers=True,
        )
        message.time_nanos = material.begin_unix_ns
        message.duration_nanos = snapshot.metrics.duration_ns
        rate = snapshot.settings.rate_hz
        message.period_type.CopyFrom(message.sample_type[0])
        message.period = round(1e9 / rate) if rate > 0 else 0
        message.default_sample_type = self._text("thread_time")
        message.comment.extend(self._text(f"{name}: {words}") for name, words in material.origin().items())
        # A lone surrogate stands for a byte that is no UTF-8, which protobuf's texts cannot hold.
        message.string_table.extend(
            text.encode("utf-8", "backslashreplace").decode("utf-8") for text in self._texts
        )
        packed: bytes = message.SerializeToString()
        return packed
