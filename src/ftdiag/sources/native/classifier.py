"""What threads that are on a core really do: samples of their instructions, classified.

In: samples (`native.sampler`). Out: `NativeSample`s: work, atomic, spin, alloc or gc, with the function.
Puts together symbols (whose code), symbol_classes (what its name means) and
machinecode (whether it stands at an atomic instruction). An address is judged once; from then on a sample
costs a look-up. docs/native-sampling.md says how far the answers can be trusted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final, NamedTuple, TypeVar

from ftdiag.errors import FtdiagError, MemoryReadError
from ftdiag.model import UNNAMED_INTERPRETER, ThreadState
from ftdiag.ownthreads import start_thread
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.perfevents import REGISTERS, RawSample, register
from ftdiag.sources.native.images import Image
from ftdiag.sources.native.kernelsymbols import (
    KernelSymbols,
    kernel_symbols_shown,
    read_kernel_symbols,
)
from ftdiag.sources.native.machinecode import (
    BYTES_AFTER,
    BYTES_BEFORE,
    NOTHING,
    Before,
    is_system_call,
    what_is_loaded,
    what_precedes,
)
from ftdiag.sources.native.sharedlines import SharedLines
from ftdiag.sources.native.symbol_classes import (
    Origin,
    base_name,
    is_handover,
    is_interrupt,
    origin_of,
    state_of,
    state_of_image,
)
from ftdiag.sources.native.symbolcache import SymbolCache, default_directory
from ftdiag.sources.native.symbols import CodeMap, Place
from ftdiag.sources.native.x86 import Operand

MAX_JUDGED_ADDRESSES: Final = 65_536
"""Addresses whose verdict is remembered; when full, all are forgotten."""

MAX_JUDGED_FUNCTIONS: Final = 16_384
PAGE_BYTES: Final = 4096
MAX_PAGES: Final = 512
"""Pages of code in files that are kept: of ten addresses nine are on a page that was read before."""

T = TypeVar("T")
_KERNEL_HALF: Final = 1 << 63
_REGISTER_PLACES: Final = {
    **{name: place for place, name in enumerate(REGISTERS.get(os.uname().machine, ()))},
    **({"fp": 29, "lr": 30} if os.uname().machine == "aarch64" else {}),
}
_PRESERVED: Final = tuple(
    _REGISTER_PLACES[name]
    for name in ("rbx", "rbp", "r12", "r13", "r14", "r15", *(f"x{number}" for number in range(19, 29)))
    if name in _REGISTER_PLACES
)
"""Places of the registers that calls preserve."""
_MUTEX_IN_OBJECT: Final = 10
"""ob_mutex in a PyObject (Include/object.h of free-threaded builds)."""
_USER_HALF: Final = 1 << 47
_PC_PLACE: Final = _REGISTER_PLACES.get("rip", _REGISTER_PLACES.get("pc", 0))


class NativeSample(NamedTuple):
    """One look at a thread on a core. `symbol` is the function, or "[file]", or "[kernel]"."""

    tid: int
    time_ns: int
    state: ThreadState
    symbol: str | None
    address: int | None
    """What an atomic instruction worked on: for a reference count 16 bytes into the object. While spinning,
    the mutex that is waited for, an object's or one of the interpreter's, where the registers tell."""


class Verdict(NamedTuple):
    """What an address means. `operand` is set where it stands behind an atomic instruction that was found."""

    state: ThreadState
    symbol: str | None
    operand: Operand | None = None
    hidden: bool = False
    """Whether it is not known what function it is in: where nothing is contended, nothing is known."""


NOWHERE: Final = Verdict(ThreadState.UNKNOWN, None)
"""Of addresses at which no code is mapped."""


class Classifier:
    """Judges addresses of one process; remembers what it found."""

    def __init__(self, pid: int, python_image: str, *, kernel: bool) -> None:
        self._memory = RemoteMemory(pid)
        self._python_image = python_image
        self._code = CodeMap(pid, SymbolCache(default_directory()))
        self.kernel_named = kernel and kernel_symbols_shown()
        """Whether kernel functions have names here. They are read when the first one is asked for."""
        self._kernel_symbols: KernelSymbols | None = None
        self._kernel_reading: Thread | None = None
        self.lines = SharedLines()
        self.known_locks: Mapping[int, str] = {}
        """Addresses of the interpreter's own locks, with what they are called."""
        self._user: dict[int, Verdict] = {}
        self._functions: dict[Place, tuple[bool, Verdict, bool]] = {}
        """What is known of an address by its function alone; see `_judge_function`."""
        self._pages: dict[int, bytes] = {}
        self._entries: dict[int, tuple[bool, ThreadState]] = {}
        self._loads: dict[int, Operand | None] = {}
        """What the instruction before an address loads from, of those where that mattered."""
        self._kernel: dict[int, tuple[ThreadState | None, bool, str]] = {}
        self._reloaded = False
        self._search: Thread | None = None
        self._found: dict[tuple[str, int], Image] = {}
        self.missed = False
        """Whether code was hit since the last reload that is mapped nowhere."""

    @property
    def python_stripped(self) -> bool | None:
        """Whether the Python executable or library has names of exported functions only."""
        return self._code.stripped(self._python_image)

    def begin_search(self) -> None:
        """Look for the functions of the Python program and the C library that have no names.

        It takes half a second when a program is seen for the first time. Look-ups and ticks go on meanwhile,
        and what has no name is unknown until `end_search` finds it done.
        """
        self._search = start_thread(self._look_for_functions, "functions")
        if self.kernel_named:
            # 50 ms of the kernel's own: five ticks.
            self._kernel_reading = start_thread(self._read_kernel, "kernel symbols")

    def _read_kernel(self) -> None:
        self._kernel_symbols = read_kernel_symbols()

    def end_search(self, timeout_s: float = 0.0) -> bool:
        """Use what was found, if the search is done; whether it is."""
        if self._search is None:
            return True
        self._search.join(timeout_s)
        if self._search.is_alive():
            return False
        self._search = None
        self._code.adopt(self._found)
        self._found = {}
        self._user.clear()
        self._functions.clear()
        self._entries.clear()
        return True

    def _look_for_functions(self) -> None:
        image = self._python_image
        self._found = self._code.search(
            {path for path in self._code.paths if path == image or origin_of(path, image) is Origin.LIBC}
        )

    def judge_all(self, samples: Sequence[RawSample]) -> list[NativeSample]:
        """State and function of samples that were gathered.

        Which lines others change is found out of all of them first: a line is known to be shared once a
        second thread was seen to change it, and many that wait for it, mostly at loads, were seen before.
        Most addresses were judged before and tell all by themselves: these cost two look-ups.
        """
        known = self._user
        for sample in samples:
            verdict = known.get(sample[2])
            if verdict is None or verdict[2] is not None:
                self._foresee(sample)
        judged: list[NativeSample] = []
        lines, sampled, work, spin = self.lines, self.lines.sampled, ThreadState.WORK, ThreadState.SPIN
        for sample in samples:
            tid, time_ns, ip, _ = sample
            verdict = known.get(ip)
            if verdict is not None:
                state, symbol, operand, _ = verdict
                if operand is None and state is not spin and not (state is work and lines.places):
                    sampled(tid)
                    judged.append(NativeSample(tid, time_ns, state, symbol, None))
                    continue
            judged.append(self.judge(sample))
        return judged

    def _foresee(self, sample: RawSample) -> None:
        """Note what a sample changes, if it stands behind an atomic instruction that is not a lock's."""
        tid, _, ip, registers = sample
        if ip < _KERNEL_HALF and registers:
            state, _, operand, _ = self._user.get(ip) or self._judge_user(ip)
            if operand is not None and state is not ThreadState.SPIN:
                self.lines.hit(effective_address(operand, registers), tid)

    def judge(self, sample: RawSample) -> NativeSample:
        """State and function of a sample."""
        tid, time_ns, ip, registers = sample
        if ip >= _KERNEL_HALF:
            state, symbol = self._in_kernel(ip, register(registers, _PC_PLACE))
            spun = spun_for(registers, self.known_locks) if state is ThreadState.SPIN else None
            return NativeSample(tid, time_ns, state, symbol, spun)
        verdict = self._user.get(ip) or self._judge_user(ip)
        state, symbol, operand, hidden = verdict
        if verdict is NOWHERE:
            self._code.note_nowhere()
        self.lines.sampled(tid)
        if state is ThreadState.SPIN:
            return NativeSample(tid, time_ns, state, symbol, spun_for(registers, self.known_locks))
        may_wait = state is ThreadState.WORK and operand is None
        if may_wait and (ip in self._loads or self.lines.near(registers)):
            changed = self._waited_for(ip, registers)
            if changed is not None:
                if self.lines.lost(tid):
                    state = ThreadState.ATOMIC
                return NativeSample(tid, time_ns, state, symbol, changed)
        if operand is None or not registers:
            return NativeSample(tid, time_ns, state, symbol, None)
        address = effective_address(operand, registers)
        if not self.lines.hit(address, tid) or (state is ThreadState.ATOMIC and not self.lines.lost(tid)):
            # Nobody else's, or what an instruction takes anyhow: as any other instruction there.
            state = ThreadState.UNKNOWN if hidden else ThreadState.WORK
        return NativeSample(tid, time_ns, state, symbol, address)

    def _waited_for(self, ip: int, registers: bytes) -> int | None:
        """What threads change on the line that the instruction before loads from; `None` without one."""
        if ip not in self._loads:
            place = self._code.place(ip)
            if len(self._loads) >= MAX_JUDGED_ADDRESSES:
                self._loads.clear()
            self._loads[ip] = None if place is None else self._around(ip, place, what_is_loaded)
        loaded = self._loads[ip]
        return None if loaded is None else self.lines.changed(effective_address(loaded, registers))

    def _in_kernel(self, ip: int, entry_ip: int) -> tuple[ThreadState, str | None]:
        known = self._kernel.get(ip) or self._judge_kernel(ip)
        state, interrupt, name = known
        if state is not None:
            return state, name
        if not entry_ip:
            return ThreadState.WORK, name
        by_call, caller = self._entries.get(entry_ip) or self._judge_entry(entry_ip)
        if by_call or interrupt or caller is not ThreadState.WORK:
            return caller, name
        return ThreadState.ALLOC, name  # not by a system call, not interrupted: a page fault

    def take_unnamed(self) -> dict[tuple[str, str], int]:
        """(file, why) -> how often: files whose functions have no names."""
        return self._code.take_unnamed()

    def reload(self) -> None:
        """Read the mappings again, and forget what was judged if code was mapped or unmapped."""
        self._reloaded = self.missed = False
        if self._code.reload():
            self._user.clear()
            self._functions.clear()
            self._pages.clear()
            self._entries.clear()
            self._loads.clear()

    def _judge_user(self, ip: int) -> Verdict:
        place = self._code.place(ip)
        if place is None and not self._reloaded:
            self.reload()
            self._reloaded = True  # once until the next refresh
            place = self._code.place(ip)
        verdict = NOWHERE if place is None else self._judge_place(ip, place)
        if len(self._user) >= MAX_JUDGED_ADDRESSES:
            self._user.clear()
        # An address without code is asked for again after the next refresh.
        if place is None:
            self.missed = True
        else:
            self._user[ip] = verdict
        return verdict

    def _judge_place(self, ip: int, place: Place) -> Verdict:
        alone, otherwise, hidden = self._functions.get(place) or self._judge_function(place)
        if alone:
            return otherwise
        before, operand = self._around(ip, place, what_precedes) or NOTHING
        if before is Before.OTHER:
            return otherwise
        state, name, _, _ = otherwise
        if state not in (ThreadState.WORK, ThreadState.UNKNOWN):
            return Verdict(state, name, operand)
        if before is Before.PAUSE:
            return Verdict(ThreadState.SPIN, name)
        return Verdict(ThreadState.ATOMIC, name, operand, hidden=hidden)

    def _judge_function(self, place: Place) -> tuple[bool, Verdict, bool]:
        """(whether the function alone decides, the verdict then and where the instruction says nothing,
        `hidden` of a verdict where it does)."""
        origin = origin_of(place.path, self._python_image)
        name = place.name
        state = state_of_image(origin)
        if state is None and name is not None:
            state = state_of(name, origin)
        if name is None and place.path == self._python_image and not place.hides:
            name = UNNAMED_INTERPRETER
        elif name is None and place.path:
            name = f"[{place.path.rsplit('/', 1)[-1].strip('[]')}]"
        elif name is not None:
            name = base_name(name)
        hidden = (place.hides and origin in (Origin.PYTHON, Origin.LIBC)) or self._is_unpacked(place)
        alone = state in (ThreadState.ALLOC, ThreadState.GC) or is_handover(name)
        if state is None and alone:
            state = ThreadState.ATOMIC
        elif state is None:
            # Where it is hidden it may be the allocator as well.
            state = ThreadState.UNKNOWN if hidden else ThreadState.WORK
        if len(self._functions) >= MAX_JUDGED_FUNCTIONS:
            self._functions.clear()
        found = self._functions[place] = alone, Verdict(state, name), hidden
        return found

    def _is_unpacked(self, place: Place) -> bool:
        """Whether it is code in no file, of a program none of whose code is in its file: a packed one."""
        return (
            not place.path.startswith("/") and not place.name and self._python_image not in self._code.paths
        )

    def _around(self, ip: int, place: Place, judge: Callable[[str, bytes, int, int | None], T]) -> T | None:
        """What a judge of machine code says of the code around an address; `None` where that is gone."""
        start = max(ip - BYTES_BEFORE, place.start)
        try:
            if place.start and place.path.startswith("/"):
                code = self._code_of_file(start, ip + BYTES_AFTER)
            else:
                code = self._memory.read_up_to(start, ip - start + BYTES_AFTER)
        except FtdiagError:
            return None
        if len(code) < ip - start:
            return None
        return judge(place.machine, code, ip - start, 0 if start == place.start else None)

    def _code_of_file(self, start: int, end: int) -> bytes:
        """The same as `read_up_to`, of a function of a file, which stays as it is: a page is read once."""
        first = start & -PAGE_BYTES
        code = self._page(first)
        if end > first + PAGE_BYTES:
            with suppress(MemoryReadError):
                code += self._page(first + PAGE_BYTES)
        return code[start - first : end - first]

    def _page(self, address: int) -> bytes:
        page = self._pages.get(address)
        if page is None:
            page = self._memory.read(address, PAGE_BYTES)
            if len(self._pages) >= MAX_PAGES:
                self._pages.clear()
            self._pages[address] = page
        return page

    def _judge_entry(self, entry_ip: int) -> tuple[bool, ThreadState]:
        """(whether it is a system call, the state of the code that entered the kernel)."""
        state = (self._user.get(entry_ip) or self._judge_user(entry_ip))[0]
        if state in (ThreadState.ATOMIC, ThreadState.UNKNOWN):
            state = ThreadState.WORK
        place = self._code.place(entry_ip)
        try:
            by_call = place is None or is_system_call(place.machine, self._memory.read(entry_ip - 4, 4))
        except FtdiagError:
            by_call = True
        if len(self._entries) >= MAX_JUDGED_ADDRESSES:
            self._entries.clear()
        self._entries[entry_ip] = by_call, state
        return by_call, state

    def _judge_kernel(self, ip: int) -> tuple[ThreadState | None, bool, str]:
        if self.kernel_named and self._kernel_symbols is None:
            if self._kernel_reading is not None and self._kernel_reading.is_alive():
                return None, False, "[kernel]"  # not remembered: it has a name in a moment
            self._read_kernel()
        symbol = None if self._kernel_symbols is None else self._kernel_symbols.find(ip)
        if symbol is None:
            found: tuple[ThreadState | None, bool, str] = (None, False, "[kernel]")
        else:
            name = base_name(symbol.name)
            found = (state_of(name, Origin.KERNEL), is_interrupt(name), f"{name} [kernel]")
        if len(self._kernel) >= MAX_JUDGED_ADDRESSES:
            self._kernel.clear()
        self._kernel[ip] = found
        return found


def effective_address(operand: Operand, registers: bytes) -> int:
    """The address that an instruction works on, from the registers right behind it."""
    address = operand.displacement
    if operand.base is not None:
        address += register(registers, _REGISTER_PLACES.get(operand.base, 1 << 20))
    if operand.indexed_by is not None:
        address += register(registers, _REGISTER_PLACES.get(operand.indexed_by, 1 << 20)) * operand.scale
    return address & 0xFFFF_FFFF_FFFF_FFFF


def spun_for(registers: bytes, known: Container[int] = ()) -> int | None:
    """The mutex that a thread spins for while it yields its core; `None` if none can be told.

    `_PyMutex_LockTimed` keeps the mutex in a register that calls preserve (Python/lock.c). That of an object
    is 10 bytes behind its begin, which is a multiple of 16; no other address looks so. Those of the
    interpreter are `known` by their addresses.
    """
    found = {
        value
        for place in _PRESERVED
        if (value := register(registers, place)) in known
        or (value % 16 == _MUTEX_IN_OBJECT and 1 << 16 < value < _USER_HALF)
    }
    return found.pop() if len(found) == 1 else None
