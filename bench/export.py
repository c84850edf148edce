"""How long exports of a long recording take, and how much memory.

In: a recording (default: an hour of 64 threads, made here). Out: a table; status 1 beyond the goals: 30 s,
500 MB.

Usage: python bench/export.py [FILE] [--to FORMAT ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ftdiag.formats.exporters import MODULES

GOAL_S = 30.0
GOAL_BYTES = 500_000_000
HERE = Path(__file__).parent


def main() -> int:
    """Measure each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--to", nargs="*", default=list(MODULES))
    asked = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as folder:
        recording = asked.file or Path(folder) / "hour.ftdiag"
        if asked.file is None:
            make = [sys.executable, os.fspath(HERE / "generate_recording.py"), os.fspath(recording)]
            subprocess.run([*make, "--seconds", "3600", "--threads", "64", "--busy", "8"], check=True)
        print(f"{'format':12} {'wall s':>8} {'CPU s':>8} {'memory MB':>10} {'file MB':>8}")
        for name in asked.to:
            output = Path(folder) / f"out.{name}"
            command = [sys.executable, "-m", "ftdiag", "export", os.fspath(recording), "--to", name]
            begin = time.monotonic()
            child = subprocess.Popen(
                [*command, "--experimental", "-o", os.fspath(output)], stderr=subprocess.PIPE
            )
            told = child.stderr.read() if child.stderr is not None else b""
            _, code, usage = os.wait4(child.pid, 0)
            wall = time.monotonic() - begin
            if code:
                print(f"{name:12} failed: {told.decode(errors='replace').strip()}")
                status = 1
                continue
            cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
            size = output.stat().st_size
            print(f"{name:12} {wall:8.1f} {cpu:8.1f} {memory / 1e6:10.0f} {size / 1e6:8.1f}")
            status |= wall > GOAL_S or memory > GOAL_BYTES
            output.unlink()
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
