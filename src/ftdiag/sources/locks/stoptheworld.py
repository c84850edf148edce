"""Who asked for a stop-the-world pause that is on right now.

In: the thread states of the target, at a moment when one of them is suspended. Out: the thread state that
asked, or None.

Where it stands: `struct _stoptheworld_state {PyMutex mutex; bool requested, world_stopped, is_global; PyEvent
stop_event; Py_ssize_t thread_countdown; PyThreadState *requester;}` (Include/internal/pycore_interp.h in
3.13, pycore_interp_structs.h from 3.14), once in the interpreter state (gc and most others) and once in the
runtime (fork and what concerns all interpreters). No version publishes where. The layout knows it from
headers; it is searched during a pause as well, in case a build has it elsewhere: the address of a thread
state, 16 bytes behind a locked mutex whose next byte says "requested". What was found is checked so at every
use; nothing is guessed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.model import STOP_TURN
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.walking import PythonThread

MAX_SEARCHES: Final = 20
"""Pauses in which the place is searched, until it is given up: a short pause may be over by then."""
MAX_SEARCHED_BYTES: Final = 1 << 20
"""Part of a runtime or interpreter state that is searched."""
MAX_SEARCHED_THREADS: Final = 256
"""Threads that are taken for the one that asked, while searching."""
MAX_INTERPRETERS: Final = 16
MAX_PLACES_LOOKED_AT: Final = 10_000
"""Places of one search that have the address of a thread state; there are a few for each."""
MAX_PLACES: Final = 64

_STATE: Final = struct.Struct("<BBBBB3xqQ")
"""mutex, requested, world_stopped, is_global, stop_event, thread_countdown, requester."""
_REQUESTER: Final = 16
_MUTEX_LOCKED: Final = 1


class StopTheWorldReader:
    """Finds the thread that asked for a pause, in one target."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self.places: dict[int, int] = {}
        """Where the states of pauses lie, and their size."""
        self._searches = 0

    def requester(
        self, threads: Sequence[PythonThread], read: Callable[[int, int], bytes | None] | None = None
    ) -> PythonThread | None:
        """Which of the threads has stopped the others; `None` if the pause is over, or it cannot be said.

        `read` gives what was at an address, of a size; as it is now without it. Raises TargetGone,
        PermissionRefused.
        """
        by_address = {thread.address: thread for thread in threads}
        if not self.places:
            self.places.update(dict.fromkeys(self._known_places(), _STATE.size))
        read = read or self._read
        found = self._at(self.places, by_address, read)
        if found is None and self._searches < MAX_SEARCHES:
            self._searches += 1
            self._search(by_address)
            found = self._at(self.places, by_address, read)
        return found

    def _known_places(self) -> list[int]:
        """Where the layout says that the states of pauses lie."""
        layout = self._interpreter.layout
        try:
            interpreters = [ref.address for ref in self._interpreter.interpreters()[:MAX_INTERPRETERS]]
        except MemoryReadError:
            interpreters = []
        inside = [at for at, _, label in layout.interpreter_locks if label == STOP_TURN]
        whole = [at for at, _, label in layout.runtime_locks if label == STOP_TURN]
        return [
            *(address + at for address in interpreters for at in inside),
            *(self._interpreter.runtime.address + at for at in whole),
        ]

    def _read(self, address: int, size: int) -> bytes | None:
        return self._memory.read_many([(address, size)])[0]

    def _at(
        self,
        places: Iterable[int],
        threads: dict[int, PythonThread],
        read: Callable[[int, int], bytes | None],
    ) -> PythonThread | None:
        for place in places:
            data = read(place, _STATE.size)
            if data is None:
                continue
            requester = _requester(data, 0, len(threads))
            if requester in threads:
                return threads[requester]
        return None

    def _search(self, threads: dict[int, PythonThread]) -> None:
        layout = self._interpreter.layout
        spans = [(self._interpreter.runtime.address, layout.runtime_size)]
        try:
            refs = self._interpreter.interpreters()[:MAX_INTERPRETERS]
        except MemoryReadError:
            refs = []
        spans += [(ref.address, layout.interpreter_size) for ref in refs]
        left = MAX_PLACES_LOOKED_AT
        for start, size in spans:
            try:
                data = self._memory.read_up_to(start, min(size, MAX_SEARCHED_BYTES))
            except MemoryReadError:
                continue
            for address in list(threads)[:MAX_SEARCHED_THREADS]:
                word = address.to_bytes(8, "little")
                position = data.find(word)
                while position >= 0 and left > 0 and len(self.places) < MAX_PLACES:
                    left -= 1
                    place = position - _REQUESTER
                    new = place >= 0 and not place % 8 and start + place not in self.places
                    if new and _requester(data, place, len(threads)) == address:
                        self.places[start + place] = _STATE.size
                    position = data.find(word, position + 8)


def _requester(data: bytes, place: int, threads: int) -> int:
    """The requester in what lies at `place` if that can be the state of a pause that is on; else 0."""
    mutex, requested, stopped, is_global, event, countdown, requester = _STATE.unpack_from(data, place)
    plausible = (
        mutex & _MUTEX_LOCKED
        and mutex <= 3
        and requested == 1
        and stopped <= 1
        and is_global <= 1
        and event <= 3
        and 0 <= countdown <= threads
    )
    return requester if plausible else 0
