"""Time that may be spent on reading files of a process, so that a sampler stays a small load.

In: CPU time that was spent. Out: whether more may be read now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

READING_CREDIT_S: Final = 10.0
"""Time for reading files of a process that may be spent at once, as at the beginning."""
READING_SHARE: Final = 0.02
"""Part of a core that reading files may take in the long run; what comes too soon is read later."""


class ReadingCredit:
    """Time that reading a target's files may take: some at once, then a share of what goes by.

    A context manager that counts the time spent in it. `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left_s = READING_CREDIT_S
        self._seen = clock()
        self._began = 0.0

    @property
    def left(self) -> bool:
        """Whether something may be read now."""
        now = self._clock()
        self._left_s = min(READING_CREDIT_S, self._left_s + READING_SHARE * (now - self._seen))
        self._seen = now
        return self._left_s > 0

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        self._left_s -= self._clock() - self._began
