"""The clock with an observer that costs what it is told to cost."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from fake_process import Sink
from ftdiag.model import Target, ThreadInfo, Wait, Window
from ftdiag.sampling.clock import Clock
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.steady import Steady
from ftdiag.sampling.target import TargetProcess
from ftdiag.sampling.threads import SampledThread, Tick
from ftdiag.sources.kernel import room


class Record(Sink):
    """Takes what belongs to a recording, and keeps none of it."""

    def intern_wait(self, wait: Wait) -> int:
        """One for all."""
        return 100

    def put_thread(self, info: ThreadInfo) -> None:
        """Nothing."""

    def update_target(self, target: Target) -> None:
        """Nothing."""

    def write_window(self, window: Window) -> None:
        """Nothing."""


class Costly:
    """An observer that sees nothing and takes so much CPU time for it at each tick. Keeps the windows."""

    source, no_stacks, native_state, native_missing = "native", None, None, None

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self.windows: list[Window] = []

    def attach(self, *_: object) -> None:
        """Nothing."""

    def observe(self, changed: Sequence[SampledThread], tick: Tick) -> None:
        """Takes its time."""
        until = time.thread_time() + self._tick_s
        while time.thread_time() < until:
            pass

    def go_steadily(self, steady: Steady) -> None:
        """No ticks by themselves."""
        steady.goes_on = False

    def refresh(self, now_ns: int) -> None:
        """Nothing."""

    def complete(self, window: Window) -> None:
        """Kept."""
        self.windows.append(window)

    def finish(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def target() -> Iterator[TargetProcess]:
    """A process that sleeps."""
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        process = TargetProcess(sleeper.pid)
        yield process
        process.close()
        sleeper.kill()


Gaps = Callable[..., dict[str, int]]
SCARCE = "left out, to keep to a budget of 0.03 core while cores are scarce"
PLENTY = "left out, to keep to a budget of 0.1 core"
ASKED = "left out, to keep to a budget of 0.02 core"


@pytest.fixture
def gaps(target: TargetProcess, monkeypatch: pytest.MonkeyPatch) -> Gaps:
    """Why ticks were left out in a look of an observer that takes 0.3 core at the usual rate, and how many.

    `idle` is how many cores have nothing to run.
    """

    def of_a_look(*, idle: float, budget_cores: float | None = None) -> dict[str, int]:
        monkeypatch.setattr(room, "idle_since_boot_ns", lambda _: int(time.monotonic_ns() * idle))
        observer = Costly(0.003)
        clock = Clock(
            SamplerOptions(target.pid, "", duration_s=4.0, budget_cores=budget_cores), target, observer, 16
        )
        clock.attach(Record())
        clock.run()
        clock.close()
        return {
            gap.why: gap.count for window in observer.windows for gap in window.gaps if gap.what == "ticks"
        }

    return of_a_look


def test_while_cores_are_scarce_less_is_taken(gaps: Gaps) -> None:
    assert gaps(idle=0.0).keys() == {SCARCE}


def test_while_cores_are_free_more_may_be_taken(gaps: Gaps) -> None:
    assert gaps(idle=1.5).keys() == {PLENTY}


def test_a_budget_that_was_asked_for_is_kept_to_whatever_is_free(gaps: Gaps) -> None:
    assert gaps(idle=0.0, budget_cores=0.02).keys() == {ASKED}
