"""How many cores are free for us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftdiag.sources.kernel import procfs, room

SECOND_NS = 1_000_000_000
HZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def stat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with four cores, all of them ours, without a quota."""
    path = tmp_path / "stat"
    monkeypatch.setattr(room, "STAT", str(path))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(procfs.Throttle, "read_ns", lambda self: None)
    return path


def say(path: Path, *idle_s: float) -> None:
    """So long was each core idle since boot; half of that it waited for a disk meanwhile."""
    lines = [
        f"cpu{core} 5 5 5 {int(one * HZ) // 2} {int(one * HZ) // 2} 0 0 0 0 0"
        for core, one in enumerate(idle_s)
    ]
    total = int(sum(idle_s) * HZ) // 2
    path.write_text("\n".join([f"cpu  20 20 20 {total} {total} 0 0 0 0 0", *lines, "intr 1 2 3"]) + "\n")


def test_what_was_idle_is_free(stat: Path) -> None:
    one = room.Room()
    say(stat, 10, 10, 10, 10)
    assert one.read(SECOND_NS) is None
    say(stat, 12, 11, 10, 10)
    assert one.read(3 * SECOND_NS) == pytest.approx(1.5)
    assert one.read(4 * SECOND_NS) == 0.0


def test_only_cores_that_are_ours_count(stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a sampler that may run on two of four cores WHEN the others are idle THEN none is free
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3})
    one = room.Room()
    say(stat, 10, 10, 10, 10)
    one.read(0)
    say(stat, 12, 10, 12, 10)
    assert one.read(2 * SECOND_NS) == 0.0
    say(stat, 12, 11, 12, 10)
    assert one.read(4 * SECOND_NS) == pytest.approx(0.5)


def test_who_is_held_back_by_a_quota_has_no_room(stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a container's sampler WHEN its quota is spent THEN nothing is free, however idle the machine is
    throttled = iter([0, SECOND_NS // 10, SECOND_NS // 10])
    monkeypatch.setattr(procfs.Throttle, "read_ns", lambda self: next(throttled))
    one = room.Room()
    say(stat, 10, 10, 10, 10)
    one.read(0)
    say(stat, 12, 12, 12, 12)
    assert one.read(2 * SECOND_NS) == 0.0
    say(stat, 14, 14, 14, 14)
    assert one.read(4 * SECOND_NS) == pytest.approx(4.0)


@pytest.mark.parametrize("content", ["", "cpu\n", "cpu  1 2 x y z\n", "intr 0\n"])
def test_what_cannot_be_read_is_not_known(stat: Path, content: str) -> None:
    one = room.Room()
    stat.write_text(content)
    assert one.read(0) is None
    assert one.read(SECOND_NS) is None
    stat.unlink()
    assert one.read(2 * SECOND_NS) is None


def test_this_machine_says_so() -> None:
    cores = os.sched_getaffinity(0)
    idle = room.idle_since_boot_ns(cores)
    each = [room.idle_since_boot_ns({core}) for core in cores]
    assert idle is not None
    assert idle >= sum(one or 0 for one in each) * 0.9 - SECOND_NS
