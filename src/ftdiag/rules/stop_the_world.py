"""stop-the-world: all threads are stopped again and again, for what one of them does."""

from __future__ import annotations

from typing import Final

from ftdiag.model import HotLine, Remedy, ThreadState
from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    Found,
    Need,
    Rule,
    Verdict,
    evidence,
    finite,
    subject_of,
)
from ftdiag.rules.library import caller, together
from ftdiag.rules.wording import is_file, of_cores, place, place_in, report_again


def requester(facts: Facts) -> HotLine | None:
    """A hot line that is known to stop all threads: functools.wraps sets names of a function."""
    for line in facts.hot:
        if is_file(line.frame, "functools.py") and line.frame.function in ("update_wrapper", "wraps"):
            return line
    return None


def _judge(facts: Facts) -> Verdict:
    if facts.charges.stops_rule_id != RULE.id:
        return Clear()
    waits = together(facts, RULE.id)
    lost = finite(facts.metrics.lost_cores.get(ThreadState.STOPPED, 0.0)) + waits.lost_cores
    if not facts.loses(lost, RULE.id):
        return Clear()
    line = requester(facts)
    frame = caller(line) if line is not None else waits.frame if waits.locks else None
    if line is not None:
        who = f"functools.wraps at {place_in(frame)} asks for it"
    elif frame is not None:
        who = f"threads queue at {place_in(frame)} for their turn to stop the others"
    else:
        who = "who asks for it is not known"
    unknown = "" if facts.native else " Without native samples the collector's own time is not known."
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=lost,
                confidence="likely" if frame is not None else "possible",
                subject=subject_of(frame),
                summary=f"Threads lose {of_cores(lost, facts.capacity)} stopped by pauses of all threads;"
                f" {who}.",
                explanation=(
                    "Threads were seen suspended by a stop-the-world pause. Besides the collector, what"
                    " stops all threads"
                    " is functools.wraps, setting f.__name__ or f.__doc__ (3.14: 560 k -> 1.1 k operations a"
                    " second with 2"
                    " threads), x.__class__ = ... (3.13: 2.6 M -> 1.2 k), fork, and switching tracing on. A"
                    " pause lasts as long"
                    f" as any thread is in C code that does not detach.{unknown}"
                ),
                could_also_be=(
                    "gc-pressure: the collector stops threads too",
                    "tracing-on: a profiler that is being started",
                ),
                remedy=(
                    Remedy(
                        "decorate when the module is imported, not for each call",
                        f"# {place(frame)}\n@functools.wraps(handler)       # at module level\ndef"
                        " wrapped(*args): ...",
                    ),
                    Remedy(
                        "hold another object instead of changing x.__class__",
                        "self.state = Closed()   # composition",
                    ),
                    Remedy(
                        "in C extensions, detach around long work",
                        "Py_BEGIN_ALLOW_THREADS ... Py_END_ALLOW_THREADS",
                    ),
                ),
                verify=f"{report_again(facts.pid)}: 'stopped' goes to 0",
                evidence=(
                    evidence("lost_share_of_capacity", lost / facts.capacity, "ratio", WORTH_SAYING),
                    evidence("stopped", facts.cores_in(ThreadState.STOPPED), "threads"),
                    evidence("collector", facts.cores_in(ThreadState.GC), "cores"),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="stop-the-world",
    title="All threads are stopped for one",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
