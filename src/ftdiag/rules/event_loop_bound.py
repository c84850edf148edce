"""event-loop-bound: one event loop works all the time and is the whole program."""

from __future__ import annotations

from typing import Final

from ftdiag.rules.base import Facts, Found, Need, Rule, Verdict, evidence, subject_of
from ftdiag.rules.program import own_busiest_line
from ftdiag.rules.shape import LOOP_BUSY, OTHERS_BUSY, at_work_ns, charged_shape
from ftdiag.rules.wording import of_cores, place, place_in, report_again, share, short


def _judge(facts: Facts) -> Verdict:
    charged = charged_shape(facts, RULE.id)
    if not isinstance(charged, tuple):
        return charged
    shape, thread = charged
    frame = own_busiest_line(facts, thread)
    others = sum(at_work_ns(each) for each in facts.threads if each is not thread) / max(1, thread.cpu_ns)
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=shape.lost_cores,
                confidence="known",
                subject=subject_of(frame, thread=thread.info.name),
                summary=(
                    f"The event loop in {short(thread.info.name)} is on a core, or wants one, for"
                    f" {share(shape.share, 1.0)} of the time, mostly at {place_in(frame)}; the other"
                    f" threads do little, and up to {of_cores(shape.lost_cores, facts.capacity)} stay"
                    " empty."
                ),
                explanation=(
                    "An event loop runs its callbacks one after the other in one thread: CPU work inside"
                    " them keeps all other tasks waiting. On 2 cores, one loop per"
                    f" thread: {facts.scaling('event-loop', 'loop-per-thread')} of what one loop does."
                ),
                could_also_be=("a loop that polls: look at its hot line",),
                remedy=(
                    *facts.remedy(
                        *("event-loop", "pieces-in-threads"),
                        "move the work off the loop, in pieces that are worth a task",
                        f"# {place(frame)}\nresult = await asyncio.to_thread(compute, chunk)",
                    ),
                    *facts.remedy(
                        *("event-loop", "loop-per-thread"),
                        "or run one event loop per thread",
                        "threads = [threading.Thread(target=asyncio.run, args=(serve(n),)) for n in"
                        " range(workers)]",
                    ),
                ),
                verify=f"{report_again(facts.pid)}: the loop's thread is idle part of the time, workers are"
                " on a core",
                evidence=(
                    evidence("event_loop_cpu_share", shape.share, "ratio", LOOP_BUSY),
                    evidence("other_threads_cpu_share", others, "ratio", OTHERS_BUSY),
                    evidence("room", shape.room_cores, "cores"),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="event-loop-bound",
    title="One event loop does all the work",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(LOOP_BUSY, OTHERS_BUSY),
    judge=_judge,
)
