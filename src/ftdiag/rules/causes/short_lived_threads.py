"""short-lived-threads: threads are made for small jobs, and end at once."""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    THREADS_LOCK,
    BottleneckKind,
    Frame,
    LockKind,
    Remedy,
    Stack,
    StateGroup,
    ThreadMetrics,
)
from ftdiag.rules.attribution.frames import is_file, is_library
from ftdiag.rules.base import (
    NOTHING_GAINS,
    WORTH_SAYING,
    Claims,
    Clear,
    Facts,
    Judgement,
    LockClaim,
    Need,
    Priority,
    Room,
    Rule,
    Shape,
    ShapeClaim,
    Threshold,
    evidence,
    finite,
    subject_of,
)
from ftdiag.wording.account import unseen_words
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place, place_in
from ftdiag.wording.units import of_cores, share

SHORT: Final = Threshold(
    "lifetime_at_most",
    100.0,
    "ms",
    "a thread that lives no longer was made for one small job; to start and end it costs as much as some of"
    " these",
)
RATE: Final = Threshold(
    "short_threads_per_second",
    10.0,
    "per second",
    "fewer are no way of working; more begin and end than are seen, because one that lives for less than"
    " 10 ms is mostly missed",
)
PART: Final = Threshold(
    "short_threads_share_of_cpu",
    0.2,
    "ratio",
    "a fifth of the CPU time is spent in threads that end at once",
)
_STARTS: Final = ("Thread.start", "start_new_thread", "start_joinable_thread")


@dataclass(frozen=True, slots=True)
class ShortLived:
    """Threads that ended soon after they began, and what they used.

    `cores` are theirs, `unseen_cores` the part of threads that no look ever met, `own_cores` what was seen in
    the program's own lines. `starting` is the program's line that makes most of them, `stack` how it gets
    there.
    """

    seen: int
    per_second: float
    cores: float
    unseen_cores: float
    own_cores: float
    starting: Frame | None
    stack: Stack


def short_lived(facts: Facts) -> ShortLived | None:
    """What threads that end at once did; `None` where they are no way of working."""
    duration = facts.metrics.duration_ns
    key = "short-lived-threads"
    if duration <= 0 or facts.metrics.on_cpu_cores <= 0:
        return None
    short = [thread for thread in facts.threads if _is_short(thread)]
    unseen = finite(facts.metrics.unseen_threads_cores or 0.0)
    per_second = len(short) / (duration / 1e9)
    cores = unseen + sum(finite(thread.cpu_ns) for thread in short) / duration
    if not facts.over(RATE, per_second, key) or not facts.over(PART, cores / facts.metrics.on_cpu_cores, key):
        return None
    own = 0.0
    for thread in short:
        for line in thread.hot:
            if not is_library(line.frame):
                own += sum(
                    finite(spent)
                    for state, spent in line.states_ns.items()
                    if state.group is StateGroup.ON_CPU
                )
    starting, stack = _starts(facts)
    return ShortLived(
        len(short), per_second, cores, unseen, min(own / duration, cores - unseen), starting, stack
    )


def _is_short(thread: ThreadMetrics) -> bool:
    info = thread.info
    if info.started_ns is None or info.ended_ns is None:
        return False
    return info.ended_ns - info.started_ns <= SHORT.value * 1e6


def _starts(facts: Facts) -> tuple[Frame | None, Stack]:
    """The program's innermost line above the call that starts a thread, by time on the stacks there."""
    spent: dict[Frame, float] = {}
    stacks: dict[Frame, Stack] = {}
    for line in facts.hot:
        for stack, time in line.stacks:
            depth = next(
                (
                    number
                    for number, frame in enumerate(stack)
                    if is_file(frame, "threading.py") and frame.function in _STARTS
                ),
                None,
            )
            if depth is None:
                continue
            own = next((frame for frame in stack[depth:] if not is_library(frame)), None)
            if own is not None:
                spent[own] = spent.get(own, 0.0) + finite(time)
                stacks.setdefault(own, stack)
    if not spent:
        return None, ()
    frame = max(spent, key=lambda each: spent[each])
    return frame, stacks[frame]


def _remedies(facts: Facts, found: ShortLived) -> tuple[Remedy, ...]:
    at = f"# {place(found.starting)}\n" if found.starting is not None else ""
    if any(is_file(frame, "socketserver.py") for frame in found.stack):
        return facts.remedy(
            *("thread-storm", "pool"),
            "serve from threads that stay: hand each connection to a pool, instead of ThreadingMixIn; or run"
            " the application in a server that has one",
            f"{at}class Server(WSGIServer):          # without ThreadingMixIn\n"
            "    pool = ThreadPoolExecutor(os.process_cpu_count())\n\n"
            "    def process_request(self, request, client_address):\n"
            "        self.pool.submit(self.process_request_thread, request, client_address)\n\n"
            "    process_request_thread = ThreadingMixIn.process_request_thread",
        )
    return facts.remedy(
        *("thread-storm", "pool"),
        "keep a pool of threads and hand the jobs to it, several at a time where they are small",
        f"{at}pool = ThreadPoolExecutor(os.process_cpu_count())   # once\n"
        "pool.submit(job, argument)     # instead of Thread(target=job).start()",
    )


def _told(facts: Facts) -> str:
    """What is known of them besides."""
    said = unseen_words(facts.metrics)
    return f", and what for from samples of the cores ({said})" if said else "; what for is not"


def _judge(facts: Facts) -> Judgement:
    found = short_lived(facts)
    if found is None:
        return Clear()
    waits = sum(charge.lost_cores for charge in facts.lock_charges(RULE.id))
    lost = max(0.0, found.cores - found.own_cores) + waits
    if not facts.loses(lost, RULE.id):
        return Clear()
    part = found.cores / facts.metrics.on_cpu_cores
    where = f", started at {place_in(found.starting)}" if found.starting is not None else ""
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="likely" if found.starting is not None else "possible",
        subject=subject_of(found.starting),
        summary=(
            f"Threads that live for a moment cost up to {of_cores(lost, facts.capacity)}:"
            f" {found.per_second:.0f} and more a second start and end{where}, with"
            f" {share(part, 1.0)} of the CPU time."
        ),
        explanation=(
            "A thread costs memory for its stack, a heap and a place in the interpreter's lists, and"
            " gives all of it back a moment later. What threads used that end between two samples is"
            f" known from the clock of the process{_told(facts)}. Two threads that hand out small jobs,"
            " a thread for each:"
            f" {facts.scaling('thread-storm', 'thread-for-each')} of what one does."
        ),
        could_also_be=("jobs that are large, in threads that end before they are looked at",),
        remedy=_remedies(facts, found) or (NOTHING_GAINS,),
        verify=f"{report_again(facts.pid)}: 'threads gone unseen' under Cores is gone, and the"
        " throughput rises",
        evidence=(
            evidence("short_threads_share_of_cpu", part, "ratio", PART),
            evidence("short_threads_per_second", found.per_second, "per second", RATE),
            evidence("unseen", found.unseen_cores, "cores"),
            evidence("in_lines_of_the_program", found.own_cores, "cores"),
        ),
    )


def _shape(facts: Facts, room: Room) -> Shape | None:
    """Who makes a thread for each job is alone at work, and it is no serial section."""
    return Shape(RULE.id, None, room.cores) if short_lived(facts) is not None else None


RULE: Final = Rule(
    id="short-lived-threads",
    title="A thread for every small job",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(SHORT, RATE, PART, WORTH_SAYING),
    judge=_judge,
    without="threads that begin and end between two samples are in the clock of the process alone",
    claims=Claims(
        locks=(LockClaim(Priority.NAMED, kinds=(LockKind.RUNTIME,), labels=(THREADS_LOCK,)),),
        shape=ShapeClaim(10, _shape),
    ),
    cases=("thread-storm",),
    about=frozenset({BottleneckKind.SERIAL}),
)
