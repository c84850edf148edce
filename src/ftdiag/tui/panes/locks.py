"""The locks pane: who waits for which lock how long, and who held it meanwhile.

In: a `View`. Out: a table with a panel of the holders and waiters of the lock under the cursor.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Container

from ftdiag.model import LockMetrics, LockRef, ThreadInfo
from ftdiag.tui.lines import Lines, LinesPanel
from ftdiag.tui.look import Look
from ftdiag.tui.panes.stacks import stack_lines
from ftdiag.tui.source import View
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.units import percent, seconds

if TYPE_CHECKING:
    from ftdiag.session import WaitEdge

MAX_PARTIES = 12
"""Holders and waiters listed of one lock."""


def lock_words(lock: LockRef) -> str:
    """A lock's name: where it stands in the source if known, and what it is."""
    kind = lock.type_name or lock.kind.value
    return f"{lock.label} ({kind})" if lock.label else kind


def thread_words(thread: ThreadInfo | None) -> str:
    """A thread's name, or that it is not known."""
    return "unknown" if thread is None else thread.name or str(thread.tid)


def _holder(row: LockMetrics) -> str:
    if not row.holders:
        return "unknown"
    holder = row.holders[0]
    sure = (
        "" if holder.confidence.label == "known" or holder.thread is None else f" ({holder.confidence.label})"
    )
    return thread_words(holder.thread) + sure


COLUMNS: tuple[Column[LockMetrics], ...] = (
    text_column("lock", "lock", 14, lambda row: lock_words(row.lock), grow=3, most=44),
    text_column(
        "kind",
        "kind",
        7,
        lambda row: row.lock.kind.value,
        style=lambda _, look: look.muted,
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
        super().__init__("3", "Locks", COLUMNS, "wait", "locks-table")

    def key_of(self, row: LockMetrics) -> Hashable:
        """The address identifies a lock during the session."""
        return row.lock.address, row.lock.kind

    def searched_text(self, row: LockMetrics) -> str:
        """The lock, its holders and waiters, and their functions and files."""
        words = [lock_words(row.lock), row.lock.kind.value, f"{row.lock.address:#x}"]
        for stack, thread in [(h.stack, h.thread) for h in row.holders[:MAX_PARTIES]] + [
            (w.stack, w.thread) for w in row.waiters[:MAX_PARTIES]
        ]:
            words.append(thread_words(thread))
            words += [word for frame in stack[:3] for word in (frame.function, frame.filename)]
        return "\n".join(words)


def party_lines(row: LockMetrics, width: int, look: Look) -> Lines:
    """Holders with the wait they are to blame for, then waiters, each with its stack."""
    lines: Lines = [[Segment(look.cut(" Held by", width), look.strong)]]
    for holder in row.holders[:MAX_PARTIES]:
        share = percent(holder.blame_ns / row.wait_ns) if row.wait_ns > 0 else ""
        name = look.cut(thread_words(holder.thread), max(8, width - 22))
        lines.append(
            [
                Segment(f" {share} ", look.accent),
                Segment(name, look.text),
                Segment(f" ({holder.confidence.label})", look.muted),
            ]
        )
        lines += stack_lines(holder.stack, width, look, indent="   ")
    if not row.holders:
        lines.append([Segment(look.cut("   not known", width), look.muted)])
    lines += [[], [Segment(look.cut(" Waited for by", width), look.strong)]]
    for waiter in row.waiters[:MAX_PARTIES]:
        name = look.cut(thread_words(waiter.thread), max(8, width - 12))
        lines.append([Segment(f" {seconds(waiter.wait_ns)} ", look.accent), Segment(name, look.text)])
        lines += stack_lines(waiter.stack, width, look, indent="   ")
    if len(row.waiters) > MAX_PARTIES:
        lines.append([Segment(look.cut(f" {len(row.waiters) - MAX_PARTIES} more", width), look.muted)])
    return lines


def waits_now_lines(edges: Sequence[WaitEdge], width: int, look: Look) -> Lines:
    """Who waits for whom at this moment, the longest first."""
    lines: Lines = [[Segment(look.cut(" Waiting now", width), look.strong)]]
    for edge in sorted(edges, key=lambda edge: -edge.since_ns)[:MAX_PARTIES]:
        holder = "unknown" if edge.holder is None else thread_words(edge.holder)
        sure = (
            "" if edge.holder is None or edge.confidence.label == "known" else f" ({edge.confidence.label})"
        )
        lines.append(
            [
                Segment(f" {seconds(edge.since_ns)} ", look.accent),
                Segment(
                    look.cut(
                        f"{thread_words(edge.waiter)} for {lock_words(edge.lock)}, held by {holder}{sure}",
                        max(8, width - 10),
                    ),
                    look.text,
                ),
            ]
        )
    if len(edges) > MAX_PARTIES:
        lines.append([Segment(look.cut(f" {len(edges) - MAX_PARTIES} more", width), look.muted)])
    if not edges:
        lines.append([Segment(look.cut("   nobody waits for a known lock", width), look.muted)])
    return lines


class LocksPane(Container):
    """The table and the parties of the lock under the cursor."""

    def __init__(self) -> None:
        super().__init__(id="locks")
        self._table = LocksTable()
        self._parties = LinesPanel("Holders and waiters", "parties")
        self._now: tuple[WaitEdge, ...] | None = None

    def compose(self) -> ComposeResult:
        """Side by side."""
        yield self._table
        yield self._parties

    def show_view(self, view: View) -> None:
        """Take the locks of a view."""
        self._now = view.extras.waits
        self._table.empty_text = "no waits for locks in this range"
        self._table.show_rows(view.snapshot.locks if view.snapshot else ())

    def on_table_moved(self, event: Table.Moved) -> None:
        """Show the parties of the lock under the cursor."""
        event.stop()
        row = self._table.current
        now = self._now
        if row is None:
            self._parties.show_lines("Holders and waiters", lambda _width, _look: [])
            return

        def make(width: int, look: Look) -> Lines:
            lines = party_lines(row, width, look)
            return lines if now is None else [*lines, [], *waits_now_lines(now, width, look)]

        self._parties.show_lines(f"Holders and waiters of {lock_words(row.lock)}", make)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Go to the parties, to scroll them."""
        event.stop()
        if self._parties.size.width:
            self._parties.focus()
