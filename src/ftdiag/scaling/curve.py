"""What a sweep says: points with their scatter, ideal and laws beside them, and the causes that grow.

In: a `Sweep`. Out: `Scaling`: a `Curve` for each interpreter, or the layouts beside each other. Speedup is
X(N) / X(base), where the base is the smallest number of threads that was measured; the ideal is what the
base would come to on as many cores as N threads can have: N, and no more than there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ftdiag.datatypes import dataclass, field
from ftdiag.model import CorePart
from ftdiag.scaling.digest import Cause, Digest, asked_account, summed
from ftdiag.scaling.law import Law, NoLaw, law_of
from ftdiag.scaling.noise import Mean, mean_of, ratio_mean_of
from ftdiag.scaling.results import Run, Sweep
from ftdiag.scaling.settings import Setting

LEAST_GROWTH_CORES: Final = 0.05
"""A cause that grew by less is not named."""
SURE_ERRORS: Final = 2.0
"""... nor one that grew by less than so many standard errors."""
SHOWN_CAUSES: Final = 5
ALIKE_RATIO: Final = 0.05
"""Layouts within this of the fastest count as as fast."""


@dataclass(frozen=True, slots=True)
class Point:
    """One setting. `None` is not measured.

    `over`: there are more threads than cores. `account` is the mean over its runs of where the cores that its
    threads could have had went. `failed` has the reasons of the runs that came to nothing.
    """

    setting: Setting
    runs: int
    throughput: Mean | None
    speedup: float | None
    ideal_speedup: float
    efficiency: Mean | None
    over: bool
    latency_ms: Mean | None
    memory_bytes: float | None
    memory_is_own: bool
    account: Mapping[str, float]
    causes: tuple[Cause, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Growth:
    """A part of the account that takes more cores at the end of the curve than at its beginning."""

    part: str
    before_cores: float
    after_cores: float
    series: tuple[float | None, ...]
    """Cores at each point."""

    @property
    def gained_cores(self) -> float:
        """How much more."""
        return self.after_cores - self.before_cores


@dataclass(frozen=True, slots=True)
class Expected:
    """What replays of the runs at one point said of the next one, and what came: gains in work a second.

    `gain`, `low` and `high` are means over the runs; `None`: none could tell, `not_told` says why.
    """

    before: Setting
    after: Setting
    gain: float | None
    low: float | None
    high: float | None
    came: float | None
    not_told: str | None = None

    @property
    def came_true(self) -> bool | None:
        """Whether what came is within what was said; `None` where there is nothing to compare."""
        if self.low is None or self.high is None or self.came is None:
            return None
        return self.low <= self.came <= self.high


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one interpreter (`python`: its name, or ""), ascending by threads.

    `fitted_over`: the law was fitted also to points with more threads than cores, for want of others.
    """

    python: str
    points: tuple[Point, ...]
    law: Law | NoLaw
    fitted_over: bool
    growing: tuple[Growth, ...]
    grown_cause: Cause | None
    """The finding that costs more at the last point than at the first, the one that gained most."""
    expected: tuple[Expected, ...] = ()
    """From each point on to the next, and from the last one on."""

    @property
    def measured(self) -> tuple[Point, ...]:
        """Points that have a throughput."""
        return tuple(point for point in self.points if point.throughput is not None)

    @property
    def best(self) -> Point | None:
        """The point with the most throughput."""
        return max(self.measured, key=lambda point: _value(point.throughput), default=None)

    def at(self, threads: int) -> Point | None:
        """The point with so many threads."""
        return next((point for point in self.points if point.setting.workers == threads), None)


@dataclass(frozen=True, slots=True)
class Advice:
    """A layout that is recommended, with what it gains and costs against the others."""

    setting: Setting
    reasons: tuple[str, ...]
    costs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What an interpreter gains or costs against the one that others are compared with."""

    python: str
    single_ratio: float | None
    """Throughput at the smallest number of threads, as a ratio of the other's."""
    best_ratio: float | None
    """The most throughput, as a ratio of the other's most."""
    best_threads: int | None
    breaks_even: int | None
    """The smallest number of threads from which on it does more than the other at its best; `None`: never."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a sweep says."""

    sweep: Sweep
    cores: float
    curves: tuple[Curve, ...]
    layouts: tuple[Point, ...] = ()
    advice: Advice | None = None
    reference: str = ""
    """The interpreter that others are compared with."""
    exchanges: tuple[Exchange, ...] = ()
    missing_runs: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)


def scaling_of(sweep: Sweep) -> Scaling:
    """All that is said of a sweep, finished or not."""
    # The program may keep itself to fewer cores than it was given (taskset, a pool of its own).
    seen = [run.digest.capacity_cores for run in sweep.runs if run.digest is not None]
    cores = max(1.0, min(sweep.capacity_cores, *(each for each in seen if each is not None), math.inf))
    done = sum(1 for run in sweep.runs if run.throughput is not None)
    missing = max(0, len(sweep.settings) * sweep.repeats - done)
    if sweep.kind == "layouts":
        points = _points(sweep, sweep.settings, cores)
        return Scaling(sweep, cores, (), points, _advice(points, cores), missing_runs=missing)
    names = list(dict.fromkeys(setting.python for setting in sweep.settings))
    curves = tuple(_curve(sweep, name, cores) for name in names)
    reference = _reference(sweep, names)
    exchanges: tuple[Exchange, ...] = ()
    if len(names) > 1:
        base = next(curve for curve in curves if curve.python == reference)
        exchanges = tuple(_exchange(curve, base) for curve in curves if curve is not base)
    return Scaling(
        sweep,
        cores,
        curves,
        reference=reference if len(names) > 1 else "",
        exchanges=exchanges,
        missing_runs=missing,
    )


# --- points --------------------------------------------------------------------------------------------


def _points(sweep: Sweep, settings: Sequence[Setting], cores: float) -> tuple[Point, ...]:
    good = {setting: sweep.good(setting) for setting in settings}
    base = next((setting for setting in settings if good[setting]), None)
    base_value = None if base is None else _mean(good[base])
    points: list[Point] = []
    for setting in settings:
        ideal = 1.0 if base is None else min(setting.workers, cores) / min(base.workers, cores)
        runs = good[setting]
        throughputs = [run.throughput for run in runs if run.throughput is not None]
        value = ratio_mean_of(throughputs) if throughputs else None
        speedup = None if value is None or not base_value else value.value / base_value
        efficiency = None
        if value is not None and base_value:
            # The base's own scatter is in every point's efficiency; it is shown with the base.
            efficiency = ratio_mean_of([each / base_value / ideal for each in throughputs])
        latencies = [run.latency_ms for run in runs if run.latency_ms is not None]
        memory = [run.memory_bytes for run in runs if run.memory_bytes is not None]
        digests = [run.digest for run in runs if run.digest is not None]
        points.append(
            Point(
                setting=setting,
                runs=len(runs),
                throughput=value,
                speedup=speedup,
                ideal_speedup=ideal,
                efficiency=efficiency,
                over=setting.workers > cores,
                latency_ms=mean_of(latencies) if latencies else None,
                memory_bytes=sum(memory) / len(memory) if memory else None,
                memory_is_own=any(run.memory_is_own for run in runs),
                account=_mean_account(digests, setting.workers),
                causes=_mean_causes(digests),
                failed=tuple(
                    run.failed for run in sweep.runs if run.setting == setting and run.failed is not None
                ),
            )
        )
    return tuple(points)


def _mean(runs: Sequence[Run]) -> float:
    return ratio_mean_of([run.throughput for run in runs if run.throughput is not None]).value


def _mean_account(digests: Sequence[Digest], workers: int) -> dict[str, float]:
    accounts = [asked_account(digest, workers) for digest in digests if digest.account]
    order = [part.value for part in CorePart]
    total = summed(accounts)
    return {
        name: total[name] / len(accounts)
        for name in sorted(total, key=lambda each: order.index(each) if each in order else len(order))
    }


def _mean_causes(digests: Sequence[Digest]) -> tuple[Cause, ...]:
    found: dict[str, list[Cause]] = {}
    for digest in digests:
        for cause in digest.causes:
            found.setdefault(cause.key, []).append(cause)
    causes = [
        Cause(
            one[-1].key,
            one[-1].rule,
            one[-1].summary,
            one[-1].severity,
            sum(each.lost_cores for each in one) / len(digests),
        )
        for one in found.values()
    ]
    return tuple(sorted(causes, key=lambda each: -each.lost_cores)[:SHOWN_CAUSES])


# --- curves --------------------------------------------------------------------------------------------


def _curve(sweep: Sweep, python: str, cores: float) -> Curve:
    settings = sorted(
        (setting for setting in sweep.settings if setting.python == python), key=lambda each: each.workers
    )
    points = _points(sweep, settings, cores)
    law, fitted_over = _law(sweep, points, cores)
    growing = _growing(sweep, points)
    return Curve(python, points, law, fitted_over, growing, _grown(points), _expected(sweep, points))


def _expected(sweep: Sweep, points: Sequence[Point]) -> tuple[Expected, ...]:
    found: list[Expected] = []
    for point in points:
        said = [run.foreseen for run in sweep.good(point.setting) if run.foreseen is not None]
        if not said:
            continue
        told = [each for each in said if each.gain is not None]
        after = Setting(said[0].threads, point.setting.processes, point.setting.python)
        there = next((each for each in points if each.setting == after), None)
        came = None
        if there is not None and there.throughput is not None and point.throughput is not None:
            came = there.throughput.value / point.throughput.value
        found.append(
            Expected(
                point.setting,
                after,
                gain=_mean_of_known([each.gain for each in told]),
                low=_mean_of_known([each.low for each in told]),
                high=_mean_of_known([each.high for each in told]),
                came=came,
                not_told=None if told else said[0].not_told,
            )
        )
    return tuple(found)


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _law(sweep: Sweep, points: Sequence[Point], cores: float) -> tuple[Law | NoLaw, bool]:
    within = [point for point in points if point.throughput is not None and not point.over]
    every = [point for point in points if point.throughput is not None]
    found = _law_of(sweep, within)
    if isinstance(found, Law) or len(every) == len(within):
        return found, False
    wider = _law_of(sweep, every)
    if isinstance(wider, NoLaw):
        return wider, False
    return wider, True


def _law_of(sweep: Sweep, points: Sequence[Point]) -> Law | NoLaw:
    runs = [
        (point.setting.workers, run.throughput)
        for point in points
        for run in sweep.good(point.setting)
        if run.throughput is not None
    ]
    if not runs:
        return NoLaw("no run has a throughput")
    return law_of(
        np.array([threads for threads, _ in runs], dtype=np.float64),
        np.array([value for _, value in runs], dtype=np.float64),
    )


def _growing(sweep: Sweep, points: Sequence[Point]) -> tuple[Growth, ...]:
    """Parts of the account that take more at the last point than at the first, the largest gain first."""
    known = [point for point in points if point.account]
    if len(known) < 2:
        return ()
    first, last = known[0], known[-1]
    found: list[Growth] = []
    for part in dict.fromkeys((*first.account, *last.account)):
        if part == CorePart.USEFUL.value:
            continue
        before, after = first.account.get(part, 0.0), last.account.get(part, 0.0)
        error = math.hypot(_error(sweep, first, part), _error(sweep, last, part))
        if after - before >= max(LEAST_GROWTH_CORES, SURE_ERRORS * error):
            series = tuple(point.account.get(part, 0.0) if point.account else None for point in points)
            found.append(Growth(part, before, after, series))
    return tuple(sorted(found, key=lambda each: -each.gained_cores))


def _error(sweep: Sweep, point: Point, part: str) -> float:
    values = [
        asked_account(run.digest, point.setting.workers).get(part, 0.0)
        for run in sweep.good(point.setting)
        if run.digest is not None and run.digest.account
    ]
    mean = mean_of(values)
    return 0.0 if mean.deviation is None else mean.deviation / math.sqrt(mean.number)


def _grown(points: Sequence[Point]) -> Cause | None:
    known = [point for point in points if point.account]
    if len(known) < 2:
        return None
    before = {cause.key: cause.lost_cores for cause in known[0].causes}
    gains = [(cause.lost_cores - before.get(cause.key, 0.0), cause) for cause in known[-1].causes]
    gained, cause = max(gains, key=lambda each: each[0], default=(0.0, None))
    return cause if gained >= LEAST_GROWTH_CORES else None


def _value(mean: Mean | None) -> float:
    return 0.0 if mean is None else mean.value


# --- layouts -------------------------------------------------------------------------------------------


def _advice(points: Sequence[Point], cores: float) -> Advice | None:
    """Of the layouts that are as fast as the fastest the one that takes least memory."""
    known = [point for point in points if point.throughput is not None]
    if len(known) < 2:
        return None
    fastest = max(known, key=lambda point: _value(point.throughput))
    top = _value(fastest.throughput)
    # As fast: the range of its runs reaches within a twentieth of the fastest.
    near = [point for point in known if _reach(point) >= (1 - ALIKE_RATIO) * top]
    measured = all(point.memory_bytes is not None for point in near)
    chosen = (
        min(near, key=lambda point: (point.memory_bytes or 0.0, point.setting.processes))
        if measured
        else min(near, key=lambda point: point.setting.processes)
    )
    reasons: list[str] = []
    costs: list[str] = []
    if len(near) == 1:
        others = max(_value(point.throughput) for point in known if point is not chosen)
        reasons.append(f"it does {top / others:.2f} times the work of the next best")
    else:
        names = ", ".join(point.setting.words() for point in near if point is not chosen)
        reasons.append(f"it is as fast as {names}, within {100 * ALIKE_RATIO:g} %")
    if chosen.memory_bytes:
        for point in known:
            if point is not chosen and point.memory_bytes:
                ratio = point.memory_bytes / chosen.memory_bytes
                reasons.append(f"{point.setting.words()} takes {ratio:.1f} times its memory")
    if chosen.latency_ms is not None:
        quickest = min(
            (point for point in known if point.latency_ms is not None),
            key=lambda point: _value(point.latency_ms),
        )
        if quickest is not chosen and _value(quickest.latency_ms) < 0.95 * chosen.latency_ms.value:
            costs.append(
                f"latency: {chosen.latency_ms.value:.3g} ms, where {quickest.setting.words()} has"
                f" {_value(quickest.latency_ms):.3g} ms"
            )
    if chosen.setting.processes == 1:
        costs.append("isolation: a crash, a leak or a stop-the-world pause takes all its threads with it")
        costs.append("restart: all of it at once; several processes can be restarted one after the other")
    else:
        costs.append("memory and start-up: every process has its own modules, caches and connections")
        costs.append("sharing: what one process knows the others do not; they exchange copies")
    return Advice(chosen.setting, tuple(reasons), tuple(costs))


def _reach(point: Point) -> float:
    mean = point.throughput
    if mean is None:
        return 0.0
    return (
        mean.value if mean.high is None else max(mean.value, min(mean.high, mean.value * (1 + ALIKE_RATIO)))
    )


# --- interpreters --------------------------------------------------------------------------------------


def _reference(sweep: Sweep, names: Sequence[str]) -> str:
    """The first with a GIL: what the others are a switch from; else the first."""
    with_gil = [name for name in names if "free-threaded" not in sweep.versions.get(name, "free-threaded")]
    return (with_gil or list(names))[0]


def _exchange(curve: Curve, base: Curve) -> Exchange:
    mine, theirs = curve.measured, base.measured
    if not mine or not theirs:
        return Exchange(curve.python, None, None, None, None)
    best, other = curve.best, base.best
    assert best is not None
    assert other is not None
    same = base.at(mine[0].setting.workers)
    single = None
    if same is not None and same.throughput is not None:
        single = _value(mine[0].throughput) / same.throughput.value
    from_here = None
    for point in reversed(mine):
        if _value(point.throughput) < _value(other.throughput):
            break
        from_here = point.setting.workers
    return Exchange(
        curve.python,
        single,
        _value(best.throughput) / _value(other.throughput),
        best.setting.workers,
        from_here,
    )
