"""The pages about rules: one for each rule, true to its thresholds, and readable in a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ftdiag.commands.explain import command, lines, titles
from ftdiag.commands.main import main
from ftdiag.rules import RULES
from ftdiag.wording.units import amount

PAGES = Path(__file__).parents[3] / "docs" / "rules"


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    # GIVEN rules and pages WHEN compared THEN they are the same
    assert {path.stem for path in PAGES.glob("*.md")} == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_page_says_what_the_rule_does(rule: object) -> None:
    # GIVEN a page WHEN compared with its rule THEN title and thresholds are the rule's
    from ftdiag.rules.base import Rule

    assert isinstance(rule, Rule)
    page = (PAGES / f"{rule.id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {rule.id}: ")
    assert rule.title.lower() in page.partition("\n")[0].lower()
    for threshold in rule.thresholds:
        value = amount(threshold.value, threshold.unit)
        assert f"- `{threshold.metric}` {value}: {threshold.reason}" in page
    for heading in ("## How it is recognised", "## What to change", "## How to verify"):
        assert heading in page
    assert len(page.splitlines()) < 90


def test_links_lead_to_pages() -> None:
    import re

    for path in PAGES.glob("*.md"):
        for link in re.findall(r"\]\(([^)]*)\)", path.read_text(encoding="utf-8")):
            assert (PAGES / link).is_file(), (path, link)


def test_explain_prints_a_page_and_the_list() -> None:
    # GIVEN the command WHEN asked for a rule, with underscores too THEN its page is printed
    for name in ("hot-lock", "HOT_LOCK"):
        result = CliRunner().invoke(command, [name])
        assert result.exit_code == 0
        assert result.output.startswith("hot-lock: one lock of the program is waited for\n")
        assert "`" not in result.output
    # WHEN asked for none THEN all are listed
    listed = CliRunner().invoke(command, []).output
    assert set(titles()) == {line.split()[0] for line in listed.splitlines()}


def test_explain_says_what_was_probably_meant(capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN a rule that is not there WHEN asked THEN status 2, one message, and the near one is named
    assert main(["explain", "hot-lok"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert "did you mean hot-lock?" in printed.err


@pytest.mark.parametrize("width", [20, 40, 80])
def test_paragraphs_fit_the_terminal(width: int) -> None:
    # GIVEN every page WHEN shown THEN only code may be wider than the terminal
    for path in PAGES.glob("*.md"):
        for line in lines(path.read_text(encoding="utf-8"), width):
            assert len(line) <= width or line.startswith("    ") or " " not in line.strip()
