"""Files that CPython 3.15's own profiler wrote of a real program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from command_line import ftdiag
from ftdiag.formats.importers import import_recording, importer_of
from ftdiag.formats.importers.tachyon import PYTHON_VARIABLE
from ftdiag.opening import NOBODY
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from tools.provision.verification import Interpreter

PROGRAM = """
import threading, time
def work():
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        sum(range(1000))
threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
FORMATS = ("gecko", "collapsed", "jsonl")


def may_be_run_by_nobody(python: Path) -> bool:
    """Whether a user who is nobody has a way to it."""
    if os.geteuid() != 0:
        return True
    ran = subprocess.run(
        ["/bin/sh", "-c", f"test -x '{python}'"], user=NOBODY, group=NOBODY, extra_groups=[], check=False
    )
    return ran.returncode == 0


def test_what_the_profiler_of_python_wrote(
    free_threaded_pythons: tuple[Interpreter, ...], tmp_path: Path
) -> None:
    # GIVEN a program that 3.15's own profiler ran, in each of its formats
    python = next(each.path for each in free_threaded_pythons if each.series == "3.15")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    sampling = (os.fspath(python), "-m", "profiling.sampling")
    binary = tmp_path / "a.binary"
    subprocess.run(
        [*sampling, "run", "-a", "--binary", "-o", binary, program], check=True, capture_output=True
    )
    samples = {}
    for name in FORMATS:
        file = tmp_path / f"a.{name}"
        subprocess.run(
            [*sampling, "replay", f"--{name}", "-o", file, binary], check=True, capture_output=True
        )

        # WHEN they are imported
        output = tmp_path / f"{name}.ftdiag"
        import_recording(importer_of(file), file, output, lambda words: None)
        with Recording.open(output) as recording:
            snapshot = Session(recording).snapshot()
            samples[name] = sum(t.alive_ns for t in snapshot.threads) * recording.settings.rate_hz / 1e9

        # THEN the program's function is there
        assert any(one.frame.function == "work" for one in snapshot.hot), name
    # THEN all have the same samples, to within what two samples in one tick are
    assert samples["collapsed"] == pytest.approx(samples["jsonl"], abs=2)
    assert samples["gecko"] == pytest.approx(samples["jsonl"], rel=0.02)

    # WHEN the binary file itself is imported
    ran = ftdiag("import", binary, "-o", tmp_path / "b.ftdiag", env={PYTHON_VARIABLE: os.fspath(python)})

    # THEN that Python reads it; as root only one that nobody may run, too
    if may_be_run_by_nobody(python):
        assert ran.status == 0, ran.err
        assert "2 threads" in ran.err or "3 threads" in ran.err
    else:
        assert ran.status == 3
        assert "nobody" in ran.err
