"""The answer in words: one sentence about a snapshot, the same in the cockpit and in every report.

In: a `Snapshot`, and what makes a text of the target fit to be shown. Out: an `Answer`: why there are no more
cores in use, and how many are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    CorePart,
    Finding,
    LockMetrics,
    Metrics,
    Severity,
    Snapshot,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.wording import Shown, units
from ftdiag.wording.locks import MOSTLY_SHARE, holding, metrics_words
from ftdiag.wording.places import frame_words
from ftdiag.wording.states import BY_CHOICE, LOCK_STATES

NOTEWORTHY_SHARE: Final = 0.05
"""A wait of this share of all thread-time or more is worth the answer."""
BUSY_SHARE: Final = 0.95
"""From this share of the capacity on, all cores count as busy."""
CONTEXT_CORES: Final = 0.1
"""Cores that others took are named beside the answer from here on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The parts of the sentence.

    `scope` says how much is used, for example "1.9 of 2 cores on CPU", and is empty where nothing was
    measured; `cause` says why, and can stand alone; `severity` is that of the finding that is the cause, if
    one is, and `place` its line, "app.py:42", if it names one.
    """

    scope: str
    cause: str
    severity: Severity | None = None
    place: str = ""

    @property
    def sentence(self) -> str:
        """The answer in full, the cause first."""
        if not self.scope:
            return self.cause
        return f"{self.cause}{'' if self.cause.endswith(('.', '?')) else '.'} {self.scope}."


def answer(snapshot: Snapshot, shown: Shown = str) -> Answer:
    """The cause is the costliest finding that is a warning or worse, else what most time is lost to."""
    metrics = snapshot.metrics
    alive_ns = _alive_ns(snapshot)
    if not metrics.ticks and not alive_ns:
        if snapshot.allocations is not None:
            return Answer("", "A capture of memray: what allocates, and no samples of where time goes.")
        return Answer("", "Nothing was recorded in this range: no tick was taken.")
    if snapshot.imported is not None:
        return _imported(snapshot, shown)
    scope = f"{metrics.on_cpu_cores:.1f} cores on CPU"
    if metrics.capacity_cores is not None:
        scope = f"{metrics.on_cpu_cores:.1f} of {metrics.capacity_cores:g} cores on CPU"
    finding = costliest(snapshot)
    if finding is None or not finding.context:
        scope += context_words(metrics)
    halted = _halted_now(snapshot, shown)
    if halted is not None:
        return Answer(scope, _begun(halted))
    # A finding that matters is the answer: it knows more than the sums of states do.
    if finding is not None:
        return Answer(scope, shown(finding.summary), finding.severity, shown(_place(finding)))
    return Answer(scope, _begun(_cause(snapshot, shown)))


def _place(finding: Finding) -> str:
    """The line that a finding is about; empty where it is about none."""
    file, line = finding.subject.get("file"), finding.subject.get("line")
    return f"{str(file).rpartition('/')[2]}:{line}" if file and line else ""


def _begun(sentence: str) -> str:
    """Words of ours as the beginning of a text."""
    return sentence[:1].upper() + sentence[1:]


def costliest(snapshot: Snapshot) -> Finding | None:
    """The finding that is the answer: of the program's own the one that costs most.

    Notes are no answer, unless they cost a noteworthy share of the cores and the only finding that matters is
    what the rest of the machine took: a program beside a busy machine is judged by what it does itself.
    """
    worth = NOTEWORTHY_SHARE * (snapshot.metrics.capacity_cores or 1.0)
    matter = [finding for finding in snapshot.findings if finding.severity is not Severity.INFO]
    own = [finding for finding in matter if not finding.context] or [
        each for each in snapshot.findings if matter and not each.context and each.lost_cores >= worth
    ]
    return max(
        own or matter,
        key=lambda each: (each.lost_cores, each.severity is Severity.CRITICAL, each.score),
        default=None,
    )


# --- what others take ---------------------------------------------------------------------------------


def context_words(metrics: Metrics) -> str:
    """What the rest of the machine takes of the cores that the program wants, to stand beside the answer."""
    taken = metrics.account.get(CorePart.OTHER_PROGRAMS, 0.0)
    return f", other processes take {taken:.1f} cores that it wants" if taken >= CONTEXT_CORES else ""


# --- who keeps it from running ---------------------------------------------------------------------------


def _halted_now(snapshot: Snapshot, shown: Shown) -> str | None:
    """What keeps the whole program from running at the end of the range; `None` if nothing does."""
    seen = [thread for thread in snapshot.threads if thread.latest_state is not None]
    if not seen or any(thread.latest_state is not ThreadState.HALTED for thread in seen):
        return None
    halted_ns = sum(thread.states_ns.get(ThreadState.HALTED, 0.0) for thread in seen)
    share = units.share(halted_ns, _alive_ns(snapshot))
    return f"the program is {shown(halt_words(seen))}: {share} of all thread-time."


def halt_words(threads: Iterable[ThreadMetrics]) -> str:
    """What kept these threads from running for longest: "stopped by a signal (T; kill -CONT 4711)"."""
    spent: dict[str, float] = {}
    for thread in threads:
        for wait, time in thread.waits:
            if wait.syscall is None and wait.lock is None and wait.detail is not None:
                spent[wait.detail] = spent.get(wait.detail, 0.0) + time
    return max(spent, key=lambda words: spent[words], default="halted from outside")


# --- causes without a finding --------------------------------------------------------------------------


def _alive_ns(snapshot: Snapshot) -> float:
    return float(sum(snapshot.metrics.states_ns.values()))


def _imported(snapshot: Snapshot, shown: Shown) -> Answer:
    told = f"Samples of {units.plural(snapshot.metrics.threads, 'thread')}, and nothing else is known"
    if not snapshot.hot:
        return Answer("", f"{told}.")
    frame = snapshot.hot[0].frame
    share = units.share(snapshot.hot[0].total_ns, _alive_ns(snapshot))
    line = "" if frame.line is None else f":{frame.line}"
    return Answer(
        told,
        f"Most samples are in {shown(frame.function)}: {share} of them at {shown(frame.filename)}{line}.",
    )


def _cause(snapshot: Snapshot, shown: Shown) -> str:
    metrics = snapshot.metrics
    states, alive_ns = metrics.states_ns, _alive_ns(snapshot)
    if not alive_ns and not snapshot.threads:
        return "no thread was seen."
    candidates = [
        (sum(states.get(state, 0.0) for state in LOCK_STATES), _lock_cause),
        (states.get(ThreadState.UNKNOWN, 0.0), _unknown_cause),
        (states.get(ThreadState.RUNNABLE, 0.0), _runnable_cause),
    ]
    spent, cause = max(candidates, key=lambda candidate: candidate[0])
    if spent >= NOTEWORTHY_SHARE * alive_ns and spent > 0:
        return cause(snapshot, shown)
    if _all_busy(snapshot):
        return "all cores are busy and no thread waits for a lock or a core."
    state = max(BY_CHOICE, key=lambda each: states.get(each, 0.0))
    spent = states.get(state, 0.0)
    if spent >= NOTEWORTHY_SHARE * alive_ns:
        share = units.share(spent, alive_ns)
        where = _most_at(snapshot, state, spent, shown)
        return f"threads are {BY_CHOICE[state]} {share} of their time{where}, and wait for no lock or core."
    return "no thread waits for a lock or a core."


def _most_at(snapshot: Snapshot, state: ThreadState, spent: float, shown: Shown) -> str:
    """Where most of the time in a state is spent; nothing if it is spread, or a wait for work."""
    line = max(snapshot.hot, key=lambda each: each.states_ns.get(state, 0.0), default=None)
    if state is ThreadState.IDLE or line is None or line.states_ns.get(state, 0.0) < MOSTLY_SHARE * spent:
        return ""
    return f", mostly at {frame_words(line.frame, shown)}"


def _all_busy(snapshot: Snapshot) -> bool:
    capacity = snapshot.metrics.capacity_cores
    return capacity is not None and snapshot.metrics.on_cpu_cores >= BUSY_SHARE * capacity


def _lock_cause(snapshot: Snapshot, shown: Shown) -> str:
    alive_ns = _alive_ns(snapshot)
    if not snapshot.locks:
        spent = sum(snapshot.metrics.states_ns.get(state, 0.0) for state in LOCK_STATES)
        waiting = sum(
            any(thread.states_ns.get(state, 0.0) > 0 for state in LOCK_STATES) for thread in snapshot.threads
        )
        return f"{_wait(waiting)} {units.share(spent, alive_ns)} of all thread-time for locks."
    lock = snapshot.locks[0]
    share = units.share(lock.wait_ns, alive_ns)
    text = (
        f"{_wait(_waiting_for(snapshot, lock))} {share} of all thread-time for {metrics_words(lock, shown)}"
    )
    places = holding(lock, shown)
    return text + (f", held {places[0][0]}." if places else "; who holds it is not known.")


def _wait(threads: int) -> str:
    return "1 thread waits" if threads == 1 else f"{threads:,} threads wait"


def _waiting_for(snapshot: Snapshot, lock: LockMetrics) -> int:
    """How many threads waited for a lock, as far as they are listed."""
    same = (lock.lock.address, lock.lock.kind)
    listed = sum(
        any(wait.lock is not None and (wait.lock.address, wait.lock.kind) == same for wait, _ in thread.waits)
        for thread in snapshot.threads
    )
    return max(listed, len({waiter.thread.index for waiter in lock.waiters}), lock.waiters_max)


def _unknown_cause(snapshot: Snapshot, shown: Shown) -> str:
    alive_ns = _alive_ns(snapshot)
    by_call: dict[str, float] = {}
    waiting = 0
    for thread in snapshot.threads:
        spent = thread.states_ns.get(ThreadState.UNKNOWN, 0.0)
        if spent <= NOTEWORTHY_SHARE * thread.alive_ns:
            continue
        waiting += 1
        unnamed = (wait for wait, _ in thread.waits if wait.lock is None and wait.detail is None)
        call = next((wait.syscall for wait in unnamed if wait.syscall), "a wait of unknown kind")
        by_call[call] = by_call.get(call, 0.0) + spent
    if not by_call:
        unknown = snapshot.metrics.states_ns.get(ThreadState.UNKNOWN, 0.0)
        return f"{units.share(unknown, alive_ns)} of all thread-time is in waits of unknown kind."
    call = max(by_call, key=lambda each: by_call[each])
    what = " (a lock or a wait for work; which one is not known)" if call == "futex" else ""
    share = units.share(by_call[call], alive_ns)
    return f"{_wait(waiting)}: {share} of all thread-time in {shown(call)}{what}."


def _runnable_cause(snapshot: Snapshot, _: Shown) -> str:
    metrics = snapshot.metrics
    spent = metrics.states_ns.get(ThreadState.RUNNABLE, 0.0)
    text = f"threads wait {units.share(spent, _alive_ns(snapshot))} of their time for a free core"
    if _all_busy(snapshot):
        return f"{text}: there are more busy threads than cores."
    if metrics.throttled_cores is not None and metrics.throttled_cores >= NOTEWORTHY_SHARE:
        return f"{text}: the CPU quota held them back ({units.cores(metrics.throttled_cores)} cores)."
    if metrics.other_programs_cores is not None and metrics.other_programs_cores >= NOTEWORTHY_SHARE:
        other = units.cores(metrics.other_programs_cores)
        if metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0) >= NOTEWORTHY_SHARE:
            return f"{text}; other processes use {other} cores."
    return f"{text}."
