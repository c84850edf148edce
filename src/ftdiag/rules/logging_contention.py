"""logging-contention: the lock that is waited for is a logging handler's."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.base import WORTH_SAYING, Clear, Facts, Found, Need, Rule, Verdict, subject_of
from ftdiag.rules.library import together, together_evidence
from ftdiag.rules.locks import confidence_of
from ftdiag.rules.wording import lose, of_cores, place, report_again


def _judge(facts: Facts) -> Verdict:
    found = together(facts, RULE.id)
    if not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    at = place(found.frame)
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=found.lost_cores,
                confidence=confidence_of(found.locks[0]) if found.locks else "likely",
                subject=subject_of(found.frame),
                summary=(
                    f"{found.threads} {lose(found.threads)} {of_cores(found.lost_cores, facts.capacity)} in"
                    " logging, waiting"
                    f" for a handler that all share{found.at}."
                ),
                explanation=(
                    "The wait is inside the logging package: a handler formats and writes one record at a"
                    " time, under its"
                    " lock. Measured on 2 threads: 0.67x / 0.93x (3.13 / 3.14). A QueueHandler is often"
                    " suggested and did"
                    " not help (0.68x / 0.79x): its queue is shared as well."
                ),
                could_also_be=("a slow disk or terminal behind the handler: its holder is then in I/O",),
                remedy=(
                    Remedy(
                        "do not make records that nobody reads: a level or a guard gave 1.98x / 1.88x",
                        f"# {at}\nif logger.isEnabledFor(logging.DEBUG):\n    logger.debug(...)",
                    ),
                    Remedy(
                        "a logger with a handler (and file) of its own for each thread: 1.66x / 1.66x",
                        "logger = logging.getLogger(f'app.{threading.get_ident()}')\nlogger.propagate ="
                        " False\n"
                        "logger.addHandler(logging.FileHandler(f'app-{threading.get_ident()}.log'))",
                    ),
                ),
                verify=f"{report_again(facts.pid)}: no wait inside logging/__init__.py under Locks",
                evidence=together_evidence(facts, found),
            ),
        )
    )


RULE: Final = Rule(
    id="logging-contention",
    title="All threads meet at one logging handler",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
