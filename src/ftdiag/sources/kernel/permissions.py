"""What of a process may be read, and if not, why not and which command changes that.

In: a pid. Out: `Check`s, each with a verdict, one sentence and, for a gap, the exact command that closes it.
What is allowed is found out by doing it: one word is read with process_vm_readv, a system call line is
read, a perf event is opened. What is known of credentials, Yama, seccomp, namespaces and /proc only serves
to explain a refusal (`why_refused`), in the order in which the kernel asks (kernel/ptrace.c,
__ptrace_may_access; security/commoncap.c, cap_ptrace_access_check; security/yama/yama_lsm.c).
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ftdiag import descriptors
from ftdiag.datatypes import dataclass
from ftdiag.errors import PermissionRefused, TargetGone
from ftdiag.sources.kernel import perfevents
from ftdiag.sources.kernel.halts import halt_of
from ftdiag.sources.kernel.tasks import has_ended, living_task, proc_folder

CAP_SYS_PTRACE: Final = 19
CAP_SYS_ADMIN: Final = 21
CAP_SYS_NICE: Final = 23
CAP_PERFMON: Final = 38
CAPABILITY_NAMES: Final = {12: "cap_net_admin", 19: "cap_sys_ptrace", 21: "cap_sys_admin"}
MAX_ANCESTORS: Final = 256
MAX_MAPPINGS_TRIED: Final = 8
AGAIN: Final = 'sudo "$(command -v ftdiag)"'
"""sudo searches its own path, which has no virtual environments."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Verdict(enum.Enum):
    """Whether a thing works: fully, in part (something is not measured), or so little that nothing does."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `remedy` is a command, or what to do where there is none."""

    name: str
    verdict: Verdict
    sentence: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of a process, from /proc/PID/status: user and group ids (real, effective, saved, file system)."""

    uids: tuple[int, int, int, int]
    gids: tuple[int, int, int, int]
    permitted: int
    effective: int
    bounding: int
    seccomp: int

    def has(self, capability: int) -> bool:
        """Whether the capability is in the effective set."""
        return bool(self.effective >> capability & 1)


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides whether the kernel lets us read a process; `None` where it cannot be known."""

    pid: int
    own: Credentials
    target: Credentials
    owner_uid: int | None
    """Owner of the files in /proc/PID: the effective user, or root for a process that is not dumpable."""
    own_call_refused: bool
    """Whether process_vm_readv is refused even for our own memory: something filters system calls."""
    same_user_namespace: bool | None
    yama_scope: int | None
    descendant: bool
    container: str | None
    selinux_denies: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a read is refused, and the command that changes it."""

    sentence: str
    remedy: str


# --- checks ------------------------------------------------------------------------------------------


def check_target(pid: int) -> tuple[Check, ...]:
    """What may be read of this process. Raises nothing; a process that is not there is a missing one."""
    present = _presence(pid)
    if present.verdict is Verdict.MISSING:
        return (present,)
    return (present, *_halts(pid), _memory(pid), *_kernel_counters(pid), _perf_of(pid), _early_turns())


def check_machine() -> tuple[Check, ...]:
    """What may be read of processes of ours that are not our children, and what the machine offers."""
    return (
        _foreign_memory(),
        *_kernel_counters(os.getpid()),
        _perf_of(os.getpid()),
        _kernel_symbols(),
        _early_turns(),
    )


def is_hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show us (mount option hidepid)."""
    if os.path.exists(f"/proc/{pid}/stat"):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def why_hidden(pid: int) -> Reason:
    """For a process that `is_hidden`."""
    option = _hidepid() or "hidepid"
    return Reason(
        f"process {pid} exists, but /proc hides the processes of other users (mount option {option})",
        f"{AGAIN} attach {pid}",
    )


def why_refused(pid: int) -> Reason:
    """Why the kernel refuses to let us read a process that exists."""
    situation = read_situation(pid)
    if situation is None:
        return Reason(f"process {pid} has ended", "ftdiag list")
    return explain(situation)


def _presence(pid: int) -> Check:
    if is_hidden(pid):
        reason = why_hidden(pid)
        return Check("process", Verdict.MISSING, reason.sentence, reason.remedy)
    fields = _status_fields(pid)
    if fields is None:
        return Check("process", Verdict.MISSING, f"there is no process {pid}", "ftdiag list")
    if not fields:
        option = _hidepid()
        sentence = f"/proc/{pid} may not be read" + (f" (mount option {option})" if option else "")
        return Check("process", Verdict.MISSING, sentence, f"{AGAIN} attach {pid}")
    if living_task(pid) is None:
        parent = fields.get("PPid", "?")
        sentence = f"process {pid} has ended; it is a zombie that waits for its parent {parent}"
        return Check("process", Verdict.MISSING, sentence, "ftdiag list")
    there = f"process {pid} is there, of user {_user(_first(fields['Uid']))}"
    if has_ended(pid, pid):
        there += "; its main thread has ended, so it is read through another one"
    return Check("process", Verdict.OK, there)


def _halts(pid: int) -> Iterator[Check]:
    """What keeps it from running: it can be read, but nothing will be seen to happen."""
    halt = halt_of(pid)
    if halt is not None:
        yield Check("running", Verdict.LIMITED, f"it does not run: {halt.words}", halt.remedy)


def _memory(pid: int) -> Check:
    name = "memory"
    code = _try_reading(pid)
    if code == 0:
        return Check(name, Verdict.OK, "its memory can be read (process_vm_readv)")
    if code == errno.ESRCH:
        return Check(name, Verdict.MISSING, f"process {pid} has ended", "ftdiag list")
    if code == errno.ENODATA:
        return Check(name, Verdict.MISSING, "it has no memory of its own: a kernel thread", "ftdiag list")
    reason = why_refused(pid)
    return Check(name, Verdict.MISSING, reason.sentence, reason.remedy)


def _kernel_counters(pid: int) -> tuple[Check, ...]:
    checks = []
    call = _read_error(f"/proc/{pid}/task/{living_task(pid) or pid}/syscall")
    if call in (0, errno.ESRCH):
        checks.append(Check("system calls", Verdict.OK, "what a blocked thread waits in can be read"))
    elif call == errno.ENOENT:
        sentence = "this kernel does not show system calls (built without CONFIG_HAVE_ARCH_TRACEHOOK)"
        checks.append(Check("system calls", Verdict.MISSING, sentence, "use a kernel of a distribution"))
    else:
        checks.append(
            Check("system calls", Verdict.MISSING, "what its threads wait in may not be read either")
        )
    counters = _first_line("/proc/self/schedstat")
    if counters is None or not counters.split() or counters.split()[0] == "0":
        checks.append(
            Check(
                "CPU time",
                Verdict.LIMITED,
                "this kernel does not count time on the run queue (schedstat)",
                "sudo sysctl kernel.sched_schedstats=1",
            )
        )
    else:
        checks.append(Check("CPU time", Verdict.OK, "CPU and run-queue time of each thread can be read"))
    try:
        os.close(descriptors.open_process(os.getpid()))
    except OSError as error:
        checks.append(
            Check(
                "process end",
                Verdict.MISSING,
                f"pidfd_open is refused ({os.strerror(error.errno or 0)}): a kernel before 5.3, or a"
                " container's seccomp filter",
                "docker run --security-opt seccomp=unconfined ...",
            )
        )
    return tuple(checks)


def _foreign_memory() -> Check:
    """A child reads our memory: with Yama that is as foreign as any other process of ours."""
    name = "memory"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, bytes([min(255, _try_reading(os.getppid()))]))
        finally:
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1)
    os.close(reader)
    os.waitpid(child, 0)
    if answer == b"\0":
        return Check(name, Verdict.OK, "the memory of your own processes can be read (process_vm_readv)")
    own = read_situation(os.getpid())
    if own is None:
        return Check(name, Verdict.MISSING, "/proc cannot be read", "mount -t proc proc /proc")
    reason = explain(own)
    return Check(
        name,
        Verdict.MISSING,
        reason.sentence.replace(f"process {own.pid}", "another process"),
        reason.remedy.replace(f"attach {own.pid}", "attach PID"),
    )


def _perf_of(pid: int) -> Check:
    """Whether native samples of on-CPU code can be taken."""
    name = "perf events"
    try:
        kernel = perfevents.kernel_permitted(pid)
    except TargetGone:
        return Check(name, Verdict.LIMITED, f"process {pid} has ended", "ftdiag list")
    except PermissionRefused as refused:
        remedy = refused.hint
        if _container() and _refused_for_us():
            remedy = "docker run --cap-add PERFMON --security-opt seccomp=unconfined ..."
        return Check(name, Verdict.LIMITED, refused.what, remedy)
    if not kernel:
        return Check(
            name,
            Verdict.LIMITED,
            "what runs on a core can be sampled, but not in the kernel: page faults and yields are not seen",
            "sudo sysctl kernel.perf_event_paranoid=1",
        )
    return Check(name, Verdict.OK, "what runs on a core can be sampled (perf_event_open)")


def _refused_for_us() -> bool:
    """Whether perf events are refused even of this very process."""
    try:
        perfevents.kernel_permitted(os.getpid())
    except (PermissionRefused, TargetGone):
        return True
    return False


def _early_turns() -> Check:
    """Whether the sampler may take its turn first while the target uses every core (`scheduling`)."""
    name = "ticks"
    own = _credentials(os.getpid())
    soft, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if (own is not None and own.has(CAP_SYS_NICE)) or soft > 0:
        return Check(name, Verdict.OK, "samples are taken on time, also while the cores are full")
    return Check(
        name,
        Verdict.LIMITED,
        "without CAP_SYS_NICE samples come late while every core is busy; reports say how many were missed",
        "sudo ftdiag attach PID   or grant the user rtprio 1 in limits.conf",
    )


def _kernel_symbols() -> Check:
    """Kernel addresses are only an extra: names of what a thread does in the kernel."""
    name = "kernel symbols"
    restrict = _number("/proc/sys/kernel/kptr_restrict")
    shown = False
    with suppress(OSError, ValueError), open("/proc/kallsyms", encoding="ascii", errors="replace") as lines:
        shown = int(lines.readline().split()[0], 16) != 0
    if shown:
        return Check(name, Verdict.OK, "kernel functions can be named")
    setting = "" if restrict is None else f" (kptr_restrict is {restrict})"
    sentence = f"kernel functions cannot be named{setting}; nothing else depends on it"
    return Check(
        name,
        Verdict.LIMITED,
        sentence,
        "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1",
    )


# --- why ---------------------------------------------------------------------------------------------


def read_situation(pid: int) -> Situation | None:
    """Read what decides; `None` when the process is gone."""
    own = _credentials(os.getpid())
    target = _credentials(pid)
    if own is None or target is None:
        return None
    try:
        owner: int | None = os.stat(f"/proc/{pid}/status").st_uid
    except OSError:
        owner = None
    return Situation(
        pid=pid,
        own=own,
        target=target,
        owner_uid=owner,
        own_call_refused=_try_reading(os.getpid()) != 0,
        same_user_namespace=_same_user_namespace(pid),
        yama_scope=_number("/proc/sys/kernel/yama/ptrace_scope"),
        descendant=_is_descendant(pid),
        container=_container(),
        selinux_denies=_first_line("/sys/fs/selinux/booleans/deny_ptrace") in ("1 1", "1 0"),
    )


def explain(situation: Situation) -> Reason:
    """The first thing that stands in the way, in the kernel's order."""
    pid, own, target = situation.pid, situation.own, situation.target
    refusal = f"the kernel refuses to let us read process {pid}"
    if situation.own_call_refused:
        filtered = "a seccomp filter" if own.seccomp == 2 else "something"
        return Reason(
            f"{filtered} blocks process_vm_readv, even for our own memory (a container's profile)",
            "docker run --cap-add SYS_PTRACE ...   or: --security-opt seccomp=unconfined",
        )
    capable = own.has(CAP_SYS_PTRACE)
    raised = _raised(situation)
    if capable and situation.same_user_namespace is False:
        return Reason(
            f"{refusal}: it is in another user namespace, in which our CAP_SYS_PTRACE does not count",
            f"run ftdiag where the process was started from: {AGAIN} attach {pid} on the host",
        )
    if not capable and set(target.uids[:3]) != {own.uids[0]}:
        return Reason(
            f"{refusal}: it belongs to user {_user(target.uids[1])}, we are user {_user(own.uids[0])}"
            " without CAP_SYS_PTRACE",
            raised,
        )
    if not capable and set(target.gids[:3]) != {own.gids[0]}:
        return Reason(
            f"{refusal}: it runs with other group ids than ours, and we have no CAP_SYS_PTRACE", raised
        )
    if not capable and situation.owner_uid is not None and situation.owner_uid != target.uids[1]:
        return Reason(
            f"{refusal}: it is not dumpable (it changed its user, or asked for this with prctl)", raised
        )
    if not capable and target.permitted & ~own.permitted:
        return Reason(
            f"{refusal}: it has capabilities that we do not have"
            f" ({_capability_words(target.permitted & ~own.permitted)})",
            raised,
        )
    if situation.yama_scope == 3:
        return Reason(
            f"{refusal}: kernel.yama.ptrace_scope is 3, which forbids it for everybody until the next boot",
            "grep -r ptrace_scope /etc/sysctl.conf /etc/sysctl.d   then remove the line and boot again",
        )
    if situation.yama_scope == 2 and not capable:
        return Reason(f"{refusal}: kernel.yama.ptrace_scope is 2, only administrators may", raised)
    if situation.yama_scope == 1 and not capable and not situation.descendant:
        return Reason(
            f"{refusal}: kernel.yama.ptrace_scope is 1, only a parent may",
            f"sudo sysctl kernel.yama.ptrace_scope=0   or: {raised}   or start it with: ftdiag run -- ...",
        )
    if situation.selinux_denies:
        return Reason(f"{refusal}: SELinux forbids it (deny_ptrace)", "sudo setsebool deny_ptrace off")
    if not capable and target.uids[1] == 0:  # whose files in /proc are root's, dumpable or not
        return Reason(
            f"{refusal}; credentials and Yama would allow it, so it is probably not dumpable (it asked for"
            " this with prctl); else it is another security module (AppArmor, SELinux) or a sandbox",
            raised,
        )
    return Reason(
        f"{refusal}; credentials and Yama would allow it, so it is another security module"
        " (AppArmor, SELinux) or a sandbox",
        "sudo dmesg | grep -iE 'apparmor|avc|denied' | tail",
    )


def _raised(situation: Situation) -> str:
    """How to get CAP_SYS_PTRACE. Becoming root gives no more than the bounding set has."""
    attainable = bool(situation.own.bounding >> CAP_SYS_PTRACE & 1)
    if situation.container and not attainable:
        return (
            "docker run --cap-add SYS_PTRACE ...   (Kubernetes: securityContext.capabilities.add:"
            " [SYS_PTRACE])"
        )
    if situation.own.uids[1] == 0:
        return (
            f"{AGAIN} attach {situation.pid}   from a root shell that has CAP_SYS_PTRACE (this one has not)"
        )
    return f"{AGAIN} attach {situation.pid}"


def _capability_words(bits: int) -> str:
    names = [name for number, name in CAPABILITY_NAMES.items() if bits >> number & 1]
    others = bits.bit_count() - len(names)
    if not names:
        return f"{others} of them"
    return ", ".join(names) + (f" and {others} more" if others else "")


# --- what the system says ----------------------------------------------------------------------------


def _status_fields(pid: int) -> dict[str, str] | None:
    """The fields of /proc/PID/status; empty when they may not be read, `None` when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except PermissionError:
        return {}
    except OSError:
        return None
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def _credentials(pid: int) -> Credentials | None:
    fields = _status_fields(pid)
    if not fields:
        return None
    try:
        return Credentials(
            uids=_four(fields["Uid"]),
            gids=_four(fields["Gid"]),
            permitted=int(fields["CapPrm"], 16),
            effective=int(fields["CapEff"], 16),
            bounding=int(fields["CapBnd"], 16),
            seccomp=int(fields.get("Seccomp", "0")),
        )
    except (KeyError, ValueError):
        return None


def _four(value: str) -> tuple[int, int, int, int]:
    real, effective, saved, file_system = map(int, value.split())
    return real, effective, saved, file_system


def _first(value: str) -> int:
    return int(value.split(maxsplit=1)[0])


def _same_user_namespace(pid: int) -> bool | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    except OSError:
        pass
    # The link needs the very permission that is missing; the map of user ids does not.
    theirs, ours = _whole(f"/proc/{pid}/uid_map"), _whole("/proc/self/uid_map")
    return None if theirs is None or ours is None or theirs == ours else False


def _is_descendant(pid: int) -> bool:
    """Whether we started the process or one of its ancestors."""
    for _ in range(MAX_ANCESTORS):
        if pid == os.getpid():
            return True
        parent = (_status_fields(pid) or {}).get("PPid", "0")
        if not parent.isdigit() or int(parent) <= 1:
            return False
        pid = int(parent)
    return False


def _container() -> str | None:
    """The kind of container we are in, as far as it leaves the usual traces."""
    for path, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if os.path.exists(path):
            return kind
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    return os.environ.get("container") or None  # noqa: SIM112 - systemd-nspawn and podman write it so


def _hidepid() -> str | None:
    """The hidepid option of /proc, such as "hidepid=invisible"; `None` without."""
    for line in (_whole("/proc/self/mountinfo") or "").splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[4] == "/proc":
            for option in fields[-1].split(","):
                if option.startswith("hidepid=") and option not in ("hidepid=0", "hidepid=off"):
                    return option
    return None


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def _whole(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20)
    except OSError:
        return None


def _first_line(path: str) -> str | None:
    text = _whole(path)
    return None if text is None else text.partition("\n")[0].strip()


def _number(path: str) -> int | None:
    line = _first_line(path)
    try:
        return None if line is None else int(line)
    except ValueError:
        return None


def _read_error(path: str) -> int:
    """0 if the file can be read, else the errno."""
    try:
        with open(path, "rb") as stream:
            stream.read(256)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _try_reading(pid: int) -> int:
    """Read eight bytes of the process; 0 if that works, else the errno (ENODATA: it has no memory)."""
    try:
        with open(f"{proc_folder(pid)}/maps", "rb") as lines:  # a name may have any byte but a line feed
            starts = [
                int(line.split(b"-", 1)[0], 16)
                for line, _ in zip(lines, range(64), strict=False)
                if b" r" in line[:64]
            ]
    except OSError as error:
        return errno.EPERM if error.errno == errno.EACCES else error.errno or errno.EIO
    if not starts:
        return errno.ENODATA
    local = ctypes.create_string_buffer(8)
    task = living_task(pid) or pid
    code = errno.EFAULT
    for start in starts[:MAX_MAPPINGS_TRIED]:
        ours = (ctypes.c_ulong * 2)(ctypes.addressof(local), 8)
        theirs = (ctypes.c_ulong * 2)(start, 8)
        if _libc.process_vm_readv(task, ours, 1, theirs, 1, 0) == 8:
            return 0
        code = ctypes.get_errno()
        if code != errno.EFAULT:
            break
    return code
