"""The functions of large libraries, kept on disk between sessions.

In: images as `symbols` reads them. Out: the same, six times as fast: reading and sorting the functions of a
library with 145,000 of them takes the sampler 268 ms, out of the cache 42 ms. A Python interpreter has 7,000
and takes 8 ms, which is not worth a file.

A file is known by its build id, if it has one, and by what stat says of it, so that what was rebuilt or only
looks alike is read anew. Whatever else lies in the directory is hostile: files of others, links, and what is
damaged are left alone. Nothing here fails: without a directory that can be written there is no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
import zlib
from array import array
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from ftdiag.sources.elf import MAX_SEGMENTS
from ftdiag.sources.symbols import MAX_SYMBOLS, Image, SymbolTable

LEAST_SYMBOLS: Final = 20_000
"""Images with fewer functions are read again as fast."""
MAX_FILE_BYTES: Final = 128 << 20
MAX_BYTES: Final = 256 << 20
"""All files together; those that were not used for longest go first."""
MAX_HEADER_BYTES: Final = 64 << 10
MAX_WORD: Final = 1 << 63
SUFFIX: Final = ".symbols"
_MAGIC: Final = "ftdiag symbols 1"


def default_directory() -> Path | None:
    """Where the user's caches are; `None` if there is no such place."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "ftdiag" / "symbols" if os.path.isabs(home) else None


class SymbolCache:
    """A directory of images. `directory` is made when something is kept; `None` keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def get(self, build_id: str | None, stream: BinaryIO) -> Image | None:
        """The image of an open file; `None` if it is not known."""
        path = self._path(build_id, stream)
        data = None if path is None else _read_own(path)
        image = None if data is None else unpacked(data)
        if image is not None and path is not None:
            with suppress(OSError):
                os.utime(path)
        return image

    def put(self, build_id: str | None, stream: BinaryIO, image: Image) -> None:
        """Keep the image of an open file, if that is worth it."""
        path = self._path(build_id, stream)
        if path is None or len(image.symbols) < LEAST_SYMBOLS:
            return
        data = packed(image)
        if len(data) > MAX_FILE_BYTES:
            return
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_room(path.parent, MAX_BYTES - len(data))
            descriptor, name = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.replace(name, path)
            except OSError:
                os.unlink(name)
                raise

    def _path(self, build_id: str | None, stream: BinaryIO) -> Path | None:
        build_id = build_id or "none"
        if self._directory is None or not build_id.isalnum():
            return None
        try:
            at = os.fstat(stream.fileno())
        except (OSError, ValueError):
            return None
        identity = f"{at.st_dev} {at.st_ino} {at.st_size} {at.st_mtime_ns} {at.st_ctime_ns}"
        known = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return self._directory / f"{build_id[:64]}-{known}{SUFFIX}"


def _read_own(path: Path) -> bytes | None:
    """The bytes of a file that this user wrote and nobody else can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    at = os.fstat(descriptor)
    ours = stat.S_ISREG(at.st_mode) and at.st_uid == os.geteuid() and not at.st_mode & 0o022
    if not ours or at.st_size > MAX_FILE_BYTES:
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(MAX_FILE_BYTES)
        except OSError:
            return None


def _make_room(directory: Path, allowed: int) -> None:
    """Remove what was not used for longest until the rest is small enough."""
    kept = [
        (entry.stat().st_mtime_ns, entry.stat().st_size, entry.path)
        for entry in os.scandir(directory)
        if entry.is_file(follow_symlinks=False)
    ]
    total = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if total <= allowed:
            break
        os.unlink(path)
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
        machine, stripped, count = str(header["machine"]), bool(header["stripped"]), int(header["symbols"])
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
    return Image(machine, SymbolTable.of_columns(starts, ends, offsets, data[names_at:]), segments, stripped)
