"""The report of a comparison: the verdict, what it rests on, causes resolved and new, what changed.

In: a `Comparison`. Out: a headline, `Section`s, a value for JSON (`ftdiag-diff/1`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ftdiag.reports.document import Section, Table, amount
from ftdiag.scaling.comparing import Change, Comparison, Verdict
from ftdiag.scaling.digest import Cause
from ftdiag.wording import units

SCHEMA: Final = "ftdiag-diff/1"
SHOWN: Final = 8
LEAST_CORES: Final = 0.02
WORDS: Final = {
    Verdict.BETTER: "Better",
    Verdict.WORSE: "Worse",
    Verdict.ALIKE: "Alike",
    Verdict.CANNOT_TELL: "Cannot tell",
}


def headline(comparison: Comparison) -> str:
    """The verdict in one sentence."""
    text = f"{WORDS[comparison.verdict]}: {comparison.why}"
    needed = needed_words(comparison)
    return f"{text}. {needed}" if needed else f"{text}."


def needed_words(comparison: Comparison) -> str:
    """How many runs would tell, where it cannot be told."""
    if comparison.verdict is not Verdict.CANNOT_TELL or not comparison.main:
        return ""
    change = comparison.main[0]
    what = "parts of a recording (seconds or more)" if comparison.before.kind == "recording" else "runs"
    if change.runs_needed is None:
        return f"It would take more than a thousand {what} of each to tell."
    there = f"{change.runs[0]} and {change.runs[1]} there are"
    return f"About {change.runs_needed} {what} of each would tell ({there})."


def sections(comparison: Comparison) -> tuple[Section, ...]:
    """All of it."""
    found = [
        Section(
            "",
            (
                headline(comparison),
                f"Before: {comparison.before.name}",
                f"After: {comparison.after.name}",
                *(f"Note: {note}." for note in comparison.notes),
            ),
        )
    ]
    if comparison.main:
        found.append(Section("What the verdict rests on", table=_changes(comparison.main, all_of_them=True)))
    found += list(_finding_sections(comparison))
    for heading, changes in (
        ("Where the cores went", comparison.parts),
        ("Locks, threads that wait on average", comparison.locks),
        ("Hot lines, threads there on average", comparison.lines),
    ):
        shown = [
            change for change in changes if change.change is not None and abs(change.change) >= LEAST_CORES
        ][:SHOWN]
        if shown:
            found.append(Section(heading, table=_changes(shown)))
    return tuple(found)


def baseline_sections(comparison: Comparison) -> tuple[Section, ...]:
    """The same as part of the report of the second side."""
    first, *rest = sections(comparison)
    heading = f"Against the baseline {comparison.before.name}"
    return (Section(heading, (first.sentences[0], *first.sentences[3:])), *rest)


def _finding_sections(comparison: Comparison) -> Iterator[Section]:
    sentences = [
        *(f"Resolved: {_cause(cause)}" for cause in comparison.resolved[:SHOWN]),
        *(f"New: {_cause(cause)}" for cause in comparison.new[:SHOWN]),
        *(
            f"Still there: {after.summary} ({units.cores(before.lost_cores)} cores before,"
            f" {units.cores(after.lost_cores)} after)"
            for before, after in comparison.still[:SHOWN]
        ),
    ]
    if sentences:
        yield Section("Findings", tuple(sentences))


def _cause(cause: Cause) -> str:
    return f"{cause.summary} ({units.cores(cause.lost_cores)} cores)"


def _changes(changes: Sequence[Change], *, all_of_them: bool = False) -> Table:
    rows = tuple(
        (
            change.name,
            _figure(change.before),
            _figure(change.after),
            _change(change),
            _range(change),
            change.verdict.value,
            *(("" if change.runs_needed is None else str(change.runs_needed),) if all_of_them else ()),
        )
        for change in changes
    )
    headings = (
        "",
        "before",
        "after",
        "change",
        "95 %",
        "verdict",
        *(("runs to tell",) if all_of_them else ()),
    )
    return Table(headings, rows, words=(0, 5))


def _figure(value: float | None) -> str:
    return "" if value is None else amount(value)


def _change(change: Change) -> str:
    if change.change is None:
        return units.NOT_MEASURED
    return f"{100 * change.change:+.1f} %" if change.relative else f"{change.change:+.2f}"


def _range(change: Change) -> str:
    if change.low is None or change.high is None:
        return units.NOT_MEASURED
    if change.relative:
        return f"{100 * change.low:+.1f} to {100 * change.high:+.1f} %"
    return f"{change.low:+.2f} to {change.high:+.2f}"


def value_of(comparison: Comparison) -> dict[str, Any]:
    """The comparison for programs."""
    return {
        "schema": SCHEMA,
        "verdict": comparison.verdict.value,
        "why": comparison.why,
        "before": {"name": comparison.before.name, "kind": comparison.before.kind},
        "after": {"name": comparison.after.name, "kind": comparison.after.kind},
        "main": [_change_value(change) for change in comparison.main],
        "account": [_change_value(change) for change in comparison.parts],
        "locks": [_change_value(change) for change in comparison.locks],
        "hot": [_change_value(change) for change in comparison.lines],
        "resolved": [_cause_value(cause) for cause in comparison.resolved],
        "new": [_cause_value(cause) for cause in comparison.new],
        "still": [
            {**_cause_value(after), "lost_cores_before": before.lost_cores}
            for before, after in comparison.still
        ],
        "notes": list(comparison.notes),
    }


def _change_value(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "unit": change.unit or None,
        "before": change.before,
        "after": change.after,
        "change": change.change,
        "low": change.low,
        "high": change.high,
        "relative": change.relative,
        "verdict": change.verdict.value,
        "runs": list(change.runs),
        "runs_needed": change.runs_needed,
    }


def _cause_value(cause: Cause) -> dict[str, Any]:
    return {
        "rule": cause.rule,
        "summary": cause.summary,
        "severity": cause.severity,
        "lost_cores": cause.lost_cores,
    }
