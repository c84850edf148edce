"""A small file system for tests of full and read-only disks, gone again whatever happens.

In: a directory to be made. Out: a tmpfs mounted there, where we may mount one.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NAME: Final = "ftdiag-test-"
"""With our process's id: what the mount is called in /proc/mounts."""


@contextmanager
def small_disk(mount_point: Path, size: str) -> Iterator[bool]:
    """Makes a directory and mounts a file system of that size ("1m") there; False where we may not."""
    remove_abandoned()
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", f"{NAME}{os.getpid()}", str(mount_point)]
    try:
        yield subprocess.run(mount, capture_output=True, check=False).returncode == 0
    finally:
        unmount(mount_point)


def unmount(mount_point: Path | str) -> None:
    """Take it away, also if somebody still has a file open there; nothing if nothing is mounted."""
    subprocess.run(["umount", "-l", str(mount_point)], capture_output=True, check=False)


def remove_abandoned() -> None:
    """Unmount what a run of the tests left that was killed."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        name, mount_point, *_ = line.split(" ")
        owner = re.fullmatch(rf"{NAME}(\d+)", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            unmount(mount_point.encode().decode("unicode_escape"))
