"""A finding with all it rests on, as lines for a panel and as text for the clipboard; and where it leads.

In: a finding. Out: lines; plain text; the pane and the filter that show what the finding speaks of.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from rich.segment import Segment
from rich.style import Style

from ftdiag.model import Finding
from ftdiag.tui.lines import MAX_PROSE, Lines, heading, prose, wrapped
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.panes.overview import finding_key
from ftdiag.tui.source import View
from ftdiag.wording.findings import cost_words, evidence_words

MAX_ENTRIES: Final = 30
"""Figures, remedies and alternatives listed of one finding."""
MAX_CODE_LINES: Final = 60


_WAYS: Final = {"locks": "the lock", "hot": "the line", "threads": "the thread"}
"""Where Enter leads, by pane."""


def evidence_lines(finding: Finding, width: int, look: Look) -> Lines:
    """The finding's page."""
    style = look.severity(finding.severity)
    lines: Lines = [
        [Segment(" "), Segment(line, style)]
        for line in wrapped(f"{finding.severity.value.upper()} {finding.summary}", width - 2, look)
    ]
    lines.append(
        [
            Segment(
                look.cut(
                    f" {cost_words(finding)}",
                    width,
                ),
                look.muted,
            )
        ]
    )
    if finding.explanation:
        lines += [[], *prose(finding.explanation, width, look)]
    if finding.remedy:
        lines += heading("What to change", width, look)
        for remedy in finding.remedy[:MAX_ENTRIES]:
            texts = wrapped(remedy.text, width - 4, look)
            for number, text in enumerate(texts):
                lines.append(
                    [Segment(" - " if number == 0 else "   ", look.accent), Segment(text, look.text)]
                )
            for code in (remedy.code or "").splitlines()[:MAX_CODE_LINES]:
                lines.append(
                    [Segment("     "), Segment(look.cut(code.expandtabs(4), width - 6), look.accent)]
                )
    if finding.evidence:
        lines += heading("Evidence", width, look)
        room = min(34, max(12, width // 2))
        for each in finding.evidence[:MAX_ENTRIES]:
            name, amount, limit = evidence_words(each)
            lines.append(
                [
                    Segment(" "),
                    look.cell(name, room, look.muted),
                    Segment(" "),
                    *_cut_to(
                        [(amount, look.text), (f"  (from {limit})" if limit else "", look.muted)],
                        width - room - 3,
                        look,
                    ),
                ]
            )
    if finding.could_also_be:
        lines += heading("It could also be", width, look)
        for other in finding.could_also_be[:MAX_ENTRIES]:
            for number, text in enumerate(wrapped(other, width - 4, look)):
                lines.append([Segment(" - " if number == 0 else "   ", look.muted), Segment(text, look.text)])
    if finding.verify:
        lines += heading("How to see that it helped", width, look)
        lines += prose(finding.verify, width, look)
    return lines


def _cut_to(parts: list[tuple[str, Style]], width: int, look: Look) -> list[Segment]:
    """Parts of a line in at most `width` cells."""
    segments: list[Segment] = []
    for text, style in parts:
        segment = Segment(look.cut(text, max(0, width)), style)
        width -= segment.cell_length
        segments.append(segment)
    return segments


def finding_text(finding: Finding) -> str:
    """The finding as plain text, as it is copied."""
    parts = [
        f"{finding.severity.value}: {finding.summary}",
        cost_words(finding),
    ]
    if finding.explanation:
        parts += ["", finding.explanation]
    for remedy in finding.remedy[:MAX_ENTRIES]:
        parts.append(f"- {remedy.text}")
        parts += [f"    {line}" for line in (remedy.code or "").splitlines()[:MAX_CODE_LINES]]
    for each in finding.evidence[:MAX_ENTRIES]:
        name, amount, limit = evidence_words(each)
        parts.append(f"{name}: {amount}" + (f" (from {limit})" if limit else ""))
    if finding.verify:
        parts.append(f"verify: {finding.verify}")
    # Escape sequences of the target must not come out of the clipboard into a shell.
    text = "\n".join(parts)[: 4 * MAX_PROSE]
    return "".join(
        c if c == "\n" or c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode()
    )


def leads_to(finding: Finding) -> list[tuple[str, str, str]]:
    """Panes, the filter that shows what the finding speaks of, and its name; the most telling first."""
    subject = finding.subject
    ways: list[tuple[str, str, str]] = []
    if subject.get("lock"):
        # The address tells it from others of its name, and is nothing to read.
        name, _, address = str(subject["lock"]).rpartition(" ")
        ways.append(("locks", address, name or address))
    file = subject.get("file")
    if file:
        name = PurePosixPath(str(file)).name
        line = subject.get("line")
        words = f"{name}:{line}" if line is not None else name
        ways.append(("hot", words, words))
    if subject.get("thread"):
        thread = str(subject["thread"])
        ways.append(("threads", thread, thread))
    return ways


def _title(view: View) -> str:
    finding, snapshot = view.finding, view.snapshot
    if finding is None or snapshot is None:
        return "Evidence"
    there = finding_key(finding) in {finding_key(each) for each in snapshot.findings}
    title = "Evidence" if there else "Evidence (gone from this range)"
    ways = leads_to(finding)
    return f"{title}   Enter: {_WAYS[ways[0][0]]}; y: copy; Esc: back" if ways else title


def _lines(view: View, width: int, look: Look) -> Lines:
    if view.finding is None:
        return [[look.cell(" no finding is chosen", width, look.muted)]]
    return evidence_lines(view.finding, width, look)


PANE: Final = Pane("evidence", "Evidence", lambda: TextPane("evidence", "Evidence", _lines, title_of=_title))
