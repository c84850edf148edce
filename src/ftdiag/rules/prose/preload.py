"""How another malloc is put in libc's place, on the distribution that the target runs on.

In: the target of a recording. Out: a command. Package and path are those of the distributions' own packages
of jemalloc 5; those of Debian 12 were tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import Target

_JEMALLOC: Final[Mapping[str, tuple[str, str]]] = {
    "debian": ("apt install libjemalloc2", "/usr/lib/{machine}-linux-gnu/libjemalloc.so.2"),
    "fedora": ("dnf install jemalloc", "/usr/lib64/libjemalloc.so.2"),
    "rhel": ("dnf install jemalloc", "/usr/lib64/libjemalloc.so.2"),
    "suse": ("zypper install libjemalloc2", "/usr/lib64/libjemalloc.so.2"),
    "opensuse": ("zypper install libjemalloc2", "/usr/lib64/libjemalloc.so.2"),
    "arch": ("pacman -S jemalloc", "/usr/lib/libjemalloc.so.2"),
    "alpine": ("apk add jemalloc", "/usr/lib/libjemalloc.so.2"),
}
"""Name of a distribution, or of one it is like -> how to install jemalloc, and where it is then."""
_KNOWN_MACHINES: Final = frozenset({"x86_64", "aarch64"})


def preload_jemalloc(target: Target) -> str:
    """The line that starts the program with jemalloc; what has to be installed is before it."""
    for name in target.distribution:
        known = _JEMALLOC.get(name)
        if known is not None and target.machine in _KNOWN_MACHINES:
            install, path = known
            library = path.format(machine=target.machine)
            return _line(library, install)
    return _line("libjemalloc.so.2", "the package of jemalloc, libjemalloc2 on Debian and Ubuntu")


def _line(library: str, install: str) -> str:
    return f"# {install}\nLD_PRELOAD={library} MALLOC_CONF=oversize_threshold:0 python app.py"
