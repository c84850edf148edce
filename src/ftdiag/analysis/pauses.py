"""Stop-the-world pauses: how often, how long, who asked for them and why.

In: tick-level runs of a range. Out: `PauseShares` (what each range of windows adds) and the model's `Pauses`,
one for each thread, line and reason.

A pause is a longest stretch of ticks with at least one thread STOPPED. Ticks see samples of time: the time is
unbiased, but pauses shorter than a tick are mostly missed and those close together are seen as one, so their
number is a lower bound. Who asked is known where the recording names the requester as the holder of the
stopped threads' wait; else it is inferred where one thread alone was not stopped and did collect garbage.
What for is told by the collector's own times, where the target publishes them; else by the functions of the
standard library on its stack, or by the machine code that native samples found it in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from ftdiag.analysis.grouping import Floats, Ints, distinct
from ftdiag.analysis.ticks import TickRuns
from ftdiag.datatypes import dataclass
from ftdiag.model import NO_HOLDER, NO_STACK, Confidence, Pauses, Stack, ThreadState
from ftdiag.recording.reader import Recording

MAX_PAUSES: Final = 100_000
"""Pauses looked at one by one in a range of windows."""
MAX_ROWS: Final = 32
"""Rows in the result, those with most time."""
COLLECTIONS_AT_ONCE: Final = 8
"""Interpreters that can collect at a time, as far as they are followed."""
GC_SHARE: Final = 0.25
"""Who spends this share of its samples at a stack on garbage collection has stopped the others for that."""
FUNCTION_REASONS: Final = (
    ("functools.py", "update_wrapper", "functools.wraps"),
    ("threading.py", "settrace_all_threads", "tracing switched on"),
    ("threading.py", "setprofile_all_threads", "tracing switched on"),
    ("subprocess.py", "Popen._execute_child", "fork"),
    ("popen_fork.py", "Popen._launch", "fork"),
)
"""(end of the file, function, reason) of functions of the standard library that stop the world."""
FRAMES_FOR_REASON: Final = 4
SYMBOL_SHARE: Final = 0.05
"""Who spends this share of its samples at a stack in such machine code has stopped the others for it."""
SYMBOL_REASONS: Final = (
    # Functions that stop the world (3.13 and 3.14) or do what they are stopped for; in the kernel, too.
    (
        "fork",
        re.compile(
            r"os_fork\w*|PyOS_(?:Before|After)Fork\w*|(?:__libc_|_)?[Ff]ork|copy_(?:process|page_range|pte_range)"
            r"|copy_present_\w+|dup_mm\w*|kernel_clone|vm_normal_page"
        ),
    ),
    ("a change of x.__class__", re.compile(r"object_set_class\w*")),
    ("a change of a function or its code", re.compile(r"func_set_\w+|_PyFunction_\w+Version|code_set_\w+")),
    (
        "tracing switched on",
        re.compile(
            r"_?PyEval_Set(?:Profile|Trace)\w*|sys_set(?:all)?(?:trace|profile)\w*|_?PyMonitoring_\w+"
            r"|monitoring_\w+|_Py_Instrument|instrument_\w+|force_instrument\w*"
        ),
    ),
    ("a change of a class", re.compile(r"type_set_(?:bases|abstractmethods)\w*")),
)
"""(reason, functions of machine code) by which the native samples of a requester tell what it asked for."""
GARBAGE_COLLECTION: Final = "garbage collection"

_Key = tuple[int, int, int, str | None]
"""Requester (thread index + 1), its stack, confidence, what native samples say it did."""


@dataclass(frozen=True, slots=True)
class PauseShares:
    """Per key: pauses begun, their time, the longest, most threads stopped at once; and all stopped time."""

    rows: dict[_Key, tuple[int, float, float, int]]


def pause_shares(
    recording: Recording, first: int, last: int, runs: TickRuns, tick_period_ns: Floats
) -> PauseShares:
    """The pauses in the windows at positions [first, last), whose runs are `runs`.

    One that goes on over the edge of the range is counted in both.
    """
    stopped = runs.state == int(ThreadState.STOPPED)
    if not stopped.any():
        return PauseShares({})
    present = runs.present(stopped)
    inside = np.flatnonzero(np.diff((present > 0).astype(np.int8), prepend=0, append=0))
    begins, ends = inside[0::2], inside[1::2]
    doing = _doing(recording, first, last)
    collections = _collections(recording, first, last)
    rows: dict[_Key, tuple[int, float, float, int]] = {}
    row_of_stopped = np.flatnonzero(stopped)
    for begin, end in zip(begins[:MAX_PAUSES].tolist(), ends[:MAX_PAUSES].tolist(), strict=True):
        collected = collections.cover(int(runs.tick_ns[begin]), int(runs.tick_ns[end - 1]))
        key = _who(runs, row_of_stopped, begin, end, doing, collected=collected)
        length = float(tick_period_ns[runs.tick_window[begin:end]].sum())
        count, total, longest, threads = rows.get(key, (0, 0.0, 0.0, 0))
        most = int(present[begin:end].max())
        rows[key] = count + 1, total + length, max(longest, length), max(threads, most)
    return PauseShares(rows)


@dataclass(frozen=True, slots=True)
class _Collected:
    """Times of collections by the collector's own clock, by their beginning."""

    begin_ns: Ints
    end_ns: Ints

    def cover(self, begin_ns: int, end_ns: int) -> bool:
        """Whether a collection ran at a moment of this span, ends included."""
        after = int(np.searchsorted(self.begin_ns, end_ns, side="right"))
        # Collections of one interpreter do not overlap: of those that began before, the last few tell.
        return bool((self.end_ns[max(0, after - COLLECTIONS_AT_ONCE) : after] >= begin_ns).any())


def _collections(recording: Recording, first: int, last: int) -> _Collected:
    """The timed collections of a range; one that ended after it is told of in a later window."""
    told = [each for _, each in recording.collections(first, last + 1)]
    begin = np.array([value for each in told for value in each.begin_ns], dtype=np.int64)
    end = np.array([value for each in told for value in each.end_ns], dtype=np.int64)
    order = np.argsort(begin, kind="stable")
    return _Collected(begin[order], end[order])


def _who(runs: TickRuns, stopped: Ints, begin: int, end: int, doing: _Doing, *, collected: bool) -> _Key:
    """Who asked for the pause of the ticks [begin, end), where it stood, and what it did.

    `collected`: the collector itself says that it ran then.
    """
    overlapping = stopped[(runs.first[stopped] < end) & (runs.end[stopped] > begin)]
    named = overlapping[runs.holder[overlapping] > NO_HOLDER]
    if len(named):
        requester = int(runs.holder[named[0]])
        stack = _stack_at(runs, requester - 1, begin, end)
        reason = GARBAGE_COLLECTION if collected else doing.reason(requester - 1, stack)
        return requester, stack, int(Confidence.KNOWN), reason
    others = np.flatnonzero(
        (runs.first < end) & (runs.end > begin) & (runs.state != int(ThreadState.STOPPED))
    )
    suspects = {
        (int(runs.thread[row]), int(runs.stack[row]))
        for row in others.tolist()
        if runs.state[row] == int(ThreadState.GC)
        or (int(runs.thread[row]), int(runs.stack[row])) in doing.collecting
    }
    if len({thread for thread, _ in suspects}) == 1:
        thread, stack = next(iter(suspects))
        return thread + 1, stack, int(Confidence.INFERRED), GARBAGE_COLLECTION
    return NO_HOLDER, NO_STACK, int(Confidence.UNKNOWN), GARBAGE_COLLECTION if collected else None


def _stack_at(runs: TickRuns, thread: int, begin: int, end: int) -> int:
    """Where a thread was for most of the ticks [begin, end)."""
    rows = np.flatnonzero((runs.thread == thread) & (runs.first < end) & (runs.end > begin))
    if not len(rows):
        return NO_STACK
    overlap = np.minimum(runs.end[rows], end) - np.maximum(runs.first[rows], begin)
    return int(runs.stack[rows[int(np.argmax(overlap))]])


@dataclass(frozen=True, slots=True)
class _Doing:
    """What native samples say of threads at stacks: who collected garbage, and what else stops the world."""

    collecting: frozenset[tuple[int, int]]
    reasons: dict[int, str]

    def reason(self, thread: int, stack: int) -> str | None:
        """What a thread at this stack would stop the others for."""
        return GARBAGE_COLLECTION if (thread, stack) in self.collecting else self.reasons.get(stack)


def _doing(recording: Recording, first: int, last: int) -> _Doing:
    """Collecting garbage is looked for by thread and stack, machine code by stack (it is rare in samples)."""
    native = recording.native(first, last)
    reason_of = {
        symbol: reason_of_symbol(recording.frame(symbol).function) if symbol > 0 else None
        for symbol in distinct(native.frame).tolist()
    }
    gc: dict[tuple[int, int], int] = {}
    total: dict[tuple[int, int], int] = {}
    at_stack: dict[int, int] = {}
    found: dict[int, dict[str, int]] = {}
    for thread, stack, state, symbol, samples in zip(
        native.thread.tolist(),
        native.stack.tolist(),
        native.state.tolist(),
        native.frame.tolist(),
        native.samples.tolist(),
        strict=True,
    ):
        total[thread, stack] = total.get((thread, stack), 0) + samples
        at_stack[stack] = at_stack.get(stack, 0) + samples
        reason = reason_of[symbol]
        if state == ThreadState.GC:
            gc[thread, stack] = gc.get((thread, stack), 0) + samples
        elif reason is not None:
            reasons = found.setdefault(stack, {})
            reasons[reason] = reasons.get(reason, 0) + samples
    most = {stack: max(reasons, key=reasons.__getitem__) for stack, reasons in found.items()}
    return _Doing(
        frozenset(place for place, samples in gc.items() if samples >= GC_SHARE * total[place]),
        {
            stack: reason
            for stack, reason in most.items()
            if found[stack][reason] >= SYMBOL_SHARE * at_stack[stack]
        },
    )


def reason_of_symbol(symbol: str) -> str | None:
    """What a function of machine code is there for, among what stops the world.

    Compilers and the kernel add suffixes: "object_set_class.cold", "copy_page_range [kernel]".
    """
    name = symbol.removesuffix(" [kernel]").partition(".")[0]
    return next((reason for reason, pattern in SYMBOL_REASONS if pattern.fullmatch(name)), None)


def joined_pauses(parts: Sequence[PauseShares]) -> PauseShares:
    """What consecutive ranges add together, in whole nanoseconds."""
    rows: dict[_Key, tuple[int, float, float, int]] = {}
    for part in parts:
        for key, row in part.rows.items():
            rows[key] = _added(rows.get(key), row)
    return PauseShares(
        {
            key: (count, float(round(total)), float(round(longest)), threads)
            for key, (count, total, longest, threads) in rows.items()
        }
    )


def _added(
    known: tuple[int, float, float, int] | None, row: tuple[int, float, float, int]
) -> tuple[int, float, float, int]:
    if known is None:
        return row
    return known[0] + row[0], known[1] + row[1], max(known[2], row[2]), max(known[3], row[3])


def merge_pauses(recording: Recording, parts: Sequence[PauseShares]) -> tuple[Pauses, ...]:
    """The pauses of a range by who asked, where and why; most time first."""
    merged: dict[tuple[int, Stack, int, str | None], tuple[int, float, float, int]] = {}
    for part in parts:
        for (requester, stack_id, confidence, does), row in part.rows.items():
            stack = recording.stack(stack_id)
            reason = does if does == GARBAGE_COLLECTION else _reason(stack) or does
            key = requester, stack, confidence, reason
            merged[key] = _added(merged.get(key), row)
    best = sorted(merged.items(), key=lambda item: -item[1][1])[:MAX_ROWS]
    return tuple(
        Pauses(
            requester=recording.thread(requester - 1) if requester != NO_HOLDER else None,
            confidence=Confidence(confidence),
            reason=reason,
            stack=stack,
            count=count,
            total_ns=total,
            longest_ns=longest,
            threads_max=threads,
        )
        for (requester, stack, confidence, reason), (count, total, longest, threads) in best
    )


def _reason(stack: Stack) -> str | None:
    for frame in stack[:FRAMES_FOR_REASON]:
        for ending, function, reason in FUNCTION_REASONS:
            if frame.function == function and frame.filename.endswith(f"/{ending}"):
                return reason
    return None
