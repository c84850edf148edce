"""Figures come from one table; a remedy is offered on versions where it was measured to gain."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from pathlib import Path

import pytest

import ftdiag.rules
from ftdiag.rules import RULES
from ftdiag.rules.causes import heap_type_churn, oversubscription
from ftdiag.rules.figures.measured import GAIN, LOWEST_GAIN, measurement, remedy, scaling, table, times
from tools.rule_pages import CASES, MEMORY, PAGES, page

SOURCES = Path(ftdiag.rules.__file__).parent
PATTERNS = Path(__file__).parents[3] / "bench/targets/patterns.py"
CALL = re.compile(
    r"(?:facts\.(?P<what>scaling|remedy|gain)|_Measured)\(\s*\*?\(?\s*\"(?P<case>[\w-]+)\"(?:,\s*\"(?P<variant>[\w-]+)\")?"
    r"|facts\.scaling\('(?P<case2>[\w-]+)'(?:, '(?P<variant2>[\w-]+)')?\)"
)


def test_every_series_is_in_the_table() -> None:
    # GIVEN the table WHEN its versions are listed THEN there is one of each series that ftdiag knows
    assert {series for _, _, series in table()} == {"3.13", "3.14", "3.15"}


def test_every_case_and_variant_that_a_rule_names_was_measured() -> None:
    # GIVEN the source of the rules, and the table
    known = {(case, variant) for case, variant, _ in table()}
    named: set[tuple[str, str]] = set()
    for source in SOURCES.rglob("*.py"):
        for match in CALL.finditer(source.read_text()):
            case = match["case"] or match["case2"]
            named.add((case, match["variant"] or match["variant2"] or "shared"))

    named |= {(kind.case, kind.variant) for kind in heap_type_churn.MADE}
    named.add(oversubscription.CASE)

    # WHEN what they name is looked up, THEN it is there
    assert len(named) > 25
    assert named <= known


def test_every_case_has_a_pattern_that_can_be_measured_again() -> None:
    # GIVEN the programs that the table was measured with
    spec = importlib.util.spec_from_file_location("patterns", PATTERNS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["patterns"] = module
    spec.loader.exec_module(module)

    # WHEN cases are compared, THEN each of the table has its program, and its first variant has no gain
    for case, rows in itertools.groupby(table().items(), key=lambda row: row[0][0]):
        variants = list(module.PATTERNS[case])
        for (_, variant, series), found in rows:
            assert variant in variants
            compared = variant != variants[0] and (case, variants[0], series) in table()
            assert (found.gain is not None) == compared


@pytest.mark.parametrize("version", [(3, 13), (3, 14), (3, 15)])
def test_a_remedy_is_offered_where_it_gains(version: tuple[int, int]) -> None:
    # GIVEN every variant of every case
    for case, variant in {(case, variant) for case, variant, _ in table()}:
        found = measurement(case, variant, version)

        # WHEN it is asked for as a remedy
        offered = remedy(case, variant, version, "do this", "code")

        # THEN it is offered if it was measured to gain on that version, with figure and version
        gains = found is not None and (found.gain or 0) >= GAIN and (found.gain_low or 0) >= LOWEST_GAIN
        assert bool(offered) == gains
        if found is not None and found.gain is not None and offered:
            assert offered[0].text.startswith("do this: 2 threads did ")
            assert f"{times(found.gain)} times as much (measured on {found.version}t)" in offered[0].text


def test_a_version_without_measurements_gets_no_figures() -> None:
    # GIVEN a version that nobody measured WHEN asked THEN nothing is offered, and it is said
    assert measurement("list-append", "shared", (3, 99)) is None
    assert remedy("list-append", "own", (3, 99), "do this") == ()
    assert scaling("list-append", (0, 0)) == "not measured on this version"


def test_a_global_is_shared_without_cost_on_the_newest_and_not_before() -> None:
    # GIVEN what was measured of a global list that threads read
    # WHEN versions are compared, THEN a local alias is offered on 3.14, and not on 3.15, which needs none
    assert remedy("global-list", "alias", (3, 14), "bind it to a local name")
    assert not remedy("global-list", "alias", (3, 15), "bind it to a local name")
    # AND values of attributes are counted on all of them
    assert remedy("attribute-value", "alias", (3, 15), "bind it to a local name")


@pytest.mark.parametrize("rule_id", sorted((*CASES, MEMORY)))
def test_pages_have_the_figures_of_the_table(rule_id: str) -> None:
    # GIVEN a page WHEN it is written from the table THEN nothing changes (else: python -m tools.rule_pages)
    text = (PAGES / f"{rule_id}.md").read_text(encoding="utf-8")
    assert page(rule_id, text) == text
    assert rule_id in {rule.id for rule in RULES}


@pytest.mark.parametrize(
    ("value", "words"), [(0.00235, "0.0024"), (0.924, "0.92"), (2.44, "2.4"), (31.4, "31"), (2068.0, "2,100")]
)
def test_factors_have_two_digits(value: float, words: str) -> None:
    # GIVEN a factor WHEN put in words THEN it has two digits
    assert times(value) == words
