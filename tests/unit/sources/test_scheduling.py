"""Early turns: who gets them, and that nobody inherits them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SCRIPT = """
import json, os, subprocess, sys
from ftdiag.sources.scheduling import hurry, take_turns_again
os.setpriority(os.PRIO_PROCESS, 0, max(int(sys.argv[1]), os.getpriority(os.PRIO_PROCESS, 0)))
def nice(): return os.getpriority(os.PRIO_PROCESS, 0)
before = nice()
granted = hurry()
hurried = nice()
child = subprocess.run(
    [sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"],
    capture_output=True,
    text=True,
)
take_turns_again()
print(json.dumps([before, granted, hurried, int(child.stdout), nice()]))
"""


def hurried(nice: int) -> list[int]:
    """Nice value before, whether it was granted, the value then, that of a child, and at last."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(nice)], capture_output=True, text=True, check=True
    )
    said: list[int] = json.loads(ran.stdout)
    return said


def test_early_turns_are_not_inherited() -> None:
    before, granted, then, child, at_last = hurried(0)
    if granted:
        assert (before, then, child, at_last) == (0, -15, 0, 0)
    else:  # it may not, or was nice from the start
        assert then == child == at_last == before >= 0
    assert granted or before > 0 or os.geteuid() != 0


def test_who_was_asked_to_be_nice_stays_so() -> None:
    before, granted, then, child, at_last = hurried(5)
    assert before > 0
    assert not granted
    assert then == child == at_last == before
