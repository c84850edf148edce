"""What is said of how far figures can be trusted."""

from __future__ import annotations

import pytest

from ftdiag.wording.quality import tick_rate_words


@pytest.mark.parametrize(
    ("ticks", "seconds", "expected"),
    [
        (1_001, 10, "100 per second"),
        (985, 10, "100 per second"),
        (549, 10, "54.9 of 100 per second"),
        (0, 10, "100 per second"),
        (0, 0, "100 per second"),
    ],
)
def test_ticks_are_as_often_as_they_were(ticks: int, seconds: int, expected: str) -> None:
    assert tick_rate_words(ticks, seconds * 10**9, 100.0) == expected
