"""Gives away the rights, files and terminal of its own process, then becomes another program.

In: its orders (what `confined.Child` wrote), and the descriptor of a pipe. Out: in that pipe a line with the
time at which the other program began (CLOCK_MONOTONIC, ns), and that program in this process; or exit status
FAILED, and after that line, if it was written, why it failed.

For a process of its own, that has one thread: between fork and exec of a program with threads nothing of this
could be done safely. It is handed over as code (BOOT), so that it need not be compiled for each child; one
that looks at a program every second counts what it costs. It imports nothing of ours, and runs nothing that
anybody else chose before all is given away. What is given away is looked at afterwards: a process that still
has any of it ends.
"""

from __future__ import annotations

import _ctypes
import _signal as signal  # type: ignore[import-not-found]
import os
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BOOT = (
    "import marshal,os,sys\n"
    "f=int(sys.argv[1])\n"
    "c,o=marshal.loads(os.pread(f,os.fstat(f).st_size,0))\n"
    "g={'__name__':'confined_start'}\n"
    "exec(c,g)\n"
    "g['main'](o,int(sys.argv[2]))\n"
)
"""What Python is told to do: take code and orders from a file. In: its descriptor, that of a pipe."""
FAILED = 126
"""The exit status of a child in which the program was never begun."""
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
LAST_CAPABILITY = 63
_prctl = _ctypes.dlsym(_ctypes.dlopen(None, 2), "prctl")  # type: ignore[arg-type] # None: this process


def prctl(*arguments: int) -> int:
    """prctl(2). What `ctypes` and `signal` would have to import takes as long as all of this."""
    return int(_ctypes.call_cdeclfunction(_prctl, (*arguments, *(0,) * (5 - len(arguments)))))


def forget_signals() -> None:
    """All signals do what they do by default, and none is held back."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # the C library's own
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_files(kept: set[int]) -> None:
    """Close all descriptors but these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # that of the listing itself


def limit(limits: dict[int, int]) -> None:
    """Resource limits, soft and hard, never above those that hold."""
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def give_up_rights(user: int | None, group: int | None, capabilities: list[int] | None) -> None:
    """Become a user without further groups (`None`: stay), with no way back. Raises PermissionError."""
    if capabilities is not None:
        for number in set(range(LAST_CAPABILITY + 1)) - set(capabilities):
            prctl(PR_CAPBSET_DROP, number)
    if user is not None and group is not None:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        if os.getresuid() != (user,) * 3 or os.getresgid() != (group,) * 3 or os.getgroups():
            raise PermissionError(1, "rights of ours were left")
        if user != 0 and _capabilities():
            raise PermissionError(1, "capabilities of ours were left")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    # A set-user-ID program gives none of it back.
    if prctl(PR_SET_NO_NEW_PRIVS, 1):
        raise PermissionError(1, "rights could be got back")


def _capabilities() -> int:
    """Those that count now."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith((b"CapEff", b"CapPrm")) and int(line.split()[1], 16):
                return int(line.split()[1], 16)
    return 0


def end_with(parent: int | None, seconds: float) -> None:
    """End when the process that started us does, and after so much time (0: none)."""
    if parent is not None:
        # After the rights were given up: a change of them clears it.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(FAILED)
    if seconds > 0:
        # It goes on through exec, and by default its signal ends a process.
        signal.setitimer(signal.ITIMER_REAL, seconds)


def confine(orders: dict[str, Any]) -> None:
    """All of it. Raises OSError, ValueError."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    forget_signals()
    os.chdir("/")
    os.umask(0o077)
    limit(orders["limits"])
    give_up_rights(orders["user"], orders["group"], orders["capabilities"])
    end_with(orders["parent"], orders["seconds"])


def main(orders: dict[str, Any], failure: int) -> None:
    """Do what the orders say."""
    os.set_inheritable(failure, False)
    # Who stops us now gets a process that ended by that signal, as from then on.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        kept = set(orders["kept"])
        close_files({0, 1, 2, failure, *kept})
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        script = orders["script"]
        if script is None:
            confine(orders)
            os.write(failure, b"%d\n" % time.monotonic_ns())
            os.execve(orders["command"][0], orders["command"], orders["environment"])
        import runpy

        # Ours: what it imports is read with our rights, what it reads is not.
        run = runpy.run_path(script)
        run["prepare"]()
        os.environ.clear()
        os.environ.update(orders["environment"])
        confine(orders)
        os.write(failure, b"%d\n" % time.monotonic_ns())
        os.close(failure)
        sys.argv = orders["command"]
    except (OSError, ValueError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        os.write(failure, b"\n" + words.encode("utf-8", "replace")[:500])
        os._exit(FAILED)
    sys.exit(run["main"]())
