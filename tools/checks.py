"""All checks and all tests, as `make test` runs them: what can be done at once is done at once.

In: paths of tests (none: all). Out: the output of each check in order, and a line that says what failed;
exit status 0, or 1. Interpreters are got in the background, with low priority, while checks and tests run
that need none; a failure there is one message, and the tests that need interpreters do not begin.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

BIN: Final = Path(sys.executable).parent
QUICK: Final[tuple[tuple[str, ...], ...]] = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("lint-imports", "--no-logo"),
)
"""Checks that read the source in seconds, beside each other."""
SLOW: Final[tuple[tuple[str, ...], ...]] = (("mypy", "--strict"),)
"""Those that take a minute of one core, beside the tests."""
ALONE: Final = ("--last-failed", "--last-failed-no-failures", "none", "-ra")
"""A test on a live process looks at it for a second or two, one of a screen waits for it to be drawn, and
both share the machine with another test: one that fails is run once more, alone, and has to pass then."""
NICE: Final = 10
"""Of the background: a build of an interpreter takes minutes of all cores."""


def main(paths: Sequence[str]) -> int:
    """Runs everything; returns the exit status."""
    began = time.monotonic()
    # Where it is set each of a thousand processes compiles all of ftdiag anew: half a second of a core.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as said:
        provisioning = start_provisioning(said)
        try:
            failed = Begun(QUICK).finish()
            slow = Begun(SLOW)
            cores = len(os.sched_getaffinity(0))
            tests = [sys.executable, "-m", "pytest"]
            parallel = [*tests, "--numprocesses", str(cores), "--dist", "worksteal"]
            needs_none = "-m", "not integration"
            if not paths and run([*parallel, *needs_none]) and run([*tests, *ALONE, *needs_none]):
                failed.append("the tests that need no interpreter")
            failed += slow.finish()
            if provisioning.poll() is None:
                print("waiting for the interpreters", flush=True)
            got = provisioning.wait() == 0
        finally:
            # Ours to end, if we were interrupted.
            provisioning.terminate()
            provisioning.wait()
            said.seek(0)
            progress = said.read().decode(errors="replace")
    print(progress, end="", flush=True)
    if not got:
        print("error: there are not all interpreters that tests run on; the reason is above", flush=True)
        failed.append("interpreters")
    else:
        chosen = list(paths) or ["-m", "integration"]
        if run([*parallel, "-ra", *chosen]) and run([*tests, *ALONE, *chosen]):
            failed.append("tests" if paths else "the tests on interpreters")
    took = time.monotonic() - began
    print(f"{int(took // 60)} min {int(took % 60)} s: {'; '.join(failed) or 'everything'}", end=" ")
    print("failed" if failed else "passed")
    return 1 if failed else 0


def start_provisioning(said: BinaryIO) -> subprocess.Popen[bytes]:
    """Makes sure of one interpreter of each series, in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.provision", "ensure", "--all"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        preexec_fn=lambda: os.nice(NICE),  # noqa: PLW1509 - no thread runs yet
    )


class Begun:
    """Programs of this environment that run beside each other; what each says is held back until the end."""

    def __init__(self, checks: Sequence[tuple[str, ...]]) -> None:
        self._running: list[tuple[str, subprocess.Popen[bytes], BinaryIO]] = []
        for check in checks:
            said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `finish`
            command = [os.fspath(BIN / check[0]), *check[1:]]
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
            )
            self._running.append((" ".join(check), started, said))

    def finish(self) -> list[str]:
        """Waits for all, shows what each said, in order; which of them failed."""
        failed = []
        for name, started, said in self._running:
            if started.wait():
                failed.append(name)
            with said:
                said.seek(0)
                print(f"$ {name}\n{said.read().decode(errors='replace')}", end="", flush=True)
        return failed


def run(command: Sequence[str]) -> int:
    """Runs one check and shows what it says; returns its exit status."""
    print(f"$ {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
