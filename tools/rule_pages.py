"""Writes the figures of the rules' pages from the table that the rules read: `python -m tools.rule_pages`.

In: measured.tsv and memory.tsv of src/ftdiag/rules/figures, docs/rules/*.md. Out: the section "Measured" of
each page of a rule that has cases in the tables; the rest of a page is written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from ftdiag.rules import RULES
from ftdiag.rules.figures import memory
from ftdiag.rules.figures.measured import table, times

CASES: Final = {rule.id: rule.cases for rule in RULES if rule.cases}
PAGES: Final = Path(__file__).resolve().parent.parent / "docs/rules"
HEADING: Final = "## Measured\n"
HOW: Final = (
    "What 2 threads did over what 1 did, on 2 cores (2.0 is ideal), written {versions}; for the variants also"
    " the gain, over what 2 threads did in the first. Medians of at least three runs of 0.2 s in processes"
    " of their own, the variants of a case in turn; with real-time priority, because the machine did other"
    " things as well: a figure may be off by a fifth."
)


MEMORY: Final = "memory-overhead"
"""The rule whose page has the figures of memory.tsv."""
HOW_MEMORY: Final = (
    "Resident bytes on x86-64 with glibc, medians of three processes each. *purge-at-once* is"
    " `MIMALLOC_PURGE_DELAY=0`; *kept* is what stays after sixty thousand objects of a kilobyte were made"
    " and dropped, by a thread that has ended or that still lives, and *libc-kept* the same with malloc and"
    " free, but for the last block, until `malloc_trim(0)` is called."
)


def memory_section() -> str:
    """The same for the page about memory: a row for each figure, a column for each build."""
    known = memory.table()
    builds = {series: version for (_, series), (version, _) in known.items()}
    columns = sorted(builds, key=lambda series: (series != memory.GIL, series))
    heads = [
        f"{builds[series]} with the GIL" if series == memory.GIL else f"{builds[series]}t"
        for series in columns
    ]
    rows = [f"| what | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    for what in dict.fromkeys(what for what, _ in known):
        cells = [
            "-" if (what, series) not in known else f"{known[what, series][1]:,.0f}" for series in columns
        ]
        rows.append(f"| {what} | {' | '.join(cells)} |")
    return f"{HEADING}\n{HOW_MEMORY}\n\n" + "\n".join(rows) + "\n\n"


def section(rule_id: str) -> str:
    """The text of a rule's section: a line for each of its cases."""
    if rule_id == MEMORY:
        return memory_section()
    versions = dict.fromkeys((series, found.version) for (_, _, series), found in table().items())
    lines: list[str] = []
    for case in CASES[rule_id]:
        told: list[str] = []
        for variant in dict.fromkeys(variant for name, variant, _ in table() if name == case):
            row = [table().get((case, variant, series)) for series, _ in versions]
            scaled = " / ".join("-" if found is None else times(found.scaling) for found in row)
            gains = [None if found is None else found.gain for found in row]
            gained = " / ".join("-" if gain is None else times(gain) for gain in gains)
            told.append(f"{variant} {scaled}" + (f", gain {gained}" if any(gains) else ""))
        lines.append(f"- {case}: {'; '.join(told)}")
    how = HOW.format(versions=" / ".join(f"{version}t" for _, version in versions))
    return f"{HEADING}\n{how}\n\n" + "\n".join(lines) + "\n\n"


def page(rule_id: str, text: str) -> str:
    """The page with its section as the table has it; a page without one gets it before what to change."""
    before, heading, rest = text.partition(HEADING)
    if not heading:
        before, _, rest = text.partition("## What to change")
        return before + section(rule_id) + "## What to change" + rest
    after = re.search(r"^## ", rest, re.MULTILINE)
    return before + section(rule_id) + (rest[after.start() :] if after else "")


def main() -> int:
    """Rewrites the pages."""
    for rule_id in (*CASES, MEMORY):
        path = PAGES / f"{rule_id}.md"
        path.write_text(page(rule_id, path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
