"""One watched process: samplers that fail, a process that is gone, a full disk, what a trigger keeps."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from builders import RecordingBuilder, spent
from ftdiag.commands.main import main
from ftdiag.errors import DiskFull, FtdiagError, NotPython, PermissionRefused, TargetGone
from ftdiag.launcher import SamplingEnd
from ftdiag.model import EndReason
from ftdiag.recording import copying
from ftdiag.sampling.options import SamplerOptions
from ftdiag.watching import watched as module
from ftdiag.watching.recorder import Recorder
from ftdiag.watching.store import Limits, Store
from ftdiag.watching.targets import Wanted
from ftdiag.watching.triggers import parse
from ftdiag.watching.watched import FIRST_RETRY_S, LONGEST_RETRY_S, Plan, Watched


class FakeSampler:
    """A sampler that does what a test says; it writes a short recording where it is told to."""

    refusal: ClassVar[FtdiagError | None] = None
    failure: ClassVar[FtdiagError | None] = None
    ended: ClassVar[SamplingEnd | None] = None
    started: ClassVar[list[SamplerOptions]] = []
    spawned: ClassVar[int] = 0

    def spawn(self) -> None:
        """Counts."""
        type(self).spawned += 1

    def start(self, options: SamplerOptions) -> None:
        """Writes."""
        self.started.append(options)
        if self.refusal is None:
            builder = RecordingBuilder(Path(options.path), rate_hz=10)
            for _ in range(3):
                builder.window({"a": [spent(10, "idle")], "b": [spent(10, "work", at="a.py:3 f")]})
            builder.end()

    def poll(self) -> SamplingEnd | None:
        """Goes on, unless it is refused, or is to fail or to end."""
        for error in (self.refusal, self.failure):
            if error is not None:
                raise error
        return self.ended

    def take_notes(self) -> list[str]:
        """None."""
        return []

    def stop(self) -> None:
        """Ends."""

    def close(self) -> None:
        """Ends."""


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> type[FakeSampler]:
    """One for each test."""
    made = type("Sampler", (FakeSampler,), {"started": []})
    monkeypatch.setattr(module, "SamplerProcess", made)
    return made


def plan(*conditions: str) -> Plan:
    """A usual one."""
    return Plan(10, 100, 29, 0.03, 60, 10, 1 << 20, tuple(map(parse, conditions)), 600)


class Clock:
    """Set by the test."""

    now = 0.0

    def __call__(self) -> float:
        """That time."""
        return self.now


def test_a_sampler_that_fails_is_started_again_less_and_less_often(
    sampler: type[FakeSampler], tmp_path: Path
) -> None:
    # GIVEN a process that cannot be attached to for now
    sampler.refusal = FtdiagError("it does not answer")
    said: list[str] = []
    clock = Clock()
    watched = Watched(7, plan(), Store(tmp_path, Limits(10**9, 1e6)), said.append, clock)

    # WHEN half an hour passes
    times: list[float] = []
    for second in range(1800):
        clock.now = float(second)
        before = len(sampler.started)
        watched.step()
        times += [clock.now] * (len(sampler.started) - before)

    # THEN the waits double up to a bound, and each try is one line
    apart = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert apart[0] == FIRST_RETRY_S + 1  # a refusal is seen one step later
    assert apart[-1] == LONGEST_RETRY_S + 1
    assert len(said) == len(times) < 20


def test_what_is_no_python_among_many_is_left_alone(
    sampler: type[FakeSampler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a shell among many processes
    sampler.refusal = NotPython("process 7 (/bin/sh) is not a CPython process")
    monkeypatch.setattr(Wanted, "now", lambda _: [7])
    said: list[str] = []
    clock = Clock()
    store = Store(tmp_path, Limits(10**9, 1e6))
    recorder = Recorder(Wanted(parent=1), plan(), store, said.append, looking=False, clock=clock)

    # WHEN five minutes pass THEN nothing is said, and it is tried about once a minute: it may become a Python
    for second in range(300):
        clock.now = float(second)
        recorder.step()
    assert said == []
    assert 4 <= len(sampler.started) <= 6

    # AND where it alone was asked for, that is told
    alone = Watched(7, plan(), store, said.append, clock)
    alone.step()
    alone.step()
    assert "is not a CPython process" in said[0]


def test_one_process_that_may_not_be_read_ends_the_command(
    sampler: type[FakeSampler], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a process that the kernel does not let us read WHEN it alone is to be watched
    sampler.refusal = PermissionRefused("the kernel refuses to show the memory map")
    directory = str(tmp_path / "kept")
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            status = main(["watch", str(process.pid), "--directory", directory])
        finally:
            process.kill()

    # THEN that is the end, with the next command, as for `attach`
    said = capsys.readouterr().err
    assert status == PermissionRefused.exit_status
    assert "ftdiag: error: the kernel refuses" in said
    assert f"ftdiag doctor {process.pid}" in said

    # AND one of many is tried again, and told where to ask
    told: list[str] = []
    watched = Watched(7, plan(), Store(tmp_path, Limits(10**9, 1e6)), told.append, Clock())
    for _ in range(3):
        watched.step()
    assert "ftdiag doctor 7 says why; next try" in told[0]


def test_a_process_that_is_gone_is_not_tried_again(sampler: type[FakeSampler], tmp_path: Path) -> None:
    # GIVEN a process that ended before WHEN it is watched THEN that is the end
    sampler.refusal = TargetGone("process 7 has ended")
    watched = Watched(7, plan(), Store(tmp_path, Limits(10**9, 1e6)), lambda words: None, Clock())
    for _ in range(3):
        watched.step()
    assert watched.gone
    assert len(sampler.started) == 1


def test_a_trigger_keeps_both_sides(sampler: type[FakeSampler], tmp_path: Path) -> None:
    # GIVEN a process whose threads are two WHEN a condition about that comes true
    complete: list[Path] = []
    watched = Watched(
        7,
        plan("threads >= 2"),
        Store(tmp_path, Limits(10**9, 1e6)),
        lambda words: None,
        Clock(),
        complete=complete.append,
    )
    watched.step()
    (fired,) = watched.look()
    files = watched.keep(fired.name)
    # (what was before is complete, what comes after is not yet)
    assert [path.name.rsplit("-", 1)[1] for path in complete] == ["before.ftdiag"]

    # THEN the ring is copied, and a sampler that waited records at full rate for its time
    assert {path.name.rsplit("-", 1)[1] for path in files} == {"before.ftdiag", "after.ftdiag"}
    ring, after = sampler.started
    assert (ring.rate_hz, ring.budget_cores, ring.keep_ns) == (10, 0.03, 60 * 10**9)
    assert (after.rate_hz, after.duration_s, after.budget_cores) == (100, 10, None)
    assert sampler.spawned == 1
    # THEN it does not fire again with the same
    assert watched.look() == []
    assert watched.incidents == {"threads-2": 1}
    # WHEN the process ends THEN what follows the trigger is still written
    sampler.ended = SamplingEnd(EndReason.EXITED, "it ended")
    watched.step()
    assert watched.gone
    watched.close()
    assert set(complete) == set(files)


def test_a_full_disk_costs_what_is_oldest(
    sampler: type[FakeSampler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a disk that is full until something old is removed
    store = Store(tmp_path, Limits(2_500_000, 1e6))
    old = store.kept(7, "old", "before")
    old.write_bytes(bytes(1_000_000))
    real = copying.copy_recording

    def copy(path: Path, to: Path) -> None:
        if old.exists():
            raise DiskFull("the disk is full")
        real(path, to)

    monkeypatch.setattr(copying, "copy_recording", copy)
    said: list[str] = []
    watched = Watched(7, plan(), store, said.append, Clock())
    watched.step()

    # WHEN something is kept THEN the oldest makes room
    files = watched.keep("hot-lock")
    assert any(path.name.endswith("before.ftdiag") for path in files)
    assert not old.exists()
    # WHEN nothing can make room THEN it is said, and the recorder goes on
    old.write_bytes(b"")
    store.writing.add(old)
    assert not any(path.name.endswith("before.ftdiag") for path in watched.keep("hot-lock"))
    assert "full" in said[-1]
    watched.close()


def test_a_ring_that_ran_into_a_full_disk_is_tried_again(sampler: type[FakeSampler], tmp_path: Path) -> None:
    # GIVEN a sampler whose disk is full WHEN time passes THEN another one is started
    clock = Clock()
    watched = Watched(7, plan(), Store(tmp_path, Limits(10**9, 1e6)), lambda words: None, clock)
    watched.step()
    sampler.failure = DiskFull("the disk is full")
    watched.step()
    assert len(sampler.started) == 1
    sampler.failure = None
    clock.now = FIRST_RETRY_S + 1
    watched.step()
    assert len(sampler.started) == 2
    assert not watched.gone
