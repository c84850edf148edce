"""The results of a sweep in the terminal: its points as bars, the law, the causes by number of threads.

In: a `Scaling`. Out: the screen; `chosen` is the recording that was asked for with Enter, and `position` the
point that it is of, where the view begins when it comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment

from ftdiag.reports.document import Section, Table, text_lines
from ftdiag.reports.sweep import figure, headline, name_of, sections, span
from ftdiag.scaling.curve import Point, Scaling
from ftdiag.scaling.law import Law
from ftdiag.tui.lines import Lines, heading, prose
from ftdiag.tui.look import Look
from ftdiag.tui.onepage import OnePageApp
from ftdiag.wording import units

KEYS: Final = (
    "up/down: choose a point   Enter: its recording   PgUp/PgDn: scroll   T: light or dark   q: leave"
)
LEAST_BAR: Final = 12
FIGURES: Final = 56
"""Cells of a row before its bar."""
SHOWN_PARTS: Final = 8
LEAST_CORES: Final = 0.005


class SweepApp(OnePageApp):
    """The application."""

    def __init__(
        self, scaling: Scaling, *, position: int = 0, words: str = "", ascii_only: bool | None = None
    ) -> None:
        self._scaling = scaling
        self._points = points_of(scaling)
        self.position = min(max(0, position), max(0, len(self._points) - 1))
        self.chosen: str | None = None
        """A file in the folder of recordings."""
        super().__init__("sweep", words=words, ascii_only=ascii_only)

    def action_step(self, step: int) -> None:
        """Another point."""
        if self._points:
            self.position = min(len(self._points) - 1, max(0, self.position + step))
            self.show_page()

    def action_choose(self) -> None:
        """The recording of the point's middle run by throughput."""
        name = recording_of(self._scaling, self._points[self.position]) if self._points else None
        if name is None:
            self.say("this point has no recording")
            return
        self.chosen = name
        self.exit()

    def show_page(self) -> None:
        """The points and what is told of the chosen one."""
        scaling, position = self._scaling, self.position
        self.panel.show_lines(
            f"Scaling   {KEYS}", lambda width, look: sweep_lines(scaling, position, width, look)
        )


def points_of(scaling: Scaling) -> list[Point]:
    """All points, of all interpreters, in the order in which they are shown."""
    return [*scaling.layouts, *(point for curve in scaling.curves for point in curve.points)]


def recording_of(scaling: Scaling, point: Point) -> str | None:
    """The recording of a point's run that is in the middle by throughput."""
    runs = [run for run in scaling.sweep.good(point.setting) if run.recordings]
    if not runs:
        return None
    return sorted(runs, key=lambda run: run.throughput or 0.0)[len(runs) // 2].recordings[0]


def sweep_lines(scaling: Scaling, position: int, width: int, look: Look) -> Lines:
    """The page: the answer, the points with bars, what the chosen point's cores did, and the report below."""
    lines: Lines = prose(headline(scaling), width, look, look.strong)
    points = points_of(scaling)
    top = max((point.throughput.value for point in points if point.throughput is not None), default=1.0)
    top = max(top, *(_ideal(scaling, point) or 0.0 for point in points), 1e-12)
    lines += heading("Points: throughput (bar), ideal (|), law (:)", width, look)
    lines.append(_head(width, look))
    number = 0
    for name, group in _groups(scaling):
        if name:
            lines.append([Segment(look.cut(f" {name}", width), look.muted)])
        for point in group:
            lines.append(_row(scaling, point, number == position, top, width, look))
            number += 1
    if points:
        lines += _chosen(points[position], width, look)
    made = [section for section in sections(scaling) if not _is_points_table(section)]
    for section in made[:1]:
        lines += [
            line for sentence in section.sentences[1:] for line in prose(sentence, width, look, look.muted)
        ]
    for section in made[1:]:
        lines += heading(section.heading, width, look)
        part = Section("", section.sentences, section.table, section.after)
        lines += [
            [Segment(look.cut(f" {line}", width), look.text)]
            for line in text_lines([part], max(20, width - 2), ascii_only=look.ascii_only)
        ]
    return lines


def _is_points_table(section: Section) -> bool:
    table: Table | None = section.table
    return table is not None and table.headings[:2] == ("threads", "throughput")


def _groups(scaling: Scaling) -> list[tuple[str, Sequence[Point]]]:
    if scaling.layouts:
        return [("", scaling.layouts)]
    many = len(scaling.curves) > 1
    return [
        (f"{curve.python} {scaling.sweep.versions.get(curve.python, '')}" if many else "", curve.points)
        for curve in scaling.curves
    ]


def _head(width: int, look: Look) -> list[Segment]:
    cells = (("  point", 24, False), ("throughput", 12, True), ("speedup", 9, True), ("of ideal", 9, True))
    return [look.cell(text, room, look.muted, right=right) for text, room, right in cells]


def _row(scaling: Scaling, point: Point, chosen: bool, top: float, width: int, look: Look) -> list[Segment]:
    style = look.strong if chosen else look.text
    mark = look.pointer if chosen else " "
    name = point.setting.words() + (" *" if point.over else "")
    efficiency = None if point.efficiency is None else point.efficiency.value
    room = max(LEAST_BAR, width - FIGURES - 2)
    filled = 0 if point.throughput is None else round(room * point.throughput.value / top)
    body = (("#" if look.ascii_only else "█") * filled + ("." if look.ascii_only else "·") * room)[:room]
    for value, sign in ((_fitted(scaling, point), ":"), (_ideal(scaling, point), "|")):
        if value is not None:
            at = min(room - 1, max(0, round(room * value / top) - 1))
            body = body[:at] + sign + body[at + 1 :]
    return [
        look.cell(f"{mark} {name}", 24, style),
        look.cell(figure(point.throughput), 12, style, right=True),
        look.cell(
            units.NOT_MEASURED if point.speedup is None else f"{point.speedup:.2f}", 9, style, right=True
        ),
        look.cell(units.percent(efficiency), 9, style, right=True),
        Segment("  "),
        Segment(body, look.accent if point.over else look.good),
    ]


def _fitted(scaling: Scaling, point: Point) -> float | None:
    for curve in scaling.curves:
        if point in curve.points and isinstance(curve.law, Law):
            return curve.law.at(point.setting.workers).value
    return None


def _ideal(scaling: Scaling, point: Point) -> float | None:
    """The throughput that the base would come to."""
    for curve in scaling.curves:
        if point in curve.points and curve.measured:
            base = curve.measured[0].throughput
            return None if base is None else base.value * point.ideal_speedup
    return None


def _chosen(point: Point, width: int, look: Look) -> Lines:
    lines = heading(f"With {point.setting.words()}", width, look)
    runs = units.plural(point.runs, "run")
    words = [f"throughput {figure(point.throughput)} ({span(point.throughput)}, 95 %), {runs}"]
    if point.latency_ms is not None:
        words.append(f"latency {figure(point.latency_ms)} ms")
    if point.memory_bytes is not None:
        kind = " of their own" if point.memory_is_own else ""
        words.append(f"memory{kind} {units.size(point.memory_bytes)}")
    lines += prose("; ".join(words), width, look)
    parts = sorted(point.account.items(), key=lambda each: -each[1])[:SHOWN_PARTS]
    cores = ", ".join(
        f"{name_of(name)} {units.cores(value)}" for name, value in parts if value >= LEAST_CORES
    )
    if cores:
        lines += prose(f"cores: {cores}", width, look)
    for cause in point.causes[:3]:
        lines += prose(f"{units.cores(cause.lost_cores)} cores: {cause.summary}", width, look)
    for failed in point.failed[:3]:
        lines += prose(f"failed: {failed}", width, look, look.warning)
    return lines
