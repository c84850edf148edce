"""The plain form of `record`: what the framework makes of the same words, or left to it."""

from __future__ import annotations

import os

import click
import pytest

from ftdiag.commands import plainly, record
from ftdiag.sampling.options import MAX_PID, Effort


def by_framework(arguments: list[str]) -> tuple[int, str, float | None, object] | None:
    """What click reads there; `None` for a usage error, for help, and for what only the framework does."""
    try:
        with record.command.make_context("record", arguments[1:]) as context:
            given = context.params
    except (click.ClickException, click.exceptions.Exit):
        return None
    if given["exports"] or given["source"] != "auto" or given["blocking"]:
        return None
    effort = Effort(given["rate_hz"], given["native_rate_hz"], given["budget_cores"])
    return given["pid"], os.fspath(given["path"]), given["duration_s"], effort


@pytest.mark.parametrize(
    "words",
    [
        "4711 -o app.ftdiag",
        "-o app.ftdiag 4711",
        "4711 --output /tmp/a/app.ftdiag --duration 600",
        "--rate 250 --native-rate 0 --budget 0.05 --duration 1e1 4711 -o x",
        f"{MAX_PID} -o ../up",
        "4711 -o \udc80name",
    ],
)
def test_what_is_plain_is_read_as_the_framework_does(words: str) -> None:
    # GIVEN words in order WHEN read without the framework THEN that is what it would have read
    arguments = ["record", *words.split(" ")]
    plain = plainly.recording(arguments)

    assert plain is not None
    assert tuple(plain) == by_framework(arguments)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "4711",
        "-o app",
        "0 -o app",
        "-5 -o app",
        f"{MAX_PID + 1} -o app",
        "99999999999999999999999999 -o app",
        "\u0664 -o app",
        "x -o app",
        "1 2 -o app",
        "1 -o",
        "1 -o app --rate",
        "1 -o app --rate 0.5",
        "1 -o app --rate nan",
        "1 -o app --rate x",
        "1 -o app --duration 0",
        "1 -o app --duration inf",
        "1 -o app --budget 2",
        "1 -o app --native-rate -1",
        "1 -o app --unknown",
        "1 -o app --help",
        "1 -o app -h",
        "--help",
    ],
)
def test_what_is_not_in_order_is_left_to_the_framework(words: str) -> None:
    arguments = ["record", *words.split()]

    assert by_framework(arguments) is None
    assert plainly.recording(arguments) is None


@pytest.mark.parametrize(
    "words",
    [
        "1 -oapp",
        "1 --output=app",
        "1 -o a -o b",
        "1 -o a --rate 5 --rate 6",
        "1 -o ./app",
        "1 -o a//b",
        "1 -o a/./b",
        "1 -o a/",
        "1 -o .",
        "1 -o app --export pprof",
        "1 -o app --source native",
        "1 -o app --blocking",
        "-- 1 -o app",
        "1 -o app --",
    ],
)
def test_what_is_said_in_another_way_is_left_to_the_framework(words: str) -> None:
    assert plainly.recording(["record", *words.split()]) is None


@pytest.mark.parametrize("words", ["", "attach 1", "--debug record 1 -o a", "list", "Record 1 -o a"])
def test_other_commands_are_left_to_the_framework(words: str) -> None:
    assert plainly.recording(words.split()) is None
