"""Terminals: what their settings say about colours and characters."""

from __future__ import annotations

import pytest

from ftdiag.model import ThreadState
from ftdiag.tui.look import (
    DARK,
    LIGHT,
    PLAIN,
    SIXTEEN,
    background_is_light,
    locale_is_ascii,
    look_for,
    theme_for,
)
from ftdiag.tui.panes.account import BEGAN_SIGN
from ftdiag.wording.units import NOT_MEASURED


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
        # What CPython itself makes of LANG=C.
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
    ],
)
def test_ascii_is_what_the_locale_asks_for(environment: dict[str, str], expected: bool) -> None:
    assert locale_is_ascii(environment) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("0;15", True), ("0;default;7", True), ("15;0", False), ("", False)]
)
def test_a_light_background_is_believed(value: str, expected: bool) -> None:
    assert background_is_light({"COLORFGBG": value}) is expected


def test_the_theme_follows_the_colours_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLORFGBG", raising=False)

    assert theme_for("truecolor", no_color=False) == DARK
    assert theme_for("256", no_color=False) == DARK
    assert theme_for("standard", no_color=False) == SIXTEEN
    assert theme_for(None, no_color=False) == SIXTEEN
    assert theme_for("truecolor", no_color=True) == PLAIN


def test_a_theme_of_someone_else_still_has_a_look() -> None:
    assert look_for("gruvbox", False) == look_for(DARK, False)
    assert look_for(LIGHT, False) != look_for(DARK, False)


def test_without_colour_no_style_has_one() -> None:
    look = look_for(PLAIN, False)

    for style in (look.text, look.cursor, look.title_focused, look.error, *look.state_styles.values()):
        assert style.color is None
        assert style.bgcolor is None


@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
def test_no_sign_has_two_meanings(ascii_only: bool) -> None:
    # GIVEN the signs of states, and those that stand for something else
    look = look_for(DARK, ascii_only)
    signs = [look.sign(state) for state in ThreadState]
    others = [look.pointer, look.dot, look.arrow(True), look.arrow(False), BEGAN_SIGN, NOT_MEASURED]
    # THEN each means one thing
    assert len({*signs, *others}) == len(signs) + len(others)


@pytest.mark.parametrize("name", [DARK, LIGHT])
def test_no_colour_of_a_state_is_that_of_another(name: str) -> None:
    look = look_for(name, False)
    colours = [look.colour(state) for state in ThreadState]
    assert len(set(colours)) == len(colours)
