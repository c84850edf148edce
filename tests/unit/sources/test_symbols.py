"""Names of code addresses: real ELF files, damaged ones, perf maps and kallsyms."""

from __future__ import annotations

import io
import lzma
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elf_files import COMPRESSED, PAGE, Made, c_library, elf, endless
from ftdiag.errors import BudgetSpent
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel.memory import Mapping, read_mappings
from ftdiag.sources.native import symbols, symboltable
from ftdiag.sources.native.debugfiles import MAX_DEBUG_DATA_BYTES
from ftdiag.sources.native.images import read_image
from ftdiag.sources.native.kernelsymbols import (
    KernelSymbols,
    kernel_symbols,
    read_kernel_symbols,
    this_kernel,
)
from ftdiag.sources.native.perfmap import PerfMap
from ftdiag.sources.native.readingcredit import READING_CREDIT_S, READING_SHARE, ReadingCredit
from ftdiag.sources.native.symbolcache import SymbolCache
from ftdiag.sources.native.symbols import TOO_MANY_MAPPINGS, CodeMap
from ftdiag.sources.native.symboltable import SymbolTable, functions_in
from fuzz.perfmaps import read_map

NAMES = b"\0alpha\0beta\0gamma\0"
ALPHA, BETA, GAMMA = 1, 7, 12


def entry(name: int, kind: int, section: int, value: int, size: int) -> bytes:
    """An Elf64_Sym."""
    return struct.pack("<IBBHQQ", name, kind, 0, section, value, size)


def test_functions_are_found_by_any_address_in_them() -> None:
    # GIVEN two functions with a gap between them, and one without a size
    table = SymbolTable([(100, 10, ALPHA), (200, 10, BETA), (300, 0, GAMMA)], NAMES)

    # WHEN addresses are looked up
    names = [found.name if (found := table.find(at)) else None for at in (99, 100, 109, 110, 205, 300, 4000)]

    # THEN what lies in the gap has no name, and the one without a size reaches far
    assert names == [None, "alpha", "alpha", None, "beta", "gamma", "gamma"]


def test_a_label_inside_a_function_does_not_hide_it() -> None:
    # GIVEN a function with a small one inside (assembly)
    table = SymbolTable([(100, 100, ALPHA), (120, 10, BETA)], NAMES)

    # WHEN an address behind the small one is looked up THEN it is the outer one
    assert [table.find(at).name for at in (110, 125, 150)] == ["alpha", "beta", "alpha"]  # type: ignore[union-attr]


def test_only_code_is_taken_from_a_symbol_section() -> None:
    # GIVEN a function, an object, a function elsewhere, an undefined one and a name out of bounds
    data = (
        entry(ALPHA, 0x12, 1, 100, 10)
        + entry(BETA, 0x11, 1, 200, 10)
        + entry(BETA, 0x12, 2, 300, 10)
        + entry(GAMMA, 0x12, 1, 0, 0)
        + entry(4000, 0x12, 1, 400, 10)
        + entry(GAMMA, 0x12, 1, (1 << 64) - 8, 16)
        + b"half an entry"
    )

    # WHEN functions are taken THEN only the first remains
    assert functions_in(data, len(NAMES), bytes([0, 1, 0]) + bytes(0x10000)) == [(100, 10, ALPHA)]


def test_a_real_library() -> None:
    # GIVEN the C library
    with c_library().open("rb") as stream:
        image = read_image(stream)

    # WHEN its functions are read
    assert image is not None
    names = {image.symbols._name(index) for index in range(len(image.symbols))}

    # THEN what every program uses is there
    assert {"malloc", "__libc_malloc"} & names
    assert {"sched_yield", "__sched_yield"} & names
    assert len(image.symbols) > 500
    offset, address, size = image.segments[0]
    assert image.address_at(offset + size - 1) == address + size - 1
    assert image.address_at(1 << 50) is None


REAL = c_library().read_bytes()


@settings(max_examples=60)
@given(st.integers(0, 4096))
def test_truncated_files_are_borne(length: int) -> None:
    # GIVEN the beginning of a real file WHEN it is read THEN nothing bad happens
    image = read_image(io.BytesIO(REAL[:length]))
    assert image is None or len(image.symbols) == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=30), st.booleans())
def test_damaged_files_are_borne(damage: list[tuple[int, int]], at_the_end: bool) -> None:
    # GIVEN a real file with wrong bytes in its headers, or in its section table
    data = bytearray(REAL)
    base = len(data) - 4096 if at_the_end else 0
    for place, value in damage:
        data[base + place if at_the_end else place % 64] = value

    # WHEN it is read
    image = read_image(io.BytesIO(data))

    # THEN there is an image, or none
    assert image is None or len(image.symbols) >= 0


@given(st.binary(max_size=2000))
def test_any_bytes_are_borne(data: bytes) -> None:
    # GIVEN anything WHEN it is read as whatever holds symbols THEN there is an answer
    assert read_image(io.BytesIO(data)) is None
    assert read_image(io.BytesIO(b"\x7fELF\x02\x01\x01" + data)) is None or data
    read_map(data)
    KernelSymbols(data).find(0xFFFFFFFF81000010)


@given(
    st.lists(st.integers(0, 0x3000), max_size=30),
    st.lists(st.integers(0, 0x3000), max_size=30),
    st.lists(st.integers(-1, 0x4800), max_size=40),
)
def test_kernel_functions_that_were_found_are_found_again(
    core: list[int], modules: list[int], asked: list[int]
) -> None:
    # GIVEN functions of a kernel and of modules, more of which are there when they are read again
    base = 0xFFFFFFFF81000000
    lines = [b"%016x T core%d\n" % (base + at, at) for at in sorted(core)]
    more = [b"%016x t made%d\t[bpf]\n" % (base + 0x3000 + at, at) for at in modules]
    earlier = b"".join([*lines, *more[::2]])
    many = KernelSymbols(earlier, lambda: b"".join([*lines, *more]))
    each = KernelSymbols(earlier, lambda: b"".join([*lines, *more]))

    # WHEN addresses are looked up by one that remembers, and one that does not THEN they are the same
    for at in asked:
        each._forget()
        assert many.find(base + at) == each.find(base + at)
    assert len(many._found) <= len({found.start for found in many._found})
    assert many._starts == sorted(many._starts)


def test_perf_maps() -> None:
    # GIVEN a map with good and bad lines
    table = read_map(b"1000 20 py::run:/a b.py\nnonsense\nzz 10 x\n2000 0 empty\n3000 10 last")

    # WHEN addresses are looked up THEN names with spaces are whole
    assert table.find(0x1010).name == "py::run:/a b.py"  # type: ignore[union-attr]
    assert table.find(0x3000).name == "last"  # type: ignore[union-attr]
    assert len(table) == 2


class Clock:
    """Seconds that pass when they are told to; as many with each look as `each`."""

    def __init__(self, each: float = 0.0) -> None:
        self.now = 0.0
        self.each = each

    def __call__(self) -> float:
        self.now += self.each
        return self.now


def read_on(table: PerfMap, path: Path) -> SymbolTable:
    """Have the map read what was appended."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        table.read_on(descriptor)
    finally:
        os.close(descriptor)
    return table.symbols


def test_a_perf_map_that_grows_is_read_on(tmp_path: Path) -> None:
    # GIVEN a map that was read, the end of whose last line was not written yet
    path = tmp_path / "perf-1.map"
    path.write_bytes(b"1000 10 first\n2000 10 seco")
    table = PerfMap(ReadingCredit(Clock()))
    assert len(read_on(table, path)) == 1

    # WHEN more is appended THEN the line is whole, and what was read stays
    with path.open("ab") as file:
        file.write(b"nd\n3000 10 third\n")
    known = read_on(table, path)
    assert [known.find(at).name for at in (0x1000, 0x2000, 0x3000)] == ["first", "second", "third"]  # type: ignore[union-attr]
    # AND nothing is done where nothing was appended
    assert read_on(table, path) is known
    # AND a map that was written anew is read anew, be it shorter or longer
    for other in (b"4000 10 other\n", b"4000 10 another\n" * 10):
        path.write_bytes(other)
        assert [read_on(table, path).find(at) is None for at in (0x1000, 0x4000)] == [True, False]


def test_perf_maps_cost_a_share_of_the_time(tmp_path: Path) -> None:
    # GIVEN a map that takes longer to read than may be spent at once
    path = tmp_path / "perf-1.map"
    path.write_bytes(b"1000 10 first\n")
    clock = Clock(each=1.5 * READING_CREDIT_S)
    table = PerfMap(ReadingCredit(clock))
    assert len(read_on(table, path)) == 1
    clock.each = 0.0

    # WHEN it is written anew at once, THEN it is not read again until the time was saved
    path.write_bytes(b"1 1 a\n2 1 b\n3 1 c\n")
    assert len(read_on(table, path)) == 1
    clock.now += 0.4 * READING_CREDIT_S / READING_SHARE
    assert len(read_on(table, path)) == 1
    clock.now += 0.2 * READING_CREDIT_S / READING_SHARE
    assert len(read_on(table, path)) == 3


IDENTITY = "kernel0123456789abcdef-0123456789abcdef"
KALLSYMS = b"""0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000010 t first
ffffffff81000040 T second
ffffffff82000000 D some_data
ffffffff82000100 R end
ffffffffc0202000 t beta\t[mod]
ffffffffc0201000 t alpha\t[mod]
"""


def test_kernel_symbols() -> None:
    # GIVEN a short kallsyms
    kernel = KernelSymbols(KALLSYMS)
    assert kernel.shown

    # WHEN addresses are looked up
    def name(address: int) -> str | None:
        found = kernel.find(address)
        return found.name if found else None

    # THEN functions are found, data is not one, and modules need no order
    assert name(0xFFFFFFFF81000010) == "first"
    assert name(0xFFFFFFFF8100003F) == "first"
    assert name(0xFFFFFFFF81000041) == "second"
    assert name(0xFFFFFFFF82000001) is None
    assert name(0xFFFFFFFFC0201008) == "alpha"
    assert name(0xFFFFFFFFC0202008) == "beta"
    assert name(0x1000) is None


def test_kernel_symbols_are_read_once(tmp_path: Path) -> None:
    # GIVEN a kallsyms that was read ahead, and cannot be read any more
    path = tmp_path / "kallsyms"
    path.write_bytes(KALLSYMS)
    ahead = read_kernel_symbols(str(path))
    path.unlink()

    # WHEN it is wanted THEN it is there
    again = read_kernel_symbols(str(path))
    assert again is not None
    assert again is ahead
    assert again.find(0xFFFFFFFF81000010) is not None


def test_kernel_symbols_are_kept_on_disk(tmp_path: Path) -> None:
    # GIVEN a kallsyms that another session has read
    path = tmp_path / "kallsyms"
    padding = b"ffffffff81000000 t __pfx_first\n"
    path.write_bytes(padding + KALLSYMS)
    cache = SymbolCache(tmp_path / "cache")
    assert kernel_symbols(str(path), cache, IDENTITY) is not None

    # WHEN it is wanted THEN it is not read again
    path.unlink()
    again = kernel_symbols(str(path), cache, IDENTITY)
    assert again is not None
    for address, name in ((0xFFFFFFFF81000010, "first"), (0xFFFFFFFFC0202008, "beta")):
        found = again.find(address)
        assert found is not None
        assert found.name == name

    # BUT with other modules, or after a start of the machine, it is
    assert kernel_symbols(str(path), cache, IDENTITY.replace("0", "1")) is None
    # AND an address that is in nothing that is known is looked for in what there is by now
    path.write_bytes(KALLSYMS + b"ffffffffd0000000 t bpf_prog_new\t[bpf]\nffffffffd0001000 t next\t[bpf]\n")
    made_later = again.find(0xFFFFFFFFD0000010)
    assert made_later is not None
    assert made_later.name == "bpf_prog_new"


@settings(max_examples=30)
@given(junk=st.binary(max_size=200), where=st.integers(0, 400))
def test_kernel_symbols_that_were_damaged_on_disk_are_read_anew(junk: bytes, where: int) -> None:
    # GIVEN a kept file in which something was overwritten
    with TemporaryDirectory() as scratch:
        path = Path(scratch, "kallsyms")
        path.write_bytes(KALLSYMS)
        cache = SymbolCache(Path(scratch, "cache"))
        assert kernel_symbols(str(path), cache, IDENTITY) is not None
        (kept,) = Path(scratch, "cache").iterdir()
        whole = kept.read_bytes()
        kept.write_bytes(whole[:where] + junk + whole[where + len(junk) :])
        # WHEN they are wanted THEN they are there
        again = kernel_symbols(str(path), cache, IDENTITY)
        assert again is not None
        found = again.find(0xFFFFFFFF81000010)
        assert found is not None
        assert found.name == "first"
        # AND the file is as it was
        assert kept.read_bytes() == whole


def test_kernel_symbols_of_others_are_not_believed(tmp_path: Path) -> None:
    # GIVEN a kept file that others may write
    path = tmp_path / "kallsyms"
    path.write_bytes(KALLSYMS)
    cache = SymbolCache(tmp_path / "cache")
    kernel_symbols(str(path), cache, IDENTITY)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.chmod(0o666)
    # WHEN the kernel says something else THEN that counts
    path.write_bytes(KALLSYMS.replace(b"first", b"other"))
    again = kernel_symbols(str(path), cache, IDENTITY)
    assert again is not None
    found = again.find(0xFFFFFFFF81000010)
    assert found is not None
    assert found.name == "other"


def test_what_a_kernel_is_told_by() -> None:
    # GIVEN this machine WHEN asked twice THEN it is the same kernel, by a name that a cache takes
    identity = this_kernel()
    assert identity == this_kernel()
    assert identity is None or re.fullmatch("kernel[0-9a-z]{1,58}-[0-9a-f]{16}", identity)


def test_hidden_kernel_addresses() -> None:
    # GIVEN what kptr_restrict leaves WHEN asked THEN there are no names
    kernel = KernelSymbols(b"0000000000000000 T _text\n0000000000000000 t first\n")
    assert not kernel.shown
    assert kernel.find(0xFFFFFFFF81000010) is None


def test_our_own_process() -> None:
    # GIVEN this process
    code = CodeMap(os.getpid())

    # WHEN code of the C library is looked up
    mapping = next(one for one in code._mappings if one.path == str(c_library()))
    image = code._image(mapping)
    assert image is not None
    start = next(
        image.symbols._starts[index]
        for index in range(len(image.symbols))
        if image.symbols._name(index) == "malloc"
    )
    virtual = image.address_at(mapping.offset)
    assert virtual is not None
    place = code.place(start - virtual + mapping.start)

    # THEN it has its name, and its extent in this process
    assert place is not None
    assert place.name in ("malloc", "__libc_malloc")
    assert place.start == start - virtual + mapping.start
    assert code.place(0x10) is None
    assert code.reload() is False


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        pytest.param("program.debug", 0, True, id="named"),
        pytest.param("program.debug", 1, False, id="of another build"),
        pytest.param("../program.debug", 0, False, id="outside"),
        pytest.param("gone.debug", 0, False, id="missing"),
        pytest.param("", 0, False, id="empty"),
    ],
)
def test_a_debug_file_that_is_named(tmp_path: Path, name: str, damage: int, found: bool) -> None:
    # GIVEN a file without functions, and one beside it that has them and whose name and checksum it gives
    functions = bytes(24) + entry(ALPHA, 0x12, 1, 100, 10)
    debug = elf({".symtab": (2, 3, functions), ".strtab": (3, 0, NAMES)})
    (tmp_path / ".debug").mkdir()
    (tmp_path / ".debug" / "program.debug").write_bytes(debug)
    (tmp_path / "program.debug").write_bytes(b"something else")
    link = name.encode() + b"\0"
    link += bytes(-len(link) % 4) + struct.pack("<I", zlib.crc32(debug) ^ damage)
    stripped = elf({".gnu_debuglink": (1, 0, link)})

    # WHEN it is read THEN its functions are those of the right file, or none
    image = read_image(io.BytesIO(stripped), (), (str(tmp_path), str(tmp_path / ".debug")))
    assert image is not None
    assert image.stripped is not found
    assert (image.symbols.find(105) is not None) is found


class NothingKept:
    """A store that knows nothing, so that build ids are asked for."""

    def get(self, build_id: str | None, stream: object) -> None:
        """Nothing."""

    def put(self, build_id: str | None, stream: object, image: object) -> None:
        """Not."""


BOMB = struct.pack("<IIQQ", 1, 0, 1 << 34, 1) + zlib.compress(bytes(64 << 20), 9)

PACKED = lzma.compress(bytes(4 * MAX_DEBUG_DATA_BYTES), preset=0)


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({".note.gnu.build-id": Made(7, 0, BOMB, COMPRESSED)}, id="build id, compressed"),
        pytest.param({".gnu_debuglink": Made(1, 0, BOMB, COMPRESSED)}, id="debug link, compressed"),
        pytest.param(
            {".symtab": Made(2, 3, BOMB, COMPRESSED), ".strtab": (3, 0, NAMES)}, id="symbols, compressed"
        ),
        pytest.param({".note.gnu.build-id": Made(7, 0, b"", size=20 << 30)}, id="build id of 20 GiB"),
        pytest.param({".gnu_debuglink": Made(1, 0, b"", size=20 << 30)}, id="debug link of 20 GiB"),
        pytest.param(
            {".symtab": Made(2, 3, b"", size=20 << 30), ".strtab": Made(3, 0, b"", size=20 << 30)},
            id="symbols of 20 GiB",
        ),
        pytest.param(
            {".gnu_debugdata": (1, 0, lzma.compress(bytes(4 * MAX_DEBUG_DATA_BYTES), preset=0))}, id="xz"
        ),
    ],
)
def test_sections_that_become_large(
    tmp_path: Path, sections: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a small or sparse file with a section that would take gigabytes
    monkeypatch.setattr(symboltable, "MAX_SYMBOLS", 100_000)
    path = tmp_path / "library.so"
    path.write_bytes(elf(sections))
    os.truncate(path, 40 << 30)

    # WHEN it is read
    tracemalloc.start()
    try:
        with path.open("rb") as stream, suppress(BudgetSpent):
            read_image(
                stream, [str(tmp_path)], [str(tmp_path)], NothingKept(), Budget(1, size_bytes=256 << 20)
            )
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # THEN it takes no more memory than its bounds say
    assert most < 400 << 20


def test_files_beyond_the_bounds_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN mapped files: one that is read, one with more sections than are read, one that takes too many
    # bytes, one that is no ELF file, one that is gone
    good = elf({".symtab": (2, 3, bytes(24) + entry(ALPHA, 0x12, 1, 100, 10)), ".strtab": (3, 0, NAMES)})
    (tmp_path / "good.so").write_bytes(good)
    endless(tmp_path / "endless.so")
    (tmp_path / "large.so").write_bytes(
        elf({".symtab": Made(2, 3, b"", size=2 << 20), ".strtab": (3, 0, NAMES)})
    )
    os.truncate(tmp_path / "large.so", 4 << 20)
    (tmp_path / "text.so").write_text("no library")
    monkeypatch.setattr(symbols, "IMAGE_BYTES", 1 << 20)
    code = CodeMap(os.getpid())
    names = ("good.so", "endless.so", "large.so", "text.so", "gone.so")
    # WHEN functions in them are asked for
    for number, name in enumerate(names):
        start = 0x7000_0000 + number * 0x10_0000
        code._image(Mapping(start, start + PAGE, "r-xp", 0, 7, str(tmp_path / name)))
    # THEN each but the first is told once, with the reason
    reasons = dict(list(code.take_unnamed()))
    assert set(reasons) == {*names[1:]}
    assert "takes more than" in reasons["large.so"]
    assert "No such file" in reasons["gone.so"]
    assert "no ELF file" in reasons["text.so"]
    assert code.take_unnamed() == {}


def test_a_list_of_mappings_that_is_too_long_is_told_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a process with more mappings than are looked at again
    code = CodeMap(os.getpid())
    known = list(code._mappings)
    monkeypatch.setattr(symbols, "MAPS_BYTES", 100)
    reads = []

    def long(pid: int, budget: Budget) -> list[Mapping]:
        reads.append(pid)
        return read_mappings(pid, budget)

    monkeypatch.setattr(symbols, "read_mappings", long)
    # WHEN it is looked at again and again
    assert [code.reload() for _ in range(3)] == [False] * 3
    # THEN what was known stays, the list is not read each time, and that is said
    assert code._mappings == known
    assert len(reads) == 1
    assert list(code.take_unnamed()) == [("", TOO_MANY_MAPPINGS)]


FULL = """
import sys
from pathlib import Path
from ftdiag.sources.native.images import read_image
Path("/proc/self/clear_refs").write_text("5")
with open(sys.argv[1], "rb") as stream:
    image = read_image(stream)
found = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(len(image.symbols), image.symbols.find(4096 + 64 * 9 + 1).name[:1], found[0].split()[1])
"""


def test_tables_as_full_as_they_can_be(tmp_path: Path) -> None:
    # GIVEN a file with two tables, each of more symbols than are read of both, with long tables of names
    many, names_bytes = symboltable.MAX_SYMBOLS * 3 // 4, symboltable.MAX_NAME_TABLE_BYTES * 3 // 4

    def table(first: int, name: int) -> bytes:
        rows = np.zeros((many, 3), dtype=np.uint64)
        rows[:, 0] = 0x12 << 32 | 1 << 48 | name
        rows[:, 1] = first + 128 * np.arange(many)
        rows[:, 2] = 64
        return rows.tobytes()

    names = bytearray(names_bytes)
    names[1:513] = names[-1024:-512] = b"x" * 512
    path = tmp_path / "library.so"
    path.write_bytes(
        elf(
            {
                ".symtab": Made(2, 3, table(4096, names_bytes - 1024)),
                ".strtab": Made(3, 0, bytes(names)),
                ".dynsym": Made(11, 5, table(4096 + 64, 1)),
                ".dynstr": Made(3, 0, bytes(names)),
            }
        )
    )

    # WHEN it is read
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    ).stdout.split()

    # THEN there are as many as are read of one file, with names, in bounded memory
    assert said[0] == str(symboltable.MAX_SYMBOLS)
    assert said[1] == "x"
    assert int(said[2]) << 10 < 512 << 20
