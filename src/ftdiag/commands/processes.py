"""The Python processes of this machine, as far as they may be looked at.

In: /proc. Out: one `PythonProcess` each; what may not be read is `None`, with the reason.

Every process is looked at by a child of ours (`lookers`) with a deadline and a budget, so that one that
cannot be read, or is made so that reading it does not end, is a row with its reason, and the others are as
always.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ftdiag.commands.lookers import Answer, Lookers
from ftdiag.datatypes import asdict, dataclass, replace
from ftdiag.errors import (
    BudgetSpent,
    FtdiagError,
    NoSuchProcess,
    NotPython,
    PermissionRefused,
    PythonNotRunning,
    TargetGone,
    UnsupportedPython,
)
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.halts import halt_of
from ftdiag.sources.kernel.tasks import living_task, proc_folder, status_fields

if TYPE_CHECKING:
    from ftdiag.sources.budget import Budget
    from ftdiag.sources.kernel.permissions import Check
    from ftdiag.sources.python.runtime import KnownImages

CPU_INTERVAL_S: Final = 0.2
"""CPU use is measured over so long: the kernel counts it in ns, so this is enough."""
LIST_S: Final = 2.2
"""All looks of a list together; what is not known by then is a row that says so."""
FIRST_LOOKS_S: Final = 1.4
"""Of that, the part in which every process is looked at once."""
LOOK_S: Final = 0.25
"""What a first look may take (some ms are usual). Those that take longer are looked at again, without keeping
the others waiting, as long as there is time."""
LOOK_BUDGET_S: Final = 0.2
"""CPU time of a first look; what needs more is looked at again, as what takes longer is."""
SECOND_LOOK_S: Final = 0.9
"""What a look at a slow process, or py-spy's at one, may take: then it hangs, and the list does not wait."""
SECOND_LOOK_BUDGET_S: Final = 0.6
LOOK_BUDGET_BYTES: Final = 96 << 20
LOOK_BUDGET_CALLS: Final = 20_000
LOOKERS: Final = 4
SECOND_LOOKERS: Final = 16
DOCTOR_S: Final = 8.0
"""Looks at one process that was asked for."""
NAMES_S: Final = 1.0
"""Looks for completion: what is not known by then is not offered."""
NAME_S: Final = 0.1
_PYTHON_NAME: Final = re.compile(r"(?:^|/)(?:python|pypy)(\d+\.\d+)?[\w.-]*$")
_LIBRARY: Final = re.compile(rb"/libpython(\d+\.\d+)\w*\.so")
THROUGH_PYSPY: Final = "its stacks are read through py-spy: without locks, holders and what cores do"
MAX_MAPS_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class PythonProcess:
    """One process. `attachable` says whether ftdiag can look at it, `reason` why not, or with whose help.

    `source` is who would read its stacks: "native" (ftdiag), "py-spy", or `None`.
    """

    pid: int
    user: str | None
    command: str
    threads: int | None
    cpu_ratio: float | None
    python_version: str | None
    free_threaded: bool | None
    gil_enabled: bool | None
    attachable: bool
    reason: str | None
    source: str | None = None
    remark: str | None = None
    """What a person should know of it besides: that it is stopped, that its main thread has ended."""
    remedy: str | None = None
    """What to do about the reason: a command a line."""


def python_processes(interval_s: float = CPU_INTERVAL_S, limit_s: float = LIST_S) -> list[PythonProcess]:
    """All Python processes but this one, by pid, within `limit_s` and a moment."""
    begin = time.monotonic()
    pids = [pid for pid in _pids() if pid != os.getpid()]
    before = {pid: (time.monotonic(), procfs.process_cpu_ns(pid)) for pid in pids}
    found: dict[int, PythonProcess] = {}
    again: list[int] = []
    kin: dict[int, str] = {}
    with Lookers(_Look(), LOOKERS) as lookers:
        ends = time.monotonic() + limit_s * FIRST_LOOKS_S / LIST_S
        for place, answer in lookers.ask([["row", pid] for pid in pids], each_s=LOOK_S, ends=ends):
            if answer.late:
                again.append(pids[place])
                continue
            if answer.value is not None:
                kin[pids[place]] = answer.value.pop(_KIN, "")
            _take(found, pids[place], answer)
    again += [pid for pid, process in found.items() if process.source == _SPENT]
    asked = [pid for pid in sorted(found) if found[pid].source == _TO_ASK]
    for pid in asked:
        if found[pid].free_threaded:  # of which py-spy reads none; the doctor asks it all the same
            found[pid] = replace(found[pid], source=None)
    old, alike = _spokesmen([pid for pid in asked if found[pid].source == _TO_ASK], kin)
    if old:
        # Once, and not by each child in the time of its look.
        import ftdiag.sources.tools.pyspy  # noqa: F401
    with Lookers(_Look(), SECOND_LOOKERS) as lookers:
        users = sorted({process.user for process in found.values() if process.user})
        questions: list[tuple[str, str | int]] = [("user", user) for user in users]
        questions += [("pyspy", pid) for pid in old] + [("second row", pid) for pid in again]
        names: dict[str, str] = {}
        unlike: list[int] = []
        # At least the time of second looks, also where a busy machine stretched the first.
        ends = max(begin + limit_s, time.monotonic() + limit_s * (1.0 - FIRST_LOOKS_S / LIST_S))
        for place, answer in lookers.ask(questions, each_s=min(limit_s, SECOND_LOOK_S), ends=ends):
            kind, about = questions[place]
            if kind == "user":
                names[str(about)] = str(answer.value or about)
                continue
            pid = int(about)
            if kind == "second row" and answer.value is not None:
                answer.value.pop(_KIN, None)
            _take(found, pid, answer, found.get(pid))
            answered = found.get(pid)
            if kind == "second row" and answered is not None and answered.source == _TO_ASK:
                unlike.append(pid)
            for other in alike.get(pid, ()):
                if answered is not None and answered.source == "py-spy":
                    found[other] = _as_readable(found[other], answered)
                else:  # what prevents it may be its own
                    unlike.append(other)
        ends = max(ends, time.monotonic() + limit_s * (1.0 - FIRST_LOOKS_S / LIST_S))
        for place, answer in lookers.ask([("pyspy", pid) for pid in unlike], each_s=limit_s, ends=ends):
            _take(found, unlike[place], answer, found.get(unlike[place]))
    if found and interval_s > 0:
        time.sleep(max(0.0, begin + interval_s - time.monotonic()))
    return [
        _with_cpu(replace(found[pid], user=names.get(found[pid].user or "", found[pid].user)), before[pid])
        for pid in sorted(found)
    ]


_KIN: Final = "kin"
"""In the answer to a look, beside what is known of a process: what it has in common with those like it."""
_TO_ASK: Final = "to be asked"
"""The source of a process that py-spy is to be asked about."""
_SPENT: Final = "spent"
"""The source of a process for which a first look's budget was not enough."""


def _spokesmen(pids: Sequence[int], kin: Mapping[int, str]) -> tuple[list[int], dict[int, list[int]]]:
    """Those that py-spy is asked about, and for each the others like it, about whom it would say the same.

    A start of py-spy takes as long as ten looks of ours, and workers of one server are all alike.
    """
    first: dict[str, int] = {}
    alike: dict[int, list[int]] = {}
    for pid in pids:
        spokesman = first.setdefault(kin.get(pid) or str(pid), pid)
        alike.setdefault(spokesman, []).extend([pid] if pid != spokesman else [])
    return list(alike), alike


def _as_readable(process: PythonProcess, like: PythonProcess) -> PythonProcess:
    """A process as py-spy reads it, because it reads another that is like it."""
    return replace(
        process,
        python_version=like.python_version,
        free_threaded=like.free_threaded,
        attachable=True,
        source=like.source,
        reason=like.reason,
    )


def _kin_of(pid: int) -> str:
    """Executable, user, and where it has its files and pids: processes with the same are alike for py-spy."""
    try:
        at = os.stat(f"/proc/{pid}/exe")
        places = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "pid", "user")]
    except OSError:
        return ""
    return f"{at.st_dev} {at.st_ino} {at.st_mtime_ns} {_user_id(pid)} {places}"


def _take(
    found: dict[int, PythonProcess], pid: int, answer: Answer, known: PythonProcess | None = None
) -> None:
    """Note the answer to a look; a look that failed is a row, too, if the process is still there."""
    if answer.failure is None:
        if answer.value is not None:
            found[pid] = PythonProcess(**answer.value)
        else:
            found.pop(pid, None)
        return
    if known is not None:  # all is known but what a second look, or py-spy, would say
        also = f", and py-spy did not say more: {answer.failure}" if known.source == _TO_ASK else ""
        found[pid] = replace(known, source=None, reason=f"{known.reason}{also}")
        return
    with suppress(FtdiagError):
        stat = procfs.read_process_stat(pid)
        found[pid] = PythonProcess(
            pid=pid,
            user=None,
            command=f"[{stat.name}]",  # its command line may be what hangs
            threads=stat.threads,
            cpu_ratio=None,
            python_version=None,
            free_threaded=None,
            gil_enabled=None,
            attachable=False,
            reason=f"it could not be looked at: {answer.failure}",
        )


def looked_at(pid: int) -> PythonProcess | None:
    """What is known of one process, within DOCTOR_S; `None` if it is gone or no Python after all."""
    found: dict[int, PythonProcess] = {}
    with Lookers(_Look(), 1) as lookers:
        for _, answer in lookers.ask([["one", pid]], each_s=DOCTOR_S, ends=time.monotonic() + DOCTOR_S):
            _take(found, pid, answer)
        user = found[pid].user if pid in found else None
        for _, answer in lookers.ask([["user", user]], each_s=NAMES_S, ends=time.monotonic() + NAMES_S):
            if pid in found and answer.value:
                found[pid] = replace(found[pid], user=answer.value)
    return found.get(pid)


def checks_of(pid: int) -> tuple[Check, ...]:
    """What may be read of a process, as `permissions.check_target` finds out, within DOCTOR_S."""
    from ftdiag.sources.kernel.permissions import Check, Verdict

    found: list[Check] = []
    with Lookers(_Look(), 1) as lookers:
        for _, answer in lookers.ask([["checks", pid]], each_s=DOCTOR_S, ends=time.monotonic() + DOCTOR_S):
            for name, verdict, sentence, remedy in answer.value or ():
                found.append(Check(name, Verdict(verdict), sentence, remedy))
            if answer.failure is not None:
                words = f"process {pid} could not be looked at: {answer.failure}"
                found.append(
                    Check("process", Verdict.MISSING, words, f"cat /proc/{pid}/wchan   says where it is")
                )
    return tuple(found)


def python_processes_by_name() -> Iterator[tuple[int, str]]:
    """Pid and command of what is called python, for completion: what cannot be read soon is left out."""
    pids = [pid for pid in _pids() if pid != os.getpid()]
    known = []
    with Lookers(_Look(), LOOKERS) as lookers:
        ends = time.monotonic() + NAMES_S
        for place, answer in lookers.ask([["name", pid] for pid in pids], each_s=NAME_S, ends=ends):
            if answer.value is not None:
                known.append((pids[place], str(answer.value)))
    yield from sorted(known)


class _Look:
    """What lookers do: [kind of question, pid or user] -> what JSON can say.

    Kinds: "row" and "second row" (a look for a list), "one" (a thorough one), "checks" (what may be read of
    it), "name" (the command of what is called python), "pyspy" (what py-spy says), "user" (a user's name).
    """

    def __init__(self) -> None:
        # Imported before children are forked, which would otherwise each do so in the time of a look.
        import ftdiag.sources.python.interpreter  # noqa: F401
        from ftdiag.sources.python.runtime import KnownImages

        self._known = KnownImages()

    def __call__(self, question: Any) -> Any:
        """Answer a question."""
        from ftdiag.sources.budget import Budget

        kind, about = question
        if kind == "user":
            return None if about is None else _user_name(str(about))
        pid = int(about)
        if kind == "checks":
            from ftdiag.sources.kernel.permissions import check_target

            return [(one.name, one.verdict.value, one.sentence, one.remedy) for one in check_target(pid)]
        if kind == "name":
            return procfs.read_command_line(pid) if _called_python(pid) else None
        process: PythonProcess | None
        if kind in ("row", "second row"):
            budget = Budget(
                pid,
                size_bytes=LOOK_BUDGET_BYTES,
                calls=LOOK_BUDGET_CALLS,
                seconds=LOOK_BUDGET_S if kind == "row" else SECOND_LOOK_BUDGET_S,
                clock=time.thread_time,  # a busy machine does not count; waiting has the looker's deadline
            )
            if not looks_like_python(pid, budget, self._known):
                return None
            process = identify(pid, budget, self._known)
        else:
            process = identify(pid)
            if process is not None and process.source == _TO_ASK:
                process = through_pyspy(process, process.reason or "ftdiag cannot read it")
        if process is not None and process.source == _SPENT and kind != "row":
            process = replace(process, source=None)
        if process is None:
            return None
        return asdict(process) | ({_KIN: _kin_of(pid)} if process.source == _TO_ASK else {})


def python_children(pid: int) -> list[int]:
    """Pids of Python processes that `pid` started, directly or not."""
    parents: dict[int, int] = {}
    for other in _pids():
        with suppress(FtdiagError, ValueError, IndexError, OSError):
            parents[other] = procfs.read_process_stat(other).parent
    found = []
    for other, parent in parents.items():
        ancestor, steps = parent, 0
        while ancestor not in (0, 1, pid) and steps < 64:
            ancestor, steps = parents.get(ancestor, 0), steps + 1
        if ancestor == pid and looks_like_python(other):
            found.append(other)
    return found


def looks_like_python(pid: int, budget: Budget | None = None, known: KnownImages | None = None) -> bool:
    """Whether the process is called python, has a libpython, or a file with a runtime in it.

    Its memory is not read; of its files the headers. `known` are files of processes that were looked at.
    """
    from ftdiag.sources.budget import Budget
    from ftdiag.sources.python.runtime import KnownImages, has_runtime_section

    if _called_python(pid) or _library_version(pid) is not None:
        return True
    try:
        return has_runtime_section(pid, budget or Budget(pid), known or KnownImages())
    except FtdiagError:
        return False


def identify(
    pid: int, budget: Budget | None = None, known: KnownImages | None = None
) -> PythonProcess | None:
    """What is known of a process; `None` if it is gone or no Python after all.

    `user` is a number. A process that py-spy can perhaps read has the source _TO_ASK, and one that would take
    more than the budget _SPENT. This is the look itself: it may hang, where `looked_at` does not.
    """
    from ftdiag.sources.budget import Budget
    from ftdiag.sources.kernel.memory import RemoteMemory
    from ftdiag.sources.python.interpreter import InterpreterReader
    from ftdiag.sources.python.runtime import find_runtime_header, running_runtime

    try:
        stat = procfs.read_process_stat(pid)
        command = procfs.read_command_line(pid)
    except FtdiagError:
        return None
    plain = PythonProcess(
        pid=pid,
        user=_user_id(pid),
        command=command,
        threads=stat.threads,
        cpu_ratio=None,
        python_version=_version_by_name(pid),
        free_threaded=None,
        gil_enabled=None,
        attachable=False,
        reason=None,
        remark=_remark(pid),
    )
    if living_task(pid) is None:
        return replace(plain, threads=None, reason="it has ended (a zombie)")
    memory = RemoteMemory(pid, budget or Budget(pid))
    try:
        header = find_runtime_header(pid, memory, known)
        plain = replace(plain, python_version=str(header.version), free_threaded=header.free_threaded)
        runtime = running_runtime(pid, header, memory)
        gil = InterpreterReader(memory, runtime, _NoFrames()).gil_enabled()
    except PythonNotRunning as error:
        return replace(plain, reason=error.what)
    except NotPython:
        return None
    except UnsupportedPython as error:
        plain = replace(plain, gil_enabled=None if plain.free_threaded else True)
        return replace(plain, reason=error.what, remedy=error.hint, source=_TO_ASK)
    except PermissionRefused:
        return replace(plain, reason="it may not be read: ftdiag doctor PID says why")
    except (TargetGone, NoSuchProcess):
        return None
    except BudgetSpent as error:
        return replace(plain, reason=error.what, source=_SPENT)
    except FtdiagError as error:
        return replace(plain, reason=error.what)
    return replace(plain, gil_enabled=gil, attachable=True, source="native")


def through_pyspy(process: PythonProcess, refusal: str) -> PythonProcess:
    """A process that we cannot read, with what py-spy says to it when it is asked to look once."""
    from ftdiag.sources.tools import pyspy

    try:
        seen = pyspy.probe(process.pid)
    except pyspy.PySpyFailed as failure:
        return replace(process, reason=f"{refusal}, and {failure.what}", source=None)
    return replace(
        process,
        python_version=seen.python_version,
        free_threaded=False if process.gil_enabled else process.free_threaded,
        attachable=True,
        source="py-spy",
        reason=THROUGH_PYSPY,
    )


def _remark(pid: int) -> str | None:
    halt = halt_of(pid)
    words = [] if halt is None else [halt.detail]
    if procfs.main_thread_ended(pid):
        words.append("its main thread has ended, others live on")
    return "; ".join(words) or None


class _NoFrames:
    """For a reader that is not asked for stacks."""

    def intern_frame(self, frame: object) -> int:
        return 0

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        return 0


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _called_python(pid: int) -> bool:
    return any(_PYTHON_NAME.search(name) for name in _names(pid))


def _names(pid: int) -> Iterator[str]:
    executable = procfs.read_executable(pid)
    if executable is not None:
        yield executable.removesuffix(" (deleted)")
        return
    # Another user's executable may not be read; what it was started as may.
    with suppress(FtdiagError, ValueError, IndexError, OSError):
        yield procfs.read_process_stat(pid).name
    yield procfs.read_command_line(pid).partition(" ")[0]


def _version_by_name(pid: int) -> str | None:
    for name in _names(pid):
        match = _PYTHON_NAME.search(name)
        if match and match[1]:
            return match[1]
    return _library_version(pid)


def _library_version(pid: int) -> str | None:
    try:
        with open(f"{proc_folder(pid)}/maps", "rb") as stream:
            match = _LIBRARY.search(stream.read(MAX_MAPS_BYTES))
    except OSError:
        return None
    return match[1].decode() if match else None


def _user_id(pid: int) -> str | None:
    """The effective user's number."""
    uids = status_fields(f"/proc/{pid}/status", (b"Uid",)).get(b"Uid", b"").split()
    return uids[1].decode() if len(uids) > 1 else None


def _user_name(number: str) -> str | None:
    """What a user is called; it may be asked of a server."""
    import pwd

    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError, OverflowError):
        return None


def _with_cpu(process: PythonProcess, before: tuple[float, int | None]) -> PythonProcess:
    """With the cores that all its threads, also those that ended, used since `before`."""
    then, used_ns = before
    now, cpu_ns = time.monotonic(), procfs.process_cpu_ns(process.pid)
    if used_ns is None or cpu_ns is None or now <= then or process.threads is None:
        return process
    return replace(process, cpu_ratio=max(0, cpu_ns - used_ns) / ((now - then) * 1e9))
