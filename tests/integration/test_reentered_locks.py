"""A lock that one thread enters twice, as a logging handler does: held once, and let go as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import EndReason, ThreadState
from profiles import profile_of
from reading import end_of, recordings
from tools.workloads import RunningWorkload

HANDLERS = """
import threading, time

lock = threading.RLock()


def flush():
    with lock:
        until = time.perf_counter() + 0.003
        while time.perf_counter() < until:
            pass


def handle():
    while True:
        with lock:
            flush()
        time.sleep(0.001)


for number in range(3):
    threading.Thread(target=handle, name=f"handler-{number}", daemon=True).start()
print("ready", __import__("os").getpid(), flush=True)
time.sleep(1000)
"""


def test_a_reentered_lock_is_followed(program: Callable[..., RunningWorkload], tmp_path: Path) -> None:
    # GIVEN threads that enter one RLock twice, one after the other
    target = program(HANDLERS)
    # WHEN they are recorded
    for recording in recordings(target.pid, tmp_path, 1.5):
        profile = profile_of(recording)
        # THEN the sampler lived to its end, and the waits for the lock are there
        assert end_of(recording).reason is EndReason.DURATION
        if int(profile.ticks[profile.state == int(ThreadState.LOCK)].sum()) > 10:
            break
    else:
        pytest.fail("no waits for the lock were seen")
