"""Programs that no rule was written or tuned with, and what a diagnosis may say of each.

Out: `HELD_OUT`. The expectations were written down before any of these programs was looked at with ftdiag, so
what `bench/diagnosis.py --held-out` prints of them is an independent measure. samples/holdout/README.md says
how to keep it one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOLDOUT: Final = Path(__file__).resolve().parent.parent / "samples" / "holdout"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A program, the rules that may be its top finding (the best first), and the cause's source line.

    Without rules it is healthy: no finding of warning or above is right. `why_not` says for a version of
    Python why nothing is expected there.
    """

    name: str
    rules: tuple[str, ...] = ()
    line: str | None = None
    why_not: tuple[tuple[str, str], ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """Where the cause is, as "file.py:12"; nothing if no line is named."""
        files = [HOLDOUT / f"{self.name}.py", *sorted(HOLDOUT.glob("*/__init__.py"))]
        return tuple(
            f"{path.name}:{number}"
            for path in files
            for number, text in enumerate(path.read_text().splitlines(), 1)
            if self.line is not None and self.line in text
        )


HELD_OUT: Final[tuple[HeldOut, ...]] = (
    # --- locks the program made ---
    HeldOut("decorated_lock", ("hot-lock",), "with _guard"),
    HeldOut("library_lock", ("hot-lock",), "with self._mutex"),
    HeldOut("semaphore_gate", ("hot-lock",), "with gate"),
    HeldOut("lock_during_io", ("hot-lock",), "journal_lock.acquire()"),
    HeldOut("many_producers", ("queue-contention",), "numbers."),
    HeldOut("log_handlers", ("logging-contention",), "logger.info"),
    # --- locks and reference counts of the interpreter ---
    HeldOut("property_dict", ("object-lock", "refcount-contention"), "server.sessions[visitor]"),
    HeldOut("counter_update", ("object-lock",), "WORDS.update"),
    HeldOut("collect_results", ("object-lock",), "results.append"),
    HeldOut("work_stealing", ("object-lock",), "todo."),
    HeldOut("dice", ("object-lock", "refcount-contention"), "random.randint"),
    HeldOut("module_constant", ("refcount-contention",), "LIMITS"),
    HeldOut("made_function", ("refcount-contention",), "is_port(value)"),
    HeldOut("closure_state", ("refcount-contention", "object-lock"), "weights[n]"),
    HeldOut("cached_lookup", ("refcount-contention", "object-lock"), "region(code)"),
    HeldOut(
        "enum_values",
        ("refcount-contention",),
        "State.NEW.value",
        why_not=(("3.15", "on 3.15 nobody counts references to members: enum-value scales there"),),
    ),
    HeldOut("regex_helper", ("regex-recompile",), "re.sub("),
    HeldOut("class_totals", ("class-mutation",), "Transfer.made"),
    HeldOut("dynamic_names", ("class-mutation", "refcount-contention"), "getattr(row"),
    HeldOut("partial_calls", ("heap-type-churn",), "io.BytesIO()"),
    HeldOut("lazy_imports", ("import-in-hot-path",), "import "),
    HeldOut("graph_of_nodes", ("gc-pressure",)),
    HeldOut("fork_for_each", ("stop-the-world",), "os.fork()"),
    HeldOut("own_profiler", ("tracing-on",)),
    # --- memory ---
    HeldOut("frame_buffers", ("page-fault-storm",), "frame"),
    # --- the shape of the program ---
    HeldOut("slow_backend", ("io-bound",)),
    HeldOut("uneven_files", ("load-imbalance",)),
    HeldOut("reduce_step", ("serial-section",)),
    HeldOut("crowded_pool", ("oversubscription",)),
    HeldOut("inline_handler", ("event-loop-bound",)),
    HeldOut("pool_map_small", ("executor-tiny-tasks",)),
    # --- healthy ---
    HeldOut("own_sums"),
    HeldOut("compress_chunks"),
    HeldOut("digest_own"),
    HeldOut("batches_through_queue"),
    HeldOut("merge_at_end"),
    HeldOut("idle_service"),
    HeldOut("async_idle"),
    HeldOut("single_thread"),
    HeldOut("own_random"),
    HeldOut("big_numbers"),
)
