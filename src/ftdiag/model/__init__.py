"""The frozen types that every layer shares: what a sample, a window and a finding are.

In: nothing; these modules import only the standard library. Out: immutable values, by subject: `target`,
`samples`, `locks`, `memory`, `settings` of recordings, `metrics` of ranges, `bottlenecks`, `predictions`,
`findings`, `allocations`. All are to be had from here; what only a look at a recording needs is imported when
it is asked for, which a sampler never does.

Conventions: units live in names (`_ns`, `_bytes`, `_ratio`, `_hz`); what is unknown is `None` or a
`Gap`, never 0 or -1; ids of a recording are non-negative integers with reserved values (`samples`).
"""

from __future__ import annotations

from ftdiag.model.locks import (
    CONSTANTS_LOCK,
    DELAYED_FREES,
    EXTENSIONS_LOCK,
    FUNCTIONS_LOCK,
    IMPORT_LOCK,
    INTERPRETER_LOCKS,
    NAMES_LOCK,
    NO_LINE,
    OTHERS_COUNTS,
    OWN_LOCK,
    SPUN_FOR,
    STOP_EVENT,
    STOP_TURN,
    THREADS_LOCK,
    TYPES_LOCK,
    UNKNOWN_GUARD,
    WARNINGS_LOCK,
    WEAK_REFERENCES,
    Confidence,
    Counting,
    LockKind,
    LockRef,
    ObjectFacts,
    SharedObject,
    SharedPlace,
    UpdateSight,
    Wait,
)
from ftdiag.model.memory import (
    LEAST_RATE_NS,
    AllocatorLine,
    AllocatorPart,
    MemoryKind,
    MemoryMetrics,
    MemoryOfThread,
    MemoryReading,
    ThreadMemory,
)
from ftdiag.model.samples import (
    FIRST_STACK_ID,
    MAX_OTHER_NAME,
    MAX_OTHERS,
    NATIVE_FILE,
    NO_HOLDER,
    NO_STACK,
    NO_WAIT,
    TORN_STACK,
    UNKEPT_STACK,
    UNNAMED_INTERPRETER,
    Collections,
    Gap,
    GenerationCollections,
    NativeSamples,
    OtherProcess,
    ProcessCounters,
    Runs,
    SamplerCost,
    StateGroup,
    ThreadCounters,
    ThreadState,
    Window,
)
from ftdiag.model.settings import (
    IMPORTED,
    NOBODY,
    End,
    EndReason,
    Perturbation,
    RecordingSettings,
)
from ftdiag.model.target import (
    NO_METADATA,
    PROGRAM,
    STANDARD_LIBRARY,
    Frame,
    HookKind,
    Library,
    Stack,
    Target,
    ThreadInfo,
    TracingHook,
    is_standard_library,
)
from ftdiag.model.updates import SharedUpdate, Updater
from ftdiag.model.waits import LibraryWait, library_wait_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ftdiag.model.allocations import (
        Allocations,
        LineAllocations,
        ThreadAllocations,
    )
    from ftdiag.model.bottlenecks import (
        Bottleneck,
        BottleneckKind,
        BottleneckPlace,
        Bottlenecks,
        EndOfWait,
        WaitsFor,
    )
    from ftdiag.model.findings import (
        Evidence,
        Finding,
        Quality,
        Remedy,
        Severity,
        Snapshot,
        Workload,
    )
    from ftdiag.model.metrics import (
        ON_CPU_PARTS,
        RUNNABLE_PARTS,
        USEFUL_STATES,
        CollectorMetrics,
        CorePart,
        HotLine,
        LockHolder,
        LockMetrics,
        LockWaiter,
        Metrics,
        Pauses,
        ThreadMetrics,
    )
    from ftdiag.model.predictions import (
        Change,
        ChangeKind,
        Prediction,
    )

__all__ = [
    "CONSTANTS_LOCK",
    "DELAYED_FREES",
    "EXTENSIONS_LOCK",
    "FIRST_STACK_ID",
    "FUNCTIONS_LOCK",
    "IMPORTED",
    "IMPORT_LOCK",
    "INTERPRETER_LOCKS",
    "LEAST_RATE_NS",
    "MAX_OTHERS",
    "MAX_OTHER_NAME",
    "NAMES_LOCK",
    "NATIVE_FILE",
    "NOBODY",
    "NO_HOLDER",
    "NO_LINE",
    "NO_METADATA",
    "NO_STACK",
    "NO_WAIT",
    "ON_CPU_PARTS",
    "OTHERS_COUNTS",
    "OWN_LOCK",
    "PROGRAM",
    "RUNNABLE_PARTS",
    "SPUN_FOR",
    "STANDARD_LIBRARY",
    "STOP_EVENT",
    "STOP_TURN",
    "THREADS_LOCK",
    "TORN_STACK",
    "TYPES_LOCK",
    "UNKEPT_STACK",
    "UNKNOWN_GUARD",
    "UNNAMED_INTERPRETER",
    "USEFUL_STATES",
    "WARNINGS_LOCK",
    "WEAK_REFERENCES",
    "Allocations",
    "AllocatorLine",
    "AllocatorPart",
    "Bottleneck",
    "BottleneckKind",
    "BottleneckPlace",
    "Bottlenecks",
    "Change",
    "ChangeKind",
    "Collections",
    "CollectorMetrics",
    "Confidence",
    "CorePart",
    "Counting",
    "End",
    "EndOfWait",
    "EndReason",
    "Evidence",
    "Finding",
    "Frame",
    "Gap",
    "GenerationCollections",
    "HookKind",
    "HotLine",
    "Library",
    "LibraryWait",
    "LineAllocations",
    "LockHolder",
    "LockKind",
    "LockMetrics",
    "LockRef",
    "LockWaiter",
    "MemoryKind",
    "MemoryMetrics",
    "MemoryOfThread",
    "MemoryReading",
    "Metrics",
    "NativeSamples",
    "ObjectFacts",
    "OtherProcess",
    "Pauses",
    "Perturbation",
    "Prediction",
    "ProcessCounters",
    "Quality",
    "RecordingSettings",
    "Remedy",
    "Runs",
    "SamplerCost",
    "Severity",
    "SharedObject",
    "SharedPlace",
    "SharedUpdate",
    "Snapshot",
    "Stack",
    "StateGroup",
    "Target",
    "ThreadAllocations",
    "ThreadCounters",
    "ThreadInfo",
    "ThreadMemory",
    "ThreadMetrics",
    "ThreadState",
    "TracingHook",
    "UpdateSight",
    "Updater",
    "Wait",
    "WaitsFor",
    "Window",
    "Workload",
    "is_standard_library",
    "library_wait_of",
]

_LATER = ("allocations", "bottlenecks", "findings", "metrics", "predictions")


def __getattr__(name: str) -> object:
    """Import what a look at a recording needs. Raises AttributeError for what is not there."""
    import importlib

    for module in _LATER if name in __all__ else ():
        value: object = getattr(importlib.import_module(f"ftdiag.model.{module}"), name, None)
        if value is not None:
            globals()[name] = value
            return value
    raise AttributeError(f"module 'ftdiag.model' has no attribute {name!r}")
