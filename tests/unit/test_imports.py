"""What is imported before a look begins: each of these takes as long as a tenth of a start, or more."""

from __future__ import annotations

import subprocess
import sys

import pytest

NEVER_IN_A_SAMPLER = frozenset(
    "numpy textual rich click capstone psutil dataclasses inspect platform socket shutil secrets subprocess"
    " tempfile random hashlib lzma bz2 urllib.request ftdiag.session ftdiag.rules ftdiag.recording.reader"
    " ftdiag.model.metrics ftdiag.model.findings".split()
)
NOT_BEFORE_THE_SAMPLER = NEVER_IN_A_SAMPLER | frozenset(
    "typing json ctypes re sqlite3 pathlib threading ftdiag.model ftdiag.launcher".split()
)
NOT_BEFORE_THE_REQUEST = frozenset(
    "numpy textual rich capstone psutil sqlite3 ftdiag.sources.tools.memray ftdiag.session"
    " ftdiag.recording.reader".split()
)
NOT_FOR_A_PLAIN_RECORD = NOT_BEFORE_THE_REQUEST | frozenset(
    "click json pathlib ctypes inspect subprocess ftdiag.model ftdiag.commands.group"
    " ftdiag.commands.parameters".split()
)
MODULES = "import sys, {}; print(*sys.modules)"


def imported(*names: str) -> set[str]:
    """Modules that are there when these were imported, in a process of their own."""
    script = MODULES.format(", ".join(names))
    ran = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


SAMPLER = ("ftdiag.sampling.process", "ftdiag.recording.writer")
FIRST = ("ftdiag.__main__", "ftdiag.spawning", "ftdiag.sources.kernel.scheduling")
ATTACH = ("ftdiag.commands.main", "ftdiag.commands.attach", "ftdiag.commands.sampling")
RECORD = ("ftdiag.commands.main", "ftdiag.commands.record", "ftdiag.commands.sampling")
PLAIN_RECORD = ("ftdiag.__main__", "ftdiag.commands.main", "ftdiag.commands.recording", "ftdiag.ownthreads")


@pytest.mark.parametrize(
    ("names", "unwanted"),
    [
        (SAMPLER, NEVER_IN_A_SAMPLER),
        (FIRST, NOT_BEFORE_THE_SAMPLER),
        (ATTACH, NOT_BEFORE_THE_REQUEST),
        (RECORD, NOT_BEFORE_THE_REQUEST),
        (PLAIN_RECORD, NOT_FOR_A_PLAIN_RECORD),
    ],
)
def test_what_a_start_does_not_wait_for(names: tuple[str, ...], unwanted: frozenset[str]) -> None:
    # GIVEN what Python itself imports, and a tool's own start files
    bare = imported("os")

    # WHEN that is imported which stands before the first tick, the sampler's process, its request
    there = imported(*names) - bare

    # THEN nothing comes with it that is not needed for that
    assert there & unwanted == set()
