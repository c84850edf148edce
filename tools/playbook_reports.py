"""The reports in docs/playbooks, kept as ftdiag prints them.

In: pages with `<!-- report SERIES/NAME: SECTION, SECTION(ITEMS), SECTION(ITEMS; LINES) -->` before a
block, and the recordings of samples/recordings. Out: the same pages with those blocks as they are now.
`headline` is what stands before the first section. ITEMS is how many items of a section are shown, from
the first on, or a word: that of the one item which has it; LINES is how many lines. Where something was
left out behind them stands `...`.

Usage: python -m tools.playbook_reports
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from ftdiag.recording.reader import Recording
from ftdiag.reports.text import render
from ftdiag.session import Session

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ROOT / "docs" / "playbooks"
RECORDINGS: Final = ROOT / "samples" / "recordings"
_BLOCK: Final = re.compile(
    r"(<!-- report (?P<name>[^:]+): (?P<parts>.+?) -->\n\n```\n)(?P<text>.*?)(?=```\n)", re.DOTALL
)
_PART: Final = re.compile(r"(?P<section>[^(,]+?)(?:\((?P<items>[^;)]+)(?:; (?P<lines>\d+))?\))?(?:, |$)")
_PLACES: Final = (("/tmp/samples/", "samples/"), (re.compile(r"/opt/py\d+t/bin/"), ""))
"""Where interpreters and samples were when they were recorded."""


def updated(page: str) -> str:
    """The page with its reports as they are printed now. StopIteration: there is no such section."""
    return _BLOCK.sub(lambda found: found[1] + _excerpt(found["name"], found["parts"]), page)


@cache
def _sections(name: str) -> dict[str, list[str]]:
    with Recording.open(RECORDINGS / f"{name}.ftdiag") as recording:
        text = "\n".join(render(Session(recording).snapshot()))
    for place, short in _PLACES:
        text = text.replace(place, short) if isinstance(place, str) else place.sub(short, text)
    head, *rest = text.split("\n\n")
    return {"headline": head.splitlines(), **{one.splitlines()[0]: one.splitlines() for one in rest}}


def _excerpt(name: str, parts: str) -> str:
    sections = _sections(name)
    shown: list[str] = []
    for part in _PART.finditer(parts):
        # A heading may go on: "Where thread-time goes (24.00 s of thread-time)".
        heading = next(each for each in sections if each.startswith(part["section"]))
        lines = _items(sections[heading])
        wanted = part["items"] or "999"
        number = int(wanted) if wanted.isdigit() else 1
        if not wanted.isdigit():
            lines = [lines[0], next(item for item in lines[1:] if wanted in "\n".join(item))]
        text = [line for item in lines[: 1 + number] for line in item]
        most = int(part["lines"] or len(text))
        shown += [*text[:most], *(["  ..."] if most < len(text) or len(lines) > 1 + number else []), ""]
    return "\n".join(shown[:-1]) + "\n"


def _items(section: list[str]) -> list[list[str]]:
    """The heading, and the lines of each item."""
    items: list[list[str]] = []
    for line in section:
        if not items or (line.startswith("  ") and not line.startswith("   ")):
            items.append([])
        items[-1].append(line)
    return items


def main() -> int:
    """Write the pages anew."""
    for path in sorted(PAGES.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = updated(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
