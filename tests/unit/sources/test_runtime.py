"""How the runtime of a process is found while the process changes."""

from __future__ import annotations

import pytest

from fake_process import FakeProcess
from ftdiag.errors import MemoryReadError, NotPython
from ftdiag.sources.python import runtime
from ftdiag.sources.python.runtime import RuntimeHeader, find_runtime

PID = 4711


def header_of(process: FakeProcess, address: int | None = None) -> RuntimeHeader:
    """What the first bytes of its runtime say."""
    at = process.runtime_address if address is None else address
    return RuntimeHeader(at, process.layout.version, True, "/fake/python", 0x400000)


def running_process() -> FakeProcess:
    """A process with one interpreter."""
    process = FakeProcess("3.15.1t")
    head = process.runtime_address + process.layout.runtime_interpreters_head
    process.memory.write_word(head, process.allocate(4096))
    return process


def found_in_turn(monkeypatch: pytest.MonkeyPatch, *answers: RuntimeHeader | NotPython) -> None:
    """What is found at each look at the process' mappings."""
    left = list(answers)

    def find(*_: object) -> RuntimeHeader:
        answer = left.pop(0)
        if isinstance(answer, NotPython):
            raise answer
        return answer

    monkeypatch.setattr(runtime, "find_runtime_header", find)


UNMAPPED = 0x10_0000


def test_a_library_that_is_unloaded_once_it_was_found_is_told_as_what_is_there_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GIVEN a runtime whose memory goes between two reads WHEN it is looked for THEN it is no Python."""
    process = running_process()
    found_in_turn(
        monkeypatch, header_of(process, UNMAPPED), NotPython("process 4711 is not a CPython process")
    )
    with pytest.raises(NotPython):
        find_runtime(PID, process.memory)


def test_a_runtime_that_moved_since_it_was_found_is_read_where_it_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GIVEN a process that replaced itself between two reads WHEN looked for THEN the new one is found."""
    process = running_process()
    found_in_turn(monkeypatch, header_of(process, UNMAPPED), header_of(process))
    assert find_runtime(PID, process.memory).address == process.runtime_address


def test_memory_that_stays_unreadable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN a runtime that is found again at the same place WHEN it cannot be read THEN that is said."""
    process = running_process()
    header = header_of(process, UNMAPPED)
    found_in_turn(monkeypatch, header, header)
    with pytest.raises(MemoryReadError):
        find_runtime(PID, process.memory)
