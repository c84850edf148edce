"""The list of samples: which workload is run how, and what a diagnosis has to say about it.

Out: `SAMPLES`. The recordings in samples/recordings, the baseline of the golden test and the bench of the
diagnosis all come from this one list. samples/workloads/README.md describes the workloads in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ftdiag.model import Finding
from tools.workloads import program_path

BUSY_S: Final = 3.0
"""Recorded of most samples: three hundred ticks; rules cap the severity below one hundred."""
READING_S: Final = 6.0
"""The memory is read every five seconds."""
TWIN_S: Final = 2.0
"""Recorded of twins without a cause."""
MEMORY_S: Final = 1
"""A capture of memray of so long has a million allocations."""
DEADLOCK_S: Final = 5.0
"""A deadlock is one when it has stood for three seconds."""
CONSTANTS_SCALE: Final = (
    "constants of code that is compiled at run time cost nothing: bytecode-cache scales there"
)
STUCK_S: Final = 12.0
"""A thread is stuck when it has not moved for ten seconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A workload with its arguments.

    `rule` is the finding it has to lead to, `None` where no finding of warning or above is right. `names`
    are words of which the finding has to say one: a lock, a module, a setting. `line` is the source line of
    the cause; naming it is as good.
    `why_not` says for a version of Python why the rule does not hold there; the sample is then recorded,
    and nothing is expected of it.
    """

    name: str
    workload: str
    rule: str | None
    names: tuple[str, ...] = ()
    line: str | None = None
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    seconds: float = BUSY_S
    memory_s: int = 0
    """After that, memray is attached for so long, where the interpreter has it."""
    why_not: tuple[tuple[str, str], ...] = ()

    def expected_on(self, version: str) -> bool:
        """Whether the expectation holds on this version, "3.13"."""
        return version not in dict(self.why_not)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the cause is, as "file.py:12"; nothing if the sample names no line."""
        if self.line is None:
            return ()
        path = program_path(self.workload)
        lines = path.read_text().splitlines()
        return tuple(f"{path.name}:{n}" for n, text in enumerate(lines, 1) if self.line in text)


def _shows(
    workload: str,
    rule: str,
    *names: str,
    line: str | None = None,
    threads: int = 2,
    name: str | None = None,
    options: tuple[str, ...] = (),
    environ: tuple[tuple[str, str], ...] = (),
    seconds: float = BUSY_S,
    why_not: tuple[tuple[str, str], ...] = (),
) -> Sample:
    """A sample that shows a cause."""
    return Sample(
        name=name or workload,
        workload=workload,
        rule=rule,
        names=names,
        line=line,
        arguments=("--threads", str(threads)),
        options=options,
        environ=environ,
        seconds=seconds,
        why_not=why_not,
    )


def _healthy(workload: str, threads: int = 2) -> Sample:
    """A sample in which all is as it should be."""
    return Sample(workload, workload, None, arguments=("--threads", str(threads)))


def _fixed(workload: str, threads: int = 2) -> Sample:
    """The twin of a sample that shows a cause, with the cause removed."""
    return Sample(
        f"{workload}-fixed", workload, None, arguments=("--threads", str(threads), "--fixed"), seconds=TWIN_S
    )


SAMPLES: Final[tuple[Sample, ...]] = (
    # --- locks the program made ---
    _shows("hot_lock", "hot-lock", "PriceCache._lock", line="with self._lock", threads=4),
    _shows("counter_lock", "hot-lock", "RequestCounter._lock", line="with self._lock"),
    _fixed("counter_lock"),
    _shows("native_mutex", "native-lock", "plan_cache_lock", line="self._transform(ROUNDS"),
    _fixed("native_mutex"),
    _shows("condition_mailbox", "hot-lock", line="with self._changed"),
    _fixed("condition_mailbox"),
    _shows("shared_queue", "queue-contention", "Pipeline._items", line="items."),
    _fixed("shared_queue"),
    _shows("log_everything", "logging-contention", line="log.info("),
    _fixed("log_everything"),
    _shows("deadlock", "deadlock", line="with target.lock", threads=3, seconds=DEADLOCK_S),
    _shows("stuck_thread", "stuck-thread", line="with self._lock", threads=4, seconds=STUCK_S),
    # It takes ten seconds to be a warning (stuck-thread); docs/playbooks/pool-hangs.md says what to look at.
    _healthy("pool_waits_for_itself", threads=4),
    _healthy("busy_lock"),
    _healthy("lock_per_thread"),
    # --- locks and reference counts of the interpreter ---
    _shows("shared_list", "object-lock", "list", line="events.append"),
    _shows("word_counts", "object-lock", "dict", line="counts[word]"),
    _fixed("word_counts"),
    _shows("shared_random", "object-lock", "Random", line="x, y = random.random()"),
    _fixed("shared_random"),
    _shows("shared_iterator", "shared-iterator", "tickets", "count", line="next(tickets)"),
    _fixed("shared_iterator"),
    _shows("extension_singleton", "extension-singleton", "Missing", line="value_at(index)"),
    _fixed("extension_singleton"),
    _shows("shared_settings", "refcount-contention", "SETTINGS", line="SETTINGS.discounts"),
    _fixed("shared_settings"),
    _shows(
        *("global_table", "refcount-contention", "CRC_TABLE"),
        line="CRC_TABLE[value",
        why_not=(("3.15", "what its loads of globals find is not counted: global-list scales there"),),
    ),
    _fixed("global_table"),
    _shows("bound_method", "refcount-contention", "callback", line="callback(event)"),
    _fixed("bound_method"),
    _shows("decorated_function", "refcount-contention", "ranked", "wrapper", line="ranked(number)"),
    _fixed("decorated_function"),
    _shows("lost_updates", "object-lock", "visits", line="self.count += 1"),
    _shows("regex_strings", "regex-recompile", line="re.findall(LINE"),
    _fixed("regex_strings"),
    _shows("heap_types", "heap-type-churn", "array", line='array.array("i")'),
    _fixed("heap_types"),
    _shows("class_counter", "class-mutation", line="cls.requests ="),
    _fixed("class_counter"),
    _shows("import_in_function", "import-in-hot-path", line="from math import isqrt"),
    _fixed("import_in_function"),
    _shows(
        "wraps_per_request",
        "stop-the-world",
        "wraps_per_request.py",
        "update_wrapper",
        line="functools.wraps(function)",
        why_not=(
            ("3.13", "on 3.13 functools.wraps stops nobody"),
            ("3.14", "nor on 3.14.0; later 3.14 do (measured on 3.14.7)"),
        ),
    ),
    _fixed("wraps_per_request"),
    _shows(
        *("class_assignment", "stop-the-world"),
        line="order.__class__ =",
        why_not=(("3.15", "there it stops nobody"),),
    ),
    _fixed("class_assignment"),
    _shows("collect_per_request", "gc-pressure", line="gc.collect()"),
    _fixed("collect_per_request"),
    _shows("cycles_on_big_heap", "gc-pressure"),
    _fixed("cycles_on_big_heap"),
    # --- allocators and memory ---
    _shows("handed_objects", "hot-lock", "the counts of objects that other threads own"),
    _fixed("handed_objects"),
    _shows("cross_thread_free", "allocator-contention"),
    _fixed("cross_thread_free"),
    _shows("fresh_buffers", "page-fault-storm", line="frame[::PAGE]"),
    _fixed("fresh_buffers"),
    _shows("thread_caches", "memory-per-thread", "server-0 to server-31", threads=32, seconds=READING_S),
    _fixed("thread_caches", threads=32),
    _shows("thread_heaps", "memory-overhead", "48 threads", threads=48, seconds=READING_S),
    _fixed("thread_heaps", threads=48),
    _shows("kept_buffers", "retained-memory", "libc's heaps", seconds=READING_S),
    replace(
        _shows("temporary_objects", "allocation-churn", line="return Vector("),
        memory_s=MEMORY_S,
        why_not=(("3.13", "memray has no release for free-threaded 3.13"),),
    ),
    replace(_fixed("temporary_objects"), memory_s=MEMORY_S),
    # --- the shape of the program ---
    _shows("serial_merge", "serial-section", "serial_merge.py"),
    _fixed("serial_merge"),
    _shows("uneven_parts", "load-imbalance", "batch-0"),
    _fixed("uneven_parts"),
    _shows("tiny_tasks", "executor-tiny-tasks", "submit", "_worker", line="submit(score"),
    _fixed("tiny_tasks"),
    _shows("asyncio_loop", "event-loop-bound", "event-loop-0", threads=4),
    _fixed("asyncio_loop"),
    _healthy("io_wait", threads=6),
    _healthy("idle_pool", threads=8),
    _shows(
        "thread_storm",
        "short-lived-threads",
        line="thread.start()",
        why_not=(
            ("3.13", "recorded at a tenth of a core, which is no warning"),
            ("3.14", "recorded at a tenth of a core, which is no warning"),
        ),
    ),
    _shows("thread_per_request", "short-lived-threads", line=".start()"),
    _fixed("thread_per_request"),
    # --- the machine and the interpreter's settings ---
    _shows("too_many_threads", "oversubscription", threads=32),
    _fixed("too_many_threads"),
    _shows("nested_parallelism", "nested-parallelism"),
    _fixed("nested_parallelism"),
    _shows(
        *("no_bytecode_cache", "no-bytecode-cache", "-B"),
        options=("-B",),
        why_not=(("3.15", CONSTANTS_SCALE),),
    ),
    _fixed("no_bytecode_cache"),
    _shows("compiled_formulas", "no-bytecode-cache", "<formula>", why_not=(("3.15", CONSTANTS_SCALE),)),
    _fixed("compiled_formulas"),
    _shows(
        "independent_cpu",
        "tlbc-disabled",
        "tlbc",
        name="independent_cpu-tlbc_off",
        options=("-X", "tlbc=0"),
        why_not=(("3.13", "thread-local bytecode came with 3.14"),),
    ),
    _shows("tracing_on", "tracing-on", "trace.py"),
    _fixed("tracing_on"),
    _shows("gil_back_on", "gil-enabled", "legacy_codec"),
    _fixed("gil_back_on"),
    _shows(
        "independent_cpu",
        "gil-enabled",
        "PYTHON_GIL",
        name="independent_cpu-gil_on",
        environ=(("PYTHON_GIL", "1"),),
    ),
    _healthy("independent_cpu"),
    _healthy("recursion"),
    _healthy("generators"),
    _healthy("subinterpreters"),
)


ABOUT_THE_MACHINE: Final = frozenset({"oversubscription", "starved-by-others", "cpu-quota"})
"""Rules whose findings say that others had the cores: true where a sample runs beside other work, and no news
about the sample."""


def about_program(sample: Sample, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings without those about the machine, unless such a one is expected."""
    left_out = frozenset() if sample.rule in ABOUT_THE_MACHINE else ABOUT_THE_MACHINE
    return tuple(finding for finding in findings if finding.rule_id not in left_out)


def says_where(sample: Sample, finding: Finding) -> bool:
    """Whether a finding names the place, lock or setting that is the cause."""
    if not (sample.names or sample.places):
        return True
    said = " ".join([finding.summary, *map(str, finding.subject.values())])
    if "file" in finding.subject and "line" in finding.subject:
        said += f" {Path(str(finding.subject['file'])).name}:{finding.subject['line']}"
    return any(word in said for word in (*sample.names, *sample.places))


def sample_named(name: str) -> Sample:
    """The sample of that name."""
    return next(sample for sample in SAMPLES if sample.name == name)
