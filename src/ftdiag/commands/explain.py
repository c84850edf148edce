"""`ftdiag explain`: the page about a rule, in the terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from ftdiag.commands import terminal
from ftdiag.commands.parameters import examples
from ftdiag.errors import FtdiagError, UsageError

MAX_PAGE_BYTES: Final = 1 << 20
CODE_INDENT: Final = "    "


class PagesMissing(FtdiagError):
    """This installation has no pages."""


class RuleName(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """The id of a rule; only completion needs to know it."""

    name = "rule"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The rules that begin so."""
        return [CompletionItem(rule) for rule in titles() if rule.startswith(incomplete)]


@click.command(
    short_help="Explain a finding: what it means and what to do.",
    epilog=examples(
        ("ftdiag explain hot-lock", "one rule"),
        ("ftdiag explain", "all rules, a line each"),
        ("ftdiag explain refcount-contention | less", ""),
    ),
)
@click.argument("rule", type=RuleName(), required=False)
def command(rule: str | None) -> None:
    """Print the page about RULE, the name of a finding. Without RULE, the list of all rules."""
    terminal.require_output()
    known = titles()
    if rule is None:
        longest = max(len(name) for name in known)
        for name, title in known.items():
            terminal.put(f"{name:<{longest}}  {title}")
        return
    wanted = rule.strip().lower().replace("_", "-")
    if wanted not in known:
        close = difflib.get_close_matches(wanted, known, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"there is no rule {rule!r}{meant}", "ftdiag explain   lists the rules")
    terminal.put_lines(lines(_page(wanted), terminal.width()))


def titles() -> dict[str, str]:
    """Rule -> its title, by name."""
    found: dict[str, str] = {}
    for path in sorted(_directory().glob("*.md")):
        first = path.read_text(encoding="utf-8")[:200].partition("\n")[0]
        found[path.stem] = first.removeprefix("# ").partition(": ")[2]
    return found


def lines(page: str, width: int) -> Iterator[str]:
    """A page as plain text: paragraphs in `width` columns, code as it is."""
    import textwrap

    code = False
    for line in page.splitlines():
        if line.startswith("```"):
            code = not code
        elif code:
            yield CODE_INDENT + line
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
            yield from textwrap.wrap(heading.upper() if line.startswith("##") else heading, width)
        elif line.startswith("- "):
            yield from textwrap.wrap(_plain(line), width, subsequent_indent="  ")
        else:
            yield from textwrap.wrap(_plain(line), width) or [""]


def _plain(line: str) -> str:
    """A line without signs of Markdown: `[hot-lock](hot-lock.md)` becomes hot-lock."""
    import re

    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).replace("`", "")


def _page(rule: str) -> str:
    with open(_directory() / f"{rule}.md", encoding="utf-8") as page:
        return page.read(MAX_PAGE_BYTES)


def _directory() -> Path:
    """The pages: inside an installed package, in docs/ of a checkout."""
    package = Path(__file__).parent.parent
    for directory in (package / "data" / "rules", package.parent.parent / "docs" / "rules"):
        if directory.is_dir():
            return directory
    raise PagesMissing(
        "this installation lacks the pages about rules", "pip install --force-reinstall ftdiag"
    )
