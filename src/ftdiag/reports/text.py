"""The text report: the answer first, then what it rests on, for 80 columns and for screen readers.

In: a `Snapshot` and a width. Out: plain lines, without colour, boxes or column art; `lines` also says what
each line is, so that a terminal may set headings apart. Every table is a list of sentences that can be read
aloud. Names that the target chose are escaped; with `ascii_only` (the C locale) so is all that is not ASCII.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len, set_cell_size

from ftdiag.datatypes import dataclass
from ftdiag.model import (
    CorePart,
    Finding,
    Frame,
    HotLine,
    LockMetrics,
    Snapshot,
    Stack,
    StateGroup,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.reports.allocations import allocation_sentences, allocations_of, line_words
from ftdiag.reports.escaping import visible
from ftdiag.reports.memory import memory_sentences
from ftdiag.wording import units
from ftdiag.wording.account import (
    SAID_CORES,
    account_words,
    efficiency_words,
    state_note,
    unseen_words,
    useful_words,
)
from ftdiag.wording.answer import answer
from ftdiag.wording.bottlenecks import bottleneck_sentences
from ftdiag.wording.findings import cost_words
from ftdiag.wording.locks import (
    collections_words,
    holding,
    main_wait_words,
    metrics_words,
    spun_for_words,
)
from ftdiag.wording.objects import locked_words, object_words
from ftdiag.wording.places import at_words, frame_words
from ftdiag.wording.quality import MISSED, OWN_COST, TORN, UNKNOWN, figure_name, tick_rate_words
from ftdiag.wording.states import CONFIDENCE_NAMES, PART_NAMES, STATE_NAMES, longest, split_words

SHOWN_THREADS: Final = 12
SHOWN_LINES: Final = 10
SHOWN_LOCKS: Final = 8
SHOWN_WAITERS: Final = 3
SHOWN_FRAMES: Final = 5
SHOWN_NAMES: Final = 2
SMALL_SHARE: Final = 0.01
"""Hot lines below this share of all thread-time are left to the JSON report, but for the first three."""
MAIN_WAIT_SHARE: Final = 0.2
"""From this share of a thread's life on, its longest wait is named with it."""
SHOWN_GAPS: Final = 12
SHOWN_PAUSES: Final = 6
SHOWN_SYMBOLS: Final = 5
SHOWN_CODE_LINES: Final = 12
MAX_PROSE: Final = 2000
"""Longest sentence or paragraph of a finding."""
MIN_WIDTH: Final = 20
_UNIT: Final = re.compile(r"(?<=[0-9]) (?=(?:%|h|min|s|ms|us|ns)(?![a-z]))")
_DIGITS: Final = re.compile("[0-9]+")


class LineKind(enum.Enum):
    """What a line of the report is."""

    ANSWER = "answer"
    HEADING = "heading"
    ITEM = "item"
    DETAIL = "detail"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report, at most as wide as asked for."""

    kind: LineKind
    text: str


def render(snapshot: Snapshot, width: int = 80, *, ascii_only: bool = False) -> Iterator[str]:
    """The report's lines as plain text."""
    for line in lines(snapshot, width, ascii_only=ascii_only):
        yield line.text


def lines(snapshot: Snapshot, width: int = 80, *, ascii_only: bool = False) -> Iterator[Line]:
    """The report's lines and what they are."""
    report = _Report(snapshot, ascii_only)
    width = max(width, MIN_WIDTH)
    for kind, indent, text in report.parts():
        for number, piece in enumerate(_wrapped(text, width - indent - 2)):
            margin = " " * (indent if number == 0 else indent + 2)
            yield Line(kind, (margin + piece).rstrip())


def headline(snapshot: Snapshot, *, ascii_only: bool = False) -> str:
    """The answer in one or two sentences."""
    return answer(snapshot, lambda text: visible(text, ascii_only=ascii_only)).sentence


class _Report:
    """Sentences of one snapshot: (kind, indent, text) in order.

    Longer than 300 lines, because every section of the report is a method of it; none is long.
    """

    def __init__(self, snapshot: Snapshot, ascii_only: bool) -> None:
        self._snapshot = snapshot
        self._ascii_only = ascii_only
        self._alive_ns = float(sum(snapshot.metrics.states_ns.values()))

    def parts(self) -> Iterator[tuple[LineKind, int, str]]:
        yield LineKind.ANSWER, 0, answer(self._snapshot, self._safe).sentence
        yield from self._section("Target", self._target())
        if self._snapshot.metrics.ticks or self._alive_ns:
            yield from self._section("Findings", self._findings())
            yield from self._section("Fix this first", bottleneck_sentences(self._snapshot, self._safe))
            yield from self._section("Workload", self._workload())
            yield from self._section(
                f"Where thread-time goes ({units.seconds(self._alive_ns)} of thread-time)", self._states()
            )
            yield from self._section("Cores", self._cores())
            yield from self._section(
                self._counted("Threads", SHOWN_THREADS, len(self._alike())), self._threads()
            )
            yield from self._section(
                self._counted("Hot lines", len(self._shown_lines()), len(self._snapshot.hot)), self._hot()
            )
            yield from self._section(
                self._counted("Locks", SHOWN_LOCKS, len(self._snapshot.locks)), self._locks()
            )
            yield from self._section("Stop-the-world pauses", self._pauses())
            yield from self._section("Memory", memory_sentences(self._snapshot, self._frame, self._safe))
        yield from self._section("Allocations", self._allocations())
        yield from self._section("Not measured", self._not_measured())
        yield from self._section("Quality", self._quality())

    # --- sections ------------------------------------------------------------------------------------

    def _target(self) -> Iterator[tuple[int, str]]:
        snapshot = self._snapshot
        target = snapshot.target
        gil = {None: "GIL state not known", True: "GIL on", False: "GIL off"}[target.gil_enabled]
        build = "free-threaded" if target.free_threaded else "GIL build"
        if snapshot.imported is None:
            yield _item(f"pid {target.pid}, CPython {self._safe(target.python_version)} {build}, {gil}")
        if snapshot.settings.source == "py-spy":
            yield _item("its stacks were read through py-spy")
        if target.gil_culprits:
            culprits = ", ".join(self._safe(name) for name in target.gil_culprits)
            yield _item(f"modules that turned the GIL on: {culprits}")
        yield _item(f"command: {self._safe(target.command)}")
        start, metrics = self._start(), snapshot.metrics
        yield _item(
            f"{units.seconds(metrics.duration_ns)} recorded{start}, {units.plural(metrics.ticks, 'tick')} at"
            f" {tick_rate_words(metrics.ticks, metrics.duration_ns, snapshot.settings.rate_hz)}"
        )
        if snapshot.end is not None:
            yield _item(f"recording ended: {self._safe(snapshot.end.detail or snapshot.end.reason.value)}")

    def _workload(self) -> Iterator[tuple[int, str]]:
        workload = self._snapshot.workload
        if workload is not None:
            shares = [(share, kind) for kind, share in workload.shares.items() if share >= 0.005]
            split = ", ".join(f"{kind} {units.percent(share)}" for share, kind in shares)
            yield _item(f"{workload.kind} ({split}): {self._safe(workload.advice)}")

    def _findings(self) -> Iterator[tuple[int, str]]:
        for finding in self._snapshot.findings:
            yield from self._finding(finding)

    def _finding(self, finding: Finding) -> Iterator[tuple[int, str]]:
        yield _item(f"{finding.severity.value}: {self._prose(finding.summary)} ({cost_words(finding)})")
        yield _detail(self._prose(finding.explanation))
        for number, remedy in enumerate(finding.remedy):
            yield _detail(f"do: {self._prose(remedy.text)}")
            if number == 0 and remedy.code is not None:
                for line in remedy.code.splitlines()[:SHOWN_CODE_LINES]:
                    code = line.lstrip(" ")
                    yield 8 + len(line) - len(code), self._safe(code)

    def _states(self) -> Iterator[tuple[int, str]]:
        for state, spent in longest(self._snapshot.metrics.states_ns):
            note = state_note(state, self._snapshot.metrics)
            yield _item(f"{STATE_NAMES[state]}: {self._share(spent)}, {units.seconds(spent)}{note}")

    def _cores(self) -> Iterator[tuple[int, str]]:
        metrics = self._snapshot.metrics
        if self._snapshot.imported is not None:
            return
        if metrics.capacity_cores is not None:
            reason = f" ({self._safe(metrics.capacity_reason)})" if metrics.capacity_reason else ""
            yield _item(f"capacity: {units.cores(metrics.capacity_cores)}{reason}")
        wanting = units.cores(metrics.run_queue_cores)
        yield _item(
            f"on CPU: {units.cores(metrics.on_cpu_cores)}; {STATE_NAMES[ThreadState.RUNNABLE]}: {wanting}"
        )
        useful, efficiency = useful_words(metrics), efficiency_words(metrics)
        if useful is not None:
            possible = (
                "" if metrics.ideal_speedup is None else f" of {units.cores(metrics.ideal_speedup)} possible"
            )
            parts = ", ".join(
                f"{STATE_NAMES[state]} {units.cores(cores)}"
                for state, cores in longest(metrics.useful_parts_cores)
                if cores >= SAID_CORES
            )
            yield _item(
                f"useful: {useful}{possible}"
                + (f"; efficiency {efficiency}" if efficiency is not None else "")
                + (f" ({parts})" if parts else "")
            )
        account = account_words(metrics)
        if account:
            yield _item(f"where they go: {account}")
        unseen = unseen_words(metrics)
        if unseen:
            yield _item(f"of that in {PART_NAMES[CorePart.UNSEEN_THREADS]}: {unseen}")
            functions = ", ".join(
                f"{self._safe(name)} {units.percent(share)}"
                for name, share in metrics.unseen_functions[:SHOWN_SYMBOLS]
            )
            yield 4, f"machine code: {functions}"
        yield _item(
            f"{units.plural(metrics.threads_with_work, 'thread')} of {metrics.threads:,} had work"
            + (
                ""
                if metrics.load_balance_ratio is None
                else f"; load balance {units.percent(metrics.load_balance_ratio)}"
            )
        )
        if metrics.concurrency:
            shares = [
                f"{count} in {units.percent(share)}"
                for count, share in enumerate(metrics.concurrency)
                if share >= 0.005
            ]
            yield _item(f"threads at once on a core or waiting for one: {', '.join(shares)} of the ticks")

    def _threads(self) -> Iterator[tuple[int, str]]:
        for alike in self._alike()[:SHOWN_THREADS]:
            first = alike[0]
            alive = sum(thread.alive_ns for thread in alike)
            states: dict[ThreadState, float] = {}
            for thread in alike:
                for state, spent in thread.states_ns.items():
                    states[state] = states.get(state, 0.0) + spent
            if len(alike) == 1:
                name, which = self._safe(first.info.name), f"tid {first.info.tid}, "
            else:
                first = min(alike, key=lambda thread: thread.info.index)
                name = self._names(alike)
                which = f"{len(alike)} threads, "
            yield _item(f"{name} ({which}{first.role}, {units.seconds(alive)}): {split_words(states, alive)}")
            if first.hot:
                yield _detail(f"most at {self._frame(first.hot[0].frame)}")
            if len(alike) == 1 and first.tasks:
                tasks = (f"{self._safe(task)} {units.share(spent, alive)}" for task, spent in first.tasks)
                yield _detail(f"its event loop runs {', '.join(tasks)}")
            name = self._main_wait(first)
            if name:
                waited = sum(thread.waits[0][1] for thread in alike)
                yield _detail(f"waits most for {name}: {units.share(waited, alive)}")
            allocated = allocations_of([thread.allocations for thread in alike], self._snapshot.allocations)
            if allocated:
                yield _detail(f"allocates: {allocated}")

    def _alike(self) -> list[list[ThreadMetrics]]:
        """Threads whose names differ in their number only and that do the same, most active first."""
        groups: dict[tuple[str, str, ThreadState | None, Frame | None, str], list[ThreadMetrics]] = {}
        for thread in sorted(self._snapshot.threads, key=_rank):
            states = longest(thread.states_ns)
            key = (
                _DIGITS.sub("#", thread.info.name),
                thread.role,
                states[0][0] if states else None,
                thread.hot[0].frame if thread.hot else None,
                self._main_wait(thread),
            )
            groups.setdefault(key, []).append(thread)
        return list(groups.values())

    def _names(self, alike: list[ThreadMetrics]) -> str:
        """The names of several threads: "w-0 to w-7" where these are all, else "w-0, w-2 and 2 more"."""
        members = sorted((thread.info for thread in alike), key=lambda info: info.index)
        first, last = members[0], members[-1]
        if first.name == last.name:
            return self._safe(first.name)
        if last.index - first.index == len(members) - 1 and len(members) > 2:
            return f"{self._safe(first.name)} to {self._safe(last.name)}"
        names = [self._safe(info.name) for info in members[:SHOWN_NAMES]]
        more = len(members) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    def _main_wait(self, thread: ThreadMetrics) -> str:
        """What a thread waits for most, where that is worth a line; else ""."""
        return main_wait_words(thread, MAIN_WAIT_SHARE, self._safe)

    def _hot(self) -> Iterator[tuple[int, str]]:
        for line in self._shown_lines():
            if line.total_ns:
                share, spent = self._share(line.total_ns), units.seconds(line.total_ns)
                threads = units.plural(line.threads, "thread")
                split = split_words(line.states_ns, line.total_ns)
                wall = self._wall(line)
                yield _item(f"{self._frame(line.frame)}: {share}, {spent} in {threads}: {split}{wall}")
            else:
                yield _item(f"{self._frame(line.frame)}: not seen by the samples")
            if line.allocations is not None and self._snapshot.allocations is not None:
                yield _detail(f"allocates: {line_words(line.allocations, self._snapshot.allocations)}")
            if line.shared:
                shared = ", ".join(object_words(one, self._safe) for one in line.shared)
                yield _detail(f"shared by threads there: {shared}")
            if spun := spun_for_words(line, self._safe):
                yield _detail(f"threads spin there for {', '.join(spun)}")
            if line.own_locks:
                kinds = ", ".join(map(self._safe, line.own_locks))
                yield _detail(f"threads wait there for locks of their own, which they hold: {kinds}")
            if self._mostly_not_work(line):
                native = ", ".join(
                    f"{self._safe(symbol)} {units.percent(share)}"
                    for symbol, share in line.native[:SHOWN_SYMBOLS]
                    if share >= SMALL_SHARE
                )
                yield _detail(f"machine code: {native}")
            yield from self._callers(line)

    @staticmethod
    def _mostly_not_work(line: HotLine) -> bool:
        """Whether less than half of a line's time on a core is known to be work."""
        on_cpu = sum(spent for state, spent in line.states_ns.items() if state.group is StateGroup.ON_CPU)
        return bool(line.native) and line.states_ns.get(ThreadState.WORK, 0.0) < 0.5 * on_cpu

    def _shown_lines(self) -> list[HotLine]:
        return [
            line
            for rank, line in enumerate(self._snapshot.hot[:SHOWN_LINES])
            if rank < 3 or line.total_ns >= SMALL_SHARE * self._alive_ns or self._allocates_much(line)
        ]

    def _allocates_much(self, line: HotLine) -> bool:
        capture, own = self._snapshot.allocations, line.allocations
        if capture is None or own is None or not capture.count:
            return False
        return (own.count or 0) >= SMALL_SHARE * capture.count

    def _allocations(self) -> Iterator[tuple[int, str]]:
        if self._snapshot.allocations is not None:
            yield from allocation_sentences(self._snapshot.allocations, self._frame, self._safe)

    def _callers(self, line: HotLine) -> Iterator[tuple[int, str]]:
        stack, spent = line.stacks[0] if line.stacks else ((), 0.0)
        callers = [frame for frame in stack[1:] if not _is_bootstrap(frame)]
        if callers:
            part = spent / line.total_ns if line.total_ns > 0 else 1.0
            share = f" ({units.percent(part)} of it)" if part < 0.995 else ""
            yield _detail(f"called from{share}:")
            yield from self._frames(callers, 6)

    def _wall(self, line: HotLine) -> str:
        """The line's share of the wall time, where it has some."""
        duration = self._snapshot.metrics.duration_ns
        if line.wall_ns is None or duration <= 0 or line.wall_ns < SMALL_SHARE * duration:
            return ""
        return f"; {units.share(line.wall_ns, duration)} of the wall time"

    def _locks(self) -> Iterator[tuple[int, str]]:
        for lock in self._snapshot.locks[:SHOWN_LOCKS]:
            yield _item(
                f"{metrics_words(lock, self._safe)}: waited for {units.seconds(lock.wait_ns)} "
                f"({self._share(lock.wait_ns)}), {units.seconds(lock.critical_wait_ns)} of it while cores "
                f"were free; at most {units.plural(lock.waiters_max, 'waiter')}, longest wait "
                f"{units.seconds(lock.longest_wait_ns)}"
            )
            if lock.of_object is not None:
                yield _detail(f"of {locked_words(lock.of_object, self._safe)}")
            for place, blame in holding(lock, self._safe)[:SHOWN_WAITERS]:
                yield _detail(f"held {place}: {units.seconds(blame)}")
            free = sum(holder.blame_ns for holder in lock.holders if holder.free)
            if free > 0:
                yield _detail(f"free, the next thread not back yet: {units.seconds(free)}")
            unknown = sum(holder.blame_ns for holder in lock.holders if holder.thread is None) - free
            if unknown > 0:
                yield _detail(f"holder not known: {units.seconds(unknown)}")
            for place, waited in self._waiting(lock)[:SHOWN_WAITERS]:
                yield _detail(f"{place}: {units.seconds(waited)}")

    def _waiting(self, lock: LockMetrics) -> list[tuple[str, float]]:
        """Where threads wait for a lock, with the time, longest first; lines are put together."""
        by_place: dict[Stack, dict[str, float]] = {}
        for waiter in lock.waiters:
            names = by_place.setdefault(waiter.stack[:1], {})
            name = self._safe(waiter.thread.name)
            names[name] = names.get(name, 0.0) + waiter.wait_ns
        return sorted(
            (
                (
                    f"{next(iter(names))} waits{at_words(stack, self._safe)}"
                    if len(names) == 1
                    else f"{len(names)} threads wait{at_words(stack, self._safe)}",
                    sum(names.values()),
                )
                for stack, names in by_place.items()
            ),
            key=lambda place: -place[1],
        )

    def _pauses(self) -> Iterator[tuple[int, str]]:
        collector = self._snapshot.collector
        if collector is not None:
            yield _item(collections_words(collector))
        for pauses in self._snapshot.pauses[:SHOWN_PAUSES]:
            reason = f" for {self._safe(pauses.reason)}" if pauses.reason else ""
            yield _item(
                f"{units.plural(pauses.count, 'pause')} or more{reason}: {units.seconds(pauses.total_ns)} "
                f"in all, {units.seconds(pauses.longest_ns)} at most, "
                f"{units.plural(pauses.threads_max, 'thread')} stopped at once"
            )
            if pauses.requester is None:
                yield _detail("who asked for them is not known")
            else:
                name = self._safe(pauses.requester.name)
                place = at_words(pauses.stack, self._safe)
                yield _detail(f"asked for by {name}{place} ({CONFIDENCE_NAMES[pauses.confidence]})")

    def _not_measured(self) -> Iterator[tuple[int, str]]:
        by_reason: dict[str, list[str]] = {}
        for name, reason in sorted(self._snapshot.quality.not_measured.items()):
            by_reason.setdefault(reason, []).append(figure_name(name))
        for reason, names in by_reason.items():
            yield _item(f"{', '.join(names)}: {self._safe(reason)}")

    def _quality(self) -> Iterator[tuple[int, str]]:
        quality = self._snapshot.quality
        figures = (
            (UNKNOWN, quality.unknown_ratio),
            (TORN, quality.torn_ratio),
            (MISSED, quality.missed_tick_ratio),
            (OWN_COST, quality.sampler_cpu_ratio),
        )
        measured = [f"{name} {units.percent(ratio, 1)}" for name, ratio in figures if ratio is not None]
        if measured:
            yield _item(", ".join(measured) + (" of a core" if quality.sampler_cpu_ratio is not None else ""))
        if quality.native_lost:
            yield _item(f"native samples that the kernel dropped: {quality.native_lost:,}")
        if quality.native_sampled_ratio is not None and quality.native_sampled_ratio < 0.995:
            ratio = units.percent(quality.native_sampled_ratio)
            words = f"machine code was sampled in turns, {ratio} of the time"
            if quality.native_error_ratio is not None:
                words += (
                    f": shares of time on a core are right to {units.percent(quality.native_error_ratio)}"
                )
            yield _item(words)
        if quality.classified_cpu_ratio is not None and quality.unnamed_cpu_ratio:
            split, unnamed = (
                units.percent(ratio) for ratio in (quality.classified_cpu_ratio, quality.unnamed_cpu_ratio)
            )
            yield _item(
                f"Python is stripped: {split} of the time on a core is split all the same; {unnamed} is in"
                " functions without a name, which are neither of an allocator nor of the collector as far as"
                " found, and count as work"
            )
        for gap in quality.gaps[:SHOWN_GAPS]:
            yield _item(f"gap: {self._safe(gap.what)}: {self._safe(gap.why)} ({gap.count:,} times)")
        if len(quality.gaps) > SHOWN_GAPS:
            yield _item(f"and {units.plural(len(quality.gaps) - SHOWN_GAPS, 'more kind')} of gaps")

    # --- words -----------------------------------------------------------------------------------------

    @staticmethod
    def _section(heading: str, items: Iterable[tuple[int, str]]) -> Iterator[tuple[LineKind, int, str]]:
        """A heading and its items; nothing where there are none."""
        first = True
        for indent, text in items:
            if first:
                yield LineKind.EMPTY, 0, ""
                yield LineKind.HEADING, 0, heading
                first = False
            yield (LineKind.ITEM if indent == 2 else LineKind.DETAIL), indent, text

    @staticmethod
    def _counted(heading: str, shown: int, present: int) -> str:
        return f"{heading} ({shown} of {present:,} shown)" if present > shown else heading

    def _prose(self, text: str) -> str:
        """Sentences of ours, in which only names come from the target."""
        return visible(text, ascii_only=self._ascii_only, limit=MAX_PROSE)

    def _safe(self, text: str) -> str:
        return visible(text, ascii_only=self._ascii_only)

    def _share(self, spent: float) -> str:
        return units.share(spent, self._alive_ns)

    def _frame(self, frame: Frame) -> str:
        return frame_words(frame, self._safe)

    def _frames(self, stack: Sequence[Frame], indent: int) -> Iterator[tuple[int, str]]:
        for frame in stack[:SHOWN_FRAMES]:
            yield indent, self._frame(frame)
        if len(stack) > SHOWN_FRAMES:
            yield indent, f"and {units.plural(len(stack) - SHOWN_FRAMES, 'outer frame')}"

    def _start(self) -> str:
        settings = self._snapshot.settings
        unix_ns = settings.started_unix_ns + self._snapshot.t0_ns - settings.started_ns
        try:
            moment = datetime.fromtimestamp(unix_ns / 1e9, UTC)
        except (ValueError, OverflowError, OSError):
            return ""
        return f" from {moment:%Y-%m-%d %H:%M:%S} UTC"


def _is_bootstrap(frame: Frame) -> bool:
    """Frames that every thread starts with."""
    return frame.filename.endswith("/threading.py") and frame.function.startswith(
        ("Thread.run", "Thread._bootstrap")
    )


def _item(text: str) -> tuple[int, str]:
    """A sentence of a section, and how far it is set in."""
    return 2, text


def _detail(text: str) -> tuple[int, str]:
    """A sentence that belongs to the item before it."""
    return 4, text


def _rank(thread: ThreadMetrics) -> tuple[float, int]:
    """Threads with the most time that was not idle first."""
    apart = sum(
        thread.states_ns.get(state, 0.0) for state in (ThreadState.IDLE, ThreadState.SLEEP, ThreadState.IO)
    )
    return apart - thread.alive_ns, thread.info.index


def _wrapped(text: str, width: int) -> Iterator[str]:
    """`text` in lines of at most `width` cells, broken at spaces, within words only where it must be."""
    line = ""
    for word in _UNIT.sub("\0", text).split(" "):
        word = word.replace("\0", " ")  # a number stays with its unit
        candidate = f"{line} {word}" if line else word
        if cell_len(candidate) <= width:
            line = candidate
            continue
        if line:
            yield line
        while cell_len(word) > width:
            piece = set_cell_size(word, width).rstrip(" ") or word[:1]
            yield piece
            word = word[len(piece) :]
        line = word
    yield line
