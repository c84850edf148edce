"""Files that somebody puts beside a recording, which SQLite takes for parts of it."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from ftdiag.errors import RecordingError
from ftdiag.recording.additions import next_perturbation
from ftdiag.recording.reader import Recording
from ftdiag.recording.writer import create_file

JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A finished one."""
    path = tmp_path / "a.ftdiag"
    shutil.copyfile(str(resources.files("ftdiag") / "data" / "demo.ftdiag"), path)
    return path


def journal(recording: Path, names: Path) -> bytes:
    """A journal that has nothing to undo, and names one of several databases (sqlite.org/fileformat.html)."""
    (size,) = struct.unpack_from(">H", recording.read_bytes(), 16)
    page = 65_536 if size == 1 else size
    head = JOURNAL_MAGIC + struct.pack(">IIIII", 0, 1234, recording.stat().st_size // page, 512, page)
    name = os.fsencode(names)
    checksum = sum(struct.unpack(f"{len(name)}b", name)) & 0xFFFF_FFFF
    end = struct.pack(">I", (1 << 30) // page + 1) + name + struct.pack(">II", len(name), checksum)
    return head.ljust(512, b"\0") + end + JOURNAL_MAGIC


def test_a_journal_that_names_another_file_does_not_have_it_removed(recording: Path, tmp_path: Path) -> None:
    # GIVEN a stranger's recording with a journal that names a file of ours as one that is to be removed
    precious = tmp_path / "precious"
    precious.write_text("of ours")
    Path(f"{recording}-journal").write_bytes(journal(recording, precious))

    # WHEN it is opened THEN that is refused, in words, and the file is there
    with pytest.raises(RecordingError, match="names another file"), Recording.open(recording):
        pass
    assert precious.read_text() == "of ours"


@pytest.mark.parametrize("name", ["/dev/zero", "fifo"])
def test_what_lies_beside_is_copied_only_if_it_is_a_file(recording: Path, name: str, tmp_path: Path) -> None:
    # GIVEN a recording that must be copied to be read, with a log that has no end, or that nobody writes
    Path(f"{recording}-journal").write_bytes(journal(recording, tmp_path / "none")[:512])
    if name == "fifo":
        os.mkfifo(f"{recording}-wal")
    else:
        Path(f"{recording}-wal").symlink_to(name)

    # WHEN it is opened THEN nothing is waited for, and that is said
    with pytest.raises(RecordingError, match="not a regular file"), Recording.open(recording):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a file another user's")
@pytest.mark.parametrize("ending", ["-wal", "-journal", "-shm"])
@pytest.mark.parametrize("write", [create_file, next_perturbation])
def test_nothing_is_written_beside_files_of_another_user(
    write: Callable[[Path], object], ending: str, recording: Path
) -> None:
    # GIVEN a file of another user that SQLite would take for a part of what root is about to write
    beside = Path(f"{recording}{ending}")
    beside.touch()
    os.chown(beside, 54_321, 54_321)
    if write is create_file:
        recording.unlink()

    # WHEN root writes THEN that is refused, and nothing was made
    with pytest.raises(RecordingError, match="another user's"):
        write(recording)
    assert recording.exists() is (write is not create_file)
