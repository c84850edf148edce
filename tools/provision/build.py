"""Builds a free-threaded CPython from a source tarball into the cache.

In: source packages of the machine's mirror. Out: a verified interpreter under the cache directory.

    <cache>/<version>t/          a finished interpreter; appears by one rename, or not at all
    <cache>/.work/<version>/     the source tree of an unfinished build, with a stamp for each step done
    <cache>/.logs/               one log a version, kept

A build that was interrupted goes on at the step it was in; if that fails it starts clean, once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tools.provision.apt_mirror import (
    SUITES,
    AptMirror,
    Candidate,
    candidate_order,
    machine_distribution,
    machine_sources,
    require_apt,
)
from tools.provision.cache import log_path, verify_home
from tools.provision.commands import Ended, run_logged
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import Interpreter, Refusal

CONFIGURE: Final = (
    "--disable-gil",
    # Nothing is installed into these interpreters; a venv made from them still gets its pip.
    "--without-ensurepip",
    # Half of the build time, and never run here.
    "--disable-test-modules",
    # -O3 is what distributors and python.org's installers use, so that inlining, and with it what a native
    # profile shows, is like theirs. -g keeps symbols and DWARF, against which memory layouts are checked.
    # No PGO or LTO: they make a build several times longer and profiles less like the source.
    "CFLAGS=-g -O3",
)
STEP_TIMEOUT_S: Final = 3600.0
MAX_CANDIDATES: Final = 8
"""How many listed versions are tried before giving up."""

_HEADERS: Final = {
    # header: (Debian package, needed, what is missing without it)
    "zlib.h": ("zlib1g-dev", True, "zlib"),
    "ffi.h": ("libffi-dev", True, "ctypes"),
    "openssl/ssl.h": ("libssl-dev", False, "ssl"),
}


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What is missing on the machine: packages that a build needs, and ones it can do without."""

    missing: tuple[str, ...]
    optional: tuple[str, ...]


def check_toolchain(compiler: str = "cc") -> Toolchain:
    """Looks for compiler, make and headers."""
    missing: list[str] = []
    optional: list[str] = []
    if shutil.which(compiler) is None or shutil.which("make") is None:
        missing.append("build-essential")
    if shutil.which(compiler) is not None:
        for header, (package, needed, _) in _HEADERS.items():
            if not _has_header(compiler, header):
                (missing if needed else optional).append(package)
    return Toolchain(tuple(missing), tuple(optional))


def _has_header(compiler: str, header: str) -> bool:
    run = subprocess.run(
        [compiler, "-E", "-x", "c", "-o", os.devnull, "-"],
        input=f"#include <{header}>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode == 0


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where and how one version is built."""

    cache: Path
    version: str
    jobs: int
    progress: Progress
    log: BinaryIO
    lock_fd: int

    @property
    def work(self) -> Path:
        """The unfinished build."""
        return self.cache / ".work" / self.version

    @property
    def home(self) -> Path:
        """The finished interpreter."""
        return self.cache / f"{self.version}t"

    @property
    def tree(self) -> Path:
        """The unpacked source."""
        return self.work / "source"

    def stamp(self, step: str) -> Path:
        """The file that says that a step is done."""
        return self.work / f"{step}.done"

    def run(self, command: Sequence[str], step: str) -> Ended:
        """Runs one command of the build in the source tree."""
        self.progress.step(f"{step} {self.version}")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # Options of a make that started us (make demo) are not for the make of CPython.
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "CFLAGS", "LDFLAGS", "DESTDIR"):
            environ.pop(name, None)
        return run_logged(
            command,
            cwd=self.tree,
            log=self.log,
            progress=self.progress,
            timeout_s=STEP_TIMEOUT_S,
            environ=environ,
            kept_fds=(self.lock_fd,),
        )


def unpack(tarball: Path, shop: Workshop) -> None:
    """Unpacks the tarball's one top directory as the source tree; a half-unpacked one is never left."""
    if shop.stamp("unpack").exists():
        return
    shop.progress.step(f"unpacking {tarball.name}")
    partial = shop.work / "unpacking"
    for stale in (partial, shop.tree):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with tarfile.open(tarball) as archive:
            extract_safely(archive, partial)
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ProvisioningFailure(
            f"{tarball.name} cannot be unpacked: {error}",
            "If it says that lzma is missing, use a python3 that has it (apt-get install python3).",
        ) from error
    tops = list(partial.iterdir())
    if len(tops) != 1 or not (tops[0] / "configure").is_file():
        raise ProvisioningFailure(f"{tarball.name} does not look like CPython's source")
    tops[0].rename(shop.tree)
    partial.rmdir()
    shop.stamp("unpack").touch()


def extract_safely(archive: tarfile.TarFile, directory: Path) -> None:
    """Unpacks with the filter "data"; Python 3.11 before 3.11.4 (Debian 12) has no filters, so by hand."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(directory, filter="data")
        return
    members = archive.getmembers()
    for member in members:
        # A source tarball holds files, directories and links within itself; anything else is suspicious.
        within = os.path.normpath(member.name)
        if member.issym():
            linked = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
        elif member.islnk():
            linked = os.path.normpath(member.linkname)
        else:
            linked = "."
        outside = any(os.path.isabs(path) or path.split("/")[0] == ".." for path in (within, linked))
        if outside or not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise tarfile.TarError(f"refusing the member {member.name!r}")
        member.mode &= 0o755
    archive.extractall(directory, members)


def compile_and_install(shop: Workshop) -> None:
    """configure, make, make install, each once; the last puts the interpreter in place by one rename.

    Raises ProvisioningFailure with the last lines of the log.
    """
    steps: tuple[tuple[str, list[str]], ...] = (
        ("configure", ["./configure", f"--prefix={shop.home}", *CONFIGURE]),
        ("make", ["make", f"-j{shop.jobs}"]),
    )
    for step, command in steps:
        if not shop.stamp(step).exists():
            _must(shop, shop.run(command, step), step)
            shop.stamp(step).touch()
    staging = shop.work / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    ended = shop.run(["make", "install", f"DESTDIR={staging}"], "install")
    _must(shop, ended, "install")
    staged = staging / shop.home.relative_to("/")
    verdict = verify_home(staged)
    if isinstance(verdict, Refusal):
        raise ProvisioningFailure(f"the interpreter that was built {verdict.reason}", _log_hint(shop))
    if shop.home.exists():
        # A broken one, or a rebuild that was asked for. Moved aside whole: nobody finds half of it.
        shop.home.rename(shop.work / "replaced")
    staged.rename(shop.home)


def _must(shop: Workshop, ended: Ended, step: str) -> None:
    if ended.status != 0:
        lines = "\n".join(f"    {line}" for line in ended.tail[-12:])
        raise ProvisioningFailure(
            f"{step} of CPython {shop.version} failed with status {ended.status}:\n{lines}", _log_hint(shop)
        )


def _log_hint(shop: Workshop) -> str:
    return f"The whole log: {log_path(shop.cache, shop.version)}"


def build_tree(tarball: Path, shop: Workshop) -> None:
    """Builds one version from its tarball, going on where an interrupted build was."""
    settings = "\n".join([shop.version, str(shop.home), sys.platform, *CONFIGURE])
    recorded = shop.work / "settings"
    resumed = recorded.is_file() and recorded.read_text() == settings
    if not resumed:
        _start_clean(shop, settings)
    try:
        unpack(tarball, shop)
        compile_and_install(shop)
    except ProvisioningFailure as failure:
        if not resumed:
            raise
        # A file cut off in the middle can break what goes on from it.
        shop.progress.note(
            f"going on with the interrupted build failed, starting clean ({failure.what[:80]})"
        )
        _start_clean(shop, settings)
        unpack(tarball, shop)
        compile_and_install(shop)
    shutil.rmtree(shop.work, ignore_errors=True)


def _start_clean(shop: Workshop, settings: str) -> None:
    shutil.rmtree(shop.work, ignore_errors=True)
    shop.work.mkdir(parents=True)
    (shop.work / "settings").write_text(settings)


def build_from_source_package(
    cache: Path, series: str, *, jobs: int, progress: Progress, lock_fd: int
) -> Interpreter:
    """A verified interpreter of the series, built; the caller holds the lock of the series."""
    require_apt()
    distribution, codename = machine_distribution()
    toolchain = check_toolchain()
    if toolchain.missing:
        raise ProvisioningFailure(
            f"building CPython needs packages that are not installed: {' '.join(toolchain.missing)}",
            f"sudo apt-get install {' '.join(toolchain.missing + toolchain.optional)}",
        )
    for header, (package, _, lost) in _HEADERS.items():
        if package in toolchain.optional:
            progress.note(f"{header} is missing: the interpreter will have no {lost} (package {package})")
    (cache / ".logs").mkdir(exist_ok=True)
    downloads, apt = cache / ".work/downloads" / series, cache / ".work" / f"apt-{series}"
    with log_path(cache, f"apt-{series}").open("wb") as log:
        mirror = AptMirror(
            apt,
            types="deb-src",
            sources=machine_sources(),
            codename=codename,
            log=log,
            progress=progress,
            kept_fds=(lock_fd,),
        )
        candidate, tarball = choose(mirror, series, SUITES[distribution], downloads, progress)
    with log_path(cache, candidate.upstream_version).open("ab") as log:
        shop = Workshop(cache, candidate.upstream_version, jobs, progress, log, lock_fd)
        build_tree(tarball, shop)
    verdict = verify_home(shop.home)
    if isinstance(verdict, Refusal):
        raise ProvisioningFailure(f"{verdict.path} {verdict.reason}", _log_hint(shop))
    for leftover in (downloads, apt):
        shutil.rmtree(leftover, ignore_errors=True)
    progress.step(f"built {verdict.version}")
    return verdict


def choose(
    mirror: AptMirror, series: str, suites: Sequence[str], downloads: Path, progress: Progress
) -> tuple[Candidate, Path]:
    """The first candidate whose files are really there, with its tarball."""
    reasons: list[str] = []
    for candidate in candidate_order(mirror, series, suites):
        try:
            return candidate, mirror.download(candidate, downloads)
        except ProvisioningFailure as failure:
            # An index can be newer than the pool of its mirror.
            reasons.append(f"  {candidate.version} ({candidate.suite}): {failure.what}")
            progress.note(f"{candidate.package} {candidate.version} cannot be had, trying the next")
        if len(reasons) >= MAX_CANDIDATES:
            break
    told = "\n".join(reasons)
    if not reasons:
        trouble = "; ".join(dict.fromkeys(mirror.trouble[-3:]))
        told = f"  none of {', '.join(suites)} lists python{series}" + (f" ({trouble})" if trouble else "")
    raise ProvisioningFailure(
        f"no source package of python{series} could be downloaded:\n{told}",
        "Check the network and apt's configuration (apt-get update), or name an interpreter you have: "
        f"FTDIAG_PYTHONS=/path/to/python{series}t",
    )
