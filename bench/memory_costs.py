"""Measures what free threading costs in memory: `python -m bench.memory_costs --write`.

In: a free-threaded interpreter of each series; with `--gil PATH` a build with the GIL, which the others are
compared with. Out: a table, and with `--write` src/ftdiag/rules/figures/memory.tsv: bytes, medians of ROUNDS.

Each figure is the growth of the resident memory of a process of its own, started with bytecode files and
without the caller's PYTHON variables: medians of sizes need no quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tools.provision.search import find_interpreters  # noqa: E402
from tools.provision.verification import probe_environment  # noqa: E402

TARGET: Final = Path(__file__).resolve().parent / "targets" / "memory.py"
TABLE: Final = Path(__file__).resolve().parent.parent / "src/ftdiag/rules/figures/memory.tsv"
ROUNDS: Final = 3
COLUMNS: Final = ("what", "series", "version", "bytes")
GIL: Final = "gil"
"""The series of the build with the GIL."""
ENVIRON: Final = {"purge-at-once": {"MIMALLOC_PURGE_DELAY": "0"}}


def measured(python: str, what: str) -> float:
    """Bytes, of one process."""
    name, _, how = what.partition(" ")
    if name == "start":
        return started(python)
    ran = subprocess.run(
        [python, str(TARGET), name],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=probe_environment() | ENVIRON.get(how, {}),
    )
    return float(ran.stdout)


def started(python: str) -> float:
    """Bytes of an interpreter that has done nothing."""
    code = "print(int(open('/proc/self/statm').read().split()[1]) * 4096)"
    ran = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, env=probe_environment()
    )
    return float(ran.stdout)


def names(python: str) -> list[str]:
    """What the target measures, and again with other settings."""
    listed = subprocess.run([python, str(TARGET), "--list"], capture_output=True, text=True, check=True)
    plain: list[str] = json.loads(listed.stdout)
    return [
        "start",
        *plain,
        *(f"{name} {how}" for how in ENVIRON for name in plain if name.startswith("kept-")),
    ]


def main() -> int:
    """Measures, prints, and writes if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory_costs", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--gil", help="a build with the GIL (its rows stay as they are without)")
    parser.add_argument("--write", action="store_true", help=f"put them into {TABLE.name}")
    options = parser.parse_args()
    pythons = [
        (each.series, each.version, os.fspath(each.path))
        for each in sorted(find_interpreters().chosen, key=lambda each: each.version)
    ]
    if options.gil is not None:
        said = subprocess.run(
            [options.gil, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=True,
        )
        pythons.append((GIL, said.stdout.strip(), options.gil))
    rows = [] if options.gil is not None else kept()
    for series, version, python in pythons:
        for what in names(python):
            size = statistics.median(measured(python, what) for _ in range(ROUNDS))
            rows.append((what, series, version, f"{size:.0f}"))
            print("\t".join(rows[-1]), flush=True)
    if options.write:
        TABLE.write_text("\n".join("\t".join(row) for row in (COLUMNS, *rows)) + "\n")
    return 0


def kept() -> list[tuple[str, ...]]:
    """The rows of the build with the GIL, as they are."""
    if not TABLE.exists():
        return []
    lines = [tuple(line.split("\t")) for line in TABLE.read_text().splitlines()[1:]]
    return [line for line in lines if line[1] == GIL]


if __name__ == "__main__":
    sys.exit(main())
