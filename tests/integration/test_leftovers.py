"""What looks that were killed left behind is named by the doctor: folders, and memray in a target."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command_line import ftdiag
from ftdiag.leftovers import CAPTURE_PREFIX, INNER, LOOK_PREFIX, OWNER_NAME
from ftdiag.sources.tools.traces import MAX_NAMED_CAPTURES
from tools.provision.verification import Interpreter

HOLDS = """
import os, sys, time
for path in sys.argv[1:]:
    os.open(path, os.O_CREAT | os.O_RDWR)
    os.unlink(path)
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def holding(python: Interpreter, *paths: Path) -> Iterator[int]:
    """A process that has files open which are gone, as memray has its capture; its pid."""
    command = [str(python.path), "-c", HOLDS, *map(str, paths)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def test_memray_that_was_left_in_a_program_is_named(
    free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a program that still writes the capture of a look whose folder is gone, and one with its own file
    place = tmp_path / f"{CAPTURE_PREFIX}x1" / INNER
    place.mkdir(parents=True)
    with (
        holding(free_threaded_python, place / "capture.bin") as left,
        holding(free_threaded_python, tmp_path / "own") as clean,
    ):
        # WHEN the doctor looks at them
        said = {pid: ftdiag("doctor", pid, "--format", "json").json["checks"] for pid in (left, clean)}
    # THEN it names the capture, says what ends it and how to end it now, and nothing of the kind of the other
    (inside,) = [check for check in said[left] if check["name"] == "memray inside"]
    assert str(place / "capture.bin") in inside["sentence"]
    assert inside["verdict"] == "limited"
    assert inside["remedy"] == f"python -m memray detach {left}"
    assert [check for check in said[clean] if check["name"] == "memray inside"] == []


def test_a_program_that_pretends_fills_no_terminal(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a program with many files that are called like captures of ours, with what a terminal obeys
    places = [tmp_path / f"{CAPTURE_PREFIX}{number}\x1b[2J" for number in range(40)]
    for place in places:
        place.mkdir()
    with holding(free_threaded_python, *(place / "capture.bin" for place in places)) as pid:
        # WHEN the doctor looks at it THEN a few are named, in words
        ran = ftdiag("doctor", pid)
    assert ran.out.count("memray of a look of ours") == MAX_NAMED_CAPTURES
    assert "\x1b[2J" not in ran.out


def test_folders_of_looks_that_were_killed_are_removed_and_named(tmp_path: Path) -> None:
    # GIVEN folders that a killed look left, one that somebody has no lock for, and one that is another's
    for prefix in (LOOK_PREFIX, CAPTURE_PREFIX):
        folder = tmp_path / f"{prefix}a"
        folder.mkdir()
        (folder / OWNER_NAME).touch()
    (tmp_path / f"{LOOK_PREFIX}b").mkdir()
    foreign = tmp_path / f"{LOOK_PREFIX}c"
    foreign.mkdir()
    (foreign / OWNER_NAME).touch()
    if os.geteuid() == 0:
        os.chown(foreign, 54_321, 54_321)
    else:
        shutil.rmtree(foreign)
    # WHEN the doctor is called
    ran = ftdiag("doctor", "--format", "json", env={"TMPDIR": str(tmp_path)})
    # THEN those that are ours and nobody's any more are gone, and named
    (said,) = [check for check in ran.json["checks"] if check["name"] == "leftovers"]
    for prefix in (LOOK_PREFIX, CAPTURE_PREFIX):
        assert not (tmp_path / f"{prefix}a").exists()
        assert f"{prefix}a" in said["sentence"]
    assert (tmp_path / f"{LOOK_PREFIX}b").exists()
    assert foreign.exists() == (os.geteuid() == 0)
