"""How the house is built: modules and classes of a bounded length, no circles, nothing for tests alone."""

from __future__ import annotations

from typing import Final

from tools.house import (
    MOST_CLASS_LINES,
    MOST_LINES,
    REASON,
    circles,
    classes,
    imports,
    lines,
    only_in_tests,
)

STATE_OF_A_WIDGET: Final = frozenset({"tui.table.cursor_row", "tui.table.sorted_by"})
"""What a program that drives the cockpit can see of it; here only tests do."""


def test_modules_can_be_read() -> None:
    # GIVEN all modules WHEN their lines are counted THEN none has too many
    long = {name.removeprefix("ftdiag.") for name, count in lines().items() if count > MOST_LINES}
    assert long == set()


def test_long_classes_say_why() -> None:
    # GIVEN all classes WHEN their lines are counted THEN one with many says why in its docstring
    long = {
        name.removeprefix("ftdiag.")
        for name, (count, docstring) in classes().items()
        if count > MOST_CLASS_LINES and REASON not in docstring.replace("\n    ", " ")
    }
    assert long == set()


def test_no_modules_import_each_other() -> None:
    # GIVEN what each module imports WHEN followed THEN no way leads back
    assert imports()["ftdiag.session"] >= {"ftdiag.judging", "ftdiag.analysis.ranges"}
    assert circles() == ()


def test_nothing_is_there_for_tests_alone() -> None:
    # GIVEN all functions, methods and classes WHEN followed from where programs begin THEN each is come to
    assert {name.removeprefix("ftdiag.") for name in only_in_tests()} == STATE_OF_A_WIDGET
