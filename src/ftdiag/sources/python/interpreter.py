"""The threads of a process's interpreters from outside: Python stacks with lines, variables of frames.

In: remote memory, a `Runtime`. Out: threads and, for each, the id of its stack.
Nothing stops the target, so every read races with it. A stack is believed only when the whole chain of
frames is consistent: every executable is a code object, every instruction lies in its bytecode, the
bottom was reached; else it is torn and counted as a gap by the caller.

The frames are followed by a `StackWalker`; a chain of (code, instruction) words that it has not seen before
is resolved into frames here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ftdiag.datatypes import dataclass
from ftdiag.errors import MemoryReadError
from ftdiag.model import TORN_STACK, Frame
from ftdiag.sources.kernel.memory import ReadAlong, RemoteMemory
from ftdiag.sources.python.chains import MAX_FRAMES, chains
from ftdiag.sources.python.codeobjects import CodeObject, CodeObjects
from ftdiag.sources.python.interpreterstates import InterpreterStates
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.runtime import Runtime
from ftdiag.sources.python.stackwalk import (
    Ask,
    CompiledWalker,
    Learn,
    Left,
    LockPlaces,
    Moved,
    Parse,
    Rests,
    stack_walker,
)
from ftdiag.sources.python.walking import FrameMeaning, PythonThread

MAX_THREADS: Final = 65_536
MAX_FRAME_WORDS: Final = 1024
"""Locals and stack slots of a frame that are looked at for names."""

_POINTER_TAGS: Final = 7
_TAGGED_INT: Final = 3
"""Low bits of a stack reference that is a small int and no pointer (Py_INT_TAG, pycore_stackref.h)."""


class FrameSink(Protocol):
    """Where resolved frames go: gives ids to frames and stacks. The sampler passes the recording's tables."""

    def intern_frame(self, frame: Frame) -> int:
        """Id of a frame."""
        ...

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """Id of a stack given by its frames' ids, root first."""
        ...


@dataclass(frozen=True, slots=True)
class CurrentLine:
    """The line that a thread's innermost frame was in at the last walk, and where its bytecode lies.

    `frame_id` is that of the sink. `code` and `frame` are addresses, `units` the code units [start, end) of
    the line, `bytecode` the address of unit 0 of the copy that all threads share.
    """

    frame_id: int
    frame: int
    code: int
    bytecode: int
    units: tuple[tuple[int, int], ...]
    local_names: tuple[str, ...]


class InterpreterReader(InterpreterStates):
    """Reads threads and stacks of one target.

    Not thread-safe. Raises TargetGone and PermissionRefused from any method when the process is gone or
    the kernel refuses; other unreadable memory becomes a torn stack or a missing thread.
    """

    def __init__(
        self, memory: RemoteMemory, runtime: Runtime, sink: FrameSink, *, compiled: bool | None = None
    ) -> None:
        """`compiled`: which walker follows the frames; by default the compiled one where it was built."""
        super().__init__(memory, runtime)
        self._sink = sink
        self._codes = CodeObjects(memory, runtime.layout, self.objects, self._forget_frames)
        self._frames: dict[tuple[int, int], int] = {}
        """(code object, instruction) words -> the sink's id of the frame."""
        self._meanings: dict[tuple[int, int], FrameMeaning] = {}
        """(code object, code unit) -> what a frame there means; each thread has its own copy of the code."""
        self.marked: Callable[[Frame], str | None] = lambda frame: None
        """Says which local variable of a frame, if any, walks are to take along (`PythonThread.marked`)."""
        self._chains = chains(self._resolve_frame, sink.intern_stack, compiled=compiled)
        self._walker = stack_walker(memory, runtime.layout, self._chains, compiled=compiled)
        self.compiled = self._walker.compiled
        """Whether the compiled walker follows the frames."""
        self.too_many_threads = False
        """Whether there were more than MAX_THREADS states of threads at the last look."""
        self.walked = self.torn = self.cut = self.given_up = 0
        """Stacks that were walked, that could not be read as of one moment, and that were too deep; of those
        that were torn, the ones that a walk did not come to because it had cost enough."""

    # --- threads ---

    def threads(self) -> list[PythonThread]:
        """All thread states of all interpreters. Those being made or torn down may be missing."""
        layout = self.layout
        size = max(layout.thread_next, layout.thread_ident, layout.thread_native_id) + 8
        found: list[PythonThread] = []
        seen: set[int] = set()
        for interpreter in self.interpreters():
            try:
                address = self.memory.read_word(interpreter.address + layout.interpreter_threads_head)
                while address and address not in seen and len(seen) < MAX_THREADS:
                    seen.add(address)
                    data = self.memory.read(address, size)
                    native_id = int.from_bytes(
                        data[layout.thread_native_id : layout.thread_native_id + 8], "little"
                    )
                    ident = int.from_bytes(data[layout.thread_ident : layout.thread_ident + 8], "little")
                    if native_id:
                        found.append(self._walker.thread(address, native_id, ident, interpreter.id))
                    address = int.from_bytes(data[layout.thread_next : layout.thread_next + 8], "little")
            except MemoryReadError:
                continue
        self.too_many_threads = len(seen) >= MAX_THREADS
        return found

    # --- stacks ---

    def walk(self, threads: Sequence[PythonThread], along: ReadAlong | None = None) -> list[int]:
        """Stack ids of the threads, in their order: NO_STACK, TORN_STACK or a real one (StackWalker.walk)."""
        stacks = self._walker.walk(threads, along)
        self.walked += len(stacks)
        self.torn += stacks.count(TORN_STACK)
        self.cut += self._walker.take_cut()
        self.given_up += self._walker.take_given_up()
        return stacks

    def look(
        self,
        threads: Sequence[Any],
        along: ReadAlong,
        unreadable: tuple[set[int], int],
        generation: int,
        tick: int,
    ) -> tuple[list[Any], list[Moved], list[Left]]:
        """One look at threads by the compiled walker, which concludes of most of them what they do.

        Those that are gone, those that may hold other locks, and those of whom more is to be concluded
        (`stackwalk.CompiledWalker.look`).
        """
        assert isinstance(self._walker, CompiledWalker), "there is one"
        gone, moved, left, walked, torn = self._walker.look(threads, along, unreadable, generation, tick)
        self.walked += walked
        self.torn += torn
        self.cut += self._walker.take_cut()
        self.given_up += self._walker.take_given_up()
        return gone, moved, left

    def stretch(self, *arguments: Any) -> tuple[Any, ...]:
        """Ticks by the compiled walker: as `stackwalk.CompiledWalker.stretch`, without the last two."""
        assert isinstance(self._walker, CompiledWalker), "there is one"
        *rest, walked, torn = self._walker.stretch(*arguments)
        self.walked += walked
        self.torn += torn
        self.cut += self._walker.take_cut()
        self.given_up += self._walker.take_given_up()
        return tuple(rest)

    def prepare(
        self,
        parse: Parse,
        places: set[tuple[int, int]],
        sizes: tuple[int, int],
        plain: tuple[int, ...],
    ) -> None:
        """Before `look`: see `stackwalk.CompiledWalker.prepare`."""
        assert isinstance(self._walker, CompiledWalker), "there is one"
        self._walker.prepare(parse, places, sizes, plain)

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
        """Before `stretch`: see `stackwalk.CompiledWalker.prepare_later`."""
        assert isinstance(self._walker, CompiledWalker), "there is one"
        self._walker.prepare_later(lock_places, rests, known_words, lockless, pauses, ask, learn)

    def know(self, thread: PythonThread) -> None:
        """See CompiledWalker; where there is none, nothing is concluded later."""
        if isinstance(self._walker, CompiledWalker):
            self._walker.know(thread)

    def mark_quiet(self, thread: PythonThread) -> None:
        """See CompiledWalker; where there is none, each tick is looked at anyway."""
        if isinstance(self._walker, CompiledWalker):
            self._walker.mark_quiet(thread)

    def _resolve_frame(self, executable: int, instruction: int) -> FrameMeaning | None:
        """The sink's id of a frame, the offsets of its `with` slots and of what is marked in it.

        `None` if it makes no sense.
        """
        pair = executable, instruction
        code = self._codes.at(executable & ~_POINTER_TAGS)
        unit = None if code is None else self._codes.unit(code, instruction)
        if code is None or unit is None:
            return None
        meaning = self._meanings.get((code.address, unit))
        if meaning is None:
            frame = Frame(code.filename, code.function, code.lines.line(unit))
            frame_id = self._sink.intern_frame(frame)
            meaning = frame_id, self._codes.exit_offsets(code, unit), self._marked_offsets(code, frame)
            if len(self._meanings) >= MAX_FRAMES:
                self._meanings.clear()
            self._meanings[code.address, unit] = meaning
        if len(self._frames) >= MAX_FRAMES:
            self._frames.clear()
        self._frames[pair] = meaning[0]
        return meaning

    def _marked_offsets(self, code: CodeObject, frame: Frame) -> tuple[int, ...]:
        """Offset from a frame's address of the local variable that is marked; () if none is."""
        name = self.marked(frame)
        place = None if name is None else self._codes.local_place(code, name)
        return () if place is None else (place,)

    # --- variables of frames, for naming things; slower, and only for threads that are blocked ---

    def frame_words(self, thread: PythonThread, number: int) -> tuple[int, ...]:
        """Words of a frame's locals and stack (frame 0 is the leaf) as of the last walk; () if unreadable."""
        code = self._code_of(thread, number)
        if code is None:
            return ()
        count = min(code.local_count + code.stack_size, MAX_FRAME_WORDS)
        try:
            data = self.memory.read(thread.frames[number] + self.layout.frame_localsplus, 8 * count)
        except MemoryReadError:
            return ()
        return struct.unpack(f"<{count}Q", data)

    def local_variables(self, thread: PythonThread, number: int) -> list[tuple[str, int]]:
        """(name, address of value) of a frame's set local variables; what a cell holds for closures."""
        code = self._code_of(thread, number)
        if code is None:
            return []
        variables = []
        for name, word in zip(self._codes.local_names(code), self.frame_words(thread, number), strict=False):
            value = word & ~_POINTER_TAGS
            if word & 3 == _TAGGED_INT or value <= 4096:
                continue
            try:
                if self.objects.type_name(self.objects.type_of(value)) == "cell":
                    value = self.memory.read_word(value + self.layout.object_size)  # ob_ref
            except (MemoryReadError, NotAnObject):
                continue
            if value > 4096:
                variables.append((name, value))
        return variables

    def variable(self, thread: PythonThread, number: int, name: str) -> int | None:
        """Address of the value of one local variable that is no cell; `None` if it is not set."""
        code = self._code_of(thread, number)
        place = None if code is None else self._codes.local_place(code, name)
        if place is None:
            return None
        try:
            word = self.memory.read_word(thread.frames[number] + place)
        except MemoryReadError:
            return None
        return address_in(word) or None

    def current_line(self, thread: PythonThread, number: int = 0) -> CurrentLine | None:
        """The line of a frame (0 is the leaf) as of the last walk; `None` where it is not known."""
        code = self._code_of(thread, number)
        if code is None:
            return None
        unit = self._codes.unit(code, thread.chain[2 * number + 1])
        resolved = self._frames.get((thread.chain[2 * number], thread.chain[2 * number + 1]))
        line = None if unit is None else code.lines.line(unit)
        if resolved is None or line is None:
            return None
        return CurrentLine(
            frame_id=resolved,
            frame=thread.frames[number],
            code=code.address,
            bytecode=code.bytecode,
            units=tuple(code.lines.ranges(line)),
            local_names=tuple(self._codes.local_names(code)),
        )

    def code_at(self, pair: tuple[int, int]) -> tuple[CodeObject, int] | None:
        """The code object and the code unit of a frame of a chain that was resolved; `None` if forgotten."""
        code = self._codes.known(pair[0] & ~_POINTER_TAGS)
        unit = None if code is None else self._codes.unit(code, pair[1])
        return None if code is None or unit is None else (code, unit)

    def with_blocks(self, pair: tuple[int, int]) -> int:
        """How many `with` blocks a frame of a chain that was resolved is in."""
        located = self.code_at(pair)
        if located is None:
            return 0
        code, unit = located
        meaning = self._meanings.get((code.address, unit))
        return len(self._codes.exit_offsets(code, unit) if meaning is None else meaning[1])

    def globals_of(self, thread: PythonThread, number: int) -> int | None:
        """Address of a frame's globals dict; `None` if unreadable."""
        try:
            return self.memory.read_word(thread.frames[number] + self.layout.frame_globals) or None
        except (MemoryReadError, IndexError):
            return None

    def _code_of(self, thread: PythonThread, number: int) -> CodeObject | None:
        if not 0 <= number < min(len(thread.frames), len(thread.chain) // 2):
            return None
        return self._codes.known(thread.chain[2 * number] & ~_POINTER_TAGS)

    def recheck_codes(self) -> int:
        """Drop code objects that are gone or replaced; return how many. Called about once a second."""
        return self._codes.recheck()

    def _forget_frames(self) -> None:
        self._frames.clear()
        self._meanings.clear()
        self._chains.forget()
        self._walker.forget()


def address_in(word: int) -> int:
    """The object that a stack reference is, 0 if it is none: a small int, or not set."""
    value = word & ~_POINTER_TAGS
    return 0 if word & 3 == _TAGGED_INT or value <= 4096 else value
