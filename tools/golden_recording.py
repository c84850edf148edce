"""Writes a small recording with the code of a checkout: `python -m tools.golden_recording CHECKOUT FILE`.

In: a folder with `src` and `tests` of this or of an earlier version (`git archive`). Out: a recording with
everything that version could write. tests/golden/recordings has one of every minor version of the schema.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def main(checkout: Path, file: Path) -> None:
    """Write `file`, which must not exist, with the code in `checkout`."""
    sys.path[:0] = [str(checkout / "src"), str(checkout / "tests")]
    import builders
    from ftdiag import model
    from ftdiag.recording.schema import SCHEMA_MINOR

    target: dict[str, Any] = {}
    if SCHEMA_MINOR >= 4:
        prefix = "/srv/lib/python3.14/site-packages/flask"
        target["libraries"] = (model.Library(prefix, "Flask", "3.0.3"),)
    native = {"native": "199 samples a second of machine code"} if SCHEMA_MINOR >= 1 else {}
    described = builders.a_target(**target)
    builder = builders.RecordingBuilder(file, target=described, rate_hz=100.0, **native)  # type: ignore[arg-type]
    spent, lock = builders.spent, builders.a_lock()
    work = "/srv/app.py:10 work < /srv/app.py:3 main"
    put = "/srv/app.py:12 put < /srv/app.py:3 main"
    join = "/srv/app.py:20 wait < /srv/app.py:1 <module>"
    for _ in range(3):
        threads = {
            "MainThread": [spent(100, "idle", at=join, detail="Thread.join")],
            "worker-1": [
                spent(60, "on_cpu", at=work),
                spent(40, "lock", at=put, lock=lock, holder="worker-2", syscall="futex"),
            ],
            "worker-2": [
                spent(40, "io", at=work, syscall="recvfrom", detail="socket"),
                spent(60, "on_cpu", at=work),
            ],
        }
        if SCHEMA_MINOR >= 3:
            threads["worker-3"] = [spent(50, "native_lock", at=put), spent(50, "unknown", at=put)]
        more: dict[str, Any] = {"gaps": [model.Gap("stack", "it changed while it was read", 2)]}
        if SCHEMA_MINOR >= 1:
            more["native"] = [
                ("worker-1", work, "work", "PyLong_Add", 30),
                ("worker-2", work, "atomic", "_Py_DecRefShared", 12),
            ]
            if SCHEMA_MINOR >= 9:
                more["native"] += [(None, "", "work", "PyLong_Add", 3), (None, "", "alloc", "mi_malloc", 1)]
            facts: tuple[Any, ...] = ()
            if SCHEMA_MINOR >= 7:
                counting = model.Counting.SHARED
                facts = (model.ObjectFacts(0x7F0000002000, counting, maker=0, path="app.CONFIG"),)
            config = model.SharedObject("CONFIG", "dict", model.Confidence.KNOWN, *facts)
            more["shared"] = [("/srv/app.py:10 work", config)]
        if SCHEMA_MINOR >= 2:
            kinds = {model.MemoryKind.PYTHON_HEAPS: 40, model.MemoryKind.FILES: 9}
            by_thread = {0: (80, 900), 1: (64, 2000)}
            more["memory"] = builders.a_reading(kinds, by_thread, at_ns=builder.now_ns)
        if SCHEMA_MINOR >= 5:
            own = model.GenerationCollections(0, 3, 30_000_000, 9_000, 5)
            more["collections"] = model.Collections((own,))
        if SCHEMA_MINOR >= 6:
            compiler = model.OtherProcess(4711, "cc1", 400_000_000)
            more["process"] = model.ProcessCounters(
                rss_bytes=64 << 20,
                threads=len(threads),
                ftdiag_ns=5_000_000,
                others=(compiler,),
                cpu_ns=1_400_000_000 if SCHEMA_MINOR >= 9 else None,
            )
        if SCHEMA_MINOR >= 7:
            count = model.SharedPlace("attribute", "Visits.count", "Visits", 0x7F0000001000)
            pair = {"count": 1, "other": "worker-2", "other_stack": put}
            more["updates"] = [
                (count, "worker-1", put, {"count": 4, "guards": (4096,), "guard_label": "self._lock"}),
                (count, "worker-2", put, {"count": 2}),
                (count, "worker-1", work, pair),
            ]
        builder.window(threads, **more)
    builder.end()
    print(f"{file}: schema 1.{SCHEMA_MINOR}, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
