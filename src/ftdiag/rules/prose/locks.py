"""What findings about locks and pauses have in common: who waits, who holds, what it costs, in words.

In: facts and a charge of locks. Out: parts of findings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    CollectorMetrics,
    Confidence,
    Evidence,
    Finding,
    Pauses,
    Remedy,
)
from ftdiag.rules.attribution.locks import holding, where
from ftdiag.rules.base import (
    MOSTLY_SHARE,
    WORTH_SAYING,
    Facts,
    LockCharge,
    Rule,
    evidence,
    finite,
    key_of,
    subject_of,
)
from ftdiag.wording.findings import report_again
from ftdiag.wording.locks import lock_in_sentence, lock_key, metrics_in_sentence
from ftdiag.wording.places import place, place_in
from ftdiag.wording.threads import thread_names, verb
from ftdiag.wording.units import of_cores, plural, seconds, share

MAX_BESIDE: Final = 2
"""Locks of the same cause that are told beside the first."""
MAX_FINDINGS: Final = 5
"""Locks told one by one; the next ones cost less than the first by far."""


def waiting(charge: LockCharge) -> str:
    """The threads that wait, by name."""
    return thread_names(
        (waiter.thread for lock in charge.locks for waiter in lock.waiters),
        max(charge.threads, *(lock.waiters_max for lock in charge.locks)),
    )


def cost_of(facts: Facts, charge: LockCharge) -> str:
    """ "self._lock (cache.py:88) costs 2.1 of 4 cores: worker-0 to worker-7 (8 threads) wait for it"."""
    threads = waiting(charge)
    name = metrics_in_sentence(charge.locks[0])
    if len(charge.locks) > 1:
        name = f"{len(charge.locks)} locks like {name}"
    others = sorted({metrics_in_sentence(lock) for lock in charge.beside} - {name})
    name = " and ".join((name, *others[:MAX_BESIDE]))
    line = where(charge)
    at = f" ({place(line)})" if line is not None else ""
    many = len(charge.locks) > 1 or bool(others)
    return (
        f"{name}{at} {'cost' if many else 'costs'} {of_cores(charge.lost_cores, facts.capacity)}:"
        f" {threads} {verb(threads, 'waits', 'wait')} for {'them' if many else 'it'}"
    )


def blame_of(charge: LockCharge) -> str:
    """ "in 93 % of the waits the holder, Thread-2, was in _refresh (cache.py:131)"."""
    held = holding(charge)
    if held is None:
        free = sum(finite(holder.blame_ns) for lock in charge.locks for holder in lock.holders if holder.free)
        wait = sum(finite(lock.wait_ns) for lock in charge.locks)
        if free > wait / 2:
            part = share(free, wait)
            return f"in {part} of the waits nobody has it: it is free, the next thread is not back yet"
        return "who holds it is not known (no `with` block around it was seen)"
    part = share(held.share, 1.0)
    # Of a lock that is mostly spun for, only the few waits that parked were seen with their holder.
    of = "of the waits that were seen" if charge.mostly_spun else "of the waits"
    waiters = {waiter.thread.index for lock in charge.locks for waiter in lock.waiters}
    holders = {thread.index for thread in held.threads}
    if len(holders) == 1:
        who = f"the holder, {thread_names(held.threads)},"
    elif holders <= waiters:
        who = "the holder, one of them,"
    else:
        who = f"the holder, one of {thread_names(held.threads)},"
    return f"in {part} {of} {who} was in {place_in(held.frame)}"


def lock_evidence(facts: Facts, charge: LockCharge) -> tuple[Evidence, ...]:
    """The figures that every finding about a lock rests on."""
    locks = (*charge.locks, *charge.beside)
    wait = sum(finite(lock.wait_ns) for lock in locks)
    critical = sum(finite(lock.critical_wait_ns) for lock in locks)
    found = [
        evidence("lost_share_of_capacity", charge.lost_cores / facts.capacity, "ratio", WORTH_SAYING),
        evidence("wait", wait / 1e9, "s"),
        evidence("critical_wait", critical / 1e9, "s"),
        evidence("mean_queue", sum(finite(lock.mean_queue) for lock in locks), "threads"),
        evidence("waiters_max", max(lock.waiters_max for lock in locks), "threads"),
        evidence("longest_wait", max(finite(lock.longest_wait_ns) for lock in locks) / 1e6, "ms"),
    ]
    if facts.native:
        found.append(evidence("spin", charge.wasted_cores, "cores"))
    held = holding(charge)
    if held is not None:
        found.append(evidence("blame_of_first_place", held.share, "ratio"))
    return tuple(found)


def confidence_of(charge: LockCharge) -> str:
    """Known where the holders are proven, else likely."""
    held = holding(charge)
    return "known" if held is not None and held.confidence is Confidence.KNOWN else "likely"


def lock_subject(charge: LockCharge) -> dict[str, str | int]:
    """The lock, its place, and the thread that holds it where it is one."""
    lock = charge.locks[0]
    subject = subject_of(where(charge), lock=lock_key(lock.lock))
    held = holding(charge)
    alone = held is not None and len({thread.index for thread in held.threads}) == 1
    if held is not None and alone and held.share >= MOSTLY_SHARE:
        subject["thread"] = held.threads[0].name
    return subject


def verify_lock(facts: Facts, charge: LockCharge) -> str:
    """How to see that it helped."""
    return (
        f"{report_again(facts.pid)}: the wait for {lock_in_sentence(charge.locks[0].lock)} under Locks falls,"
        " and the throughput your program reports rises"
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule says of one charge of locks, beside what all of them say."""

    summary: str
    explanation: str
    remedy: tuple[Remedy, ...]
    could_also_be: tuple[str, ...]


def lock_findings(rule: Rule, facts: Facts, tell: Callable[[Facts, LockCharge], Told]) -> tuple[Finding, ...]:
    """A finding for each lock (or group of locks alike) of a rule that is worth one."""
    findings = []
    for charge in worth_saying(facts, rule.id):
        told = tell(facts, charge)
        findings.append(
            rule.finding(
                facts,
                lost_cores=charge.lost_cores,
                confidence=confidence_of(charge),
                subject=lock_subject(charge),
                summary=told.summary,
                explanation=told.explanation,
                could_also_be=told.could_also_be,
                remedy=told.remedy,
                verify=verify_lock(facts, charge),
                evidence=lock_evidence(facts, charge),
            )
        )
    return tuple(findings)


def parked_words(charge: LockCharge) -> str:
    """ "88 % of the parked time was while cores were free"; or that nobody was seen parked."""
    wait = sum(finite(lock.wait_ns) for lock in charge.locks)
    if wait <= 0:
        return "Nobody was seen parked on it: it is held for a moment each time"
    free = share(sum(finite(lock.critical_wait_ns) for lock in charge.locks), wait)
    return f"{free} of the parked time was while cores were free"


def worth_saying(facts: Facts, rule_id: str) -> tuple[LockCharge, ...]:
    """The charges of a rule that are worth a finding."""
    return tuple(
        charge
        for charge in facts.lock_charges(rule_id)[:MAX_FINDINGS]
        if facts.loses(charge.lost_cores, key_of(rule_id, lock_subject(charge)))
    )


def collections_measured(facts: Facts, collector: CollectorMetrics) -> str:
    """ "45 collections in 5 s, 10 ms each on average and 15 ms at most": by the collector's own count."""
    span = seconds(facts.metrics.duration_ns * collector.covered_ratio)
    if not collector.count:
        return f"no collection in {span}"
    said = (
        f"{plural(collector.count, 'collection')} in {span}, {seconds(collector.total_ns / collector.count)}"
    )
    if collector.count == 1:
        return said
    said += " each on average"
    if collector.longest_ns is None:
        return said
    seen = "" if collector.timed == collector.count else f" of the {collector.timed:,} timed one by one"
    return f"{said} and {seconds(collector.longest_ns)} at most{seen}"


def pauses_seen(facts: Facts, pauses: Sequence[Pauses]) -> str:
    """ "at least 91 pauses in 5 s, 31 ms each on average, 140 ms at most": how often and how long."""
    count = sum(each.count for each in pauses)
    if not count:
        return "none lasted long enough to be counted"
    total = sum(finite(each.total_ns) for each in pauses)
    longest = max(finite(each.longest_ns) for each in pauses)
    span = seconds(facts.metrics.duration_ns)
    said = f"at least {plural(count, 'pause')} in {span}"
    if count == 1:
        return f"{said} was long enough to be seen, {seconds(longest)}"
    return f"{said}, {seconds(total / count)} each on average and {seconds(longest)} at most"
