"""One mutant: made, given to the program, and judged.

In: families, each with a way to make mutants of one kind of input and to read them as the program does.
Out: what came of a mutant. A fault is: any exception but FtdiagError, more than LIMIT_S of CPU time or
LIMIT_BYTES of memory, and what the family itself finds wrong (a share above 1, an escape in an output).
"""

from __future__ import annotations

import re
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final, Protocol

from ftdiag.errors import FtdiagError

LIMIT_S: Final = 2.0
"""CPU time: another program on the same cores must not make a fault."""
LIMIT_BYTES: Final = 512 << 20
"""Resident memory of the whole process, the interpreter and all libraries with it."""
HANG_CPU_S: Final = 20.0
"""CPU time after which a mutant is given up ..."""
HANG_S: Final = 240.0
"""... and seconds, for one that waits: long, because all the cores may have other things to do."""
BATCH: Final = 16
"""Mutants between two looks at the memory; those of a batch that took too much are made again one by one."""


class Family(Protocol):
    """Mutants of one kind of input."""

    name: str
    share: int
    """How many of a thousand mutants are of it."""

    def prepare(self, folder: Path) -> None:
        """Make what mutants are made of; `folder` is empty and for this family and process alone."""

    def attempt(self, chance: Random) -> list[str]:
        """Make a mutant and read it. What is wrong with what came of it, in words. Raises anything."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mutant. `fault` is empty where all is well."""

    refused: bool
    fault: str
    cpu_s: float


class _Hang(BaseException):
    pass


def _give_up(number: int, frame: FrameType | None) -> None:
    raise _Hang


def judged(attempt: Callable[[], list[str]]) -> Outcome:
    """Run it; every way in which it can go wrong is in the outcome."""
    refused, fault = False, ""
    before = signal.signal(signal.SIGALRM, _give_up), signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    signal.setitimer(signal.ITIMER_PROF, HANG_CPU_S)
    begin_s = _cpu_s()
    try:
        fault = "; ".join(attempt())
    except FtdiagError as error:
        refused = True
        fault = "" if error.what else f"{type(error).__name__} without words"
    except _Hang:
        fault = f"not done after {HANG_CPU_S:g} s of CPU time, or {HANG_S:g} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/ftdiag/" in frame.filename] or list(frames)
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}"
        fault = f"{type(error).__name__} at {place}: {str(error)[:160]}"
    finally:
        cpu_s = _cpu_s() - begin_s
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGPROF, before[1])
    if not fault and cpu_s > LIMIT_S:
        fault = f"took {cpu_s:.1f} s of CPU time"
    return Outcome(refused, fault, cpu_s)


def _cpu_s() -> float:
    """CPU time of this process, and of the children that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def chance_of(seed: int, family: str, number: int) -> Random:
    """The choices of one mutant."""
    return Random(f"{seed}:{family}:{number}")


class _GivenChance(Random):
    """Choices that stand in bytes, as long as there are any; then those of a generator that they seed."""

    def __new__(cls, data: bytes) -> _GivenChance:
        return super().__new__(cls)

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data, self._at = data, 0

    def getrandbits(self, k: int) -> int:
        taken = self._take((k + 7) // 8)
        return super().getrandbits(k) if taken is None else taken & (1 << k) - 1

    def random(self) -> float:
        taken = self._take(2)
        return super().random() if taken is None else taken / 65_536

    def _take(self, size: int) -> int | None:
        if self._at + size > len(self._data):
            return None
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "little")


def chance_by(data: bytes) -> Random:
    """The choices of a mutant that bytes stand for."""
    return _GivenChance(data)


def reset_peak() -> None:
    """Let the kernel measure the most memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Most memory resident since `reset_peak`."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def bound_address_space() -> None:
    """Have what would take all memory fail instead."""
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
