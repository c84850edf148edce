"""The answer in words: one sentence about a snapshot.

In: a snapshot. Out: plain sentences, no styles; the text may hold names of the target and is made safe where
it is painted.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from ftdiag.model import EndReason, Severity, Snapshot, StateGroup, ThreadMetrics, ThreadState
from ftdiag.tui.look import STATE_WORDS
from ftdiag.units import cores, percent, plural

CHOSEN_WAITS: Final = frozenset({ThreadState.IDLE, ThreadState.SLEEP})
"""Waits that are nobody's fault: for work, or for a time."""
WANTED_CORES_WORTH_SAYING: Final = 0.25
"""Mean number of threads in the run queue from which the sentence speaks of them: a quarter of a core."""


def verdict(snapshot: Snapshot) -> tuple[str, Severity | None]:
    """The first line: the costliest finding's summary if it is a warning or worse, else where time goes."""
    grave = [finding for finding in snapshot.findings if finding.severity is not Severity.INFO]
    if grave:
        first = max(
            grave,
            key=lambda finding: (
                finding.lost_cores,
                finding.severity is Severity.CRITICAL,
                finding.score,
            ),
        )
        return first.summary, first.severity
    return state_of_affairs(snapshot), None


def state_of_affairs(snapshot: Snapshot) -> str:
    """For example "1.93 of 2 cores on CPU; 8 threads: 2 run, 6 wait (lock 71 %)"."""
    metrics = snapshot.metrics
    if snapshot.imported is not None and not metrics.ticks and snapshot.allocations is not None:
        return "a capture of memray: what allocates (6: memory), and no samples of where time goes"
    if snapshot.imported is not None:
        return f"samples of {plural(metrics.threads, 'thread')}, and nothing else: {snapshot.imported}"
    busy = cores(metrics.on_cpu_cores)
    if metrics.capacity_cores is not None:
        busy += f" of {whole_or_cores(metrics.capacity_cores)}"
    sentence = f"{busy} cores on CPU"
    if metrics.run_queue_cores >= WANTED_CORES_WORTH_SAYING:
        sentence += f" (+{cores(metrics.run_queue_cores)} wanted)"
    kinds = Counter(main_occupation(thread) for thread in snapshot.threads)
    total = sum(kinds.values())
    if not total:
        return sentence + "; no threads seen"
    parts = []
    if kinds["run"]:
        parts.append(f"{kinds['run']} run")
    if kinds["wait"]:
        parts.append(f"{kinds['wait']} wait{_commonest_wait(snapshot)}")
    if kinds["idle"]:
        parts.append(f"{kinds['idle']} idle")
    return f"{sentence}; {plural(total, 'thread')}: {', '.join(parts)}"


def whole_or_cores(value: float) -> str:
    """A number of cores without decimals where it has none: "2", "1.50"."""
    return str(int(value)) if value == int(value) else cores(value)


def main_occupation(thread: ThreadMetrics) -> str:
    """What a thread does most of the time: "run" (on a core or wanting one), "wait" or "idle"."""
    run = wait = idle = 0.0
    for state, time in thread.states_ns.items():
        if state.group is not StateGroup.OFF_CPU:
            run += time
        elif state in CHOSEN_WAITS:
            idle += time
        else:
            wait += time
    if run >= wait and run >= idle:
        return "run" if run > 0 else "idle"
    return "wait" if wait >= idle else "idle"


def _commonest_wait(snapshot: Snapshot) -> str:
    waits: Counter[ThreadState] = Counter()
    alive = 0.0
    for thread in snapshot.threads:
        if main_occupation(thread) != "wait":
            continue
        alive += sum(thread.states_ns.values())
        for state, time in thread.states_ns.items():
            if state.group is StateGroup.OFF_CPU and state not in CHOSEN_WAITS:
                waits[state] += int(time)
    if not waits or alive <= 0:
        return ""
    state, time = waits.most_common(1)[0]
    return f" ({STATE_WORDS[state][0]} {percent(time / alive)})"


_END_WORDS: Final = {
    EndReason.EXITED: "target exited",
    EndReason.KILLED: "target was killed",
    EndReason.EXECED: "target ran another program",
    EndReason.VANISHED: "target vanished",
    EndReason.DURATION: "time is up",
    EndReason.STOPPED: "stopped",
    EndReason.DISK_FULL: "disk full",
    EndReason.FAILED: "recording failed",
}


def end_words(reason: EndReason) -> str:
    """Why the recording ended, in few words."""
    return _END_WORDS[reason]


def gil_words(free_threaded: bool, gil_enabled: bool | None, culprits: tuple[str, ...]) -> tuple[str, bool]:
    """The build and its GIL, and whether that is a reason for alarm."""
    if not free_threaded:
        return "GIL build", True
    if gil_enabled is None:
        return "free-threaded, GIL unknown", False
    if not gil_enabled:
        return "free-threaded, GIL off", False
    by = f" by {', '.join(culprits[:2])}" if culprits else ""
    return f"free-threaded, GIL ON{by}", True
