"""The GIL and the cyclic collector.

In: an inspection of a process. Out: judgements of fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ftdiag.sources.python.collector import generations
from ftdiag.sources.python.layouts import (
    CollectorLayout,
)
from ftdiag.sources.python.selfcheck.inspection import Inspection, Wrong


class GilAndCollector(Inspection):
    """Checks of the GIL and the collector."""

    def gil_and_collector(self) -> None:
        layout = self._layout
        needed = "runtime_state.interpreters_head interpreter_state.gil_runtime_state"

        def small(offset: int | None, allowed: tuple[int, ...]) -> Callable[[], str]:
            def check() -> str:
                assert offset is not None
                data = self._memory.read(self._interpreter + offset, 4)
                found = int.from_bytes(data, "little", signed=True)
                if found not in allowed:
                    raise Wrong(f"{found} is none of {allowed}")
                return f"{found}"

            return check

        if layout.interpreter_gil_enabled is not None:
            switch = small(layout.interpreter_gil_enabled, (0, 1, 0x7FFF_FFFF))
            self._judge("interpreter_state.gil_runtime_state_enabled", needed, switch)
        self._judge(
            "interpreter_state.gil_runtime_state_locked",
            needed,
            small(layout.interpreter_gil_locked, (-1, 0, 1)),
        )

        def holder() -> str:
            found = self._word(self._interpreter + layout.interpreter_gil_holder)
            if found and found not in self._threads:
                raise Wrong(f"{found:#x} is no thread state")
            return "a thread state" if found else "nobody"

        self._judge("interpreter_state.gil_runtime_state_holder", f"{needed} thread_state.next", holder)
        collector = "runtime_state.interpreters_head"
        flag = small(layout.interpreter_gc + layout.gc_collecting, (0, 1))
        self._judge("gc.collecting", collector, flag)
        if layout.collector is not None and self._good("runtime_state.interpreters_head"):
            self._statistics(layout.collector, collector)

    def _statistics(self, layout: CollectorLayout, needed: str) -> None:
        def counts() -> str:
            address = self._word(self._interpreter + layout.pointer)
            data = self._memory.read(address, layout.size)
            found = generations(data, layout)
            if found is None:
                raise Wrong("no statistics of a collector")
            (sequence,) = struct.unpack_from("<I", data, layout.sequence)
            collections = sum(each.count for each in found)
            if sequence != 2 * collections & 0xFFFF_FFFF:
                raise Wrong(f"{collections} collections, but {sequence} changes of their statistics")
            for each in found:
                if (each.count > 0) != (each.total_ns > 0):
                    raise Wrong(f"{each.count} collections in {each.total_ns / 1e9} s")
            return f"{collections} collections in {sum(each.total_ns for each in found) / 1e9:.6f} s"

        entries = " ".join(
            f"struct gc_generation_stats.{name}"
            for name in ("ts_start", "ts_stop", "collections", "collected", "candidates", "duration")
        )
        self._judge(
            f"gc.generation_stats interpreter_state.gc {entries} struct gc_stats.old"
            " struct gc_stats.update_seq sizeof(struct gc_generation_stats)",
            f"{needed} gc.generation_stats_size",
            counts,
        )
