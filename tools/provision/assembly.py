"""Puts a free-threaded CPython together from packages: no compiler, no root, half a minute.

In: the wheel of freeze-core, which carries each version's interpreter (manylinux, optimised, stripped, as
people run them) and its extension modules; Debian's or Ubuntu's libpython3.X-minimal, -stdlib and -dev,
which carry the standard library and the headers. Out: a verified interpreter under the cache directory.

    <cache>/<version>t/                      a finished interpreter; appears by one rename, or not at all
    <cache>/.work/assembly-<series>/         the parts of an unfinished one; each run starts clean
    <cache>/.logs/assembly-<series>.log

What was installed is checked by who delivers it: pip against the checksums of the index, apt against the
signed index of the suite, by the machine's own keyrings. Nothing is taken from an unsigned one.

The last number of the version may differ between the interpreter and the library (3.15.1 and 3.15.0): what
was put together is run before it is put in place. There is no pip inside; a virtual environment made with
`--without-pip`, or `pip --python`, serves.
"""

from __future__ import annotations

import os
import platform
import pprint
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from tools.provision.apt_mirror import (
    AptMirror,
    Candidate,
    machine_distribution,
    machine_sources,
    require_apt,
)
from tools.provision.cache import log_path, verify_home
from tools.provision.commands import run_logged
from tools.provision.entry_code import start_as_python
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import Interpreter, Refusal, probe_environment
from tools.provision.wheels import unpack_wheel

SERIES_WITH_MAIN: Final = ("3.14", "3.15")
"""The interpreter of 3.13 in the wheel was linked without Py_BytesMain, so it cannot start as `python`."""
WHEEL: Final = "freeze-core>=0.8,<0.9"
"""Later ones may be laid out differently; then the next way is taken until this is looked at again."""
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LIBRARY_SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    # Older ones have no series of SERIES_WITH_MAIN, and each index takes seconds to read.
    "debian": ("forky", "sid"),
    "ubuntu": ("resolute",),
}
LIBRARY_PACKAGES: Final = ("libpython{}-stdlib", "libpython{}-minimal", "libpython{}-dev")
CHECKED_MODULES: Final = ("ssl", "sqlite3", "ctypes", "asyncio", "decimal", "multiprocessing", "zoneinfo")
COMPILE_TIMEOUT_S: Final = 300.0
_LEFT_OUT: Final = ("lib-dynload", "sitecustomize.py", "EXTERNALLY-MANAGED", "libpython*")
"""The distribution's own extension modules, hooks, marker and libraries: all of its own interpreter."""
_NOT_COMPILED: Final = r"/(idlelib|turtledemo|lib2to3|test|ensurepip)/"


def assemble(cache: Path, series: str, progress: Progress, lock_fd: int) -> Interpreter:
    """A verified interpreter of the series, put together; the caller holds the lock of the series."""
    if series not in SERIES_WITH_MAIN:
        raise ProvisioningFailure(f"no package has a {series}t that can be started")
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        raise ProvisioningFailure(
            "the packages are for x86-64 with the GNU C library, and this is another machine"
        )
    require_apt()
    distribution, codename = machine_distribution()
    work = cache / ".work" / f"assembly-{series}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (cache / ".logs").mkdir(exist_ok=True)
    with log_path(cache, f"assembly-{series}").open("wb") as log:
        parts = Parts(work, series, log, progress, lock_fd)
        parts.take_interpreter(cache / ".tools/pip")
        mirror = AptMirror(
            work / "apt",
            types="deb",
            sources=machine_sources(),
            codename=codename,
            log=log,
            progress=progress,
            kept_fds=(lock_fd,),
        )
        reasons: list[str] = []
        for packages in libraries(mirror, series, LIBRARY_SUITES[distribution]):
            try:
                parts.take_library(mirror, packages)
                interpreter = parts.put_together(cache)
            except ProvisioningFailure as failure:
                # A version that is gone from the pool, or a library that does not fit the interpreter.
                reasons.append(f"{packages[0].version}: {failure.what}")
                progress.note(f"the library of {packages[0].version} does not do, trying the next")
                continue
            shutil.rmtree(work, ignore_errors=True)
            progress.step(f"put together {interpreter.version} ({interpreter.path})")
            return interpreter
        trouble = "; ".join(dict.fromkeys(mirror.trouble[-3:]))
        told = (
            "; ".join(reasons) or f"no suite lists it ({trouble or ', '.join(LIBRARY_SUITES[distribution])})"
        )
    raise ProvisioningFailure(f"no standard library of {series} that fits: {told}")


def libraries(mirror: AptMirror, series: str, suites: tuple[str, ...]) -> Iterator[tuple[Candidate, ...]]:
    """The packages of one library, suite after suite: the next suite's index is read only if needed."""
    tried: set[str] = set()
    main, *others = (name.format(series) for name in LIBRARY_PACKAGES)
    for suite in suites:
        for candidate in mirror.binary_candidates(main, suite)[:1]:
            if candidate.version not in tried:
                tried.add(candidate.version)
                yield (candidate, *(Candidate(name, candidate.version, suite) for name in others))


class Parts:
    """What an interpreter is put together from, below one directory of work."""

    def __init__(self, work: Path, series: str, log: BinaryIO, progress: Progress, lock_fd: int) -> None:
        self._work = work
        self._series = series
        self._tag = f"cpython-{series.replace('.', '')}t-x86_64-linux-gnu"
        self._log = log
        self._progress = progress
        self._lock_fd = lock_fd
        self._wheel = work / "wheel"
        self._library = work / "library"

    @property
    def _executable(self) -> Path:
        return self._work / f"python{self._series}t"

    def take_interpreter(self, pip_environment: Path) -> None:
        """The interpreter and its extension modules, from the wheel."""
        unpack_wheel(
            WHEEL,
            self._wheel,
            options=[
                *("--python-version", self._series, "--implementation", "cp"),
                *("--abi", f"cp{self._series.replace('.', '')}t"),
                *(word for name in PLATFORMS for word in ("--platform", name)),
            ],
            environment=pip_environment,
            log=self._log,
            progress=self._progress,
            kept_fds=(self._lock_fd,),
        )
        base = self._wheel / "freeze_core/bases" / f"console-{self._tag}"
        if not base.is_file():
            raise ProvisioningFailure(f"{WHEEL} has no {base.name}")
        self._executable.write_bytes(start_as_python(base.read_bytes()))
        self._executable.chmod(0o755)

    def take_library(self, mirror: AptMirror, packages: tuple[Candidate, ...]) -> None:
        """The standard library and the headers, from the distribution's packages."""
        for stale in (self._library, self._work / "library-debs"):
            shutil.rmtree(stale, ignore_errors=True)
        mirror.unpack_binaries(packages, self._library)

    def put_together(self, cache: Path) -> Interpreter:
        """Lays the parts out as an installation, runs it, and puts it in place by one rename."""
        version = self._version()
        self._progress.step(f"putting {version} together")
        staged = self._work / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        self._lay_out(staged, home := cache / f"{version}t")
        executable = staged / "bin" / self._executable.name
        self._check(executable)
        verdict = verify_home(staged)
        if isinstance(verdict, Refusal):
            raise ProvisioningFailure(f"what was put together {verdict.reason}")
        if home.exists():
            # A broken one: nobody is here while a good one is. Moved aside whole.
            home.rename(self._work / "replaced")
        staged.rename(home)
        verdict = verify_home(home)
        if isinstance(verdict, Refusal):
            raise ProvisioningFailure(f"{verdict.path} {verdict.reason}")
        return verdict

    def _version(self) -> str:
        """What the interpreter says of itself; that takes no library."""
        try:
            said = subprocess.run(
                [self._executable, "-V"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                env=probe_environment(),
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProvisioningFailure(f"the interpreter of {WHEEL} does not run: {error}") from error
        match = re.fullmatch(rf"Python ({re.escape(self._series)}\.\d+(?:(?:a|b|rc)\d+)?)\+?\s*", said)
        if match is None:
            raise ProvisioningFailure(f"the interpreter of {WHEEL} does not answer as Python {self._series}")
        return match[1]

    def _lay_out(self, prefix: Path, home: Path) -> None:
        name = self._executable.name
        library, headers = prefix / "lib" / name, prefix / "include" / name
        usr = self._library / "usr"
        shutil.copytree(
            usr / "lib" / f"python{self._series}",
            library,
            symlinks=True,
            ignore=shutil.ignore_patterns(*_LEFT_OUT),
        )
        modules = library / "lib-dynload"
        modules.mkdir()
        for module in (self._wheel / "freeze_core/lib").glob(f"*.{self._tag}.so"):
            shutil.copy2(module, modules)
        # Where the modules look for them: $ORIGIN/../../freeze_core.libs.
        shutil.copytree(self._wheel / "freeze_core.libs", prefix / "lib/freeze_core.libs")
        shutil.copytree(usr / "include" / f"python{self._series}", headers, symlinks=True)
        _configure_headers(usr / "include/x86_64-linux-gnu" / f"python{self._series}", headers)
        for path in prefix.rglob("*"):
            # Links into parts of the distribution that are not here (its documentation, its defaults).
            if path.is_symlink() and not path.exists():
                path.unlink()
        _describe_build(library, home, self._series, self._tag)
        (prefix / "bin").mkdir()
        shutil.copy2(self._executable, prefix / "bin" / name)
        (prefix / "bin/python3").symlink_to(name)

    def _check(self, executable: Path) -> None:
        """Modules are imported and compiled: a library that does not fit is seen here."""
        imports = f"import {', '.join(CHECKED_MODULES)}"
        compiling = ["-m", "compileall", "-q", "-j", "0", "-x", _NOT_COMPILED]
        library = executable.parents[1] / "lib" / executable.name
        for arguments in (["-c", imports], [*compiling, os.fspath(library)]):
            ended = run_logged(
                [os.fspath(executable), *arguments],
                cwd=self._work,
                log=self._log,
                progress=self._progress,
                timeout_s=COMPILE_TIMEOUT_S,
                environ=probe_environment(),
                kept_fds=(self._lock_fd,),
            )
            if ended.status != 0:
                raise ProvisioningFailure(f"what was put together fails: {' '.join(ended.tail[-1:])[:200]}")


def _configure_headers(machine: Path, headers: Path) -> None:
    """pyconfig.h of the distribution's build, which has the GIL, as one of a free-threaded build."""
    source = machine / "pyconfig.h"
    text = (source if source.is_file() else headers / "pyconfig.h").read_text()
    define = "#define Py_GIL_DISABLED 1"
    text, replaced = re.subn(r"/\* #undef Py_GIL_DISABLED \*/", define, text)
    if not replaced and define not in text:
        text += f"\n{define}\n"
    (headers / "pyconfig.h").write_text(text)


def _describe_build(library: Path, home: Path, series: str, tag: str) -> None:
    """Sysconfig's facts of the distribution's build, corrected to those of the interpreter."""
    found = sorted(library.glob("_sysconfigdata_*.py"))
    if not found:
        raise ProvisioningFailure("the standard library has no facts for sysconfig")
    facts = dict(runpy.run_path(os.fspath(found[0]))["build_time_vars"])
    for file in found:
        file.unlink()
    headers = f"{home}/include/python{series}t"
    facts |= {
        "Py_GIL_DISABLED": 1,
        "Py_DEBUG": 0,
        "Py_ENABLE_SHARED": 0,
        "ABIFLAGS": "t",
        "SOABI": tag,
        "EXT_SUFFIX": f".{tag}.so",
        "INCLUDEPY": headers,
        "CONFINCLUDEPY": headers,
        "prefix": f"{home}",
        "exec_prefix": f"{home}",
        "BINDIR": f"{home}/bin",
        "LIBDIR": f"{home}/lib",
        "CC": "cc",
        "CXX": "c++",
        "LDSHARED": "cc -shared",
        "LDCXXSHARED": "c++ -shared",
        "CFLAGS": "-O2 -fPIC",
        "PY_CFLAGS": "-O2",
        "OPT": "-O2",
        "LDFLAGS": "",
        "PY_LDFLAGS": "",
    }
    text = f"build_time_vars = {pprint.pformat(facts)}\n"
    # sysconfig asks for the name with the machine's tuple or without, as the interpreter was configured.
    for name in ("_sysconfigdata_t_linux_x86_64-linux-gnu", "_sysconfigdata_t_linux_"):
        (library / f"{name}.py").write_text(text)
