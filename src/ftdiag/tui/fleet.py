"""Many processes on one screen: a row for each with where its cores go, what all of them share, who is unlike
the others.

In: a function that gives the processes as they are now, with what there is to say beside them. Out: the
screen; `chosen` is the process that was asked for with Enter, which is where the view begins when it comes
back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.segment import Segment

from ftdiag.analysis.fleet import Fleet, Group, Member, SharedFinding
from ftdiag.model import CorePart, Severity
from ftdiag.reports.fleet import lost_words, unlike_words, use_words
from ftdiag.tui.lines import Lines, heading, prose
from ftdiag.tui.look import Look
from ftdiag.tui.onepage import OnePageApp
from ftdiag.tui.panes.account import as_states
from ftdiag.tui.statebar import bar, legend
from ftdiag.wording import units

KEYS: Final = "up/down: choose a process   Enter: its cockpit   T: light or dark   q: leave"
REFRESH_S: Final = 1.0
NAME_CELLS: Final = 22
LEAST_BAR: Final = 10
FIGURES: Final = NAME_CELLS + 2 + 7 + 8 + 8 + 9 + 11 + 2
"""Cells of a row before its bar."""
SHOWN_FINDINGS: Final = 8
SAID_CORES: Final = 0.005
WAITING: Final = "attaching: nothing is seen yet"
ENDED: Final = "All processes have ended; this is what was seen last"


class FleetApp(OnePageApp):
    """The application. `fleet` gives the processes of now, or the last ones if all are `over`; `chosen` was
    the one chosen before. It leaves by itself when `ends` says so.
    """

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        *,
        chosen: str | None = None,
        words: str = "",
        notes: Callable[[], list[str]] = list,
        over: Callable[[], bool] = bool,
        ends: Callable[[], bool] = bool,
        ascii_only: bool | None = None,
    ) -> None:
        self._fleet = fleet
        self._notes = notes
        self._over = over
        self._ends = ends
        self._position_of = chosen
        self.chosen: str | None = None
        """The name of a process."""
        super().__init__("fleet", words=words, ascii_only=ascii_only)

    def on_mount(self) -> None:
        """Show it, and again every second."""
        self.set_interval(REFRESH_S, self.show_page)

    def action_step(self, step: int) -> None:
        """Another process."""
        names = [member.name for member in rows(self._fleet())]
        if names:
            at = names.index(self._position_of) if self._position_of in names else 0
            self._position_of = names[min(len(names) - 1, max(0, at + step))]
            self.show_page()

    def action_choose(self) -> None:
        """The cockpit of the chosen process."""
        names = [member.name for member in rows(self._fleet())]
        if not names:
            self.say(WAITING)
            return
        self.chosen = self._position_of if self._position_of in names else names[0]
        self.exit()

    def show_page(self) -> None:
        """What is known now."""
        if self._ends():
            self.exit()
            return
        for note in self._notes():
            self.say(note)
        fleet, chosen = self._fleet(), self._position_of
        title = f"{ENDED if self._over() else 'Processes'}   {KEYS}"
        self.panel.show_lines(title, lambda width, look: fleet_lines(fleet, chosen, width, look))


def rows(fleet: Fleet) -> list[Member]:
    """All processes in the order in which they are shown: that of their names, which does not change."""
    return [member for group in fleet.groups for member in _in_order(group)]


def _in_order(group: Group) -> list[Member]:
    return sorted(group.members, key=lambda member: (len(member.name), member.name))


def fleet_lines(fleet: Fleet, chosen: str | None, width: int, look: Look) -> Lines:
    """The page: the answer, what all use together, a row a process, who is unlike the others, findings."""
    shown = rows(fleet)
    if not shown:
        return prose(WAITING, width, look, look.muted)
    if chosen not in {member.name for member in shown}:
        chosen = shown[0].name
    lines = prose(answer(fleet), width, look, look.strong)
    lost = lost_words(fleet)
    lines += prose(use_words(fleet) + (f"; lost together: {lost}" if lost else ""), width, look)
    top = max((member.snapshot.metrics.capacity_cores or 0.0 for member in shown), default=0.0)
    used = max(sum(_used(member).values()) for member in shown)
    scale = min(top, max(1.0, used)) if top else max(1.0, used)
    for group in fleet.groups:
        hosts = f", {units.plural(len(group.hosts), 'host')}" if len(group.hosts) > 1 else ""
        lines += heading(f"{look.safe(group.command)} (CPython {group.python_version}{hosts})", width, look)
        lines.append(_head(width, look, scale))
        unlike = {each.member.name for each in group.unlike}
        for member in _in_order(group):
            lines.append(_row(member, member.name == chosen, member.name in unlike, scale, width, look))
        for each in group.unlike:
            said = f"unlike the others: {each.member.name}: {unlike_words(each)}"
            lines += prose(said, width, look, look.warning)
    states = {state for member in shown for state in as_states(_used(member))}
    lines.append([Segment(" "), *legend(states, look, width - 1)])
    if fleet.findings:
        lines += heading("Findings of all", width, look)
    for shared in fleet.findings[:SHOWN_FINDINGS]:
        style = look.text if shared.first.severity is Severity.INFO else look.warning
        lines += prose(finding_words(shared, len(shown)), width, look, style)
    return lines


def answer(fleet: Fleet) -> str:
    """The first line: what costs all of them most."""
    # What is not the program's own comes last among them.
    costliest = next(iter(fleet.findings), None)
    if costliest is None:
        return "Nothing to change was found"
    return finding_words(costliest, len(fleet.members), first=True)


def finding_words(shared: SharedFinding, count: int, *, first: bool = False) -> str:
    """What is shared, by how many, and what it costs them together."""
    what = shared.first.summary if first else f"{shared.first.severity.value}: {shared.first.summary}"
    cost = f"{units.cores(shared.lost_cores)} cores together, " if shared.lost_cores >= SAID_CORES else ""
    return f"{what} ({cost}{len(shared.members)} of {units.plural(count, 'process', 'processes')})"


def _used(member: Member) -> dict[CorePart, float]:
    """The account without what nobody asked for: its sum differs from process to process."""
    account = member.snapshot.metrics.account
    return {part: value for part, value in account.items() if part is not CorePart.NO_DEMAND}


def _head(width: int, look: Look, scale: float) -> list[Segment]:
    cells = (
        ("  process", NAME_CELLS + 2, False),
        ("on CPU", 7, True),
        ("useful", 8, True),
        ("effic.", 8, True),
        ("threads", 9, True),
        ("resident", 11, True),
    )
    head = [look.cell(text, room, look.muted, right=right) for text, room, right in cells]
    room = width - FIGURES - 1
    if room >= LEAST_BAR:
        head += [Segment("  "), look.cell(f"cores, of {units.cores(scale)}", room, look.muted)]
    return head


def _row(member: Member, chosen: bool, unlike: bool, scale: float, width: int, look: Look) -> list[Segment]:
    metrics, process = member.snapshot.metrics, member.snapshot.process
    style = look.strong if chosen else look.warning if unlike else look.text
    mark = look.pointer if chosen else "!" if unlike else " "
    row = [
        look.cell(f"{mark} {member.name}", NAME_CELLS + 2, style),
        look.cell(units.cores(metrics.on_cpu_cores), 7, style, right=True),
        look.cell(units.cores(metrics.useful_cores), 8, style, right=True),
        look.cell(units.percent(metrics.efficiency_ratio), 8, style, right=True),
        look.cell(str(metrics.threads), 9, style, right=True),
        look.cell(units.size(None if process is None else process.rss_bytes), 11, style, right=True),
    ]
    room = width - FIGURES - 1
    if room >= LEAST_BAR:
        used = _used(member)
        filled = min(room, round(room * sum(used.values()) / scale))
        row += [Segment("  "), *bar(as_states(used), filled, look)]
    return row
