"""Images kept on disk: the same as read, never what somebody else left there, and bounded."""

from __future__ import annotations

import io
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import elf
from ftdiag.sources import symbolcache
from ftdiag.sources.symbolcache import LEAST_SYMBOLS, SymbolCache, default_directory, packed, unpacked
from ftdiag.sources.symbols import CodeMap, Image, SymbolTable, read_image
from unit.sources.test_symbols import ALPHA, c_library, entry
from unit.sources.test_symbols import NAMES as ALPHABET

NAMES = b"\0" + b"".join(b"function_%05d\0" % number for number in range(LEAST_SYMBOLS))


def an_image(symbols: int = LEAST_SYMBOLS, *, stripped: bool = False) -> Image:
    """An image with so many functions of 16 bytes."""
    entries = [(0x1000 + 16 * number, 16, 1 + 15 * number) for number in range(symbols)]
    return Image("EM_X86_64", SymbolTable(entries, NAMES), ((0, 0x1000, 1 << 20),), stripped)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[io.BufferedReader]:
    """A file that the images are of."""
    path = tmp_path / "lib.so"
    path.write_bytes(b"a library")
    with path.open("rb") as stream:
        yield stream


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where images are kept; it is made when it is needed."""
    return tmp_path / "cache" / "symbols"


def test_an_image_comes_back_as_it_was(library: io.BufferedReader, directory: Path) -> None:
    # GIVEN a large image that was kept
    SymbolCache(directory).put("abcd1234", library, an_image())
    # WHEN another session asks THEN it has the same functions, and only this user can read the file
    again = SymbolCache(directory).get("abcd1234", library)
    assert again is not None
    assert (again.machine, again.segments, again.stripped) == ("EM_X86_64", ((0, 0x1000, 1 << 20),), False)
    assert again.symbols.find(0x1000 + 16 * 7 + 3) == an_image().symbols.find(0x1000 + 16 * 7 + 3)
    assert len(again.symbols) == LEAST_SYMBOLS
    (kept,) = directory.iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_small_images_and_other_files_are_not_kept(library: io.BufferedReader, directory: Path) -> None:
    # GIVEN an image that is read again as fast, no directory, and a build id that is a path
    SymbolCache(directory).put("abcd1234", library, an_image(10))
    SymbolCache(None).put("abcd1234", library, an_image())
    SymbolCache(directory).put("../../abcd", library, an_image())
    # THEN nothing is kept
    assert not directory.exists()


def test_a_file_that_was_rebuilt_is_read_anew(library: io.BufferedReader, directory: Path) -> None:
    # GIVEN a kept image, and another file with the same build id
    SymbolCache(directory).put("abcd1234", library, an_image())
    other = Path(library.name).with_name("other.so")
    other.write_bytes(b"a library")
    # WHEN that one is asked for THEN it is not known
    with other.open("rb") as stream:
        assert SymbolCache(directory).get("abcd1234", stream) is None


@pytest.mark.parametrize("how", ["damaged", "cut", "writable by others", "a link", "a directory"])
def test_what_is_not_ours_is_left_alone(library: io.BufferedReader, directory: Path, how: str) -> None:
    # GIVEN a kept image that something happened to
    cache = SymbolCache(directory)
    cache.put("abcd1234", library, an_image())
    (kept,) = directory.iterdir()
    data = kept.read_bytes()
    if how == "damaged":
        kept.write_bytes(data[:-100] + bytes(100))
    elif how == "cut":
        kept.write_bytes(data[: len(data) // 2])
    elif how == "writable by others":
        kept.chmod(0o666)
    else:
        kept.rename(directory / "elsewhere")
        kept.mkdir() if how == "a directory" else kept.symlink_to(directory / "elsewhere")
    # THEN it is not used
    assert cache.get("abcd1234", library) is None


def test_a_directory_that_cannot_be_written_is_none(library: io.BufferedReader, tmp_path: Path) -> None:
    # GIVEN a file where the directory should be
    (tmp_path / "cache").write_text("")
    cache = SymbolCache(tmp_path / "cache" / "symbols")
    # WHEN an image is to be kept THEN nothing happens
    cache.put("abcd1234", library, an_image())
    assert cache.get("abcd1234", library) is None


def test_what_was_not_used_for_longest_goes(
    library: io.BufferedReader, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN room for two images, of which the older one was used last
    cache = SymbolCache(directory)
    monkeypatch.setattr(symbolcache, "MAX_BYTES", int(2.5 * len(packed(an_image()))))
    for number, name in enumerate(("aaaa", "bbbb")):
        cache.put(name, library, an_image())
        (kept,) = directory.glob(f"{name}-*")
        os.utime(kept, (1000 + number, 1000 + number))
    assert cache.get("aaaa", library) is not None
    # WHEN a third comes THEN the one that was not asked for is gone
    cache.put("cccc", library, an_image())
    assert [cache.get(name, library) is not None for name in ("aaaa", "bbbb", "cccc")] == [True, False, True]


@given(st.binary(max_size=300), st.integers(0, 5000), st.integers(0, 255))
def test_no_bytes_do_harm(data: bytes, place: int, value: int) -> None:
    # GIVEN anything, and an image with one byte changed THEN it is no image, or one that can be asked
    whole = bytearray(packed(an_image(20)))
    whole[place % len(whole)] = value
    for each in (data, bytes(whole)):
        image = unpacked(each)
        if image is not None:
            image.symbols.find(0x1010)


class Knows:
    """A store that knows one image, and keeps nothing."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def get(self, build_id: str | None, stream: object) -> Image | None:
        """The image."""
        return self._image

    def put(self, build_id: str | None, stream: object, image: Image) -> None:
        """Nothing."""


def test_a_complete_image_is_enough() -> None:
    # GIVEN a library of which all functions are known from before WHEN it is read THEN it is that image
    known = an_image(20)
    with c_library().open("rb") as stream:
        assert read_image(stream, (), (), Knows(known)) is known


def test_of_a_stripped_file_the_debug_file_is_looked_for_again(tmp_path: Path) -> None:
    # GIVEN a stripped library, whose exported functions are known from before
    known = an_image(20, stripped=True)
    build_id = struct.pack("<III", 4, 8, 3) + b"GNU\0" + bytes.fromhex("0123456789abcdef")
    debug = elf({".symtab": (2, 3, bytes(24) + entry(ALPHA, 0x12, 1, 100, 10)), ".strtab": (3, 0, ALPHABET)})
    link = b"program.debug\0\0\0" + struct.pack("<I", zlib.crc32(debug))
    stripped = elf({".note.gnu.build-id": (7, 0, build_id), ".gnu_debuglink": (1, 0, link)})
    # WHEN it is read before the debug file is there, and after that
    before = read_image(io.BytesIO(stripped), (), (str(tmp_path),), Knows(known))
    (tmp_path / "program.debug").write_bytes(debug)
    after = read_image(io.BytesIO(stripped), (), (str(tmp_path),), Knows(known))
    # THEN the functions of the debug file are not missed
    assert before is known
    assert after is not None
    assert not after.stripped


def test_a_process_is_read_through_the_cache(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a cache that keeps every image
    monkeypatch.setattr(symbolcache, "LEAST_SYMBOLS", 1)
    first = CodeMap(os.getpid(), SymbolCache(directory))
    address = next(mapping.start for mapping in first._mappings if mapping.is_file)
    places = [first.place(address + offset) for offset in range(0, 4096, 64)]
    assert list(directory.iterdir())
    # WHEN another session looks THEN it says the same
    second = CodeMap(os.getpid(), SymbolCache(directory))
    assert [second.place(address + offset) for offset in range(0, 4096, 64)] == places


def test_the_directory_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_directory() == Path("/somewhere/ftdiag/symbols")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert default_directory() is None


def test_columns_are_a_table() -> None:
    table = SymbolTable.of_columns(array("Q", [16]), array("Q", [32]), array("Q", [1]), b"\0name\0")
    found = table.find(20)
    assert found is not None
    assert found.name == "name"
