"""Descriptions in a recording: of the process, the settings, the end, threads and windows.

In: rows and JSON objects of a file that anybody wrote. Out: the model's values, bounded; DamagedBlob where
one cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

from ftdiag.model import (
    IMPORTED,
    NOBODY,
    End,
    EndReason,
    HookKind,
    Library,
    RecordingSettings,
    Target,
    ThreadInfo,
    TracingHook,
)
from ftdiag.recording import schema

LEAST_CORES: Final = 0.001
"""The smallest quota that the kernel takes: a millisecond a second."""
_LARGEST_ID: Final = 2**64
"""Of processes and threads; Linux stays below 2**22, but other profilers write a thread's address."""
MAX_RATE_HZ: Final = 1e6
"""Of samples; other profilers write up to some 10,000, 0 where the rate is not known."""
LEAST_RATE_HZ: Final = 1e-6
"""A sample in eleven days: what is less is as good as not known, and its period no number."""
Value = TypeVar("Value")
_RUNS_AND_COUNTERS: Final = {schema.GROUP_RUNS, schema.GROUP_COUNTERS}


def window_row(
    row: tuple[Any, ...], expected: int, ended_ns: int
) -> tuple[tuple[int, int, int, int, int, int], str, int]:
    """((id, t0_ns, t1_ns, ticks, rows of runs, rows of counters), names of groups, last delta).

    `expected` is the least id it can have, `ended_ns` when the window before it ended. Raises DamagedBlob.
    """
    if not all(isinstance(value, int) for value in (*row[:7], row[8])) or not isinstance(row[7], str):
        raise schema.DamagedBlob("its entry in the index is damaged")
    window_id, t0_ns, t1_ns, ticks, threads, runs, last_delta, groups, checksum = row
    if schema.row_checksum(*row[:8]) != checksum:
        raise schema.DamagedBlob("the checksum of its entry in the index does not match")
    rows = schema.MAX_WINDOW_ROWS
    if (
        not expected <= window_id <= schema.MAX_WINDOW_ID
        or not max(ended_ns, -schema.MAX_TIME_NS) <= t0_ns <= t1_ns <= schema.MAX_TIME_NS
        or not all(0 <= count <= rows for count in (ticks, threads, runs))
        or not 0 <= last_delta <= schema.MAX_WINDOW_ID
        or len(groups) > 4096
        or not set(groups.split(",")) >= _RUNS_AND_COUNTERS
    ):
        raise schema.DamagedBlob("its entry in the index is out of range")
    return (window_id, t0_ns, t1_ns, ticks, runs, threads), groups, last_delta


def thread_row(row: tuple[Any, ...]) -> ThreadInfo:
    number, changed, text, checksum = row
    if not isinstance(number, int) or not isinstance(changed, int) or not isinstance(text, str):
        raise schema.DamagedBlob("a value of its description is missing")
    if schema.row_checksum(number, changed, text) != checksum:
        raise schema.DamagedBlob("the checksum of its description does not match")
    if not 0 <= number < schema.MAX_THREADS:
        raise schema.DamagedBlob("its index is out of range")
    fields = Fields(schema.from_json(text), "a thread")
    return ThreadInfo(
        index=number,
        tid=fields.number("tid", 0, _LARGEST_ID),
        name=schema.bounded_text(fields.required("name", str)),
        python=fields.required("python", bool),
        main=fields.required("main", bool),
        interpreter=fields.number("interpreter", 0, 2**63),
        started_ns=fields.optional_number("started_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS),
        ended_ns=fields.optional_number("ended_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS),
    )


class Fields:
    """A JSON object of which nothing is taken for granted. Raises DamagedBlob."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise schema.DamagedBlob(f"the description of {what} cannot be read")
        self._fields = value
        self._what = what

    def optional(self, name: str, kind: type[Value]) -> Value | None:
        value = self._fields.get(name)
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        # bool is an int to Python; here it is not.
        if value is None or type(value) is kind:
            return value
        raise schema.DamagedBlob(f"the description of {self._what} has a wrong {name}")

    def required(self, name: str, kind: type[Value]) -> Value:
        value = self.optional(name, kind)
        if value is None:
            raise schema.DamagedBlob(f"the description of {self._what} lacks its {name}")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        """A whole number that is there and in low .. high."""
        return self._in_range(name, self.required(name, int), low, high)

    def optional_number(self, name: str, low: int, high: int) -> int | None:
        """The same, where it may be missing."""
        value = self.optional(name, int)
        return None if value is None else self._in_range(name, value, low, high)

    def _in_range(self, name: str, value: int, low: int, high: int) -> int:
        if not low <= value <= high:
            raise schema.DamagedBlob(f"the description of {self._what} has a {name} out of range")
        return value


def _hooks(rows: Sequence[object]) -> Iterator[TracingHook]:
    kinds = {kind.value: kind for kind in HookKind}
    for row in rows[: schema.MAX_HOOKS]:
        if isinstance(row, list) and len(row) == 3 and str(row[0]) in kinds:
            name, filename = (schema.bounded_text(str(text)) for text in row[1:])
            yield TracingHook(kinds[str(row[0])], name, filename)


def target_of(value: object) -> Target:
    fields = Fields(value, "the process")
    culprits = fields.required("gil_culprits", list)
    chains = fields.optional("gil_importers", list) or []
    environment = fields.optional("environment", list) or []
    distribution = fields.optional("distribution", list) or []
    machine = fields.optional("machine", str)
    libraries = fields.optional("libraries", list) or []
    tracing = fields.optional("tracing", list)
    capacity_reason = fields.optional("capacity_reason", str)
    capacity = fields.optional("capacity_cores", float)
    quota = fields.optional("capacity_quota", bool)
    if capacity is not None and not (capacity <= 0 or LEAST_CORES <= capacity <= schema.MAX_CORES):
        said = f"{capacity:g}" if math.isfinite(capacity) else "no number of"
        capacity, capacity_reason = None, f"the recording says {said} cores, which makes no sense"
    return Target(
        pid=fields.number("pid", 0, _LARGEST_ID),
        start_ticks=fields.number("start_ticks", 0, 2**63),
        executable=schema.bounded_text(fields.required("executable", str)),
        command=schema.bounded_text(fields.required("command", str)),
        python_version=schema.bounded_text(fields.required("python_version", str)),
        free_threaded=fields.required("free_threaded", bool),
        gil_enabled=fields.optional("gil_enabled", bool),
        gil_culprits=tuple(schema.bounded_text(str(each)) for each in culprits[: schema.MAX_CULPRITS]),
        gil_importers=tuple(
            tuple(schema.bounded_text(str(name)) for name in chain[: schema.MAX_IMPORTERS])
            for chain in chains[: schema.MAX_CHAINS]
            if isinstance(chain, list)
        ),
        capacity_cores=capacity,
        capacity_reason=None if capacity_reason is None else schema.bounded_text(capacity_reason),
        capacity_quota=(capacity_reason or "").startswith(schema.QUOTA_PREFIX) if quota is None else quota,
        environment=tuple(schema.bounded_text(str(each)) for each in environment[: schema.MAX_ENVIRONMENT]),
        distribution=tuple(
            schema.bounded_text(str(each)) for each in distribution[: schema.MAX_DISTRIBUTIONS]
        ),
        machine=None if machine is None else schema.bounded_text(machine),
        libraries=tuple(
            Library(*(schema.bounded_text(str(text)) for text in each))
            for each in libraries[: schema.MAX_LIBRARIES]
            if isinstance(each, list) and len(each) == 3
        ),
        tracing=None if tracing is None else tuple(_hooks(tracing)),
    )


def settings_of(value: object) -> RecordingSettings:
    fields = Fields(value, "the recording")
    native = fields.optional("native", str)
    rate_hz = fields.required("rate_hz", float)
    if 0 < rate_hz < LEAST_RATE_HZ:
        rate_hz = 0.0
    if not 0 <= rate_hz <= MAX_RATE_HZ:  # also false for NaN
        raise schema.DamagedBlob("the description of the recording has a rate_hz out of range")
    source, no_stacks, imported = schema.bounded_text(fields.required("source", str)), None, None
    if source.startswith(schema.NO_STACKS_PREFIX):
        source, no_stacks = NOBODY, source.removeprefix(schema.NO_STACKS_PREFIX)
    elif source.startswith(schema.IMPORTED_PREFIX):
        source, imported = IMPORTED, source.removeprefix(schema.IMPORTED_PREFIX)
    said = None if native is None else schema.bounded_text(native)
    missing = said is not None and said.startswith(schema.NOT_MEASURED_PREFIX)
    return RecordingSettings(
        rate_hz=rate_hz,
        started_ns=fields.number("started_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS),
        started_unix_ns=fields.number("started_unix_ns", 0, 2**63),
        ftdiag_version=schema.bounded_text(fields.required("ftdiag_version", str)),
        host=schema.bounded_text(fields.required("host", str)),
        source=source,
        native=None if missing else said,
        native_missing=said.removeprefix(schema.NOT_MEASURED_PREFIX)
        if said is not None and missing
        else None,
        no_stacks=no_stacks,
        imported=imported,
    )


def end_of(fields: Fields) -> End:
    try:
        reason = EndReason(fields.required("reason", str))
    except ValueError as error:
        if isinstance(error, schema.DamagedBlob):
            raise
        # A reason of a newer minor version: its sentence still says it.
        reason = EndReason.STOPPED
    at_ns = fields.number("at_ns", -schema.MAX_TIME_NS, schema.MAX_TIME_NS)
    return End(reason, schema.bounded_text(fields.required("detail", str)), at_ns)
