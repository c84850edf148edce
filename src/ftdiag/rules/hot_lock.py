"""hot-lock: threads wait for one lock that the program made."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Remedy
from ftdiag.rules.base import (
    WORTH_SAYING,
    Clear,
    Facts,
    Found,
    LockCharge,
    Need,
    Rule,
    Threshold,
    Verdict,
    finite,
)
from ftdiag.rules.locks import (
    blame_of,
    confidence_of,
    cost_of,
    holding,
    lock_evidence,
    lock_subject,
    verify_lock,
    where,
    worth_saying,
)
from ftdiag.rules.wording import lock_name, place, place_in, share, short

SHORT_HOLD: Final = Threshold(
    "spin_share_of_loss",
    0.5,
    "ratio",
    "a lock that is held for a moment is spun for (40 yields before parking), one held long is parked on:"
    " the first wants fewer acquisitions, the second less work under it",
)


def _remedy(facts: Facts, charge: LockCharge) -> tuple[Remedy, ...]:
    lock = charge.locks[0]
    name = lock_name(lock).partition(" (")[0]
    line = where(charge)
    held = holding(charge)
    spinning = charge.spin_cores + charge.atomic_cores >= SHORT_HOLD.value * charge.lost_cores
    at = place(line)
    merge = Remedy(
        f"count or collect per thread and merge once at the end, instead of taking {name} for each step"
        " (measured 2.0x on 2 threads, against 1.0x)",
        f"# {at}\nlocal = 0\nfor item in items:\n    local += weight(item)   # no lock\n"
        f"with {name}:\n    self.total += local",
    )
    batch = Remedy(
        "take the lock once for many steps: one acquisition for 256 gave 1.8x / 1.5x on 3.13 / 3.14",
        f"# {at}\nfor batch in chunks(items, 256):\n    with {name}:\n        for item in batch: ...",
    )
    inside = place_in(held.frame) if held is not None else "the slow call"
    call = short(held.frame.function.rsplit(".", 1)[-1]) if held is not None else "work"
    hold = Remedy(
        f"do less while {name} is held: move what {inside} does out of the `with` block; a lock held for a"
        " share s of the work bounds the speed-up at 1/s",
        f"# {at}\nresult = {call}(...)      # outside, may run in all threads\n"
        f"with {name}:\n    self.keep(result)     # only the write inside",
    )
    return (merge, batch, hold) if spinning else (hold, batch, merge)


def _judge(facts: Facts) -> Verdict:
    findings = []
    for charge in worth_saying(facts, RULE.id):
        name = lock_name(charge.locks[0])
        wait = sum(finite(lock.wait_ns) for lock in charge.locks)
        critical = sum(finite(lock.critical_wait_ns) for lock in charge.locks)
        findings.append(
            RULE.finding(
                facts,
                lost_cores=charge.lost_cores,
                confidence=confidence_of(charge),
                subject=lock_subject(charge),
                summary=f"{cost_of(facts, charge)}; {blame_of(charge)}.",
                explanation=(
                    f"Threads were seen parked on {name}, or spinning at its line, at most"
                    f" {max(lock.waiters_max for lock in charge.locks)} at once; {share(critical, wait)} of"
                    " the wait"
                    " was while cores were free. Sharding the data over 16 locks looks like the answer and"
                    " was not"
                    " when measured (0.88x on 3.13, 0.81x on 3.14)."
                ),
                could_also_be=(
                    "a holder that is itself kept from its core: see oversubscription and cpu-quota",
                    "a holder that does I/O under the lock: its line says so",
                ),
                remedy=_remedy(facts, charge),
                verify=verify_lock(facts, charge),
                evidence=lock_evidence(facts, charge),
            )
        )
    return Found(tuple(findings)) if findings else Clear()


RULE: Final = Rule(
    id="hot-lock",
    title="One lock of the program is waited for",
    needs=(Need.TICKS, Need.CAPACITY),
    thresholds=(WORTH_SAYING, SHORT_HOLD),
    judge=_judge,
)
