"""All rules, and all that they claim.

In: the modules of `MODULES`, each with one `RULE`. Out: `RULES` in their order, the table of their claims.
"""

from __future__ import annotations

import importlib
from typing import Final

from ftdiag.rules.added import added_rules
from ftdiag.rules.attribution.claims import ClaimTable
from ftdiag.rules.base import Rule

MODULES: Final = (
    # First what explains that nothing scales, then locks, the interpreter, memory, the program's shape.
    "gil_enabled",
    "no_bytecode_cache",
    "tlbc_disabled",
    "tracing_on",
    "oversubscription",
    "starved_by_others",
    "cpu_quota",
    "nested_parallelism",
    "deadlock",
    "stuck_thread",
    "racy_update",
    "hot_lock",
    "native_lock",
    "queue_contention",
    "logging_contention",
    "object_lock",
    "shared_iterator",
    "refcount_contention",
    "extension_singleton",
    "regex_recompile",
    "heap_type_churn",
    "class_mutation",
    "import_in_hot_path",
    "stop_the_world",
    "gc_pressure",
    "gil_bound",
    "spin_contention",
    "allocator_contention",
    "page_fault_storm",
    "memory_per_thread",
    "memory_overhead",
    "retained_memory",
    "allocation_churn",
    "serial_section",
    "load_imbalance",
    "executor_tiny_tasks",
    "short_lived_threads",
    "event_loop_bound",
    "io_bound",
    "idle_workers",
    "threads_or_processes",
)
"""A rule is a module of `causes`, and a name here."""
_OWN: Final[tuple[Rule, ...]] = tuple(
    importlib.import_module(f"ftdiag.rules.causes.{name}").RULE for name in MODULES
)
RULES: Final = (*_OWN, *added_rules(_OWN))
"""All rules; of two findings that cost the same, that of the earlier rule comes first."""
CLAIMS: Final = ClaimTable(RULES)
