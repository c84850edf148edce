"""How the runtime of a process is found while the process changes."""

from __future__ import annotations

import pytest

from fake_process import FakeProcess
from ftdiag.errors import MemoryReadError, NotPython
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel.memory import Mapping
from ftdiag.sources.python import runtime
from ftdiag.sources.python.runtime import (
    MIN_RUNTIME_BYTES,
    KnownImages,
    RuntimeHeader,
    find_runtime,
    has_runtime_section,
)

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


def library(name: str, start: int, writable_bytes: int) -> list[Mapping]:
    """A mapped library with so much memory of its own."""
    path = f"/app/{name}.so"
    return [
        Mapping(start, start + 4096, "r-xp", 0, start, path),
        Mapping(start + 4096, start + 4096 + writable_bytes, "rw-p", 4096, start, path),
    ]


def test_files_that_are_too_small_for_a_runtime_are_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN a program with many libraries, one of which may have a runtime in it WHEN that is looked for THEN
    the executable and that one are opened, and none of the others."""
    mappings = [
        *library("program", 0x10_0000, 4096),
        *(one for number in range(50) for one in library(f"small{number}", 0x100_0000 * (number + 2), 8192)),
        *library("embedding", 0x1000_0000_0000, MIN_RUNTIME_BYTES),
    ]
    opened: list[str] = []

    def open_none(pid: int, mapping: Mapping) -> None:
        opened.append(mapping.path)

    monkeypatch.setattr(runtime, "read_mappings", lambda *_, **__: mappings)
    monkeypatch.setattr(runtime, "_link", lambda _: "/app/program.so")
    monkeypatch.setattr(runtime, "_opened", open_none)
    assert not has_runtime_section(PID, Budget(PID), KnownImages())
    assert sorted(opened) == ["/app/embedding.so", "/app/program.so"]


def test_no_file_is_opened_behind_the_one_whose_interpreter_has_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GIVEN an executable that runs Python, with libraries WHEN its runtime is looked for THEN only it is
    opened; and the next ones where it has no thread."""
    process = running_process()
    executable = library("program", 0x10_0000, MIN_RUNTIME_BYTES)
    mappings = [*executable, *library("other", 0x1000_0000, MIN_RUNTIME_BYTES)]
    opened: list[str] = []

    def offset(pid: int, image: runtime._Image, *_: object) -> int | None:
        opened.append(image.first.path)
        first = image.first
        return process.runtime_address - first.start if first.path == "/app/program.so" else None

    monkeypatch.setattr(runtime, "_section_offset", offset)
    images = runtime._images(mappings, "/app/program.so")
    found = runtime._by_section(PID, process.memory, images, Budget(PID), KnownImages())
    assert [header.address for header in found] == [process.runtime_address]
    assert opened == ["/app/program.so", "/app/other.so"]

    head = process.memory.read_word(process.runtime_address + process.layout.runtime_interpreters_head)
    process.memory.write_word(head + process.layout.interpreter_threads_head, 0x1234)
    opened.clear()
    assert runtime._by_section(PID, process.memory, images, Budget(PID), KnownImages()) == found
    assert opened == ["/app/program.so"]
