"""Throughput of a run: from its output, its wall time, or a counter; and what is none."""

from __future__ import annotations

import pytest

from ftdiag.errors import UsageError
from ftdiag.scaling.throughput import (
    NoThroughput,
    Reading,
    check_pattern,
    check_throughput,
    counted,
    number_in,
    per_second,
    printed,
)

OUTPUT = "warm: 10 req/s\nrun: 1,234.5 req/s\n"


def test_the_number_of_the_one_line_that_matches() -> None:
    assert printed(OUTPUT, r"^run: ([0-9.,]+) req/s", "only") == 1234.5


@pytest.mark.parametrize(
    ("take", "value"),
    [("first", 10.0), ("last", 1234.5), ("sum", 1244.5), ("mean", 622.25), ("max", 1234.5)],
)
def test_several_numbers_and_which_is_taken(take: str, value: float) -> None:
    assert printed(OUTPUT, r"([0-9.,]+) req/s", take) == value


def test_several_numbers_are_an_error_where_nothing_was_said() -> None:
    with pytest.raises(NoThroughput, match="2 numbers") as raised:
        printed(OUTPUT, r"([0-9.,]+) req/s", "only")
    assert "10, 1234.5" in raised.value.what
    assert "--take last" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("output", "words"), [("", "it wrote nothing"), ("a\nno luck\n", "it ended with: a | no luck")]
)
def test_no_number_says_what_there_was(output: str, words: str) -> None:
    with pytest.raises(NoThroughput) as raised:
        printed(output, r"([0-9]+) req/s", "only")
    assert words in raised.value.what


def test_a_group_without_a_number() -> None:
    with pytest.raises(NoThroughput, match="no number in the brackets"):
        printed("speed: fast", r"speed: (\w+)", "only")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,234", 1234.0), ("1e6", 1e6), ("x -3.5", -3.5), ("1_000", 1000.0), ("none", None), ("1e999", None)],
)
def test_numbers(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_a_pattern_that_is_none() -> None:
    for pattern in ("(", "[0-9]+"):
        with pytest.raises(UsageError):
            check_pattern(pattern, "--pattern")


def test_a_fixed_job() -> None:
    assert per_second(Reading(items=100.0), 2.0, 4) == 50.0
    assert per_second(Reading(items=100.0, per_thread=True), 2.0, 4) == 200.0


def test_a_counter_that_grows() -> None:
    samples = [(0.0, 0.0), (1.0, 10.0), (2.0, 30.0), (3.0, 50.0), (4.0, 50.0)]
    assert counted(samples, 1.0, "c") == pytest.approx(20.0)
    # AND one that is written once, at the end
    assert counted([(3.9, 80.0), (4.0, 80.0)], 0.0, "c") == pytest.approx(20.0)


def test_a_counter_that_does_not_grow() -> None:
    for samples in ([], [(1.0, 5.0), (2.0, 3.0)]):
        with pytest.raises(NoThroughput, match="counter"):
            counted(samples, 0.0, "c")


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_throughput(value: float) -> None:
    with pytest.raises(NoThroughput, match="makes no sense"):
        check_throughput(value)
