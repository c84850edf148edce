"""Walking stacks: which (code, instruction) pairs the frames of many threads form, as of one moment.

In: remote memory, a `Layout`, threads. Out: a stack id for each, and what its frames and `with` blocks are.
Nothing stops the target, so every read races with it: a chain that makes no sense is torn and read again.

There are two walkers. `CompiledWalker` (`_tick.c`) is the one that is used; `PlainWalker` does the same in
Python where that could not be built, and is what the tests hold the other against. What a chain of frames
means (files, functions, lines) is not known here: a chain never seen before is given to `resolve`, once.

How a walk is made cheap: one process_vm_readv per tick fetches, for all threads at once, the thread state,
the used part of its data stack (all frames of a thread lie there) and the frames elsewhere that were seen
last time (entry frames on the C stack, generators).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ftdiag.errors import UnsupportedPython
from ftdiag.model import NO_STACK, TORN_STACK
from ftdiag.sources.compiled import COMPILED, WHY_NOT, tick
from ftdiag.sources.kernel.memory import ReadAlong, RemoteMemory
from ftdiag.sources.python.layouts import Layout
from ftdiag.sources.python.plainwalk import PlainWalker
from ftdiag.sources.python.walking import PythonThread, Resolve, StackWalker, read_along


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
    """The walker of `_tick.c`."""

    compiled = True

    def __init__(self, memory: RemoteMemory, layout: Layout, resolve: Resolve) -> None:
        if not COMPILED:
            raise ImportError(f"the compiled walker is not used: {WHY_NOT}")
        self._memory = memory
        self._layout = layout
        self._resolve = resolve
        self._walker = self._made()

    def _made(self) -> tick.Walker:
        memory, layout = self._memory, self._layout
        return tick.Walker(
            memory.task,
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
            if error.errno == errno.ESRCH and self._memory.take_another_task():
                self._walker = self._made()
                return self.walk(threads, along)
            self._memory.refused(error.errno or 0)
            raise
        if along is not None and wanted:
            read_along(self._memory, along)
        return stacks

    def forget(self) -> None:
        """See StackWalker."""
        self._walker.forget()
