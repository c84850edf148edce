"""A real sweep of a real program: recorded, its causes named, its recordings opened and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Ran, ftdiag
from tools.provision.verification import Interpreter

LOCKED = """
import sys, threading, time

lock = threading.Lock()
counts = [0] * int(sys.argv[1])
end = time.monotonic() + 1.5

def work(number):
    while time.monotonic() < end:
        with lock:
            for _ in range(20_000):
                pass
            time.sleep(0.001)  # who waits for so long parks, also where other programs have the cores
            counts[number] += 1

threads = [threading.Thread(target=work, args=(n,)) for n in range(len(counts))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('done:', sum(counts) / 1.5, 'rounds/s')
"""


@pytest.fixture(scope="module")
def swept(free_threaded_python: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Path]:
    """One and three threads that fight for a lock, each run once."""
    path = tmp_path_factory.mktemp("sweep") / "a.ftscale"
    ran = ftdiag(
        *("scale", "--threads", "1,3", "--repeat", 1, "--warm-up", 0, "--format", "json", "-o", path),
        *("--pattern", "done: ([0-9.]+) rounds/s", "--rate", 50),
        *("--", free_threaded_python.path, "-c", LOCKED, "{threads}"),
    )
    return ran, path


def test_each_run_is_recorded(swept: tuple[Ran, Path]) -> None:
    ran, path = swept

    assert ran.status == 0, ran.err
    curve = ran.json["curves"][0]
    assert all(point["throughput"]["value"] > 0 and point["account"] for point in curve["points"])
    assert "No law" not in ran.out
    assert curve["no_law"].startswith("a law has three unknowns")
    assert sorted(each.name for each in Path(f"{path}.runs").iterdir()) == ["1x1-1.ftdiag", "1x3-1.ftdiag"]


def test_its_recordings_open_and_are_told_apart(swept: tuple[Ran, Path]) -> None:
    _, path = swept
    runs = Path(f"{path}.runs")

    opened = ftdiag("report", runs / "1x3-1.ftdiag", "--format", "json")
    assert opened.status == 0, opened.err
    assert opened.json["metrics"]["threads"] >= 3
    compared = ftdiag("diff", runs / "1x1-1.ftdiag", runs / "1x3-1.ftdiag", "--format", "json")
    assert compared.status == 0, compared.err
    assert any("other numbers of threads" in note for note in compared.json["notes"])
    # THEN the lock is what grows: one thread never waits, and three do most of the time
    assert opened.json["locks"][0]["wait_s"] > 1.0
    (lock, *_) = compared.json["locks"]
    assert lock["after"] > (lock["before"] or 0.0)
    assert compared.json["account"]


def test_several_processes_and_interpreters(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN two processes of a thread each, and the interpreter by its path
    python = str(free_threaded_python.path)
    layouts = ftdiag(
        *("scale", "--layouts", "2x1", "--repeat", 1, "--warm-up", 0, "--format", "json"),
        *(
            "-o",
            tmp_path / "l.ftscale",
            "--pattern",
            "done: ([0-9.]+)",
            "--",
            python,
            "-c",
            LOCKED,
            "{threads}",
        ),
    )
    assert layouts.status == 0, layouts.err
    (point,) = layouts.json["layouts"]
    assert point["memory_bytes"] > 1 << 20
    assert point["account"]["useful"] > 0
    assert len(list(Path(f"{tmp_path / 'l.ftscale'}.runs").iterdir())) == 2

    pythons = ftdiag(
        *("scale", "--pythons", python, "--threads", "1", "--repeat", 1, "--warm-up", 0, "--no-record"),
        *("--format", "json", "-o", tmp_path / "p.ftscale", "--", "python", "-c", "pass", "{threads}"),
    )
    assert pythons.status == 0, pythons.err
    assert "free-threaded" in pythons.json["curves"][0]["version"]
