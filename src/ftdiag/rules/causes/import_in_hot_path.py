"""import-in-hot-path: functions that run often import modules, under the import lock."""

from __future__ import annotations

from typing import Final

from ftdiag.model import (
    EXTENSIONS_LOCK,
    IMPORT_LOCK,
    Frame,
    HotLine,
    LockKind,
    LockMetrics,
)
from ftdiag.rules.attribution.changes import without_line
from ftdiag.rules.attribution.frames import leaves
from ftdiag.rules.attribution.libraries import on_cpu_cores
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.attribution.machine_code import SYMBOL_SHARE, pattern_of, symbol_share
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LibraryClaim,
    LineClaim,
    LockClaim,
    Need,
    Priority,
    Rule,
    Threshold,
    evidence,
    subject_of,
)
from ftdiag.rules.prose.library import together, together_evidence
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place, place_in
from ftdiag.wording.threads import lose
from ftdiag.wording.units import of_cores, share

CPU_SHARE: Final = Threshold(
    "share_of_cpu_in_import",
    0.05,
    "ratio",
    "the import machinery called from inside functions; module-level imports at start do not count",
)


IMPORTING: Final = ("PyImport_?*", "_PyImport_?*", "import_?*", "_PyEval_ImportName")
"""Functions of machine code that look modules up and import them."""


def _is_machinery(frame: Frame) -> bool:
    return "importlib._bootstrap" in frame.filename


def _of_modules(lock: LockMetrics, facts: Facts) -> bool:
    """Whether the own lock of a dict is waited for where import statements look modules up in it."""
    places = set(leaves(lock))
    lines = [line for line in facts.hot if line.frame in places]
    return bool(lines) and all(symbol_share(line, pattern_of(IMPORTING)) >= SYMBOL_SHARE for line in lines)


def _inside_a_function(line: HotLine) -> bool:
    """Whether the import is asked for by a function and not by a module that is itself being imported."""
    if not _is_machinery(line.frame) or not line.stacks:
        return False
    stack = line.stacks[0][0]
    outside = next((frame for frame in stack if not _is_machinery(frame)), None)
    return outside is not None and outside.function != "<module>"


def _judge(facts: Facts) -> Judgement:
    lines = [line for line in facts.hot if _inside_a_function(line)]
    cores = on_cpu_cores(facts, lines)
    on_cpu = facts.metrics.on_cpu_cores
    part = cores / on_cpu if on_cpu > 0 else 0.0
    found = together(facts, RULE.id)
    at_start = (
        bool(found.locks or found.lines) and found.frame is not None and found.frame.function == "<module>"
    )
    lost = 0.0 if at_start else found.lost_cores
    if not facts.over(CPU_SHARE, part, RULE.id) and not facts.loses(lost, RULE.id):
        return Clear()
    frame = found.frame if lost > 0 else caller(lines[0])
    threads = found.threads if lost > 0 else "threads"
    machinery = (
        f"; the import machinery takes {share(part, 1.0)} of the CPU time" if part >= CPU_SHARE.value else ""
    )
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely",
        subject=subject_of(frame),
        summary=(
            f"{threads} {lose(threads)} {of_cores(lost, facts.capacity)} at imports inside a"
            f" function, {place_in(frame)}{machinery}."
        ),
        explanation=(
            "An import statement takes a lock and looks the module up each time it runs, also when"
            " the module is long loaded. Two threads that do nothing else:"
            f" {facts.scaling('import', 'function')}."
        ),
        could_also_be=("start-up: threads that import for the first time; it passes",),
        remedy=(
            *facts.remedy(
                *("import", "module"),
                "move the import to the top of the module",
                f"# {place(frame)}\nimport json                 # at module level\n\ndef handle(data): ...",
            ),
            *facts.remedy(
                *("import", "lazy"),
                "or, where the module shall be imported only when it is needed, import it lazily at"
                " the top (3.15)",
                "lazy import json            # at module level\n\ndef handle(data): ...",
            ),
        ),
        verify=f"{report_again(facts.pid)}: no hot line in importlib._bootstrap",
        evidence=(
            evidence("share_of_cpu_in_import", part, "ratio", CPU_SHARE),
            *together_evidence(facts, found),
        ),
    )


RULE: Final = Rule(
    id="import-in-hot-path",
    title="Imports inside functions that run often",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(CPU_SHARE, WORTH_SAYING),
    judge=_judge,
    without=without_line,
    claims=Claims(
        locks=(
            LockClaim(Priority.NAMED, kinds=(LockKind.RUNTIME,), labels=(IMPORT_LOCK, EXTENSIONS_LOCK)),
            LockClaim(
                Priority.SIGNS, kinds=(LockKind.OBJECT,), types=("dict",), labels=(None,), when=_of_modules
            ),
        ),
        lines=(LineClaim(Priority.NAMED + 2, symbols=IMPORTING),),
        libraries=(LibraryClaim(frames=_is_machinery, locks_of_interpreter=True),),
    ),
    advice=Advice.LINE,
    cases=("import",),
)
