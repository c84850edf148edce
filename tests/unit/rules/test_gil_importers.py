"""Who imported the module that wants the GIL, and what to do about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ftdiag.model import Library
from ftdiag.rules.prose.fixed_versions import FIXES, GIL, known_fix
from unit.rules.scenes import GIL_WAITS, look, target


@pytest.mark.parametrize(
    ("culprit", "chain", "said", "first"),
    [
        ("lxml.etree", ("__main__", "bs4"), "by bs4, which the program imports", "leave lxml out"),
        (
            "hiredis.hiredis",
            ("__main__", "huey", "redis"),
            "by redis (huey -> redis -> hiredis)",
            "leave hiredis out",
        ),
        ("old.core", ("__main__", "client"), "by client", "if client does without old"),
        ("old.core", ("__main__",), "by the program itself", "look for a release of old.core"),
        ("old.core", (), "when it was imported;", "look for a release of old.core"),
    ],
)
def test_the_chain_is_told_and_the_nearest_way_out(
    culprit: str, chain: tuple[str, ...], said: str, first: str, tmp_path: Path
) -> None:
    # GIVEN a program with the GIL on, through a module that somebody imported
    of = replace(target(gil_enabled=True, gil_culprits=(culprit,)), gil_importers=(chain,))

    # WHEN judged, THEN it is told who did, and the first advice is the one that fits
    finding = look(tmp_path, GIL_WAITS, of=of).findings[0]
    assert finding.rule_id == "gil-enabled"
    assert said in finding.summary
    assert finding.remedy[0].text.startswith(first)


def test_a_release_that_is_free_of_it_is_named(tmp_path: Path) -> None:
    # GIVEN a library of which a later release is known not to want the GIL
    libraries = (Library("/venv/site-packages/sqlalchemy", "SQLAlchemy", "2.0.51"),)
    of = target(gil_enabled=True, gil_culprits=("sqlalchemy.cyextension",), libraries=libraries)

    # WHEN judged, THEN the remedy is to upgrade to it, with where that is written
    remedy = look(tmp_path, GIL_WAITS, of=of).findings[0].remedy[0]
    assert (
        remedy.text
        == "upgrade sqlalchemy to 2.1 or later, which is free of this (sqlalchemy/sqlalchemy#13592)"
    )
    assert remedy.code == "pip install --upgrade 'sqlalchemy>=2.1'"


@pytest.mark.parametrize(
    ("version", "known"), [("2.0.53", True), ("2.1", False), ("2.1.9", False), ("10.0", False), ("x", True)]
)
def test_versions_are_compared_as_numbers(version: str, known: bool) -> None:
    # GIVEN a library as installed WHEN asked for a fix THEN there is one only for earlier releases
    assert (known_fix("SQLAlchemy", version, GIL) is not None) is known


def test_every_fix_has_its_source() -> None:
    for fix in FIXES:
        assert "#" in fix.source
        assert fix.since[0].isdigit()
