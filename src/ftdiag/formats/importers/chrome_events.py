"""Complete events of Chrome traces (`"ph": "X"`), made into the stacks between them.

In: decoded events, in any order. Out: events that begin and end functions, in the order of time, thread by
thread, as `pyspy_format.stays` takes them; numbers for processes and threads that are texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ftdiag.formats.pyspy_format import MAX_THREADS, MAX_TIME_US, UnknownOutput

MAX_EVENTS: Final = 2_000_000
"""Complete events that are held to be put in order (some 300 bytes each)."""
FIRST_MADE_UP: Final = 1 << 30
"""Numbers of processes and threads whose file has texts for them."""
MAX_NAME: Final = 4096


class Events:
    """Passes events on that begin or end; keeps complete ones, and the names of threads."""

    def __init__(self) -> None:
        self.names: dict[tuple[int, int], str] = {}
        self._numbers: dict[str, int] = {}
        self._complete: dict[tuple[int, int], list[tuple[float, float, dict[str, Any]]]] = {}
        self._held = 0

    def plain(self, events: Iterable[Any]) -> Iterator[Any]:
        """Those that begin or end a function, as they come; then the complete ones. Raises UnknownOutput."""
        for event in events:
            if not isinstance(event, dict):
                raise UnknownOutput("an event is no object")
            phase = event.get("ph")
            if phase in ("B", "E"):
                yield self._numbered(event)
            elif phase == "X":
                self._hold(self._numbered(event))
            elif phase == "M" and event.get("name") == "thread_name":
                self._name(self._numbered(event))
        for rows in self._complete.values():
            yield from _nested(rows)

    def least_us(self, known_us: float) -> float:
        """When the first of the complete events begins, or the moment that is known already."""
        return min([known_us, *(min(row[0] for row in rows) for rows in self._complete.values())])

    def _numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        found = dict(event)
        for key in ("pid", "tid"):
            value = event.get(key, 0)
            if not isinstance(value, str | int):
                raise UnknownOutput("an event lacks its thread")
            if isinstance(value, str):
                if value not in self._numbers and len(self._numbers) >= MAX_THREADS:
                    raise UnknownOutput(f"there are more than {MAX_THREADS:,} threads")
                found[key] = self._numbers.setdefault(value, FIRST_MADE_UP + len(self._numbers))
                if key == "tid":
                    self.names.setdefault((found["pid"], found["tid"]), value[:MAX_NAME])
            else:
                found[key] = value
        return found

    def _name(self, event: dict[str, Any]) -> None:
        arguments = event.get("args")
        name = arguments.get("name") if isinstance(arguments, dict) else None
        pid, tid = event["pid"], event["tid"]
        if isinstance(name, str) and type(pid) is int and type(tid) is int and len(self.names) < MAX_THREADS:
            self.names[pid, tid] = name[:MAX_NAME]

    def _hold(self, event: dict[str, Any]) -> None:
        begin, length = event.get("ts"), event.get("dur", 0)
        pid, tid = event["pid"], event["tid"]
        if type(pid) is not int or type(tid) is not int:
            raise UnknownOutput("an event lacks its thread")
        for time in (begin, length):
            if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < MAX_TIME_US:
                raise UnknownOutput("an event lacks its time")
        self._held += 1
        if self._held > MAX_EVENTS:
            raise UnknownOutput(f"it has more than {MAX_EVENTS:,} complete events")
        kept: dict[str, Any] = {key: event[key] for key in ("name", "args", "pid", "tid") if key in event}
        self._complete.setdefault((pid, tid), []).append((float(begin or 0), float(length or 0), kept))


def _nested(rows: list[tuple[float, float, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Beginnings and ends in the order of time; what overlaps ends with what it is in."""
    rows.sort(key=lambda row: (row[0], -row[1]))
    ends: list[float] = []
    for begin, length, event in rows:
        while ends and ends[-1] <= begin:
            yield {**event, "ph": "E", "ts": ends.pop()}
        yield {**event, "ph": "B", "ts": begin}
        ends.append(min(begin + length, ends[-1]) if ends else begin + length)
    last = rows[-1][2]
    while ends:
        yield {**last, "ph": "E", "ts": ends.pop()}
