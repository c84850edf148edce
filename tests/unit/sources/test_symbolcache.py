"""Images kept on disk: the same as read, never what somebody else left there, and bounded."""

from __future__ import annotations

import io
import os
import pwd
import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import c_library, elf
from ftdiag.sources.native import symbolcache
from ftdiag.sources.native.images import Image, read_image
from ftdiag.sources.native.symbolcache import (
    LEAST_SYMBOLS,
    SUFFIX,
    SymbolCache,
    default_directory,
    packed,
    unpacked,
)
from ftdiag.sources.native.symbols import CodeMap
from ftdiag.sources.native.symboltable import SymbolTable
from unit.sources.test_symbols import ALPHA, entry
from unit.sources.test_symbols import NAMES as ALPHABET

AS_ROOT = os.geteuid() == 0
SOMEBODY = (54_321, 54_321)
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


def test_a_small_image_is_kept_if_its_functions_had_to_be_searched_for(
    library: io.BufferedReader, directory: Path
) -> None:
    # GIVEN a stripped interpreter whose functions were found, some of them without a name
    entries = [(0x1000, 16, 1), (0x1010, 16, 0)]
    image = Image(
        "EM_X86_64", SymbolTable(entries, NAMES), ((0, 0x1000, 1 << 20),), stripped=True, searched=True
    )
    SymbolCache(directory).put("abcd1234", library, image)

    # WHEN another session asks THEN it need not search again
    again = SymbolCache(directory).get("abcd1234", library)
    assert again is not None
    assert (again.stripped, again.searched, again.hides) == (True, True, False)
    assert [found.name for at in (0x1005, 0x1015) if (found := again.symbols.find(at))] == [
        "function_00000",
        "",
    ]


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


def test_the_directory_is_the_users() -> None:
    assert default_directory({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/ftdiag/symbols")
    assert default_directory({"HOME": "/home/me"}) == Path("/home/me/.cache/ftdiag/symbols")
    assert default_directory({"XDG_CACHE_HOME": "not/absolute"}) is None
    assert default_directory({}) is None


def test_under_sudo_it_is_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN root by way of sudo, which left HOME and XDG_CACHE_HOME as they were
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    left = {"SUDO_UID": "1000", "HOME": "/home/me", "XDG_CACHE_HOME": "/home/me/.cache"}
    # WHEN the directory is asked for THEN it is below root's own home
    home = pwd.getpwuid(0).pw_dir
    assert default_directory(left) == Path(home) / ".cache/ftdiag/symbols"


# --- a directory that somebody else has a hand in --------------------------------------------------------


def filled(directory: Path, *names: str) -> None:
    """Files of 4 MiB, of which the disk has nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        with open(directory / name, "wb") as file:
            file.truncate(4 << 20)


def test_a_link_where_the_directory_should_be_removes_nothing_elsewhere(
    library: io.BufferedReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a cache of somebody else's, whose folder is a link to a folder with a file `passwd` that is too
    # large to be kept, and one that is called like ours
    monkeypatch.setattr(symbolcache, "MAX_BYTES", 1 << 20)
    victim = tmp_path / "etc"
    filled(victim, "passwd", f"abcd-0123456789abcdef{SUFFIX}")
    theirs = tmp_path / "home" / ".cache" / "ftdiag"
    theirs.mkdir(parents=True)
    (theirs / "symbols").symlink_to(victim)
    os.chown(theirs / "symbols", *SOMEBODY, follow_symlinks=False) if AS_ROOT else theirs.chmod(0o777)

    # WHEN an image is to be kept there
    SymbolCache(theirs / "symbols").put("abcd1234", library, an_image())

    # THEN nothing of that folder has changed
    assert sorted(os.listdir(victim)) == [f"abcd-0123456789abcdef{SUFFIX}", "passwd"]


def test_only_files_that_are_called_like_ours_are_removed(
    library: io.BufferedReader, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a folder of ours with files that are called otherwise, and one of ours; too much in all
    monkeypatch.setattr(symbolcache, "MAX_BYTES", 1 << 20)
    others = ["passwd", "x.symbols", "abcd-0123.symbols", "tmpab12cd", "abcd-0123456789abcdef.symbols.gz"]
    filled(directory, *others, f"abcd-0123456789abcdef{SUFFIX}")
    directory.chmod(0o700)
    (directory / f"link-0123456789abcdef{SUFFIX}").symlink_to(directory / "passwd")

    # WHEN an image is kept
    SymbolCache(directory).put("dcba4321", library, an_image())

    # THEN only ours had to go
    left = set(os.listdir(directory))
    assert {*others, f"link-0123456789abcdef{SUFFIX}"} <= left
    assert f"abcd-0123456789abcdef{SUFFIX}" not in left
    assert sum(name.startswith("dcba4321-") for name in left) == 1


def test_a_file_whose_writer_was_killed_goes_in_time(library: io.BufferedReader, directory: Path) -> None:
    # GIVEN two files that were begun, one long ago
    filled(directory, f".0123456789abcdef{SUFFIX}", f".fedcba9876543210{SUFFIX}")
    directory.chmod(0o700)
    os.utime(directory / f".0123456789abcdef{SUFFIX}", (1000, 1000))
    # WHEN an image is kept THEN the old one is gone, and the other, which may still be written, is not
    SymbolCache(directory).put("abcd1234", library, an_image())
    assert not (directory / f".0123456789abcdef{SUFFIX}").exists()
    assert (directory / f".fedcba9876543210{SUFFIX}").exists()


@pytest.mark.parametrize("level", ["cache", "cache/symbols"])
@pytest.mark.parametrize("how", ["writable by all", "writable by a group", "of somebody else"])
def test_a_directory_that_others_can_write_is_not_used(
    library: io.BufferedReader, tmp_path: Path, level: str, how: str
) -> None:
    # GIVEN a directory on the way, or the last, that somebody else could put something into
    directory = tmp_path / "cache" / "symbols"
    cache = SymbolCache(directory)
    cache.put("abcd1234", library, an_image())
    assert cache.get("abcd1234", library) is not None
    if how == "of somebody else":
        if not AS_ROOT:
            pytest.skip("only root gives a directory to somebody else; not being ours is tested by mode")
        os.chown(tmp_path / level, *SOMEBODY)
    else:
        (tmp_path / level).chmod(0o777 if how == "writable by all" else 0o770)

    # WHEN an image is asked for, or to be kept
    # THEN what is there is not read, and nothing comes
    assert cache.get("abcd1234", library) is None
    cache.put("dcba4321", library, an_image())
    assert len(list(directory.iterdir())) == 1


def test_a_directory_of_all_in_which_everybody_has_their_own_is_on_the_way(
    library: io.BufferedReader, tmp_path: Path
) -> None:
    # GIVEN a directory like /tmp
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    cache = SymbolCache(tmp_path / "tmp" / "mine")
    # WHEN an image is kept below it THEN it is there
    cache.put("abcd1234", library, an_image())
    assert cache.get("abcd1234", library) is not None


def test_columns_are_a_table() -> None:
    table = SymbolTable.of_columns(array("Q", [16]), array("Q", [32]), array("Q", [1]), b"\0name\0")
    found = table.find(20)
    assert found is not None
    assert found.name == "name"
