"""The view of a sweep's results, and the cockpit with a baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftdiag.datatypes import replace as replaced
from ftdiag.model import Snapshot
from ftdiag.scaling.curve import scaling_of
from ftdiag.scaling.digest import Digest
from ftdiag.scaling.settings import Setting
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.queries import Drifted
from ftdiag.tui.sweep import SweepApp, points_of, recording_of
from sweeps import a_cause, a_digest, a_sweep
from tui.driving import go, idle, screen_text, until
from tui.pictures import FakeSource, FakeTexts, contended, measured


def a_scaling(*, recorded: bool = True, kind: str = "threads") -> SweepApp:
    """Four points on four cores, of which object locks take more and more."""

    def digest(setting: Setting) -> Digest:
        lost = 0.25 * (setting.workers - 1)
        return a_digest({"useful": setting.workers - lost, "object_lock": lost}, causes=[a_cause(lost=lost)])

    settings = [Setting(2, 2), Setting(1, 4)] if kind == "layouts" else None
    sweep = a_sweep(
        lambda setting: 100.0 * setting.workers / (1 + 0.2 * (setting.workers - 1)),
        (1, 2, 4, 8),
        cores=4.0,
        digest=digest,
        settings=settings,
        kind=kind,
        memory=lambda _: 50 << 20,
    )
    if recorded:
        runs = tuple(
            replaced(run, recordings=(f"{run.setting.workers}-{run.round}.ftdiag",)) for run in sweep.runs
        )
        sweep = replaced(sweep, runs=runs)
    return SweepApp(scaling_of(sweep), ascii_only=False)


@pytest.mark.parametrize("size", [(80, 24), (140, 50), (40, 12)])
async def test_points_the_law_and_what_grows(size: tuple[int, int]) -> None:
    app = a_scaling()
    async with app.run_test(size=size) as pilot:
        await idle(pilot)
        text = screen_text(app)
        assert "times the work of 1 thread" in text
        if size[0] >= 80:
            assert "▸ 1 thread" in text
            assert "8 threads *" in text
            assert "object lock" in text


async def test_enter_opens_the_recording_of_the_chosen_point() -> None:
    app = a_scaling()
    async with app.run_test(size=(120, 50)) as pilot:
        await idle(pilot)
        await pilot.press("down", "down", "down", "down", "down", "up")
        await idle(pilot)
        assert "▸ 4 threads" in screen_text(app)
        assert "With 4 threads" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.chosen is not None)
    assert app.chosen is not None
    assert app.chosen.startswith("4-")
    assert app.position == 2


async def test_a_point_without_a_recording_says_so_and_escape_leaves() -> None:
    app = a_scaling(recorded=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: len(list(app._notifications)) == 1)
        assert app.chosen is None
        await pilot.press("escape")
    assert app.chosen is None


async def test_layouts_and_the_recommendation() -> None:
    app = a_scaling(kind="layouts")
    async with app.run_test(size=(120, 50)) as pilot:
        await idle(pilot)
        text = screen_text(app)
    assert "2 processes x 2 threads" in text
    assert "Recommended" in text


def test_the_recording_in_the_middle_is_opened() -> None:
    app = a_scaling()
    scaling = app._scaling
    point = points_of(scaling)[1]
    assert recording_of(scaling, point) in {f"2-{number}.ftdiag" for number in range(3)}


# --- the baseline --------------------------------------------------------------------------------------


class FakeBaseline:
    """A baseline from which everything drifted."""

    name = "good.ftdiag"

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def drifted(self, snapshot: Snapshot) -> Drifted:
        return Drifted(
            self.name,
            "efficiency 0.40 (usual 0.85 to 0.93)",
            (("efficiency", 0.4, 0.85, 0.93, True),),
            (("new", "worker-0 waits for cache._lock"),),
        )


async def test_the_cockpit_begins_with_what_is_not_as_in_the_baseline() -> None:
    picture = measured(contended())
    baseline = FakeBaseline(replace(picture, t0_ns=1, t1_ns=2))
    app = CockpitApp(
        FakeSource(picture), refresh_seconds=0.02, ascii_only=False, texts=FakeTexts(), baseline=baseline
    )
    async with app.run_test(size=(120, 45)) as pilot:
        await until(pilot, lambda: app.settled)
        await idle(pilot)
        text = screen_text(app)
        assert "Against the baseline" in text
        assert "Drift: efficiency 0.40 (usual 0.85 to 0.93)" in text
        assert "worker-0 waits for cache._lock" in text
        assert "A, baseline" in text
        # WHEN other pages are looked at THEN c comes back, and c there marks a range in its place
        await go(pilot, "1")
        assert "1 Overview" in screen_text(app)
        await go(pilot, "c")
        assert "Against the baseline" in screen_text(app)
        await go(pilot, "c")
        assert "Compare two ranges" in screen_text(app)
        assert "Drift" not in screen_text(app)
