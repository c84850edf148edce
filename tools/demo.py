"""The demo: a contended program under a free-threaded interpreter, and ftdiag attached to it.

In: an interpreter that provisioning finds. Out: the cockpit, or without a terminal the text report of
five seconds; the program is ended when the cockpit is left. Exit status: that of ftdiag.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.provision.search import find_interpreters
from tools.workloads import WorkloadFailure, program_path, running_workload

PROGRAM: Final = "hot_lock"
THREADS: Final = "8"
REPORT_SECONDS: Final = "5"


def main() -> int:
    """Runs the demo; returns the exit status."""
    found = find_interpreters().chosen
    if not found:
        print("error: no free-threaded interpreter. Get one: make pythons", file=sys.stderr)
        return 1
    python = found[0]
    ftdiag = Path(sys.executable).with_name("ftdiag")
    print(
        f"running {program_path(PROGRAM).name} with {THREADS} threads under CPython {python.version}",
        file=sys.stderr,
    )
    try:
        with running_workload(python.path, PROGRAM, "--threads", THREADS) as workload:
            attach = [str(ftdiag), "attach", str(workload.pid)]
            if not (sys.stdin.isatty() and sys.stdout.isatty()):
                attach += ["--duration", REPORT_SECONDS, "--format", "text"]
            print(f"$ ftdiag {' '.join(attach[1:])}", file=sys.stderr, flush=True)
            return subprocess.run(attach, check=False).returncode
    except WorkloadFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
