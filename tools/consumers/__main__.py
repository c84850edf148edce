"""Runs the consumers; see the package."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ftdiag.formats.exporters import exporter_of
from ftdiag.formats.exporters.material import Material
from ftdiag.recording.reader import Recording
from ftdiag.session import Session

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "samples" / "recordings" / "3.14t" / "counter_lock.ftdiag"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftdiag" / "consumers"
SPEEDSCOPE = "speedscope@1.25.0"
PROFCHECK = "github.com/open-telemetry/sig-profiling/profcheck/cmd/profcheck@latest"
LIMIT_S = 120


class NotHere(Exception):
    """A consumer that is not there and cannot be got."""


def said(*command: str, folder: Path | None = None) -> str:
    """What a program printed; raises CalledProcessError where it refused."""
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    return ran.stdout


def pprof(files: Path, alive_ns: int) -> str:
    """Total of the thread-time as `go tool pprof` adds it up."""
    go = shutil.which("go")
    if go is None:
        raise NotHere("go is not on PATH (Debian: apt-get install golang-go)")
    raw = said(go, "tool", "pprof", "-raw", os.fspath(files / "a.pb.gz"))
    kinds = next(line for line in raw.splitlines() if "thread_time/" in line).split()
    place = next(number for number, kind in enumerate(kinds) if kind.startswith("thread_time/"))
    rows = raw.partition(" Samples:")[2] or raw.partition("Samples:")[2]
    total = 0
    for line in rows.splitlines():
        numbers = line.partition(":")[0].split()
        if len(numbers) == len(kinds) and all(number.isdigit() for number in numbers):
            total += int(numbers[place])
    return _equal(total, alive_ns, len(rows.splitlines()))


def speedscope(name: str) -> Callable[[Path, int], str]:
    """Total of all profiles as speedscope's importer adds them up."""

    def run(files: Path, alive_ns: int) -> str:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise NotHere("Node.js and npm are not on PATH")
        release = CACHE / "node_modules" / "speedscope" / "dist" / "release"
        if not release.is_dir():
            CACHE.mkdir(parents=True, exist_ok=True)
            said(npm, "install", "--ignore-scripts", "--no-audit", SPEEDSCOPE, folder=CACHE)
        script = Path(__file__).with_name("speedscope.cjs")
        profiles = json.loads(said(node, os.fspath(script), os.fspath(release), os.fspath(files / name)))
        total = sum(weight for _, weight, _ in profiles)
        # Of traces it knows when a thread began and ended, not how long its slices are together.
        return f"{len(profiles)} profiles" if "trace" in name else _equal(total, alive_ns, 10_000)

    return run


def profcheck(files: Path, alive_ns: int) -> str:
    """What OpenTelemetry's own check of the signal says; it adds up no times."""
    del alive_ns
    program = shutil.which("profcheck")
    if program is None:
        raise NotHere(f"profcheck is not on PATH (go install {PROFCHECK})")
    said(program, "-check-dupes", "-check-orphans", os.fspath(files / "a.otlp"))
    return "conformance checks passed"


def _equal(found: float, wanted: float, tolerance: float) -> str:
    if abs(found - wanted) > tolerance:
        raise ValueError(f"{found / 1e9:.6f} s of thread-time instead of {wanted / 1e9:.6f} s")
    return f"{found / 1e9:.6f} s of thread-time, as in the report"


def told_by(error: Exception) -> str:
    """What a consumer printed that refused a file, else what went wrong."""
    printed = getattr(error, "stderr", "") or getattr(error, "output", "")
    return str(printed or error)


CONSUMERS: dict[str, tuple[str, str, Callable[[Path, int], str]]] = {
    "go tool pprof": ("pprof", "a.pb.gz", pprof),
    "speedscope": ("speedscope", "a.speedscope.json", speedscope("a.speedscope.json")),
    "speedscope, trace events": ("chrome", "a.trace.json", speedscope("a.trace.json")),
    "speedscope, collapsed": ("collapsed", "a.collapsed.txt", speedscope("a.collapsed.txt")),
    "profcheck": ("otlp", "a.otlp", profcheck),
}
"""Consumer -> format, the file's name, what to do."""


def main() -> int:
    """Run all of them."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    status = 0
    with Recording.open(path) as recording, tempfile.TemporaryDirectory(prefix="ftdiag-") as folder:
        session = Session(recording)
        alive_ns = sum(thread.alive_ns for thread in session.snapshot().threads)
        for consumer, (form, name, run) in CONSUMERS.items():
            out = io.BytesIO()
            exporter_of(form).write(Material(session), out)
            (Path(folder) / name).write_bytes(out.getvalue())
            try:
                words = run(Path(folder), alive_ns)
            except NotHere as error:
                words = f"not run: {error}"
            except (ValueError, StopIteration, subprocess.SubprocessError) as error:
                words = f"REFUSED: {told_by(error)}"
                status = 1
            print(f"{consumer:28} {words}")
    return status


if __name__ == "__main__":
    sys.exit(main())
