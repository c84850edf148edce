"""Reports of sweeps and comparisons, printed and written to files: plots, summaries of jobs, JUnit XML.

In: a sweep or a comparison, and where it is wanted. Out: standard output, new files, and one that is
appended to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftdiag.commands import terminal
from ftdiag.errors import DiskFull, UsageError
from ftdiag.wording import units

if TYPE_CHECKING:
    from ftdiag.reports.document import Section
    from ftdiag.reports.junit import Case
    from ftdiag.scaling.comparing import Comparison
    from ftdiag.scaling.gates import Gate
    from ftdiag.scaling.results import Sweep

PLOT_ENDINGS: Final = (".svg", ".png")


def check(plots: Sequence[Path], junit: Path | None) -> None:
    """Raise UsageError for files that could not be written: before anything is run."""
    for path in plots:
        if path.suffix.lower() not in PLOT_ENDINGS:
            raise UsageError(f"--plot {path}: its ending is neither .svg nor .png", "--plot scaling.svg")
        if path.suffix.lower() == ".png":
            from ftdiag.reports.drawing import check_png

            check_png()
    for path in (*plots, *(() if junit is None else (junit,))):
        if os.path.lexists(path):
            raise UsageError(f"{path} exists already, and is not overwritten", "Choose another name.")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise UsageError(f"{path} cannot be created: {path.parent} may not be written to")


def put_sweep(
    sweep: Sweep,
    form: str,
    gates: Sequence[Gate] = (),
    *,
    plots: Sequence[Path] = (),
    summary: Path | None = None,
    junit: Path | None = None,
) -> None:
    """The report of a sweep, and its files."""
    from ftdiag.reports import sweep as report
    from ftdiag.reports.chart import chart_of
    from ftdiag.reports.document import Section
    from ftdiag.reports.drawing import to_svg
    from ftdiag.reports.junit import Case
    from ftdiag.scaling.curve import scaling_of
    from ftdiag.scaling.gates import judged

    scaling = scaling_of(sweep)
    parts = list(report.sections(scaling))
    results = judged(gates, sweep)
    if results:
        words = tuple(f"{'Passed' if result.passed else 'Failed'}: {result.words}" for result in results)
        parts.insert(1, Section("Gates", words))
    title = "How it scales with threads" if sweep.kind == "threads" else f"How it scales, by {sweep.kind}"
    value = report.value_of(scaling)
    value["gates"] = [
        {
            "threads": result.gate.threads,
            "least": result.gate.least_ratio,
            "python": result.python or None,
            "efficiency": result.efficiency_ratio,
            "passed": result.passed,
        }
        for result in results
    ]
    drawing = chart_of(scaling)
    _put(title, parts, value, form, [to_svg(drawing)] if form == "html" else [])
    for path in plots:
        write_plot(path, drawing)
    _summarise(summary, title, parts)
    if junit is not None:
        cases = [
            Case(
                f"efficiency at least {result.gate.least_ratio:g} with"
                f" {units.plural(result.gate.threads, 'thread')}"
                + (f" on {result.python}" if result.python else ""),
                None if result.passed else result.words,
                details=result.words,
            )
            for result in results
        ]
        _write_junit(junit, "ftdiag scale", cases or [Case("sweep", details=report.headline(scaling))])


def put_comparison(
    comparison: Comparison,
    form: str,
    *,
    failed: bool,
    summary: Path | None = None,
    junit: Path | None = None,
) -> None:
    """The report of a comparison, and its files."""
    from ftdiag.reports import comparison as report
    from ftdiag.reports.junit import Case

    parts = report.sections(comparison)
    title = "Before and after"
    _put(title, parts, report.value_of(comparison), form, [])
    _summarise(summary, title, parts)
    if junit is not None:
        words = report.headline(comparison)
        cases = [Case("not worse than before", words if failed else None, details=words)]
        _write_junit(junit, "ftdiag diff", cases)


def _put(
    title: str, parts: Sequence[Section], value: dict[str, Any], form: str, pictures: Sequence[str]
) -> None:
    from ftdiag.reports import document

    if form == "json":
        terminal.put_json(value)
    elif form == "html":
        terminal.put_lines(document.html_document(title, parts, pictures).splitlines())
    elif form == "markdown":
        terminal.put_lines(document.markdown_lines(title, parts))
    else:
        terminal.put_lines(document.text_lines(parts, terminal.width(), ascii_only=terminal.ascii_only()))


def write_plot(path: Path, drawing: Any) -> None:
    """A new picture, by the ending of its name. Raises DiskFull, UsageError."""
    from ftdiag.reports.drawing import to_png, to_svg

    data = to_png(drawing) if path.suffix.lower() == ".png" else to_svg(drawing).encode("ascii")
    _write(path, data, "xb")


def _summarise(path: Path | None, title: str, parts: Sequence[Section]) -> None:
    if path is None:
        return
    from ftdiag.reports.document import markdown_lines

    text = "\n".join(markdown_lines(title, parts))
    _write(path, f"{text}\n".encode("utf-8", "backslashreplace"), "ab")


def _write_junit(path: Path, suite: str, cases: Sequence[Case]) -> None:
    from ftdiag.reports.junit import junit_text

    _write(path, junit_text(suite, cases).encode("utf-8"), "xb")


def _write(path: Path, data: bytes, mode: str) -> None:
    try:
        with open(path, mode) as stream:
            stream.write(data)
    except OSError as error:
        raise DiskFull(f"{path} cannot be written: {error.strerror}", "Choose another place.") from None
