"""The results of a sweep in the terminal: its points as bars, the law, the causes by number of threads.

In: a `Scaling`. Out: the screen; `chosen` is the recording that was asked for with Enter, and `position` the
point that it is of, where the view begins when it comes back.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType

from ftdiag.reports.document import Section, Table, text_lines
from ftdiag.reports.sweep import figure, headline, name_of, sections, span
from ftdiag.scaling.curve import Point, Scaling
from ftdiag.scaling.law import Law
from ftdiag.tui.lines import Lines, LinesPanel, heading, prose
from ftdiag.tui.look import DARK, LIGHT, PLAIN, SIXTEEN, THEMES, Look, locale_is_ascii, look_for, theme_for
from ftdiag.wording import units

KEYS: Final = (
    "up/down: choose a point   Enter: its recording   PgUp/PgDn: scroll   T: light or dark   q: leave"
)
LEAST_BAR: Final = 12
FIGURES: Final = 56
"""Cells of a row before its bar."""
SHOWN_PARTS: Final = 8
LEAST_CORES: Final = 0.005


class SweepApp(App[None]):
    """The application."""

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "ftdiag"
    ENABLE_COMMAND_PALETTE = False

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+q,ctrl+c,escape", "leave", "Leave", show=False, priority=True),
        Binding("up,k", "step(-1)", "Up", show=False, priority=True),
        Binding("down,j", "step(1)", "Down", show=False, priority=True),
        Binding("enter", "open_run", "Open its recording", show=False, priority=True),
        Binding("T", "light_or_dark", "Light or dark", show=False),
    ]

    def __init__(
        self, scaling: Scaling, *, position: int = 0, words: str = "", ascii_only: bool | None = None
    ) -> None:
        self._scaling = scaling
        self._points = points_of(scaling)
        self.position = min(max(0, position), max(0, len(self._points) - 1))
        self.chosen: str | None = None
        """A file in the folder of recordings."""
        self.ended_by: int | None = None
        self._words = words
        self._ascii_only = locale_is_ascii() if ascii_only is None else ascii_only
        self._old_handlers: dict[int, Any] = {}
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        for mine in THEMES:
            self.register_theme(mine)
        self.theme = theme_for(self.console.color_system, self.no_color)
        if self._ascii_only or self.theme in (PLAIN, SIXTEEN):
            self.add_class("-no-bars")
        self._panel = LinesPanel("", "sweep")

    @property
    def look(self) -> Look:
        """Styles and signs for this terminal and theme."""
        return look_for(self.theme, self._ascii_only)

    def compose(self) -> ComposeResult:
        """One panel."""
        yield self._panel

    def on_mount(self) -> None:
        """Show it; leave in order when asked to end."""
        self._panel.focus()
        self._show()
        if self._words:
            self.say(self._words)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._old_handlers[number] = signal.getsignal(number)
            self._loop_add(number)

    def _loop_add(self, number: int) -> None:
        import asyncio
        import threading

        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(number, self._end_by, number)

    def on_unmount(self) -> None:
        """Give signals back."""
        import asyncio

        for number, handler in self._old_handlers.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)

    def _end_by(self, number: int) -> None:
        self.ended_by = number
        self.exit()

    def action_leave(self) -> None:
        """Leave."""
        self.exit()

    def action_step(self, step: int) -> None:
        """Another point."""
        if self._points:
            self.position = min(len(self._points) - 1, max(0, self.position + step))
            self._show()

    def action_open_run(self) -> None:
        """The recording of the point's middle run by throughput."""
        name = recording_of(self._scaling, self._points[self.position]) if self._points else None
        if name is None:
            self.say("this point has no recording")
            return
        self.chosen = name
        self.exit()

    def action_light_or_dark(self) -> None:
        """The other theme."""
        self.theme = LIGHT if self.theme == DARK else DARK
        self._show()

    def say(self, words: str) -> None:
        """A short notice."""
        self.notify(self.look.safe(words), markup=False, timeout=8.0)

    def _show(self) -> None:
        scaling, position = self._scaling, self.position
        self._panel.show_lines(
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
