"""stop-the-world: all threads are stopped again and again, for what one of them does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.analysis.pauses import GARBAGE_COLLECTION, reason_of_symbol
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    BottleneckKind,
    Change,
    ChangeKind,
    Finding,
    Frame,
    Pauses,
    Remedy,
    Snapshot,
    ThreadState,
)
from ftdiag.rules.attribution.changes import place_of
from ftdiag.rules.attribution.frames import is_file, program_frame
from ftdiag.rules.attribution.lines import caller
from ftdiag.rules.attribution.stops import is_stop_request, stop_claims
from ftdiag.rules.base import (
    MOSTLY_SHARE,
    WORTH_SAYING,
    Advice,
    Claims,
    Clear,
    Facts,
    Judgement,
    LibraryClaim,
    Need,
    Rule,
    StopCause,
    evidence,
    finite,
    subject_of,
)
from ftdiag.rules.prose.library import together
from ftdiag.rules.prose.locks import collections_measured, pauses_seen
from ftdiag.wording.findings import report_again
from ftdiag.wording.places import place, place_in, short
from ftdiag.wording.units import of_cores

ENOUGH_PAUSES: Final = 10
"""From so many pauses on that were met, they say who asks for most."""
WRAPS: Final = "functools.wraps"
_WRAPPERS_IN: Final = "functools.py"
_WRAPPERS: Final = ("update_wrapper", "wraps")
MAX_ASKING: Final = 4
"""Places that ask for pauses, the ones with most time."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """A remedy that is offered where its case and variant were measured to gain."""

    case: str
    variant: str
    text: str
    code: str


_DECORATE: Final = _Measured(
    *("wraps", "once"),
    "decorate when the module is imported, not for each call",
    "@functools.wraps(handler)       # at module level\ndef wrapped(*args): ...",
)
_NAME_ONCE: Final = _Measured(
    *("function-name", "set-once"),
    "decorate, and set names, documentation and code of functions, when the module is imported",
    "@functools.wraps(handler)       # at module level\ndef wrapped(*args): ...",
)
_COMPOSE: Final = _Measured(
    *("class-assignment", "composition"),
    "hold another object instead of changing x.__class__",
    "self.state = Closed()   # composition",
)
_DETACH: Final = Remedy(
    "in C extensions, detach around long work: a pause waits for every thread that does not",
    "Py_BEGIN_ALLOW_THREADS ... Py_END_ALLOW_THREADS",
)
_REMEDIES: Final[Mapping[str, tuple[_Measured | Remedy, ...]]] = {
    WRAPS: (_DECORATE,),
    "a change of a function or its code": (_NAME_ONCE,),
    "a change of x.__class__": (_COMPOSE,),
    "a change of a class": (Remedy("build classes when the module is imported", "class Handler(Base): ..."),),
    "fork": (
        Remedy(
            "start programs with subprocess or os.posix_spawn: they do not stop the threads, os.fork() does",
            "subprocess.run([sys.executable, 'job.py'])   # not os.fork()",
        ),
        Remedy(
            "or fork from one small process that was started before the threads",
            "context = multiprocessing.get_context('forkserver')\nworker = context.Process(target=job)",
        ),
    ),
    "tracing switched on": (
        Remedy(
            "switch tracing on once, before the threads start",
            "threading.settrace(trace); sys.settrace(trace)",
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asked for the pauses, where and for what, as far as it is known, and how it is known."""

    frame: Frame | None = None
    thread: str | None = None
    reason: str | None = None
    queued: bool = False
    """Known only by those who wait for their turn to stop the others."""


def _asked(facts: Facts, pauses: tuple[Pauses, ...]) -> _Asked:
    """From the pauses that were seen; else from hot functions that stop all, or from who waits for a turn."""
    most = max((each for each in pauses if each.requester), key=lambda each: each.total_ns, default=None)
    queue = _queue(facts)
    met = sum(finite(each.total_ns) for each in pauses)
    if most is not None and queue is not None and queue[1] > met and queue[0] != program_frame(most.stack):
        # Most pauses are too short to be met, but not the waits for a turn to make one.
        return _Asked(queue[0], None, _reason_at(facts, queue[0]), queued=True)
    if most is not None and most.requester is not None:
        frame = program_frame(most.stack)
        whole = sum(finite(each.total_ns) for each in pauses if each.requester is not None)
        own = sum(finite(each.total_ns) for each in pauses if each.requester == most.requester)
        count = sum(each.count for each in pauses)
        name = most.requester.name if own >= MOSTLY_SHARE * whole and count >= ENOUGH_PAUSES else None
        return _Asked(frame, name, most.reason or _reason_at(facts, frame))
    for line in facts.hot:
        if is_file(line.frame, _WRAPPERS_IN) and line.frame.function in _WRAPPERS:
            return _Asked(caller(line), None, WRAPS)
    waits = together(facts, RULE.id)
    frame = waits.frame if waits.locks else None
    return _Asked(frame, None, _reason_at(facts, frame), queued=frame is not None)


def _queue(facts: Facts) -> tuple[Frame, float] | None:
    """The line at which threads wait longest for their turn to stop the others, and how long all wait."""
    spent: dict[Frame, float] = {}
    for charge in together(facts, RULE.id).locks:
        for lock in charge.locks:
            for waiter in lock.waiters:
                frame = program_frame(waiter.stack)
                if frame is not None:
                    spent[frame] = spent.get(frame, 0.0) + finite(waiter.wait_ns)
    if not spent:
        return None
    return max(spent, key=lambda each: spent[each]), sum(spent.values())


def _reason_at(facts: Facts, frame: Frame | None) -> str | None:
    """What the machine code of a hot line is there for."""
    for line in facts.hot:
        if line.frame == frame:
            return next(filter(None, (reason_of_symbol(symbol) for symbol, _ in line.native)), None)
    return None


def _who(asked: _Asked) -> str:
    if asked.frame is None:
        return "who asks for them is not known"
    reason = f" ({asked.reason})" if asked.reason else ""
    if asked.queued:
        return f"threads queue for their turn to stop the others at {place_in(asked.frame)}{reason}"
    thread = f"{short(asked.thread)} asks for them" if asked.thread else "they are asked for"
    return f"{thread} at {place_in(asked.frame)}{reason}"


def _remedies(facts: Facts, asked: _Asked) -> tuple[Remedy, ...]:
    known = _REMEDIES.get(asked.reason or "", ())
    offered: list[Remedy] = []
    for one in known or (_DECORATE, _COMPOSE, _DETACH):
        if isinstance(one, Remedy):
            offered.append(one)
            continue
        if_so = "" if known else "if that is what it does: "
        offered += facts.remedy(one.case, one.variant, if_so + one.text, one.code)
    if offered and asked.frame is not None:
        offered[0] = replace(offered[0], code=f"# {place(asked.frame)}\n{offered[0].code}")
    return tuple(offered)


def _judge(facts: Facts) -> Judgement:
    waits = together(facts, RULE.id)
    stopped = facts.charges.stop_shares.get(RULE.id, 0.0)
    lost = stopped * finite(facts.metrics.lost_cores.get(ThreadState.STOPPED, 0.0)) + waits.lost_cores
    if not facts.loses(lost, RULE.id):
        return Clear()
    pauses = tuple(each for each in facts.pauses if each.reason != GARBAGE_COLLECTION)
    asked = _asked(facts, pauses)
    proven = not asked.queued or any(
        is_stop_request(lock, facts) for charge in waits.locks for lock in charge.locks
    )
    count, total = sum(each.count for each in pauses), sum(finite(each.total_ns) for each in pauses)
    unknown = "" if facts.native else " Without native samples the collector's own time is not known."
    if facts.collector is not None:
        own = collections_measured(facts, facts.collector)
        unknown = f" Those of the collector, which are measured, are not among them: {own}."
    return RULE.finding(
        facts,
        lost_cores=lost,
        confidence="possible" if asked.frame is None else "known" if asked.reason and proven else "likely",
        subject=subject_of(asked.frame, **({"thread": asked.thread} if asked.thread else {})),
        summary=f"Threads lose {of_cores(lost, facts.capacity)} to pauses that stop all of them"
        f" ({pauses_seen(facts, pauses)}); {_who(asked)}.",
        explanation=(
            "A thread that changes what the others may be reading stops them all first (stop the"
            " world). Besides the collector that is: functools.wraps, setting f.__name__ or"
            " f.__doc__ (two threads do"
            f" {facts.scaling('function-name', 'set-in-loop')} of what one does),"
            f" x.__class__ = ... ({facts.scaling('class-assignment', 'in-loop')}), os.fork(), and"
            " switching tracing on. A pause lasts until"
            " every thread has noticed: one in C code that does not detach keeps all others"
            " waiting. Pauses are seen"
            f" {facts.metrics.ticks / max(facts.metrics.duration_ns / 1e9, 1e-9):.0f} times a"
            f" second (sampled), so short ones are missed.{unknown}"
        ),
        could_also_be=(
            "gc-pressure: the collector stops threads too",
            "tracing-on: a profiler that is being started",
        )
        if asked.reason is None
        else (),
        remedy=_remedies(facts, asked),
        verify=f"{report_again(facts.pid)}: 'stopped' and the pauses of that line are gone",
        evidence=(
            evidence("lost_share_of_capacity", lost / facts.capacity, "ratio", WORTH_SAYING),
            evidence("stopped", stopped * facts.cores_in(ThreadState.STOPPED), "threads"),
            evidence("waiting_for_a_turn", waits.lost_cores, "cores"),
            evidence("pauses_at_least", float(count), "pauses"),
            *((evidence("mean_pause", total / count / 1e6, "ms"),) if count else ()),
            evidence("collector", facts.cores_in(ThreadState.GC), "cores"),
        ),
    )


def _without(finding: Finding, snapshot: Snapshot) -> tuple[Change, ...]:
    """No pauses, and the lines that asked for them left out."""
    asking = [pauses.stack[0] for pauses in snapshot.pauses[:MAX_ASKING] if pauses.stack]
    places = [
        place_of(finding),
        *(f"{frame.filename}:{frame.line}" for frame in asking if frame.line is not None),
    ]
    lines = dict.fromkeys(place for place in places if place)
    return (Change(ChangeKind.STOPS), *(Change(ChangeKind.LINE, place) for place in lines))


RULE: Final = Rule(
    id="stop-the-world",
    title="All threads are stopped for one",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
    without=_without,
    claims=Claims(
        locks=stop_claims(StopCause.REQUESTS),
        libraries=(LibraryClaim(files=(_WRAPPERS_IN,), functions=_WRAPPERS),),
        stops=StopCause.REQUESTS,
    ),
    advice=Advice.LINE,
    cases=("function-name", "wraps", "class-assignment", "attach-under-stops"),
    about=frozenset({BottleneckKind.STOP}),
)
