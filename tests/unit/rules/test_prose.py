"""Prose has no figures of its own: what was measured is in tables, and every remedy has a row or a reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import ftdiag.rules
from tools.rule_pages import PAGES

RULES: Final = Path(ftdiag.rules.__file__).parent
SOURCES: Final = sorted(RULES.rglob("*.py"))
FIGURE: Final = re.compile(
    r"\d ?x\b|\d ?%|\d times\b|\d (?:ns|us|ms|kB|[MG]i?B)\b|\d\.\d+ ?/ ?\d|\d [kM] (?:objects|lists)"
)
"""What a measured factor, share, time or size looks like: "1.7x", "24 %", "6 times", "0.66 / 0.82"."""
NO_FIGURES: Final = {
    "(sched_yield)": "a name",
    "1/s": "a formula",
}
WITHOUT_A_ROW: Final = {
    # Beginning of a remedy that is offered on every version: why there is no figure to gate it by.
    "call it for many items at once": "what is counted once for many items is not counted for each",
    "call what uses it less often": "a lock that is not taken is not waited for",
    "fill one array again": "arrays that are not made count no reference of their type",
    "let the library use one thread": "the waits and the spinning of the finding are the measurement",
    "or limit it for a part": "the same",
    "raise the quota": "the control group's own count is the measurement",
    "or use ": "as many threads as the quota has cores",
    "take locks called ": "a deadlock: the program goes on or does not",
    "take ": "the same",
    "use an RLock": "the same",
    "give up after a while": "the same",
    "hold ": "a race: the result is right or it is not, whatever it costs",
    "check and store ": "the same",
    "or let each thread have its own": "the same",
    "use processes where threads share little": "a GIL build, where no free-threaded row holds",
    "move to Python ": "the same",
    "try the free-threaded build": "the same",
    "look for a release of": "gated by its caller",
    "see which import turns it on": "says how to find out, not what to change",
    "do less while ": "the finding's own blame is the measurement",
    "nothing, or give them more work": "no loss is claimed",
    "wait for more at the same time": "I/O: what the other side allows",
    "split the work at this line": "the serial share of the finding is the measurement",
    "give the inner tasks a pool": "the program goes on or does not",
    "do not wait in a task": "the same",
    "wait with a timeout": "the same",
    "release in `finally`": "the same",
    "switch it off in production": "tracing costs what the finding says",
    "take the tracer out": "the same",
    "fewer threads": "memory: the finding's own bytes are the measurement",
    "keep threads instead": "the same",
    "one cache for all threads": "the same",
    "work on arrays as a whole": "another way to compute, not of one version",
    "move the other processes elsewhere": "of the machine, not of Python",
    "have threads touch this object less": "said where nothing was measured to gain",
    "nothing that is usually suggested": "the same",
    "use no more CPU-bound threads": "no gain is claimed, where none was measured",
    "in C extensions, detach": "a pause lasts as long as the extension's own work",
    "build classes when": "once is less than again and again",
    "start programs with subprocess": "which of the two stops threads is a fact, not a figure",
    "or fork from one small process": "the same",
    "switch tracing on once": "once is less than again and again",
    "set the filter once": "the same",
    "parse with datetime.fromisoformat": "which of the two takes a lock is a fact, not a figure",
    "at ": "the program's call into a library: as often as it calls",
    "see whether a release of": "the library's authors' to measure",
    "use another backend": "the same",
    "read .value once": "text for a gated remedy",
    "read the variable once": "the same",
    "ask for a concrete class": "the same",
    "upgrade ": "the source that is named says what it is free of",
    "compile a text once": "once is less than again and again",
    "make the function once": "the same",
    "call each of the module's functions once": "the same",
    "keep the strong reference": "the same",
    "do what takes it less often": "the same",
    "let each thread fill a container": "text beside a lock of the interpreter: no gain is claimed",
    "let the thread that made an object drop it": "the same",
    "where it is only read": "whether it is, the program knows",
    "CPython 3.14 or later: it sees": "that it waits for no lock of its own is a fact, not a figure",
    "do what needs much memory once": "a process that ends gives back all it had",
    "mend the findings above first": "whose remedies have rows",
    "processes instead (multiprocessing": "what they spare and take is said from the program's own figures",
    "make the object anew": "text for a gated remedy",
    "call malloc_trim(0) when": "the row of libc-kept is told with it",
    "call what locks ": "once is less than again and again",
}
MEASURED: Final = RULES / "figures"
"""Where remedies are made from rows."""


def _strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """The strings of a module that somebody reads: no docstrings, no reasons of thresholds."""
    hidden: set[ast.AST] = set()
    for node in ast.walk(tree):
        for statement in (
            getattr(node, "body", None) or [] if not isinstance(node, ast.IfExp | ast.Lambda) else []
        ):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                hidden.add(statement.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Threshold":
            hidden.update(ast.walk(node))
        if isinstance(node, ast.FormattedValue):
            hidden.update(child for child in ast.walk(node) if child is not node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in hidden:
            yield node


def _figures(text: str) -> list[str]:
    for known in NO_FIGURES:
        text = text.replace(known, "")
    return FIGURE.findall(text)


@pytest.mark.parametrize(
    "text", ["1.7x", "of 24 % of", "6 times", "33-36 ms a", "0.66 / 0.82", "121 MB", "1 M lists"]
)
def test_a_figure_is_found(text: str) -> None:
    # GIVEN what prose had before the tables WHEN looked for THEN it is found
    assert _figures(text)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_rule_says_a_figure_of_its_own(source: Path) -> None:
    # GIVEN a rule WHEN its strings are read THEN none has a figure: those come from the tables
    tree = ast.parse(source.read_text())
    told = [(node.lineno, node.value) for node in _strings(tree) if _figures(str(node.value))]
    assert not told


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_no_page_says_a_figure_beside_its_tables(page: Path) -> None:
    # GIVEN a page without what is written from the tables, its criteria and its code
    text = re.sub(r"^## Measured\n.*?(?=^## |\Z)", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"^## How it is recognised\n.*?(?=^## |\Z)", "", text, flags=re.M | re.S)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)

    # WHEN read THEN it has none
    assert not [line for line in text.splitlines() if _figures(line)]


def _beginnings(node: ast.expr) -> list[str]:
    """How the text of a remedy may begin; "" where that is not said in place."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        return [str(first.value) if isinstance(first, ast.Constant) else ""]
    if isinstance(node, ast.IfExp):
        return [*_beginnings(node.body), *_beginnings(node.orelse)]
    return [""]


def test_every_remedy_has_a_row_or_a_reason() -> None:
    # GIVEN all remedies that rules make without asking the table
    without = []
    for source in SOURCES:
        if source.parent == MEASURED:
            continue
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy":
                beginnings = _beginnings(node.args[0])
                without += [(source.name, node.lineno, text) for text in beginnings if not _has_reason(text)]

    # WHEN compared with the reasons THEN each has one
    assert not without


def _has_reason(text: str) -> bool:
    return any(text.startswith(beginning) for beginning in WITHOUT_A_ROW)
