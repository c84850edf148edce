"""What keeps a process from running: a stop signal, a tracer, a frozen cgroup.

In: a pid, ids of its threads. Out: a `Halt` for the process or for single threads, in words with the
command that ends it; `None` where nothing keeps it.

Sources: the state letters of proc_pid_stat(5) ("T" stopped, "t" stopped by a tracer), TracerPid of
proc_pid_status(5), `cgroup.events` of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze)
and `freezer.state` of v1 (cgroup-v1/freezer-subsystem.rst). A frozen thread looks as if it slept: only the
cgroup tells.
"""

from __future__ import annotations

import enum
import os
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.sources.kernel.tasks import ENDED, state_letter

CGROUP_ROOT: Final = "/sys/fs/cgroup"
CHECK_EVERY_NS: Final = 1_000_000_000
"""Without a sign that something changed, halts are looked for again after so long."""
MAX_THREADS_LOOKED_AT: Final = 128
"""State letters that are read in one look; a tracer that stops single threads of more is seen in part."""
MAX_FIELDS_BYTES: Final = 16_384
MAX_CGROUPS: Final = 64
MAX_LEVELS: Final = 32
STOPPED: Final = "T"
TRACED: Final = "t"


class HaltKind(enum.Enum):
    """Who keeps a thread from running."""

    STOPPED = "stopped"
    TRACED = "traced"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a process or a thread does not run. `remedy` is the command that lets it go on, or says who may;
    `by` a tracer ("4711 (gdb)") or a cgroup, `None` where it is not known.
    """

    kind: HaltKind
    remedy: str
    by: str | None = None

    @property
    def words(self) -> str:
        """What is so: "stopped by a signal (T)", "traced by 4711 (gdb)", "frozen by its cgroup /app"."""
        if self.kind is HaltKind.STOPPED:
            return "stopped by a signal (T)"
        if self.kind is HaltKind.TRACED:
            return "stopped by a tracer that cannot be seen" if self.by is None else f"traced by {self.by}"
        return f"frozen by its cgroup {self.by}"

    @property
    def detail(self) -> str:
        """The same with the command, as a wait: "stopped by a signal (T; kill -CONT 4711)"."""
        if self.kind is HaltKind.STOPPED:
            return f"stopped by a signal (T; {self.remedy})"
        return self.words


def halt_of(pid: int) -> Halt | None:
    """What keeps a process from running now, seen by its first thread that lives and by its cgroup."""
    with suppress(OSError, ValueError):
        for tid in sorted(int(name) for name in os.listdir(f"/proc/{pid}/task")):
            letter = state_letter(pid, tid)
            if letter in (STOPPED, TRACED):
                return _by_letter(pid, tid, letter)
            if letter is not None and letter not in ENDED:
                break
    return frozen_cgroup(pid)


def frozen_cgroup(pid: int) -> Halt | None:
    """The cgroup that has frozen the process, if one has."""
    halts = (_frozen(folder, v2) for folder, v2 in _freezers(pid))
    return next((halt for halt in halts if halt is not None), None)


def tracer_of(pid: int, tid: int) -> str | None:
    """Who traces a thread: "4711 (gdb)"; `None` if nobody does, or nobody that we can see."""
    try:
        with open(f"/proc/{pid}/task/{tid}/status", "rb") as stream:
            lines = stream.read(MAX_FIELDS_BYTES).splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(b"TracerPid:"):
            tracer = int(line.split()[1])
            if tracer == 0:
                return None
            try:
                name = Path(f"/proc/{tracer}/comm").read_text(encoding="utf-8", errors="replace").strip()
            except OSError:
                return str(tracer)
            return f"{tracer} ({name})"
    return None


class HaltWatch:
    """Says of the threads of one process which are kept from running, at the price of next to nothing.

    A thread must run to stop, and must run to go on. So halts are looked for once after a time in which
    threads ran, when none did since the last look; and once a second, for a tracer that stops single threads,
    of those that ran in that second.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._unchanged = False
        self._checked_ns = 0
        self._ran: set[int] | None = None
        """Those that ran since they were all looked at; `None` before that."""
        self.halted: dict[int, Halt] = {}
        """Thread id -> why it does not run, as of the last look."""

    @property
    def due_ns(self) -> int:
        """When it is to be asked next, if nothing changes."""
        return 0 if self.halted else self._checked_ns + CHECK_EVERY_NS

    @property
    def quiet(self) -> bool:
        """Whether nobody ran when it last looked: until somebody does there is nothing new."""
        return self._unchanged

    def all_run(self, ran: Collection[int], now_ns: int) -> bool:
        """Whether a look at threads of which these ran finds nothing new: none is due, none was halted."""
        if self.halted or now_ns - self._checked_ns >= CHECK_EVERY_NS:
            return False
        if self._ran is not None:
            self._ran.update(ran)
        self._unchanged = False
        return True

    def look(
        self, tids: Collection[int], ran: Collection[int], now_ns: int, running: Collection[int] = ()
    ) -> Mapping[int, Halt]:
        """The threads that are found halted now and were not before; `ran` did since the last look.

        `running` of them the kernel just said that they have a core or want one: they need not be asked.
        """
        if self._ran is not None:
            self._ran.update(ran)
        if self.halted:
            self._ran = None
        for tid in ran:
            self.halted.pop(tid, None)
        quiet = not ran
        due = now_ns - self._checked_ns >= CHECK_EVERY_NS
        if not due and (self._unchanged or not quiet):
            self._unchanged = self._unchanged and quiet
            return {}
        self._unchanged = quiet
        self._checked_ns = now_ns
        found = self._found(tids, due, running)
        if due:
            self._ran = set()
        new = {tid: halt for tid, halt in found.items() if self.halted.get(tid) != halt}
        self.halted = found
        return new

    def _found(self, tids: Collection[int], every: bool, running: Collection[int]) -> dict[int, Halt]:
        """The halted ones; without `every` the first that just waits tells that nobody halts them all."""
        found: dict[int, Halt] = {}
        some = tids if not every or self._ran is None else [tid for tid in tids if tid in self._ran]
        if running:
            some = [tid for tid in some if tid not in running]
        for tid in list(some)[:MAX_THREADS_LOOKED_AT]:
            letter = state_letter(self._pid, tid)
            if letter == STOPPED:
                # A stop signal stops all of them, and each that has not stopped yet runs to do so.
                halt = _by_letter(self._pid, tid, letter)
                return dict.fromkeys(tids, halt)
            if letter == TRACED:
                found[tid] = _by_letter(self._pid, tid, letter)
            elif not every and not found and letter is not None and letter not in ENDED:
                break
        if not found and not running:
            frozen = frozen_cgroup(self._pid)
            if frozen is not None:
                return dict.fromkeys(tids, frozen)
        return found


def _by_letter(pid: int, tid: int, letter: str) -> Halt:
    if letter == STOPPED:
        return Halt(HaltKind.STOPPED, f"kill -CONT {pid}")
    tracer = tracer_of(pid, tid)
    if tracer is None:
        return Halt(HaltKind.TRACED, f"grep TracerPid /proc/{pid}/task/{tid}/status")
    return Halt(HaltKind.TRACED, "it goes on when its tracer lets it (gdb: detach)", tracer)


def _freezers(pid: int) -> list[tuple[Path, bool]]:
    """Folders of the process's cgroups that can freeze it, and whether they are of v2."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
            lines = stream.read(MAX_FIELDS_BYTES).splitlines()
    except OSError:
        return []
    found = []
    for line in lines[:MAX_CGROUPS]:
        parts = line.split(":", 2)
        if len(parts) != 3 or ".." in parts[2].split("/"):  # the latter: seen from another cgroup namespace
            continue
        relative = parts[2].lstrip("/")
        if parts[1] == "":
            found += [(Path(mount) / relative, True) for mount in (CGROUP_ROOT, f"{CGROUP_ROOT}/unified")]
        elif "freezer" in parts[1].split(","):
            found.append((Path(CGROUP_ROOT) / "freezer" / relative, False))
    return found


def _frozen(folder: Path, v2: bool) -> Halt | None:
    """What a cgroup says of itself; the one that was told to freeze may be further up."""
    name = "cgroup.events" if v2 else "freezer.state"
    wanted = b"frozen 1" if v2 else b"FROZEN"
    try:
        with open(folder / name, "rb") as stream:
            if wanted not in stream.read(MAX_FIELDS_BYTES).splitlines():
                return None
    except OSError:
        return None
    told, order = folder, "0" if v2 else "THAWED"
    setting, yes = ("cgroup.freeze", b"1") if v2 else ("freezer.self_freezing", b"1")
    for level in (folder, *list(folder.parents)[:MAX_LEVELS]):
        if not str(level).startswith(f"{CGROUP_ROOT}/"):
            break
        with suppress(OSError):
            if (level / setting).read_bytes()[:8].strip() == yes:
                told = level
                break
    control = told / ("cgroup.freeze" if v2 else "freezer.state")
    shown = str(told).removeprefix(CGROUP_ROOT).removeprefix("/unified").removeprefix("/freezer")
    # Who is delegated a part of the tree calls its cgroups as it likes, and this is to be given to a shell.
    return Halt(HaltKind.FROZEN, f"echo {order} | sudo tee {shlex.quote(os.fspath(control))}", shown)
