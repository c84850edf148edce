"""no-bytecode-cache: code that did not come from a bytecode file has constants that all threads count."""

from __future__ import annotations

from typing import Final

from ftdiag.model import ChangeKind, Remedy
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.attribution.settings import bytecode_settings, is_compiled_at_run_time
from ftdiag.rules.base import (
    WORTH_SAYING,
    Claims,
    Clear,
    Facts,
    Judgement,
    LineClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    Wasted,
    evidence,
    subject_of,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import places
from ftdiag.wording.units import of_cores


def constants_contend(facts: Facts) -> bool:
    """Whether threads contend for constants of code without a bytecode file on the target's version."""
    return not facts.scales("bytecode-cache", "compiled-at-run-time")


def _counts_constants(wasted: Wasted, facts: Facts) -> bool:
    """Whether constants of the code may be what threads count at a line."""
    return constants_contend(facts) and (
        bool(bytecode_settings(facts)) or is_compiled_at_run_time(wasted.line.frame)
    )


def _judge(facts: Facts) -> Judgement:
    if not constants_contend(facts):
        return NotApplicable("threads do not contend for such constants on this version: measured")
    settings = bytecode_settings(facts)
    charges = facts.line_charges(RULE.id)
    if not settings and not facts.native:
        return NotApplicable(
            "needs native samples to see constants that threads contend for; no setting found"
        )
    lost = sum(charge.lost_cores for charge in charges)
    if not facts.loses(lost, RULE.id):
        if not settings or facts.native or facts.metrics.threads_with_work < 2:
            return Clear()
        lost = 0.0
    cause = " and ".join(settings) if settings else "hot code is made by compile() or exec()"
    at = f" at {places(charge.line for charge in charges)}" if charges else ""
    cost = (
        f"threads lose {of_cores(lost, facts.capacity)} to contended reference counts{at}"
        if charges
        else "whether threads contend for constants is not measured without native samples"
    )
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely" if charges and not settings else "possible",
        subject=subject_of(charges[0].line.frame if charges else None),
        summary=f"{cause[0].upper() + cause[1:]}: {cost}; all threads count the code's constants.",
        explanation=(
            "Constants of code that is loaded from a .pyc file are immortal. In code that was just"
            " compiled, numbers stay ordinary objects, and every use of one by a thread that did"
            " not make it is an atomic instruction. Two threads that only use one: "
            + facts.scaling("bytecode-cache", "compiled-at-run-time")
            + " of what one does without bytecode files, with them "
            + facts.scaling("bytecode-cache", "imported")
            + "."
            + (
                " It is named before refcount-contention because it costs one start to rule out."
                if settings
                else ""
            )
        ),
        could_also_be=("refcount-contention: if the atomics stay with bytecode files in place",)
        if settings
        else (),
        remedy=_remedies(facts, by_setting=bool(settings)),
        verify=f"{report_again(facts.pid)} after a restart: atomics at these lines fall",
        evidence=(
            evidence("settings", float(len(settings)), "settings"),
            evidence(
                "lost_share_of_capacity",
                lost / facts.capacity if facts.capacity else 0.0,
                "ratio",
                WORTH_SAYING,
            ),
            evidence("lines", float(len(charges)), "lines"),
        ),
    )


def _remedies(facts: Facts, *, by_setting: bool) -> tuple[Remedy, ...]:
    if by_setting:
        return (
            *facts.remedy(
                *("bytecode-cache", "imported"),
                "let Python write and load bytecode files",
                "env -u PYTHONDONTWRITEBYTECODE python app.py   # and no -B",
            ),
            *facts.remedy(
                *("bytecode-cache", "imported"),
                "where the file system is read-only, compile when the image is built",
                "python -m compileall -q /app",
            ),
        )
    return (
        *facts.remedy(
            *("bytecode-cache", "compiled-by-each-thread"),
            "compile in each thread that runs it: its constants are then the thread's own",
            "local = threading.local()\nif not hasattr(local, 'code'):\n"
            "    local.code = compile(source, '<formula>', 'eval')\neval(local.code)",
        ),
        *facts.remedy(
            *("bytecode-cache", "imported"),
            "or write the code that is made into a module and import it: constants of a bytecode file are"
            " immortal",
            "path.write_text(source)\nmodule = importlib.import_module(path.stem)",
        ),
    )


RULE: Final = Rule(
    id="no-bytecode-cache",
    title="Code without a bytecode file",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=everywhere(ChangeKind.CONTENTION),
    claims=Claims(lines=(LineClaim(Priority.SIGNS + 1, when=_counts_constants),)),
    cases=("bytecode-cache",),
)
