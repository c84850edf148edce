"""gil-enabled: a free-threaded build runs with the GIL on, so one thread runs Python code at a time."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy, ThreadState
from ftdiag.rules.base import Clear, Facts, Found, Need, NotApplicable, Rule, Verdict, evidence, finite
from ftdiag.rules.wording import of_cores, short

MODULES_NAMED: Final = 3
STABLE_ABI: Final = (3, 15)
"""The first version whose free-threaded builds load extensions of a stable ABI (PEP 803; files *.abi3t.so,
tried: one that was compiled with Py_TARGET_ABI3T is imported, and the GIL stays off)."""


def _judge(facts: Facts) -> Verdict:
    target = facts.target
    if target.gil_enabled is None:
        return NotApplicable("the state of the GIL could not be read")
    if not target.gil_enabled:
        return Clear()
    waits = finite(facts.metrics.lost_cores.get(ThreadState.GIL, 0.0))
    culprits = target.gil_culprits
    named = ", ".join(short(name) for name in culprits[:MODULES_NAMED])
    if len(culprits) > MODULES_NAMED:
        named += f" and {len(culprits) - MODULES_NAMED} more"
    forced = facts.environment("PYTHON_GIL") == "1"
    if forced:
        why = "PYTHON_GIL=1 asks for it"
        remedy: tuple[Remedy, ...] = (
            *facts.remedy("gil", "off", "start without PYTHON_GIL=1", "env -u PYTHON_GIL python app.py"),
        )
    elif culprits:
        why = f"{named} asked for it when it was imported"
        remedy = (
            *facts.remedy(
                *("gil", "off"),
                f"look for a release of {named} that supports free threading (Py_MOD_GIL_NOT_USED"
                f"{', a wheel for abi3t' if facts.version >= STABLE_ABI else ''}), or load it in another"
                " process",
                f"pip install --upgrade {short(culprits[0].partition('.')[0])}",
            ),
            *facts.remedy(
                *("gil", "off"),
                "keep the GIL off at your own risk: the module may corrupt memory when threads meet in it",
                "PYTHON_GIL=0 python app.py",
            ),
        )
    else:
        why = "who asked for it is not known"
        remedy = (
            Remedy(
                "see which import turns it on: Python warns of it on standard error",
                "python -W always -c 'import yourapp; import sys; print(sys._is_gil_enabled())'",
            ),
            *facts.remedy("gil", "off", "keep the GIL off at your own risk", "PYTHON_GIL=0 python app.py"),
        )
    lost = (
        f"threads lose {of_cores(waits, facts.capacity)} waiting for it"
        if waits
        else "threads share one core's worth"
    )
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=waits,
                confidence="known",
                subject={"module": culprits[0]} if culprits else {},
                summary=f"The GIL is on in this free-threaded build: {why}; {lost}.",
                explanation=(
                    "The interpreter's own flag says so (sys._is_gil_enabled() is true in the program)."
                    " While it is on, threads take turns as in any other Python, and nothing else is worth"
                    f" changing first. Two threads that only compute: {facts.scaling('gil', 'on')} of"
                    f" what one does with it, without it {facts.scaling('gil', 'off')}."
                ),
                remedy=remedy,
                verify=f"ftdiag doctor {facts.pid}: it says that the GIL is off",
                evidence=(
                    evidence("gil_enabled", 1.0, "bool"),
                    evidence("gil_wait", waits, "cores"),
                    evidence("on_cpu", facts.metrics.on_cpu_cores, "cores"),
                    evidence("modules_that_want_it", float(len(culprits)), "modules"),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="gil-enabled",
    title="The GIL is on in a free-threaded build",
    needs=(Need.FREE_THREADED,),
    thresholds=(),
    judge=_judge,
)
