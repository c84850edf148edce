"""Interpreters of uv: those it has, and those it can download.

In: uv on `PATH`, else one from the package index, kept in the cache. Out: paths of interpreters. uv checks
what it downloads against the checksums that it carries. Where its downloads are refused (they come from
another place than packages do) it says so at once, and the next way is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.provision.cache import log_path
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import probe_environment
from tools.provision.wheels import unpack_wheel

FIND_TIMEOUT_S: Final = 30.0
INSTALL_TIMEOUT_S: Final = 180.0
WHEEL: Final = "uv>=0.5"


def find_with_uv(series: Sequence[str]) -> Iterator[Path]:
    """Interpreters that the uv on PATH manages. Silent when it is not there or fails."""
    uv = shutil.which("uv")
    if uv is None:
        return
    environ = {**probe_environment(), "UV_PYTHON_DOWNLOADS": "never"}
    for one in series:
        ran = _run([uv, "python", "find", "--managed-python", f"{one}t"], FIND_TIMEOUT_S, environ)
        if isinstance(ran, subprocess.CompletedProcess) and ran.returncode == 0 and ran.stdout.strip():
            yield Path(ran.stdout.strip())


def install_with_uv(cache: Path, series: str, progress: Progress, lock_fd: int) -> Path:
    """Has uv download the newest of a series; raises ProvisioningFailure if it cannot."""
    uv, environ = shutil.which("uv"), probe_environment()
    if uv is None:
        uv = _own_uv(cache, progress, lock_fd)
        environ["UV_PYTHON_INSTALL_DIR"] = os.fspath(cache / ".uv")
    # A refusal does not become a yes by waiting; the next way takes half a minute.
    environ |= {"UV_HTTP_RETRIES": "1", "UV_PYTHON_DOWNLOADS": "automatic"}
    progress.step(f"asking uv for {series}t")
    ran = _run([uv, "python", "install", "--no-bin", f"{series}t"], INSTALL_TIMEOUT_S, environ)
    if isinstance(ran, str):
        raise ProvisioningFailure(f"uv {ran}")
    if ran.returncode != 0:
        raise ProvisioningFailure(f"uv cannot download it: {_last_cause(ran.stderr)}")
    ran = _run([uv, "python", "find", "--managed-python", f"{series}t"], FIND_TIMEOUT_S, environ)
    if isinstance(ran, str) or ran.returncode != 0 or not ran.stdout.strip():
        raise ProvisioningFailure("uv does not find what it installed")
    return Path(ran.stdout.strip())


def _own_uv(cache: Path, progress: Progress, lock_fd: int) -> str:
    """The uv of the cache, put there if it is not."""
    home = cache / ".tools/uv"
    if not (home / "bin/uv").exists():
        # Made beside and renamed, so that two runs (of two series) do not see half of each other's.
        made = cache / ".work" / f"uv-{os.getpid()}"
        shutil.rmtree(made, ignore_errors=True)
        (cache / ".logs").mkdir(exist_ok=True)
        with log_path(cache, "uv").open("ab") as log:
            unpack_wheel(
                WHEEL,
                made,
                environment=cache / ".tools" / "pip",
                log=log,
                progress=progress,
                kept_fds=(lock_fd,),
            )
        home.parent.mkdir(exist_ok=True)
        try:
            made.rename(home)
        except OSError:
            # The other was first.
            shutil.rmtree(made, ignore_errors=True)
    return os.fspath(home / "bin/uv")


def _last_cause(said: str) -> str:
    """The innermost reason of an error of uv's, which nests them line by line."""
    causes = [line.strip() for line in said.splitlines() if line.strip()]
    return (
        causes[-1].removeprefix("Caused by: ").removeprefix("cause: ")[:200] if causes else "no reason given"
    )


def _run(
    command: list[str], timeout_s: float, environ: dict[str, str]
) -> subprocess.CompletedProcess[str] | str:
    """The ended command, or why there is none."""
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environ,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {timeout_s:.0f} s"
    except OSError as error:
        return f"cannot be run: {error.strerror or error}"
