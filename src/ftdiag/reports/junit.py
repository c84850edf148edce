"""JUnit XML, as continuous integration shows it: a test case for each thing that was to be so.

In: cases with their outcome, whose texts may come from anybody. Out: the text of a file.
"""

from __future__ import annotations

import xml.etree.ElementTree as Tree
from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.reports.escaping import visible

MAX_TEXT: Final = 2000


@dataclass(frozen=True, slots=True)
class Case:
    """One test. `failure` says what is wrong, `None` that nothing is; `skipped` why it was not judged."""

    name: str
    failure: str | None = None
    skipped: str | None = None
    details: str = ""


def junit_text(suite: str, cases: Sequence[Case]) -> str:
    """The file."""
    root = Tree.Element("testsuites")
    element = Tree.SubElement(
        root,
        "testsuite",
        name=_shown(suite),
        tests=str(len(cases)),
        failures=str(sum(case.failure is not None for case in cases)),
        errors="0",
        skipped=str(sum(case.skipped is not None for case in cases)),
    )
    for case in cases:
        one = Tree.SubElement(element, "testcase", classname=_shown(suite), name=_shown(case.name))
        if case.failure is not None:
            Tree.SubElement(one, "failure", message=_shown(case.failure)).text = _shown(case.details)
        elif case.skipped is not None:
            Tree.SubElement(one, "skipped", message=_shown(case.skipped))
        if case.details and case.failure is None:
            Tree.SubElement(one, "system-out").text = _shown(case.details)
    Tree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Tree.tostring(root, encoding="unicode")}\n'


def _shown(text: str) -> str:
    return "\n".join(visible(line, ascii_only=True, limit=MAX_TEXT) for line in text.split("\n"))
