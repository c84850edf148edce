"""tracing-on: a tracer, profiler, debugger or debug build slows every thread, often behind one lock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from ftdiag.model import LockKind, Remedy, TracingHook
from ftdiag.rules.attribution.frames import LIBRARY_FRAMES
from ftdiag.rules.attribution.libraries import is_tracer, on_cpu_cores
from ftdiag.rules.attribution.machine_code import symbol_share
from ftdiag.rules.attribution.settings import is_traced, tracing_functions, tracing_settings
from ftdiag.rules.base import (
    WORTH_SAYING,
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
    finite,
    subject_of,
)
from ftdiag.rules.base.scoring import WARNING_SCORE
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import places
from ftdiag.wording.units import of_cores

FRAMES_SHARE: Final = Threshold(
    "tracer_share_of_capacity",
    0.02,
    "ratio",
    "a tracer's own Python frames on a core; below 2 % of the capacity it may be a left-over import",
)
INSTRUMENTED_SHARE: Final = Threshold(
    "instrumentation_share_of_cpu",
    0.01,
    "ratio",
    "the interpreter's calls of profile and trace functions in a hundredth of the CPU time; without one"
    " they do not show at all",
)
_INSTRUMENTATION: Final = re.compile(
    r"call_instrumentation_vector|call_one_instrument|_?Py_call_instrumentation\w*|_Py_Instrumentation\w*"
    r"|(?:sys_)?(?:profile|trace)_(?:trampoline|func\w*)|call_(?:profile|trace)_func|call_trampoline"
)


def _judge(facts: Facts) -> Judgement:
    functions = tracing_functions(facts)
    settings = (*tracing_settings(facts), *map(_words, functions))
    instrumented = sum(
        on_cpu_cores(facts, [line]) * symbol_share(line, _INSTRUMENTATION) for line in facts.hot
    )
    on_cpu = facts.metrics.on_cpu_cores
    instrumented_part = instrumented / on_cpu if on_cpu > 0 else 0.0
    hooked = facts.over(INSTRUMENTED_SHARE, instrumented_part, RULE.id)
    lines = [
        line
        for line in facts.hot
        if line.stacks
        and (
            is_traced(line.stacks[0][0], facts)
            or any(is_tracer(frame) for frame in line.stacks[0][0][:LIBRARY_FRAMES])
        )
    ]
    inside = sum(
        finite(spent)
        for line in lines
        for state, spent in line.states_ns.items()
        if state.group.value == "on_cpu"
    )
    cores = inside / facts.metrics.duration_ns if facts.metrics.duration_ns else 0.0
    charges = facts.lock_charges(RULE.id)
    locks = sum(charge.lost_cores for charge in charges)
    seen = facts.over(FRAMES_SHARE, cores / facts.capacity, RULE.id)
    if not settings and not seen and not hooked and not facts.loses(locks, RULE.id):
        return Clear()
    # What they wasted on a core is in the time of the tracer's own lines, where these are seen.
    wasted = sum(charge.wasted_cores for charge in charges)
    lost = max(cores, instrumented, wasted) + sum(charge.parked_cores for charge in charges)
    named = (
        ", ".join(settings)
        if settings
        else f"frames of it at {places(lines)}"
        if seen
        else "the interpreter calls a profile or trace function"
    )
    cost = (
        f"it costs {of_cores(lost, facts.capacity)} that can be seen"
        if lost > 0
        else "what it costs is not visible from outside"
    )
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="known",
        least_score=WARNING_SCORE if hooked else 0.0,
        subject=subject_of(lines[0].frame if lines else None),
        summary=f"Tracing or debugging is on ({named}); {cost}.",
        explanation=(
            "Tracers run for every call, line or allocation of every thread, and most keep their"
            " books under one lock, so they cost more the more threads there are. The other"
            " findings of this report may be the tracer's own: look again without it before"
            " changing anything."
        ),
        could_also_be=("the environment is that of the start; the program may have changed it since",)
        if settings and not seen and not functions
        else (),
        remedy=(_switch_off(bool(settings) and not functions),),
        verify=f"{report_again(facts.pid)} after a restart: tracing-on is gone",
        evidence=(
            evidence("settings", float(len(settings)), "settings"),
            evidence("instrumentation_share_of_cpu", instrumented_part, "ratio", INSTRUMENTED_SHARE),
            evidence("tracer_share_of_capacity", cores / facts.capacity, "ratio", FRAMES_SHARE),
            evidence("lock_loss", locks, "cores"),
        ),
    )


def _words(hook: TracingHook) -> str:
    file = f" ({PurePath(hook.filename).name})" if hook.filename else ""
    return f"{hook.kind} {hook.name}{file}"


def _mostly(weights: Sequence[tuple[float, bool]]) -> bool:
    """Whether more than half of the weight is of what is true."""
    return sum(finite(weight) for weight, fits in weights if fits) > 0.5 * sum(
        finite(weight) for weight, _ in weights
    )


def _switch_off(by_setting: bool) -> Remedy:
    if by_setting:
        return Remedy(
            "switch it off in production and for this measurement",
            "env -u PYTHONTRACEMALLOC -u PYTHONMALLOC -u PYTHONDEVMODE -u COVERAGE_PROCESS_START python"
            " app.py",
        )
    return Remedy(
        "take the tracer out in production and for this measurement; look for who sets it",
        "grep -rn 'settrace\\|setprofile\\|sys.monitoring\\|tracemalloc.start' app/",
    )


RULE: Final = Rule(
    id="tracing-on",
    title="Tracing, profiling or debugging is on",
    needs=(Need.CAPACITY,),
    thresholds=(FRAMES_SHARE, INSTRUMENTED_SHARE, WORTH_SAYING),
    judge=_judge,
    without="how much slower the interpreter itself is while it traces is not in the recording",
    claims=Claims(
        locks=(
            LockClaim(
                Priority.NAMED,
                kinds=(LockKind.RUNTIME,),
                labels=("runtime lock",),
                when=lambda _, facts: bool(tracing_settings(facts)),
            ),
            LockClaim(
                Priority.PROVEN + 5,
                when=lambda lock, facts: _mostly(
                    [(waiter.wait_ns, is_traced(waiter.stack, facts)) for waiter in lock.waiters]
                ),
            ),
        ),
        lines=(
            LineClaim(
                Priority.PROVEN,
                when=lambda wasted, facts: _mostly(
                    [(float(ticks), is_traced(stack, facts)) for stack, ticks in wasted.line.stacks]
                ),
            ),
        ),
        libraries=(LibraryClaim(frames=is_tracer),),
    ),
)
