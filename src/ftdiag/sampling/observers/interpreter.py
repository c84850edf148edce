"""Sees threads by reading the interpreter's memory: their stacks, what they wait for, who holds it.

In: the threads that ran since the tick before. Out: what each of them does, as of one moment, and with the
window what was sampled of the machine code in between.

What a tick costs: of the threads that ran the system call is read and the stack walked, all stacks in one
system call, together with what must be of the same moment: mutexes, owners, wait entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.errors import BudgetSpent, FtdiagError, MemoryReadError, UnsupportedPython
from ftdiag.model import (
    FIRST_STACK_ID,
    NO_HOLDER,
    NO_STACK,
    NO_WAIT,
    TORN_STACK,
    Confidence,
    Gap,
    ThreadState,
    Window,
)
from ftdiag.sampling.asking import Asked, Asking
from ftdiag.sampling.clock import Tell
from ftdiag.sampling.holders import MAX_STEADY, Holders
from ftdiag.sampling.knownwaits import KnownWaits
from ftdiag.sampling.oncore import OnCore, open_native
from ftdiag.sampling.options import SamplerOptions
from ftdiag.sampling.replay import Replay
from ftdiag.sampling.seen import Observation
from ftdiag.sampling.sharing import Sharing
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.slowfacts import SlowFacts
from ftdiag.sampling.stacks import Stacks
from ftdiag.sampling.steady import Steady
from ftdiag.sampling.stopped import Stopped
from ftdiag.sampling.target import TargetProcess
from ftdiag.sampling.threads import NOTHING_BESIDE, UNREAD, Gaps, SampledThread, Threads, Tick
from ftdiag.sampling.turns import Turns
from ftdiag.sampling.updates import UpdateWatch
from ftdiag.sampling.watchdog import Watchdog
from ftdiag.sources.kernel.room import Room
from ftdiag.sources.kernel.threadlines import RUNNING_LINE
from ftdiag.sources.locks.moment import SECTION_BYTES
from ftdiag.sources.locks.parkinglot import REACH_BYTES, WaitEntry
from ftdiag.sources.locks.stoptheworld import StopTheWorldReader
from ftdiag.sources.locks.waits import Blocked, Classified, WaitReader
from ftdiag.sources.python.collector import CollectorReader
from ftdiag.sources.python.interpreter import MAX_THREADS as MAX_STATES
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import find_runtime
from ftdiag.sources.python.stackwalk import Left
from ftdiag.sources.python.threadmatch import UNMATCHED, match_threads
from ftdiag.sources.python.walking import MAX_STACK_DEPTH, PythonThread

NAMES_EVERY_WINDOWS: Final = 10
"""Names can be changed by the program; apart from new threads they are read again this rarely."""
MATCHED_WINDOWS: Final = 2
"""Windows at whose end all threads are matched anew: what belongs to no thread must be seen twice."""
_ON_CPU: Final = int(ThreadState.ON_CPU)
_UNKNOWN: Final = int(Confidence.UNKNOWN)
TOO_MANY_STATES: Final = f"more than {MAX_STATES:,} states of threads: the rest is left out"
TOO_COSTLY: Final = "not walked: all of them together cost more than a look may"
MATCHED_AT: Final = frozenset((1, 2, 5, 10, 20, 50))
"""Ticks at which a new thread is looked for among the interpreter's before it counts as native."""
MATCH_ATTEMPTS: Final = max(MATCHED_AT)


def open_observer(
    options: SamplerOptions,
    process: TargetProcess,
    descriptors: int,
    refusal: UnsupportedPython | None,
    watchdog: Watchdog | None,
) -> InterpreterObserver:
    """Our own reader. Raises AttachError."""
    return InterpreterObserver(options, process, descriptors)


class InterpreterObserver:
    """Observes a target whose interpreter's layout is known.

    Raises AttachError (of the fitting kind) on construction when the target cannot be read.

    Longer than 300 lines, because the steps of a tick go on with what those of the tick before have left.
    """

    source = "native"

    def __init__(self, options: SamplerOptions, process: TargetProcess, descriptors: int) -> None:
        """`descriptors` is how many events of native samples may be open."""
        self._process = process
        self._memory = process.memory
        self._runtime = process.runtime = find_runtime(process.pid, process.memory)
        layout = self._runtime.layout
        process.target = replace(
            process.target, python_version=str(layout.version), free_threaded=layout.free_threaded
        )
        self._waits = WaitReader(process.pid, process.memory)
        self._native, words = open_native(options, process.pid, self._runtime, descriptors)
        self._duration_s = options.duration_s
        self.native_state = words if self._native is not None else None
        self.native_missing = words if self._native is None else None
        self.no_stacks: str | None = None
        self._gaps: Gaps = Gaps()
        self._names_wanted, self._match_wanted, self._windows = True, False, 0
        self._left: set[int] = set()
        """Addresses of thread states that no thread belonged to at the last match."""
        self._left_told: set[int] = set()
        """Those of them that were counted."""
        self._moved: dict[SampledThread, None] = {}
        """Those that may hold other locks than when that was last looked up."""
        self._generation = 0
        """Begins anew when it is no longer remembered which locks objects have."""

    def attach(self, sink: RecordingSink, threads: Threads, tell: Tell) -> None:
        """Begin to use a recording; reads what does not change often for the first time."""
        self._sink = sink
        self._threads = threads
        stacks = Stacks(sink, self._waits)
        self._interpreter = InterpreterReader(self._memory, self._runtime, stacks)
        turns = Turns(self._process.target.capacity_cores or 1.0)
        self._on_core = None if self._native is None else OnCore(self._native, sink, turns)
        self._collector = CollectorReader(self._interpreter)
        self._facts = SlowFacts(self._interpreter, self._process, threads, sink)
        self._collector.refresh()
        self._locks = self._waits.use(self._interpreter)
        self._sharing = Sharing(self._interpreter, self._locks, stacks.leaves)
        self._locks.refresh()
        self._known_waits = KnownWaits(self._locks, self._waits, sink)
        self._updates = UpdateWatch(self._interpreter, self._locks, self._duration_s, Room())
        self._holders = Holders(self._locks, self._waits, self._interpreter, threads.alive, self._look_again)
        self._stopped = Stopped(StopTheWorldReader(self._interpreter), self._locks, threads.alive)
        self._asking = Asking(self._locks, self._waits, self._holders)
        self._replay = self._new_replay()
        self.prepare()
        self._facts.read_gil()

    def _new_replay(self) -> Replay:
        return Replay(
            *(self._interpreter, self._locks, self._holders, self._stopped),
            *(self._asking.now, self._conclude, self._hold),
        )

    def prepare(self) -> None:
        """Tell the compiled walker, if there is one, what it needs to conclude something."""
        if self._interpreter.compiled:
            self._interpreter.prepare(
                self._waits.parse,
                self._holders.places,
                (REACH_BYTES, SECTION_BYTES),
                (_ON_CPU, NO_WAIT, NO_HOLDER, _UNKNOWN),
            )
            self._replay.prepare()

    def finish(self) -> None:
        """Nothing was held back."""

    def close(self) -> None:
        """End sampling of machine code."""
        if self._native is not None:
            self._native.close()

    # --- one tick ---

    def observe(self, changed: Sequence[SampledThread], tick: Tick) -> None:
        """See what the threads do that ran since the tick before."""
        if tick.started or tick.ended:
            self._follow(tick)
        if self._match_wanted:
            self._match_threads()
            self._match_wanted = False
        gone = self._look(changed, tick.number) if changed else ()
        for thread in gone:
            self._threads.end(thread, tick)
            self._forget(thread)
        if changed or tick.ended:
            self._holders.tell(tick.number)
        if changed:
            self._updates.look(changed)
        self._stopped.tell(tick.number)
        self._stopped.pass_over(1)
        if changed and self._on_core is not None:
            self._on_core.gather(changed, tick)
        self._sharing.lines.search(tick.now_ns)
        if self._sharing.lines.due(tick.now_ns):
            self._sharing.look(changed, tick.now_ns)

    def go_steadily(self, steady: Steady) -> None:
        """Take ticks for as long as no lock that is waited for changes hands, and nothing is to be concluded.

        That is done for the last one. Who holds other locks is looked up for all ticks at once.
        """
        parts, holders, locks = self._threads.steady, self._holders, self._locks
        if parts is None or self._match_wanted or not self._interpreter.compiled:
            return
        last_ns, on_core = steady.last_ns, self._on_core
        if not steady.quiet:
            # What is to be done at a time is done with the first tick from then on.
            native_ns = None if on_core is None else on_core.steady_until_ns(steady.before_ns)
            last_ns = min(t for t in (last_ns, native_ns, self._sharing.lines.due_ns) if t is not None)
        lines, unsettled, directory, links, waits_ns = parts
        before, along = locks.last_read, locks.look_anew()
        told, waiting = holders.want_steadily(before), holders.waiting()
        if len(along.wanted) > MAX_STEADY:
            return  # too much to be read at once
        self._collector.want(along)
        self._stopped.want()
        self._replay.begin(steady.first)
        (steady.times, steady.ran, later, about, pending, last, other, asked, steady.due_ns, *counts) = (
            self._interpreter.stretch(
                lines,
                unsettled,
                along.wanted,
                along.found,
                *locks.unreadable_places,
                self._generation,
                self._collector.known,
                directory,
                links,
                steady.files,
                steady.quiet,
                steady.first,
                (steady.due_ns, steady.period_ns, last_ns, steady.slack_ns, waits_ns),
                self._updates.quiet_stacks,
                FIRST_STACK_ID,
                self._process.pid,
                None if on_core is None else on_core.rings,
                told,
                self._moved,
                waiting,
                self._conclude_now,
                self._sight_now,
            )
        )
        steady.late, steady.missed, clock_ns = counts
        steady.clock_ns = None if clock_ns < 0 else clock_ns
        steady.goes_on = not other
        if steady.times:
            self._threads.seen_ns = steady.times[-1]
        if not steady.times or steady.quiet:
            return
        ticks, tick = len(steady.times), steady.last
        self._collector.saw(along)
        gone, left = pending or ((), ())
        done = self._replay.run(later or (), about or {}, unsettled)
        holders.pass_over(ticks - done - bool(pending or asked))
        self._stopped.pass_over(ticks)
        if pending or asked:
            holders.ran(last or ())
            self._conclude(left, tick.number)
            if holders.waited_for:
                self.hold_moved()
            for thread in gone:
                self._threads.end(thread, tick)
                self._forget(thread)
            holders.tell(tick.number)
            self._stopped.tell(tick.number)
        self._updates.pass_over(thread for thread in steady.ran if last is None or thread not in last)
        if last is not None:
            self._updates.look(last)
        if on_core is not None:
            on_core.gather(steady.ran, tick)
        self._sharing.lines.search(tick.now_ns)
        if self._sharing.lines.due(tick.now_ns):
            self._sharing.look(steady.ran, tick.now_ns)

    def hold_moved(self) -> None:
        """Look up what threads hold that may hold others than before: somebody waits for a lock.

        It is as of their last walk, whenever it is asked.
        """
        for thread in self._moved:
            if thread.calm and thread.observation is not None:
                self._hold(thread, thread.observation[1])
        self._moved.clear()

    def _hold(self, thread: SampledThread, stack: int) -> None:
        python = thread.python[0]
        self._holders.hold(thread, stack)
        thread.note(python, self._generation, self._holders.is_inside(thread))
        self._interpreter.know(python)

    def _conclude(self, left: Sequence[Left], tick: int) -> None:
        """Conclude what is left of a look."""
        unseen = deque(thread for thread, _, _, _ in left)
        try:
            for thread, pythons, blocked, stacks in left:
                self._see(thread, pythons, blocked, iter(stacks), tick)
                unseen.popleft()
                self._moved.pop(thread, None)
                if len(pythons) == 1 and stacks[0] != TORN_STACK:
                    self._interpreter.know(pythons[0])
                    if self._holders.is_calm(thread):
                        thread.note(pythons[0], self._generation, self._holders.is_inside(thread))
        except BudgetSpent:
            for thread in unseen:
                thread.settled = False
                thread.observe(UNREAD, tick)
            raise

    def _conclude_now(self, left: Sequence[Left], tick: int) -> bool:
        """The same of a tick that goes by itself, while nobody waits for a lock; whether the next one can."""
        return self._replay.conclude_now(left, tick) and not self._match_wanted

    def _sight_now(self, ran: Mapping[SampledThread, None], last: Sequence[SampledThread]) -> bool:
        """Look for updates at a tick that goes by itself, of which all is concluded; whether to go on so."""
        try:
            self._updates.pass_over(thread for thread in ran if thread not in last)
            self._updates.look(last)
        except FtdiagError as error:
            self._replay.error = error
            return False
        return self._updates.quiet_stacks is not None

    def _follow(self, tick: Tick) -> None:
        """Take note of threads that came and went."""
        for thread in tick.started:
            self._names_wanted = self._match_wanted = True
            if self._on_core is not None:
                self._on_core.add(thread, at_once=tick.first)
        for thread in tick.ended:
            self._forget(thread)

    def _forget(self, thread: SampledThread) -> None:
        self._moved.pop(thread, None)
        self._holders.forget(thread)
        self._updates.forget_thread(thread)
        if self._on_core is not None:
            self._on_core.remove(thread)

    def _look_again(self, threads: Sequence[SampledThread], tick: int) -> None:
        """Look at threads that ran since the kernel was asked who ran."""
        for thread in threads:
            thread.ran = True
            thread.settled = False
        self._look(threads, tick)  # those that are gone are found to be so at the next tick

    def _look(self, changed: Sequence[SampledThread], tick: int) -> Sequence[SampledThread]:
        """Look closely at the threads that ran since the last tick; return those that are gone."""
        return (
            self._look_compiled(changed, tick)
            if self._interpreter.compiled
            else self._look_plain(changed, tick)
        )

    def _look_compiled(self, changed: Sequence[SampledThread], tick: int) -> Sequence[SampledThread]:
        """The same as `_look_plain`; what most of them do is concluded where they are walked."""
        locks = self._locks
        along = locks.look_anew()
        try:
            self._holders.want(changed)
            self._collector.want(along)
            self._stopped.want()
            gone, moved, left = self._interpreter.look(
                changed, along, locks.unreadable_places, self._generation, tick
            )
            self._collector.saw(along)
        except BudgetSpent:
            for thread in changed:
                thread.settled = False
                thread.observe(UNREAD, tick)
            raise
        self._moved.update((thread, None) for thread, _, _ in moved)
        self._conclude(left, tick)
        if self._holders.waited_for:
            self.hold_moved()
        return gone

    def _look_plain(self, changed: Sequence[SampledThread], tick: int) -> list[SampledThread]:
        """Ask for their system calls, walk their stacks, and conclude what each of them does."""
        gone: list[SampledThread] = []
        walked: list[PythonThread] = []
        looked: list[tuple[SampledThread, list[PythonThread], Blocked | None]] = []
        locks = self._locks
        along = locks.look_anew()
        unreadable = locks.unreadable
        for thread, line in zip(changed, self._threads.syscall_lines(changed), strict=True):
            blocked = None
            if line != RUNNING_LINE:
                if line is None:
                    gone.append(thread)
                    continue
                blocked = self._waits.parse(line)
                if blocked is not None and blocked.entry:
                    thread.entry = blocked.entry
            # Matching threads anew, below, changes `thread.python`; these are what was walked.
            pythons = thread.python
            looked.append((thread, pythons, blocked))
            walked.extend(pythons)
            place = thread.entry
            if len(pythons) == 1:
                wanted = place, pythons[0].section, unreadable
                if wanted == thread.beside:
                    continue  # as at the last look
                thread.beside = wanted
            for python in pythons:
                locks.want_beside(python, place)
                place = 0
        unseen = deque(looked)
        try:
            self._holders.want(changed)
            self._collector.want(along)
            self._stopped.want()
            stacks = iter(self._interpreter.walk(walked, along))
            self._collector.saw(along)
            while unseen:
                self._see(*unseen[0], stacks, tick)
                unseen.popleft()
        except BudgetSpent:
            for thread, _, _ in unseen:
                thread.settled = False
                thread.observe(UNREAD, tick)
            raise
        return gone

    def _see(
        self,
        thread: SampledThread,
        pythons: Sequence[PythonThread],
        blocked: Blocked | Asked | None,
        stacks: Iterator[int],
        tick: int,
    ) -> None:
        """Conclude what a thread does; `stacks` has those of its states next."""
        asked, blocked = (blocked, blocked.blocked) if isinstance(blocked, Asked) else (None, blocked)
        stack = NO_STACK
        innermost: PythonThread | None = None
        thread.calm = torn = False
        for python in pythons:
            one = next(stacks)
            # A thread can be in several interpreters; the newest that runs anything is the innermost.
            if stack == NO_STACK:
                stack, innermost = one, python
            if one == TORN_STACK:
                torn = True
                self._check_python(thread, python)
        if not pythons and thread.attempts < MATCH_ATTEMPTS:
            # It may be just starting: look for it at the next tick, for all such threads at once.
            thread.attempts += 1
            self._match_wanted |= thread.attempts in MATCHED_AT
        thread.innermost = innermost
        entry = self._locks.entry_at(thread.entry) if thread.entry else None
        now_blocked = blocked
        if asked is None and (blocked is not None or entry is not None):
            now_blocked = self._asking.as_of_stacks(thread, blocked, stack, entry)
        self._holders.saw(thread, stack, blocked=now_blocked is not None, entry=entry)
        if now_blocked is None:
            observation = (_ON_CPU, stack, NO_WAIT, NO_HOLDER, _UNKNOWN)
        else:
            found = None if asked is None else asked.found
            observation = self._blocked(thread, now_blocked, stack, innermost, entry, found)
        # It is among the unsettled ones already.
        if now_blocked is not None and now_blocked is blocked:
            thread.settled = True
        # Who was handed a lock is seen to be at each tick, while it is.
        starting = not pythons and thread.attempts < MATCH_ATTEMPTS
        thread.looked = now_blocked is None and not (
            torn or starting or self._holders.was_given(thread, entry)
        )
        thread.observe(observation, tick)

    def _blocked(
        self,
        thread: SampledThread,
        blocked: Blocked,
        stack: int,
        innermost: PythonThread | None,
        entry: WaitEntry | None,
        found: Classified | None,
    ) -> Observation:
        """What is observed of a blocked thread; `found`: what it waits for, if that was found out before."""
        waited = thread.waited
        if waited is not None and waited[0] is blocked and waited[1] == stack:
            return waited[2]
        if found is None and entry is not None and blocked.entry:
            known = self._known_waits.again(blocked, stack, entry, innermost)
            if known is not None and known[0].lock is not None:
                self._holders.waits(thread, known[0].lock, stack)
                return int(known[0].state), stack, known[1], NO_HOLDER, _UNKNOWN
        found = found or self._waits.classify(blocked, stack, innermost, thread.info.tid)
        if found.lock is not None:
            wait_id = self._known_waits.note(blocked, stack, entry, found)
            self._holders.waits(thread, found.lock, stack)
        else:
            wait_id = NO_WAIT if found.wait is None else self._sink.intern_wait(found.wait)
        if found.state is ThreadState.STOPPED:
            self._stopped.add(thread)
        observation = (int(found.state), stack, wait_id, NO_HOLDER, _UNKNOWN)
        if blocked.plain:
            thread.waited = blocked, stack, observation
            thread.remember_wait(blocked.line, stack, observation)
        elif found.state is ThreadState.IDLE and entry is not None and entry.queued:
            self._replay.rests(stack, self._waits.facts(stack), entry.key, observation)
        return observation

    # --- which threads are Python's ---

    def _match_threads(self) -> None:
        """Join the interpreter's thread states to the kernel's threads."""
        native_ids = {}
        for tid, thread in self._threads.alive.items():
            native_ids[tid] = tid if self._process.same_namespace else thread.files.namespace_tid() or -1
        matched = match_threads(
            self._interpreter.threads(),
            native_ids,
            self._process.pid,
            self._memory,
            self._runtime.layout,
            self._process.target.machine or "",
        )
        for tid, thread in self._threads.alive.items():
            found = matched.by_thread.get(tid, [])
            known = {(python.address, python.native_id) for python in thread.python}
            if {(python.address, python.native_id) for python in found} != known:
                thread.python = found
                self._moved.pop(thread, None)
                thread.beside = NOTHING_BESIDE
                thread.settled = False
                interpreter = found[-1].interpreter if found else 0
                self._threads.put(thread, replace(thread.info, python=True, interpreter=interpreter))
                self._names_wanted = True
        self._count_left({state.address for state in matched.left})

    def _count_left(self, left: set[int]) -> None:
        """Count the states without a thread that were without one before: others are about to come or go."""
        stay = left & self._left
        new = stay - self._left_told
        self._left, self._left_told = left, stay
        if new:
            self._gaps["threads", UNMATCHED] += len(new)

    def _check_python(self, thread: SampledThread, python: PythonThread) -> None:
        """A torn stack may mean that the thread state is no longer this thread's."""
        try:
            data = self._memory.read_word(python.address + self._runtime.layout.thread_native_id)
        except MemoryReadError:
            data = 0
        if data != python.native_id:
            thread.python = [other for other in thread.python if other is not python]
            self._moved.pop(thread, None)
            thread.beside = NOTHING_BESIDE
            thread.attempts = 0

    # --- windows ---

    def refresh(self, now_ns: int) -> None:
        """Read what changes slowly."""
        self._locks.refresh(self._holders.waited_for)
        self._generation += 1
        self._replay.forget_words()
        self._collector.refresh()
        if self._on_core is not None:
            self._on_core.refresh(self._locks.named_places)
        stale = self._interpreter.recheck_codes()
        if stale:
            self._updates.forget()
            self._gaps["code", "code objects were freed; lines seen between may be wrong"] += stale
        unknown = any(not thread.python and thread.ran for thread in self._threads.alive.values())
        if unknown or self._windows < MATCHED_WINDOWS or self._left - self._left_told:
            self._match_threads()
        if self._names_wanted or self._windows % NAMES_EVERY_WINDOWS == 0:
            self._names_wanted = False
            self._facts.read_names()
        self._facts.read_gil()
        self._facts.read_tracing()

    def complete(self, window: Window) -> None:
        """Write a window with what was seen of cores, shared objects, and of stacks that were not read."""
        interpreter = self._interpreter
        if interpreter.cut:
            why = f"deeper than {MAX_STACK_DEPTH:,} frames; the outermost ones are left out"
            self._gaps["stacks", why] += interpreter.cut
        if interpreter.too_many_threads:
            self._gaps["threads", TOO_MANY_STATES] += 1
        if interpreter.given_up:
            self._gaps["stacks", TOO_COSTLY] += interpreter.given_up
        if broken := self._collector.broken:
            self._gaps["collections", "the collector's statistics said what cannot be"] += broken
        gaps = (*window.gaps, *(Gap(what, why, count) for (what, why), count in self._gaps.items()))
        cost = replace(window.cost, walked_stacks=interpreter.walked, torn_stacks=interpreter.torn)
        window = replace(
            window, cost=cost, gaps=gaps, collections=self._collector.take(), updates=self._updates.take()
        )
        counts = None
        if self._on_core is not None:
            counts, native, lost = self._on_core.take(window)
            window = replace(window, gaps=gaps + lost, native=native)
        idents, waited_for = self._threads.idents(), self._holders.waited_for
        shared = self._sharing.window(counts, self._on_core, waited_for, idents, window.t1_ns)
        self._sink.write_window(replace(window, shared=shared))
        self._windows += 1
        interpreter.walked = interpreter.torn = interpreter.cut = interpreter.given_up = 0
        self._gaps.clear()
