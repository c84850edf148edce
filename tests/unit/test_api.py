"""The public API: loaded when it is asked for, and enough to read a recording."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ftdiag

GOLDEN = Path(__file__).parents[1] / "golden/recordings"


def test_importing_it_loads_nothing() -> None:
    # GIVEN a program that imports ftdiag WHEN it has THEN neither numpy nor a part of ftdiag is loaded
    code = "import sys, ftdiag; print(*(n for n in sys.modules if n.startswith(('numpy', 'ftdiag.'))))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


@pytest.mark.parametrize("name", ftdiag.__all__)
def test_everything_public_is_there(name: str) -> None:
    # GIVEN the names that are public WHEN asked for THEN each is there, has a docstring, and is listed
    assert getattr(ftdiag, name).__doc__
    assert name in dir(ftdiag)


def test_what_is_not_public_is_told() -> None:
    # GIVEN a name that is not there WHEN asked for THEN the error says so
    with pytest.raises(AttributeError, match="has no attribute 'attache'"):
        getattr(ftdiag, "attache")  # noqa: B009


def test_a_recording_is_read() -> None:
    # GIVEN a recording WHEN opened and looked at THEN there are findings and figures
    with ftdiag.open_recording(GOLDEN / "schema-1.5.ftdiag") as recording:
        snapshot = ftdiag.Session(recording).snapshot()
    assert isinstance(snapshot, ftdiag.Snapshot)
    assert snapshot.metrics.capacity_cores == 4.0
    assert all(isinstance(finding, ftdiag.Finding) for finding in snapshot.findings)


def test_a_file_that_is_missing_is_an_error_of_ours(tmp_path: Path) -> None:
    # GIVEN no file WHEN opened THEN the error is one of `ftdiag.errors`
    with pytest.raises(ftdiag.errors.RecordingError):
        ftdiag.open_recording(tmp_path / "none.ftdiag")
