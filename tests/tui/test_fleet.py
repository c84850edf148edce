"""The screen of many processes: the answer, a row a process, the cockpit of one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_target, spent
from ftdiag.analysis.fleet import Fleet, Member, fleet_of
from ftdiag.tui.fleet import ENDED, WAITING, FleetApp
from tui.driving import idle, screen_text, until


def member(path: Path, pid: int, waits: int, command: str = "python app.py") -> Member:
    """A worker of two threads that wait for one lock for so many ticks of a hundred."""
    builder = RecordingBuilder(path, rate_hz=100, target=a_target(pid=pid, command=command))
    for _ in range(3):
        work = spent(100 - waits, "work", at="app.py:9 work")
        lock = spent(waits, "lock", lock="self._lock", holder="b", at="app.py:3 wait")
        builder.window({"a": [work, lock], "b": [spent(100, "work", at="app.py:9 work")]})
    return Member(f"process {pid}", builder.end().session().snapshot())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Four workers that wait for a lock, one that does not, and another program."""
    folder = tmp_path_factory.mktemp("fleet")
    waits = {101: 70, 102: 71, 103: 69, 104: 70, 105: 2}
    workers = [member(folder / f"{pid}.ftdiag", pid, part) for pid, part in waits.items()]
    return fleet_of([*workers, member(folder / "other.ftdiag", 99, 0, "python other.py\x1b[2J")])


def empty() -> Fleet:
    return fleet_of([])


@pytest.mark.parametrize("size", [(80, 24), (140, 50), (40, 12), (20, 5)])
async def test_the_answer_and_a_row_each(fleet: Fleet, size: tuple[int, int]) -> None:
    # GIVEN six processes WHEN they are shown, however small the terminal is
    app = FleetApp(lambda: fleet, ascii_only=False)
    async with app.run_test(size=size) as pilot:
        await idle(pilot)
        text = screen_text(app)

        # THEN the lock that costs them is the first line, and each is a row, the first one chosen
        assert "Processes" in text
        if size[0] >= 80:
            first = text.splitlines()[1]
            assert "self._lock" in first
            assert "▸ process 101" in text
            assert all(f"process {pid}" in text for pid in (102, 103, 104, 105))
            assert "6 processes" in text
            # AND the one that is unlike the others has a mark and a reason
            assert "! process 105" in text
            assert "unlike the others: process 105" in text
            # AND nothing of a name is a command to the terminal
            assert "\x1b" not in text


async def test_a_process_is_chosen_and_stays_chosen(fleet: Fleet) -> None:
    app = FleetApp(lambda: fleet, ascii_only=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("down", "down")
        await idle(pilot)
        assert "▸ process 103" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.chosen is not None)
    assert app.chosen == "process 103"
    # WHEN the screen comes back THEN it is where it was, with what went wrong
    again = FleetApp(lambda: fleet, chosen="process 103", words="it has ended", ascii_only=False)
    async with again.run_test(size=(120, 40)) as pilot:
        await idle(pilot)
        assert "▸ process 103" in screen_text(again)
        assert [note.message for note in again._notifications] == ["it has ended"]
        await pilot.press("q")
    assert again.chosen is None


async def test_rows_stay_while_figures_change(fleet: Fleet) -> None:
    # GIVEN a screen of workers, of which those that cost most change from second to second
    shown: Sequence[Member] = fleet.members
    app = FleetApp(lambda: fleet_of(shown), ascii_only=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await idle(pilot)
        before = re.findall("process (10.) ", screen_text(app))
        shown = [
            Member(each.name, replace(each.snapshot, findings=())) for each in reversed(fleet.members[1:])
        ]
        app.show_page()
        await idle(pilot)
        text = screen_text(app)
        # THEN the order is the same, without the one that ended, whose neighbour is chosen now
        assert before[:5] == ["101", "102", "103", "104", "105"]
        assert re.findall("process (10.) ", text)[:4] == before[1:5]
        assert "▸ process 102" in text
        assert "Nothing to change was found" in text


async def test_nothing_yet_and_everything_over(fleet: Fleet) -> None:
    # GIVEN processes of which nothing is seen yet WHEN keys are pressed THEN it says that it waits
    there, over = empty(), False
    app = FleetApp(lambda: there, over=lambda: over, notes=lambda: ["a worker came"], ascii_only=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("down", "enter")
        await idle(pilot)
        assert WAITING in screen_text(app)
        assert "a worker came" in [note.message for note in app._notifications]
        assert app.chosen is None
        # WHEN all have ended THEN the last picture stays, and says so
        there, over = fleet, True
        app.show_page()
        await idle(pilot)
        assert ENDED in screen_text(app)
        assert "process 101" in screen_text(app)


async def test_it_leaves_at_the_end_of_its_time(fleet: Fleet) -> None:
    app = FleetApp(lambda: fleet, ends=lambda: True)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app._exit)
    assert app.chosen is None
