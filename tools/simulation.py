"""Programs of threads, simulated: recordings whose bottleneck is known, because it can be taken away.

In: a `Scenario`: what each thread does in each of its rounds, on how many cores. Out: how much work it does
in a second (also with a lock, a peer or a shortage of cores taken away), and a recording as the sampler
would have made it, at a hundred ticks a second.

The simulation goes from event to event: threads take turns on the cores, locks are handed to who waited
longest, a barrier lets all go when the last one comes. It knows nothing of ftdiag's analysis.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from ftdiag.model import (
    Confidence,
    End,
    EndReason,
    Frame,
    LockKind,
    LockRef,
    RecordingSettings,
    Runs,
    SamplerCost,
    Target,
    ThreadCounters,
    ThreadInfo,
    ThreadState,
    Wait,
    Window,
)
from ftdiag.recording.writer import RecordingWriter

TICK_US: Final = 10_000
WINDOW_TICKS: Final = 100
QUANTUM_US: Final = 4_000
WARM_UP_US: Final = 200_000
FILE: Final = "/srv/app.py"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a round: `kind` is "work", "io", "take", "give" or "meet", `what` its line, peer or lock.

    `us` is how long work and I/O take on average.
    """

    kind: str
    what: str
    us: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rounds` has the steps of each thread; `answer` is the bottleneck where it is known without trying."""

    rounds: tuple[tuple[Step, ...], ...]
    cores: int
    seed: int
    kind: str = ""
    answer: str | None = None

    def names(self, *kinds: str) -> list[str]:
        """What the steps of these kinds are about, in order."""
        return list(dict.fromkeys(step.what for steps in self.rounds for step in steps if step.kind in kinds))

    def without(self, what: str) -> Scenario:
        """The same with a bottleneck taken away: "lock NAME", "io NAME", "cores", "serial LINE"."""
        kind, _, name = what.partition(" ")
        if kind == "cores":
            return replace(self, cores=max(self.cores, len(self.rounds)))
        threads = len(self.rounds)

        def changed(step: Step) -> Step | None:
            if kind == "lock" and step.kind in ("take", "give") and step.what == name:
                return None
            if kind == "io" and step.kind == "io" and step.what == name:
                return None
            if kind == "serial" and step.kind == "work" and step.what == name:
                return replace(step, us=step.us / threads)
            return step

        rounds = tuple(
            tuple(step for step in map(changed, steps) if step is not None) for steps in self.rounds
        )
        return replace(self, rounds=rounds)


@dataclass(slots=True)
class _Thread:
    steps: tuple[Step, ...]
    chance: random.Random
    place: int = 0
    left_us: float = 0.0
    ready_since: float = 0.0
    rounds: float = 0.0
    # What it did from when on: time, state, step, lock (as numbers).
    times: list[float] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    cpu_at: list[tuple[float, float]] = field(default_factory=list)
    queued_at: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Course:
    """What happened: threads, and for each lock when it had which holder (-1: nobody)."""

    scenario: Scenario
    length_us: float
    threads: list[_Thread]
    holders: dict[str, tuple[list[float], list[int]]]
    work_us: float
    """Work of whole rounds, as the scenario says it, done after the warm-up."""

    @property
    def work_a_second(self) -> float:
        """In seconds of work: the mean number of cores in useful use."""
        return self.work_us / (self.length_us - WARM_UP_US)


def simulate(scenario: Scenario, length_us: float, original: Scenario | None = None) -> Course:
    """Runs the scenario; a round counts as much work as it has in `original`."""
    threads = [
        _Thread(steps, random.Random(scenario.seed * 1009 + number))
        for number, steps in enumerate(scenario.rounds)
    ]
    of_round = [
        sum(step.us for step in steps if step.kind == "work") for steps in (original or scenario).rounds
    ]
    lines = {name: number for number, name in enumerate(scenario.names("work", "io", "take", "meet"))}
    locks = {name: number for number, name in enumerate(scenario.names("take"))}
    owner: dict[str, int] = dict.fromkeys(locks, -1)
    queue: dict[str, deque[int]] = {name: deque() for name in locks}
    holders: dict[str, tuple[list[float], list[int]]] = {name: ([0.0], [-1]) for name in locks}
    meeting: dict[str, list[int]] = {name: [] for name in scenario.names("meet")}
    parties = {
        name: sum(
            any(step.kind == "meet" and step.what == name for step in steps) for steps in scenario.rounds
        )
        for name in meeting
    }
    ready: deque[int] = deque(range(len(threads)))
    free = scenario.cores
    events: list[tuple[float, int, int, float]] = []
    now, count, done = 0.0, 0, 0.0

    def notes(number: int, state: ThreadState, step: Step, lock: int = -1) -> None:
        thread = threads[number]
        thread.times.append(now)
        thread.states.append(int(state))
        thread.lines.append(lines.get(step.what, 0))
        thread.waits.append(lock)

    def own(lock: str, number: int) -> None:
        owner[lock] = number
        holders[lock][0].append(now)
        holders[lock][1].append(number)

    def starts(number: int) -> None:
        """The thread has a core: it goes through its steps until one takes time, or it has to wait."""
        nonlocal free, count, done
        thread = threads[number]
        thread.queued_at.append((now, now - thread.ready_since))
        while True:
            step = thread.steps[thread.place]
            if thread.left_us > 0 or step.kind == "work":
                if thread.left_us <= 0:
                    thread.left_us = _drawn(thread.chance, step.us)
                notes(number, ThreadState.ON_CPU, step)
                count += 1
                slice_us = min(QUANTUM_US, thread.left_us)
                heapq.heappush(events, (now + slice_us, count, number, slice_us))
                return
            if step.kind == "take":
                if owner[step.what] == -1:
                    own(step.what, number)
                elif owner[step.what] != number:
                    queue[step.what].append(number)
                    notes(number, ThreadState.LOCK, step, locks[step.what])
                    free += 1
                    return
            elif step.kind == "give":
                if queue[step.what]:
                    following = queue[step.what].popleft()
                    own(step.what, following)
                    wakes(following)
                else:
                    own(step.what, -1)
            elif step.kind == "io":
                notes(number, ThreadState.IO, step)
                count += 1
                heapq.heappush(events, (now + _drawn(thread.chance, step.us), count, number, -1.0))
                free += 1
                return
            elif step.kind == "meet":
                here = meeting[step.what]
                here.append(number)
                if len(here) < parties[step.what]:
                    notes(number, ThreadState.IDLE, step)
                    free += 1
                    return
                for other in here:
                    if other != number:
                        threads[other].place += 1
                        _wrap(threads[other], of_round[other])
                        wakes(other)
                here.clear()
            thread.place += 1
            _wrap(thread, of_round[number])

    def _wrap(thread: _Thread, worth: float) -> None:
        nonlocal done
        if thread.place >= len(thread.steps):
            thread.place = 0
            thread.rounds += 1
            if now >= WARM_UP_US:
                done += worth

    def wakes(number: int) -> None:
        threads[number].ready_since = now
        notes(number, ThreadState.ON_CPU, threads[number].steps[threads[number].place])
        ready.append(number)

    while now < length_us:
        while free and ready:
            free -= 1
            starts(ready.popleft())
        if not events:
            break  # all wait for each other: that goes on to the end
        now, _, number, ran = heapq.heappop(events)
        thread = threads[number]
        if ran < 0:
            thread.place += 1
            _wrap(thread, of_round[number])
            wakes(number)
            continue
        thread.cpu_at.append((now, ran))
        thread.left_us -= ran
        if thread.left_us <= 1e-9:
            thread.left_us = 0.0
            thread.place += 1
            _wrap(thread, of_round[number])
        free += 1
        wakes(number)
    return Course(scenario, length_us, threads, holders, done)


def _drawn(chance: random.Random, mean: float) -> float:
    return mean * chance.uniform(0.6, 1.4)


# --- a recording of it -------------------------------------------------------------------------------------


def write(course: Course, path: Path, *, holders: bool = True) -> None:
    """The recording that a sampler would have made; without `holders` it does not know who has what."""
    scenario = course.scenario
    lines, locks = scenario.names("work", "io", "take", "meet"), scenario.names("take")
    peers = set(scenario.names("io"))
    target = Target(
        4242,
        99,
        "/usr/bin/python3.14t",
        "python3.14t app.py",
        "3.14.0",
        True,
        False,
        capacity_cores=float(scenario.cores),
        capacity_reason="simulated",
    )
    writer = RecordingWriter(
        path, target, RecordingSettings(100.0, 0, 1_700_000_000_000_000_000, "sim", "sim")
    )
    stacks = [
        writer.intern_stack([writer.intern_frame(Frame(FILE, name, 10 + number))])
        for number, name in enumerate(lines)
    ]
    lock_waits = [
        writer.intern_wait(
            Wait("futex", None, LockRef(0x7F00_0000 + 64 * number, LockKind.USER, "_thread.lock", name))
        )
        for number, name in enumerate(locks)
    ]
    io_waits = {
        number: writer.intern_wait(Wait("recvfrom", name))
        for number, name in enumerate(lines)
        if name in peers
    }
    idle = writer.intern_wait(Wait("futex", "threading.Barrier.wait"))
    for number in range(len(course.threads)):
        writer.put_thread(ThreadInfo(number, 5000 + number, f"worker-{number}", True, number == 0, 0, 0))
    first = WARM_UP_US
    ticks = int((course.length_us - first) // TICK_US)
    chance = random.Random(scenario.seed)
    moments = np.array([first + tick * TICK_US + chance.uniform(0, 500) for tick in range(ticks)])
    seen = []
    for thread in course.threads:
        at = np.maximum(np.searchsorted(thread.times, moments, side="right") - 1, 0)
        seen.append([np.array(column)[at] for column in (thread.states, thread.lines, thread.waits)])
    owners = [
        np.array(course.holders[name][1])[np.searchsorted(course.holders[name][0], moments, side="right") - 1]
        for name in locks
    ]
    for begin in range(0, ticks, WINDOW_TICKS):
        end = min(begin + WINDOW_TICKS, ticks)
        runs = Runs()
        for number, (states, places, waits) in enumerate(seen):
            last: tuple[int, ...] | None = None
            for tick in range(begin, end):
                state, line, lock = int(states[tick]), int(places[tick]), int(waits[tick])
                holder, sure, wait = 0, 0, 0
                if state == ThreadState.LOCK:
                    wait = lock_waits[lock]
                    if holders:
                        holder, sure = int(owners[lock][tick]) + 1, int(Confidence.KNOWN)
                elif state == ThreadState.IO:
                    wait = io_waits[line]
                elif state == ThreadState.IDLE:
                    wait = idle
                now = (state, stacks[line], wait, holder, sure)
                if now == last:
                    runs.ticks[-1] += 1
                    continue
                last = now
                for column, value in zip(
                    (
                        runs.thread,
                        runs.first_tick,
                        runs.ticks,
                        runs.state,
                        runs.stack,
                        runs.wait,
                        runs.holder,
                        runs.confidence,
                    ),
                    (number, tick - begin, 1, *now),
                    strict=True,
                ):
                    column.append(value)
        t0, t1 = first + begin * TICK_US, first + end * TICK_US
        writer.write_window(
            Window(
                int(t0 * 1000),
                int(t1 * 1000),
                array("q", (int(moment * 1000) for moment in moments[begin:end])),
                runs,
                _counters(course, t0, t1),
                SamplerCost(1_000_000, end - begin, 0, 0, 0, 0),
            )
        )
    writer.finish(End(EndReason.DURATION, "simulated", int(course.length_us * 1000)))
    writer.close()


def _counters(course: Course, t0: float, t1: float) -> ThreadCounters:
    columns = ThreadCounters()
    for number, thread in enumerate(course.threads):
        columns.thread.append(number)
        columns.alive_ns.append(int((t1 - t0) * 1000))
        columns.cpu_ns.append(int(_spent(thread.cpu_at, t0, t1) * 1000))
        columns.run_queue_ns.append(int(_spent(thread.queued_at, t0, t1) * 1000))
        for name in (
            "voluntary_switches",
            "involuntary_switches",
            "minor_faults",
            "major_faults",
            "migrations",
        ):
            getattr(columns, name).append(1)
    return columns


def _spent(ends: Sequence[tuple[float, float]], t0: float, t1: float) -> float:
    """How much of [t0, t1) spans take, given by their ends and lengths."""
    return sum(max(0.0, min(end, t1) - max(end - length, t0)) for end, length in ends)


# --- scenarios ---------------------------------------------------------------------------------------------


def scenarios(number: int, seed: int = 1) -> Iterator[Scenario]:
    """Scenarios of all kinds in turn: convoys, chains, peers, serial stretches, few cores, knots, mixes."""
    chance = random.Random(seed)
    kinds = (_convoy, _chain, _peer, _serial, _crowd, _knot, _mixed)
    for index in range(number):
        made = kinds[index % len(kinds)](chance)
        yield replace(made, seed=seed * 100_003 + index)


def _threads(chance: random.Random, least: int = 2) -> int:
    return chance.choice([number for number in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if number >= least])


def _ms(chance: random.Random, low: float, high: float) -> float:
    return 1000.0 * chance.uniform(low, high)


def _convoy(chance: random.Random) -> Scenario:
    """Two locks, of which one is held for much longer."""
    steps = (
        Step("work", "parse", _ms(chance, 1, 6)),
        Step("take", "big_lock"),
        Step("work", "inside_big", _ms(chance, 4, 12)),
        Step("give", "big_lock"),
        Step("take", "small_lock"),
        Step("work", "inside_small", _ms(chance, 0.3, 1.5)),
        Step("give", "small_lock"),
    )
    threads = _threads(chance, 4)
    return Scenario((steps,) * threads, chance.choice((threads, max(2, threads // 2))), 0, "convoy")


def _chain(chance: random.Random) -> Scenario:
    """Who holds the first lock waits for the second, and who holds that one for the third, which few want."""
    threads = _threads(chance, 4)
    outer = (
        Step("work", "before", _ms(chance, 1, 4)),
        Step("take", "first"),
        Step("work", "inside_first", _ms(chance, 0.3, 1)),
        Step("take", "second"),
        Step("work", "inside_second", _ms(chance, 0.5, 1.5)),
        Step("give", "second"),
        Step("give", "first"),
    )
    inner = (
        Step("work", "rest", _ms(chance, 0.5, 3)),
        Step("take", "second"),
        Step("work", "long_inside_second", _ms(chance, 12, 30)),
        Step("give", "second"),
    )
    return Scenario((inner, *((outer,) * (threads - 1))), threads, 0, "chain")


def _peer(chance: random.Random) -> Scenario:
    """Threads that wait for a slow peer, and now and then for a quick one or a lock."""
    steps = (
        Step("work", "prepare", _ms(chance, 1, 5)),
        Step("io", "socket 10.0.0.5:5432", _ms(chance, 15, 60)),
        Step("work", "evaluate", _ms(chance, 1, 5)),
        Step("io", "socket 10.0.0.7:6379", _ms(chance, 0.5, 4)),
        Step("take", "lock"),
        Step("work", "inside", _ms(chance, 0.01, 0.05)),
        Step("give", "lock"),
    )
    threads = chance.choice((2, 3, 4, 6, 8))
    return Scenario((steps,) * threads, threads, 0, "peer")


def _serial(chance: random.Random) -> Scenario:
    """Rounds: all compute, then one merges while the others wait for it."""
    threads = _threads(chance, 3)
    compute, merge = _ms(chance, 8, 20), _ms(chance, 15, 60)
    first = (
        Step("work", "compute", compute),
        Step("meet", "computed"),
        Step("work", "merge", merge),
        Step("meet", "merged"),
    )
    other = (Step("work", "compute", compute), Step("meet", "computed"), Step("meet", "merged"))
    return Scenario((first, *((other,) * (threads - 1))), threads, 0, "serial")


def _crowd(chance: random.Random) -> Scenario:
    """Many more threads than cores, with a lock that does not matter."""
    steps = (
        Step("work", "compute", _ms(chance, 10, 30)),
        Step("take", "lock"),
        Step("work", "inside", _ms(chance, 0.01, 0.1)),
        Step("give", "lock"),
    )
    threads = _threads(chance, 6)
    return Scenario((steps,) * threads, max(1, threads // chance.choice((3, 4, 6))), 0, "crowd")


def _knot(chance: random.Random) -> Scenario:
    """Threads that lock in a circle and stand, beside others that go on."""
    size = chance.choice((2, 2, 3, 4))
    rounds: list[tuple[Step, ...]] = [
        (
            Step("take", f"lock_{number}"),
            Step("work", "between", _ms(chance, 8, 15)),
            Step("take", f"lock_{(number + 1) % size}"),
            Step("work", "both", _ms(chance, 1, 3)),
            Step("give", f"lock_{(number + 1) % size}"),
            Step("give", f"lock_{number}"),
        )
        for number in range(size)
    ]
    others = chance.choice((0, 1, 2, 4))
    rounds += [(Step("work", "goes_on", _ms(chance, 3, 9)), Step("io", "pipe", _ms(chance, 0.5, 2)))] * others
    return Scenario(tuple(rounds), size + others, 0, "knot", "knot")


def _mixed(chance: random.Random) -> Scenario:
    """A lock, a peer and cores at random: whatever weighs most is the answer."""
    threads = _threads(chance, 2)
    steps = (
        Step("work", "compute", _ms(chance, 1, 15)),
        Step("take", "big_lock"),
        Step("work", "inside_big", _ms(chance, 0.2, 10)),
        Step("give", "big_lock"),
        Step("io", "socket 10.0.0.5:5432", _ms(chance, 0.5, 40)),
        Step("take", "small_lock"),
        Step("work", "inside_small", _ms(chance, 0.1, 3)),
        Step("give", "small_lock"),
    )
    return Scenario((steps,) * threads, max(1, threads // chance.choice((1, 1, 2, 4))), 0, "mixed")


def candidates(scenario: Scenario) -> list[str]:
    """What can be taken away."""
    found = [f"lock {name}" for name in scenario.names("take")]
    found += [f"io {name}" for name in scenario.names("io")]
    if scenario.names("meet"):
        found.append("serial merge")
    if scenario.cores < len(scenario.rounds):
        found.append("cores")
    return found


def gains(scenario: Scenario, length_us: float) -> dict[str, float]:
    """What taking each candidate away gains: work a second over that of the scenario itself."""
    before = simulate(scenario, length_us).work_a_second
    return {
        what: simulate(scenario.without(what), length_us, scenario).work_a_second / before
        if before > 0
        else 1.0
        for what in candidates(scenario)
    }
