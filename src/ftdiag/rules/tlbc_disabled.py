"""tlbc-disabled: thread-local bytecode is switched off, so threads write into the same code."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.base import Clear, Facts, Found, Need, NotApplicable, Rule, Threshold, Verdict, evidence
from ftdiag.rules.settings import tlbc_setting
from ftdiag.rules.wording import of_cores, report_again

BUSY_CORES: Final = Threshold(
    "on_cpu_beyond_one",
    0.1,
    "cores",
    "one busy thread shares its bytecode with nobody; the loss begins with the second",
)


def _judge(facts: Facts) -> Verdict:
    if facts.version < (3, 14):
        return NotApplicable("thread-local bytecode came with Python 3.14")
    setting = tlbc_setting(facts)
    if setting is None:
        return Clear()
    # Measured: two threads together do less than one. What runs beyond one core is lost.
    beyond = max(0.0, facts.metrics.on_cpu_cores - 1.0)
    busy = facts.over(BUSY_CORES, beyond, RULE.id)
    lost = beyond if busy else 0.0
    cost = (
        f"up to {of_cores(lost, facts.capacity)} do nothing useful"
        if busy
        else "one thread at a time is busy now"
    )
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=lost,
                confidence="likely",
                summary=f"{setting} switches thread-local bytecode off: threads write into shared code;"
                f" {cost}.",
                explanation=(
                    "With it off, all threads specialise and count in one copy of a function's bytecode, and"
                    " the"
                    " cache lines of hot code travel between cores. That looks like plain full CPU. Measured"
                    " on 2"
                    " threads: 0.8-0.9x with it off, 2.0x with it on; so what runs beyond one core is taken"
                    " as lost."
                ),
                remedy=(
                    Remedy(
                        "remove the setting; the memory it saves is a copy of hot functions per thread",
                        "env -u PYTHON_TLBC python app.py   # and no -X tlbc=0",
                    ),
                ),
                verify="compare the throughput your program reports before and after a restart; "
                f"{report_again(facts.pid)} no longer names it",
                evidence=(
                    evidence("tlbc_disabled", 1.0, "bool"),
                    evidence("on_cpu", facts.metrics.on_cpu_cores, "cores"),
                    evidence("on_cpu_beyond_one", beyond, "cores", BUSY_CORES),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="tlbc-disabled",
    title="Thread-local bytecode is off",
    needs=(Need.CAPACITY, Need.NO_GIL),
    thresholds=(BUSY_CORES,),
    judge=_judge,
)
