"""Why a program does not scale, as rules: facts in, findings out, ranked by lost cores.

In: `Facts` of a range. Out: `Diagnosis`: findings, and for each rule that could not look, why.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import Finding, Severity
from ftdiag.rules import (
    allocation_churn,
    allocator_contention,
    class_mutation,
    cpu_quota,
    deadlock,
    event_loop_bound,
    executor_tiny_tasks,
    extension_singleton,
    gc_pressure,
    gil_bound,
    gil_enabled,
    heap_type_churn,
    hot_lock,
    idle_workers,
    import_in_hot_path,
    io_bound,
    load_imbalance,
    logging_contention,
    memory_overhead,
    memory_per_thread,
    native_lock,
    nested_parallelism,
    no_bytecode_cache,
    object_lock,
    oversubscription,
    page_fault_storm,
    queue_contention,
    refcount_contention,
    regex_recompile,
    serial_section,
    shared_iterator,
    short_lived_threads,
    spin_contention,
    stop_the_world,
    stuck_thread,
    tlbc_disabled,
    tracing_on,
)
from ftdiag.rules.base import Facts, Found, NotApplicable, Rule, key_of
from ftdiag.rules.whose import attributed

RULES: Final[tuple[Rule, ...]] = (
    # First what explains that nothing scales, then locks, the interpreter, memory, the program's shape.
    gil_enabled.RULE,
    no_bytecode_cache.RULE,
    tlbc_disabled.RULE,
    tracing_on.RULE,
    oversubscription.RULE,
    cpu_quota.RULE,
    nested_parallelism.RULE,
    deadlock.RULE,
    stuck_thread.RULE,
    hot_lock.RULE,
    native_lock.RULE,
    queue_contention.RULE,
    logging_contention.RULE,
    object_lock.RULE,
    shared_iterator.RULE,
    refcount_contention.RULE,
    extension_singleton.RULE,
    regex_recompile.RULE,
    heap_type_churn.RULE,
    class_mutation.RULE,
    import_in_hot_path.RULE,
    stop_the_world.RULE,
    gc_pressure.RULE,
    gil_bound.RULE,
    spin_contention.RULE,
    allocator_contention.RULE,
    page_fault_storm.RULE,
    memory_per_thread.RULE,
    memory_overhead.RULE,
    allocation_churn.RULE,
    serial_section.RULE,
    load_imbalance.RULE,
    executor_tiny_tasks.RULE,
    short_lived_threads.RULE,
    event_loop_bound.RULE,
    io_bound.RULE,
    idle_workers.RULE,
)
"""All rules; of two findings that cost the same, that of the earlier rule comes first."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the rules say of one range: findings by lost cores, and who could not look."""

    findings: tuple[Finding, ...]
    not_applicable: tuple[tuple[str, str], ...]

    @property
    def standing(self) -> dict[str, Severity]:
        """What the next range's facts need to know, so that findings do not flicker."""
        return {key_of(finding.rule_id, finding.subject): finding.severity for finding in self.findings}


def diagnose(facts: Facts) -> Diagnosis:
    """All rules on one range. The gravest loss is first; equal losses come by score, then by rule.

    What the rest of the machine took comes last, whatever it is: nobody can change it in the program.
    """
    findings: list[tuple[bool, float, float, int, Finding]] = []
    not_applicable: list[tuple[str, str]] = []
    for number, rule in enumerate(RULES):
        verdict = rule.verdict(facts)
        if isinstance(verdict, NotApplicable):
            not_applicable.append((rule.id, verdict.reason))
        elif isinstance(verdict, Found):
            told = [attributed(each, facts) for each in verdict.findings]
            findings += [(each.context, -each.lost_cores, -each.score, number, each) for each in told]
    findings.sort(key=lambda row: row[:4])
    return Diagnosis(tuple(row[4] for row in findings), tuple(not_applicable))
