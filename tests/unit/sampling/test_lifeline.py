"""A helper process ends soon after its parent is gone, in the middle of whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdiag.sampling.lifeline import GRACE_S, LOOK_EVERY_S

BOUND_S = 2.0
"""What is promised; the clock starts when the parent is killed."""
PATIENCE_S = 30.0

# The helper never looks at its standard input itself, as in a read of the target that takes for ever.
HELPER = """
import sys, time
from pathlib import Path
from ftdiag.sampling.lifeline import Lifeline
Lifeline(0).abandoned = Path(sys.argv[1])
print("up", flush=True)
while True:
    time.sleep(60)
"""
# The parent; with "leak" another child keeps the pipe open after it is gone.
PARENT = """
import subprocess, sys
command = [sys.executable, "-c", sys.argv[1], sys.argv[3]]
helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()
other = 0
if sys.argv[2] == "leak":
    other = subprocess.Popen(["sleep", "1000"], pass_fds=[helper.stdin.fileno()]).pid
print(helper.pid, other, flush=True)
sys.stdin.readline()
helper.stdin.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the helper was told that only its parent wants."""
    made = tmp_path / "private"
    made.mkdir()
    (made / "recording").touch()
    return made


@pytest.fixture(params=["plain", "leak"])
def family(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A parent and the pid of its helper."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, HELPER, request.param, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    helper, other = map(int, parent.stdout.readline().split())
    yield parent, helper
    for pid in (parent.pid, helper, other):
        if pid and alive(pid):
            os.kill(pid, signal.SIGKILL)
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()


def test_a_helper_ends_after_its_parent_was_killed(
    family: tuple[subprocess.Popen[str], int], folder: Path
) -> None:
    # GIVEN a helper that is busy with something that takes for ever
    parent, helper = family
    assert alive(helper)
    # WHEN its parent is killed
    parent.kill()
    parent.wait()
    begin = time.monotonic()
    # THEN it is gone in time (on a busy machine a little later)
    while alive(helper) and time.monotonic() - begin < PATIENCE_S:
        time.sleep(0.01)
    assert not alive(helper)
    # AND what only the parent wanted is gone
    assert not folder.exists()
    assert LOOK_EVERY_S + GRACE_S <= BOUND_S


def test_a_helper_that_is_asked_to_end_has_its_time(
    family: tuple[subprocess.Popen[str], int], folder: Path
) -> None:
    # GIVEN a parent that closes the pipe and lives
    parent, helper = family
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write("close\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "closed\n"
    # WHEN more time passes than an orphan has, THEN the helper is there and may finish
    time.sleep(2 * LOOK_EVERY_S + GRACE_S)
    assert alive(helper)
    assert folder.exists()
