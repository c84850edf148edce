"""What a refresh draws: the lines that are not what they were."""

from __future__ import annotations

from dataclasses import replace

from ftdiag.tui.panes.threads import ThreadsPane
from tui.driving import driving, press
from tui.pictures import FakeSource, contended, measured


def drawn(table: ThreadsPane) -> set[int]:
    """The lines that the next paint draws."""
    return {line for region in table._repaint_regions for line in region.line_range}


async def test_only_lines_that_changed_are_drawn() -> None:
    # GIVEN threads on the screen
    async with driving(FakeSource(measured(contended(6, 2)))) as (app, pilot):
        await press(pilot, "2")
        table = app.query_one(ThreadsPane)
        rows = list(table._all)
        # WHEN the same ones come again THEN nothing is drawn
        table.show_rows(rows)
        assert drawn(table) == set()
        # AND WHEN one waits for something else THEN its line is
        name = table.rows[2].thread.info.name
        place = next(at for at, row in enumerate(rows) if row.thread.info.name == name)
        rows[place] = replace(rows[place], waits_on="another lock")
        table.show_rows(rows)
        assert drawn(table) == {2 + 2}
        # AND what is painted is what stands there
        assert "another lock" in table.render_line(4).text
        # AND WHEN the cursor moves THEN the two lines are that it left and came to
        table._repaint_regions.clear()
        table.move_to(3)
        assert drawn(table) == {2, 5}


async def test_another_look_draws_all() -> None:
    # GIVEN threads on the screen WHEN the theme becomes another one
    async with driving(FakeSource(measured(contended(6, 2)))) as (app, pilot):
        await press(pilot, "2")
        table = app.query_one(ThreadsPane)
        before = table.render_line(3)
        await press(pilot, "T")
        # THEN its lines are painted anew, in other colours
        after = table.render_line(3)
        assert after.text == before.text
        assert after != before
