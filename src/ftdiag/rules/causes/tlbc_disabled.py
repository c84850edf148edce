"""tlbc-disabled: thread-local bytecode is switched off, so threads write into the same code."""

from __future__ import annotations

from typing import Final

from ftdiag.model import BottleneckKind
from ftdiag.rules.attribution.libraries import on_cpu_cores
from ftdiag.rules.attribution.settings import tlbc_setting
from ftdiag.rules.base import (
    Clear,
    Facts,
    Judgement,
    Need,
    NotApplicable,
    Rule,
    Threshold,
    evidence,
)
from ftdiag.rules.base.scoring import WARNING_SCORE
from ftdiag.wording.findings import report_again

SHARED_CODE: Final = Threshold(
    "cpu_share_of_code_that_threads_share",
    0.5,
    "ratio",
    "half of the CPU time in lines that two threads or more ran: they share bytecode, and that is what the"
    " setting is about",
)
BUSY_CORES: Final = Threshold(
    "on_cpu",
    1.1,
    "cores",
    "one busy thread shares its bytecode with nobody; the loss begins with the second",
)


def _judge(facts: Facts) -> Judgement:
    if facts.version < (3, 14):
        return NotApplicable("thread-local bytecode came with Python 3.14")
    setting = tlbc_setting(facts)
    if setting is None:
        return Clear()
    on_cpu = facts.metrics.on_cpu_cores
    shared = on_cpu_cores(facts, [line for line in facts.hot if line.threads > 1])
    part = min(1.0, shared / on_cpu) if on_cpu > 0 else 0.0
    busy = facts.over(BUSY_CORES, on_cpu, RULE.id)
    together = busy and facts.over(SHARED_CODE, part, RULE.id)
    told = (
        f"{100 * part:.0f} % of the CPU time is in code that several threads run; what that costs looks"
        " like work, and is not measured"
        if together
        else "now threads hardly run the same code at the same time"
        if busy
        else "one thread at a time is busy now"
    )
    return RULE.finding(
        facts,
        lost_cores=0.0,
        confidence="likely" if together else "possible",
        least_score=WARNING_SCORE if together else 0.0,
        summary=f"{setting} switches thread-local bytecode off: threads write into shared code; {told}.",
        explanation=(
            "With it off, all threads specialise and count in one copy of a function's bytecode, or"
            " run it unspecialised, and the cache lines of hot code travel between cores. That"
            " looks like plain full CPU: no sample shows it, so no loss is claimed here. Two threads"
            f" that do nothing else: {facts.scaling('tlbc', 'off')} of what one does with it off,"
            f" with it on {facts.scaling('tlbc', 'on')}."
        ),
        remedy=facts.remedy(
            *("tlbc", "on"),
            "remove the setting; the memory it saves is a copy of hot functions per thread",
            "env -u PYTHON_TLBC python app.py   # and no -X tlbc=0",
        ),
        verify="compare the throughput your program reports before and after a restart; "
        f"{report_again(facts.pid)} no longer names it",
        evidence=(
            evidence("tlbc_disabled", 1.0, "bool"),
            evidence("on_cpu", on_cpu, "cores", BUSY_CORES),
            evidence("cpu_share_of_code_that_threads_share", part, "ratio", SHARED_CODE),
        ),
    )


RULE: Final = Rule(
    id="tlbc-disabled",
    title="Thread-local bytecode is off",
    needs=(Need.CAPACITY, Need.NO_GIL),
    thresholds=(BUSY_CORES, SHARED_CODE),
    judge=_judge,
    without="no sample shows what it costs",
    cases=("tlbc",),
    about=frozenset({BottleneckKind.CORES}),
)
