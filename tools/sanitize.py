"""Runs tests of the compiled sampler with a build of it that checks each access to memory.

In: gcc with libasan and libubsan; paths of tests, by default all that feed it hostile memory. Out: pytest's
report; a finding of a sanitizer ends the run with an error.

Usage: python -m tools.sanitize [TEST ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    *(
        f"tests/unit/sources/test_{what}.py"
        for what in ("stackwalk", "interpreter", "threadlines", "locations", "chains", "rings")
    ),
    *(f"tests/unit/sampling/test_{what}.py" for what in ("looks", "seen")),
)
FLAGS = (
    "-g -O1 -std=c11 -fPIC -shared -fno-omit-frame-pointer -DFTDIAG_STABLE_ABI"
    " -fsanitize=address,undefined -fno-sanitize-recover=undefined"
).split()


def main() -> int:
    """Build into a copy of the package and test that; returns pytest's exit status."""
    with tempfile.TemporaryDirectory(prefix="ftdiag-sanitize-") as scratch:
        source = Path(scratch, "src")
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        place = source / "ftdiag" / "sources"
        subprocess.run(
            [
                "gcc",
                *FLAGS,
                f"-I{sysconfig.get_paths()['include']}",
                *(str(path) for path in sorted((place / "tick").glob("*.c"))),
                "-o",
                str(place / "_tick.abi3.so"),
            ],
            check=True,
        )
        runtime = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
        ).stdout.strip()
        environment = {
            **os.environ,
            "PYTHONPATH": str(source),
            "LD_PRELOAD": runtime,
            "PYTHONMALLOC": "malloc",  # else small objects share one allocation, and nothing is seen
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # the interpreter itself keeps memory
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(sys.argv[1:] or TESTS)]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
