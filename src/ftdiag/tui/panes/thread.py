"""One thread: what it did over time, its stacks over time, its waits, the tasks of its event loop, its lines.

In: a thread's metrics and its history. Out: lines for a panel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.segment import Segment

from ftdiag.datatypes import dataclass
from ftdiag.model import ThreadMetrics, ThreadState
from ftdiag.tui.lines import Lines, figure, heading
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.panes.stacks import stack_lines
from ftdiag.tui.panes.threads import paint_lane
from ftdiag.tui.plot import spark
from ftdiag.tui.queries import Query, Range
from ftdiag.tui.source import View, clock
from ftdiag.tui.statebar import bar
from ftdiag.wording.locks import wait_words
from ftdiag.wording.places import place, place_and_function
from ftdiag.wording.states import BAR_ORDER, STATE_MEANINGS, STATE_NAMES
from ftdiag.wording.threads import thread_name
from ftdiag.wording.units import count, percent, seconds, size

if TYPE_CHECKING:
    from ftdiag.session import History

MAX_LISTED: Final = 12
SHOWN_FRAMES: Final = 6
SAID_SHARE: Final = 0.005
STATE_WIDTH: Final = 20
"""Room for the longest name of a state."""


def thread_title(thread: ThreadMetrics) -> str:
    """Its name, tid and role."""
    return f"{thread_name(thread.info)} (tid {thread.info.tid}, {thread.role})"


def thread_lines(
    thread: ThreadMetrics,
    history: History | None,
    start_ns: int,
    width: int,
    look: Look,
    *,
    counted: bool = True,
) -> Lines:
    """The thread's page; `counted` unless there is nothing but samples of it."""
    room = max(10, width - 2)
    alive = max(1.0, float(thread.alive_ns))
    lines: Lines = [[Segment(" "), *bar(thread.states_ns, room, look)]]
    for state in BAR_ORDER:
        spent = thread.states_ns.get(state, 0.0)
        if spent / alive >= SAID_SHARE:
            word, meaning = STATE_NAMES[state], STATE_MEANINGS[state]
            lines.append(
                [
                    Segment(" "),
                    Segment(look.sign(state) * 2, look.state_styles[state]),
                    Segment(" "),
                    look.cell(word, STATE_WIDTH, look.text),
                    look.cell(percent(spent / alive), 6, look.strong, right=True),
                    look.cell(seconds(spent), 12, look.text, right=True),
                    Segment("  "),
                    Segment(look.cut(meaning, max(0, width - 26 - STATE_WIDTH)), look.muted),
                ]
            )
    lines += heading("Over time", width, look)
    lines += _over_time(thread, history, start_ns, room, look)
    if thread.waits:
        lines += heading("Waits", width, look)
        for wait, spent in thread.waits[:MAX_LISTED]:
            words = wait_words(wait) + (f" ({wait.syscall})" if wait.syscall and wait.detail else "")
            lines.append(_share(spent, alive, words, width, look))
    if thread.tasks:
        lines += heading("Tasks of its event loop", width, look)
        for name, spent in thread.tasks[:MAX_LISTED]:
            lines.append(_share(spent, alive, name, width, look))
    if thread.hot:
        lines += heading("Where it is", width, look)
        for hot in thread.hot[:MAX_LISTED]:
            lines.append(_share(hot.total_ns, alive, place_and_function(hot.frame), width, look))
    lines += heading("Counters", width, look)
    lines += figure("alive in this range", seconds(thread.alive_ns), width, look)
    if not counted:
        words = "not measured, nor the rest: there are only samples"
        return lines + figure("on a core", words, width, look)
    lines += figure("on a core", f"{seconds(thread.cpu_ns)}, {percent(thread.cpu_ns / alive)}", width, look)
    queue = f"{seconds(thread.run_queue_ns)}, {percent(thread.run_queue_ns / alive)}"
    lines += figure(STATE_NAMES[ThreadState.RUNNABLE], queue, width, look)
    switches = f"{count(thread.voluntary_switches)} by itself, {count(thread.involuntary_switches)} forced"
    lines += figure("switches", switches, width, look)
    moves = "not counted by this kernel" if thread.migrations is None else count(thread.migrations)
    lines += figure("moves to another core", moves, width, look)
    faults = f"{count(thread.minor_faults)} minor, {count(thread.major_faults)} major"
    lines += figure("page faults", faults, width, look)
    own = thread.allocations
    if own is not None and own.count is not None:
        words = f"{count(own.count)} while memray was attached"
        words += "" if own.size_bytes is None else f", {size(own.size_bytes)}"
        lines += figure("allocations", words, width, look)
    return lines


def _over_time(thread: ThreadMetrics, history: History | None, start_ns: int, room: int, look: Look) -> Lines:
    if history is None or history.thread != thread.info.index:
        return [[Segment(" reading ...", look.muted)]]
    if not history.states:
        return [[Segment(" not there in this range", look.muted)]]
    left, right = clock(history.t0_ns - start_ns), clock(history.t1_ns - start_ns)
    lines: Lines = [
        [Segment(" "), *paint_lane(history.states, room, look)],
        [Segment(" "), Segment(left + right.rjust(max(0, room - len(left))), look.muted)],
    ]
    if history.windows_left_out:
        lines.append(
            [Segment(look.cut(f" one window in {1 + history.windows_left_out} looked at", room), look.muted)]
        )
    lines += heading("Stacks over time", room, look)
    for stack, share, over_time in history.stacks:
        leaf = f"{stack[0].function}  {place(stack[0])}" if stack else "no Python frames"
        lines.append(
            [Segment(f" {percent(share):>5} ", look.accent), Segment(look.cut(leaf, room - 8), look.strong)]
        )
        lines.append([Segment(" "), Segment(spark(over_time, room, look), look.accent)])
        if len(stack) > 1:
            lines += stack_lines(stack[1:SHOWN_FRAMES], room, look, indent="   ")
            if len(stack) > SHOWN_FRAMES:
                lines.append([Segment(f"   {len(stack) - SHOWN_FRAMES} more frames", look.muted)])
    return lines


def _share(spent: float, alive: float, words: str, width: int, look: Look) -> list[Segment]:
    return [
        Segment(" "),
        look.cell(percent(spent / alive), 6, look.accent, right=True),
        look.cell(seconds(spent), 12, look.muted, right=True),
        Segment("  "),
        Segment(look.cut(words, max(0, width - 22)), look.text),
    ]


@dataclass(frozen=True, slots=True)
class OverLife(Query["History | None"]):
    """What one thread did over time, in so many slices."""

    thread: int
    slices: int

    def answer(self, of: Range) -> History | None:
        """Ask the session."""
        return of.session.history(self.thread, of.t0_ns, of.t1_ns, self.slices)


class ThreadPane(TextPane):
    """The page of the thread that was chosen."""

    def __init__(self) -> None:
        super().__init__("thread", "Thread", _lines, title_of=_title)
        self._thread: int | None = None

    def show_view(self, view: View) -> None:
        """The thread's page."""
        self._thread = view.thread
        super().show_view(view)

    def queries(self) -> tuple[Query[Any], ...]:
        """Its history; room for a scroll bar or not: then the same is asked before and after one appears."""
        return () if self._thread is None else (OverLife(self._thread, max(10, self.app.size.width - 4)),)


def _title(view: View) -> str:
    thread = view.chosen_thread
    return "Thread" if thread is None else f"Thread {thread_title(thread)}   4: its lines; Esc: back"


def _lines(view: View, width: int, look: Look) -> Lines:
    thread, snapshot = view.chosen_thread, view.snapshot
    if thread is None or snapshot is None:
        return [[look.cell(" this thread was not there in this range", width, look.muted)]]
    history, counted = view.answers.of(OverLife), snapshot.imported is None
    return thread_lines(thread, history, view.start_ns, width, look, counted=counted)


PANE: Final = Pane("thread", "Thread", ThreadPane)
