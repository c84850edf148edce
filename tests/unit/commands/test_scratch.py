"""Private directories: removed when their command is gone, and never before."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest

from ftdiag.commands.scratch import OWNER_NAME, PREFIX, private_directory, remove_abandoned


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
    left, other = parent / f"{PREFIX}left", parent / "other"
    for directory in (left, other):
        directory.mkdir()
        (directory / OWNER_NAME).touch()

    remove_abandoned(parent)

    assert list(parent.iterdir()) == [other]
