"""The flight recorder on a real process: a signal keeps both sides of a moment, a kill loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from command_line import FTDIAG, environment, ftdiag
from ftdiag.errors import RecordingError
from ftdiag.recording.reader import Recording
from reading import eventually
from tools.provision.verification import Interpreter


def watching(pid: int, directory: Path, *more: str) -> subprocess.Popen[bytes]:
    """A recorder."""
    return subprocess.Popen(
        [*FTDIAG, "watch", str(pid), "--directory", os.fspath(directory), "--after", "2", *more],
        stderr=subprocess.DEVNULL, env=environment(None),
    )  # fmt: skip


def rings(directory: Path) -> list[Path]:
    """What is being written."""
    return sorted(directory.glob("ring-*.ftdiag"))


def windows(path: Path) -> int:
    """Of a recording; none while it has just been begun."""
    with suppress(RecordingError), Recording.open(path) as recording:
        return len(recording)
    return 0


def test_a_flight_recorder(workload: Callable[..., int], tmp_path: Path) -> None:
    # GIVEN a process that is watched
    pid = workload("hot_lock")
    directory = tmp_path / "kept"
    recorder = watching(pid, directory)
    try:
        assert eventually(lambda: bool(rings(directory)) and windows(rings(directory)[0]) >= 2)

        # WHEN SIGUSR1 comes
        recorder.send_signal(signal.SIGUSR1)
        sent = time.time_ns()
        assert eventually(lambda: len(list(directory.glob("kept-*-before.ftdiag"))) == 1)
        after = directory.glob("kept-*-after.ftdiag")
        assert eventually(
            lambda: any(Path(f"{each}").exists() for each in directory.glob("kept-*-after.ftdiag"))
        )
        path = next(after)
        assert eventually(lambda: windows(path) >= 2)

        # THEN what was before is there, and full rate soon afterwards
        with Recording.open(next(directory.glob("kept-*-before.ftdiag"))) as recording:
            assert len(recording) >= 2
            assert recording.settings.rate_hz == 10
        with Recording.open(path) as recording:
            assert recording.settings.rate_hz == 100
            assert recording.settings.started_unix_ns - sent < 5e9

        # WHEN the recorder is killed
        killed = time.monotonic_ns()
        recorder.kill()
        recorder.wait()

        # THEN its ring has all but the last second or so, and another recorder goes on beside it
        with Recording.open(rings(directory)[0]) as recording:
            span = recording.span_ns()
            assert span is not None
            assert killed - span[1] < 3e9
        second = watching(pid, directory)
        try:
            assert eventually(lambda: len(rings(directory)) == 2)
            second.send_signal(signal.SIGINT)
            assert second.wait(30) == 0
        finally:
            second.kill()
    finally:
        recorder.kill()
        recorder.wait()


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    # GIVEN no process, two wishes, a condition that is none WHEN they are watched THEN each is told
    assert ftdiag("watch", "4194303", "--directory", tmp_path).status == 3
    assert ftdiag("watch", "1", "--match", "a", "--directory", tmp_path).status == 2
    told = ftdiag("watch", os.getpid(), "--when", "colour > 3", "--directory", tmp_path)
    assert told.status == 2
    assert "efficiency" in told.err


PREFORK = """
import os, threading, time
def work():
    while True:
        sum(range(1000)); time.sleep(0.001)
for number in range(3):
    if os.fork() == 0:
        for _ in range(2): threading.Thread(target=work, daemon=True).start()
        time.sleep(1000)
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_process_and_its_workers(free_threaded_python: Interpreter) -> None:
    # GIVEN a server that forked three workers
    with subprocess.Popen(
        [free_threaded_python.path, "-c", PREFORK], stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"

            # WHEN it is attached to with its children
            ran = ftdiag("attach", server.pid, "--children", "--duration", "6", "--format", "json")

            # THEN all four are in one report
            assert ran.status == 0, ran.err
            assert ran.json["processes"] == 4
            assert {member["threads"] for member in ran.json["groups"][0]["members"]} == {1, 3}
        finally:
            os.killpg(server.pid, signal.SIGKILL)
