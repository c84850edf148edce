"""Which library waits: threads of this process, parked by way of the C library, and damaged tables."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import Made, elf
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.syscalls import BlockedCall, parse_syscall_line, syscall_table
from ftdiag.sources.native.elf import BytesSource, read_elf
from ftdiag.sources.native.nativestack import NativeCallers, UnwindTables, _tables_of
from ftdiag.sources.native.symbols import CodeMap
from reading import eventually

PYTHON = str(Path("/proc/self/exe").resolve())
X86 = platform.machine() == "x86_64"


@pytest.fixture
def parked() -> Iterator[BlockedCall]:
    """A thread that waits for a semaphore of the C library, which ctypes has called."""
    libc = ctypes.CDLL(None)
    semaphore = ctypes.create_string_buffer(64)
    libc.sem_init(semaphore, 0, 0)
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        libc.sem_wait(semaphore)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    calls: list[BlockedCall] = []

    def blocked() -> bool:
        if tids:
            call = parse_syscall_line(Path(f"/proc/self/task/{tids[0]}/syscall").read_bytes())
            info = None if call is None else syscall_table().get(call.number)
            if call is not None and info is not None and info.name == "futex":
                calls.append(call)
        return len(calls) > 3

    eventually(blocked, every_s=0.02)
    yield calls[-1]
    libc.sem_post(semaphore)
    thread.join()


def test_who_waits_inside_the_c_library_is_found(parked: BlockedCall) -> None:
    # GIVEN a thread that a library has parked by way of the C library
    assert parked.stack_pointer is not None
    assert parked.instruction is not None
    callers = NativeCallers(os.getpid(), RemoteMemory(os.getpid()), PYTHON)

    # WHEN it is asked which library that is
    found = callers.library(1, parked.stack_pointer, parked.instruction)

    # THEN it is the one that called the C library: libffi, which may be inside of ctypes
    if X86:
        assert found is not None
        assert found.startswith(("libffi", "_ctypes"))
    else:
        assert found is None


def test_nothing_is_said_of_places_that_are_no_code(parked: BlockedCall) -> None:
    # GIVEN stacks and instructions that are nowhere, and one that is elsewhere on the stack
    assert parked.stack_pointer is not None
    assert parked.instruction is not None
    callers = NativeCallers(os.getpid(), RemoteMemory(os.getpid()), PYTHON)

    # WHEN they are asked for THEN there is no answer
    assert callers.library(1, parked.stack_pointer, 0x10) is None
    assert callers.library(1, 0x10, parked.instruction) is None


def test_mappings_are_not_read_again_for_each_place_that_is_none(
    parked: BlockedCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a stack of which mappings are known, and a clock
    assert parked.stack_pointer is not None
    assert parked.instruction is not None
    now_s = [100.0]
    callers = NativeCallers(os.getpid(), RemoteMemory(os.getpid()), PYTHON, lambda: now_s[0])
    callers.library(1, parked.stack_pointer, parked.instruction)
    reloads: list[float] = []

    def reload(self: CodeMap) -> bool:
        reloads.append(now_s[0])
        return False

    monkeypatch.setattr(CodeMap, "reload", reload)

    # WHEN places are asked for at which there is nothing THEN mappings are read once a second
    for place in range(16, 26):
        assert callers.library(1, parked.stack_pointer, place) is None
    assert reloads == [100.0]
    now_s[0] += 1.0
    assert callers.library(1, parked.stack_pointer, 30) is None
    assert reloads == [100.0, 101.0]


def test_without_unwind_tables_nothing_is_guessed(
    parked: BlockedCall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN a C library whose tables were stripped, as `strip -R .eh_frame*` does WHEN it is asked which
    library waits in it THEN there is no answer: return addresses on the stack are not guessed at."""
    assert parked.stack_pointer is not None
    assert parked.instruction is not None
    callers = NativeCallers(os.getpid(), RemoteMemory(os.getpid()), PYTHON)
    bare = elf({".text": Made(1, 0, b"\xc3" * 16)})
    assert read_elf(BytesSource(bare)) is not None
    assert _tables_of(BytesSource(bare)) is None
    monkeypatch.setattr(CodeMap, "read_file", lambda self, mapping, read: read(BytesSource(bare)))
    assert callers.library(1, parked.stack_pointer, parked.instruction) is None


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 400))
def test_damaged_tables_have_no_rules(header: bytes, frames: bytes, offset: int) -> None:
    # GIVEN tables of any bytes
    form = b"\x01\x1b\x03\x3b" + bytes(4) + (9).to_bytes(4, "little")
    tables = UnwindTables(form + header, 0, frames, 0, ((0, 0, 400),))

    # WHEN rules are asked for THEN that ends
    began = time.monotonic()
    tables.rules_at(offset)
    assert time.monotonic() - began < 5.0
