"""The report of a sweep: how far it scales, where it bends, what grows; layouts; interpreters.

In: a `Scaling`. Out: a headline, `Section`s for text, Markdown and HTML, and a value for JSON
(`ftdiag-scale-report/1`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ftdiag.model import CorePart
from ftdiag.reports.document import Section, Table, amount
from ftdiag.scaling.curve import Curve, Exchange, Growth, Point, Scaling
from ftdiag.scaling.law import Law
from ftdiag.scaling.noise import Mean
from ftdiag.scaling.results import Sweep
from ftdiag.wording import units
from ftdiag.wording.states import PART_NAMES

SCHEMA: Final = "ftdiag-scale-report/1"
SHOWN_PARTS: Final = 8
SHOWN_GROWING: Final = 4
LEAST_CORES: Final = 0.005
DISTURBANCES: Final = frozenset(
    part.value for part in (CorePart.OTHER_PROGRAMS, CorePart.FTDIAG, CorePart.RUNNABLE)
)
"""What others on the machine took: no cause of the program's, and a reason to measure again."""
DISTURBED_CORES: Final = 0.1
SHOWN_COMMAND: Final = 200
_NAMES: Final = {part.value: name for part, name in PART_NAMES.items()}


def headline(scaling: Scaling) -> str:
    """The answer in one sentence."""
    if scaling.layouts:
        return _layouts_headline(scaling)
    if not any(curve.measured for curve in scaling.curves):
        return "No run has a throughput."
    if len(scaling.curves) > 1:
        return _exchange_headline(scaling)
    return _curve_headline(scaling.curves[0], scaling)


def _curve_headline(curve: Curve, scaling: Scaling) -> str:
    best = curve.best
    assert best is not None
    assert best.speedup is not None
    first = curve.measured[0]
    last = curve.measured[-1]
    if len(curve.measured) == 1:
        return f"One number of threads was measured: {figure(first.throughput)} {_unit(scaling.sweep)}."
    if best is first:
        words = (
            f"More threads do less: {last.speedup or 0:.2f} times the work of {first.setting.words()} with"
            f" {last.setting.words()}."
        )
    else:
        words = (
            f"{best.speedup:.2f} times the work of {first.setting.words()} with {best.setting.words()},"
            f" {units.percent(_value(best.efficiency))} of what {_cores_words(best, scaling)} could do."
        )
    growth = next((each for each in curve.growing if each.part not in DISTURBANCES), None)
    if growth is not None:
        words += (
            f" What grows is {name_of(growth.part)}: from {units.cores(growth.before_cores)} to"
            f" {units.cores(growth.after_cores)} cores."
        )
    return words


def _cores_words(point: Point, scaling: Scaling) -> str:
    number = min(point.setting.workers, scaling.cores)
    return f"{number:g} core{'' if number == 1 else 's'}"


def _layouts_headline(scaling: Scaling) -> str:
    advice = scaling.advice
    if advice is None:
        return "Not enough layouts were measured to choose one."
    return f"{_sentence(advice.setting.words())} is recommended: {'; '.join(advice.reasons)}."


def _exchange_headline(scaling: Scaling) -> str:
    said = []
    for each in scaling.exchanges:
        if each.best_ratio is None:
            said.append(f"{each.python} was not measured")
            continue
        single = "" if each.single_ratio is None else f" ({each.single_ratio:.2f} times with one thread)"
        said.append(
            f"{each.python} does at best {each.best_ratio:.2f} times what {scaling.reference} does{single}"
        )
    return "; ".join(said) + "."


def sections(scaling: Scaling) -> tuple[Section, ...]:
    """All of it."""
    sweep = scaling.sweep
    found = [Section("", (headline(scaling), *_about(scaling)))]
    if scaling.layouts:
        found += list(_layout_sections(scaling))
    for curve in scaling.curves:
        found += list(_curve_sections(curve, scaling, many=len(scaling.curves) > 1))
    if scaling.exchanges:
        found.append(_exchanges(scaling))
    failed = _failed(sweep)
    if failed:
        found.append(Section("Runs that came to nothing", failed))
    return tuple(found)


def _about(scaling: Scaling) -> Iterator[str]:
    sweep = scaling.sweep
    yield f"Command: {' '.join(sweep.command)[:SHOWN_COMMAND]}"
    recorded = f"recorded at {sweep.rate_hz:g} Hz" if sweep.recorded else "not recorded"
    yield (
        f"Cores: {sweep.capacity_cores:g} ({sweep.capacity_reason}); {units.plural(sweep.repeats, 'round')},"
        f" {recorded}; throughput {_how(sweep)}."
    )
    if scaling.missing_runs:
        yield f"Not finished: {units.plural(scaling.missing_runs, 'run')} to be made."
    if sweep.repeats == 1:
        yield "One run of each: how much runs scatter is not known (--repeat 3 shows it)."


def _how(sweep: Sweep) -> str:
    reading = sweep.reading
    if reading.way == "pattern":
        return f"from the output ({reading.pattern})"
    if reading.way == "counter":
        return f"from the counter in {reading.counter}"
    each = " in each thread" if reading.per_thread else ""
    return f"is {reading.items:g} item{'' if reading.items == 1 else 's'}{each} over wall time"


def _failed(sweep: Sweep) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for run in sweep.runs:
        if run.failed is not None:
            words = f"{run.setting.words()}: {run.failed}"
            seen[words] = seen.get(words, 0) + 1
    return tuple(f"{words}{f' ({times} times)' if times > 1 else ''}" for words, times in seen.items())


# --- a curve -------------------------------------------------------------------------------------------


def _curve_sections(curve: Curve, scaling: Scaling, *, many: bool) -> Iterator[Section]:
    name = ""
    if many:
        version = scaling.sweep.versions.get(curve.python, "")
        name = f"{curve.python}{f' ({version})' if version else ''}: "
    yield Section(
        f"{name}throughput by number of threads" if many else "Throughput by number of threads",
        table=_points_table(curve, scaling),
        after=tuple(_remarks(curve, scaling)),
    )
    yield Section(f"{name}the law" if many else "The law", tuple(law_sentences(curve, scaling)))
    if any(point.account for point in curve.points):
        yield Section(
            f"{name}where the cores went" if many else "Where the cores went",
            table=_account_table(curve),
            after=tuple(growth_sentences(curve)),
        )
    if curve.expected:
        yield _expected_section(
            curve, f"{name}foreseen and come true" if many else "Foreseen, and whether it came true"
        )


def _points_table(curve: Curve, scaling: Scaling) -> Table:
    latency = any(point.latency_ms is not None for point in curve.points)
    memory = any(point.memory_bytes is not None for point in curve.points)
    headings = ["threads", "throughput", "95 % of runs' mean", "speedup", "ideal", "efficiency", "law"]
    headings += ["latency ms"] if latency else []
    headings += ["memory"] if memory else []
    rows: list[tuple[str, ...]] = []
    for point in curve.points:
        fitted = curve.law.at(point.setting.workers).value if isinstance(curve.law, Law) else None
        row = [
            f"{point.setting.workers}{' *' if point.over else ''}",
            figure(point.throughput),
            span(point.throughput),
            units.NOT_MEASURED if point.speedup is None else f"{point.speedup:.2f}",
            f"{point.ideal_speedup:.2f}",
            units.percent(None if point.efficiency is None else point.efficiency.value),
            units.NOT_MEASURED if fitted is None else amount(fitted),
        ]
        row += [figure(point.latency_ms)] if latency else []
        row += [units.size(point.memory_bytes)] if memory else []
        rows.append(tuple(row))
    return Table(tuple(headings), tuple(rows), words=())


def _remarks(curve: Curve, scaling: Scaling) -> Iterator[str]:
    measured = curve.measured
    if any(point.over for point in curve.points):
        yield (
            f"* more threads than the {scaling.cores:g} cores there are: they share them, and the ideal"
            f" stays that of {scaling.cores:g}."
        )
    if measured and measured[0].setting.workers != 1:
        yield (
            f"Speedup is against {measured[0].setting.words()}, the fewest that were measured: what one"
            " thread alone does is not known."
        )
    if any(run.not_recorded for run in scaling.sweep.runs):
        words = next(run.not_recorded for run in scaling.sweep.runs if run.not_recorded)
        yield f"Some runs were not recorded: {words}"


def law_sentences(curve: Curve, scaling: Scaling) -> Iterator[str]:
    """What the law says, with what is open; or why there is none."""
    law = curve.law
    if not isinstance(law, Law):
        yield f"No law was fitted: {law.why}."
        return
    yield (
        "X(N) = lambda N / (1 + sigma (N-1) + kappa N (N-1))  (Gunther's Universal Scalability Law),"
        " with 95 % bands:"
    )
    yield f"contention sigma {_between(law.contention)}: what only one thread at a time can do"
    yield f"crosstalk kappa {_between(law.crosstalk)}: what each pair of threads costs each other"
    single = law.single
    spread = f"{amount(single.low)} to {amount(single.high)}"
    yield f"one thread lambda {amount(single.value)} ({spread}) {_unit(scaling.sweep)}"
    largest = law.numbers[-1]
    if law.best is None:
        yield f"It does not bend within four times the {largest} threads that were measured."
    elif law.best.value <= 1:
        yield "It is highest with one thread: every further one costs more than it does."
    else:
        beyond = f", beyond the {largest} that were measured" if law.best.value > largest else ""
        span = f"{law.best.low:.1f} to {law.best.high:.1f}"
        yield f"It is highest at N* = {law.best.value:.1f} threads ({span}){beyond}."
    yield f"Amdahl's law alone (kappa = 0): a serial share of {law.amdahl_contention:.3g}."
    yield f"Runs scatter by {units.percent(law.noise_ratio, 1)}."
    if law.misfit:
        yield (
            "The points are further from this law than their scatter explains: it is not what limits this"
            " program."
        )
    if law.uncertain:
        yield f"Uncertain: it has three unknowns, and there are {len(law.numbers)} numbers of threads."
    if curve.fitted_over:
        yield (
            f"There are too few numbers of threads up to the {scaling.cores:g} cores: the law was fitted"
            " also to those above, and bends there by itself."
        )


def _expected_section(curve: Curve, heading: str) -> Section:
    rows = tuple(
        (
            f"{each.before.threads} to {each.after.threads}",
            _ratio(each.gain),
            units.NOT_MEASURED
            if each.low is None or each.high is None
            else f"{each.low:.2f} to {each.high:.2f}",
            _ratio(each.came),
            {None: "not measured", True: "yes", False: "no"}[each.came_true],
        )
        for each in curve.expected
    )
    untold = tuple(
        dict.fromkeys(
            f"From {each.before.words()}: {each.not_told}." for each in curve.expected if each.not_told
        )
    )
    return Section(
        heading,
        ("Work a second with the next number of threads over that before, by a replay of each run.",),
        Table(("threads", "foreseen", "80 % interval", "came", "within"), rows, words=(0, 4)),
        untold,
    )


def _account_table(curve: Curve) -> Table:
    points = [point for point in curve.points if point.account]
    names = dict.fromkeys(name for point in points for name in point.account)
    kept = [name for name in names if max(point.account.get(name, 0.0) for point in points) >= LEAST_CORES]
    order = [part.value for part in CorePart]
    kept.sort(key=lambda name: order.index(name) if name in order else len(order))
    rows = tuple(
        (name_of(name), *(units.cores(point.account.get(name, 0.0)) for point in points)) for name in kept
    )
    heads = tuple(f"{point.setting.workers} thr{' *' if point.over else ''}" for point in points)
    return Table(("cores", *heads), rows)


def growth_sentences(curve: Curve) -> Iterator[str]:
    """What grows, the most first, and the finding behind it."""
    if not any(point.account for point in curve.points):
        return
    own = [growth for growth in curve.growing if growth.part not in DISTURBANCES]
    for growth in own[:SHOWN_GROWING]:
        yield growth_words(growth)
    if not own:
        yield "No cause grows with the number of threads by as much as can be told."
    taken = max(
        (sum(point.account.get(part, 0.0) for part in DISTURBANCES) for point in curve.points), default=0.0
    )
    if taken >= DISTURBED_CORES:
        yield (
            f"Beware: others took up to {units.cores(taken)} cores that the program wanted. Measure again"
            " where nothing else runs."
        )
    if curve.grown_cause is not None:
        yield f"At the most threads: {curve.grown_cause.summary}"


def growth_words(growth: Growth) -> str:
    """For example "Grows: object locks, from 0.00 to 0.85 cores"."""
    return (
        f"Grows: {name_of(growth.part)}, from {units.cores(growth.before_cores)} to"
        f" {units.cores(growth.after_cores)} cores."
    )


# --- layouts and interpreters --------------------------------------------------------------------------


def _layout_sections(scaling: Scaling) -> Iterator[Section]:
    latency = any(point.latency_ms is not None for point in scaling.layouts)
    headings = ["processes x threads", "throughput", "95 % of runs' mean", "memory of their own"]
    headings += ["latency ms"] if latency else []
    rows = []
    for point in scaling.layouts:
        row = [
            f"{point.setting.processes} x {point.setting.threads}{' *' if point.over else ''}",
            figure(point.throughput),
            span(point.throughput),
            units.size(point.memory_bytes),
        ]
        rows.append((*row, *((figure(point.latency_ms),) if latency else ())))
    over = any(point.over for point in scaling.layouts)
    yield Section(
        "Layouts",
        table=Table(tuple(headings), tuple(rows)),
        after=(f"* more threads than the {scaling.cores:g} cores there are",) if over else (),
    )
    accounts = [point for point in scaling.layouts if point.account]
    if accounts:
        names = [
            name
            for name in dict.fromkeys(name for point in accounts for name in point.account)
            if max(point.account.get(name, 0.0) for point in accounts) >= LEAST_CORES
        ]
        heads = tuple(f"{point.setting.processes}x{point.setting.threads}" for point in accounts)
        yield Section(
            "Where the cores went, of all processes together",
            table=Table(
                ("cores", *heads),
                tuple(
                    (name_of(name), *(units.cores(point.account.get(name, 0.0)) for point in accounts))
                    for name in names[: 2 * SHOWN_PARTS]
                ),
            ),
        )
    if scaling.advice is not None:
        yield Section(
            f"Recommended: {scaling.advice.setting.words()}",
            (
                *(f"{_sentence(reason)}." for reason in scaling.advice.reasons),
                *(f"It costs {cost}." for cost in scaling.advice.costs),
            ),
        )


def _exchanges(scaling: Scaling) -> Section:
    rows = tuple(_exchange_row(each) for each in scaling.exchanges)
    return Section(
        f"Against {scaling.reference} ({scaling.sweep.versions.get(scaling.reference, '')})",
        table=Table(("interpreter", "fewest threads", "best", "at threads", "gains from threads on"), rows),
    )


def _exchange_row(each: Exchange) -> tuple[str, ...]:
    return (
        each.python,
        _ratio(each.single_ratio),
        _ratio(each.best_ratio),
        units.NOT_MEASURED if each.best_threads is None else str(each.best_threads),
        "never" if each.breaks_even is None else str(each.breaks_even),
    )


# --- JSON ----------------------------------------------------------------------------------------------


def value_of(scaling: Scaling) -> dict[str, Any]:
    """The report for programs."""
    sweep = scaling.sweep
    return {
        "schema": SCHEMA,
        "headline": headline(scaling),
        "kind": sweep.kind,
        "command": list(sweep.command),
        "host": sweep.host,
        "capacity_cores": sweep.capacity_cores,
        "capacity_reason": sweep.capacity_reason,
        "repeats": sweep.repeats,
        "missing_runs": scaling.missing_runs,
        "recorded": sweep.recorded,
        "curves": [_curve_value(curve, sweep) for curve in scaling.curves],
        "layouts": [_point_value(point) for point in scaling.layouts],
        "recommended": None
        if scaling.advice is None
        else {
            "processes": scaling.advice.setting.processes,
            "threads": scaling.advice.setting.threads,
            "reasons": list(scaling.advice.reasons),
            "costs": list(scaling.advice.costs),
        },
        "reference": scaling.reference or None,
        "interpreters": [
            {
                "python": each.python,
                "version": sweep.versions.get(each.python),
                "single_ratio": each.single_ratio,
                "best_ratio": each.best_ratio,
                "best_threads": each.best_threads,
                "gains_from_threads": each.breaks_even,
            }
            for each in scaling.exchanges
        ],
        "failed": list(_failed(sweep)),
    }


def _curve_value(curve: Curve, sweep: Sweep) -> dict[str, Any]:
    law = curve.law
    return {
        "python": curve.python or None,
        "version": sweep.versions.get(curve.python),
        "points": [_point_value(point) for point in curve.points],
        "law": {
            "lambda": _between_value(law.single),
            "sigma": _between_value(law.contention),
            "kappa": _between_value(law.crosstalk),
            "best_threads": None if law.best is None else _between_value(law.best),
            "amdahl_sigma": law.amdahl_contention,
            "noise_ratio": law.noise_ratio,
            "misfit": law.misfit,
            "uncertain": law.uncertain,
            "fitted_beyond_cores": curve.fitted_over,
            "fitted": [
                {"threads": number, **_between_value(law.at(number)), "amdahl": law.amdahl_at(number)}
                for number in law.numbers
            ],
        }
        if isinstance(law, Law)
        else None,
        "no_law": None if isinstance(law, Law) else law.why,
        "growing": [
            {"part": each.part, "before_cores": each.before_cores, "after_cores": each.after_cores}
            for each in curve.growing
        ],
        "foreseen": [
            {
                "threads": each.before.threads,
                "next_threads": each.after.threads,
                "gain": each.gain,
                "low": each.low,
                "high": each.high,
                "came": each.came,
                "within": each.came_true,
                "not_told": each.not_told,
            }
            for each in curve.expected
        ],
        "grown_finding": None
        if curve.grown_cause is None
        else {"rule": curve.grown_cause.rule, "summary": curve.grown_cause.summary},
    }


def _between_value(between: Any) -> dict[str, float]:
    return {"value": between.value, "low": between.low, "high": between.high}


def _point_value(point: Point) -> dict[str, Any]:
    return {
        "processes": point.setting.processes,
        "threads": point.setting.threads,
        "workers": point.setting.workers,
        "more_than_cores": point.over,
        "runs": point.runs,
        "throughput": _mean_value(point.throughput),
        "speedup": point.speedup,
        "ideal_speedup": point.ideal_speedup,
        "efficiency": _mean_value(point.efficiency),
        "latency_ms": _mean_value(point.latency_ms),
        "memory_bytes": point.memory_bytes,
        "memory_is_own": point.memory_is_own,
        "account": dict(point.account) or None,
        "findings": [
            {"rule": cause.rule, "summary": cause.summary, "lost_cores": cause.lost_cores}
            for cause in point.causes
        ],
        "failed": list(point.failed),
    }


def _mean_value(mean: Mean | None) -> dict[str, float | int | None] | None:
    if mean is None:
        return None
    return {"value": mean.value, "runs": mean.number, "low": mean.low, "high": mean.high}


# --- words ---------------------------------------------------------------------------------------------


def name_of(part: str) -> str:
    """What a part of the account is called."""
    return _NAMES.get(part, part)


def figure(mean: Mean | None) -> str:
    """A mean in a table."""
    return units.NOT_MEASURED if mean is None else amount(mean.value)


def span(mean: Mean | None) -> str:
    """Its interval."""
    if mean is None or mean.low is None or mean.high is None:
        return units.NOT_MEASURED
    return f"{amount(mean.low)} to {amount(mean.high)}"


def _between(between: Any) -> str:
    return f"{between.value:.3g} ({between.low:.3g} to {between.high:.3g})"


def _ratio(value: float | None) -> str:
    return units.NOT_MEASURED if value is None else f"{value:.2f} x"


def _value(mean: Mean | None) -> float | None:
    return None if mean is None else mean.value


def _unit(sweep: Sweep) -> str:
    return sweep.reading.unit


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
