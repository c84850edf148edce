"""`ftdiag diff`: what changed between two recordings or two sweeps, and whether it can be told from noise."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import FILE, examples

FAILED_STATUS: Final = 1


@click.command(
    short_help="Say what changed between two recordings or sweeps.",
    epilog=examples(
        ("ftdiag diff before.ftdiag after.ftdiag", "two recordings"),
        ("ftdiag diff main.ftscale branch.ftscale", "two sweeps"),
        ("ftdiag diff a.ftscale b.ftscale --fail-on worse", "for CI"),
        ("ftdiag diff a.ftdiag b.ftdiag --format markdown", "for a review"),
    ),
)
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html", "markdown"]),
    default="text",
    show_default=True,
    help="What is printed.",
)
@click.option("--summary", type=FILE, metavar="FILE", help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
@click.option("--junit", type=FILE, metavar="FILE", help="Write JUnit XML with one test.")
@click.option(
    "--fail-on",
    type=click.Choice(["worse", "not-better"]),
    help="Status 1 if AFTER is worse, or if it is not certainly better.",
)
def command(
    before: Path, after: Path, form: str, summary: Path | None, junit: Path | None, fail_on: str | None
) -> int:
    """Say whether AFTER is better or worse than BEFORE, or that it cannot be told.

    Both are recordings, or both results of `ftdiag scale`.
    """
    from ftdiag.commands import outputs, viewing
    from ftdiag.commands.sides import check_kinds, side_of
    from ftdiag.scaling.comparing import Verdict, compare

    terminal.require_output()
    outputs.check((), junit)
    viewing.load("text")
    one, two = side_of(before), side_of(after)
    check_kinds(one, two)
    comparison = compare(one, two)
    failed = (fail_on == "worse" and comparison.verdict is Verdict.WORSE) or (
        fail_on == "not-better" and comparison.verdict is not Verdict.BETTER
    )
    outputs.put_comparison(comparison, form, failed=failed, summary=summary, junit=junit)
    return FAILED_STATUS if failed else 0
