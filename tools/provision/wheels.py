"""Wheels from the package index, unpacked into a directory of ours.

In: the name of a package, and for which interpreter. Out: its files in a directory; `ProvisioningFailure`
with pip's reason when it cannot be had. pip takes index, proxies and certificates from the user's own
configuration, and checks each file against the checksum that the index gives for it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from tools.provision.commands import run_logged
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import probe_environment

PIP_TIMEOUT_S: Final = 120.0
# A machine without network shall not wait for minutes before the next way is tried.
_PATIENCE: Final = ("--retries", "1", "--timeout", "20")


def unpack_wheel(
    requirement: str,
    directory: Path,
    *,
    options: Sequence[str] = (),
    environment: Path,
    log: BinaryIO,
    progress: Progress,
    kept_fds: tuple[int, ...] = (),
) -> None:
    """Installs one wheel, without what it depends on, into `directory`.

    `options` say for which interpreter, if not for the running one. `environment` is where a pip is put if
    the running interpreter has none.
    """
    progress.step(f"downloading {requirement} from the package index")
    command = [
        *_pip(environment, log, progress, kept_fds),
        *("install", "--no-deps", "--only-binary=:all:", "--no-compile", "--no-input"),
        *("--disable-pip-version-check", "--root-user-action=ignore", *_PATIENCE),
        *("--target", os.fspath(directory), *options, requirement),
    ]
    ended = run_logged(
        command,
        cwd=Path("/"),
        log=log,
        progress=progress,
        timeout_s=PIP_TIMEOUT_S,
        environ=probe_environment(),
        kept_fds=kept_fds,
    )
    if ended.status != 0:
        raise ProvisioningFailure(f"pip cannot install {requirement}: {_reason(ended.tail, ended.status)}")


def _reason(said: Iterable[str], status: int | None) -> str:
    """Why pip failed: an index that it could not ask looks to it like one that has nothing."""
    lines = list(said)
    broken = [line.partition("connection broken by ")[2] for line in lines]
    unreached = next((line for line in reversed(broken) if line), "")
    if unreached:
        cause = re.search(r"\[Errno -?\d+\] ([^'\")]+)", unreached)
        why = unreached[:300] if cause is None else cause[1]
        return f"the package index cannot be reached: {why}"
    errors = [line for line in lines if line.startswith("ERROR:")]
    return errors[-1].removeprefix("ERROR: ")[:300] if errors else f"exit status {status}"


def _pip(environment: Path, log: BinaryIO, progress: Progress, kept_fds: tuple[int, ...]) -> list[str]:
    """The command of a pip: that of the running interpreter, else of an environment made for it."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    python = environment / "bin/python"
    if not (environment / "made").exists():
        shutil.rmtree(environment, ignore_errors=True)
        made = run_logged(
            [sys.executable, "-m", "venv", os.fspath(environment)],
            cwd=Path("/"),
            log=log,
            progress=progress,
            timeout_s=PIP_TIMEOUT_S,
            environ=probe_environment(),
            kept_fds=kept_fds,
        )
        if made.status != 0:
            raise ProvisioningFailure(
                f"{sys.executable} has no pip and cannot make a virtual environment",
                "Debian, Ubuntu: sudo apt-get install python3-venv",
            )
        (environment / "made").touch()
    return [os.fspath(python), "-m", "pip"]
