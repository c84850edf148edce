"""Who else uses the cores: named by the CPU clocks of processes, ftdiag's own left out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ftdiag.model import MAX_OTHERS, OtherProcess
from ftdiag.sources.kernel import others
from reading import eventually

BUSY = "import os\n{name}\nprint(os.getpid(), flush=True)\nwhile True: pass"
NAMED = "open('/proc/self/comm', 'w').write({!r})"


@contextmanager
def busy(name: str) -> Iterator[int]:
    """The pid of a process of that name that computes; it is no child of ours."""
    code = BUSY.format(name=NAMED.format(name))
    starter = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    process = subprocess.Popen([sys.executable, "-c", starter, code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.wait()
    try:
        yield pid
    finally:
        os.kill(pid, 9)
        process.stdout.close()


def test_the_busiest_are_named_and_ftdiag_is_not_among_them() -> None:
    # GIVEN a busy process, one of ftdiag's that computes as well, and the target
    with busy("compiler") as pid, busy("ftdiag-sampler") as own, busy("target") as target:
        known = others.Others(target)
        assert known.read(time.monotonic_ns()) == ((), 0)
        seen: dict[int, OtherProcess] = {}
        own_ns = 0

        # WHEN their clocks are read until both have run
        def both_ran() -> bool:
            nonlocal own_ns
            found, used_ns = known.read(time.monotonic_ns())
            assert len(found) <= MAX_OTHERS
            own_ns += used_ns
            seen.update({each.pid: each for each in found})
            return pid in seen and own_ns > 0

        eventually(both_ran)
    # THEN the one has its name, ftdiag's time is apart, and the target is nobody else
    assert seen[pid].name == "compiler"
    assert seen[pid].cpu_ns >= others.LEAST_NS
    assert not {own, target, os.getpid()} & set(seen)


def test_who_is_gone_or_new_is_not_told() -> None:
    # GIVEN a reading, and a process that begins after it
    known = others.Others(1)
    known.read(0)
    with busy("later") as pid:
        # THEN what it used before it was seen for the first time is nobody's
        assert pid not in {each.pid for each in known.read(1 << 62)[0]}


def test_all_are_read_as_often_as_may_be_paid_for_and_ftdiag_every_time() -> None:
    # GIVEN a busy process and one of ftdiag's, which are known, and hardly anything to pay readings with
    with busy("compiler") as pid, busy("ftdiag-sampler"):
        known = others.Others(1, most_cores=1e-9)
        known.read(0)
        later_ns = 1 << 61

        def both_are_known() -> bool:
            nonlocal later_ns
            later_ns += 1 << 60
            found, own_ns = known.read(later_ns)
            return own_ns > 0 and pid in {each.pid for each in found}

        assert eventually(both_are_known)

        # WHEN they are read again before it is time THEN nobody is told but what ftdiag took
        assert eventually(lambda: known.read(later_ns)[1] > 0)
        assert known.read(later_ns)[0] == ()
