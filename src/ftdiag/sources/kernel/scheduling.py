"""Our own place in the kernel's run queue: ticks must come on time while the target uses every core.

In: a process of ours. Out: what could be had.
With more busy threads than cores an ordinary process that wakes up waits for one to three time slices of
others, which is as long as a tick. A sampler that takes a few percent of one core may go first instead.
"""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes as long to import as all of this
    import ctypes
    from collections.abc import Callable
    from typing import Final

LONGEST_TURN_US: Final = 300_000
"""CPU time without a pause after which we give up going first: a safeguard against a fault of our own."""
LONGEST_START_US: Final = 1_000_000
"""The same while a command starts: its imports and a report are half of that."""
_START_PRIORITY: Final = 1
_TICK_PRIORITY: Final = 2
"""Ticks come before the command that waits for them, where RLIMIT_RTPRIO allows it."""
NICE: Final = -15
NICE_OF_SESSION: Final = -20
"""For all of a session together, against other sessions (/proc/PID/autogroup)."""
SLICE_NS: Final = 100_000
"""The shortest time slice the kernel grants; from Linux 6.12 on a short slice also means an early turn."""
_TIMER_SLACK_NS: Final = 50_000

_PR_SET_TIMERSLACK: Final = 29
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
# include/uapi/linux/sched/types.h, struct sched_attr: size, policy u32, flags u64, nice s32,
# priority u32, runtime, deadline, period u64.
_SCHED_ATTR: Final = struct.Struct("<IIQiIQQQ")


_hurried = False


def hurry() -> bool:
    """Give ourselves early turns while we start, before everybody else's; whether that was permitted.

    Real-time (CAP_SYS_NICE or RLIMIT_RTPRIO), else a negative nice value (RLIMIT_NICE), which counts only
    among the processes of our session where the kernel shares cores by sessions (sched_autogroup). Children
    and threads do not inherit it. A process that was asked to be nice stays so.
    """
    global _hurried
    try:
        if os.getpriority(os.PRIO_PROCESS, 0) > 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
        with suppress(OSError, ValueError):
            _limit_turns(LONGEST_START_US, _more_than_ordinary)
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_START_PRIORITY))
            _hurried = True
            return True
        _hurried = _more_than_ordinary()
    except OSError:
        return False
    return _hurried


def hurried() -> bool:
    """Whether `hurry` gave us early turns."""
    return _hurried


def hurry_child(pid: int) -> bool:
    """Give a child of ours, or us as one (pid 0), early turns while it starts; whether that was permitted.

    A negative nice value, for the child's session, too, if it leads one and the kernel shares cores by
    sessions. Its own children are ordinary.
    """
    try:
        if os.getpriority(os.PRIO_PROCESS, pid) > 0:
            return False
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
        os.sched_setscheduler(pid, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        leads = os.getsid(pid) == (pid or os.getpid())
    except OSError:
        return False
    if leads:
        with suppress(OSError), open(f"/proc/{pid or 'self'}/autogroup", "wb", buffering=0) as group:
            group.write(str(NICE_OF_SESSION).encode())
    return True


def hurry_less() -> None:
    """What `hurry` gave to us, but only among the processes of our session, where that makes a difference.

    For what may take its fair share of time: it holds nobody else up.
    """
    if _hurried:
        _more_than_ordinary()


def take_turns_again() -> None:
    """Give back what `hurry` gave to us."""
    global _hurried
    if _hurried:
        _hurried = False
        with suppress(OSError):
            try:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            except PermissionError:  # only the privileged may clear that
                os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            if os.getpriority(os.PRIO_PROCESS, 0) == NICE:
                os.setpriority(os.PRIO_PROCESS, 0, 0)


def _more_than_ordinary() -> bool:
    """A negative nice value for us alone, in place of real-time, or of nothing; whether it was permitted."""
    granted = False
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        granted = True
    if granted or os.sched_getscheduler(0) != os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    return granted


def go_first() -> str:
    """Ask for early turns, in the best way we have permission for; return its name.

    "real-time" (CAP_SYS_NICE or RLIMIT_RTPRIO; the kernel leaves others their share), "priority" (a
    negative nice value), or "ordinary", where ticks can be late while the cores are busy. Children do not
    inherit it.
    """
    _libc().prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
    for priority in (_TICK_PRIORITY, _START_PRIORITY):
        with suppress(OSError, ValueError):
            _limit_turns(LONGEST_TURN_US, _ordinary)
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
            return "real-time"
    return _ordinary()


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _ordinary() -> str:
    """Everything below real-time."""
    os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    granted = "ordinary"
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        granted = "priority"
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 1, nice, 0, SLICE_NS, 0, 0)
        _libc().syscall(number, 0, attributes, 0)  # older kernels ignore or refuse it: no loss
    return granted


def _limit_turns(longest_us: int, instead: Callable[[], object]) -> None:
    """Step back when we did not sleep for so long (RLIMIT_RTTIME sends SIGXCPU)."""
    import resource

    def step_back(*_: object) -> None:
        with suppress(OSError):
            instead()

    signal.signal(signal.SIGXCPU, step_back)
    _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    resource.setrlimit(resource.RLIMIT_RTTIME, (longest_us, hard))
