"""Compares what ftdiag says of locks with what the threads of a program clocked themselves.

In: free-threaded interpreters (FTDIAG_PYTHONS, or those that provisioning finds). Out: a Markdown table, and
exit status 1 if a figure misses its goal. docs/accuracy.md says what the columns mean.

Usage: python bench/accuracy.py [--quick] [--only WORD] [--seconds S] [--no-cost]

Each case runs bench/accuracy_target.py under a sampler that also writes down when each of its ticks began and
ended: a holder that ftdiag names at a tick is right if that thread had the lock at any moment of the tick.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

PARKED_GOAL = 0.10
CPU_GOAL = 0.02
RIGHT_GOAL = 0.95
WRONG_GOAL = 0.01
UNKNOWN_GOAL = 0.02
COST_GOAL = 0.30
TYPE_GOAL = 0.99
COST_RUNS = 2
"""The cost is measured in one more run, so much longer."""
SPINNING_SHARE = 0.5
"""Where less of the wait than this was spent parked, the parked wait alone is not judged."""
FEWEST_PARKED_S = 0.5
"""Sampled at 100 Hz, less than this is too little to be within ten percent."""


@dataclass(frozen=True)
class Case:
    """What the target does."""

    kind: str
    threads: int
    hold_us: float
    think_us: float
    locks: int = 1

    def __str__(self) -> str:
        return f"{self.kind} {self.threads} threads {self.locks} locks hold {spelled(self.hold_us)}"


def spelled(microseconds: float) -> str:
    """A time for people."""
    return f"{microseconds / 1000:g} ms" if microseconds >= 1000 else f"{microseconds:g} us"


CASES = [
    *(Case("lock", threads, hold, hold) for threads in (2, 4, 16, 64) for hold in (20, 200, 2_000, 50_000)),
    *(Case("lock", threads, 5_000, 2_000, locks=threads // 4) for threads in (4, 16, 64)),
    *(Case("rlock", threads, hold, hold) for threads in (4, 16) for hold in (200, 10_000)),
    *(Case("condition", threads, hold, hold) for threads in (4, 16) for hold in (200, 10_000)),
    *(Case("queue", threads, hold, hold) for threads in (4, 16) for hold in (200, 10_000)),
    *(Case("list", threads, hold, 2_000) for threads in (4, 16) for hold in (200, 10_000)),
    *(Case("dict", threads, hold, 2_000) for threads in (4, 16) for hold in (200, 10_000)),
    Case("list", 16, 5_000, 2_000, locks=4),
    Case("dict", 64, 5_000, 2_000, locks=4),
]
QUICK = [
    Case("lock", 4, 20, 20),
    Case("lock", 16, 2_000, 2_000),
    Case("lock", 64, 5_000, 2_000, locks=16),
    *(Case(kind, 4, 10_000, 10_000) for kind in ("rlock", "condition", "queue", "list", "dict")),
]
TYPES = {
    "lock": "_thread.lock",
    "rlock": "_thread.RLock",
    "condition": "_thread.RLock",
    "queue": "_thread.lock",
    "list": "list",
    "dict": "dict",
}


# --- the sampler, with a second clock ---------------------------------------------------------------------


def reads_locks(window: int) -> bool:
    """Whether the alternating sampler reads locks in a window of that number."""
    return not window & 2


def clocked_sampler() -> int:
    """A sampler as it always is but for a log of when its ticks ended, or that reads locks by turns."""
    from ftdiag.model import Window
    from ftdiag.sampling import process
    from ftdiag.sampling.clock import Tell
    from ftdiag.sampling.holders import Holders
    from ftdiag.sampling.observers import interpreter
    from ftdiag.sampling.observers.interpreter import InterpreterObserver
    from ftdiag.sampling.options import SamplerOptions
    from ftdiag.sampling.sink import RecordingSink
    from ftdiag.sampling.steady import Steady
    from ftdiag.sampling.threads import SampledThread, Threads, Tick
    from ftdiag.sources.kernel.memory import ReadAlong
    from ftdiag.sources.locks.identity import LockReader
    from ftdiag.sources.python.walking import PythonThread

    options = json.loads(sys.stdin.readline())
    ends: list[int] = []

    class Clocked(InterpreterObserver):
        def observe(self, changed: Sequence[SampledThread], tick: Tick) -> None:
            super().observe(changed, tick)
            ends.append(time.monotonic_ns())

        def go_steadily(self, steady: Steady) -> None:
            super().go_steadily(steady)
            # Nobody waits for a lock at any of them but the last.
            ends.extend(steady.times[:-1])
            if steady.times:
                ends.append(time.monotonic_ns())

    class NoLocks(LockReader):
        def __init__(self) -> None:
            self._moment = ReadAlong()
            self._unreadable: set[int] = set()
            self.unreadable = 0

        def look_anew(self) -> ReadAlong:
            return self._moment

        def want_beside(self, thread: PythonThread, entry: int) -> None:
            pass

        def refresh(self, waited_for: Collection[int] = ()) -> None:
            pass

    class NoHolders(Holders):
        def want(self, changed: Collection[SampledThread]) -> None:
            pass

        def saw(self, thread: SampledThread, *_: object, **__: object) -> None:
            pass

        def hold(self, thread: SampledThread, stack: int) -> None:
            pass

        def tell(self, tick: int) -> None:
            pass

    class Alternating(Clocked):
        """Reads locks in two windows, none in the next two, and so on."""

        def attach(self, sink: RecordingSink, threads: Threads, tell: Tell) -> None:
            super().attach(sink, threads, tell)
            none = NoLocks()
            nobody = NoHolders(none, self._waits, self._interpreter, threads.alive, self._look_again)
            unasked: Any = SimpleNamespace(as_of_stacks=lambda thread, blocked, *rest: blocked)
            self._kinds = (self._locks, self._holders, self._asking), (none, nobody, unasked)

        def complete(self, window: Window) -> None:
            super().complete(window)
            self._locks, self._holders, self._asking = self._kinds[not reads_locks(self._windows)]
            self._waits._locks = self._locks if reads_locks(self._windows) else None

    log, alternating = options.pop("log"), options.pop("alternating")
    interpreter.InterpreterObserver = Alternating if alternating else Clocked  # type: ignore[misc]
    process.sample(SamplerOptions(**options), wake_fd=sys.stdin.fileno())
    Path(log).write_text(json.dumps(ends))
    return 0


@dataclass
class Run:
    """A recording, what the target clocked meanwhile, and when the sampler's ticks ended."""

    recording: Path
    truth: dict[str, Any]
    tick_ends: list[int]


def run(python: Path, case: Case, seconds: float, scratch: Path, *, alternating: bool = False) -> Run:
    """One case under one interpreter."""
    truth, recording, log = scratch / "truth", scratch / "recording", scratch / "ticks"
    recording.unlink(missing_ok=True)
    arguments = [case.kind, case.threads, case.locks, case.hold_us, case.think_us, seconds]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen(
        [str(python), str(HERE / "accuracy_target.py"), str(truth), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ) as target:
        assert target.stdin is not None
        assert target.stdout is not None
        target.stdout.readline()
        options = {"pid": target.pid, "path": str(recording), "log": str(log), "alternating": alternating}
        with subprocess.Popen(
            [sys.executable, __file__, "--sampler"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as sampling:
            assert sampling.stdin is not None
            assert sampling.stdout is not None
            sampling.stdin.write(json.dumps(options) + "\n")
            sampling.stdin.flush()
            sampling.stdout.readline()
            time.sleep(0.3)  # threads that begin before the first tick lose what they did so far
            target.stdin.write("\n")
            target.stdin.flush()
            target.wait()
            sampling.wait()
    if target.returncode or sampling.returncode:
        raise SystemExit(f"{case}: target {target.returncode}, sampler {sampling.returncode}")
    return Run(recording, json.loads(truth.read_text()), json.loads(log.read_text()))


# --- the comparison ---------------------------------------------------------------------------------------


@dataclass
class Claims:
    """Blamed time (in waiter-ticks) by how the holder that was named compares with the truth."""

    right: int = 0
    between: int = 0
    free: int = 0
    wrong: int = 0
    nobody: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def all(self) -> int:
        """All waiter-ticks."""
        return self.right + self.between + self.free + self.wrong + self.nobody

    def share(self, ticks: int) -> float | None:
        """A part of all."""
        return ticks / self.all if self.all else None


class Holds:
    """Who had one lock when."""

    def __init__(self, holds: Sequence[tuple[int, int, int]]) -> None:
        import numpy as np

        self.tid = np.array([hold[0] for hold in holds], dtype=np.int64)
        self.begin = np.array([hold[1] for hold in holds], dtype=np.int64)
        self.end = np.array([hold[2] for hold in holds], dtype=np.int64)

    def compare(self, tid: int, begin: int, end: int) -> str:
        """Whether a thread had the lock in a span: right, wrong, or between what the holds tell."""
        import numpy as np

        last = int(np.searchsorted(self.begin, end, side="right"))
        number = last - 1
        while number >= 0 and self.end[number] >= begin:
            if self.tid[number] == tid:
                return "right"
            number -= 1
        # `number` is the last hold that ended before the span, `last` the first that began after it.
        before, after = number, last
        may = set()
        if before >= 0 and (before + 1 >= len(self.begin) or self.begin[before + 1] > begin):
            may.add(int(self.tid[before]))
        if after < len(self.begin) and (after == 0 or self.end[after - 1] < end):
            may.add(int(self.tid[after]))
        return "between" if tid in may else "wrong"

    def compare_free(self, begin: int, end: int) -> str:
        """Whether nobody had the lock at some moment of a span."""
        import numpy as np

        number = int(np.searchsorted(self.begin, begin, side="right")) - 1
        return "wrong" if number >= 0 and self.end[number] >= end else "free"


def claims_of(recorded: Run) -> Claims:
    """Every waiter at every tick: whom it is said to wait for, against who had the lock."""
    from ftdiag.analysis.efficiency import LOCK_STATES
    from ftdiag.model import Confidence
    from ftdiag.recording.reader import Recording

    truth = recorded.truth
    number_of = {address: number for number, address in enumerate(truth["addresses"])}
    by_lock: list[list[tuple[int, int, int]]] = [[] for _ in truth["addresses"]]
    for lock, tid, begin, end in truth["holds"]:
        by_lock[lock].append((tid, begin, end))
    holds = [Holds(each) for each in by_lock]
    states = {int(state) for state in LOCK_STATES}
    result = Claims()
    with Recording.open(recorded.recording) as recording:
        first = 0
        for position in range(len(recording)):
            columns = recording.samples(position)
            ticks = columns.tick_ns.tolist()
            ends = recorded.tick_ends[first : first + len(ticks)]
            first += len(ticks)
            verdicts: dict[tuple[int, int, int], str] = {}
            for row in range(len(columns.thread)):
                wait = recording.wait(int(columns.wait[row]))
                if int(columns.state[row]) not in states or wait is None or wait.lock is None:
                    continue
                number = number_of.get(wait.lock.address)
                if number is None:
                    continue
                holder = int(columns.holder[row])
                begin, count = int(columns.first_tick[row]), int(columns.ticks[row])
                free = columns.confidence[row] == int(Confidence.KNOWN)
                if not holder and not free:
                    result.nobody += count
                    continue
                tid = recording.thread(holder - 1).tid if holder else 0
                for tick in range(begin, begin + count):
                    verdict = verdicts.get((tick, number, tid))
                    if verdict is None:
                        span = ticks[tick], ends[tick]
                        lock = holds[number]
                        verdict = lock.compare(tid, *span) if holder else lock.compare_free(*span)
                        verdicts[tick, number, tid] = verdict
                    setattr(result, verdict, getattr(result, verdict) + 1)
                    if verdict == "wrong" and len(result.examples) < 5:
                        result.examples.append(
                            f"lock {number} tick {ticks[tick]}..{ends[tick]}: {tid},"
                            f" confidence {columns.confidence[row]},"
                            f" waiter {recording.thread(int(columns.thread[row])).tid}"
                        )
    return result


@dataclass
class Figures:
    """What the table shows of one case; shares and errors as ratios."""

    waited_s: float
    parked_s: float
    said_parked_s: float
    worst_lock: float | None
    said_waited_s: float
    cpu_s: float
    said_cpu_s: float
    claims: Claims
    unknown: float
    type_right: float | None
    labels: list[str]
    sampler: float
    cost: float | None = None

    @property
    def parked_error(self) -> float | None:
        """Of the parked wait of all locks."""
        return self.said_parked_s / self.parked_s - 1 if self.parked_s > 0.01 else None

    @property
    def waited_error(self) -> float | None:
        """Of the whole wait."""
        return self.said_waited_s / self.waited_s - 1 if self.waited_s > 0.01 else None

    @property
    def cpu_error(self) -> float:
        """Of the CPU time of all workers."""
        return self.said_cpu_s / self.cpu_s - 1

    @property
    def spinning(self) -> bool:
        """Whether threads got the lock mostly without parking."""
        return self.parked_s < SPINNING_SHARE * self.waited_s or self.parked_s < FEWEST_PARKED_S

    def misses(self) -> Iterator[str]:
        """Goals that are not met."""
        if not self.spinning and self.parked_error is not None and abs(self.parked_error) > PARKED_GOAL:
            yield "parked"
        if abs(self.cpu_error) > CPU_GOAL:
            yield "cpu"
        claims = self.claims
        if claims.all >= 100:
            if claims.right + claims.between + claims.free < RIGHT_GOAL * claims.all:
                yield "right"
            if claims.wrong > WRONG_GOAL * claims.all:
                yield "wrong"
        if self.unknown > UNKNOWN_GOAL:
            yield "unknown"
        if self.type_right is not None and self.type_right < TYPE_GOAL:
            yield "type"
        if self.cost is not None and self.cost > COST_GOAL:
            yield "cost"


def figures_of(recorded: Run, case: Case) -> Figures:
    """Compare."""
    from ftdiag.analysis.efficiency import LOCK_STATES
    from ftdiag.model import LockKind, ThreadState
    from ftdiag.recording.reader import Recording
    from ftdiag.session import Session

    truth = recorded.truth
    with Recording.open(recorded.recording) as recording:
        session = Session(recording)
        snapshot = session.snapshot()
        said = {lock.lock.address: lock for lock in snapshot.locks}
        waited = truth["waited"]
        parked = [
            whole - spun - queued
            for whole, spun, queued in zip(waited, truth["spun"], truth["queued"], strict=True)
        ]
        said_parked = [said[address].wait_ns if address in said else 0.0 for address in truth["addresses"]]
        worst = [
            abs(mine / real - 1)
            for mine, real in zip(said_parked, parked, strict=True)
            if real > 1e9 * FEWEST_PARKED_S
        ]
        time_spent = session.accounted_time()
        lines = set()
        at_line = 0.0
        rows = list(
            zip(
                time_spent.state.tolist(), time_spent.stack.tolist(), time_spent.time_ns.tolist(), strict=True
            )
        )
        for state, stack, _ in rows:
            if state in {int(each) for each in LOCK_STATES} and (frames := recording.stack(stack)):
                lines.add(frames[0])
        for state, stack, spent in rows:
            if state in (ThreadState.ON_CPU, ThreadState.RUNNABLE):
                frames = recording.stack(stack)
                if frames and frames[0] in lines:
                    at_line += spent
        tids = {int(tid) for tid in truth["cpu_ns"]}
        # Waits for locks inside the interpreter are real, and no thread can clock them.
        of_program = (LockKind.USER, LockKind.OBJECT)
        resolved = sum(lock.wait_ns for lock in snapshot.locks if lock.lock.kind in of_program)
        right_type = sum(
            lock.wait_ns
            for lock in snapshot.locks
            if lock.lock.type_name == TYPES[case.kind] and lock.lock.address in truth["addresses"]
        )
        return Figures(
            waited_s=sum(waited) / 1e9,
            parked_s=sum(parked) / 1e9,
            said_parked_s=sum(said_parked) / 1e9,
            worst_lock=max(worst, default=None),
            said_waited_s=(sum(said_parked) + at_line) / 1e9,
            cpu_s=sum(truth["cpu_ns"].values()) / 1e9,
            said_cpu_s=sum(each.cpu_ns for each in snapshot.threads if each.info.tid in tids) / 1e9,
            claims=claims_of(recorded),
            unknown=snapshot.quality.unknown_ratio or 0.0,
            type_right=right_type / resolved if resolved else None,
            labels=sorted({lock.lock.label or "?" for lock in snapshot.locks}),
            sampler=snapshot.quality.sampler_cpu_ratio or 0.0,
        )


def cost_of(recorded: Run) -> float:
    """CPU time of the sampler in windows with the reading of locks against that without, medians.

    Of each two windows of a kind the second counts: what writing a window takes is in the next one's time.
    """
    from ftdiag.recording.reader import Recording

    spent: dict[bool, list[float]] = {True: [], False: []}
    with Recording.open(recorded.recording) as recording:
        costs = recording.costs(0, len(recording)).sampler
        for window, cost in enumerate(costs[:-2]):
            if window & 1 and window > 1 and cost.ticks:
                spent[reads_locks(window)].append(cost.cpu_ns / cost.ticks)
    return statistics.median(spent[True]) / statistics.median(spent[False]) - 1


# --- the table --------------------------------------------------------------------------------------------

HEAD = (
    "| Python | kind | threads | locks | hold | waited s | parked s | parked error | worst lock"
    " | whole wait error | CPU error | right | between | free | nobody | wrong | unknown | type | sampler"
    " | cost |"
)


def percent(value: float | None, *, sign: bool = False) -> str:
    """A ratio for people."""
    if value is None:
        return "-"
    return f"{100 * value:+.1f} %" if sign else f"{100 * value:.1f} %"


def line(version: str, case: Case, figures: Figures) -> str:
    """A row of the table."""
    claims = figures.claims
    parked_error = percent(figures.parked_error, sign=True)
    cells = [
        version, case.kind, str(case.threads), str(case.locks), spelled(case.hold_us),
        f"{figures.waited_s:.2f}", f"{figures.parked_s:.2f}",
        f"({parked_error})" if figures.spinning else parked_error,
        percent(figures.worst_lock), percent(figures.waited_error, sign=True),
        percent(figures.cpu_error, sign=True), percent(claims.share(claims.right)),
        percent(claims.share(claims.between)), percent(claims.share(claims.free)),
        percent(claims.share(claims.nobody)), percent(claims.share(claims.wrong)), percent(figures.unknown),
        percent(figures.type_right), percent(figures.sampler), percent(figures.cost, sign=True),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def pythons() -> list[tuple[str, Path]]:
    """(version, path) of the interpreters to measure."""
    from tools.provision.search import find_interpreters

    found: dict[str, Path] = {}
    for each in find_interpreters().chosen:
        found.setdefault(f"{each.version}t", Path(each.path))
    if not found:
        raise SystemExit("no free-threaded interpreter: python3 -m tools.provision ensure")
    return list(found.items())


def main() -> int:
    """Measure, print, judge."""
    if sys.argv[1:] == ["--sampler"]:
        return clocked_sampler()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short cases")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--seconds", type=float, help="length of a run (10, quick 2)")
    parser.add_argument("--no-cost", action="store_true", help="no second run, with locks by turns")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (2.0 if arguments.quick else 10.0)
    interpreters = pythons()
    missed = 0
    print(HEAD)
    print("|" + "---|" * (HEAD.count("|") - 1))
    with tempfile.TemporaryDirectory(prefix="ftdiag-accuracy-") as name:
        for case in QUICK if arguments.quick else CASES:
            for version, python in interpreters:
                if arguments.only not in f"{case} {version}":
                    continue
                figures = figures_of(run(python, case, seconds, Path(name)), case)
                if not arguments.no_cost:
                    figures.cost = cost_of(
                        run(python, case, COST_RUNS * seconds, Path(name), alternating=True)
                    )
                print(line(version, case, figures), flush=True)
                missing = list(figures.misses())
                missed += len(missing)
                if missing:
                    print(f"  misses: {', '.join(missing)}", file=sys.stderr)
                for example in figures.claims.examples:
                    print(f"  wrong: {example}", file=sys.stderr)
                if figures.type_right is not None and figures.type_right < TYPE_GOAL:
                    print(f"  labels: {figures.labels}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
