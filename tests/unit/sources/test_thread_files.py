"""The files of a thread, with as many of them open as there are descriptors for."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.procfs import ThreadFiles, free_descriptors


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_what_is_kept_open_makes_no_difference_to_what_is_read(keep: int) -> None:
    # GIVEN the files of a thread that sleeps
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, daemon=True)
    thread.start()
    assert thread.native_id is not None
    files = ThreadFiles(os.getpid(), thread.native_id, keep)
    try:
        # WHEN they are read THEN there are three numbers, and a line about a system call or about running
        assert files.kept == keep
        assert len(files.schedstat().split()) == 3
        assert files.syscall().split()
        # AND when the thread is gone, that is what they say
        ended.set()
        thread.join(30)
        for read in (files.schedstat, files.syscall):
            with pytest.raises((FileNotFoundError, ProcessLookupError)):
                _until_gone(read)
    finally:
        ended.set()
        files.close()
    assert files.kept == 0


def _until_gone(read: object) -> None:
    """A thread that was joined is for a moment still there for the kernel."""
    assert callable(read)
    for _ in range(100_000):
        read()


def test_some_descriptors_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a limit of 1,024 open files WHEN asked THEN what is open and some spare ones are taken off
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert 0 < free_descriptors() < 1024 - procfs.SPARE_DESCRIPTORS
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, 16))
    assert free_descriptors() == 0


def test_quotas_are_looked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a process whose cgroups have no quota WHEN their throttled time is read 2 * LEVELS_EVERY times
    asked: list[int] = []

    def directories(pid: int) -> list[tuple[Path, int]]:
        asked.append(pid)
        return []

    monkeypatch.setattr(procfs, "_cgroup_directories", directories)
    throttle = procfs.Throttle(4711)
    readings = [throttle.read_ns() for _ in range(2 * procfs.LEVELS_EVERY)]

    # THEN there is none, and they were looked for twice
    assert set(readings) == {None}
    assert asked == [4711, 4711]


def test_switches_are_the_same_from_either_file(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a thread that sleeps
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, daemon=True)
    thread.start()
    assert thread.native_id is not None
    files = ThreadFiles(os.getpid(), thread.native_id, 0)
    read = files._read
    try:
        while b"S (sleeping)" not in Path(f"/proc/self/task/{thread.native_id}/status").read_bytes():
            pass
        first = files.switches_and_faults()
        # WHEN there is no sched, or one that has no such numbers THEN status says the same
        for text in (None, b"", b"nr_voluntary_switches : x\n"):

            def other(descriptor: int, name: str, size: int, text: bytes | None = text) -> bytes:
                if name != "sched":
                    return read(descriptor, name, size)
                if text is None:
                    raise FileNotFoundError
                return text

            monkeypatch.setattr(ThreadFiles, "_read", lambda self, *arguments, other=other: other(*arguments))
            second = files.switches_and_faults()
            assert first is not None
            assert second is not None
            assert second.voluntary_switches == first.voluntary_switches > 0
            assert second.involuntary_switches == first.involuntary_switches
            assert second.migrations is None
    finally:
        ended.set()
        thread.join()
        files.close()
    while files.switches_and_faults() is not None:
        pass  # for a moment it is still there
