"""What a sweep varies: lists of the command line, placeholders, the order of runs."""

from __future__ import annotations

import pytest

from ftdiag.errors import UsageError
from ftdiag.scaling.settings import (
    Setting,
    check_command,
    filled,
    layouts,
    missing,
    plan,
    starts_processes_itself,
    thread_numbers,
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1,2,4", (1, 2, 4)), ("4,1,4", (1, 4)), ("1-3, 8", (1, 2, 3, 8)), ("7", (7,))],
)
def test_lists_of_threads(text: str, numbers: tuple[int, ...]) -> None:
    assert thread_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,1", "0 threads cannot be run"),
        ("1,,2", "'' is not a number"),
        ("1,two", "'two' is not a number"),
        ("-1", "'-1' is not a number"),
        ("1.5", "is not a number"),
        ("8-2", "goes backwards"),
        ("5000", "it takes 1 to 4,096"),
        ("1-4000", "at most 256"),
        ("٣", "is not a number"),
    ],
)
def test_what_is_no_list_of_threads(text: str, words: str) -> None:
    with pytest.raises(UsageError, match="--threads") as raised:
        thread_numbers(text)
    assert words in raised.value.what
    assert raised.value.hint


def test_layouts() -> None:
    assert layouts("1x8,4x2") == (Setting(8, 1), Setting(2, 4))
    for text in ("0x4", "4", "1x0", "axb", "100x100"):
        with pytest.raises(UsageError, match="--layouts"):
            layouts(text)


def test_a_command_that_would_not_change_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no \{threads\}"):
        check_command(("python", "b.py"), [Setting(1), Setting(2)])
    check_command(("python", "b.py"), [Setting(1)])
    check_command(("python", "b.py", "-n{threads}"), [Setting(1), Setting(2)])
    with pytest.raises(UsageError, match="where the interpreter stands"):
        check_command(("./serve", "{threads}"), [Setting(1, python="3.14t"), Setting(2, python="3.14t")])


def test_placeholders() -> None:
    command = ("python", "b.py", "-w", "{processes}", "--threads={threads}")
    assert filled(command, Setting(4, 2), None) == ["python", "b.py", "-w", "2", "--threads=4"]
    assert filled(command, Setting(4), "/opt/python3.14t")[0] == "/opt/python3.14t"
    assert filled(("env", "{python}", "b"), Setting(4), "/p") == ["env", "/p", "b"]
    assert starts_processes_itself(command)
    assert not starts_processes_itself(("python", "{threads}"))


def test_each_round_has_every_setting_once_in_an_order_of_its_own() -> None:
    settings = [Setting(number) for number in range(1, 7)]
    planned = plan(settings, 8, seed=3)

    rounds = [[each.setting for each in planned if each.round == number] for number in range(8)]
    assert all(sorted(one, key=lambda each: each.threads) == settings for one in rounds)
    assert len({tuple(one) for one in rounds}) > 4
    assert planned == plan(settings, 8, seed=3)
    # AND what was done is not done again
    done = [(each.setting, each.round) for each in planned[:10]]
    assert missing(planned, done) == planned[10:]
