"""How much of the machine the program used, and which causes kept cores from it.

In: accounts and tick-level runs of a range, the target's capacity, readings of the process. Out:
`TickShares` (what each range of windows adds) and the model's `Metrics`. This is the only place where useful
cores, efficiency and lost cores are made: all of them are parts of the account of cores (`analysis.cores`).

Without native samples a tick cannot tell useful work from spinning or waiting for a core. Then
`concurrency` counts threads that were *on a core or wanted one* at a tick, `load_balance_ratio` and
`work_per_wakeup_ns` use CPU time, and `useful_cores` and `efficiency_ratio` are not measured. Useful are
work, allocation and collection: a run with one thread pays for them, too. With native samples, time on a core
that they could not tell apart leaves a bound: the truth is between `useful_cores` and `useful_most_cores`.

Lost cores: a waiting thread costs a core only while there is one that the program could have used. At a
tick with r threads running, at most max(0, P - r) of the waiting ones are lost cores; where more wait,
the loss is shared among the waiting states in proportion, which keeps the sum order-free. Spinning and
contended atomics waste the cores they run on, so they count in full. Threads in I/O, and those that wait
for what is not known, share what these waits leave in the same way. The sum of all that and the cores in use
never exceeds P. `idle`, `sleep`, `io` and `halted` are no loss; they show in `states_ns`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from ftdiag.analysis.accounting import NATIVE_STATES, ON_CPU_STATES, Accounts
from ftdiag.analysis.cores import (
    LATER_STATES,
    Use,
    account_of,
    capacity_beside,
    lost_of,
    on_cpu_states,
    unseen_parts,
    with_unseen,
)
from ftdiag.analysis.grouping import Bools, Floats, Ints, summed
from ftdiag.analysis.ticks import STATES, TickRuns
from ftdiag.datatypes import dataclass, replace
from ftdiag.model import USEFUL_STATES, CorePart, Metrics, RecordingSettings, Target, ThreadState

WORK_SHARE: Final = 0.05
"""A thread had work if it ran, wanted to run or waited for a lock for this share of its life or more.
Housekeeping threads (a progress printer, an idle pool worker) stay below it, workers are far above."""
MAX_CONCURRENCY: Final = 1024
"""Length of the concurrency histogram at most; the last element holds all ticks with that many or more."""

LOCK_STATES: Final = (
    ThreadState.LOCK,
    ThreadState.OBJECT_LOCK,
    ThreadState.RUNTIME_LOCK,
    ThreadState.NATIVE_LOCK,
    ThreadState.STOPPED,
    ThreadState.GIL,
)
"""Off-CPU states in which a thread that had work was kept from it."""
WASTED_STATES: Final = (ThreadState.ATOMIC, ThreadState.SPIN)
"""On-CPU states that occupy a core without work."""
APART_STATES: Final = (ThreadState.IO, ThreadState.SLEEP, ThreadState.IDLE, ThreadState.HALTED)
"""Waits that are the program's own business, or that of who halted it: shown, not lost."""
LOCKED_OR_WASTED: Final = (*WASTED_STATES, ThreadState.RUNNABLE, *LOCK_STATES)
"""The states whose cores are lost."""


NOT_RECORDED: Final = "needs native samples of the threads on a core (not recorded)"


def why_no_native(settings: RecordingSettings) -> str:
    """Why a range has no native samples, from how the recording was made."""
    if settings.native_missing is not None:
        return f"needs native samples of the threads on a core: {settings.native_missing}"
    return NOT_RECORDED if settings.native is None else "no sample of machine code was taken in this range"


def what_source_lacks(settings: RecordingSettings) -> dict[str, str]:
    """What is not measured because of who read the stacks, and why."""
    if settings.imported is not None:
        only = samples_are_all(settings.imported)
        return dict.fromkeys(
            ("states", "locks", "unknown_ratio", "missed_tick_ratio", "sampler_cpu_ratio"), only
        )
    if settings.no_stacks is not None:
        return dict.fromkeys(("stacks", "locks"), settings.no_stacks)
    if settings.source == "py-spy":
        return {
            "locks": "py-spy reads the stacks, and does not say which lock a thread waits for",
            "lock_holders": "py-spy reads the stacks, and does not say who holds a lock",
        }
    return {}


def samples_are_all(kind: str) -> str:
    """Why everything but samples is missing; a capture of memray does not even have those."""
    if kind == "memray capture":
        return "imported from a capture of memray: that has what was allocated, and no samples or counters"
    return f"imported from a {kind} file: that has samples of stacks, and no counters of the kernel"


def samples_only(metrics: Metrics, kind: str) -> tuple[Metrics, dict[str, str]]:
    """The metrics of an imported recording, and why there is hardly any."""
    names = (
        "capacity_cores on_cpu_cores run_queue_cores useful_cores speedup_now ideal_speedup efficiency"
        " lost_cores account load_balance serial_share concurrency work_per_wakeup_us threads_with_work"
    ).split()
    measured = replace(
        metrics,
        lost_cores={},
        account={},
        load_balance_ratio=None,
        serial_share_ratio=None,
        concurrency=(),
        work_per_wakeup_ns=None,
    )
    return measured, dict.fromkeys(names, samples_are_all(kind))


@dataclass(frozen=True, slots=True)
class TickShares:
    """What a range of windows adds to the whole: ticks by concurrency, lost time by state (or None).

    `lost_by_window_ns` has a row for each window of a chunk, and none where chunks were merged.
    """

    concurrency_ticks: Ints
    ticks: int
    lost_ns: Floats | None
    lost_by_window_ns: Floats | None = None


def is_in(states: Ints, wanted: tuple[ThreadState, ...]) -> Bools:
    """Which of the state codes are among the wanted ones."""
    table = np.zeros(STATES, dtype=np.bool_)
    table[[int(state) for state in wanted]] = True
    found: Bools = table[states]
    return found


def working_threads(runs: TickRuns) -> Ints:
    """Threads on `work` at every tick; without native samples all that were on a core or wanted one."""
    return runs.present(is_in(runs.state, (ThreadState.ON_CPU, ThreadState.WORK)))


def tick_shares(
    runs: TickRuns, accounts: Accounts, length_ns: Ints, capacity_cores: float | None
) -> TickShares:
    """Concurrency and lost time of the windows that `runs` and `accounts` cover."""
    working = np.minimum(working_threads(runs), MAX_CONCURRENCY - 1)
    lost = None if capacity_cores is None else _lost_ns(runs, accounts, length_ns, capacity_cores)
    whole = None if lost is None else lost.sum(axis=0)
    return TickShares(np.bincount(working, minlength=1), runs.ticks, whole, lost)


def _lost_ns(runs: TickRuns, accounts: Accounts, length_ns: Ints, capacity: float) -> Floats:
    """Lost time of every window by state."""
    windows = len(length_ns)
    time = accounts.time
    known = summed(time.window * STATES + time.state, time.time_ns, windows * STATES)
    by_window = known.reshape(windows, STATES)
    cell_window = accounts.cells.window
    cpu = summed(cell_window, accounts.cells.cpu_ns, windows)
    queue = summed(cell_window, accounts.cells.run_queue_ns, windows)
    by_window[:, ThreadState.RUNNABLE] = queue

    running_share = np.divide(cpu, cpu + queue, out=np.ones(windows), where=cpu + queue > 0)[runs.tick_window]
    wanting = runs.present(is_in(runs.state, (*ON_CPU_STATES, ThreadState.RUNNABLE)))
    waiting = {state: runs.present(runs.state == state).astype(np.float64) for state in LOCK_STATES}
    waiting[ThreadState.RUNNABLE] = wanting * (1.0 - running_share)
    later = {state: runs.present(runs.state == state).astype(np.float64) for state in LATER_STATES}
    free = np.maximum(capacity - wanting * running_share, 0.0)
    lost = np.zeros((windows, STATES), dtype=np.float64)
    spare = np.maximum(capacity * length_ns - cpu, 0.0)
    for waits in (waiting, later):
        all_waiting = np.sum(list(waits.values()), axis=0)
        part = np.minimum(1.0, np.divide(free, all_waiting, out=np.zeros(len(free)), where=all_waiting > 0))
        free = free - all_waiting * part
        these = np.zeros((windows, STATES), dtype=np.float64)
        for state, threads in waits.items():
            seen = summed(runs.tick_window, threads, windows)
            counted = summed(runs.tick_window, threads * part, windows)
            share = np.divide(counted, seen, out=np.ones(windows), where=seen > 0)
            these[:, state] = by_window[:, state] * share
        total = these.sum(axis=1)
        these *= np.minimum(1.0, np.divide(spare, total, out=np.ones(windows), where=total > 0))[:, None]
        spare = np.maximum(spare - these.sum(axis=1), 0.0)
        lost += these
    # Who has yielded while it spins has no use for a core.
    spun = summed(cell_window, accounts.cells.spun_ns, windows)
    lost[:, ThreadState.RUNNABLE] *= 1.0 - np.divide(spun, queue, out=np.zeros(windows), where=queue > 0)
    return lost


def merge_shares(parts: list[TickShares]) -> TickShares:
    """Sums the shares of consecutive ranges."""
    longest = max((len(part.concurrency_ticks) for part in parts), default=1)
    concurrency = np.zeros(longest, dtype=np.int64)
    lost: Floats | None = np.zeros(STATES, dtype=np.float64) if parts else None
    for part in parts:
        concurrency[: len(part.concurrency_ticks)] += part.concurrency_ticks
        lost = None if lost is None or part.lost_ns is None else lost + part.lost_ns
    return TickShares(concurrency, sum(part.ticks for part in parts), lost)


def had_work(alive_ns: Ints, states_ns: Ints) -> Bools:
    """Which threads had work: see `WORK_SHARE`."""
    wanted = [int(state) for state in (*ON_CPU_STATES, ThreadState.RUNNABLE, *LOCK_STATES)]
    active: Ints = states_ns[:, wanted].sum(axis=1)
    worked: Bools = (active > 0) & (active >= WORK_SHARE * alive_ns)
    return worked


def capacity_of(target: Target) -> float | None:
    """The target's capacity in cores where it is known and makes sense."""
    cores = target.capacity_cores
    return cores if cores is not None and np.isfinite(cores) and cores > 0 else None


def metrics_of(
    target: Target,
    *,
    duration_ns: int,
    alive_ns: Ints,
    cpu_ns: Ints,
    run_queue_ns: Ints,
    states_ns: Ints,
    voluntary_switches: Ints,
    shares: TickShares,
    use: Use | None = None,
    unseen: Mapping[ThreadState, float] | None = None,
    native_missing: str = NOT_RECORDED,
) -> tuple[Metrics, dict[str, str]]:
    """The program's metrics from per-thread columns, and why those that are None are not measured.

    `use` has the cores in use as the process's own clock says; without it those of the threads count.
    `unseen` are the samples of machine code by state of threads that no tick saw.
    `native_missing` says why there are no native samples, if there are none.
    """
    missing: dict[str, str] = {}
    seconds = float(duration_ns) if duration_ns > 0 else math.inf
    workers = had_work(alive_ns, states_ns)
    totals = states_ns.sum(axis=0) if len(states_ns) else np.zeros(STATES, dtype=np.int64)
    states = {state: int(totals[state]) for state in ThreadState if int(totals[state]) > 0}
    native = any(state in states for state in NATIVE_STATES)
    use = use or Use(on_cpu_cores=float(cpu_ns.sum()) / seconds)
    capacity = capacity_of(target)
    reason = target.capacity_reason
    if capacity is None:
        missing["capacity_cores"] = reason or "the recording does not say how many cores there are"
        missing["lost_cores"] = missing["ideal_speedup"] = missing["account"] = "needs the capacity in cores"
    elif capacity_beside(capacity, use.on_cpu_cores) > capacity:
        capacity = use.on_cpu_cores
        reason = f"{reason or 'capacity'}, but more was in use"

    # Threads that spin wait for a lock with a core and without: the latter is in `spin`, too.
    spun_cores = max(0, int(run_queue_ns.sum()) - states.get(ThreadState.RUNNABLE, 0)) / seconds
    run_queue_cores = float(run_queue_ns.sum()) / seconds - spun_cores
    running = {state: spent / seconds for state, spent in on_cpu_states(states).items()}
    if spun_cores:
        running[ThreadState.SPIN] = max(0.0, running.get(ThreadState.SPIN, 0.0) - spun_cores)
    unseen_cores, parts_unseen = use.unseen_cores, unseen_parts(use, unseen or {})
    use, running = with_unseen(use, running, parts_unseen)
    on_cpu_cores = use.on_cpu_cores if capacity is None else min(capacity, use.on_cpu_cores)
    account: dict[CorePart, float] = {}
    lost: dict[ThreadState, float] = {}
    if duration_ns <= 0:
        for name in ("useful_cores", "speedup_now", "efficiency", "lost_cores", "account"):
            missing[name] = "the range has no length"
    elif capacity is not None and shares.lost_ns is not None:
        waits = (ThreadState.RUNNABLE, *LOCK_STATES, *LATER_STATES)
        account = account_of(
            capacity,
            use,
            running=running,
            waiting={state: float(shares.lost_ns[state]) / seconds for state in waits},
            wanted_cores=use.on_cpu_cores + run_queue_cores,
        )
        kept = [
            state
            for state in LOCKED_OR_WASTED
            if state is ThreadState.RUNNABLE or state in {**states, **parts_unseen}
        ]
        lost = lost_of(account, kept)

    useful_cores = most = efficiency = efficiency_most = None
    parts: dict[ThreadState, float] = {state: running[state] for state in USEFUL_STATES if state in running}
    if duration_ns <= 0:
        pass
    elif not native:
        missing["useful_cores"] = missing["speedup_now"] = missing["efficiency"] = native_missing
    else:
        seen = sum(parts.values())
        useful_cores = account.get(CorePart.USEFUL, seen)
        parts = {state: cores * useful_cores / seen if seen else 0.0 for state, cores in parts.items()}
        unclear = running.get(ThreadState.ON_CPU, 0.0) + (use.unseen_cores or 0.0)
        if account:
            unclear = account[CorePart.ON_CPU] + account[CorePart.UNSEEN_THREADS]
        most = useful_cores + unclear
    ideal = None
    if capacity is not None:
        # Many threads that each did a little may have been useful together, none of which counts as working.
        ideal = min(capacity, max(float(workers.sum()), most or 0.0))
    if useful_cores is not None and most is not None and ideal:
        efficiency, efficiency_most = min(1.0, useful_cores / ideal), min(1.0, most / ideal)
    if native and efficiency is None:
        missing.setdefault("efficiency", "needs the capacity in cores and a thread that had work")

    useful_ns = states_ns[:, [int(state) for state in USEFUL_STATES]].sum(axis=1) if native else cpu_ns
    balance = None
    if workers.any() and int(useful_ns[workers].max()) > 0:
        balance = float(useful_ns[workers].mean() / useful_ns[workers].max())
    else:
        missing["load_balance"] = "no thread had work"
    switches = int(voluntary_switches[workers].sum())
    wakeup = None
    if switches > 0:
        wakeup = float(useful_ns[workers].sum()) / switches
    else:
        missing["work_per_wakeup_us"] = "no thread with work gave up its core in this range"
    concurrency: tuple[float, ...] = ()
    serial = None
    if shares.ticks > 0:
        counts = np.trim_zeros(shares.concurrency_ticks, "b")
        concurrency = tuple(float(count) / shares.ticks for count in counts)
        serial = min(1.0, sum(concurrency[:2]))
    else:
        missing["concurrency"] = missing["serial_share"] = "no tick was taken in this range"
    return (
        Metrics(
            duration_ns=duration_ns,
            ticks=shares.ticks,
            capacity_cores=capacity,
            capacity_reason=reason,
            threads=len(alive_ns),
            threads_with_work=int(workers.sum()),
            on_cpu_cores=on_cpu_cores,
            run_queue_cores=run_queue_cores,
            useful_cores=useful_cores,
            ideal_speedup=ideal,
            efficiency_ratio=efficiency,
            lost_cores=lost,
            states_ns=states,
            load_balance_ratio=balance,
            serial_share_ratio=serial,
            concurrency=concurrency,
            work_per_wakeup_ns=wakeup,
            other_programs_cores=use.other_cores,
            other_processes=use.others,
            throttled_cores=use.throttled_cores,
            unseen_threads_cores=unseen_cores,
            unseen_parts_cores=parts_unseen,
            account=account,
            useful_most_cores=most,
            efficiency_most_ratio=efficiency_most,
            useful_parts_cores=parts,
        ),
        missing,
    )
