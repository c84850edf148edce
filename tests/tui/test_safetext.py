"""Hostile text of the target on its way to the terminal."""

from __future__ import annotations

import unicodedata

import pytest
from rich.cells import cell_len

from ftdiag.tui.safetext import MAX_CHARACTERS, cut, cut_start, pad, safe_text, width_of

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "line\nfeed\rreturn\ttab\x00null",
    "[bold red]markup[/]",
    "[@click=app.quit]click[/]",
    "\u202egnp.exe\u202c",
    "\u2066isolated\u2069",
    "zero\u200bwidth\ufeff\u00ad",
    "\u2028separator\u2029",
    "\udcff\ud800lone",
    "\ue000private\U0010fffd",
    "e" + "\u0301" * 300,
    "👩‍👩‍👧‍👦 family",
    "❤️ heart",
    "👍🏽 thumb",
    "🇫🇷 flag",
    "日本語スレッド",
    "ﷺ" * 10,
    "שלום",
    "\u1160\u11ff",
    "x" * 500,
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_nothing_dangerous_or_invisible_is_left(text: str, ascii_only: bool) -> None:
    # WHEN
    safe = safe_text(text, ascii_only=ascii_only)

    # THEN
    for character in safe:
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    assert not ascii_only or safe.isascii()
    assert width_of(safe) == cell_len(safe)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [0, 1, 2, 7, 30])
@pytest.mark.parametrize("ellipsis", ["…", ".."])
def test_cut_text_is_never_wider_than_asked_and_padded_text_exactly_so(
    text: str, width: int, ellipsis: str
) -> None:
    safe = safe_text(text)

    assert cell_len(cut(safe, width, ellipsis)) <= width
    assert cell_len(cut_start(safe, width, ellipsis)) <= width
    assert cell_len(pad(safe, width, ellipsis=ellipsis)) == width
    assert cell_len(pad(safe, width, right=True, ellipsis=ellipsis)) == width


def test_plain_names_are_left_alone() -> None:
    for name in ("worker-1", "Pool[3].<lambda>", "größe", "日本語", "C:\\temp"):
        assert safe_text(name) == name


def test_escapes_show_what_was_there() -> None:
    assert safe_text("\x1b[31m") == "\\x1b[31m"
    assert safe_text("\u202eabc") == "\\u202eabc"
    assert safe_text("a\nb") == "a\\x0ab"
    assert safe_text("größe", ascii_only=True) == "gr\\xf6\\xdfe"


def test_long_text_is_cut_before_it_is_looked_at() -> None:
    assert len(safe_text("x" * 1_000_000)) == MAX_CHARACTERS + 1


def test_a_pile_of_combining_marks_is_not_drawn() -> None:
    # GIVEN a letter with three hundred accents
    safe = safe_text("e" + "\u0301" * 300)

    # THEN no more than the bound are combined with it
    marks = [character for character in safe if unicodedata.category(character) == "Mn"]
    assert len(marks) <= 2


def test_the_end_of_a_path_is_what_stays() -> None:
    assert cut_start("/a/very/long/path/worker.py:31", 13) == "…worker.py:31"
