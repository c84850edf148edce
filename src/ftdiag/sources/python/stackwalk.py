"""Walking stacks: which (code, instruction) pairs the frames of many threads form, as of one moment.

In: remote memory, a `Layout`, threads. Out: a stack id for each, and what its frames and `with` blocks are.
Nothing stops the target, so every read races with it: a chain that makes no sense is torn and read again.

There are two walkers. `CompiledWalker` (`tick/walk.c`) is the one that is used; `PlainWalker` does the same
in Python where that could not be built, and is what the tests hold the other against. What a chain of frames
means (files, functions, lines) is not known here: a chain never seen before is given to `resolve`, once.

How a walk is made cheap: one process_vm_readv per tick fetches, for all threads at once, the thread state,
the used part of its data stack (all frames of a thread lie there) and the frames elsewhere that were seen
last time (entry frames on the C stack, generators).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from ftdiag.errors import UnsupportedPython
from ftdiag.model import NO_STACK, TORN_STACK
from ftdiag.sources.compiled import COMPILED, WHY_NOT, tick
from ftdiag.sources.kernel.memory import ReadAlong, RemoteMemory
from ftdiag.sources.python.layouts import Layout
from ftdiag.sources.python.plainwalk import PlainWalker
from ftdiag.sources.python.walking import PythonThread, Resolve, StackWalker, read_along

Moved = tuple[Any, PythonThread, int]
"""A thread that may hold other locks than before, its only state, and its stack."""
Left = tuple[Any, tuple[PythonThread, ...], Any, tuple[int, ...]]
"""What is left to conclude of a thread: itself, its states, what its syscall line means, their stacks."""
Parse = Callable[[bytes], object]
LockPlaces = dict[tuple[int, int], int]
Ask = Callable[[Any, Any, int], tuple[Any, ...] | None]
Learn = Callable[[int], bool]
"""(Lock, stack) -> the object that the lock lies in; 0 if it lies in none."""
Rests = dict[int, tuple[int, tuple[int, int, int, int, int]]]
"""Stack -> the type of what is waited for with it, and what is observed."""


def stack_walker(
    memory: RemoteMemory, layout: Layout, resolve: Resolve, *, compiled: bool | None = None
) -> StackWalker:
    """The compiled walker where it was built, else the plain one; or the one that is asked for.

    Raises ImportError if the compiled one is asked for and was not built, UnsupportedPython for offsets that
    make no sense.
    """
    if compiled is None:
        compiled = COMPILED
    try:
        return CompiledWalker(memory, layout, resolve) if compiled else PlainWalker(memory, layout, resolve)
    except ValueError as error:
        raise UnsupportedPython(
            f"the memory layout that the target publishes makes no sense: {error}",
            "pip install --upgrade ftdiag   if there is a newer ftdiag",
        ) from None


class CompiledWalker:
    """The walker of `tick/walker.c`."""

    compiled = True

    def __init__(self, memory: RemoteMemory, layout: Layout, resolve: Resolve) -> None:
        if not COMPILED:
            raise ImportError(f"the compiled walker is not used: {WHY_NOT}")
        self._memory = memory
        self._layout = layout
        self._resolve = resolve
        self._prepared: tuple[Parse, set[tuple[int, int]], int, int, bool, tuple[int, ...]] | None = None
        self._prepared_later: (
            tuple[LockPlaces, Rests, set[int], set[int], dict[int, int], Ask, Learn, int, int, int] | None
        ) = None
        self._walker = self._made()

    def _made(self) -> tick.Walker:
        memory, layout = self._memory, self._layout
        self._task = memory.task
        walker = tick.Walker(
            self._task,
            memory.read_prefix if type(memory) is not RemoteMemory else None,
            self._resolve,
            (
                layout.thread_current_frame,
                layout.thread_native_id,
                layout.thread_critical_section,
                layout.thread_datastack_chunk,
            ),
            (layout.frame_executable, layout.frame_previous, layout.frame_instr_ptr, layout.frame_owner),
            layout.first_foreign_owner,
            NO_STACK,
            TORN_STACK,
        )
        if self._prepared is not None:
            walker.prepare(*self._prepared)
        if self._prepared_later is not None:
            walker.prepare_later(*self._prepared_later)
        return walker

    def take_cut(self) -> int:
        """See StackWalker."""
        return self._walker.take_cut()

    def take_given_up(self) -> int:
        """See StackWalker."""
        return self._walker.take_given_up()

    def thread(self, address: int, native_id: int, ident: int, interpreter: int) -> PythonThread:
        """A thread that this walker can walk."""
        return tick.Thread(address, native_id, ident, interpreter)

    def walk(self, threads: Sequence[PythonThread], along: ReadAlong | None = None) -> list[int]:
        """See StackWalker."""
        wanted, found = ({}, None) if along is None else (along.wanted, along.found)
        try:
            stacks = self._walker.walk(list(threads), wanted, found)  # type: ignore[arg-type]
        except OSError as error:
            self._go_on_after(error)
            return self.walk(threads, along)
        if along is not None and wanted:
            read_along(self._memory, along)
        return stacks

    def _go_on_after(self, error: OSError) -> None:
        """Read through another thread, if the one before has ended. Raises what memory raises."""
        # Whoever read before the walk may have found another one.
        found = self._task != self._memory.task
        if error.errno != errno.ESRCH or not (found or self._memory.take_another_task()):
            self._memory.refused(error.errno or 0)
            raise error
        self._walker = self._made()

    def prepare(
        self,
        parse: Parse,
        places: set[tuple[int, int]],
        sizes: tuple[int, int],
        plain: tuple[int, ...],
    ) -> None:
        """Before the first `look`.

        `parse` says what a syscall line means: something with the address of an `entry`, or `None`. `places`
        are what is waited for and the stacks with which threads were seen to wait for it there. `sizes`
        are the bytes of a wait entry and of a critical section. `plain` is what is observed of a thread that
        runs: state, wait, holder, confidence.
        """
        words_last = not self._layout.with_keeps_exit_method
        self._prepared = parse, places, *sizes, words_last, plain
        self._walker.prepare(*self._prepared)

    def prepare_later(
        self,
        lock_places: LockPlaces,
        rests: Rests,
        known_words: set[int],
        lockless: set[int],
        pauses: dict[int, int],
        ask: Ask,
        learn: Learn,
    ) -> None:
        """Before the first `stretch` that leaves ticks to be concluded later.

        `lock_places` are locks and the stacks with which threads were seen to wait for them there, with the
        object that each lock lies in (0: none). `rests` are stacks with which threads rest on a lock that was
        made for this wait, with the type of that lock, and what is observed of them. `known_words` is what
        `know` was told, `lockless` types of context managers that are no locks; to be cleared when that may
        be otherwise. `pauses` are the places that tell who stopped the threads that are, with their sizes.
        `ask` is called with a thread, what blocks it and its stack where these do not tell what it waits for:
        it finds that out, and returns a tuple that begins with what blocks it by then, or `None` for a tick
        that is not to be left. `learn` finds out what the word in a slot means, if it can.
        """
        layout = self._layout
        self._prepared_later = (
            *(lock_places, rests, known_words, lockless, pauses, ask, learn),
            *(layout.thread_state, layout.object_size, layout.object_type),
        )
        self._walker.prepare_later(*self._prepared_later)

    def know(self, thread: PythonThread) -> None:
        """It is known what the words in this thread's slots mean that its last walk found."""
        self._walker.know(thread)  # type: ignore[arg-type]

    def look(
        self,
        threads: Sequence[Any],
        along: ReadAlong,
        unreadable: tuple[set[int], int],
        generation: int,
        tick: int,
    ) -> tuple[list[Any], list[Moved], list[Left], int, int]:
        """What `sampling.observers.interpreter` does in Python, for the threads of which it is plain.

        Their syscall lines are read and their stacks walked, together with what lies beside them. One that
        runs, has one thread state, and was not found to wait for a lock or to be inside of something when the
        last look at it was concluded (`Seen.note`), is observed to run, with its stack. It may hold other
        locks than then if its slots have something else, or in another `generation`. `unreadable` are places
        beside stacks that cannot be read, and a number that changes with them. What is read goes into `along`
        only for threads that are left to conclude.

        Returns those that are gone, those that moved, those that are left, the number of stacks that were
        walked and of those torn. Raises TargetGone and PermissionRefused.
        """
        try:
            seen = self._walker.look(list(threads), along.wanted, along.found, *unreadable, generation, tick)
        except OSError as error:
            self._go_on_after(error)
            return self.look(threads, along, unreadable, generation, tick)
        if along.wanted:
            read_along(self._memory, along)
        return seen

    def stretch(self, *arguments: Any) -> tuple[Any, ...]:
        """Ticks, each with a look at those that ran, until one leaves something to conclude.

        In: the lines that tell who ran and where they are noted, what `look` takes, places of which each
        change is to be seen with what they had, the directory of the threads and its links, files that end
        it, whether nobody runs, the first tick's number, (due, period, last, slack, how long after its line
        changed a thread that wants a core is known to have none), and by number, from the given one on, which
        stacks do not matter (1), or `None`, the process's id, the buffers of native samples or `None`, and
        where threads wait for locks, what places had that tell who holds these (else `None`): a tick at which
        one of them has something else, or a thread may hold other locks, is the last one, too, unless it is
        left to be concluded later (`sampling.replay`); where those are noted that may hold other locks, and
        who waits for which mutex of what object, or `None` if no tick may be left; what concludes, while
        nobody waits for a lock, what is left of a tick, and says whether the next one can follow; what looks,
        once all of a tick is concluded, at those whose stacks may matter, of all that ran, and says the same.
        The first tick at `last` or later is the last one. Out: the times of the ticks, the threads that were
        looked at, ticks that were left, and whom these are about with the wait entries that they had before
        (`None` if none may be left), (gone, left) of the last tick or `None`, those that were looked at then,
        if something is left, a lock may be another's, or one of their stacks may matter, whether the one that
        is due is somebody else's, whether locks may be others', when it is due, how many were late and
        missed, the process's CPU clock at the last tick, beside those of its threads, if it came to that one
        (else -1), stacks that were walked and torn.

        It stops without a trace before a tick that somebody else has to take. Raises nothing of the target.
        """
        return self._walker.stretch(*arguments)

    def mark_quiet(self, thread: PythonThread) -> None:
        """A thread with the chain that this one has now does not matter to a stretch, whatever its stack is.

        Until `forget`, or until there are too many of them.
        """
        self._walker.mark_quiet(thread)  # type: ignore[arg-type]

    def forget(self) -> None:
        """See StackWalker."""
        self._walker.forget()
