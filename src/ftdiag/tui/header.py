"""The lines above the panes: the answer, the target, and how far the figures can be trusted.

In: a `View`. Out: three lines, and a fourth when the last refresh failed.
"""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.widget import Widget

from ftdiag.datatypes import dataclass
from ftdiag.model import Snapshot
from ftdiag.tui.look import Look, look_of
from ftdiag.tui.painting import PaintedLines
from ftdiag.tui.safetext import width_of
from ftdiag.tui.source import View
from ftdiag.wording.account import useful_words
from ftdiag.wording.answer import Answer, answer
from ftdiag.wording.target import END_WORDS, gil_words
from ftdiag.wording.units import cores, percent, small_percent, whole_or_cores

WAITING = "waiting for the first samples of the target"
NOTHING = "nothing was recorded; q leaves and says why"
TORN_OR_MISSED_ALARM = 0.02
"""Share of torn stacks or missed ticks from which the figure is a warning: the sampler's goal."""
OWN_COST_ALARM = 0.05
"""Share of the capacity above which what ftdiag itself takes is a warning."""
SPARE_CELLS = 8
"""Cells that a longer wording of the answer must have to spare before it takes the place of a shorter one."""
REASON_LEAST = 25
"""Cells that the cores and why there are no more of them keep when the line is full."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a header line. Pieces with the highest `dispensable` go first when the line is full."""

    text: str
    style: Style | None = None
    dispensable: int = 0
    least: int | None = None


def lay_out(parts: list[Part], width: int, look: Look) -> list[Segment]:
    """The parts on one line, two spaces apart; when it is full the most dispensable are left out or cut."""
    shown = [(part, look.safe(part.text)) for part in parts if part.text]

    def needed(cut_down: bool) -> int:
        gaps = 2 * max(0, len(shown) - 1)
        return gaps + sum(
            min(width_of(text), part.least) if cut_down and part.least is not None else width_of(text)
            for part, text in shown
        )

    while len(shown) > 1 and needed(cut_down=True) > width:
        worst = max(range(len(shown)), key=lambda i: shown[i][0].dispensable)
        if shown[worst][0].dispensable == 0:
            break
        del shown[worst]
    over = needed(cut_down=False) - width
    for part in sorted((part for part, _ in shown), key=lambda part: -part.dispensable):
        position = next(i for i, (other, _) in enumerate(shown) if other is part)
        text = shown[position][1]
        if over > 0 and part.least is not None and width_of(text) > part.least:
            room = max(part.least, width_of(text) - over)
            over -= width_of(text) - room
            shown[position] = part, look.cut(text, room)
    segments: list[Segment] = []
    for part, text in shown:
        if segments:
            segments.append(Segment("  "))
        segments.append(Segment(text, part.style))
    return segments


def answer_words(answered: Answer, room: int, look: Look, before: int | None = None) -> tuple[int, str]:
    """The longest wording that has room, and its number; 0 is the sentence in full.

    The others leave out the cores, which the third line has too, then all but the first clause, then what
    stands behind its colon. Where even that is cut, the line to look at comes first. Figures change their
    width from second to second: what was too long a moment ago (its number is below `before`) comes back
    only when it has cells to spare.
    """
    clause = answered.cause.partition("; ")[0]
    wordings = (answered.sentence, answered.cause, clause, clause.partition(": ")[0])
    for number, words in enumerate(wordings):
        spare = SPARE_CELLS if before is not None and number < before else 0
        if width_of(look.safe(words)) + spare <= room:
            return number, words
    words = wordings[-1]
    if answered.place and answered.place not in look.cut(words, room):
        words = f"{answered.place}: {words}"
    whole = look.cut(words, room)
    to_word = whole.removesuffix(look.ellipsis).rpartition(" ")[0]
    return len(wordings), to_word + look.ellipsis if len(to_word) > room // 2 else whole


def answer_line(
    view: View, width: int, look: Look, before: int | None = None
) -> tuple[int | None, list[Segment]]:
    """The first line: the answer; and the number of its wording, to be given `before` the next time."""
    if view.snapshot is None:
        return None, [Segment(look.cut(WAITING if view.live else NOTHING, width), look.strong)]
    answered = answer(view.snapshot)
    marks: list[Segment] = []
    if answered.severity is not None:
        marks.append(Segment(f"{answered.severity.value.upper()} ", look.severity(answered.severity)))
    room = max(0, width - sum(width_of(mark.text) for mark in marks))
    number, words = answer_words(answered, room, look, before)
    return number, [*marks, Segment(look.cut(words, room), look.strong)]


def state_part(view: View, look: Look) -> Part:
    """Whether the picture moves: live, paused, ended and why, or a finished recording."""
    end = view.snapshot.end if view.snapshot else None
    if end is not None:
        style = look.error if end.reason.value in ("killed", "failed", "disk-full") else look.warning
        words = f"ENDED: {END_WORDS[end.reason]}"
        return Part(f"PAUSED, {words}" if view.paused else words, style)
    if view.paused:
        return Part("PAUSED", look.warning)
    if view.live and view.selection.until_ns is not None:
        return Part("REWOUND", look.warning)
    if view.live:
        return Part("LIVE", look.good)
    return Part("REPLAY", look.accent)


def target_line(view: View, width: int, look: Look) -> list[Segment]:
    """The second line: state of the recording, range, process, interpreter, command."""
    parts = [state_part(view, look), Part(view.selection.words(view.span_ns), look.muted)]
    if view.read_ratio is not None:
        parts.append(Part(f"{percent(view.read_ratio)} of it read", look.warning))
    snapshot = view.snapshot
    if snapshot is not None:
        target = snapshot.target
        gil, alarm = gil_words(target.free_threaded, target.gil_enabled, target.gil_culprits)
        if snapshot.imported is None:
            parts += [
                Part(f"pid {target.pid}", look.text, dispensable=1),
                Part(f"Python {target.python_version}", look.text, dispensable=2, least=13),
                Part(gil, look.warning if alarm else look.text, least=22),
            ]
        parts.append(Part(target.command, look.muted, dispensable=3, least=6))
    return lay_out(parts, width, look)


def figures_line(view: View, width: int, look: Look) -> list[Segment]:
    """The third line: cores, the sampler's own cost, and its misses."""
    snapshot = view.snapshot
    if snapshot is None:
        return []
    quality = snapshot.quality
    return lay_out(
        [
            _capacity(snapshot, look),
            _useful(snapshot, look),
            _own_cost(snapshot, look),
            _alarming("missed", quality.missed_tick_ratio, look, dispensable=2),
            _alarming("torn", quality.torn_ratio, look, dispensable=3),
            Part(_unknown_part(quality.unknown_ratio), look.muted, dispensable=4),
        ],
        width,
        look,
    )


def _capacity(snapshot: Snapshot, look: Look) -> Part:
    metrics = snapshot.metrics
    if snapshot.imported is not None:
        return Part("CPU not measured", look.muted)
    text = f"CPU {cores(metrics.on_cpu_cores)}"
    if metrics.capacity_cores is not None:
        text += f"/{whole_or_cores(metrics.capacity_cores)}"
    if metrics.capacity_reason:
        text += f" ({metrics.capacity_reason})"
    return Part(text, look.accent, least=REASON_LEAST)


def _own_cost(snapshot: Snapshot, look: Look) -> Part:
    """What ftdiag itself takes; a warning where that is more than it should."""
    taken, capacity = snapshot.quality.sampler_cpu_ratio, snapshot.metrics.capacity_cores
    if taken is None:
        return Part("ftdiag not measured", look.muted, dispensable=1)
    alarm = capacity is not None and taken > OWN_COST_ALARM * capacity
    return Part(f"ftdiag {cores(taken)}", look.warning if alarm else look.muted, 0 if alarm else 1)


def _useful(snapshot: Snapshot, look: Look) -> Part:
    useful = useful_words(snapshot.metrics)
    if useful is None:
        return Part("useful not measured", look.muted)
    return Part(f"useful {useful}", look.accent)


def _alarming(name: str, ratio: float | None, look: Look, dispensable: int) -> Part:
    alarm = ratio is not None and ratio > TORN_OR_MISSED_ALARM
    if alarm:
        return Part(f"{name} {small_percent(ratio)}", look.warning)
    return Part(f"{name} {small_percent(ratio)}", look.muted, dispensable)


def _unknown_part(ratio: float | None) -> str:
    return "" if ratio is None else f"unknown {small_percent(ratio)}"


class Header(PaintedLines, Widget):
    """The header. Its height follows from whether there is an error to show."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="header")
        self._view = View()
        self._wording: int | None = None

    def on_resize(self, _: Resize) -> None:
        """With another width the wording of the answer is chosen anew."""
        self._wording = None

    def show_view(self, view: View) -> None:
        """Paint another view."""
        if (view.error is None) != (self._view.error is None):
            self.styles.height = 3 if view.error is None else 4
        self._view = view
        self.repaint()

    def painted_line(self, y: int, width: int) -> tuple[list[Segment], Style | None]:
        """One of the lines."""
        look = look_of(self)
        room = max(0, width - 2)
        makers = (target_line, figures_line)
        if y == 0:
            self._wording, segments = answer_line(self._view, room, look, self._wording)
        elif y <= len(makers):
            segments = makers[y - 1](self._view, room, look)
        elif self._view.error is not None:
            segments = [Segment(look.cut(self._view.error, room), look.error)]
        else:
            segments = []
        return [Segment(" "), *segments], None
