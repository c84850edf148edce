"""Writers that are killed, disks that are full, files nobody may write: what was written can be read."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ftdiag.errors import DiskFull, RecordingError
from ftdiag.model import End, EndReason
from ftdiag.recording.reader import Recording
from ftdiag.recording.writer import RecordingWriter
from profiles import profile_of
from small_disk import small_disk
from unit.recording import windows
from unit.recording.windows import END, SECOND_NS, create, window, write

DISK_FULL = End(EndReason.DISK_FULL, "the disk is full", 1)


def start_child(path: Path, count: int = 0) -> subprocess.Popen[str]:
    """A process that writes windows and says the number of each after it was written."""
    command = [sys.executable, windows.__file__, str(path), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("lines", [1, 2, 7, 40, 150])
def test_a_killed_writer_loses_the_open_window_only(tmp_path: Path, lines: int) -> None:
    # GIVEN a process that writes windows as fast as it can
    path = tmp_path / "a.ftdiag"
    with start_child(path) as child:
        assert child.stdout is not None
        for _ in range(lines):
            child.stdout.readline()
        # WHEN it is killed in the middle of it
        child.send_signal(signal.SIGKILL)
        said = [int(line) for line in child.stdout.read().split()]
    written = max([lines, *said])

    # THEN the file opens by itself and has every window that was said to be written
    with Recording.open(path) as recording:
        assert len(recording) >= written
        assert recording.t0_ns.tolist() == [number * SECOND_NS for number in range(len(recording))]
        assert recording.verify() == ()
        assert recording.end is None
        assert int(profile_of(recording).ticks.sum()) == 800 * len(recording)


def test_reading_while_another_process_writes(tmp_path: Path) -> None:
    # GIVEN a process that writes windows
    path = tmp_path / "a.ftdiag"
    seen = 0
    with start_child(path, 300) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with Recording.open(path) as recording:
            # WHEN it is read all the while
            while recording.end is None:
                recording.refresh()
                # THEN what is seen only grows and is whole
                assert len(recording) >= seen
                seen = len(recording)
                assert int(profile_of(recording, 0, seen).ticks.sum()) == 800 * seen
                assert len(recording.counters(0, seen)) == 8 * seen
                assert recording.stack(int(recording.samples(seen - 1).stack[-1]))[1].function == "main"
            recording.refresh()
            assert len(recording) == 300
            assert recording.verify() == ()
        child.stdout.read()
    # AND the reader has not kept the writer from leaving one file
    assert child.returncode == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_file_keeps_what_is_there(tmp_path: Path) -> None:
    # GIVEN a recording whose file may not grow beyond a limit
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    writer._database.execute("PRAGMA max_page_count=60").fetchall()

    # WHEN it is written until it is full
    written, error = write_until_full(writer)
    assert error.hint
    # THEN it stays full, its end can be told, and what was written is there
    with pytest.raises(DiskFull):
        writer.write_window(window(writer, written, threads=200, ticks=100))
    writer.finish(DISK_FULL)
    writer.close()
    assert_whole(path, written)


def write_until_full(writer: RecordingWriter) -> tuple[int, DiskFull]:
    """How many windows found room, and the error of the first that found none."""
    for number in range(5000):
        try:
            writer.write_window(window(writer, number, threads=8, ticks=100))
        except DiskFull as error:
            return number, error
    raise AssertionError("the disk never became full")


def assert_whole(path: Path, written: int) -> None:
    """The recording has so many windows, all readable."""
    with Recording.open(path) as recording:
        assert written > 5
        assert len(recording) == written
        assert recording.verify() == ()
        assert recording.end in (DISK_FULL, None)
        assert int(profile_of(recording, 0, written).ticks.sum()) == 800 * written


@pytest.fixture
def one_mib(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of one MiB, `None` where we may not mount one."""
    with small_disk(tmp_path / "disk", "1m") as mounted:
        yield tmp_path / "disk" if mounted else None


def test_a_full_disk_keeps_what_is_there(one_mib: Path | None) -> None:
    # GIVEN a small disk (where we may not mount one, the test above must do)
    if one_mib is None:
        pytest.skip("needs the right to mount a file system; test_a_full_file covers the rest")
    path = one_mib / "a.ftdiag"
    writer = create(path)

    # WHEN more is written than fits
    written, _ = write_until_full(writer)
    # A disk this full may have no room for the end either.
    with suppress(DiskFull):
        writer.finish(DISK_FULL)
    writer.close()

    # THEN everything up to there is there
    assert_whole(path, written)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory that shall not be written to (for root: a disk of its own, where possible)."""
    directory = tmp_path / "read-only"
    with small_disk(directory, "20m"):
        yield directory
    directory.chmod(0o700)


def close_to_writing(directory: Path) -> None:
    """Nobody may write to the directory or the files in it any more."""
    for path in directory.iterdir():
        path.chmod(0o400)
    directory.chmod(0o500)
    if os.path.ismount(directory):
        # Permissions do not bind root; a read-only mount does.
        subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)


def test_a_finished_recording_in_a_read_only_directory(read_only: Path) -> None:
    # GIVEN a finished recording that nobody may write to
    path = read_only / "a.ftdiag"
    write(path, 5)
    close_to_writing(read_only)

    # WHEN it is read THEN all is there, and no file was added
    with Recording.open(path) as recording:
        assert len(recording) == 5
        assert recording.verify() == ()
    assert [each.name for each in read_only.iterdir()] == ["a.ftdiag"]


@pytest.mark.parametrize("without", [(), ("-shm",), ("-shm", "-wal")])
def test_a_killed_recording_in_a_read_only_directory(
    tmp_path: Path, read_only: Path, without: tuple[str, ...]
) -> None:
    # GIVEN what a killed writer left, in a directory that nobody may write to, all of it or in part
    writer = create(tmp_path / "a.ftdiag")
    for number in range(40):
        writer.write_window(window(writer, number, threads=20, ticks=100))
    for path in tmp_path.glob("a.ftdiag*"):
        if not path.name.endswith(without or ("none",)):
            shutil.copyfile(path, read_only / path.name)
    writer.close()
    close_to_writing(read_only)

    # WHEN it is read THEN it is there (without the log: as far as it was folded in), nothing was added
    before = sorted(read_only.iterdir())
    with Recording.open(read_only / "a.ftdiag") as recording:
        assert len(recording) == 40 or "-wal" in without
        assert recording.verify() == ()
    assert sorted(read_only.iterdir()) == before


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    # GIVEN an open recording
    path = tmp_path / "a.ftdiag"
    write(path, 2)
    with Recording.open(path) as recording:
        # WHEN another one takes its name THEN it is not mistaken for it
        write(tmp_path / "b.ftdiag", 3)
        (tmp_path / "b.ftdiag").replace(path)
        with pytest.raises(RecordingError, match="replaced"):
            recording.samples(0)
        # WHEN it is removed THEN that is told
        path.unlink()
        with pytest.raises(RecordingError, match="does not exist"):
            recording.refresh()


def test_a_reader_that_stays_in_the_file_does_not_stop_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN another program that sits in the file
    monkeypatch.setattr("ftdiag.recording.writer.FINISH_WAIT_S", 0.1)
    path = tmp_path / "a.ftdiag"
    writer = create(path)
    writer.write_window(window(writer, 0))
    other = sqlite3.connect(path)
    other.execute("BEGIN")
    other.execute("SELECT * FROM meta").fetchall()

    # WHEN the writer goes on and ends
    writer.write_window(window(writer, 1))
    writer.finish(END)
    writer.close()
    other.close()

    # THEN all is there
    with Recording.open(path) as recording:
        assert len(recording) == 2
        assert recording.end == END
