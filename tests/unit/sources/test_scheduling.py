"""Early turns: who gets them, and that nobody inherits them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

SCRIPT = """
import json, os, subprocess, sys
from ftdiag.sources.kernel.scheduling import hurried, hurry, hurry_less, take_turns_again
os.setpriority(os.PRIO_PROCESS, 0, max(int(sys.argv[1]), os.getpriority(os.PRIO_PROCESS, 0)))
def turns(): return [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK]
def childs():
    look = "import os; print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0))"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    return [int(word) for word in ran.stdout.split()]
before = turns()
granted = hurry()
there = hurried(), turns(), childs()
hurry_less()
there = *there, turns()
take_turns_again()
print(json.dumps([granted, before, *there, turns()]))
"""

SESSIONS = """
import json, os
from ftdiag.sources.kernel.scheduling import hurry_child
def group():
    try:
        return open("/proc/self/autogroup").read().split()  # nothing where cores are not shared by sessions
    except FileNotFoundError:
        return []
ours = group()
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    granted = hurry_child(0)
    os.write(writing, json.dumps([granted, os.getpriority(os.PRIO_PROCESS, 0), group()]).encode())
    os._exit(0)
os.wait()
print(json.dumps([ours, group(), *json.loads(os.read(reading, 4096))]))
"""


def hurried(nice: int) -> Any:
    """Whether it was granted, turns (nice value, policy) before, whether we hurry, turns then, those of a
    child, those of less hurry, and at last."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(nice)], capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


def test_early_turns_are_not_inherited() -> None:
    # WHEN early turns are taken
    granted, before, ours, then, child, less, at_last = hurried(0)

    # THEN a child is as we were, and so are we when they are given back
    assert at_last == before
    assert ours == granted
    if granted:
        assert then in ([before[0], os.SCHED_RR], [-15, os.SCHED_OTHER])
        assert child == [0, os.SCHED_OTHER]
        assert less == [-15, os.SCHED_OTHER]
    else:  # it may not, or was nice from the start
        assert then == child == less == before
    assert granted or before[0] > 0 or os.geteuid() != 0


def test_who_was_asked_to_be_nice_stays_so() -> None:
    granted, before, ours, then, child, less, at_last = hurried(5)
    assert before[0] > 0
    assert not granted
    assert not ours
    assert then == child == less == at_last == before


def test_only_the_session_of_a_child_comes_before_others() -> None:
    # WHEN a child in a session of its own gets early turns
    ran = subprocess.run([sys.executable, "-c", SESSIONS], capture_output=True, text=True, check=True)
    before, after, granted, nice, childs = json.loads(ran.stdout)

    # THEN they count against other sessions where the kernel shares cores by them, and ours is as it was
    assert before == after
    if granted:
        assert nice == -15
    if granted and childs:
        assert childs[0] not in before
        assert childs[2] == "-20"
    assert granted or os.geteuid() != 0
