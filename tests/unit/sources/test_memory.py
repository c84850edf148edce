"""Reading memory: our own, which we know, and made-up maps."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from fake_process import PAGE, FakeMemory
from ftdiag.errors import MemoryReadError, NoSuchProcess, TargetGone
from ftdiag.sources.kernel.memory import (
    MAX_IOVECS,
    MAX_READ_BYTES,
    RemoteMemory,
    open_mapped_file,
    read_mappings,
)

NOWHERE = 0x10_0000


class Pages:
    """Three pages of our own, the middle one not readable."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 3 * PAGE)
        for place in range(3):
            self.map[place * PAGE : (place + 1) * PAGE] = bytes([place + 1]) * PAGE
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(self.first + PAGE, PAGE, 0) == 0
        self.last = self.first + 2 * PAGE


@pytest.fixture(scope="module")
def pages() -> Pages:
    """Never unmapped: a view of it is out."""
    return Pages()


@pytest.fixture
def memory() -> RemoteMemory:
    """Our own memory, read as if it were another's."""
    return RemoteMemory(os.getpid())


def test_read_up_to_the_last_byte_of_a_mapping(memory: RemoteMemory, pages: Pages) -> None:
    # GIVEN a page with nothing readable behind it
    # WHEN its last bytes are read, THEN they come
    assert memory.read(pages.first + PAGE - 8, 8) == b"\1" * 8
    # AND one byte more is an error
    with pytest.raises(MemoryReadError):
        memory.read(pages.first + PAGE - 8, 9)


def test_read_up_to_gives_what_is_there(memory: RemoteMemory, pages: Pages) -> None:
    # GIVEN a range that crosses into an unreadable page, WHEN it is read, THEN the first part comes
    assert memory.read_up_to(pages.first + PAGE - 10, 100) == b"\1" * 10
    with pytest.raises(MemoryReadError):
        memory.read_up_to(pages.first + PAGE, 100)


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0, 8),
        (-8, 8),
        (NOWHERE, 0),
        (NOWHERE, -1),
        ((1 << 63) - 4, 8),
        (1 << 70, 8),
        (NOWHERE, MAX_READ_BYTES + 1),
    ],
)
def test_senseless_reads_are_refused(memory: RemoteMemory, address: int, size: int) -> None:
    # GIVEN an address or a size that cannot be, WHEN it is read, THEN it is a read error
    with pytest.raises(MemoryReadError):
        memory.read(address, size)
    assert memory.read_many([(address, size)]) == [None]


def test_unreadable_ranges_between_readable_ones(memory: RemoteMemory, pages: Pages) -> None:
    # GIVEN ranges of which some are not readable, not sensible, or only half readable
    good, other = (pages.first, 16), (pages.last, 100)
    ranges = [
        (pages.first + PAGE, 8),
        good,
        (pages.first + PAGE - 4, 8),
        other,
        (0, 8),
        (NOWHERE, 8),
        good,
        (pages.last, -5),
        other,
        (pages.first + PAGE, 8),
    ]

    # WHEN they are read together, THEN each has its bytes or nothing
    one, three = b"\1" * 16, b"\3" * 100
    assert memory.read_many(ranges) == [None, one, None, three, None, None, one, None, three, None]
    assert memory.read_many([]) == []


def test_more_ranges_than_one_call_takes(memory: RemoteMemory, pages: Pages) -> None:
    # GIVEN many ranges, every 500th of them bad
    ranges = [
        (pages.first + PAGE if place % 500 == 7 else pages.first + place % 1000, 3)
        for place in range(2 * MAX_IOVECS + 5)
    ]

    # WHEN they are read, THEN the bad ones only are missing
    results = memory.read_many(ranges)
    assert len(results) == len(ranges)
    assert [place for place, result in enumerate(results) if result is None] == list(
        range(7, len(ranges), 500)
    )


def test_scattered_read_is_all_or_nothing(memory: RemoteMemory, pages: Pages) -> None:
    # GIVEN two good ranges, and then a bad one among them
    vectors = array("Q", [pages.first, 4, pages.last, 4])

    # WHEN they are read, THEN the bytes follow each other
    view = memory.read_scattered(vectors, 2, 8)
    assert view is not None
    assert bytes(view) == b"\1\1\1\1\3\3\3\3"
    # AND nothing comes when one is bad
    vectors.extend([pages.first + PAGE, 4])
    assert memory.read_scattered(vectors, 3, 12) is None
    with pytest.raises(ValueError, match="too many"):
        memory.read_scattered(array("Q"), MAX_IOVECS + 1, 0)


def test_big_read_grows_the_buffer(memory: RemoteMemory) -> None:
    # GIVEN a block larger than the buffer
    block = ctypes.create_string_buffer(b"\5" * 3_000_000)

    # WHEN it is read, THEN all of it comes, and small reads work as before
    assert memory.read(ctypes.addressof(block), 3_000_000) == b"\5" * 3_000_000
    assert memory.read(ctypes.addressof(block) + 7, 2) == b"\5\5"


def test_dead_process(memory: RemoteMemory) -> None:
    # GIVEN a process that was there
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    gone = RemoteMemory(child.pid)

    # WHEN it is read in any way, THEN that is said
    with pytest.raises(TargetGone) as raised:
        gone.read(NOWHERE, 8)
    assert raised.value.hint is not None
    assert "ftdiag list" in raised.value.hint
    with pytest.raises(TargetGone):
        gone.read_many([(NOWHERE, 8), (NOWHERE, 8)])
    with pytest.raises(TargetGone):
        gone.read_scattered(array("Q", [NOWHERE, 8]), 1, 8)
    with pytest.raises(NoSuchProcess):
        read_mappings(child.pid)


def test_zombie_has_no_mappings() -> None:
    # GIVEN a process that ended and was not waited for
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    # WHEN its map is read, THEN it is empty
    assert read_mappings(child.pid) == []
    child.wait()
    child.stdout.close()


def test_mappings_with_spaces_and_deleted_files(tmp_path: Path) -> None:
    # GIVEN files with odd names that are mapped, one of them deleted then
    spaced, deleted, odd = tmp_path / "a  b c", tmp_path / "gone", tmp_path / "ümläut (deleted)"
    maps = []
    for path in (spaced, deleted, odd):
        path.write_bytes(b"x" * PAGE)
        with path.open("rb") as stream:
            maps.append(mmap.mmap(stream.fileno(), PAGE, prot=mmap.PROT_READ))
    deleted.unlink()

    # WHEN our own map is read
    found = {mapping.path: mapping for mapping in read_mappings(os.getpid())}

    # THEN the names are whole
    for name in (str(spaced), f"{deleted} (deleted)", str(odd)):
        assert found[name].size == PAGE
        assert found[name].is_file
        assert found[name].permissions.startswith("r")
    # AND what is mapped can be opened, where the kernel permits also when it was deleted
    descriptor = open_mapped_file(os.getpid(), found[str(spaced)])
    assert os.read(descriptor, 3) == b"xxx"
    os.close(descriptor)
    for one in maps:
        one.close()


def test_fake_memory_answers_like_the_kernel(pages: Pages, memory: RemoteMemory) -> None:
    # GIVEN a fake with the same three pages
    fake = FakeMemory()
    for page, byte in ((pages.first, 1), (pages.last, 3)):
        fake.write(page, bytes([byte]) * PAGE)

    # WHEN both are asked for ranges of all kinds, THEN they agree
    for first in range(-2, 3):
        for size in (1, 3, PAGE, PAGE + 1, 2 * PAGE + 5):
            ranges = [
                (pages.first, 5),
                (pages.first + PAGE + first, size),
                (pages.last, 7),
                (pages.last - first, 9),
            ]
            assert fake.read_many(ranges) == memory.read_many(ranges)
