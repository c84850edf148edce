"""What threads share: objects that lines contend for, whose locks are spun for, and whose are waited for.

In: what native samples of a window say, and who waited for which object's lock. Out: its shared objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from ftdiag.errors import TargetGone
from ftdiag.model import SharedObject, ThreadState
from ftdiag.sampling.oncore import OnCore
from ftdiag.sampling.threads import SampledThread
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.lockobjects import LockObjects
from ftdiag.sources.python.paths import PathSearch
from ftdiag.sources.python.sharedobjects import AtomicLines, SharedObjectReader, SpunLocks, with_makers


class Sharing:
    """Looks at the objects of one target; one search for paths serves all."""

    def __init__(self, interpreter: InterpreterReader, locks: LockReader, leaves: Sequence[int]) -> None:
        """`leaves` has the innermost frame's id of every stack id, 0 where there is none; it may grow."""
        reader, paths = SharedObjectReader(interpreter), PathSearch(interpreter)
        self.lines = AtomicLines(reader, leaves, paths)
        self._spun = SpunLocks(reader, leaves, paths)
        self._waited = LockObjects(interpreter, paths)
        self._locks = locks

    def look(self, ran: Iterable[SampledThread], now_ns: int) -> None:
        """Name what threads contend for on the line that one of these is in."""
        on_cpu = int(ThreadState.ON_CPU)
        self.lines.look(
            (
                (thread.observation[1], thread.innermost)
                for thread in ran
                if thread.innermost is not None
                and thread.observation is not None
                and thread.observation[0] == on_cpu
            ),
            now_ns,
        )

    def window(
        self,
        counts: Mapping[tuple[int, int, int, int], int] | None,
        on_core: OnCore | None,
        waited_for: Collection[int],
        idents: Mapping[int, int],
        now_ns: int,
    ) -> tuple[tuple[int, SharedObject], ...]:
        """The shared objects of the window that ends, by the frame of their line, with who made them.

        `counts` are its native samples, `waited_for` the keys of locks that threads wait for now, `idents`
        what `threading.get_ident()` is in each thread. Of a target that is gone it has what was looked at
        before: its last window is written all the same. Raises PermissionRefused.
        """
        shared: tuple[tuple[int, SharedObject], ...] = ()
        with suppress(TargetGone):
            if counts is not None and on_core is not None:
                shared = self.lines.window(counts, on_core.places, now_ns)
                shared += self._spun.window(on_core.spun, idents, self._locks.named_places)
            shared += self._waited.window(self._locks.take_objects(waited_for))
        return with_makers(shared, idents)
