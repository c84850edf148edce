"""JSON that is written piece by piece, so that a long recording need not be held.

In: values and columns. Out: ASCII text: what would not be UTF-8 (lone surrogates) is a \\u escape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import IO, Any, Final

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=True)
PIECE: Final = 1 << 16
"""Elements that are put together before they are written."""


def text_of(value: Any) -> str:
    """A value as JSON on one line."""
    return _ENCODER.encode(value)


class JsonWriter:
    """An object whose members are written one after the other."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._first = [True]

    def put(self, text: str) -> None:
        """Text as it is."""
        self._out.write(text.encode("ascii"))

    def begin(self, sign: str, key: str | None = None) -> None:
        """An object or array, `{` or `[`."""
        self.put(self._before(key) + sign)
        self._first.append(True)

    def end(self, sign: str) -> None:
        """Its end."""
        self._first.pop()
        self.put(sign)

    def member(self, key: str | None, value: Any) -> None:
        """A member of the object that is open (an element of an array without `key`)."""
        self.put(self._before(key) + text_of(value))

    def elements(self, texts: Iterable[str]) -> None:
        """Elements of the array that is open, which are JSON already."""
        pending: list[str] = []
        for text in texts:
            pending.append(text)
            if len(pending) >= PIECE:
                self._put_all(pending)
                pending = []
        self._put_all(pending)

    def array(self, key: str, texts: Iterable[str]) -> None:
        """A member that is an array of what is JSON already."""
        self.begin("[", key)
        self.elements(texts)
        self.end("]")

    def _put_all(self, texts: list[str]) -> None:
        if texts:
            self.put(self._before(None) + ",".join(texts))

    def _before(self, key: str | None) -> str:
        comma = "" if self._first[-1] else ","
        self._first[-1] = False
        return comma if key is None else f"{comma}{text_of(key)}:"
