"""tracing-on: a tracer, profiler, debugger or debug build slows every thread, often behind one lock."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    Found,
    Need,
    Rule,
    Threshold,
    Verdict,
    evidence,
    finite,
    subject_of,
)
from ftdiag.rules.libraries import LIBRARY_FRAMES, is_tracer
from ftdiag.rules.settings import tracing_settings
from ftdiag.rules.wording import of_cores, places, report_again

FRAMES_SHARE: Final = Threshold(
    "tracer_share_of_capacity",
    0.02,
    "ratio",
    "a tracer's own Python frames on a core; below 2 % of the capacity it may be a left-over import",
)


def _judge(facts: Facts) -> Verdict:
    settings = tracing_settings(facts)
    lines = [
        line
        for line in facts.hot
        if line.stacks and any(is_tracer(frame) for frame in line.stacks[0][0][:LIBRARY_FRAMES])
    ]
    inside = sum(
        finite(spent)
        for line in lines
        for state, spent in line.states_ns.items()
        if state.group.value == "on_cpu"
    )
    cores = inside / facts.metrics.duration_ns if facts.metrics.duration_ns else 0.0
    locks = sum(charge.lost_cores for charge in facts.lock_charges(RULE.id))
    seen = facts.over(FRAMES_SHARE, cores / facts.capacity, RULE.id)
    if not settings and not seen and not facts.loses(locks, RULE.id):
        return Clear()
    lost = cores + locks
    named = ", ".join(settings) if settings else f"frames of it at {places(lines)}"
    cost = (
        f"it costs {of_cores(lost, facts.capacity)} that can be seen"
        if lost > 0
        else "what it costs is not visible from outside"
    )
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=lost,
                confidence="known",
                subject=subject_of(lines[0].frame if lines else None),
                summary=f"Tracing or debugging is on ({named}); {cost}.",
                explanation=(
                    "Tracers run for every call, line or allocation of every thread, and most keep their"
                    " books"
                    " under one lock, so they cost more the more threads there are. Figures taken meanwhile"
                    " say"
                    " little about the program: look again without it before changing anything."
                ),
                could_also_be=("the environment is that of the start; the program may have changed it since",)
                if settings and not seen
                else (),
                remedy=(
                    Remedy(
                        "switch it off in production and for this measurement",
                        "env -u PYTHONTRACEMALLOC -u PYTHONMALLOC -u PYTHONDEVMODE -u COVERAGE_PROCESS_START"
                        " python app.py",
                    ),
                ),
                verify=f"{report_again(facts.pid)} after a restart: tracing-on is gone",
                evidence=(
                    evidence("settings", float(len(settings)), "settings"),
                    evidence("tracer_share_of_capacity", cores / facts.capacity, "ratio", FRAMES_SHARE),
                    evidence("lock_loss", locks, "cores"),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="tracing-on",
    title="Tracing, profiling or debugging is on",
    needs=(Need.CAPACITY,),
    thresholds=(FRAMES_SHARE, WORTH_SAYING),
    judge=_judge,
)
