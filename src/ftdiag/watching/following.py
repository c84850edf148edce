"""A recorder that goes on in a thread of its own while a screen shows what it sees, and what was seen last.

In: a `Recorder`. Out: the processes as of the last look, also after all of them have ended, and the lines
that were said meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ftdiag.analysis.fleet import Fleet, Member, fleet_of
from ftdiag.errors import FtdiagError
from ftdiag.ownthreads import start_thread
from ftdiag.watching.recorder import Recorder

STEP_S: Final = 0.1
JOIN_S: Final = 10.0
MAX_NOTES: Final = 20
MANY_NOTES: Final = 3
"""More lines at once than this are one line: workers that all end say so each."""


class Following:
    """What a recorder sees, for a screen or a report. `failure` is what ended it early."""

    def __init__(self) -> None:
        self._said: deque[str] = deque(maxlen=MAX_NOTES)
        self._members: tuple[Member, ...] = ()
        self._last: dict[str, Member] = {}
        """Those that were there when anybody was there last."""
        self._rings: dict[str, Path] = {}
        self.failure: FtdiagError | None = None

    def say(self, words: str) -> None:
        """Keep a line for the screen; the last ones, where nobody takes them."""
        self._said.append(words)

    @contextmanager
    def follow(self, recorder: Recorder) -> Iterator[None]:
        """Let it step until this is left; nobody else may use it meanwhile.

        Raises MemoryError where there is no room for the thread.
        """
        leave = threading.Event()
        thread = start_thread(lambda: self._run(recorder, leave), "processes")
        try:
            yield
        finally:
            leave.set()
            thread.join(JOIN_S)

    def _run(self, recorder: Recorder, leave: threading.Event) -> None:
        while not leave.wait(STEP_S):
            try:
                recorder.step()
            except FtdiagError as error:
                self.failure = error
                return
            self.take(recorder)

    def take(self, recorder: Recorder) -> None:
        """Take what it sees now."""
        running = {name_of(pid): each for pid, each in recorder.watched.items() if not each.gone}
        self._rings = {name: each.ring for name, each in running.items() if each.ring is not None}
        members = tuple(
            Member(name, each.snapshot) for name, each in running.items() if each.snapshot is not None
        )
        if running:
            # A server whose workers end one after the other has had them, until the last of them has ended.
            kept = {} if members else self._last
            self._last = {**kept, **{member.name: member for member in members}}
        self._members = members

    @property
    def over(self) -> bool:
        """Whether all that were seen have ended."""
        return bool(self._last) and not self._members and not self._rings

    def fleet(self) -> Fleet:
        """The processes that run; where none does, those that ran last."""
        return fleet_of(self._members or self._last.values())

    def ring(self, name: str) -> Path | None:
        """The recording of a process that runs, by its name."""
        return self._rings.get(name)

    def take_notes(self) -> list[str]:
        """What was said since this was asked last."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._said.popleft())
        return taken

    def words(self) -> list[str]:
        """What was said since this was asked last, in a few lines."""
        taken = self.take_notes()
        if len(taken) <= MANY_NOTES:
            return taken
        return [*taken[:MANY_NOTES], f"and {len(taken) - MANY_NOTES} lines more like these"]


def name_of(pid: int) -> str:
    """How a process is called among others."""
    return f"process {pid}"
