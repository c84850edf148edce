"""The words: each explained once, the same in the cockpit's help and in the documentation."""

from __future__ import annotations

from pathlib import Path

from ftdiag.wording.glossary import GLOSSARY

PAGE = Path(__file__).parents[3] / "docs/glossary.md"


def test_the_page_has_what_the_help_has() -> None:
    # GIVEN the table of the page WHEN compared with the help THEN it has every word, in order, and no other
    rows = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {word.strip(): meaning.strip() for word, meaning in rows[1:]}
    assert told == dict(GLOSSARY)
    assert list(told) == sorted(told, key=str.lower)


def test_a_meaning_fits_two_lines_of_help() -> None:
    for word, meaning in GLOSSARY.items():
        assert len(word) <= 18, word
        assert len(meaning) <= 2 * 56, word
