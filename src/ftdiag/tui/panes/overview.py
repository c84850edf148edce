"""The overview: the answer, useful cores against possible ones, what is lost to what, and the findings.

In: a `View`. Out: figures, the table of findings, and below it the finding under the cursor in full, with
what to change first. A finding that a live recording shows for the first time is marked, and one that is not
seen any more stays for a while, marked as gone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Container
from textual.events import Resize
from textual.widget import Widget

from ftdiag.datatypes import dataclass
from ftdiag.model import Finding, Severity, Snapshot
from ftdiag.tui.lines import Lines, wrapped
from ftdiag.tui.look import Look, look_of
from ftdiag.tui.painting import PaintedLines
from ftdiag.tui.pane import Pane, PaneBody
from ftdiag.tui.panes.account import Began, account_lines, over_time_lines
from ftdiag.tui.panes.standing import Standing
from ftdiag.tui.queries import Query, Range
from ftdiag.tui.source import View
from ftdiag.tui.table import Column, Table, text_column
from ftdiag.wording.answer import answer
from ftdiag.wording.findings import sure_words
from ftdiag.wording.units import cores

if TYPE_CHECKING:
    from ftdiag.session import Timeline

NEW_NS: Final = 10_000_000_000
"""How long a finding counts as new."""
GONE_NS: Final = 30_000_000_000
"""How long a finding that is not seen any more stays on the screen."""
MAX_GONE: Final = 20
LEAST_FIGURES: Final = 7
MOST_FIGURES: Final = 24
LEAST_FINDINGS: Final = 6
ROOM_FOR_CAUSE: Final = 14
"""Lines from which on the panel says the answer in full."""
ROOM_FOR_FINDING: Final = 18
"""Lines of the pane from which on the finding under the cursor stands below the list in full."""
IN_FULL: Final = 6
MOST_SUMMARY: Final = 4
"""Lines of these that its sentence may take; what is left is the remedy's."""
LEAST_PLOT: Final = 3
MOST_PLOT: Final = 14


def finding_key(finding: Finding) -> tuple[str, str]:
    """What makes a finding the same one in the next picture: its rule and its lock; lines come and go."""
    return finding.rule_id, str(finding.subject.get("lock", ""))


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding, and whether it is "new" or "gone"."""

    finding: Finding
    status: str = ""


_RANK: Final = {Severity.CRITICAL: 2, Severity.WARNING: 1, Severity.INFO: 0}


def _severity_style(row: FindingRow, look: Look) -> Style:
    return look.muted if row.status == "gone" else look.severity(row.finding.severity)


def _text_style(row: FindingRow, look: Look) -> Style:
    return look.muted if row.status == "gone" else look.text


COLUMNS: tuple[Column[FindingRow], ...] = (
    text_column(
        "severity",
        "severity",
        8,
        lambda row: row.finding.severity.value,
        sort=lambda row: (row.status != "gone", _RANK[row.finding.severity], row.finding.lost_cores),
        style=_severity_style,
        descending=True,
    ),
    text_column(
        "lost",
        "lost",
        5,
        lambda row: cores(row.finding.lost_cores),
        sort=lambda row: (row.status != "gone", row.finding.lost_cores, row.finding.score),
        style=lambda row, look: look.muted if row.status == "gone" else look.strong,
        right=True,
        descending=True,
    ),
    text_column(
        "status",
        "",
        4,
        lambda row: row.status,
        style=lambda row, look: look.good if row.status == "new" else look.muted,
        dispensable=3,
    ),
    text_column(
        "confidence",
        "confidence",
        10,
        lambda row: sure_words(row.finding),
        style=lambda _, look: look.muted,
        dispensable=2,
    ),
    text_column(
        "rule",
        "rule",
        20,
        lambda row: row.finding.rule_id,
        style=lambda _, look: look.muted,
        dispensable=4,
    ),
    text_column(
        "summary", "what costs cores", 40, lambda row: row.finding.summary, style=_text_style, grow=1
    ),
)


class FindingsTable(Table[FindingRow]):
    """The findings, those that cost most first."""

    def __init__(self) -> None:
        super().__init__("", "Findings", COLUMNS, "lost", "findings")

    def key_of(self, row: FindingRow) -> Hashable:
        """The rule and the lock."""
        return finding_key(row.finding)

    def searched_text(self, row: FindingRow) -> str:
        """Rule, severity, summary, subject."""
        finding = row.finding
        subject = [str(value) for value in finding.subject.values()]
        return "\n".join([finding.rule_id, finding.severity.value, finding.summary, row.status, *subject])

    def caption(self, width: int, look: Look) -> list[Segment]:
        """What the figure means."""
        return [Segment(look.cut("lost: cores (upper bound); Enter: the evidence", width), look.muted)]


def figures_lines(view: View, width: int, height: int, look: Look, began: Sequence[Began] = ()) -> Lines:
    """The figures in exactly the room there is: the time line takes what is left."""
    snapshot = view.snapshot
    if snapshot is None:
        return [[Segment(f" {view.waiting}", look.muted)]]
    lines: Lines = []
    cause = answer(snapshot)
    if height >= ROOM_FOR_CAUSE and cause.severity is None:
        # On a lower screen the header says it; a finding stands below the list.
        lines += [
            [Segment(" "), Segment(line, look.strong)]
            for line in wrapped(cause.cause, width - 2, look, most=3)
        ]
        lines.append([])
    lines += account_lines(snapshot, width, look, 3 if height >= ROOM_FOR_CAUSE else 2)
    left = height - len(lines)
    if left >= LEAST_PLOT and snapshot.imported is None:
        line = view.answers.of(OverTime)
        lines += over_time_lines(line, view.start_ns, width, min(left, MOST_PLOT), look, began)
    return lines[:height]


class Figures(PaintedLines, Widget):
    """The panel above the findings."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="figures")
        self._view = View()
        self._lines: Lines = []
        self._made_for: tuple[int, int, Look] | None = None
        self._began: tuple[Began, ...] = ()

    def show_view(self, view: View, began: tuple[Began, ...] = ()) -> None:
        """Take another view, and findings of which it is known when they began."""
        self._view = view
        self._began = began
        self._made_for = None
        self.repaint()

    def painted_line(self, y: int, width: int) -> tuple[list[Segment], Style | None]:
        """One of the lines; the first is the title."""
        look = look_of(self)
        height = self.size.height
        if y == 0:
            snapshot = self._view.snapshot
            what = " 1 Overview "
            if snapshot is not None and snapshot.metrics.capacity_reason and width >= 100:
                what += f"  capacity: {snapshot.metrics.capacity_reason}"
            return [look.cell(what, width)], look.title
        if self._made_for != (width, height, look):
            self._made_for = (width, height, look)
            self._lines = figures_lines(self._view, width, height - 1, look, self._began)
        return self._lines[y - 1] if y - 1 < len(self._lines) else [], None


class InFull(PaintedLines, Widget):
    """The finding under the cursor: what it says, and what to change first."""

    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id="in-full")
        self._row: FindingRow | None = None
        self._lines: Lines = []
        self._made_for: tuple[FindingRow | None, int, Look] | None = None

    def show_row(self, row: FindingRow | None) -> None:
        """Take another finding."""
        self._row = row
        self.repaint()

    def painted_line(self, y: int, width: int) -> tuple[list[Segment], Style | None]:
        """One of the lines."""
        look = look_of(self)
        if self._made_for != (self._row, width, look):
            self._made_for = self._row, width, look
            self._lines = [] if self._row is None else in_full(self._row, width, look)
        return self._lines[y] if y < len(self._lines) else [], None


def in_full(row: FindingRow, width: int, look: Look) -> Lines:
    """A finding's sentence and its first remedy, as far as there is room for them."""
    finding, style = row.finding, _text_style(row, look)
    lines: Lines = [
        [Segment(" "), Segment(line, style)]
        for line in wrapped(finding.summary, width - 2, look, most=MOST_SUMMARY)
    ]
    if finding.remedy:
        first, *more = wrapped(f"do: {finding.remedy[0].text}", width - 2, look, most=IN_FULL - len(lines))
        lines.append([Segment(" "), Segment(first[:3], look.muted), Segment(first[3:], style)])
        lines += [[Segment(" "), Segment(line, style)] for line in more]
    return lines


@dataclass(frozen=True, slots=True)
class OverTime(Query["Timeline | None"]):
    """Cores over time, in so many slices."""

    slices: int

    def answer(self, of: Range) -> Timeline | None:
        """Ask the session."""
        return of.session.timeline(of.t0_ns, of.t1_ns, self.slices)


class OverviewPane(Container, PaneBody):
    """Figures above, findings below, and the one under the cursor in full."""

    def __init__(self) -> None:
        super().__init__(id="overview")
        self.figures = Figures()
        self.findings = FindingsTable()
        self.in_full = InFull()
        self._first_seen: dict[tuple[str, str], int] = {}
        self._last_seen: dict[tuple[str, str], tuple[Finding, int]] = {}
        self._begun_ns: int | None = None

    def compose(self) -> ComposeResult:
        """One above the other."""
        yield self.figures
        yield self.findings
        yield self.in_full

    @property
    def table(self) -> FindingsTable:
        """The findings."""
        return self.findings

    def queries(self) -> tuple[Query[Any], ...]:
        """The time line."""
        return (OverTime(self.app.size.width), Standing())

    def chosen_page(self) -> tuple[str, object] | None:
        """The finding's evidence."""
        row = self.findings.current
        return None if row is None else ("evidence", row.finding)

    def show_view(self, view: View) -> None:
        """Take the figures and findings of a view."""
        snapshot = view.snapshot
        rows = self._rows(view)
        self.figures.show_view(view, (*_stand_since(view), *self._appeared(rows)))
        self.findings.empty_text = _why_no_findings(snapshot)
        self.findings.show_rows(rows)
        self.in_full.show_row(self.findings.current)
        self._share_height()

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another finding is under the cursor."""
        self.in_full.show_row(self.findings.current)

    def _appeared(self, rows: Sequence[FindingRow]) -> list[Began]:
        """Findings that were not there when the session began, and when they came."""
        known = ((row.finding, self._first_seen.get(finding_key(row.finding))) for row in rows)
        begun = self._begun_ns
        return [
            Began(seen, finding.severity)
            for finding, seen in known
            if seen is not None and begun is not None and seen > begun
        ]

    def on_resize(self, _: Resize) -> None:
        """Share the height anew."""
        self._share_height()

    def _share_height(self) -> None:
        height = self.size.height
        if not height:
            return
        rows = len(self.findings.rows)
        in_full = IN_FULL if rows and height >= ROOM_FOR_FINDING else 0
        self.in_full.styles.height = in_full
        height -= in_full
        findings = 2 + rows if in_full else max(LEAST_FINDINGS, 2 + rows)
        figures = max(min(LEAST_FIGURES, height - 3), min(MOST_FIGURES, height - findings))
        if height <= 20 and rows > LEAST_FINDINGS - 2:
            # On a small screen the plot keeps a few lines beside a long list, and the list beside the plot.
            figures = min(figures, max(LEAST_FIGURES, height * 11 // 20))
        self.figures.styles.height = figures

    def _rows(self, view: View) -> list[FindingRow]:
        snapshot = view.snapshot
        if snapshot is None:
            return []
        now = snapshot.t1_ns
        follows = view.live and not view.paused and view.selection.until_ns is None
        if not follows:
            self._first_seen.clear()
            self._last_seen.clear()
            self._begun_ns = None
            return [FindingRow(finding) for finding in snapshot.findings]
        if self._begun_ns is None:
            self._begun_ns = now
        rows: list[FindingRow] = []
        for finding in snapshot.findings:
            key = finding_key(finding)
            # What is there from the beginning is no news.
            first = self._first_seen.setdefault(key, now if now > self._begun_ns else now - NEW_NS)
            self._last_seen[key] = finding, now
            rows.append(FindingRow(finding, "new" if now - first < NEW_NS else ""))
        shown = {finding_key(finding) for finding in snapshot.findings}
        for key, (finding, seen) in list(self._last_seen.items()):
            if key in shown:
                continue
            if now - seen > GONE_NS or len(self._last_seen) > len(shown) + MAX_GONE:
                del self._last_seen[key]
                self._first_seen.pop(key, None)
            else:
                rows.append(FindingRow(finding, "gone"))
        return rows


def _stand_since(view: View) -> list[Began]:
    """When threads that do not go on stopped."""
    snapshot, standing = view.snapshot, view.answers.of(Standing)
    if snapshot is None or not standing:
        return []
    about = [finding.severity for finding in snapshot.findings if "thread" in finding.subject]
    gravest = max(about, key=lambda severity: _RANK[severity], default=Severity.WARNING)
    return [Began(snapshot.t1_ns - int(since), gravest) for since in sorted(set(standing.values()))]


def _why_no_findings(snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return "no data yet"
    if snapshot.imported is not None:
        return "rules need figures that this file does not have (7); the hot code: 4"
    if snapshot.not_applicable:
        return f"nothing found that costs cores ({len(snapshot.not_applicable)} rules skipped: 7)"
    return "nothing found that costs cores in this range"


PANE: Final = Pane(
    "overview", "Overview", OverviewPane, "1", short="Over", about="overview: the answer, cores, findings"
)
