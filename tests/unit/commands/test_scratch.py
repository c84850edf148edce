"""Private directories: removed when their command is gone, and never before."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from ftdiag.leftovers import (
    CAPTURE_PREFIX,
    INNER,
    LOOK_PREFIX,
    OWNER_NAME,
    own,
    remove_abandoned,
    remove_capture,
)
from ftdiag.scratch import private_directory


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_there_until_it_is_left(parent: Path) -> None:
    with private_directory() as directory:
        assert directory.parent == parent
        assert directory.stat().st_mode & 0o777 == 0o700
        # WHEN the next command clears up THEN it stays
        remove_abandoned(parent)
        assert [path.name for path in directory.iterdir()] == [OWNER_NAME]
    assert list(parent.iterdir()) == []


def test_a_command_that_starts_at_the_same_moment_does_not_remove_it(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN another command that clears up right before we lock ours
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        remove_abandoned(parent)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)

    # WHEN ours is made THEN it is there
    with private_directory() as directory:
        assert fcntl.flock is lock
        assert directory.is_dir()


def test_what_a_killed_command_left_is_removed_and_nothing_else(parent: Path) -> None:
    left, other = parent / f"{LOOK_PREFIX}left", parent / "other"
    for directory in (left, other):
        directory.mkdir()
        (directory / OWNER_NAME).touch()

    remove_abandoned(parent)

    assert list(parent.iterdir()) == [other]


def test_what_a_killed_tracker_left_is_removed_with_the_capture(parent: Path) -> None:
    # GIVEN the folder of a tracker that was killed, that of one that lives, and one of an older ftdiag
    left, lives, old = (parent / f"{CAPTURE_PREFIX}{name}" for name in ("left", "lives", "old"))
    for folder in (left, lives, old):
        (folder / INNER).mkdir(parents=True)
        (folder / INNER / "capture.bin").touch()
    (left / OWNER_NAME).touch()
    descriptor = own(lives)
    # WHEN the next command clears up
    removed = remove_abandoned(parent)
    # THEN only that one is gone, and named
    assert removed == [left]
    assert sorted(parent.iterdir()) == [lives, old]
    # AND the one that lives can be put away by its owner
    remove_capture(lives)
    os.close(descriptor)
    assert list(parent.iterdir()) == [old]
