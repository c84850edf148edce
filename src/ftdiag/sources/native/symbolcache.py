"""The functions of libraries and of the kernel, kept on disk between sessions.

In: images as `symbols` reads them, bytes as `kernelsymbols` has them. Out: the same, six times as fast:
reading and sorting the functions of a library with 145,000 of them takes the sampler 268 ms, out of the cache
42 ms; a C library's 5,000, with the debug file they are in, 12 ms and 1 ms. Where functions have to be found
(`unnamed`), it takes some 300 ms.

A file is known by its build id, if it has one, and by what stat says of it, so that what was rebuilt or only
looks alike is read anew. The directory has to be ours alone, and so has every one on the way to it
(`opening.open_own_directory`); it is held open, and files in it are reached by name from there, never through
a link. Whatever else lies in it is hostile or somebody's: files of others, links, what is damaged and what is
not called as we call ours are neither read nor removed. Nothing here fails: without such a directory there is
no cache.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
import sys
import time
import zlib
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from ftdiag.opening import open_own_directory
from ftdiag.sources.native.elf import MAX_SEGMENTS
from ftdiag.sources.native.images import Image
from ftdiag.sources.native.symboltable import MAX_SYMBOLS, SymbolTable

LEAST_SYMBOLS: Final = 2_000
"""Images with fewer functions are read again as fast."""
MAX_FILE_BYTES: Final = 128 << 20
MAX_BYTES: Final = 256 << 20
"""All files together; those that were not used for longest go first."""
MAX_HEADER_BYTES: Final = 64 << 10
MAX_WORD: Final = 1 << 63
MAX_FILES: Final = 10_000
"""Files of the directory that are looked at."""
SUFFIX: Final = ".symbols"
ABANDONED_S: Final = 3600.0
"""A file that was begun so long ago and has no name yet is one whose writer was killed."""
_OURS: Final = re.compile(r"(?P<name>\.[0-9a-f]{16}|[0-9A-Za-z]{1,64}-[0-9a-f]{16})\.symbols", re.ASCII)
_MAGIC: Final = "ftdiag symbols 3"
"""Changes with what is kept, and with how functions without names are found (`unnamed`)."""
_BYTES_MAGIC: Final = "ftdiag bytes 1"
_CHECKED_BYTES: Final = len(_BYTES_MAGIC) + 10


def default_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where the user's caches are; `None` if there is no such place.

    Under sudo, which may leave the user's HOME and XDG_CACHE_HOME as they are, it is where root's are.
    """
    if os.geteuid() == 0 and "SUDO_UID" in environment:
        with suppress(KeyError):
            return Path(pwd.getpwuid(0).pw_dir) / ".cache" / "ftdiag" / "symbols"
        return None
    home = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME") or "", ".cache")
    return Path(home) / "ftdiag" / "symbols" if os.path.isabs(home) else None


class SymbolCache:
    """A directory of images. `directory` is made when something is kept; `None` keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def get(self, build_id: str | None, stream: BinaryIO) -> Image | None:
        """The image of an open file; `None` if it is not known."""
        name = _name(build_id, stream)
        with suppress(OSError), self._opened(make=False) as directory:
            data = None if name is None else _read_own(directory, name)
            return None if data is None else unpacked(data)
        return None

    def put(self, build_id: str | None, stream: BinaryIO, image: Image) -> None:
        """Keep the image of an open file, if that is worth it."""
        name = _name(build_id, stream)
        if name is None or (len(image.symbols) < LEAST_SYMBOLS and not image.searched):
            return
        self._write(name, packed(image))

    def get_bytes(self, name: str) -> bytes | None:
        """What was kept under a name; `None` if nothing was, or it is not what was written."""
        with suppress(OSError), self._opened(make=False) as directory:
            data = _read_own(directory, name + SUFFIX)
            if data is not None and data[:_CHECKED_BYTES] == _check_of(memoryview(data)[_CHECKED_BYTES:]):
                return data[_CHECKED_BYTES:]
        return None

    def put_bytes(self, name: str, data: bytes) -> None:
        """Keep bytes under a name: letters and digits, "-", 16 hexadecimal digits."""
        assert _OURS.fullmatch(name + SUFFIX), name
        self._write(name + SUFFIX, _check_of(data) + data)

    def _write(self, name: str, data: bytes) -> None:
        """Write a whole file, or none."""
        if len(data) > MAX_FILE_BYTES:
            return
        with suppress(OSError), self._opened(make=True) as directory:
            _make_room(directory, MAX_BYTES - len(data))
            begun = f".{os.urandom(8).hex()}{SUFFIX}"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(begun, flags, 0o600, dir_fd=directory)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.replace(begun, name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.unlink(begun, dir_fd=directory)
                raise

    @contextmanager
    def _opened(self, *, make: bool) -> Iterator[int]:
        """The directory. Raises OSError where there is none that is ours alone."""
        if self._directory is None:
            raise FileNotFoundError
        directory = open_own_directory(self._directory, make=make)
        try:
            yield directory
        finally:
            os.close(directory)


def digest(data: bytes) -> str:
    """What stands for some bytes in a name: 16 letters and digits."""
    try:
        from _blake2 import blake2b  # hashlib loads OpenSSL: 3 ms that a start would wait for
    except ImportError:
        from hashlib import blake2b
    return blake2b(data, digest_size=8).hexdigest()


def _check_of(data: bytes | memoryview) -> bytes:
    """What tells that bytes are all there, and of this form."""
    return f"{_BYTES_MAGIC} {zlib.crc32(data):08x}\n".encode()


def _name(build_id: str | None, stream: BinaryIO) -> str | None:
    """What the image of an open file is called."""
    build_id = build_id or "none"
    if not (build_id.isascii() and build_id.isalnum()):
        return None
    try:
        at = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    identity = f"{at.st_dev} {at.st_ino} {at.st_size} {at.st_mtime_ns} {at.st_ctime_ns}"
    return f"{build_id[:64]}-{digest(identity.encode())}{SUFFIX}"


def _is_own(at: os.stat_result) -> bool:
    """Whether it is a file that this user wrote and nobody else can."""
    return stat.S_ISREG(at.st_mode) and at.st_uid == os.geteuid() and not at.st_mode & 0o022


def _read_own(directory: int, name: str) -> bytes | None:
    """The bytes of a file of ours, which is then one that was just used. Raises OSError."""
    if not _is_own(os.stat(name, dir_fd=directory, follow_symlinks=False)):
        return None
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
        at = os.fstat(file.fileno())
        if not _is_own(at) or at.st_size > MAX_FILE_BYTES:
            return None
        os.utime(file.fileno())
        return file.read(MAX_FILE_BYTES)


def _make_room(directory: int, allowed: int) -> None:
    """Remove what was not used for longest, of ours, until the rest is small enough. Raises OSError."""
    kept: list[tuple[int, int, str]] = []
    # The descriptor of the listing: that of the directory cannot be read from.
    listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(listing) as entries:
            for _, entry in zip(range(MAX_FILES), entries, strict=False):
                ours = _OURS.fullmatch(entry.name)
                if ours is None:
                    continue
                at = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                if not _is_own(at):
                    continue
                if not ours["name"].startswith("."):
                    kept.append((at.st_mtime_ns, at.st_size, entry.name))
                elif at.st_mtime < time.time() - ABANDONED_S:
                    os.unlink(entry.name, dir_fd=directory)
    finally:
        os.close(listing)
    total = sum(size for _, size, _ in kept)
    for _, size, name in sorted(kept):
        if total <= allowed:
            break
        os.unlink(name, dir_fd=directory)
        total -= size


# --- the form of a file ----------------------------------------------------------------------------------


def packed(image: Image) -> bytes:
    """A line of JSON; starts, ends and offsets of names (8 bytes each, low byte first); the names."""
    columns = image.symbols.columns
    words = []
    for column in columns[:3]:
        copied = array("Q", column)
        if sys.byteorder == "big":
            copied.byteswap()
        words.append(copied.tobytes())
    body = b"".join((*words, columns[3]))
    header = {
        "form": _MAGIC,
        "machine": image.machine,
        "stripped": image.stripped,
        "searched": image.searched,
        "hides": image.hides,
        "segments": image.segments,
        "symbols": len(image.symbols),
        "crc": zlib.crc32(body),
    }
    return json.dumps(header).encode() + b"\n" + body


def unpacked(data: bytes) -> Image | None:
    """The image in a file; `None` if it is damaged or of another form."""
    end = data.find(b"\n", 0, MAX_HEADER_BYTES)
    if end < 0:
        return None
    try:
        header = json.loads(data[:end])
        if header["form"] != _MAGIC or header["crc"] != zlib.crc32(memoryview(data)[end + 1 :]):
            return None
        machine, count = str(header["machine"]), int(header["symbols"])
        stripped, searched, hides = (bool(header[name]) for name in ("stripped", "searched", "hides"))
        segments = tuple((int(at), int(address), int(size)) for at, address, size in header["segments"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    names_at = end + 1 + 24 * count
    if not 0 <= count <= MAX_SYMBOLS or names_at > len(data) or len(segments) > MAX_SEGMENTS:
        return None
    columns = []
    for number in range(3):
        column = array("Q")
        column.frombytes(data[end + 1 + 8 * count * number : end + 1 + 8 * count * (number + 1)])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
    starts, ends, offsets = columns
    if count and (max(ends) > MAX_WORD or max(starts) > MAX_WORD or max(offsets) > len(data)):
        return None
    symbols = SymbolTable.of_columns(starts, ends, offsets, data[names_at:])
    return Image(machine, symbols, segments, stripped, searched, hides)
