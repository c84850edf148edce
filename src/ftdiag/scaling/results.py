"""The file of a sweep: what was asked for, and each run that was made, as JSON of our own (`ftdiag-scale/1`).

In: a `Sweep`, or the text of a file, which may come from anybody. Out: the text, or the `Sweep`;
RecordingError where it is none. Everything read is checked: types, sizes, numbers that are finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from ftdiag.datatypes import dataclass, field
from ftdiag.errors import RecordingError, UsageError
from ftdiag.scaling.digest import Cause, Digest
from ftdiag.scaling.settings import MAX_REPEATS, MAX_SETTINGS, MAX_WORKERS, Setting
from ftdiag.scaling.throughput import TAKES, WAYS, Reading, check_pattern

SCHEMA: Final = "ftdiag-scale/1"
HEAD: Final = b'{"schema": "ftdiag-scale/'
"""How such a file begins."""
MAX_BYTES: Final = 64 << 20
MAX_RUNS: Final = 20_000
MAX_ITEMS: Final = 200
"""Of one list or table of a run."""
MAX_TEXT: Final = 4000
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a replay of a run says of the next number of threads: work a second over what it was.

    `low` and `high` bound an 80 % interval. `not_told` says why it cannot be told.
    """

    threads: int
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    not_told: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `failed` says why it has no throughput; then the other figures are `None`.

    `memory_bytes` is the largest that was seen of all its processes: memory of their own (USS) where
    `memory_is_own`, else resident.
    """

    setting: Setting
    round: int
    throughput: float | None = None
    wall_s: float | None = None
    latency_ms: float | None = None
    memory_bytes: int | None = None
    memory_is_own: bool = False
    cpu_s: float | None = None
    """CPU time of its processes."""
    digest: Digest | None = None
    foreseen: Foreseen | None = None
    recordings: tuple[str, ...] = ()
    """Names of files in the folder beside the results."""
    not_recorded: str | None = None
    """Why there is no digest."""
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep, finished or not."""

    command: tuple[str, ...]
    settings: tuple[Setting, ...]
    repeats: int
    seed: int
    reading: Reading
    capacity_cores: float
    capacity_reason: str
    host: str
    started_unix_ns: int
    recorded: bool
    rate_hz: float
    timeout_s: float
    skip_s: float
    warm_ups: int
    kind: str = "threads"
    """"threads", "layouts" or "pythons": what was asked to be compared."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Paths by the names that were asked for."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """What each of them is: "3.14.1 free-threaded"."""
    runs: tuple[Run, ...] = ()

    def good(self, setting: Setting) -> tuple[Run, ...]:
        """Runs of a setting that have a throughput."""
        return tuple(run for run in self.runs if run.setting == setting and run.throughput is not None)


# --- out -----------------------------------------------------------------------------------------------


def text_of(sweep: Sweep) -> str:
    """The file's text; its schema comes first."""
    return json.dumps(value_of(sweep), allow_nan=False, indent=None) + "\n"


def value_of(sweep: Sweep) -> dict[str, Any]:
    """The value of the file, for JSON."""
    reading = sweep.reading
    return {
        "schema": SCHEMA,
        "kind": sweep.kind,
        "command": list(sweep.command),
        "settings": [_setting_value(each) for each in sweep.settings],
        "repeats": sweep.repeats,
        "seed": sweep.seed,
        "throughput": {
            "way": reading.way,
            "pattern": reading.pattern,
            "take": reading.take,
            "items": reading.items,
            "per_thread": reading.per_thread,
            "counter": reading.counter,
            "latency": reading.latency,
        },
        "capacity_cores": sweep.capacity_cores,
        "capacity_reason": sweep.capacity_reason,
        "host": sweep.host,
        "started_unix_ns": sweep.started_unix_ns,
        "recorded": sweep.recorded,
        "rate_hz": sweep.rate_hz,
        "timeout_s": sweep.timeout_s,
        "skip_s": sweep.skip_s,
        "warm_ups": sweep.warm_ups,
        "interpreters": dict(sweep.interpreters),
        "versions": dict(sweep.versions),
        "runs": [_run_value(run) for run in sweep.runs],
    }


def _setting_value(setting: Setting) -> dict[str, Any]:
    return {"processes": setting.processes, "threads": setting.threads, "python": setting.python}


def _run_value(run: Run) -> dict[str, Any]:
    return {
        **_setting_value(run.setting),
        "round": run.round,
        "throughput": run.throughput,
        "wall_s": run.wall_s,
        "latency_ms": run.latency_ms,
        "memory_bytes": run.memory_bytes,
        "memory_is_own": run.memory_is_own,
        "cpu_s": run.cpu_s,
        "recordings": list(run.recordings),
        "not_recorded": run.not_recorded,
        "failed": run.failed,
        "digest": None if run.digest is None else digest_value(run.digest),
        "foreseen": None if run.foreseen is None else _foreseen_value(run.foreseen),
    }


def _foreseen_value(foreseen: Foreseen) -> dict[str, Any]:
    return {
        "threads": foreseen.threads,
        "gain": foreseen.gain,
        "low": foreseen.low,
        "high": foreseen.high,
        "not_told": foreseen.not_told,
    }


def digest_value(digest: Digest) -> dict[str, Any]:
    """A digest for JSON."""
    return {
        "version": digest.version,
        "free_threaded": digest.free_threaded,
        "gil_enabled": digest.gil_enabled,
        "capacity_cores": digest.capacity_cores,
        "capacity_reason": digest.capacity_reason,
        "duration_s": digest.duration_s,
        "threads": digest.threads,
        "on_cpu_cores": digest.on_cpu_cores,
        "useful_cores": digest.useful_cores,
        "efficiency": digest.efficiency_ratio,
        "account": dict(digest.account),
        "locks": dict(digest.locks),
        "lines": dict(digest.lines),
        "findings": [
            {
                "key": cause.key,
                "rule": cause.rule,
                "summary": cause.summary,
                "severity": cause.severity,
                "lost_cores": cause.lost_cores,
            }
            for cause in digest.causes
        ],
    }


# --- in ------------------------------------------------------------------------------------------------


def sweep_of(text: str | bytes, name: str) -> Sweep:
    """The sweep in a file's text. Raises RecordingError."""
    try:
        return _sweep(json.loads(text))
    except (ValueError, OverflowError, RecursionError, UsageError) as error:
        words = error.what if isinstance(error, UsageError) else str(error) or type(error).__name__
        raise RecordingError(
            f"{name} is no file of a sweep that can be read: {words[:300]}",
            "ftdiag scale --threads 1,2,4 -o FILE -- COMMAND {threads}   makes one",
        ) from None


def _sweep(value: Any) -> Sweep:
    table = _table(value, "the file", most=100)
    schema = _text(table.get("schema"), "schema")
    if schema != SCHEMA:
        raise ValueError(f"its schema is {schema!r}, and this ftdiag reads {SCHEMA}")
    settings = tuple(_list(table.get("settings"), "settings", _setting, MAX_SETTINGS))
    if not settings:
        raise ValueError("it has no settings")
    command = tuple(
        _list(table.get("command"), "command", lambda each: _text(each, "command", 1 << 16), 10_000)
    )
    if not command:
        raise ValueError("it has no command")
    kind = _text(table.get("kind"), "kind")
    if kind not in ("threads", "layouts", "pythons"):
        raise ValueError(f"its kind is {kind!r}")
    return Sweep(
        command=command,
        settings=settings,
        repeats=_whole(table.get("repeats"), "repeats", 1, MAX_REPEATS),
        seed=_whole(table.get("seed"), "seed", 0, 1 << 63),
        reading=_reading(table.get("throughput")),
        capacity_cores=_number(table.get("capacity_cores"), "capacity_cores", above=0),
        capacity_reason=_text(table.get("capacity_reason"), "capacity_reason"),
        host=_text(table.get("host"), "host"),
        started_unix_ns=_whole(table.get("started_unix_ns"), "started_unix_ns", 0, 1 << 63),
        recorded=_truth(table.get("recorded"), "recorded"),
        rate_hz=_number(table.get("rate_hz"), "rate_hz", above=0),
        timeout_s=_number(table.get("timeout_s"), "timeout_s", above=0),
        skip_s=_number(table.get("skip_s"), "skip_s", least=0),
        warm_ups=_whole(table.get("warm_ups"), "warm_ups", 0, MAX_REPEATS),
        kind=kind,
        interpreters=_texts(table.get("interpreters"), "interpreters"),
        versions=_texts(table.get("versions"), "versions"),
        runs=tuple(_list(table.get("runs"), "runs", _run, MAX_RUNS)),
    )


def _reading(value: Any) -> Reading:
    table = _table(value, "throughput")
    way, take = _text(table.get("way"), "way"), _text(table.get("take"), "take")
    if way not in WAYS or take not in TAKES:
        raise ValueError(f"its throughput is read by {way!r}, {take!r}")
    reading = Reading(
        way=way,
        pattern=_text(table.get("pattern"), "pattern"),
        take=take,
        items=_number(table.get("items"), "items", above=0),
        per_thread=_truth(table.get("per_thread"), "per_thread"),
        counter=_text(table.get("counter"), "counter"),
        latency=_text(table.get("latency"), "latency"),
    )
    if reading.pattern:
        check_pattern(reading.pattern, "pattern")
    if reading.latency:
        check_pattern(reading.latency, "latency")
    return reading


def _setting(value: Any) -> Setting:
    table = _table(value, "a setting")
    return Setting(
        threads=_whole(table.get("threads"), "threads", 1, MAX_WORKERS),
        processes=_whole(table.get("processes"), "processes", 1, MAX_WORKERS),
        python=_text(table.get("python"), "python"),
    )


def _run(value: Any) -> Run:
    table = _table(value, "a run")
    digest = table.get("digest")
    run = Run(
        setting=_setting(table),
        round=_whole(table.get("round"), "round", 0, MAX_REPEATS),
        throughput=_number_or_none(table.get("throughput"), "throughput", above=0),
        wall_s=_number_or_none(table.get("wall_s"), "wall_s", least=0),
        latency_ms=_number_or_none(table.get("latency_ms"), "latency_ms", least=0),
        memory_bytes=None
        if table.get("memory_bytes") is None
        else _whole(table["memory_bytes"], "memory_bytes", 0, 1 << 62),
        memory_is_own=_truth(table.get("memory_is_own"), "memory_is_own"),
        cpu_s=_number_or_none(table.get("cpu_s"), "cpu_s", least=0),
        digest=None if digest is None else _digest(digest),
        foreseen=None if table.get("foreseen") is None else _foreseen(table["foreseen"]),
        recordings=tuple(_list(table.get("recordings"), "recordings", _name, MAX_ITEMS)),
        not_recorded=_text_or_none(table.get("not_recorded"), "not_recorded"),
        failed=_text_or_none(table.get("failed"), "failed"),
    )
    if run.throughput is None and run.failed is None:
        raise ValueError("a run has neither a throughput nor a reason why it has none")
    return run


def _foreseen(value: Any) -> Foreseen:
    table = _table(value, "what a run foresaw")
    return Foreseen(
        threads=_whole(table.get("threads"), "threads", 1, MAX_WORKERS),
        gain=_number_or_none(table.get("gain"), "gain", above=0),
        low=_number_or_none(table.get("low"), "low", least=0),
        high=_number_or_none(table.get("high"), "high", least=0),
        not_told=_text_or_none(table.get("not_told"), "not_told"),
    )


def _name(value: Any) -> str:
    """A name of a file in the folder beside it, and of nothing elsewhere."""
    name = _text(value, "recordings", 255)
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise ValueError(f"{name!r} is no name of a recording beside it")
    return name


def _digest(value: Any) -> Digest:
    table = _table(value, "a digest")
    gil = table.get("gil_enabled")
    return Digest(
        version=_text(table.get("version"), "version"),
        free_threaded=_truth(table.get("free_threaded"), "free_threaded"),
        gil_enabled=None if gil is None else _truth(gil, "gil_enabled"),
        capacity_cores=_number_or_none(table.get("capacity_cores"), "capacity_cores", above=0),
        capacity_reason=_text_or_none(table.get("capacity_reason"), "capacity_reason"),
        duration_s=_number(table.get("duration_s"), "duration_s", least=0),
        threads=_whole(table.get("threads"), "threads", 0, 1 << 32),
        on_cpu_cores=_number(table.get("on_cpu_cores"), "on_cpu_cores"),
        useful_cores=_number_or_none(table.get("useful_cores"), "useful_cores"),
        efficiency_ratio=_number_or_none(table.get("efficiency"), "efficiency"),
        account=_numbers(table.get("account"), "account"),
        locks=_numbers(table.get("locks"), "locks"),
        lines=_numbers(table.get("lines"), "lines"),
        causes=tuple(_list(table.get("findings"), "findings", _cause, MAX_ITEMS)),
    )


def _cause(value: Any) -> Cause:
    table = _table(value, "a finding")
    return Cause(
        key=_text(table.get("key"), "key"),
        rule=_text(table.get("rule"), "rule"),
        summary=_text(table.get("summary"), "summary"),
        severity=_text(table.get("severity"), "severity"),
        lost_cores=_number(table.get("lost_cores"), "lost_cores"),
    )


def _table(value: Any, name: str, most: int = MAX_ITEMS) -> Mapping[str, Any]:
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError(f"{name} is no table of at most {most} entries")
    return value


def _list(value: Any, name: str, each: Callable[[Any], _Item], most: int) -> Sequence[_Item]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{name} is no list of at most {most} entries")
    return [each(one) for one in value]


def _text(value: Any, name: str, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} is no text of at most {most} characters")
    return value


def _text_or_none(value: Any, name: str) -> str | None:
    return None if value is None else _text(value, name)


def _texts(value: Any, name: str) -> dict[str, str]:
    return {_text(key, name): _text(each, name) for key, each in _table(value, name).items()}


def _truth(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is no whole number from {least} to {most}")
    return value


def _number(value: Any, name: str, *, least: float | None = None, above: float | None = None) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    if (least is not None and value < least) or (above is not None and value <= above):
        raise ValueError(f"{name} is {value:g}, which cannot be")
    return float(value)


def _number_or_none(
    value: Any, name: str, *, least: float | None = None, above: float | None = None
) -> float | None:
    return None if value is None else _number(value, name, least=least, above=above)


def _numbers(value: Any, name: str) -> dict[str, float]:
    return {_text(key, name): _number(each, name) for key, each in _table(value, name).items()}
