"""The table: columns that fit, order, filter, and a cursor that stays on its row."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from textual.app import App, ComposeResult

from ftdiag.tui.look import DARK, Look, look_for
from ftdiag.tui.panes import hot_lines, locks, threads
from ftdiag.tui.table import GAP, POINTER_WIDTH, Column, Table, fit_columns, text_column
from tui.driving import idle, press

Row = tuple[str, int]

COLUMNS: tuple[Column[Row], ...] = (
    text_column("name", "name", 6, lambda row: row[0], grow=1, most=12),
    text_column(
        "value", "value", 6, lambda row: str(row[1]), sort=lambda row: row[1], right=True, descending=True
    ),
    text_column("extra", "extra", 8, lambda row: "e", dispensable=1),
)


class Numbers(Table[Row]):
    def key_of(self, row: Row) -> Hashable:
        return row[0]

    def searched_text(self, row: Row) -> str:
        return row[0]


class NumbersApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = Numbers("1", "Numbers", COLUMNS, "value", "numbers")

    @property
    def look(self) -> Look:
        return look_for(DARK, False)

    def compose(self) -> ComposeResult:
        yield self.numbers


ROWS: list[Row] = [("one", 1), ("two", 2), ("three", 3), ("four", 4)]


@pytest.mark.parametrize("width", [0, 10, 22, 23, 30, 100])
def test_columns_never_take_more_than_there_is_unless_they_must(width: int) -> None:
    fitted = fit_columns(COLUMNS, width)

    total = POINTER_WIDTH + sum(cells for _, cells in fitted) + GAP * (len(fitted) - 1)
    assert [column.key for column, _ in fitted][:2] == ["name", "value"]
    assert total <= max(width, 14)
    assert all(column.most is None or cells <= column.most for column, cells in fitted if column.grow)


@pytest.mark.parametrize("columns", [threads.COLUMNS, hot_lines.COLUMNS, locks.COLUMNS])
@pytest.mark.parametrize("width", [80, 118, 200])
def test_the_columns_of_every_pane_fill_their_width(columns: tuple[Column[object], ...], width: int) -> None:
    fitted = fit_columns(columns, width)

    assert POINTER_WIDTH + sum(cells for _, cells in fitted) + GAP * (len(fitted) - 1) <= width


async def test_rows_are_sorted_and_the_cursor_stays_on_top_until_moved() -> None:
    app = NumbersApp()
    async with app.run_test(size=(40, 10)) as pilot:
        # GIVEN rows of which the largest is first
        app.numbers.show_rows(ROWS)
        await idle(pilot)
        assert [name for name, _ in app.numbers.rows] == ["four", "three", "two", "one"]

        # WHEN another becomes the largest
        app.numbers.show_rows([("one", 9), ("four", 4)])

        # THEN the cursor is on that
        assert app.numbers.current == ("one", 9)


async def test_a_moved_cursor_follows_its_row() -> None:
    app = NumbersApp()
    async with app.run_test(size=(40, 10)) as pilot:
        app.numbers.show_rows(ROWS)
        app.numbers.focus()
        await press(pilot, "down")
        assert app.numbers.current == ("three", 3)

        # WHEN its value falls, and then it is gone
        app.numbers.show_rows([("one", 1), ("two", 2), ("three", 0), ("four", 4)])
        assert app.numbers.current == ("three", 0)
        app.numbers.show_rows([("one", 1)])

        # THEN the cursor is on what is left
        assert app.numbers.current == ("one", 1)
        app.numbers.show_rows([])
        assert app.numbers.current is None


async def test_every_word_of_the_filter_must_be_there() -> None:
    app = NumbersApp()
    async with app.run_test(size=(40, 10)):
        app.numbers.show_rows(ROWS)

        app.numbers.set_filter("O")
        assert {name for name, _ in app.numbers.rows} == {"one", "two", "four"}
        app.numbers.set_filter("o w")
        assert [name for name, _ in app.numbers.rows] == ["two"]
        app.numbers.set_filter("")
        assert len(app.numbers.rows) == 4


async def test_keys_move_page_and_scroll() -> None:
    app = NumbersApp()
    async with app.run_test(size=(40, 10)) as pilot:
        app.numbers.show_rows([(f"row{i}", 1000 - i) for i in range(100)])
        app.numbers.focus()
        await press(pilot, "end")
        assert app.numbers.cursor_row == 99
        assert app.numbers.scroll_offset.y == 92
        await press(pilot, "g")
        assert (app.numbers.cursor_row, app.numbers.scroll_offset.y) == (0, 0)
        await press(pilot, "pagedown", "j", "k")
        assert app.numbers.cursor_row == 7
        await press(pilot, "pageup", "up", "up")
        assert app.numbers.cursor_row == 0


async def test_a_column_name_is_clicked_to_sort_and_again_to_reverse() -> None:
    app = NumbersApp()
    async with app.run_test(size=(40, 10)) as pilot:
        app.numbers.show_rows(ROWS)
        await idle(pilot)
        await pilot.click("#numbers", offset=(2, 1))
        assert app.numbers.sorted_by == ("name", False)
        assert app.numbers.rows[0] == ("four", 4)
        await pilot.click("#numbers", offset=(2, 1))
        assert app.numbers.sorted_by == ("name", True)


async def test_a_row_is_clicked_and_a_second_click_chooses_it() -> None:
    app = NumbersApp()
    chosen: list[object] = []
    app.numbers.action_choose = lambda: chosen.append(app.numbers.current)  # type: ignore[method-assign]
    async with app.run_test(size=(40, 10)) as pilot:
        app.numbers.show_rows(ROWS)
        await idle(pilot)
        await pilot.click("#numbers", offset=(2, 3))
        assert app.numbers.current == ("three", 3)
        assert chosen == []
        await pilot.click("#numbers", offset=(4, 3), times=2)
        assert chosen == [("three", 3)]
        # Below the last row there is nothing to click.
        await pilot.click("#numbers", offset=(2, 9))
        assert app.numbers.current == ("three", 3)


async def test_what_it_costs_depends_on_the_screen_not_on_the_rows() -> None:
    app = NumbersApp()
    async with app.run_test(size=(40, 10)) as pilot:
        painted: list[str] = []

        def paint(row: Row, width: int, look: Look) -> str:
            painted.append(row[0])
            return row[0]

        app.numbers.columns = [
            text_column("name", "name", 6, lambda row: paint(row, 6, app.look), sort=lambda row: row[0])
        ]
        app.numbers.sort_on(app.numbers.columns[0])
        app.numbers._fitted_width = -1
        painted.clear()
        app.numbers.show_rows([(f"row{i}", i) for i in range(10_000)])
        await idle(pilot)

        assert 0 < len(painted) <= 8 * 4
