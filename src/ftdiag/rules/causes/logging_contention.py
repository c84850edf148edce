"""logging-contention: the lock that is waited for is a logging handler's."""

from __future__ import annotations

from typing import Final

from ftdiag.rules.attribution.changes import without_line
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
)
from ftdiag.rules.figures.measured import measurement, times
from ftdiag.rules.prose.library import together
from ftdiag.wording.places import place


def _queued(facts: Facts) -> str:
    found = measurement("logging", "QueueHandler", facts.version)
    if found is None or found.gain is None or found.helps:
        return ""
    return (
        f" A QueueHandler is often suggested and did not help ({times(found.gain)} times as much): its"
        " queue is shared as well."
    )


def _judge(facts: Facts) -> Judgement:
    found = together(facts, RULE.id)
    if not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    at = place(found.frame)
    return found.finding(
        RULE,
        facts,
        summary=(f"{found.losing(facts)} in logging, waiting for a handler that all share{found.at}."),
        explanation=(
            "The wait is inside the logging package: a handler formats and writes one record at a time,"
            f" under its lock. Two threads that only log: {facts.scaling('logging')} of what one does."
            f"{_queued(facts)}"
        ),
        could_also_be=("a slow disk or terminal behind the handler: its holder is then in I/O",),
        remedy=(
            *facts.remedy(
                *("logging", "level-off"),
                "do not make records that nobody reads: a level, or a guard",
                f"logger.setLevel(logging.WARNING)     # or, where arguments cost:\n# {at}\n"
                "if logger.isEnabledFor(level):\n    logger.log(level, ...)",
            ),
            *facts.remedy(
                *("logging", "logger-per-thread"),
                "a logger with a handler (and file) of its own for each thread",
                "logger = logging.getLogger(f'app.{threading.get_ident()}')\nlogger.propagate ="
                " False\n"
                "logger.addHandler(logging.FileHandler(f'app-{threading.get_ident()}.log'))",
            ),
        ),
        verify="no wait inside logging/__init__.py under Locks",
    )


RULE: Final = Rule(
    id="logging-contention",
    title="All threads meet at one logging handler",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=without_line,
    claims=Claims(
        libraries=(LibraryClaim(files=("logging/__init__.py", "logging/handlers.py")),),
    ),
    advice=Advice.LINE,
    cases=("logging",),
)
