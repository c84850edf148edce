"""The locks pane: who waits for which lock how long, and who held it meanwhile; deadlocks and pauses.

In: a `View`. Out: a table with a panel of the holders and waiters of the lock under the cursor, who waits for
whom now, and the stop-the-world pauses of the range.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Container
from textual.events import Resize

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    CollectorMetrics,
    Confidence,
    LockMetrics,
    LockRef,
    LockWaiter,
    Pauses,
    Stack,
)
from ftdiag.tui.lines import Lines, LinesPanel, figure
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, PaneBody, on_screen
from ftdiag.tui.panes.stacks import stack_lines
from ftdiag.tui.queries import Query, Range
from ftdiag.tui.source import View
from ftdiag.tui.table import HEAD_LINES, Column, Table, text_column
from ftdiag.wording.locks import (
    KIND_NAMES,
    collections_words,
    holder_words,
    lock_words,
    metrics_words,
    names_of,
    sure_words,
)
from ftdiag.wording.objects import locked_words
from ftdiag.wording.places import place_and_function
from ftdiag.wording.states import CONFIDENCE_NAMES
from ftdiag.wording.threads import thread_name
from ftdiag.wording.units import percent, plural, seconds

if TYPE_CHECKING:
    from ftdiag.session import WaitEdge

    Waits = tuple[WaitEdge, ...]
    Circles = tuple[tuple[WaitEdge, ...], ...]

MAX_PARTIES = 12
"""Holders and waiters listed of one lock; threads of one deadlock."""
MAX_CYCLES = 4
MAX_GRAPH = 60
"""Lines of the graph of waits."""
MAX_DEPTH = 6
"""Waits behind waits that are set in further."""
MAX_PAUSES = 8
_NOBODY = -1
"""In the tree of waits: the holder of locks that are known to be free."""
LEAST_TABLE = 6


def _holder(row: LockMetrics) -> str:
    if not row.holders:
        return "not known"
    holder = row.holders[0]
    return holder_words(holder) + ("" if holder.thread is None else sure_words(holder.confidence))


COLUMNS: tuple[Column[LockMetrics], ...] = (
    text_column("lock", "lock", 14, metrics_words, grow=3, most=44),
    text_column(
        "kind",
        "kind",
        7,
        lambda row: KIND_NAMES[row.lock.kind],
        style=lambda _, look: look.muted,
        grow=1,
        most=13,
        dispensable=4,
    ),
    text_column(
        "wait",
        "wait",
        11,
        lambda row: seconds(row.wait_ns),
        sort=lambda row: row.wait_ns,
        style=lambda _, look: look.strong,
        right=True,
        descending=True,
    ),
    text_column(
        "critical",
        "critical",
        11,
        lambda row: seconds(row.critical_wait_ns),
        sort=lambda row: row.critical_wait_ns,
        right=True,
        descending=True,
        dispensable=2,
    ),
    text_column(
        "queue",
        "queue",
        5,
        lambda row: f"{row.mean_queue:.1f}",
        sort=lambda row: row.mean_queue,
        right=True,
        descending=True,
    ),
    text_column(
        "most",
        "max",
        4,
        lambda row: str(row.waiters_max),
        sort=lambda row: row.waiters_max,
        right=True,
        descending=True,
        dispensable=5,
    ),
    text_column(
        "longest",
        "longest",
        9,
        lambda row: seconds(row.longest_wait_ns),
        sort=lambda row: row.longest_wait_ns,
        right=True,
        descending=True,
        dispensable=3,
    ),
    text_column("holder", "held by", 10, _holder, grow=2),
)


class LocksTable(Table[LockMetrics]):
    """The table of locks."""

    def __init__(self) -> None:
        self.names: dict[LockRef, str] = {}
        """What the locks of the range are called, two of one name by their numbers."""
        name = replace(COLUMNS[0], paint=self._paint_called, sort=lambda row: self._called(row).casefold())
        super().__init__("3", "Locks", (name, *COLUMNS[1:]), "wait", "locks-table")

    def _called(self, row: LockMetrics) -> str:
        return metrics_words(row, names=self.names)

    def _paint_called(self, row: LockMetrics, width: int, look: Look) -> list[Segment]:
        return [look.cell(self._called(row), width)]

    def key_of(self, row: LockMetrics) -> Hashable:
        """The address identifies a lock during the session."""
        return row.lock.address, row.lock.kind

    def searched_text(self, row: LockMetrics) -> str:
        """The lock, its holders and waiters, and their functions and files."""
        words = [self._called(row), KIND_NAMES[row.lock.kind], f"{row.lock.address:#x}"]
        if row.of_object is not None:
            words.append(locked_words(row.of_object))
        for stack, thread in [(h.stack, h.thread) for h in row.holders[:MAX_PARTIES]] + [
            (w.stack, w.thread) for w in row.waiters[:MAX_PARTIES]
        ]:
            words.append(thread_name(thread))
            words += [word for frame in stack[:3] for word in (frame.function, frame.filename)]
        return "\n".join(words)


def party_lines(row: LockMetrics, width: int, look: Look) -> Lines:
    """Holders with the wait they are to blame for, then waiters, each with its stack."""
    lines: Lines = []
    if row.of_object is not None:
        lines.append([Segment(look.cut(f" Of {locked_words(row.of_object)}", width), look.text)])
    lines.append([Segment(look.cut(" Held by", width), look.strong)])
    for holder in row.holders[:MAX_PARTIES]:
        share = percent(holder.blame_ns / row.wait_ns) if row.wait_ns > 0 else ""
        name = look.cut(holder_words(holder), max(8, width - 22))
        sure = "" if holder.free else f" ({CONFIDENCE_NAMES[holder.confidence]})"
        lines.append(
            [Segment(f" {share} ", look.accent), Segment(name, look.text), Segment(sure, look.muted)]
        )
        lines += stack_lines(holder.stack, width, look, indent="   ")
    if not row.holders:
        lines.append([Segment(look.cut("   not known", width), look.muted)])
    lines += [[], [Segment(look.cut(" Waited for by", width), look.strong)]]
    # Threads that wait at the same place are told together.
    places: dict[Stack, list[LockWaiter]] = {}
    for waiter in row.waiters:
        places.setdefault(waiter.stack, []).append(waiter)
    together = sorted(places.items(), key=lambda place: -sum(waiter.wait_ns for waiter in place[1]))
    for stack, waiters in together[:MAX_PARTIES]:
        waited = f" {seconds(sum(waiter.wait_ns for waiter in waiters))} "
        longest = sorted(waiters, key=lambda waiter: -waiter.wait_ns)[:MAX_PARTIES]
        names = ", ".join(thread_name(waiter.thread) for waiter in longest)
        if len(waiters) > 1:
            names = f"{plural(len(waiters), 'thread')}: {names}"
        name = look.cut(names, max(8, width - len(waited) - 1))
        lines.append([Segment(waited, look.accent), Segment(name, look.text)])
        lines += stack_lines(stack, width, look, indent="   ")
    if len(together) > MAX_PARTIES:
        lines.append([Segment(look.cut(f" {len(together) - MAX_PARTIES} more places", width), look.muted)])
    return lines


def _at(stack: Stack) -> str:
    """Where a stack is: its innermost frame."""
    return f" at {place_and_function(stack[0])}" if stack else ""


def deadlock_lines(
    cycles: Sequence[Sequence[WaitEdge]], width: int, look: Look, names: Mapping[LockRef, str] | None = None
) -> Lines:
    """Circles of threads of which each waits for the next: none of them goes on by itself."""
    lines: Lines = []
    for number, cycle in enumerate(cycles[:MAX_CYCLES]):
        if number:
            lines.append([])
        stood = seconds(min(edge.since_ns for edge in cycle))
        what = f" DEADLOCK of {plural(len(cycle), 'thread')}, for {stood} or more"
        lines.append([Segment(look.cut(what, width), look.error)])
        for edge in cycle[:MAX_PARTIES]:
            lines += figure(
                thread_name(edge.waiter),
                f"waits for {lock_words(edge.lock, names=names)}{_at(edge.stack)}, which"
                f" {thread_name(edge.holder)} has{_at(edge.holder_stack)}",
                width,
                look,
            )
        if len(cycle) > MAX_PARTIES:
            lines.append([Segment(look.cut(f" {len(cycle) - MAX_PARTIES} more", width), look.muted)])
    if len(cycles) > MAX_CYCLES:
        lines.append([Segment(look.cut(f" {len(cycles) - MAX_CYCLES} more circles", width), look.muted)])
    return lines


def wait_graph_lines(
    edges: Sequence[WaitEdge], width: int, look: Look, names: Mapping[LockRef, str] | None = None
) -> Lines:
    """Who waits for whom at this moment: each holder, what it has, and below it those that wait."""
    lines: Lines = [[Segment(look.cut(" Who waits for whom now", width), look.strong)]]
    if not edges:
        lines.append([Segment(look.cut("   nobody waits for a known lock", width), look.muted)])
        return lines
    below: dict[int | None, list[WaitEdge]] = {}
    for edge in sorted(edges, key=lambda edge: -edge.since_ns):
        nobody = _NOBODY if edge.confidence is Confidence.KNOWN else None
        below.setdefault(nobody if edge.holder is None else edge.holder.index, []).append(edge)
    waiting = {edge.waiter.index for edge in edges}
    # From those that do not wait themselves; what is left then is circles.
    roots = [holder for holder in below if holder not in waiting]
    roots += [holder for holder in below if holder not in roots]
    shown: set[int | None] = set()

    def branch(holder: int | None, depth: int) -> None:
        if holder in shown:
            return
        shown.add(holder)
        for edge in below.get(holder, ()):
            if len(lines) > MAX_GRAPH:
                return
            arrow = "`-" if look.ascii_only else "└─"
            indent = " " * (2 + 3 * min(depth, MAX_DEPTH))
            sure = "" if edge.holder is None else sure_words(edge.confidence)
            text = f"{thread_name(edge.waiter)} waits for {lock_words(edge.lock, names=names)}{sure}"
            time = f" {seconds(edge.since_ns)}"
            room = max(8, width - len(indent) - 3 - len(time) - 1)
            lines.append(
                [
                    Segment(f"{indent}{arrow} ", look.muted),
                    Segment(look.cut(text, room), look.text),
                    Segment(time, look.accent),
                ]
            )
            branch(edge.waiter.index, depth + 1)

    for root in roots:
        if root in shown or len(lines) > MAX_GRAPH:
            continue
        holding = below[root][0]
        if root == _NOBODY:
            words = "nobody holds (free, the next thread is on its way)"
        elif holding.holder is None:
            words = "nobody knows who holds"
        else:
            words = f"{thread_name(holding.holder)} holds{_at(holding.holder_stack)}"
        lines.append([Segment(look.cut(f" {words}", width), look.text)])
        branch(root, 0)
    listed = sum(len(below.get(holder, ())) for holder in shown)
    if listed < len(edges) or len(lines) > MAX_GRAPH:
        lines.append([Segment(look.cut(f" {plural(len(edges), 'wait')} in all", width), look.muted)])
    return lines


def pauses_lines(
    pauses: Sequence[Pauses], width: int, look: Look, collector: CollectorMetrics | None = None
) -> Lines:
    """Stop-the-world pauses: how many and how long, why, and where they were asked for; collections."""
    lines: Lines = [[Segment(look.cut(" Stop-the-world pauses", width), look.strong)]]
    if collector is not None:
        lines += figure("collector", collections_words(collector), width, look)
    if not pauses and not (collector is not None and collector.count):
        lines.append([Segment(look.cut("   none seen in this range", width), look.muted)])
    for each in pauses[:MAX_PAUSES]:
        reason = f" for {each.reason}" if each.reason else ""
        who = "not known" if each.requester is None else thread_name(each.requester)
        lines += figure(
            f"{seconds(each.total_ns)} in {each.count}",
            f"asked for by {who}{_at(each.stack)}{reason}{sure_words(each.confidence)};"
            f" longest {seconds(each.longest_ns)}, at most {plural(each.threads_max, 'thread')} stopped",
            width,
            look,
        )
    if len(pauses) > MAX_PAUSES:
        lines.append([Segment(look.cut(f" {len(pauses) - MAX_PAUSES} more places", width), look.muted)])
    return lines


@dataclass(frozen=True, slots=True)
class WaitsNow(Query["tuple[Waits, Circles]"]):
    """Who waits for whom at the last tick, and the circles among them that have stood for a while."""

    def answer(self, of: Range) -> tuple[Waits, Circles]:
        """Ask the session."""
        waits = tuple(of.session.wait_graph())
        return waits, of.session.deadlocks_among(waits)


class LocksPane(Container, PaneBody):
    """The table and the parties of the lock under the cursor."""

    def __init__(self) -> None:
        super().__init__(id="locks")
        self._table = LocksTable()
        self._parties = LinesPanel("Holders and waiters", "parties")
        self._now: tuple[WaitEdge, ...] | None = None
        self._deadlocks: tuple[tuple[WaitEdge, ...], ...] = ()
        self._pauses: tuple[Pauses, ...] = ()
        self._collector: CollectorMetrics | None = None

    def compose(self) -> ComposeResult:
        """Side by side."""
        yield self._table
        yield self._parties

    @property
    def table(self) -> LocksTable:
        """The locks."""
        return self._table

    def queries(self) -> tuple[Query[Any], ...]:
        """Who waits now, where there is room to say so."""
        return (WaitsNow(),) if on_screen(self._parties) else ()

    def show_view(self, view: View) -> None:
        """Take the locks of a view."""
        self._now, self._deadlocks = view.answers.of(WaitsNow) or (None, ())
        self._pauses = view.snapshot.pauses if view.snapshot else ()
        self._collector = view.snapshot.collector if view.snapshot else None
        self._table.names = names_of(view.snapshot.locks if view.snapshot else ())
        self._table.empty_text = "no waits for locks in this range"
        self._table.show_rows(view.snapshot.locks if view.snapshot else ())
        self._share_height()

    def on_resize(self, _: Resize) -> None:
        """Share the height anew."""
        self._share_height()

    def _share_height(self) -> None:
        """The table gets what its rows need, at most two fifths where the parties are shown too."""
        if not self.size.height:
            return
        if not self._parties.display:
            self._table.styles.height = "1fr"
            return
        needed = HEAD_LINES + 1 + len(self._table.rows)
        self._table.styles.height = max(LEAST_TABLE, min(needed, self.size.height * 2 // 5))

    def on_table_moved(self, event: Table.Moved) -> None:
        """Show the parties of the lock under the cursor, and what concerns all locks."""
        event.stop()
        row = self._table.current
        names = self._table.names
        now, deadlocks, pauses, collector = self._now, self._deadlocks, self._pauses, self._collector

        def make(width: int, look: Look) -> Lines:
            blocks: list[Lines] = []
            if deadlocks:
                blocks.append(deadlock_lines(deadlocks, width, look, names))
            if row is not None:
                blocks.append(party_lines(row, width, look))
            if now is not None:
                blocks.append(wait_graph_lines(now, width, look, names))
            if pauses or row is None or (collector is not None and collector.count):
                blocks.append(pauses_lines(pauses, width, look, collector))
            lines: Lines = []
            for block in blocks:
                lines += [[], *block] if lines else block
            return lines

        title = "Holders and waiters"
        self._parties.show_lines(
            title if row is None else f"{title} of {metrics_words(row, names=names)}", make
        )

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Go to the parties, to scroll them."""
        event.stop()
        if self._parties.size.width:
            self._parties.focus()


PANE: Final = Pane(
    "locks", "Locks", LocksPane, "3", short="Lock", about="locks: waiters, holders, who waits now"
)
