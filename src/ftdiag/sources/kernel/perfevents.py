"""Sampling of what threads execute: perf_event_open(2) through ctypes, and its ring buffers.

In: thread ids and a rate. Out: `RawSample` tuples (thread, time on CLOCK_MONOTONIC, instruction pointer,
the program's registers), and how many were lost.

The event is the software cpu-clock: a timer of the kernel that runs only while the thread is on a core, so
a sleeping thread costs nothing. The kernel writes each sample into a small ring buffer that is mapped here;
nobody is woken up, the reader comes by when it likes. Constants and layouts: include/uapi/linux/perf_event.h.

Where that is permitted, the event can also be a core's: then whoever runs there is sampled, threads too that
end before anybody could open an event for them (one that they inherit begins its period with them, and never
comes to its end). Whose process a sample is of is told by the reader of the buffers.

A buffer keeps its event alive, so the descriptor is closed once the buffer is mapped: events cost locked
memory, but no descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from ftdiag.errors import PermissionRefused, TargetGone
from ftdiag.sources.kernel.tasks import living_task

PAGE_BYTES: Final = mmap.PAGESIZE
MAX_BUFFER_PAGES: Final = 16
"""Data pages of one thread's ring buffer (a power of two)."""
MIN_PERIOD_NS: Final = 100_000
"""The kernel grants 10 us; a tenth of that rate is already more than anybody can read."""
MAX_RECORD_BYTES: Final = 4096
"""Records are at most as long as we asked for (up to 320 bytes); longer ones are damage."""

_PERF_TYPE_SOFTWARE: Final = 1
_PERF_COUNT_SW_CPU_CLOCK: Final = 0
_SAMPLE_IP, _SAMPLE_TID, _SAMPLE_TIME, _SAMPLE_REGS_USER = 1 << 0, 1 << 1, 1 << 2, 1 << 12
_FLAG_EXCLUDE_KERNEL, _FLAG_EXCLUDE_HV, _FLAG_EXCLUDE_IDLE = 1 << 5, 1 << 6, 1 << 7
_FLAG_WATERMARK, _FLAG_USE_CLOCKID = 1 << 14, 1 << 25
_OPEN_CLOEXEC: Final = 8
_RECORD_LOST, _RECORD_SAMPLE, _RECORD_LOST_SAMPLES = 2, 9, 13
_CLOCK_MONOTONIC: Final = 1
# struct perf_event_attr up to PERF_ATTR_SIZE_VER5 (112 bytes): type, size, config, sample_period,
# sample_type, read_format, flags, wakeup_watermark, bp_type, config1, config2, branch_sample_type,
# sample_regs_user, sample_stack_user, clockid, sample_regs_intr, aux_watermark, sample_max_stack, reserved.
_ATTRIBUTES: Final = struct.Struct("<IIQQQQQIIQQQQIiQIHH")
# Where struct perf_event_mmap_page keeps data_head, data_tail, data_offset, data_size, in 8-byte words.
_HEAD_WORD, _TAIL_WORD, _OFFSET_WORD, _SIZE_WORD = 128, 129, 130, 131

_SYSCALL_NUMBER: Final = {"x86_64": 298, "aarch64": 241}
_GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip")
REGISTERS: Final[dict[str, tuple[str, ...]]] = {
    "x86_64": (*_GENERAL, *(f"r{number}" for number in range(8, 16))),
    "aarch64": (*(f"x{number}" for number in range(31)), "sp", "pc"),
}
"""The registers of a sample, in order, for each machine (as in uname)."""
# Their bits in sample_regs_user: arch/*/include/uapi/asm/perf_regs.h. x86 has flags and segments between.
_REGISTER_BITS: Final = {"x86_64": 0xFF01FF, "aarch64": (1 << 33) - 1}

_HEADER: Final = struct.Struct("=IHH")
_SAMPLE: Final = struct.Struct("=IHHQIIQQ")
"""Header (type, misc, size), ip, pid, tid, time, and the ABI of the registers that follow; 0 for none."""
_LOST_RECORD: Final = struct.Struct("=IHHQQ")

_libc: Final = ctypes.CDLL(None, use_errno=True)
_mmap: Final = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_munmap: Final = _libc.munmap
_munmap.restype = ctypes.c_int
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


class RawSample(NamedTuple):
    """One look at a thread that was on a core. `registers` are those of the program, packed; maybe none."""

    tid: int
    time_ns: int
    ip: int
    registers: bytes


class Refused(Exception):
    """The kernel does not open or map an event; `code` is the errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class Event:
    """The event of a thread, or of a core, and its ring buffer (`rings`). Raises Refused on construction;
    close it.

    `number` is the thread's id, or what `of_core` makes of the core's. `head` and `tail` are the addresses of
    the kernel's position and the reader's, `data` and `size` say where the ring itself lies.
    """

    __slots__ = ("_address", "_length", "data", "head", "number", "size", "tail")

    def __init__(self, number: int, period_ns: int, *, kernel: bool, pages: int) -> None:
        self.number = number
        descriptor = open_event(number, period_ns, kernel=kernel)
        try:
            self._length = (1 + pages) * PAGE_BYTES
            address = _mmap(
                None, self._length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0
            )
            if address is None or address == _MAP_FAILED:
                raise Refused(ctypes.get_errno())
        finally:
            os.close(descriptor)
        self._address = int(address)
        words = (ctypes.c_uint64 * (_SIZE_WORD + 1)).from_address(self._address)
        offset = words[_OFFSET_WORD] or PAGE_BYTES
        self.size = words[_SIZE_WORD] or pages * PAGE_BYTES
        self.head, self.tail = self._address + 8 * _HEAD_WORD, self._address + 8 * _TAIL_WORD
        self.data = self._address + offset
        if offset + self.size > self._length or self.size & (self.size - 1):
            self.close()
            raise Refused(errno.EPROTO)

    def close(self) -> None:
        """End sampling and give the memory back, which nobody may read any more."""
        if self._address:
            address, self._address = self._address, 0
            _munmap(address, self._length)


def unwrap(data: memoryview, head: int, tail: int) -> bytes | None:
    """The bytes from `tail` to `head` of a ring; `None` if the two cannot be right."""
    size = len(data)
    if not 0 < head - tail <= size:
        return None
    start, end = tail % size, head % size
    if start < end:
        return bytes(data[start:end])
    return bytes(data[start:]) + bytes(data[:end])


def parse_records(chunk: bytes, into: list[RawSample], pid: int = 0) -> tuple[int, int]:
    """Append the samples of a run of records; return (samples lost, damaged places).

    With `pid` those of other processes are left out. Reading stops at a record that cannot be right: what
    follows it has no known beginning.
    """
    fixed = _SAMPLE.size
    unpack = _SAMPLE.unpack_from
    lost = position = 0
    total = len(chunk)
    append = into.append
    while position < total:
        if position + 8 > total:
            return lost, 1
        kind, _misc, length = _HEADER.unpack_from(chunk, position)
        if not 8 <= length <= MAX_RECORD_BYTES or position + length > total:
            return lost, 1
        if kind == _RECORD_SAMPLE:
            if length < fixed:
                return lost, 1
            _, _, _, ip, process, tid, time_ns, abi = unpack(chunk, position)
            if pid in (0, process):
                registers = chunk[position + fixed : position + length] if abi else b""
                append(RawSample(tid, time_ns, ip, registers))
        elif kind == _RECORD_LOST and length >= _LOST_RECORD.size:
            lost += _LOST_RECORD.unpack_from(chunk, position)[4]
        elif kind == _RECORD_LOST_SAMPLES and length >= 16:
            lost += int.from_bytes(chunk[position + 8 : position + 16], "little")
        position += length
    return lost, 0


def of_core(core: int) -> int:
    """The number of a core's event, beside the ids of threads."""
    return -1 - core


def open_event(number: int, period_ns: int, *, kernel: bool) -> int:
    """Open a cpu-clock event on a thread, or on a core (`of_core`), running; return its descriptor.

    Raises Refused.
    """
    machine = os.uname().machine
    system_call = _SYSCALL_NUMBER.get(machine)
    if system_call is None:
        raise Refused(errno.ENOSYS)
    flags = _FLAG_EXCLUDE_HV | _FLAG_WATERMARK | _FLAG_USE_CLOCKID
    tid, core = (number, -1) if number >= 0 else (-1, of_core(number))
    if core >= 0:
        flags |= _FLAG_EXCLUDE_IDLE
    if not kernel:
        flags |= _FLAG_EXCLUDE_KERNEL
    attributes = _ATTRIBUTES.pack(
        _PERF_TYPE_SOFTWARE,
        _ATTRIBUTES.size,
        _PERF_COUNT_SW_CPU_CLOCK,
        max(MIN_PERIOD_NS, period_ns),
        _SAMPLE_IP | _SAMPLE_TID | _SAMPLE_TIME | _SAMPLE_REGS_USER,
        0,
        flags,
        0xFFFF_FFFF,  # a watermark that is never reached: no wake-ups
        0,
        0,
        0,
        0,
        _REGISTER_BITS[machine],
        0,
        _CLOCK_MONOTONIC,
        0,
        0,
        0,
        0,
    )
    descriptor: int = _libc.syscall(
        ctypes.c_long(system_call),
        ctypes.c_char_p(attributes),
        ctypes.c_int(tid),
        ctypes.c_int(core),
        ctypes.c_int(-1),
        ctypes.c_ulong(_OPEN_CLOEXEC),
    )
    if descriptor < 0:
        raise Refused(ctypes.get_errno())
    return descriptor


def kernel_permitted(pid: int, opener: Callable[..., int] = open_event) -> bool:
    """Whether samples of this process may include the kernel.

    Raises PermissionRefused, with the command that changes it, when there may be no samples at all, and
    TargetGone.
    """
    code = errno.EACCES
    for kernel in (True, False):
        try:
            os.close(opener(living_task(pid) or pid, 1_000_000_000, kernel=kernel))
        except Refused as refused:
            code = refused.code
            if code == errno.ESRCH:
                raise TargetGone(
                    f"process {pid} has ended", "ftdiag list   shows the Python processes"
                ) from None
        else:
            return kernel
    raise refusal(pid, code, paranoid=read_number("perf_event_paranoid"), root=os.geteuid() == 0)


def refusal(pid: int, code: int, *, paranoid: int | None, root: bool) -> PermissionRefused:
    """Why there are no native samples, and what to do."""
    consequence = "time on a core is not split into work, atomics, spinning, allocation and gc"
    if code == errno.ENOSYS:
        return PermissionRefused(
            f"perf_event_open is not there (kernel, machine or seccomp filter): {consequence}",
            "docker run --security-opt seccomp=unconfined ...   in a container",
        )
    if code not in (errno.EACCES, errno.EPERM):
        return PermissionRefused(
            f"perf_event_open fails ({os.strerror(code)}): {consequence}",
            "perf stat -e cpu-clock true   shows whether perf works",
        )
    if paranoid is not None and paranoid > 2 and not root:
        return PermissionRefused(
            f"perf events are for administrators here (perf_event_paranoid is {paranoid}): {consequence}",
            "sudo sysctl kernel.perf_event_paranoid=1",
        )
    if root:
        return PermissionRefused(
            f"perf_event_open is refused, although we are root (a container's profile): {consequence}",
            "docker run --cap-add PERFMON --security-opt seccomp=unconfined ...",
        )
    return PermissionRefused(
        f"perf_event_open is refused for process {pid}: {consequence}",
        f'sudo "$(command -v ftdiag)" attach {pid}',
    )


def register(registers: bytes, place: int) -> int:
    """One register of a sample by its place in REGISTERS; 0 if the sample has none."""
    return int.from_bytes(registers[8 * place : 8 * place + 8], "little")


def read_number(name: str) -> int | None:
    """A number from /proc/sys/kernel; `None` where there is none."""
    try:
        with open(f"/proc/sys/kernel/{name}", encoding="ascii") as stream:
            return int(stream.read(64))
    except (OSError, ValueError):
        return None
