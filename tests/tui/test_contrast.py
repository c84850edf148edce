"""Contrast: text can be read in both themes, by the formula of WCAG 2."""

from __future__ import annotations

import pytest
from rich.style import Style

from ftdiag.tui.look import DARK, LIGHT, THEMES, look_for

TEXT = 4.5
DRAWN = 2.0
"""Of signs of bars, which have a shape of their own and stand in order."""


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def hexadecimal(style: Style, ground: str) -> tuple[str, str]:
    assert style.color is not None
    text = style.color.get_truecolor().hex
    return text, style.bgcolor.get_truecolor().hex if style.bgcolor is not None else ground


@pytest.mark.parametrize("name", [DARK, LIGHT])
def test_text_of_every_meaning_can_be_read_on_every_ground(name: str) -> None:
    theme = next(theme for theme in THEMES if theme.name == name)
    look = look_for(name, False)
    assert theme.background is not None
    grounds = [theme.background]
    for row in (look.cursor, look.cursor_blurred):
        assert row.bgcolor is not None
        grounds.append(row.bgcolor.get_truecolor().hex)
    read = {
        meaning: getattr(look, meaning)
        for meaning in (
            *("text", "muted", "strong", "accent", "good", "warning", "error", "title", "title_focused"),
            *("column_head", "column_sorted", "band"),
        )
    }
    for meaning, style in read.items():
        for ground in grounds:
            assert contrast(*hexadecimal(style, ground)) >= TEXT, (meaning, ground)


@pytest.mark.parametrize("name", [DARK, LIGHT])
def test_letters_of_states_can_be_read_and_signs_be_seen(name: str) -> None:
    theme = next(theme for theme in THEMES if theme.name == name)
    assert theme.background is not None
    for state, style in look_for(name, False).state_styles.items():
        least = TEXT if style.bgcolor is not None else DRAWN
        assert contrast(*hexadecimal(style, theme.background)) >= least, state
