"""The threads pane: each thread, what it does with its time, what it waits for and where.

In: a `View`. Out: a table; Enter tells the application which thread is meant. The bars of states can be
exchanged for swim lanes: what each thread did over the range, with a cursor in time. Threads of a pool are
one row, which Enter unfolds; threads in a deadlock and stuck ones come first.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import HotLine, LockRef, ThreadMetrics, ThreadState
from ftdiag.tui.keys import Key
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, PaneBody
from ftdiag.tui.panes.account import axis_line
from ftdiag.tui.panes.pools import Pool, lane_of, pools_of
from ftdiag.tui.panes.standing import Standing
from ftdiag.tui.queries import Query, Range
from ftdiag.tui.source import View, clock
from ftdiag.tui.statebar import bar, legend
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.wording.locks import main_wait_words, names_of
from ftdiag.wording.places import place, place_and_function
from ftdiag.wording.states import BAR_ORDER, LOCK_STATES, STATE_NAMES
from ftdiag.wording.threads import thread_name
from ftdiag.wording.units import NOT_MEASURED

if TYPE_CHECKING:
    from ftdiag.session import Lanes

LANES_FROM: Final = 118
"""Cells of the pane from which on it shows lanes: a screen of 120."""
RUN_QUEUE_ALARM = 0.1
"""Share of its life in the run queue from which a thread's figure is shown as a warning."""
CURSOR: Final = Style(bold=True, underline=True, reverse=True)
"""Added to a lane's cell under the cursor in time; reads without colour too."""
_STATE_OF: Final = {int(state): state for state in ThreadState}
SAID_SHARE = 0.02
"""States below this share of a thread's time are not found by the filter, nor named in the legend."""


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """One thread of a snapshot, with the figures of its columns."""

    thread: ThreadMetrics
    cpu_ratio: float | None
    run_queue_ratio: float | None
    waits_on: str
    where: HotLine | None
    lane: bytes = b""
    cursor: float | None = None
    """Where the cursor in time is: 0 at the beginning of the range, 1 at its end."""
    pool: Pool | None = None
    """The pool that the row stands for."""
    member: bool = False
    """Whether the row of its pool is above it."""
    stands: bool = False
    """Whether it does not go on: in a deadlock, or stuck."""


def thread_row(
    thread: ThreadMetrics,
    lane: bytes = b"",
    cursor: float | None = None,
    *,
    counted: bool = True,
    names: Mapping[LockRef, str] | None = None,
) -> ThreadRow:
    """The row of a thread; `counted` unless there is nothing but samples of it; `names` of locks."""
    alive = thread.alive_ns
    return ThreadRow(
        thread=thread,
        cpu_ratio=_ratio(thread.cpu_ns, alive) if counted else None,
        run_queue_ratio=_ratio(thread.run_queue_ns, alive) if counted else None,
        waits_on=main_wait_words(thread, names=names),
        where=thread.hot[0] if thread.hot else None,
        lane=lane,
        cursor=cursor,
    )


def _name(row: ThreadRow) -> str:
    name = thread_name(row.thread.info)
    return f"  {name}" if row.member else name


def _paint_name(row: ThreadRow, width: int, look: Look) -> list[Segment]:
    """The name; where it has no room it loses its middle, so that numbers and counts stay."""
    return [look.cell(look.cut_middle(_name(row), width), width, _name_style(row, look))]


def _name_style(row: ThreadRow, look: Look) -> Style | None:
    if row.stands:
        return look.error
    return look.strong if row.pool is not None else None


def _tid(row: ThreadRow) -> str:
    return "" if row.pool is not None else str(row.thread.info.tid)


def _where(row: ThreadRow) -> str:
    if row.where is not None:
        return place_and_function(row.where.frame)
    if row.thread.latest_stack:
        return place_and_function(row.thread.latest_stack[0])
    return "" if row.thread.info.python else "(native)"


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _percent(ratio: float | None) -> str:
    return NOT_MEASURED if ratio is None else f"{100 * ratio:.0f}"


def _cpu_style(row: ThreadRow, look: Look) -> Style | None:
    if row.cpu_ratio is None:
        return look.muted
    return look.strong if row.cpu_ratio >= 0.5 else None


def _run_queue_style(row: ThreadRow, look: Look) -> Style | None:
    if row.run_queue_ratio is None:
        return look.muted
    if row.run_queue_ratio >= RUN_QUEUE_ALARM:
        return look.warning
    return None if row.run_queue_ratio >= 0.005 else look.muted


def _paint_bar(row: ThreadRow, width: int, look: Look) -> list[Segment]:
    return bar(row.thread.states_ns, width, look)


def _waiting_share(row: ThreadRow) -> float:
    """Sorts the bars: most kept from running first."""
    alive = row.thread.alive_ns
    return (
        sum(row.thread.states_ns.get(state, 0.0) for state in (*LOCK_STATES, ThreadState.RUNNABLE)) / alive
        if alive > 0
        else 0.0
    )


COLUMNS: tuple[Column[ThreadRow], ...] = (
    Column(
        key="name",
        title="thread",
        least=14,
        most=28,
        grow=2,
        sort=lambda row: thread_name(row.thread.info).casefold(),
        paint=_paint_name,
    ),
    text_column(
        "tid",
        "tid",
        7,
        _tid,
        sort=lambda row: row.thread.info.tid,
        style=lambda _, look: look.muted,
        right=True,
        dispensable=4,
    ),
    text_column(
        "role", "role", 6, lambda row: row.thread.role, style=lambda _, look: look.muted, dispensable=3
    ),
    text_column(
        "cpu",
        "CPU%",
        5,
        lambda row: _percent(row.cpu_ratio),
        # By time, not by the share that is shown: a thread that lived for a millisecond had all of it.
        sort=lambda row: (row.thread.cpu_ns, _waiting_share(row)),
        style=_cpu_style,
        right=True,
        descending=True,
    ),
    Column(
        key="states",
        title="states",
        least=12,
        most=40,
        grow=2,
        sort=_waiting_share,
        paint=_paint_bar,
        descending=True,
    ),
    text_column(
        "queue",
        "RQ%",
        4,
        lambda row: _percent(row.run_queue_ratio),
        sort=lambda row: row.thread.run_queue_ns,
        style=_run_queue_style,
        right=True,
        descending=True,
        dispensable=2,
    ),
    text_column("waits", "waits on", 13, lambda row: row.waits_on or NOT_MEASURED, grow=2, most=34),
    text_column("where", "hot line", 20, _where, grow=3),
)


def paint_lane(lane: bytes, width: int, look: Look, cursor: float | None = None) -> list[Segment]:
    """What a thread did over time: a state a cell, each as often as the thread was in it."""
    if not lane or width <= 0:
        return [Segment(" " * max(0, width))]
    at = -1 if cursor is None else min(width - 1, int(cursor * width))
    segments: list[Segment] = []
    for cell in range(width):
        code = lane[cell * len(lane) // width]
        state = _STATE_OF.get(code)
        sign = " " if state is None else look.sign(state)
        style = Style() if state is None else look.state_styles[state]
        if cell == at:
            style = style + CURSOR
        if segments and segments[-1].style == style:
            segments[-1] = Segment(segments[-1].text + sign, style)
        else:
            segments.append(Segment(sign, style))
    return segments


def _paint_lane(row: ThreadRow, width: int, look: Look) -> list[Segment]:
    return paint_lane(row.lane, width, look, row.cursor)


_BY_KEY = {column.key: column for column in COLUMNS}
LANE_COLUMNS: tuple[Column[ThreadRow], ...] = (
    replace(_BY_KEY["name"], most=24, grow=1),
    _BY_KEY["cpu"],
    Column(
        key="lane",
        title="over time",
        least=20,
        grow=6,
        sort=_waiting_share,
        paint=_paint_lane,
        descending=True,
    ),
    replace(_BY_KEY["waits"], dispensable=1, grow=1, most=24),
)


@dataclass(frozen=True, slots=True)
class OfThreads(Query["Lanes | None"]):
    """What every thread did over time, in so many slices."""

    slices: int

    def answer(self, of: Range) -> Lanes | None:
        """Ask the session."""
        return of.session.lanes(of.t0_ns, of.t1_ns, self.slices)


class ThreadsPane(Table[ThreadRow], PaneBody):
    """The table of threads."""

    def __init__(self) -> None:
        super().__init__("2", "Threads", COLUMNS, "cpu", "threads")
        self._states: frozenset[ThreadState] = frozenset()
        self._view = View()
        self._wanted: bool | None = None
        self.lanes_shown = False
        self.cursor_in_time: float | None = None
        self._folded = True
        """Whether pools are folded, but for those of `_other_way`."""
        self._other_way: set[Hashable] = set()
        self._threads_shown = 0
        self._lock_names: dict[LockRef, str] = {}

    @property
    def shown_count(self) -> int:
        """Threads, not rows."""
        return self._threads_shown

    def action_fold(self) -> None:
        """All pools folded, or all unfolded."""
        self._folded = not self._folded
        self._other_way.clear()
        self.show_view(self._view)

    def action_choose(self) -> None:
        """Fold or unfold a pool; choose a thread."""
        row = self.current
        if row is None or row.pool is None:
            super().action_choose()
            return
        self._other_way ^= {row.pool.key}
        self.show_view(self._view)

    def arranged(self, rows: list[ThreadRow]) -> list[ThreadRow]:
        """Threads that do not go on, then the others with their pools; below one that is unfolded its own."""
        self._threads_shown = len(rows)
        by_index = {row.thread.info.index: row for row in rows}
        stand = frozenset(row.thread.info.index for row in rows if row.stands)
        heads: list[ThreadRow] = []
        members: dict[Hashable, list[ThreadRow]] = {}
        for each in pools_of([row.thread for row in rows], stand):
            if not isinstance(each, Pool):
                heads.append(by_index[each.info.index])
                continue
            own = [by_index[thread.info.index] for thread in each.members]
            lane = lane_of([row.lane for row in own])
            counted = own[0].cpu_ratio is not None
            head = thread_row(each.together, lane, own[0].cursor, counted=counted, names=self._lock_names)
            heads.append(replace(head, pool=each))
            if (each.key in self._other_way) == self._folded:
                members[each.key] = [replace(row, member=True) for row in own]
        # In one order, so that each keeps its place among its like.
        ordered = self.in_order([*heads, *(row for own in members.values() for row in own)])
        below: dict[Hashable, list[ThreadRow]] = {key: [] for key in members}
        pool_of = {row.thread.info.index: key for key, own in members.items() for row in own}
        for row in ordered:
            if row.member:
                below[pool_of[row.thread.info.index]].append(row)
        shown: list[ThreadRow] = []
        for row in sorted((row for row in ordered if not row.member), key=lambda row: not row.stands):
            shown.append(row)
            if row.pool is not None:
                shown += below.get(row.pool.key, ())
        return shown

    def action_lanes(self) -> None:
        """Bars of states, or what each thread did over time."""
        self._wanted = not self.lanes_shown
        self._show_lanes(self._wanted)

    def on_resize(self, _: Resize) -> None:
        """Lanes where there is room for them, unless somebody chose."""
        self._show_lanes(self.size.width >= LANES_FROM if self._wanted is None else self._wanted)

    def _show_lanes(self, shown: bool) -> None:
        if shown == self.lanes_shown:
            return
        self.lanes_shown = shown
        self.cursor_in_time = None
        self.set_columns(LANE_COLUMNS if shown else COLUMNS)
        self.post_message(self.Moved(self))

    def head_of(self, key: str, cells: int, look: Look) -> Segment | None:
        """Times of the recording above the lanes."""
        answer = self._view.answers.of(OfThreads)
        if key != "lane" or answer is None:
            return None
        (axis,) = axis_line(answer.t0_ns, answer.t1_ns, self._view.start_ns, cells, look)
        return axis

    def action_aside(self, step: int) -> None:
        """In lanes left and right move the cursor in time."""
        if not self.lanes_shown:
            self.action_sort_step(step)
            return
        where = self.column_cells("lane")
        width = where[1] if where is not None else 1
        cell = width - 1 if self.cursor_in_time is None else int(self.cursor_in_time * width) + step
        self.cursor_in_time = (max(0, min(width - 1, cell)) + 0.5) / width
        self.show_view(self._view)

    @property
    def table(self) -> Table[Any]:
        """Itself."""
        return self

    def queries(self) -> tuple[Query[Any], ...]:
        """The lanes, in as many slices of time as there is room for."""
        where = self.column_cells("lane") if self.lanes_shown else None
        return (Standing(),) if where is None else (Standing(), OfThreads(where[1]))

    def chosen_page(self) -> tuple[str, object] | None:
        """The thread's own page."""
        row = self.current
        return None if row is None or row.pool is not None else ("thread", row.thread.info.index)

    @property
    def cursor_ns(self) -> int | None:
        """The time under the cursor, where lanes are shown."""
        snapshot = self._view.snapshot
        if not self.lanes_shown or self.cursor_in_time is None or snapshot is None:
            return None
        return snapshot.t0_ns + int(self.cursor_in_time * (snapshot.t1_ns - snapshot.t0_ns))

    def key_of(self, row: ThreadRow) -> Hashable:
        """A thread keeps its index for the whole recording, a pool its name."""
        return row.thread.info.index if row.pool is None else row.pool.key

    def searched_text(self, row: ThreadRow) -> str:
        """Name, tid, role, states, what it waits on, functions and files."""
        thread = row.thread
        alive = max(1.0, float(thread.alive_ns))
        words = [thread.info.name, str(thread.info.tid), thread.role, row.waits_on]
        for state, time in thread.states_ns.items():
            if time / alive >= SAID_SHARE:
                words += [STATE_NAMES[state], state.label]
        for hot in thread.hot:
            words += [hot.frame.function, hot.frame.filename, place(hot.frame)]
        if thread.latest_stack:
            words += [thread.latest_stack[0].function, thread.latest_stack[0].filename]
        return "\n".join(words)

    def show_view(self, view: View) -> None:
        """Take the threads of a view."""
        self._view = view
        snapshot = view.snapshot
        threads = snapshot.threads if snapshot else ()
        self.empty_text = "no threads in this range" if snapshot else "no data yet"
        states = snapshot.metrics.states_ns if snapshot else {}
        total = sum(states.values())
        shown = (state for state in BAR_ORDER if states.get(state, 0.0) > total * SAID_SHARE / 4)
        self._states = frozenset(shown)
        answer = view.answers.of(OfThreads) if self.lanes_shown else None
        lanes = {} if answer is None else answer.states
        cursor = self.cursor_in_time if self.lanes_shown else None
        counted = snapshot is None or snapshot.imported is None
        stand = view.answers.of(Standing) or {}
        self._lock_names = names_of(snapshot.locks if snapshot else ())
        rows = [
            thread_row(
                thread,
                lanes.get(thread.info.index, b""),
                cursor,
                counted=counted,
                names=self._lock_names,
            )
            for thread in threads
        ]
        self.show_rows(
            [replace(row, stands=True) if row.thread.info.index in stand else row for row in rows]
            if stand
            else rows
        )

    def caption(self, width: int, look: Look) -> list[Segment]:
        """The legend of the bars, for the states that there are; or the time under the cursor."""
        when = self.cursor_ns
        row = self.current
        if when is None or row is None or not row.lane or self.cursor_in_time is None:
            return legend(self._states, look, width)
        state = _STATE_OF.get(row.lane[min(len(row.lane) - 1, int(self.cursor_in_time * len(row.lane)))])
        word = "no samples" if state is None else STATE_NAMES[state]
        start = self._view.span_ns[0] if self._view.span_ns is not None else when
        return [Segment(look.cut(f"at {clock(when - start)}: {word}; + looks closer", width), look.accent)]


PANE: Final = Pane(
    "threads",
    "Threads",
    ThreadsPane,
    "2",
    "t",
    short="Thr",
    about="threads",
    keys=(
        Key("v", "threads: what each did over time, or bars again", "v", "in_pane('threads', 'lanes')"),
        Key(
            "u",
            "threads: pools in a row each (Enter: one of them), or not",
            "u",
            "in_pane('threads', 'fold')",
        ),
    ),
)
