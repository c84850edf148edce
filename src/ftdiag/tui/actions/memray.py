"""The key that attaches memray: what it costs, the question, how far it is.

In: a `MemoryControl`. Out: notices; what it wrote comes with the next snapshot.
"""

from __future__ import annotations

import time
from typing import Final

from textual import work

from ftdiag.errors import FtdiagError
from ftdiag.tui.base import LONG_NOTICE_S, CockpitBase, one_line
from ftdiag.tui.memory import MemoryDialog

MEMRAY_POLL_S: Final = 0.3


class MemrayActions(CockpitBase):
    """The part of the application that is about memray."""

    def action_memray(self) -> None:
        """Say what attaching memray costs, and ask; if it is attached, how far it is."""
        if self._memory_words is not None:
            self.say(self._memory_words)
        elif self._memory is None or not self._view.live:
            self.say("memray can be attached to a running process only: ftdiag attach PID", alarm=True)
        else:
            self._memory_words = "checking whether memray can be attached"
            self.say(self._memory_words)
            self._price_memray()

    @work(thread=True, exclusive=True, group="memray")
    def _price_memray(self) -> None:
        """Ask what it costs; takes a second."""
        assert self._memory is not None
        try:
            price = self._memory.price()
        except FtdiagError as error:
            self.call_from_thread(self._refuse_memray, "\n".join(filter(None, (error.what, error.hint))))
        except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
            self.call_from_thread(self._refuse_memray, f"memray: {one_line(error)}")
        else:
            self.call_from_thread(self._ask_for_memray, price)

    def _refuse_memray(self, words: str) -> None:
        self._memory_words = None
        self.say(words, alarm=True, seconds=LONG_NOTICE_S)

    def _ask_for_memray(self, price: tuple[str, ...]) -> None:
        assert self._memory is not None

        def answered(yes: bool | None) -> None:
            self._memory_words = None
            if yes:
                self._follow_memray(begin=True)

        self.push_screen(MemoryDialog(price, self._memory.duration_s), answered)

    @work(thread=True, exclusive=True, group="memray")
    def _follow_memray(self, *, begin: bool) -> None:
        """Attach it, and say how it goes. The only place that calls it from here on."""
        assert self._memory is not None
        try:
            if begin:
                self._memory.attach()
            while not self._stopping:
                words = self._memory.poll()
                over = words is None or not self._memory.busy
                self.call_from_thread(self._hear_of_memray, words, over)
                if over:
                    return
                time.sleep(MEMRAY_POLL_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
            if not self._stopping:
                self.call_from_thread(self._hear_of_memray, f"memray: {one_line(error)}", True)

    def _hear_of_memray(self, words: str | None, over: bool) -> None:
        """Tell what is new: each phase once, the end for longer."""
        before, self._memory_words = self._memory_words, None if over else words
        if words is None:
            return
        if over:
            self.say(words, seconds=LONG_NOTICE_S)
        elif before is None or before.partition(":")[0] != words.partition(":")[0]:
            self.say(words)
