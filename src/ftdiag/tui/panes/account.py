"""The account of cores, drawn: as a bar with its legend, and over time as a stack that fills the capacity.

In: a snapshot's account, and the account over time. Out: lines. The figures are those of every other view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.segment import Segment
from rich.style import Style

from ftdiag.datatypes import dataclass
from ftdiag.model import CorePart, Metrics, Severity, Snapshot, ThreadState
from ftdiag.tui.lines import Lines
from ftdiag.tui.look import Look
from ftdiag.tui.safetext import width_of
from ftdiag.tui.source import SECOND_NS, clock
from ftdiag.tui.statebar import bar
from ftdiag.wording.account import SAID_CORES, efficiency_words, part_name, useful_words
from ftdiag.wording.states import STATE_OF_PART
from ftdiag.wording.units import cores, whole_or_cores

if TYPE_CHECKING:
    # Brings numpy, which the first picture (without data) need not wait for.
    from ftdiag.session import Timeline

SAID_UNSEEN_CORES: Final = 0.05
"""Cores from which on threads that ended before they were looked at are named beside the bar."""
ONLY_SAMPLES: Final = "not measured: there are only samples"
"""Of figures that come from the kernel's counters, which a file of another profiler does not have."""
LABEL: Final = 8
EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
TICK_CELLS: Final = 16
"""Cells between two times of the axis, at least."""
STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
BEGAN_SIGN: Final = "!"
"""Below the time line: a finding appeared, or threads stand still since then."""
MARKED_PAUSE: Final = 0.02
"""Share of the capacity that pauses must have cost in a slice to be marked."""
LEAST_WITH_MARKS: Final = 4
"""Lines of the time line from which on one of them is for marks."""
_LEAST_SHARE: Final = 0.06
"""Of a cell: less of a part is not drawn."""


@dataclass(frozen=True, slots=True)
class Began:
    """A finding that began at a known time."""

    at_ns: int
    severity: Severity


def ideal_of(metrics: Metrics) -> float | None:
    """The cores that could have been useful: the ideal speedup, else the capacity."""
    return metrics.ideal_speedup if metrics.ideal_speedup is not None else metrics.capacity_cores


def useful_line(snapshot: Snapshot) -> str:
    """The cores that were useful against the ideal, and what is not measured."""
    metrics = snapshot.metrics
    ideal = ideal_of(metrics)
    of = "" if ideal is None else f" of {whole_or_cores(round(ideal, 2))}"
    if snapshot.imported is not None:
        return "CPU time not measured"
    if metrics.useful_cores is None:
        unseen = metrics.unseen_threads_cores or 0.0
        by = f" ({cores(unseen)} unseen threads)" if unseen >= SAID_UNSEEN_CORES else ""
        return f"{cores(metrics.on_cpu_cores)}{of} on CPU{by}; useful not measured"
    efficiency = efficiency_words(metrics)
    return f"{useful_words(metrics)}{of} useful" + (f"; efficiency {efficiency}" if efficiency else "")


def as_states(account: Mapping[CorePart, float]) -> dict[ThreadState, float]:
    """Cores by the state in whose colour a part is drawn."""
    states: dict[ThreadState, float] = {}
    for part, value in account.items():
        state = STATE_OF_PART[part]
        states[state] = states.get(state, 0.0) + value
    return states


def legend_lines(metrics: Metrics, width: int, look: Look, most: int) -> Lines:
    """The parts of the account with their cores, in at most so many lines; what has no room is counted."""
    parts = [(part, value) for part, value in metrics.account.items() if value >= SAID_CORES]
    parts.sort(key=lambda entry: (entry[0] is not CorePart.USEFUL, entry[0] is CorePart.NO_DEMAND, -entry[1]))
    lines: Lines = []
    line: list[Segment] = []
    room = 0
    for number, (part, value) in enumerate(parts):
        text = f" {part_name(part, metrics)} {cores(value)}  "
        needed = width_of(text) + 1
        left = len(parts) - number
        more = f"and {left} more"
        if needed > room:
            if len(lines) == most:
                if width_of(more) <= room:
                    line.append(Segment(more, look.muted))
                break
            line = [Segment(" " * (LABEL + 1))]
            room = max(0, width - LABEL - 2)
            lines.append(line)
        state = STATE_OF_PART[part]
        line += [Segment(look.sign(state), look.state_styles[state]), Segment(text, look.text)]
        room -= needed
    return lines


def account_lines(snapshot: Snapshot, width: int, look: Look, most: int = 2) -> Lines:
    """The account as a bar as long as the capacity, useful cores, efficiency, the parts and their cores."""
    metrics = snapshot.metrics
    room = min(60, max(12, (width - LABEL) * 2 // 5))
    label = look.cell("cores", LABEL, look.muted)
    words_room = max(0, width - LABEL - 3 - room)
    words = Segment(look.cut(useful_line(snapshot), words_room), look.text)
    if snapshot.imported is not None or not metrics.account:
        why = ONLY_SAMPLES if snapshot.imported is not None else "not measured: the capacity is not known"
        return [
            [Segment(" "), label, Segment(look.cut(f"{useful_line(snapshot)}; {why}", width - 10), look.text)]
        ]
    painted = bar(as_states(metrics.account), room, look)
    return [
        [Segment(" "), label, *painted, Segment(" "), words],
        *legend_lines(metrics, width, look, most),
    ]


# --- over time -------------------------------------------------------------------------------------------


def stack_lines(line: Timeline, width: int, height: int, look: Look) -> Lines:
    """The account over time: each column a slice, from useful at the bottom to no demand at the top.

    The scale is the capacity, whatever was in use: a spike cannot stretch it.
    """
    slices = len(line.on_cpu_cores)
    if line.capacity_cores is None or not slices or not line.account:
        return []
    capacity = max(line.capacity_cores, 1e-9)
    order = [part for part in CorePart if part in line.account]
    columns: list[list[tuple[ThreadState | None, float]] | None] = []
    for column in range(width):
        at = column * slices // width
        if line.on_cpu_cores[at] is None:
            columns.append(None)
            continue
        heights: list[tuple[ThreadState | None, float]] = []
        for part in order:
            value = line.account[part][at] or 0.0
            state = None if part is CorePart.NO_DEMAND else STATE_OF_PART[part]
            heights.append((state, value / capacity * height))
        columns.append(heights)
    lines: Lines = []
    for row in range(height):
        low = float(height - 1 - row)
        made: list[Segment] = []
        for heights_of in columns:
            sign, style = (" ", None) if heights_of is None else _cell(heights_of, low, look)
            if made and made[-1].style == style:
                made[-1] = Segment(made[-1].text + sign, style)
            else:
                made.append(Segment(sign, style))
        lines.append(made)
    return lines


def _cell(
    heights: Sequence[tuple[ThreadState | None, float]], low: float, look: Look
) -> tuple[str, Style | None]:
    """What one cell shows: the parts that reach into it, the lower one below the upper one."""
    inside: list[tuple[ThreadState | None, float]] = []
    begin = 0.0
    for state, tall in heights:
        share = min(begin + tall, low + 1) - max(begin, low)
        begin += tall
        if share > _LEAST_SHARE:
            if inside and inside[-1][0] is state:
                inside[-1] = state, inside[-1][1] + share
            else:
                inside.append((state, share))
    if not inside:
        return " ", None
    largest = sorted(inside, key=lambda entry: -entry[1])[:2]
    lower, upper = (largest[0], None) if len(largest) < 2 else sorted(largest, key=inside.index)
    if upper is None or look.ascii_only or not look.blends:
        state = largest[0][0]
        return (" ", None) if state is None else (look.sign(state), look.state_styles[state])
    share = lower[1] / (lower[1] + upper[1])
    sign = EIGHTHS[max(0, min(8, round(share * 8)))]
    return sign, Style(color=look.colour(lower[0]), bgcolor=look.colour(upper[0]))


def axis_line(t0_ns: int, t1_ns: int, start_ns: int, width: int, look: Look) -> list[Segment]:
    """Times of the recording below a picture that is `width` cells wide, at round distances."""
    length_s = max(1e-9, (t1_ns - t0_ns) / SECOND_NS)
    most = max(1, width // TICK_CELLS)
    step = next((step for step in STEPS_S if length_s / step <= most), STEPS_S[-1])
    begin_s = (t0_ns - start_ns) / SECOND_NS
    text = [" "] * width
    first = int(-(-begin_s // step)) * step
    marks = [first + number * step for number in range(most + 1)]
    tick = "'" if look.ascii_only else "╵"
    for mark in marks:
        at = int((mark - begin_s) / length_s * width)
        words = f"{tick}{clock(int(mark * SECOND_NS))}"
        if at >= 0 and at + len(words) <= width and all(sign == " " for sign in text[at : at + len(words)]):
            text[at : at + len(words)] = words
    return [Segment("".join(text), look.muted)]


def marks_line(line: Timeline, began: Sequence[Began], width: int, look: Look) -> list[Segment] | None:
    """What happened when: pauses, by the sign of that state, and beginnings of findings; or nothing."""
    slices = len(line.on_cpu_cores)
    least = MARKED_PAUSE * (line.capacity_cores or 1.0)
    stopped = line.account.get(CorePart.STOPPED) or (None,) * slices
    pause = Segment(look.sign(ThreadState.STOPPED), look.state_styles[ThreadState.STOPPED])
    cells = [
        pause if (stopped[column * slices // width] or 0.0) >= least else Segment(" ")
        for column in range(width)
    ]
    length_ns = max(1, line.t1_ns - line.t0_ns)
    for each in sorted(began, key=lambda one: one.severity is Severity.CRITICAL):
        if line.t0_ns <= each.at_ns <= line.t1_ns:
            at = min(width - 1, (each.at_ns - line.t0_ns) * width // length_ns)
            cells[at] = Segment(BEGAN_SIGN, look.severity(each.severity))
    return cells if any(cell.text != " " for cell in cells) else None


def over_time_lines(
    line: Timeline | None,
    start_ns: int,
    width: int,
    height: int,
    look: Look,
    began: Sequence[Began] = (),
) -> Lines:
    """The stack with its scale, its marks and its axis, in `height` lines."""
    if line is None:
        return [[Segment(" " * (LABEL + 1)), Segment("reading ...", look.muted)]]
    room = max(1, width - LABEL - 2)
    marks = marks_line(line, began, room, look) if height > LEAST_WITH_MARKS else None
    rows = max(1, height - 1 - (marks is not None))
    plotted = stack_lines(line, room, rows, look)
    if not plotted:
        return []
    lines: Lines = []
    top = whole_or_cores(round(line.capacity_cores or 0.0, 2))
    for number, each in enumerate(plotted):
        label = f"{top} cores"[: LABEL - 1] if number == 0 else "0" if number == rows - 1 else ""
        lines.append([Segment(" "), look.cell(label, LABEL - 1, look.muted, right=True), Segment(" "), *each])
    if marks is not None:
        lines.append(
            [Segment(" "), look.cell("marks", LABEL - 1, look.muted, right=True), Segment(" "), *marks]
        )
    axis = axis_line(line.t0_ns, line.t1_ns, start_ns, room, look)
    return [*lines, [Segment(" " * (LABEL + 1)), *axis]]
