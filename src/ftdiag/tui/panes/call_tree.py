"""The call tree as rows: callers before what they call, each within its caller's bar.

In: the tree of a range. Out: a table.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Final

from rich.segment import Segment

from ftdiag.datatypes import dataclass
from ftdiag.tui.look import Look
from ftdiag.tui.statebar import bar
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.wording.places import place
from ftdiag.wording.units import percent, seconds

if TYPE_CHECKING:
    from ftdiag.session import CallNode

LEAST_SHARE: Final = 0.005
"""Functions below this share of all thread-time are left out of the tree."""
MAX_TREE_ROWS: Final = 400


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A function called from the one above that is indented less. `offset` and `share` are of the whole."""

    position: int
    depth: int
    node: CallNode
    offset: float
    share: float
    path: tuple[tuple[str, str], ...]


def tree_rows(nodes: tuple[CallNode, ...]) -> list[TreeRow]:
    """The tree as rows, callers before what they call, the largest first."""
    whole = sum(node.total_ns for node in nodes)
    if whole <= 0:
        return []
    rows: list[TreeRow] = []
    for node, depth, offset, path in _walk(nodes, 0, 0.0, ()):
        if node.total_ns / whole < LEAST_SHARE:
            continue
        rows.append(TreeRow(len(rows), depth, node, offset / whole, node.total_ns / whole, path))
        if len(rows) >= MAX_TREE_ROWS:
            break
    return rows


def _walk(
    nodes: tuple[CallNode, ...], depth: int, offset: float, path: tuple[tuple[str, str], ...]
) -> Iterator[tuple[CallNode, int, float, tuple[tuple[str, str], ...]]]:
    for node in nodes:
        here = (*path, (node.frame.filename, node.frame.function))
        yield node, depth, offset, here
        yield from _walk(node.children, depth + 1, offset, here)
        offset += node.total_ns


def _paint_icicle(row: TreeRow, width: int, look: Look) -> list[Segment]:
    begin = min(width - 1, int(row.offset * width))
    cells = max(1, min(width - begin, round(row.share * width)))
    rest = width - begin - cells
    return [Segment(" " * begin), *bar(row.node.states_ns, cells, look), Segment(" " * rest)]


def _paint_call(row: TreeRow, width: int, look: Look) -> list[Segment]:
    indent = min(row.depth, max(0, width // 2))
    name = look.safe(row.node.frame.function)
    return [look.cell(" " * indent + name, width, look.strong if row.node.self_ns > 0 else look.text)]


TREE_COLUMNS: tuple[Column[TreeRow], ...] = (
    Column(
        key="icicle",
        title="share of time",
        least=16,
        grow=2,
        sort=lambda row: row.position,
        paint=_paint_icicle,
    ),
    text_column(
        "total", "total", 6, lambda row: percent(row.share), sort=lambda row: row.position, right=True
    ),
    text_column(
        "self",
        "self",
        10,
        lambda row: seconds(row.node.self_ns) if row.node.self_ns > 0 else "",
        sort=lambda row: row.position,
        style=lambda _, look: look.muted,
        right=True,
        dispensable=1,
    ),
    Column(
        key="call",
        title="function, and what it calls",
        least=24,
        grow=2,
        sort=lambda row: row.position,
        paint=_paint_call,
    ),
    text_column(
        "place",
        "file",
        17,
        lambda row: place(row.node.frame),
        sort=lambda row: row.position,
        style=lambda _, look: look.muted,
        grow=1,
        most=30,
        dispensable=2,
    ),
)


class TreeTable(Table[TreeRow]):
    """The call tree as an icicle: what is called stands below its caller, within the caller's bar."""

    def __init__(self) -> None:
        super().__init__("4", "Call tree", TREE_COLUMNS, "icicle", "tree-table")

    def key_of(self, row: TreeRow) -> Hashable:
        """The path from the outermost function."""
        return row.path

    def searched_text(self, row: TreeRow) -> str:
        """Function and file."""
        return f"{row.node.frame.function}\n{row.node.frame.filename}"

    def caption(self, width: int, look: Look) -> list[Segment]:
        """What can be shown instead."""
        return [Segment(look.cut("m: lines, functions, call tree", width), look.muted)]

    def action_sort_step(self, step: int) -> None:
        """A tree has one order."""

    def action_sort_reverse(self) -> None:
        """A tree has one order."""

    def sort_on(self, column: Column[TreeRow]) -> None:
        """A tree has one order."""
