"""Before and after: two sweeps, two recordings, or a recording and a live look, with what scatter leaves
open.

In: for each side its runs (of a sweep) or its parts (of a recording). Out: a `Comparison`: a verdict on
what is to be better, and every figure that changed, each with its range.

A figure is *better* or *worse* only where the 95 % interval of its change lies beyond a margin that nobody
would act on (2 % between runs; 5 % between two recordings, of which each is one run, so that what differs
from run to run is not seen). It is *alike* where the interval lies within the margin, else it *cannot be
told*, with the number of runs that would tell. Where several figures could give the verdict, each is asked
for more: their intervals are wider (Bonferroni), so that all of them together are wrong once in twenty.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import CorePart
from ftdiag.scaling.digest import Cause, Digest
from ftdiag.scaling.noise import (
    CONFIDENCE,
    Difference,
    difference_of,
    mean_of,
    neighbours_correlation,
    runs_to_tell,
    t_quantile,
)
from ftdiag.scaling.results import Sweep
from ftdiag.scaling.settings import Setting
from ftdiag.wording.states import PART_NAMES

MARGIN_RUNS: Final = 0.02
MARGIN_RECORDINGS: Final = 0.05
TOLD_CHANGE: Final = 0.05
"""Where nothing changed that could be told, the number of runs is that which tells a change of so much."""
LEAST_CORES: Final = 0.05
"""Changes of a cause below this are left out."""
MOST_CHANGES: Final = 12
LEAST_RUNS: Final = 3
"""Of each side, to tell anything."""
OVERALL: Final = "throughput, all points"


class Verdict(enum.Enum):
    """The values are the words used in reports and JSON."""

    BETTER = "better"
    WORSE = "worse"
    ALIKE = "alike"
    CANNOT_TELL = "cannot tell"


_OF_COSTS: Final = {
    Verdict.BETTER: Verdict.WORSE,
    Verdict.WORSE: Verdict.BETTER,
    Verdict.ALIKE: Verdict.ALIKE,
    Verdict.CANNOT_TELL: Verdict.CANNOT_TELL,
}
"""Where more of something is worse."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure. `low` and `high` bound its change: a ratio - 1 where `relative`, else in its unit.

    `None` where one value a side says nothing of scatter. `runs_needed`: runs of each side that would tell.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    change: float | None
    low: float | None
    high: float | None
    relative: bool
    verdict: Verdict
    runs: tuple[int, int]
    runs_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """What one side is. `parts` are digests of its runs, or of equal parts of its recording."""

    name: str
    kind: str
    """\"sweep\" or "recording"."""
    digest: Digest | None
    parts: tuple[Digest, ...] = ()
    sweep: Sweep | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides. `main` are the figures that the verdict rests on, the first of them over all."""

    before: Side
    after: Side
    verdict: Verdict
    why: str
    main: tuple[Change, ...]
    parts: tuple[Change, ...]
    """Cores by where they went."""
    locks: tuple[Change, ...]
    lines: tuple[Change, ...]
    resolved: tuple[Cause, ...]
    new: tuple[Cause, ...]
    still: tuple[tuple[Cause, Cause], ...]
    notes: tuple[str, ...] = ()


def compare(before: Side, after: Side) -> Comparison:
    """The comparison of two sides of one kind."""
    if before.sweep is not None and after.sweep is not None:
        return _compare_sweeps(before, after, before.sweep, after.sweep)
    return _compare_recordings(before, after)


# --- sweeps --------------------------------------------------------------------------------------------


def _compare_sweeps(before: Side, after: Side, one: Sweep, two: Sweep) -> Comparison:
    shared = [setting for setting in one.settings if one.good(setting) and two.good(setting)]
    notes = _sweep_notes(one, two, shared)
    sides = {
        setting: (
            [math.log(run.throughput) for run in one.good(setting) if run.throughput is not None],
            [math.log(run.throughput) for run in two.good(setting) if run.throughput is not None],
        )
        for setting in shared
    }
    main: list[Change] = []
    if shared:
        # Half of the chance to be wrong is for all points together, half for each by itself.
        alone = 1 - (1 - CONFIDENCE) / 2
        if len(shared) > 1:
            main.append(_overall(sides, alone))
        each = 1 - (1 - CONFIDENCE) / (2 * len(shared)) if len(shared) > 1 else CONFIDENCE
        main += [_throughput(setting, *sides[setting], each) for setting in shared]
    verdict, why = _verdict(main)
    digests = [
        [run.digest for setting in shared for run in sweep.good(setting) if run.digest is not None]
        for sweep in (one, two)
    ]
    return _with_details(before, after, verdict, why, main, digests[0], digests[1], 0.0, notes)


def _sweep_notes(one: Sweep, two: Sweep, shared: Sequence[Setting]) -> list[str]:
    notes: list[str] = []
    if not shared:
        notes.append("the two have no setting in common that both have measured")
    left = [each.words() for each in {*one.settings, *two.settings} if each not in shared]
    if shared and left:
        notes.append(f"measured on one side only, and left out: {', '.join(sorted(left)[:8])}")
    if one.host != two.host:
        notes.append(f"other machines: {one.host} and {two.host}")
    if one.capacity_cores != two.capacity_cores:
        notes.append(f"other numbers of cores: {one.capacity_cores:g} and {two.capacity_cores:g}")
    if one.reading.way != two.reading.way:
        notes.append(f"throughput was read in other ways: {one.reading.way} and {two.reading.way}")
    if one.recorded != two.recorded:
        notes.append("only one of the two was recorded while it ran")
    return notes


def _overall(sides: Mapping[Setting, tuple[list[float], list[float]]], confidence: float) -> Change:
    """The mean change over all points, of which each counts alike."""
    number = len(sides)
    runs = (sum(len(one) for one, _ in sides.values()), sum(len(two) for _, two in sides.values()))
    differences = [difference_of(one, two, confidence) for one, two in sides.values()]
    change = math.fsum(each.value for each in differences) / number
    errors = [each.error for each in differences if each.error is not None]
    if len(errors) < number:
        return _judged(OVERALL, "", None, None, Difference(change, None, None, None), runs, confidence)
    variances = [(error / number) ** 2 for error in errors]
    variance = math.fsum(variances)
    low = high = change
    if variance > 0:
        # Welch and Satterthwaite: as many degrees of freedom as the points have together, by their weight.
        spare = [max(1, min(len(one), len(two)) - 1) for one, two in sides.values()]
        freedom = variance**2 / sum(part**2 / free for part, free in zip(variances, spare, strict=True))
        half = t_quantile(max(1, math.floor(freedom)), confidence) * math.sqrt(variance)
        low, high = change - half, change + half
    difference = Difference(change, low, high, math.sqrt(variance))
    return _judged(OVERALL, "", None, None, difference, runs, confidence)


def _throughput(setting: Setting, one: list[float], two: list[float], confidence: float) -> Change:
    return _judged(
        f"throughput, {setting.words()}",
        "a second",
        math.exp(mean_of(one).value),
        math.exp(mean_of(two).value),
        difference_of(one, two, confidence),
        (len(one), len(two)),
        confidence,
    )


def _judged(
    name: str,
    unit: str,
    before: float | None,
    after: float | None,
    difference: Difference,
    runs: tuple[int, int],
    confidence: float,
) -> Change:
    """A change of logarithms, judged; what is larger is better."""
    verdict = _beyond(difference, MARGIN_RUNS)
    low, high = difference.low, difference.high
    return Change(
        name,
        unit,
        before,
        after,
        math.expm1(difference.value),
        None if low is None else math.expm1(low),
        None if high is None else math.expm1(high),
        True,
        verdict,
        runs,
        _needed(verdict, difference, MARGIN_RUNS, TOLD_CHANGE, runs, confidence),
    )


def _beyond(difference: Difference, margin: float) -> Verdict:
    """Whether the interval is beyond the margin, or within it; what is larger is better."""
    if difference.low is None or difference.high is None:
        return Verdict.CANNOT_TELL
    if difference.low > margin:
        return Verdict.BETTER
    if difference.high < -margin:
        return Verdict.WORSE
    within = -margin <= difference.low and difference.high <= margin
    return Verdict.ALIKE if within else Verdict.CANNOT_TELL


def _needed(
    verdict: Verdict,
    difference: Difference,
    margin: float,
    told: float,
    runs: tuple[int, int],
    confidence: float,
) -> int | None:
    """How many runs of each side would tell the change that was seen, or one of `told`."""
    if verdict is not Verdict.CANNOT_TELL:
        return None
    if difference.error is None:
        return LEAST_RUNS
    number = min(runs)
    # As if all runs had scattered alike: what they would have to, to leave as much open.
    deviation = difference.error * math.sqrt(number / 2)
    needed = runs_to_tell(deviation, max(abs(difference.value), told), margin, confidence)
    return None if needed is None else max(number + 1, needed)


def _verdict(main: Sequence[Change]) -> tuple[Verdict, str]:
    """Worse where any of the main figures is; better where any is and none is worse."""
    for verdict in (Verdict.WORSE, Verdict.BETTER):
        found = [change for change in main if change.verdict is verdict]
        if found:
            return verdict, _change_words(max(found, key=lambda each: abs(each.change or 0.0)))
    if main and main[0].verdict is Verdict.ALIKE:
        return Verdict.ALIKE, _change_words(main[0])
    if not main:
        return Verdict.CANNOT_TELL, "nothing was measured on both sides"
    return Verdict.CANNOT_TELL, _change_words(main[0])


def _change_words(change: Change) -> str:
    """For example "throughput, 4 threads: -12 % (-15 to -9 %)"."""
    if change.change is None:
        return change.name
    if not change.relative:
        text = f"{change.name}: {change.change:+.2f} {change.unit}".rstrip()
        if change.low is not None and change.high is not None:
            text += f" ({change.low:+.2f} to {change.high:+.2f})"
        return text
    text = f"{change.name}: {100 * change.change:+.1f} %"
    if change.low is not None and change.high is not None:
        text += f" ({100 * change.low:+.1f} to {100 * change.high:+.1f} %)"
    return text


# --- recordings ----------------------------------------------------------------------------------------


def _compare_recordings(before: Side, after: Side) -> Comparison:
    main: list[Change] = []
    correlation = 0.0
    notes = [
        "each side is one run: what differs from run to run is not in the ranges"
        f" (a change counts from {MARGIN_RECORDINGS:g} on); ftdiag scale --repeat 5 measures it"
    ]
    one = [part.efficiency_ratio for part in before.parts if part.efficiency_ratio is not None]
    two = [part.efficiency_ratio for part in after.parts if part.efficiency_ratio is not None]
    if one and two:
        correlation = max(neighbours_correlation(one), neighbours_correlation(two))
        main.append(_efficiency(one, two, correlation))
    verdict, why = _verdict(main)
    first, second = before.digest, after.digest
    if not main:
        why = "the efficiency was not measured on both sides"
    if first is not None and second is not None:
        if first.capacity_cores != second.capacity_cores:
            notes.append(
                f"other numbers of cores: {first.capacity_cores or 0:g} and {second.capacity_cores or 0:g}"
            )
        if (first.version, first.free_threaded) != (second.version, second.free_threaded):
            notes.append(f"other Pythons: {_python_words(first)} and {_python_words(second)}")
        if first.threads != second.threads:
            notes.append(f"other numbers of threads: {first.threads} and {second.threads}")
    return _with_details(
        before, after, verdict, why, main, list(before.parts), list(after.parts), correlation, notes
    )


def _python_words(digest: Digest) -> str:
    return f"{digest.version}{' free-threaded' if digest.free_threaded else ''}"


def _efficiency(one: Sequence[float], two: Sequence[float], correlation: float) -> Change:
    """The change of efficiency, in shares of the whole: 0.9 to 0.6 is -0.3."""
    difference = difference_of(one, two, CONFIDENCE, correlation)
    verdict = _beyond(difference, MARGIN_RECORDINGS)
    runs = (len(one), len(two))
    return Change(
        "efficiency",
        "of 1",
        mean_of(one).value,
        mean_of(two).value,
        difference.value,
        difference.low,
        difference.high,
        False,
        verdict,
        runs,
        _needed(verdict, difference, MARGIN_RECORDINGS, 2 * MARGIN_RECORDINGS, runs, CONFIDENCE),
    )


# --- what both have ------------------------------------------------------------------------------------


def _with_details(
    before: Side,
    after: Side,
    verdict: Verdict,
    why: str,
    main: Sequence[Change],
    one: Sequence[Digest],
    two: Sequence[Digest],
    correlation: float,
    notes: Sequence[str],
) -> Comparison:
    parts = _part_changes(one, two, correlation)
    causes = [_causes(side, digests) for side, digests in ((before, one), (after, two))]
    return Comparison(
        before,
        after,
        verdict,
        why,
        tuple(main),
        parts,
        _table_changes([each.locks for each in one], [each.locks for each in two], "threads", correlation),
        _table_changes([each.lines for each in one], [each.lines for each in two], "threads", correlation),
        resolved=tuple(cause for key, cause in causes[0].items() if key not in causes[1]),
        new=tuple(cause for key, cause in causes[1].items() if key not in causes[0]),
        still=tuple((cause, causes[1][key]) for key, cause in causes[0].items() if key in causes[1]),
        notes=tuple(notes),
    )


def _part_changes(one: Sequence[Digest], two: Sequence[Digest], correlation: float) -> tuple[Change, ...]:
    tables = [[each.account for each in side if each.account] for side in (one, two)]
    names = {part.value: PART_NAMES[part] for part in CorePart}
    found = _table_changes(tables[0], tables[1], "cores", correlation, least=0.005)
    return tuple(
        Change(
            names.get(each.name, each.name),
            each.unit,
            each.before,
            each.after,
            each.change,
            each.low,
            each.high,
            False,
            _cores_verdict(each),
            each.runs,
        )
        for each in found
    )


def _cores_verdict(change: Change) -> Verdict:
    """Useful cores are better when there are more of them, all others when there are fewer."""
    return _OF_COSTS[change.verdict] if change.name == CorePart.USEFUL.value else change.verdict


def _table_changes(
    one: Sequence[Mapping[str, float]],
    two: Sequence[Mapping[str, float]],
    unit: str,
    correlation: float,
    least: float = 0.02,
) -> tuple[Change, ...]:
    """Every name of two tables, the largest change first; more of it is worse."""
    if not one or not two:
        return ()
    names = dict.fromkeys(name for table in (*one, *two) for name in table)
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(names))
    changes: list[Change] = []
    for name in names:
        first = [table.get(name, 0.0) for table in one]
        second = [table.get(name, 0.0) for table in two]
        if max(mean_of(first).value, mean_of(second).value) < least:
            continue
        difference = difference_of(first, second)
        # Of many names one is beyond its own interval by chance: the verdict asks for more.
        verdict = _OF_COSTS[_beyond(difference_of(first, second, confidence, correlation), LEAST_CORES)]
        changes.append(
            Change(
                name,
                unit,
                mean_of(first).value,
                mean_of(second).value,
                difference.value,
                difference.low,
                difference.high,
                False,
                verdict,
                (len(first), len(second)),
            )
        )
    changes.sort(key=lambda each: -abs(each.change or 0.0))
    return tuple(changes[:MOST_CHANGES])


def _causes(side: Side, digests: Sequence[Digest]) -> dict[str, Cause]:
    """Findings of a side that matter, the costliest first: of a recording as a whole, of most of the runs."""
    if side.digest is not None:
        found = {cause.key: cause for cause in side.digest.causes if cause.severity != "info"}
        return dict(sorted(found.items(), key=lambda each: -each[1].lost_cores))
    seen: dict[str, list[Cause]] = {}
    for digest in digests:
        for cause in digest.causes:
            if cause.severity != "info":
                seen.setdefault(cause.key, []).append(cause)
    kept = {
        key: Cause(
            key,
            one[-1].rule,
            one[-1].summary,
            one[-1].severity,
            sum(cause.lost_cores for cause in one) / len(digests),
        )
        for key, one in seen.items()
        # One that comes and goes between runs is neither resolved nor new.
        if len(one) * 4 >= len(digests)
    }
    return dict(sorted(kept.items(), key=lambda each: -each[1].lost_cores))
