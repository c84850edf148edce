"""`ftdiag doctor`: what works here and for one process; for each gap the command that closes it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ftdiag import __version__
from ftdiag.commands import terminal
from ftdiag.commands.parameters import PID, PROCESSES_HINT, duration_option, examples
from ftdiag.errors import UsageError

if TYPE_CHECKING:
    from ftdiag.sources.kernel.permissions import Check

SCHEMA: Final = "ftdiag-doctor/1"
CANNOT_ATTACH_STATUS: Final = 3
CROSS_CHECK_S: Final = 10.0
SIGNS: Final = {"ok": "ok", "limited": "limited", "missing": "MISSING"}


@click.command(
    short_help="Say what works here, and what to do where it does not.",
    epilog=examples(
        ("ftdiag doctor", "this machine"),
        ("ftdiag doctor 4711", "may this process be attached to? why not?"),
        ("ftdiag doctor 4711 > /dev/null && ftdiag attach 4711", ""),
        ("ftdiag doctor --cross-check 4711", "do ftdiag and py-spy see the same?"),
        ("ftdiag doctor --self-check 4711", "for a bug report: its facts of CPython"),
    ),
)
@click.argument("pid", type=PID, required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--cross-check",
    "cross_checked",
    is_flag=True,
    help="Look at PID through ftdiag's reader and py-spy at the same time, and compare the lines.",
)
@click.option(
    "--self-check",
    "self_checked",
    is_flag=True,
    help="Check every fact about PID's CPython that can be checked from outside, field by field.",
)
@duration_option("How long --cross-check looks. Default: 10.")
def command(
    pid: int | None, form: str, cross_checked: bool, self_checked: bool, duration_s: float | None
) -> int:
    """Say what works here, or for the process PID, and what to do where it does not.

    The exit status is 0 if attaching will work, 3 if not; with --cross-check 1 if the two readers differ,
    with --self-check 1 if a field is wrong.
    """
    if self_checked:
        if pid is None:
            raise UsageError("--self-check needs a process", PROCESSES_HINT)
        from ftdiag.commands.selfcheck import self_check

        return self_check(pid, form)
    if cross_checked:
        if pid is None:
            raise UsageError("--cross-check needs a process", PROCESSES_HINT)
        from ftdiag.commands.crosscheck import cross_check

        return cross_check(pid, duration_s or CROSS_CHECK_S, form)
    if duration_s is not None:
        raise UsageError("--duration is for --cross-check", "ftdiag doctor --cross-check PID --duration 5")
    from ftdiag.commands.processes import checks_of
    from ftdiag.sources.kernel.permissions import Verdict, check_machine

    terminal.require_output()
    checks: list[Check] = [_platform(), _walker()]
    checks += check_machine() if pid is None else checks_of(pid)
    target: dict[str, Any] | None = None
    if pid is not None and all(check.verdict is not Verdict.MISSING for check in checks):
        python, target = _python_of(pid)
        checks.append(python)
        if python.verdict is not Verdict.MISSING and target is not None and target["source"] == "native":
            checks += _functions_of(pid)
    works = all(check.verdict is not Verdict.MISSING for check in checks)
    checks += _leftovers(pid)
    checks += _tools()
    if form == "json":
        terminal.put_json(
            {
                "schema": SCHEMA,
                "ftdiag_version": __version__,
                "attach_works": works,
                "pid": pid,
                "target": target,
                "supported_pythons": list(_supported()),
                "checks": [
                    {
                        "name": check.name,
                        "verdict": check.verdict.value,
                        "sentence": check.sentence,
                        "remedy": check.remedy,
                    }
                    for check in checks
                ],
            }
        )
    else:
        for line in lines(checks, pid, works):
            terminal.put(terminal.harmless(line))
    return 0 if works else CANNOT_ATTACH_STATUS


def lines(checks: Sequence[Check], pid: int | None, works: bool) -> Iterator[str]:
    """The answer, then each check with its remedy; every line can be read aloud."""
    what = "to your own Python processes" if pid is None else f"to process {pid}"
    if works:
        yield f"Attaching {what} will work: ftdiag attach {pid or 'PID'}"
    else:
        yield f"Attaching {what} will not work."
    yield ""
    for check in checks:
        yield f"{SIGNS[check.verdict.value]:>7}  {check.name}: {check.sentence}"
        if check.remedy is not None and check.verdict.value != "ok":
            yield from (f"         -> {line}" for line in check.remedy.splitlines())
    yield ""
    yield f"ftdiag {__version__} on Python {platform.python_version()} attaches to CPython " + ", ".join(
        _supported()
    )


def _supported() -> tuple[str, ...]:
    from ftdiag.sources.python.layouts import SUPPORTED

    names = []
    for major, minor in SUPPORTED:
        names += [f"{major}.{minor}", f"{major}.{minor}t"]
    return tuple(names)


def _platform() -> Check:
    from ftdiag.sources.kernel.permissions import Check, Verdict

    system, machine, bits = platform.system(), platform.machine(), sys.maxsize.bit_length() + 1
    words = f"{system} {platform.release()} on {machine}"
    if system != "Linux" or bits != 64:
        return Check("platform", Verdict.MISSING, f"{words}: only 64-bit Linux works", "use 64-bit Linux")
    return Check("platform", Verdict.OK, words)


def _walker() -> Check:
    from ftdiag.sources.compiled import COMPILED, WHY_NOT
    from ftdiag.sources.kernel.permissions import Check, Verdict

    if COMPILED:
        return Check("walker", Verdict.OK, "stacks are followed by the compiled walker")
    words = f"stacks are followed in Python, which costs more; the compiled walker is not used: {WHY_NOT}"
    return Check("walker", Verdict.LIMITED, words, "pip install --force-reinstall ftdiag   with a C compiler")


def _python_of(pid: int) -> tuple[Check, dict[str, Any] | None]:
    from ftdiag.commands.processes import looked_at
    from ftdiag.sources.kernel.permissions import Check, Verdict

    process = looked_at(pid)
    if process is None:
        return Check("python", Verdict.MISSING, f"process {pid} is not CPython", "ftdiag list"), None
    target = {
        "python_version": process.python_version,
        "free_threaded": process.free_threaded,
        "gil_enabled": process.gil_enabled,
        "source": process.source,
        "threads": process.threads,
        "command": process.command,
    }
    if not process.attachable:
        remedy = f"ftdiag attach {pid} --source py-spy   shows what the kernel knows of its threads"
        if process.remedy is not None:
            remedy = f"{process.remedy}\n{remedy}"
        return Check("python", Verdict.MISSING, process.reason or "it cannot be read", remedy), target
    if process.source == "py-spy":
        words = f"CPython {process.python_version}: {process.reason}"
        return Check(
            "python", Verdict.LIMITED, words, "a build of 3.13 or later is read by ftdiag itself"
        ), target
    build = "free-threaded" if process.free_threaded else "with the GIL"
    gil = {True: "the GIL is on", False: "the GIL is off", None: "its GIL cannot be read yet"}
    words = f"CPython {process.python_version} {build}, {gil[process.gil_enabled]}"
    if process.free_threaded and process.gil_enabled:
        return (
            Check(
                "python",
                Verdict.LIMITED,
                f"{words}: an extension module or a setting turned it on, so threads do not run in parallel",
                "PYTHON_GIL=0 python script.py   keeps it off (if the module can bear that)",
            ),
            target,
        )
    return Check("python", Verdict.OK, words), target


def _functions_of(pid: int) -> Iterator[Check]:
    """Whether the functions of a stripped Python could be found: time on a core is split by them."""
    from ftdiag.errors import FtdiagError
    from ftdiag.sources.kernel.memory import RemoteMemory
    from ftdiag.sources.kernel.permissions import Check, Verdict
    from ftdiag.sources.native.symbolcache import SymbolCache, default_directory
    from ftdiag.sources.native.symbols import CodeMap
    from ftdiag.sources.python.runtime import find_runtime

    try:
        image = find_runtime(pid, RemoteMemory(pid)).image
        code = CodeMap(pid, SymbolCache(default_directory()))
        found = code.search({image}).values() if code.stripped(image) else ()
    except FtdiagError:
        return  # it has ended, or is not started yet
    for one in found:
        if one.hides:
            words = (
                "Python is stripped, and its functions could not be found: what its allocator and its"
                " collector take of the time on a core is unknown"
            )
            yield Check("functions", Verdict.LIMITED, words, "a build of Python with its symbols (.symtab)")
        else:
            words = "Python is stripped; its allocator's and collector's were found by what refers to them"
            yield Check("functions", Verdict.OK, words)


def _leftovers(pid: int | None) -> Iterator[Check]:
    """What processes of ours that were killed left: folders, which are removed, and memray in a target."""
    from ftdiag.leftovers import remove_abandoned
    from ftdiag.sources.kernel.permissions import Check, Verdict
    from ftdiag.sources.tools.traces import abandoned_captures

    removed = remove_abandoned(Path(tempfile.gettempdir()))
    if removed:
        names = ", ".join(map(str, removed))
        yield Check("leftovers", Verdict.OK, f"looks that were killed had left folders; removed: {names}")
    for capture in () if pid is None else abandoned_captures(pid):
        words = f"memray of a look of ours is in it and writes {capture}; its timer ends that"
        yield Check("memray inside", Verdict.LIMITED, words, f"python -m memray detach {pid}")


def _tools() -> Iterator[Check]:
    """Other people's tools that ftdiag makes use of when they are there."""
    from importlib import metadata

    from ftdiag.sources.kernel.permissions import Check, Verdict

    uses = {
        "memray": ("memory is not looked at", 'pip install "ftdiag[memray]"'),
        "py-spy": ("processes of Python before 3.13 cannot be shown", "pip install py-spy"),
    }
    for name, (consequence, remedy) in uses.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, Verdict.LIMITED, f"not installed: {consequence}", remedy)
            continue
        beside = Path(sys.executable).parent
        found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
        if found is None:
            yield Check(name, Verdict.LIMITED, f"{version} has no program: {consequence}", remedy)
        else:
            yield Check(name, Verdict.OK, f"{version} ({found})")
