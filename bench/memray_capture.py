"""How long a large capture of memray takes to be joined, and in how much memory; is Ctrl-C heeded meanwhile?

In: the size of the capture to make, an interpreter that has memray (default: this one). Out: on stdout, the
capture, then one line for each way to read it. Run as `python bench/memray_capture.py [--mb 1000]
[--python PYTHON] [--capture FILE]`; needs as much room in TMPDIR, twice.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "samples" / "recordings" / "3.14t" / "generators.ftdiag"
THREADS = 4
POLL_S = 0.1


@dataclass(frozen=True)
class Run:
    """How one command went; `resident` is the largest sum over it and its children (shared pages each)."""

    status: int
    seconds: float
    resident: int
    progress: int
    last_words: str
    left: int


def main() -> int:
    """Prints a line for each; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--capture", type=Path, help="read this one, and make none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftdiag-bench-") as folder:
        capture = options.capture or make(options.python, Path(folder) / "capture.bin", options.mb)
        print(f"capture: {capture.stat().st_size / 1e6:,.0f} MB")
        ftdiag = [sys.executable, "-m", "ftdiag"]
        report = [*ftdiag, "report", str(SAMPLE), "--memory", str(capture), "--sort", "allocations"]
        imported = [*ftdiag, "import", str(capture), "-o", str(Path(folder) / "capture.ftdiag")]
        for name, command, interrupt_s in (
            ("report --memory, Ctrl-C after 10 s", report, 10.0),
            ("report --memory", report, None),
            ("import", imported, None),
        ):
            ran = run(command, interrupt_s)
            print(
                f"{name}: status {ran.status}, {ran.seconds:.1f} s, at most {ran.resident / 1e6:.0f} MB"
                f" resident in all processes, {ran.progress} words of progress ({ran.last_words!r}),"
                f" {ran.left} processes left",
                flush=True,
            )
    return 0


def make(python: Path, path: Path, megabytes: int) -> Path:
    """A capture of all allocations, Python's own as well."""
    tracked = [str(HERE / "targets" / "allocates.py"), str(path), str(megabytes * 1_000_000), str(THREADS)]
    options = ["-q", "--no-compress", "--trace-python-allocators", "-o", str(path)]
    subprocess.run([str(python), "-m", "memray", "run", *options, *tracked], check=True)
    return path


def run(command: list[str], interrupt_s: float | None) -> Run:
    """A command whose standard error is a terminal; SIGINT to its group after so long."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    begin = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        process_group=0,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - we have no threads
    )
    os.close(theirs)
    watched = psutil.Process(process.pid)
    family: dict[int, psutil.Process] = {process.pid: watched}
    said = b""
    resident = 0
    interrupted = 0.0
    while process.poll() is None:
        with suppress(OSError):
            said += os.read(ours, 1 << 20)
        sizes = []
        with suppress(psutil.Error):
            for child in watched.children(recursive=True):
                family[child.pid] = child
        for member in family.values():
            with suppress(psutil.Error):
                sizes.append(member.memory_info().rss)
        resident = max(resident, sum(sizes))
        if interrupt_s is not None and not interrupted and time.monotonic() - begin > interrupt_s:
            os.killpg(process.pid, signal.SIGINT)
            interrupted = time.monotonic()
        time.sleep(POLL_S)
    with suppress(OSError):
        said += os.read(ours, 1 << 20)
    os.close(ours)
    words = [part for part in re.split(r"[\r\n]+", said.decode("utf-8", "replace")) if "records" in part]
    left = sum(member.is_running() and member.pid != process.pid for member in family.values())
    seconds = time.monotonic() - (interrupted or begin)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", words[-1]).strip() if words else ""
    return Run(process.returncode, seconds, resident, len(words), last[:80], left)


def heed_interrupts() -> None:
    """In a background job SIGINT would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
