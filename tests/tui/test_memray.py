"""memray from the cockpit: asked for, its price told, attached only after a yes; its end, its figures."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from ftdiag.errors import AttachError
from ftdiag.model import Allocations, LineAllocations, Snapshot
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK, look_for
from ftdiag.tui.memory import MemoryDialog
from ftdiag.tui.panes.allocations import allocation_lines
from ftdiag.tui.panes.hot_lines import HotTable
from tui.driving import until
from tui.pictures import FakeSource, FakeTexts, contended


class FakeMemory:
    """Attaches nothing; notes what it was asked."""

    duration_s = 10.0

    def __init__(self, refusal: AttachError | None = None) -> None:
        self._refusal = refusal
        self.attached = threading.Event()
        self.over = threading.Event()
        self.told = False

    @property
    def busy(self) -> bool:
        return self.attached.is_set() and not self.told

    def price(self) -> tuple[str, ...]:
        if self._refusal is not None:
            raise self._refusal
        return ("every allocation takes one lock",)

    def attach(self) -> None:
        self.attached.set()

    def poll(self) -> str | None:
        if not self.attached.is_set():
            return None
        if self.over.is_set():
            self.told = True
            return "allocations of 10.0 s: see hot code (4) and memory (6)"
        return "memray is attached: 3 of 10 s"


def live(memory: FakeMemory | None) -> CockpitApp:
    source = FakeSource(contended(), live=True)
    return CockpitApp(source, refresh_seconds=0.02, theme=DARK, texts=FakeTexts(), memory=memory)


def notices(app: CockpitApp) -> str:
    return "\n".join(notice.message for notice in app._notifications)


async def test_a_yes_attaches_it_and_its_end_is_told() -> None:
    # GIVEN the cockpit of a running process
    memory = FakeMemory()
    app = live(memory)
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)

        # WHEN memray is asked for THEN a dialog asks, and nothing is attached yet
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, MemoryDialog))
        assert not memory.attached.is_set()

        # AND after a yes it is, which is told, and its end
        await pilot.press("y")
        await until(pilot, memory.attached.is_set)
        await until(pilot, lambda: "memray is attached" in notices(app))
        memory.over.set()
        await until(pilot, lambda: "allocations of 10.0 s" in notices(app))


@pytest.mark.parametrize("key", ["n", "escape", "q"])
async def test_anything_else_does_not(key: str) -> None:
    memory = FakeMemory()
    app = live(memory)
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, MemoryDialog))
        await pilot.press(key)
        await until(pilot, lambda: not isinstance(app.screen, MemoryDialog))
        assert not memory.attached.is_set()
        # It can be asked for again.
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, MemoryDialog))


async def test_a_refusal_says_why_and_what_to_do() -> None:
    memory = FakeMemory(AttachError("there is no debugger", "apt install gdb"))
    app = live(memory)
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await pilot.press("A")
        await until(pilot, lambda: "apt install gdb" in notices(app))
        assert not isinstance(app.screen, MemoryDialog)


async def test_a_recording_has_nothing_to_attach_to() -> None:
    app = live(None)
    async with app.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await pilot.press("A")
        await until(pilot, lambda: "running process only" in notices(app))


def with_allocations(snapshot: Snapshot) -> Snapshot:
    """The hottest line makes two million objects a second that die at once."""
    frame = snapshot.hot[0].frame
    line = LineAllocations(frame, 2, 20_000_000, 1 << 30, 19_000_000, 1 << 20, 3, 1 << 10)
    capture = Allocations(
        pid=snapshot.target.pid,
        command="app",
        begin_unix_ns=0,
        duration_ns=10_000_000_000,
        python_allocators=True,
        aggregated=False,
        cut_short=False,
        count=20_000_000,
        size_bytes=1 << 30,
        temporary=19_000_000,
        peak_bytes=1 << 20,
        left_count=3,
        left_bytes=1 << 10,
        lines=(line,),
        threads=(),
    )
    hot = (replace(snapshot.hot[0], allocations=line), *snapshot.hot[1:])
    return replace(snapshot, hot=hot, allocations=capture)


async def test_hot_code_has_columns_for_it_only_where_there_is_a_capture() -> None:
    # GIVEN a recording with a capture, and one without
    plain = contended()
    for snapshot, there in ((with_allocations(plain), True), (plain, False)):
        app = CockpitApp(FakeSource(snapshot), refresh_seconds=0.02, theme=DARK, texts=FakeTexts())
        async with app.run_test(size=(140, 40)) as pilot:
            # WHEN hot code is shown
            await pilot.press("4")
            await until(pilot, lambda app=app: bool(app.query_one(HotTable).rows))  # type: ignore[misc]
            table = app.query_one(HotTable)

            # THEN the columns are there, or not
            assert (table.column_cells("allocations") is not None) == there
            if there:
                row = next(row for row in table.rows if row.allocations_per_s is not None)
                assert row.allocations_per_s == 2_000_000
                assert row.temporary_ratio == pytest.approx(0.95)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_memory_pane_names_the_lines(width: int) -> None:
    look = look_for(DARK, False)
    shown = allocation_lines(with_allocations(contended()), width, look)
    text = "\n".join("".join(segment.text for segment in line) for line in shown)
    assert "2.00 M" in text
    assert "95 %" in text
    assert all(sum(segment.cell_length for segment in line) <= width for line in shown)
    without = allocation_lines(contended(), width, look)
    assert "A attaches memray" in " ".join("".join(s.text for s in line) for line in without)
