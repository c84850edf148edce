"""Lines of many threads in one call: who ran, and what they are blocked in; every reader answers the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdiag.sources import _tick
from ftdiag.sources.kernel.threadlines import (
    MANY_THREADS,
    SCHEDSTAT_BYTES,
    STILL_CALLS,
    STILL_EVERY,
    SYSCALL_BYTES,
    PythonThreadLines,
    ThreadLines,
)

READERS: list[Callable[[], ThreadLines]] = [PythonThreadLines, _tick.Lines]


@pytest.fixture(params=READERS)
def lines(request: pytest.FixtureRequest) -> ThreadLines:
    """Each reader."""
    made: ThreadLines = request.param()
    return made


class Files:
    """Files that stand for those of threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.descriptors: list[int] = []

    def add(self, text: bytes) -> int:
        """One more; its descriptor."""
        path = self._directory / str(len(self.descriptors))
        path.write_bytes(text)
        self.descriptors.append(os.open(path, os.O_RDWR))
        return self.descriptors[-1]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    for descriptor in made.descriptors:
        os.close(descriptor)


@pytest.fixture
def gone() -> Iterator[int]:
    """A descriptor of the schedstat of a thread of ours that has ended."""
    opened: list[int] = []
    path = "/proc/self/task/{}/schedstat"

    def open_own() -> None:
        opened.append(os.open(path.format(threading.get_native_id()), os.O_RDONLY))

    thread = threading.Thread(target=open_own)
    thread.start()
    thread.join()
    while os.path.exists(path.format(thread.native_id)):
        time.sleep(0.001)  # the kernel takes it away a moment later
    yield opened[0]
    os.close(opened[0])


def test_who_ran(lines: ThreadLines, files: Files) -> None:
    # GIVEN three threads
    one, two, three = files.add(b"1 2 3\n"), files.add(b"4 5 6\n"), files.add(b"7 8 9\n")
    for tid, descriptor in ((30, three), (10, one), (20, two)):
        lines.follow(tid, descriptor)

    # WHEN it is asked who ran, THEN at first all did, in the order in which they came; then nobody
    assert lines.ran() == [(30, b"7 8 9\n"), (10, b"1 2 3\n"), (20, b"4 5 6\n")]
    assert lines.ran() == []

    # AND who did since, once
    os.pwrite(one, b"9", 0)
    assert lines.ran() == [(10, b"9 2 3\n")]
    assert lines.ran() == []

    # AND who is forgotten never; who comes anew does again
    lines.forget(10)
    lines.forget(4711)
    os.pwrite(one, b"8", 0)
    os.pwrite(two, b"8", 0)
    assert lines.ran() == [(20, b"8 5 6\n")]
    lines.follow(10, one)
    lines.follow(20, three)
    assert lines.ran() == [(10, b"8 2 3\n"), (20, b"7 8 9\n")]


def test_who_is_gone(lines: ThreadLines, files: Files, gone: int) -> None:
    # GIVEN a thread that has ended, one whose file cannot be read, and one that is there
    here = files.add(b"1 2 3\n")
    for tid, descriptor in ((1, gone), (2, -1), (3, here)):
        lines.follow(tid, descriptor)

    # WHEN it is asked, THEN the first is gone until it is forgotten, and of the second nothing is said
    assert lines.ran() == [(1, None), (3, b"1 2 3\n")]
    assert lines.ran() == [(1, None)]
    assert lines.syscalls([here, gone, -1]) == [b"1 2 3\n", None, b""]
    lines.forget(1)
    assert lines.ran() == []


def test_lines_are_bounded(lines: ThreadLines, files: Files) -> None:
    # GIVEN files that never end, THEN only so much of them is read
    long = files.add(b"1" * 5000)
    lines.follow(1, long)
    assert lines.ran() == [(1, b"1" * SCHEDSTAT_BYTES)]
    assert lines.syscalls([long]) == [b"1" * SYSCALL_BYTES]
    assert lines.syscalls([]) == []


@pytest.mark.parametrize(("count", "late"), [(MANY_THREADS, 1), (MANY_THREADS + 8, STILL_EVERY)])
def test_many_idle_threads_take_turns(lines: ThreadLines, files: Files, count: int, late: int) -> None:
    # GIVEN many threads, of which all but one do not run for a long time
    for tid in range(count):
        lines.follow(tid, files.add(b"1 2 3\n"))
    assert len(lines.ran()) == count
    for number in range(STILL_CALLS + 1):
        os.pwrite(files.descriptors[5], f"{number % 9} 9 9\n".encode(), 0)
        # THEN the one that runs is noticed at each call
        assert [tid for tid, _ in lines.ran()] == [5]

    # WHEN all of them run THEN each is noticed once, within some calls
    for descriptor in files.descriptors:
        os.pwrite(descriptor, b"7 7 7\n", 0)
    noticed = [[tid for tid, _ in lines.ran()] for _ in range(late)]
    assert sorted(tid for tids in noticed for tid in tids) == list(range(count))
    assert 5 in noticed[0]

    # AND from then on at the next call
    os.pwrite(files.descriptors[7], b"8 8 8\n", 0)
    assert lines.ran() == [(7, b"8 8 8\n")]
