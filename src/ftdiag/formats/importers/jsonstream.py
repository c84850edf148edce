"""JSON that is too large to be taken in whole: objects and arrays are walked, single values are decoded.

In: a binary stream. Out: keys, elements and bounded values, in the order of the file.
Everything is bounded: a single value by MAX_VALUE_BYTES, nesting by the decoder's own limit.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress, how_far

CHUNK_BYTES: Final = 1 << 20
MAX_VALUE_CHARACTERS: Final = 16 << 20
"""Longest single value (a number, a text, an object that is not walked)."""
MAX_FILE_BYTES: Final = 4 << 30
LONGEST_NUMBER_TAIL: Final = 64
_OF_NUMBERS: Final = "0123456789.eE+-"
_SPACE: Final = " \t\r\n"


class JsonStream:
    """Walks one JSON document. Raises RecordingError for what is no JSON, cut short, or too large."""

    def __init__(self, path: Path, stream: IO[bytes], progress: Progress | None = None) -> None:
        self._path = path
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._value = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False
        self._progress = progress
        size = path.stat().st_size
        self._size = max(1, size)
        if size > MAX_FILE_BYTES:
            raise RecordingError(
                f"{path} is larger than {MAX_FILE_BYTES >> 30} GiB",
                "Record a shorter time, or at a lower rate.",
            )

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text):
                if text[at] not in _SPACE:
                    self._at = at
                    return text[at]
                at += 1
            self._at = at
            if not self._more():
                return ""

    def members(self) -> Iterator[str]:
        """The keys of the object that comes; after each, its value has to be taken (or `skip`ped)."""
        self._expect("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise self._broken("a key is no text")
            self._expect(":")
            yield key
            if self._comma_or("}"):
                return

    def elements(self) -> Iterator[None]:
        """As many times as the array that comes has elements; each has to be taken."""
        self._expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield
            if self._comma_or("]"):
                return

    def value(self) -> Any:
        """The value that comes, whole."""
        self.peek()
        while True:
            try:
                value, end = self._value(self._text, self._at)
            except RecursionError:
                raise self._broken("it is nested too deeply") from None
            except ValueError as error:
                if len(self._text) - self._at > MAX_VALUE_CHARACTERS:
                    raise self._broken("a value is too long") from None
                if not self._more():
                    raise self._broken("it is cut short" if self._near_end(error) else str(error)) from None
                continue
            # A number may go on behind what has been read: "0." is a 0 as far as it goes.
            if isinstance(value, int | float) and self._may_go_on(end) and self._more():
                continue
            self._at = end
            return value

    def skip(self) -> None:
        """Pass over the value that comes, without keeping it."""
        following = self.peek()
        if following == "{":
            for _ in self.members():
                self._skip_inner()
        elif following == "[":
            for _ in self.elements():
                self._skip_inner()
        else:
            self.value()

    def _skip_inner(self) -> None:
        self.value()

    # --- parts -------------------------------------------------------------------------------------

    def _expect(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self._broken(
                "it is cut short" if not found else f"{character!r} was expected, not {found!r}"
            )
        self._at += 1

    def _comma_or(self, end: str) -> bool:
        found = self.peek()
        if found not in (",", end) or not found:
            raise self._broken("it is cut short" if not found else f"{found!r} was not expected")
        self._at += 1
        return found == end

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            # Doubled while one value does not fit: else a long value would be decoded again for every chunk.
            data = self._stream.read(max(CHUNK_BYTES, len(self._text) - self._at))
        except OSError as error:
            raise RecordingError(
                f"{self._path} cannot be read: {error.strerror}", "Check the disk."
            ) from None
        self._ended = not data
        self._text = self._text[self._at :] + self._decode(data, final=not data)
        self._at = 0
        if self._progress is not None:
            self._progress(how_far(self._path, self._stream.tell(), self._size))
        return True

    def _may_go_on(self, end: int) -> bool:
        return len(self._text) - end < LONGEST_NUMBER_TAIL and not self._text[end:].strip(_OF_NUMBERS)

    def _near_end(self, error: ValueError) -> bool:
        position = getattr(error, "pos", 0)
        return position >= len(self._text) - 1 or "Unterminated" in str(error)

    def _broken(self, why: str) -> RecordingError:
        return RecordingError(
            f"{self._path} is no JSON that can be read: {why[:200]}",
            "Was the program that wrote it stopped? Record once more.",
        )
