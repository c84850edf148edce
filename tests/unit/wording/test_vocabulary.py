"""The words that a person reads: one for each thing, on pages, in helps and in what the program says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest

from ftdiag.commands.group import cli

ROOT: Final = Path(__file__).parents[3]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
SAID: Final = tuple(
    file
    for part in ("wording", "reports", "rules", "tui", "commands")
    for file in sorted((ROOT / "src" / "ftdiag" / part).rglob("*.py"))
)

INSTEAD: Final = {
    r"\b(samples?|ticks?|looks?|requests|allocations)( of machine code)? a second\b": "... per second",
    r"\bother programs (use|take|have|hold)\b": "other processes ...",
    r"\b(end|fires?|removed) (again )?after so long\b": "how long it is",
    r"\bafter anything that may happen\b": "even if this command crashes",
    r"\bconfidence:? (is )?(sure|certain|known)\b": "measured, likely or possible",
    r"\(then it is known\)": "(then it is measured)",
    r"\bnot applicable rules\b|\brules (that are )?not applicable\b": "rules skipped",
    r"\bsays what (that|it) costs, and asks\b": "shows the overhead, then asks",
    r"\blost cores \(at most\)": "cores lost (upper bound)",
    r"\bmemory by use\b": "memory by kind",
}
"""What is said otherwise: an expression, and the words for it."""


def of_commands(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """The help of a command and all below it."""
    context = click.Context(command, info_name=name)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            assert found is not None
            yield from of_commands(found, f"{name} {sub}")


@cache
def texts() -> dict[str, str]:
    """All that is read, by where it stands, on one line; string literals are joined."""
    files = {str(file.relative_to(ROOT)): file.read_text() for file in (*PAGES, *SAID)}
    return {
        where: " ".join(re.sub(r'"\s*\n\s*f?"', "", text).split())
        for where, text in (files | dict(of_commands(cli, "ftdiag"))).items()
    }


@pytest.mark.parametrize("said", INSTEAD)
def test_one_thing_has_one_word(said: str) -> None:
    # GIVEN pages, helps and the program's own words, broken into lines anywhere
    # WHEN a word is looked for that another one stands for THEN nobody says it
    found = {
        f"{where}: {match[0]}"
        for where, text in texts().items()
        for match in re.finditer(said, text, re.IGNORECASE)
    }
    assert not found, f"say {INSTEAD[said]!r} instead"
