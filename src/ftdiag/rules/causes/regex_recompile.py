"""regex-recompile: pattern strings are looked up in re's cache by all threads, for each call."""

from __future__ import annotations

from typing import Final

from ftdiag.rules.attribution.changes import OTHER_CODE
from ftdiag.rules.attribution.frames import is_file
from ftdiag.rules.attribution.libraries import on_cpu_cores
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.base import (
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LibraryClaim,
    Need,
    Rule,
    Threshold,
    evidence,
)
from ftdiag.rules.prose.library import together
from ftdiag.wording.places import place, place_in
from ftdiag.wording.units import of_cores, share

CPU_SHARE: Final = Threshold(
    "share_of_cpu_in_re",
    0.05,
    "ratio",
    "re's own Python functions on a core: with compiled patterns they do not show at all",
)
FUNCTIONS: Final = (
    "_compile",
    "match",
    "fullmatch",
    "search",
    "sub",
    "subn",
    "split",
    "findall",
    "finditer",
    "compile",
)


def _judge(facts: Facts) -> Judgement:
    lines = [
        line
        for line in facts.hot
        if is_file(line.frame, "re/__init__.py") and line.frame.function in FUNCTIONS
    ]
    cores = on_cpu_cores(facts, lines)
    on_cpu = facts.metrics.on_cpu_cores
    part = cores / on_cpu if on_cpu > 0 else 0.0
    found = together(facts, RULE.id)
    if not facts.over(CPU_SHARE, part, RULE.id) and not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    frame = caller(lines[0]) if lines else found.frame
    contended = (
        f"; threads lose {of_cores(found.lost_cores, facts.capacity)} on the cache they share"
        if found.lost_cores > 0
        else ""
    )
    return found.finding(
        RULE,
        facts,
        confidence="known" if lines else "likely",
        frame=frame,
        summary=(
            f"re takes {share(part, 1.0)} of the CPU time, matching included, and is given pattern strings at"
            f" {place_in(frame)}{contended}."
        ),
        explanation=(
            "Each call with a string looks the compiled pattern up in a dictionary that all threads share."
            " Matching counts references of the pattern while threads share it: with strings"
            f" {facts.scaling('regex', 'string')}, with a compiled pattern"
            f" {facts.scaling('regex', 'compiled')}, of what one thread does. Long subjects scale anyway."
        ),
        could_also_be=(
            "a cache that overflows: more than 512 different patterns are compiled again and again",
        ),
        remedy=(
            *facts.remedy(
                *("regex", "compiled"),
                "compile once, outside",
                f"# {place(frame)}\nPATTERN = re.compile(r'...')     # at module level\nPATTERN.match(text)",
                instead=True,
            ),
            *facts.remedy(
                *("regex", "own"),
                "a pattern of its own per thread, made distinct by a comment",
                "local.pattern = re.compile(r'...' + f'(?#{threading.get_ident()})')",
            ),
        ),
        verify="re/__init__.py is no hot line any more",
        before=(evidence("share_of_cpu_in_re", part, "ratio", CPU_SHARE),),
    )


RULE: Final = Rule(
    id="regex-recompile",
    title="Pattern strings in hot code",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(CPU_SHARE, WORTH_SAYING),
    judge=_judge,
    without=OTHER_CODE,
    claims=Claims(
        libraries=(LibraryClaim(files=("re/__init__.py", "re/_compiler.py", "re/_parser.py")),),
    ),
    advice=Advice.LINE,
    cases=("regex",),
)
