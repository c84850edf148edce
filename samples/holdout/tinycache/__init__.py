"""A cache as a library ships it: every method takes the lock of the cache."""

from __future__ import annotations

import threading
from collections import OrderedDict


class LRU:
    """Least recently used entries go first."""

    def __init__(self, size: int) -> None:
        self._entries: OrderedDict[str, int] = OrderedDict()
        self._size = size
        self._mutex = threading.RLock()

    def get(self, key: str) -> int | None:
        """The value, moved to the end."""
        with self._mutex:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: str, value: int) -> None:
        """A new value."""
        with self._mutex:
            self._entries[key] = value
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
