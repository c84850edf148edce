"""The interpreters of a process from outside: threads, Python stacks with lines, names, the GIL.

In: remote memory, a `Runtime`. Out: threads and, for each, the id of its stack.
Nothing stops the target, so every read races with it. A stack is believed only when the whole chain of
frames is consistent: every executable is a code object, every instruction lies in its bytecode, the
bottom was reached; else it is torn and counted as a gap by the caller.

How a walk is made cheap: one process_vm_readv per tick fetches, for all threads at once, the thread state,
the used part of its data stack (all frames of a thread lie there) and the frames elsewhere that were seen
last time (entry frames on the C stack, generators). The chain of (code, instruction) words is looked up
whole; only a chain never seen before is resolved into frames.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain as concatenated
from typing import Final, Protocol

from ftdiag.errors import MemoryReadError
from ftdiag.model import NO_STACK, TORN_STACK, Frame
from ftdiag.sources.layouts import Layout
from ftdiag.sources.locations import LineTable
from ftdiag.sources.memory import MAX_IOVECS, ReadAlong, RemoteMemory
from ftdiag.sources.objects import NotAnObject, ObjectReader
from ftdiag.sources.runtime import Runtime
from ftdiag.sources.withblocks import HandlerRange, parse_exception_table, with_depths

MAX_INTERPRETERS: Final = 1024
MAX_THREADS: Final = 65_536
MAX_MODULES: Final = 20_000
"""Loaded modules that are asked whether they want the GIL."""
MAX_STACK_DEPTH: Final = 4096
"""Frames of a stack that are followed; a deeper stack is kept from the leaf down, its root cut off. It bounds
the time that a tick takes (4 ms), and a recording keeps no deeper stacks (recording.schema)."""
_CYCLE_CHECK_DEPTH: Final = MAX_STACK_DEPTH // 2
"""Frames below this depth are checked for a cycle, which only a torn stack has; few stacks get there."""
MAX_CODE_OBJECTS: Final = 50_000
MAX_KNOWN_STACKS: Final = 100_000
"""Chains whose stack id is remembered; the cache starts anew beyond."""
MAX_CHUNK_BYTES: Final = 8 << 20
"""Part of a data stack chunk that is read."""
MAX_FRAMES_ELSEWHERE: Final = 24
"""Frames outside the data stack that are fetched along with it."""
_FORMER_FRAMES_ELSEWHERE: Final = 4
"""Of those, how many that it was not in the last time: threads go back and forth between few places."""
MAX_CODE_UNITS: Final = 1 << 24
MAX_FRAME_WORDS: Final = 1024
"""Locals and stack slots of a frame that are looked at for names."""

_POINTER_TAGS: Final = 7
_TAGGED_INT: Final = 3
"""Low bits of a stack reference that is a small int and no pointer (Py_INT_TAG, pycore_stackref.h)."""
_WORD: Final = struct.Struct("<Q")
_TWO_WORDS: Final = struct.Struct("<QQ")
_CHUNK_HEADER_BYTES: Final = 24
"""struct _PyStackChunk: previous, size, top (Include/cpython/pystate.h)."""
_CHUNK_SLACK_BYTES: Final = 768
"""Read beyond the highest frame seen last time, for frames that were pushed since."""
_FIRST_CHUNK_BYTES: Final = 4096
_PIECE_BYTES: Final = 4096
_MAX_PIECES: Final = 4
"""What is longer is read in so many pieces."""
_MAX_CHUNKS_AHEAD: Final = 16
"""Chunks of a thread's data stack that are fetched along with it; deeper ones are fetched when needed."""
_MAX_CHUNKS: Final = 512
"""Chunks that are followed to find a frame."""
_MAX_ABSENCES: Final = 16
"""Times in a row that a chunk may be gone before it is forgotten: it often comes back at its address."""
CRITICAL_SECTION_TAGS: Final = 3
"""Low bits of a thread's pointer to its critical sections (Include/internal/pycore_critical_section.h)."""
_ATTEMPTS: Final = 8
"""Times a torn stack is read in one walk."""


class FrameSink(Protocol):
    """Where resolved frames go: gives ids to frames and stacks. The sampler passes the recording's tables."""

    def intern_frame(self, frame: Frame) -> int:
        """Id of a frame."""
        ...

    def intern_stack(self, frame_ids: Sequence[int]) -> int:
        """Id of a stack given by its frames' ids, root first."""
        ...


@dataclass(slots=True)
class PythonThread:
    """A thread state of the target, and what the last walk learned to predict the next.

    `native_id` is the thread's id in the target's own PID namespace. `ident` is `threading.get_ident()`.
    """

    address: int
    native_id: int
    ident: int
    interpreter: int
    chunks: tuple[tuple[int, int], ...] = ()
    absences: int = 0
    """How often in a row the first of the chunks could not be read."""
    late: bool = False
    """Whether the last walk had to read parts of the stack after the others."""
    elsewhere: tuple[int, ...] = ()
    """Addresses of its frames outside the data stack, as of the last walk."""
    elsewhere_ahead: tuple[int, ...] = ()
    """Those that are read together with the data stack: the last ones, and a few that were seen before."""
    beside: tuple[tuple[int, int], ...] = ()
    """(address, size) of what a walk that takes things along is to read right beside the thread state."""
    frames: list[int] = field(default_factory=list)
    """Addresses of the Python frames of the last walk, leaf first."""
    chain: tuple[int, ...] = ()
    """(code object, instruction) words of the last walk, leaf first."""
    critical_section: int = 0
    """The tagged pointer to the object locks it holds (free-threaded builds)."""
    section: int = 0
    """Where the last critical section that it was seen in lies."""
    with_exits: tuple[int, ...] = ()
    """Stack slots of the `with` blocks it is in, innermost first: managers or their bound `__exit__`."""


@dataclass(frozen=True, slots=True)
class InterpreterRef:
    """One PyInterpreterState."""

    address: int
    id: int


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


class _Code:
    """A code object: what is needed to turn an instruction address into a frame."""

    __slots__ = (
        "address",
        "bytecode",
        "copies",
        "filename",
        "fingerprint",
        "frames",
        "function",
        "handlers",
        "lines",
        "local_count",
        "local_names",
        "stack_size",
        "units",
    )

    def __init__(
        self, address: int, fingerprint: bytes, filename: str, function: str, lines: LineTable, units: int
    ) -> None:
        self.address = address
        self.fingerprint = fingerprint
        self.filename = filename
        self.function = function
        self.lines = lines
        self.units = units
        self.bytecode = 0
        self.copies: tuple[int, ...] = ()
        self.frames: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.handlers: list[HandlerRange] = []
        self.local_count = 0
        self.local_names: list[str] | None = None
        self.stack_size = 0


class InterpreterReader:
    """Reads threads and stacks of one target.

    Not thread-safe. Raises TargetGone and PermissionRefused from any method when the process is gone or
    the kernel refuses; other unreadable memory becomes a torn stack or a missing thread.
    """

    def __init__(self, memory: RemoteMemory, runtime: Runtime, sink: FrameSink) -> None:
        self.memory = memory
        self.runtime = runtime
        self.layout: Layout = runtime.layout
        self.objects = ObjectReader(memory, runtime.layout)
        self._sink = sink
        self._codes: dict[int, _Code] = {}
        self._code_types: set[int] = set()
        self._known: dict[tuple[int, ...], tuple[int, tuple[tuple[int, int], ...]]] = {}
        layout = runtime.layout
        self._thread_fields = _fields(
            [
                (layout.thread_current_frame, "Q"),
                (layout.thread_native_id, "Q"),
                (layout.thread_critical_section, "Q"),
                (layout.thread_datastack_chunk, "Q"),
            ]
        )
        self._thread_bytes = self._thread_fields.size
        self._frame_fields = _fields(
            [
                (layout.frame_executable, "Q"),
                (layout.frame_previous, "Q"),
                (layout.frame_instr_ptr, "Q"),
                (layout.frame_owner, "B"),
            ]
        )
        self._frame_bytes = self._frame_fields.size
        self.walked = 0
        self.torn = 0
        self.cut = 0
        self._late_reads = 0

    # --- interpreters and threads ---

    def interpreters(self) -> list[InterpreterRef]:
        """All interpreters of the process, newest first as CPython links them.

        Raises MemoryReadError when the list's head cannot be read.
        """
        layout = self.layout
        found: list[InterpreterRef] = []
        seen: set[int] = set()
        address = self.memory.read_word(self.runtime.address + layout.runtime_interpreters_head)
        while address and address not in seen and len(found) < MAX_INTERPRETERS:
            seen.add(address)
            try:
                number = self.memory.read_word(address + layout.interpreter_id)
                following = self.memory.read_word(address + layout.interpreter_next)
            except MemoryReadError:
                break
            found.append(InterpreterRef(address, number))
            address = following
        return found

    def threads(self) -> list[PythonThread]:
        """All thread states of all interpreters. Those being made or torn down may be missing."""
        layout = self.layout
        size = max(layout.thread_next, layout.thread_ident, layout.thread_native_id) + 8
        found: list[PythonThread] = []
        seen: set[int] = set()
        for interpreter in self.interpreters():
            try:
                address = self.memory.read_word(interpreter.address + layout.interpreter_threads_head)
                while address and address not in seen and len(found) < MAX_THREADS:
                    seen.add(address)
                    data = self.memory.read(address, size)
                    native_id = int.from_bytes(
                        data[layout.thread_native_id : layout.thread_native_id + 8], "little"
                    )
                    ident = int.from_bytes(data[layout.thread_ident : layout.thread_ident + 8], "little")
                    if native_id:
                        found.append(PythonThread(address, native_id, ident, interpreter.id))
                    address = int.from_bytes(data[layout.thread_next : layout.thread_next + 8], "little")
            except MemoryReadError:
                continue
        return found

    def gil_enabled(self) -> bool | None:
        """Whether a GIL is in force in the main interpreter; `None` if it cannot be read.

        Always true on builds that have no free threading (gil_runtime_state.enabled, Python/ceval_gil.c).
        """
        if self.layout.interpreter_gil_enabled is None:
            return True
        try:
            main = [ref for ref in self.interpreters() if ref.id == 0]
            if not main:
                return None
            data = self.memory.read(main[0].address + self.layout.interpreter_gil_enabled, 4)
        except MemoryReadError:
            return None
        return int.from_bytes(data, "little") != 0

    def gil_culprits(self) -> tuple[str, ...]:
        """Names of the loaded extension modules that ask for the GIL, in the order of their import.

        An extension module that does not declare Py_MOD_GIL_NOT_USED switches the GIL back on. Pure Python
        modules and those built into the interpreter do not count. Empty on builds without free threading.
        """
        if not self.layout.free_threaded:
            return ()
        culprits: list[str] = []
        try:
            for interpreter in self.interpreters():
                modules = self.memory.read_word(interpreter.address + self.layout.interpreter_imports_modules)
                for key, module in self.objects.dict_items(modules)[:MAX_MODULES]:
                    if self._asks_for_gil(module):
                        culprits.append(self.objects.string(key))
        except (MemoryReadError, NotAnObject):
            return tuple(dict.fromkeys(culprits))
        return tuple(dict.fromkeys(culprits))

    def _asks_for_gil(self, module: int) -> bool:
        layout = self.layout
        try:
            if self.objects.type_name(self.objects.type_of(module)) != "module":
                return False
            data = self.memory.read(module + layout.module_gil, 8)
            if layout.module_gil_is_wish:
                asks = data[0] == 1  # bool md_requires_gil
            else:
                asks = int.from_bytes(data, "little") == 0  # Py_MOD_GIL_USED
            if not asks:
                return False
            path = self.objects.dict_get(self.objects.module_dict(module), "__file__")
            return path is not None and self.objects.string(path).endswith(".so")
        except (MemoryReadError, NotAnObject):
            return False

    def gil_holder(self) -> int | None:
        """Address of the thread state that has the main interpreter's GIL, `None` if nobody has it."""
        layout = self.layout
        try:
            for ref in self.interpreters():
                if ref.id == 0:
                    locked = self.memory.read(ref.address + layout.interpreter_gil_locked, 4)
                    if int.from_bytes(locked, "little", signed=True) == 1:
                        return self.memory.read_word(ref.address + layout.interpreter_gil_holder) or None
        except MemoryReadError:
            return None
        return None

    def finalizing(self) -> bool:
        """Whether no interpreter is left, as at the very end of a process."""
        try:
            return not self.interpreters()
        except MemoryReadError:
            return True

    def thread_names(self) -> dict[int, str]:
        """`threading.get_ident()` -> `Thread.name`, from the `threading` module of every interpreter.

        This works where the OS knows no names (3.13 does not set them). Threads whose entry changes while
        it is read are missing.
        """
        names: dict[int, str] = {}
        for interpreter in self.interpreters():
            try:
                names.update(self._names_in(interpreter.address))
            except (MemoryReadError, NotAnObject):
                continue
        return names

    def _names_in(self, interpreter: int) -> dict[int, str]:
        objects = self.objects
        modules = self.memory.read_word(interpreter + self.layout.interpreter_imports_modules)
        if not modules:
            return {}
        threading_module = objects.dict_get(modules, "threading")
        if threading_module is None:
            return {}
        active = objects.dict_get(objects.module_dict(threading_module), "_active")
        if active is None:
            return {}
        names = {}
        for key, thread in objects.dict_items(active):
            try:
                name = objects.attribute(thread, "_name")
                if name is not None:
                    names[objects.integer(key)] = objects.string(name)
            except (MemoryReadError, NotAnObject):
                continue
        return names

    # --- stacks ---

    def walk(self, threads: Sequence[PythonThread], along: ReadAlong | None = None) -> list[int]:
        """Stack ids of the threads, in their order: NO_STACK, TORN_STACK or a real one.

        A torn stack is read again a few times before it is given up, and one that took several reads once:
        they may be of different moments, and now it is known what to read at once.

        `along` is read in the same system call as the first stacks if that works, else right after it; what
        is read beside the threads goes there, too.
        """
        results: list[int] = []
        first = along if along is not None and along.wanted else None
        for batch in _batches(threads):
            stacks = self._walk_batch(batch, along, whole=first is not None)
            if first is not None:
                self._read_along(first)
                first = None
            again = [
                place
                for place, stack in enumerate(stacks)
                if stack == TORN_STACK or (stack != NO_STACK and batch[place].late)
            ]
            for _ in range(_ATTEMPTS - 1):
                if not again:
                    break
                parts = _batches([batch[place] for place in again])
                anew = [self._walk_batch(part, along) for part in parts]
                for place, stack in zip(again, concatenated.from_iterable(anew), strict=True):
                    stacks[place] = stack
                again = [place for place in again if stacks[place] == TORN_STACK]
            self.torn += len(again)
            results.extend(stacks)
        if first is not None:
            self._read_along(first)
        self.walked += len(threads)
        return results

    def _read_along(self, along: ReadAlong) -> None:
        """What was not read together with stacks."""
        missing = [item for item in along.wanted.items() if item[0] not in along.found]
        if missing:
            addresses = [address for address, _ in missing]
            along.found.update(zip(addresses, self.memory.read_many(missing), strict=True))

    def _walk_batch(
        self, threads: Sequence[PythonThread], along: ReadAlong | None = None, *, whole: bool = False
    ) -> list[int]:
        """Stack ids; `whole`: all that is wanted of `along` is read with them, else what lies beside them."""
        vectors = array("Q")
        add = vectors.append
        total = 0
        thread_bytes, frame_bytes = self._thread_bytes, self._frame_bytes
        ends = []
        for thread in threads:
            add(thread.address)
            add(thread_bytes)
            total += thread_bytes
            if along is not None:
                for address, size in thread.beside:
                    add(address)
                    add(size)
                    total += size
            for chunk, size in thread.chunks:
                if size <= _PIECE_BYTES:
                    add(chunk)
                    add(size)
                else:
                    for start, length in _pieces(size):
                        add(chunk + start)
                        add(length)
                total += size
            for address in thread.elsewhere_ahead:
                add(address)
                add(frame_bytes)
            total += frame_bytes * len(thread.elsewhere_ahead)
            ends.append(total)
        read = total
        whole = whole and along is not None and len(vectors) // 2 + len(along.wanted) <= MAX_IOVECS
        if whole and along is not None:
            for address, size in along.wanted.items():
                add(address)
                add(size)
                read += size
        view = self.memory.read_scattered(vectors, len(vectors) // 2, read)
        if view is None:
            return self._walk_batch(threads, along) if whole else self._walk_apart(threads, along)
        data = bytes(view)
        if whole and along is not None:
            position = total
            for address, size in along.wanted.items():
                along.found[address] = data[position : position + size]
                position += size
        stacks = []
        position = 0
        for thread, end in zip(threads, ends, strict=True):
            thread.absences = 0
            stacks.append(self._stack_of(thread, data, position, along))
            position = end
        return stacks

    def _walk_apart(self, threads: Sequence[PythonThread], along: ReadAlong | None) -> list[int]:
        """A prediction was wrong (memory was freed): forget those of the thread that it was."""
        if len(threads) > 1:
            middle = len(threads) // 2
            return self._walk_batch(threads[:middle], along) + self._walk_batch(threads[middle:], along)
        (thread,) = threads
        if along is not None and thread.beside:
            read = self.memory.read_many(thread.beside)
            for (address, _), data in zip(thread.beside, read, strict=True):
                along.found[address] = data
            return self._walk_batch(threads)
        if thread.chunks:
            # The top of the data stack comes and goes, what lies below it stays.
            absent, thread.chunks = thread.chunks[0], thread.chunks[1:]
            absences = thread.absences + 1
            stacks = self._walk_batch(threads, along)
            thread.absences = absences
            if thread.absences <= _MAX_ABSENCES and absent[0] not in dict(thread.chunks):
                thread.chunks = (absent, *thread.chunks)[:_MAX_CHUNKS_AHEAD]
            return stacks
        if thread.elsewhere_ahead:
            thread.elsewhere_ahead = ()
            return self._walk_batch(threads, along)
        return [TORN_STACK]

    def _stack_of(
        self, thread: PythonThread, data: bytes, position: int, along: ReadAlong | None = None
    ) -> int:
        """Stack id of one thread whose ranges lie in `data` from `position` on; updates its predictions."""
        frame, native_id, critical_section, chunk = self._thread_fields.unpack_from(data, position)
        position += self._thread_bytes
        if along is not None:
            for address, size in thread.beside:
                along.found[address] = data[position : position + size]
                position += size
        if native_id != thread.native_id:
            return TORN_STACK  # the thread state was freed, or reused by another thread
        thread.critical_section = critical_section
        if critical_section:
            thread.section = critical_section & ~CRITICAL_SECTION_TAGS
        thread.with_exits = ()
        thread.chain = ()
        if not frame:
            return NO_STACK
        regions: list[tuple[int, int, bytes, int]] = []
        for start, size in thread.chunks:
            if size <= _PIECE_BYTES:
                regions.append((start, start + size, data, position - start))
            else:
                regions.append((start, start + size, _in_order(data, position, size), -start))
            position += size
        elsewhere = {
            address: position + place * self._frame_bytes
            for place, address in enumerate(thread.elsewhere_ahead)
        }
        before = self._late_reads
        chain = self._chain(thread, frame, chunk, regions, data, elsewhere)
        thread.late = self._late_reads != before
        if chain is None:
            return TORN_STACK
        if not chain:
            return NO_STACK
        key = tuple(chain)
        thread.chain = key
        known = self._known.get(key)
        if known is None:
            known = self._resolve(key)
            if known is None:
                return TORN_STACK
        stack, exits = known
        if exits:
            thread.with_exits = self._with_exits(thread, exits, regions)
        return stack

    def _with_exits(
        self,
        thread: PythonThread,
        exits: tuple[tuple[int, int], ...],
        regions: list[tuple[int, int, bytes, int]],
    ) -> tuple[int, ...]:
        """The words in the given (frame number, offset) stack slots; from the same read as the frames."""
        words = []
        for number, offset in exits:
            address = thread.frames[number] + offset
            for low, high, source, shift in regions:
                if low < address <= high - 8:
                    words.append(_word(source, address + shift))
                    break
            else:
                try:
                    words.append(self.memory.read_word(address))
                except MemoryReadError:
                    continue
        return tuple(words)

    def _chain(
        self,
        thread: PythonThread,
        frame: int,
        top_chunk: int,
        regions: list[tuple[int, int, bytes, int]],
        data: bytes,
        elsewhere: dict[int, int],
    ) -> list[int] | None:
        """Follow the frames: [executable, instruction, ...] leaf first; `None` if it is torn."""
        unpack = self._frame_fields.unpack_from
        frame_bytes = self._frame_bytes
        foreign = self.layout.first_foreign_owner
        chain: list[int] = []
        add = chain.append
        thread.frames = []
        add_frame = thread.frames.append
        used: list[int] = []
        visited: set[int] = set()
        highest: dict[int, int] = {}
        popped = False
        low = last = shift = 0
        source = b""
        steps = 0
        while frame:
            if low < frame <= last:
                executable, previous, instruction, owner = unpack(source, frame + shift)
            elif frame in elsewhere:
                executable, previous, instruction, owner = unpack(data, elsewhere[frame])
                used.append(frame)
            else:
                region = self._region_with(frame, top_chunk, regions)
                if region is not None:
                    low, high, source, shift = region
                    last = high - frame_bytes
                    highest.setdefault(low, frame)  # the first one: frames go down within a chunk
                    continue
                self._late_reads += 1
                try:
                    alone = self.memory.read(frame, frame_bytes)
                except MemoryReadError:
                    return None
                executable, previous, instruction, owner = unpack(alone, 0)
                used.append(frame)
            if owner < foreign and not executable and not chain:
                popped = True  # returned from since the thread state was read: its caller is the leaf
            elif owner < foreign:
                add(executable)
                add(instruction)
                add_frame(frame)
            elif owner > foreign + 1:
                return None
            frame = previous
            steps += 1
            if steps > _CYCLE_CHECK_DEPTH:
                if frame in visited:
                    return None
                visited.add(frame)
                if steps >= MAX_STACK_DEPTH:
                    self.cut += bool(frame)
                    break
        if popped and not chain:
            return None
        self._predict(thread, highest, regions)
        now = tuple(used[:MAX_FRAMES_ELSEWHERE])
        if now != thread.elsewhere or now != thread.elsewhere_ahead[: len(now)]:
            former = [address for address in thread.elsewhere_ahead if address not in now]
            thread.elsewhere = now
            thread.elsewhere_ahead = (*now, *former[:_FORMER_FRAMES_ELSEWHERE])[:MAX_FRAMES_ELSEWHERE]
        return chain

    def _predict(
        self,
        thread: PythonThread,
        highest: dict[int, int],
        regions: list[tuple[int, int, bytes, int]],
    ) -> None:
        """Remember which parts of which chunks to read next time: the used ones, top first.

        A chunk above them that could be read stays too, and a size shrinks slowly: a stack that was deep
        may be so again. What is not predicted is read later than the rest, and more often torn.
        """
        if len(highest) == len(thread.chunks) == 1:  # nearly always: one chunk, and much as before
            ((low, size),) = thread.chunks
            needed = highest.get(low, 0) - low + self._frame_bytes + _CHUNK_SLACK_BYTES
            if needed <= size <= needed + 512:
                return
        before = dict(thread.chunks)
        above = [item for item in thread.chunks if item[0] not in highest]
        chunks = []
        for low, high, source, shift in regions:
            frame = highest.get(low)
            if frame is None:
                continue
            wanted = frame - low + self._frame_bytes + _CHUNK_SLACK_BYTES
            old = before.get(low, 0)
            wanted = max(wanted, old - (old >> 5)) + 255 & ~255
            (size,) = _WORD.unpack_from(source, low + shift + 8)
            chunks.append((low, frame, min(wanted, max(size, high - low), MAX_CHUNK_BYTES)))
        order = list(highest)
        chunks.sort(key=lambda item: order.index(item[0]))
        thread.chunks = (
            *above[: _MAX_CHUNKS_AHEAD // 4],
            *((low, size) for low, _, size in chunks[: _MAX_CHUNKS_AHEAD - len(above)]),
        )[:_MAX_CHUNKS_AHEAD]

    def _region_with(
        self, frame: int, top_chunk: int, regions: list[tuple[int, int, bytes, int]]
    ) -> tuple[int, int, bytes, int] | None:
        """The region of the data stack that holds `frame`, fetched if it was not yet.

        Chunks are linked from the newest to the oldest.
        """
        for region in regions:
            if region[0] < frame <= region[1] - self._frame_bytes:
                return region
        known = {region[0]: region for region in regions}
        chunk = top_chunk
        for _ in range(_MAX_CHUNKS):
            if not chunk:
                return None
            found = known.pop(chunk, None) or self._fetch_chunk(chunk, _FIRST_CHUNK_BYTES)
            if found is None:
                return None
            previous, size = _TWO_WORDS.unpack_from(found[2], chunk + found[3])
            if chunk < frame < chunk + size:  # in this chunk, behind the part that was read
                found = self._fetch_chunk(chunk, MAX_CHUNK_BYTES)
                if found is None or not chunk < frame <= found[1] - self._frame_bytes:
                    return None
                regions[:] = [other for other in regions if other[0] != chunk] + [found]
                return found
            chunk = previous
        return None

    def _fetch_chunk(self, chunk: int, wanted: int) -> tuple[int, int, bytes, int] | None:
        """Read up to `wanted` bytes of a data stack chunk: (start, end, bytes, index minus address)."""
        self._late_reads += 1
        try:
            header = self.memory.read(chunk, _CHUNK_HEADER_BYTES)
            _, size, _ = struct.unpack("<QQQ", header)
            if not _CHUNK_HEADER_BYTES < size <= 1 << 32:
                return None
            data = self.memory.read(chunk, min(size, wanted, MAX_CHUNK_BYTES))
        except MemoryReadError:
            return None
        return chunk, chunk + len(data), data, -chunk

    def _resolve(self, chain: tuple[int, ...]) -> tuple[int, tuple[tuple[int, int], ...]] | None:
        """Stack id and `with` slots of a chain never seen before; `None` if it makes no sense."""
        frame_ids = []
        exits: list[tuple[int, int]] = []
        for number, executable in enumerate(chain[0::2]):
            code = self._code(executable & ~_POINTER_TAGS)
            if code is None:
                return None
            instruction = chain[2 * number + 1]
            resolved = code.frames.get(instruction)
            if resolved is None:
                unit = self._unit(code, instruction)
                if unit is None:
                    return None
                frame = Frame(code.filename, code.function, code.lines.line(unit))
                resolved = self._sink.intern_frame(frame), self._exit_offsets(code, unit)
                code.frames[instruction] = resolved
            frame_ids.append(resolved[0])
            exits.extend((number, offset) for offset in resolved[1])
        frame_ids.reverse()
        known = self._sink.intern_stack(frame_ids), tuple(exits)
        if len(self._known) >= MAX_KNOWN_STACKS:
            self._known.clear()
        self._known[chain] = known
        return known

    def _exit_offsets(self, code: _Code, unit: int) -> tuple[int, ...]:
        """Offsets from a frame's address of the stack slots of the `with` blocks around a code unit."""
        if not code.handlers:
            return ()
        try:
            bytecode = self.memory.read(code.bytecode, 2 * code.units)
        except MemoryReadError:
            return ()
        depths = with_depths(code.handlers, unit, bytecode, self.layout.with_handler)
        stack = self.layout.frame_localsplus + 8 * code.local_count
        return tuple(stack + 8 * (depth - 1) for depth in depths)

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
        if code.local_names is None:
            code.local_names = self._local_names(code)
        variables = []
        for name, word in zip(code.local_names, self.frame_words(thread, number), strict=False):
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

    def current_line(self, thread: PythonThread) -> CurrentLine | None:
        """The line of the innermost frame as of the last walk; `None` where it is not known."""
        code = self._code_of(thread, 0)
        if code is None:
            return None
        unit = self._unit(code, thread.chain[1])
        resolved = code.frames.get(thread.chain[1])
        line = None if unit is None else code.lines.line(unit)
        if resolved is None or line is None:
            return None
        if code.local_names is None:
            code.local_names = self._local_names(code)
        return CurrentLine(
            frame_id=resolved[0],
            frame=thread.frames[0],
            code=code.address,
            bytecode=code.bytecode,
            units=tuple(code.lines.ranges(line)),
            local_names=tuple(code.local_names),
        )

    def globals_of(self, thread: PythonThread, number: int) -> int | None:
        """Address of a frame's globals dict; `None` if unreadable."""
        try:
            return self.memory.read_word(thread.frames[number] + self.layout.frame_globals) or None
        except (MemoryReadError, IndexError):
            return None

    def _code_of(self, thread: PythonThread, number: int) -> _Code | None:
        if not 0 <= number < min(len(thread.frames), len(thread.chain) // 2):
            return None
        return self._codes.get(thread.chain[2 * number] & ~_POINTER_TAGS)

    def _local_names(self, code: _Code) -> list[str]:
        layout = self.layout
        try:
            names = self.memory.read_word(code.address + layout.code_local_names)
            count = min(code.local_count, self.memory.read_word(names + layout.tuple_count), MAX_FRAME_WORDS)
            words = struct.unpack(f"<{count}Q", self.memory.read(names + layout.tuple_items, 8 * count))
            return [self.objects.string(word) for word in words]
        except (MemoryReadError, NotAnObject):
            return []

    # --- code objects ---

    def _code(self, address: int) -> _Code | None:
        code = self._codes.get(address)
        if code is None:
            try:
                code = self._read_code(address)
            except (MemoryReadError, NotAnObject):
                return None
            if len(self._codes) >= MAX_CODE_OBJECTS:
                self._codes.clear()
                self._known.clear()
            self._codes[address] = code
        return code

    def _read_code(self, address: int) -> _Code:
        layout = self.layout
        data = self.memory.read(address, layout.code_bytecode)
        type_address = _word(data, layout.object_type)
        if type_address not in self._code_types:
            if self.objects.type_name(type_address) != "code":
                raise NotAnObject(f"no code object at {address:#x}")
            self._code_types.add(type_address)
        units = _word(data, layout.code_units)
        (first_line,) = struct.unpack_from("<i", data, layout.code_first_line)
        if not 0 < units <= MAX_CODE_UNITS:
            raise NotAnObject(f"no code object at {address:#x}")
        code = _Code(
            address,
            self._fingerprint(data),
            self.objects.string(_word(data, layout.code_filename)),
            self.objects.string(_word(data, layout.code_qualname)),
            LineTable(self.objects.bytes_object(_word(data, layout.code_linetable)), first_line),
            units,
        )
        code.bytecode = address + layout.code_bytecode
        (code.local_count,) = struct.unpack_from("<i", data, layout.code_local_count)
        (code.stack_size,) = struct.unpack_from("<i", data, layout.code_stack_size)
        if not 0 <= code.local_count <= MAX_CODE_UNITS or not 0 <= code.stack_size <= MAX_CODE_UNITS:
            raise NotAnObject(f"no code object at {address:#x}")
        code.handlers = parse_exception_table(
            self.objects.bytes_object(_word(data, layout.code_exception_table))
        )
        return code

    def _fingerprint(self, data: bytes) -> bytes:
        """The words that tell one code object from another that was made at the same address later."""
        layout = self.layout
        words = [
            layout.object_type,
            layout.code_units,
            layout.code_first_line,
            layout.code_filename,
            layout.code_qualname,
            layout.code_linetable,
        ]
        if layout.code_tlbc is not None:
            words.append(layout.code_tlbc)
        return b"".join(data[offset : offset + 8] for offset in words)

    def _unit(self, code: _Code, instruction: int) -> int | None:
        """Index of the code unit at an instruction address: in the shared or in a thread's own bytecode."""
        span = 2 * code.units
        for refreshed in (False, True):
            for start in (code.bytecode, *code.copies):
                if start <= instruction < start + span:
                    return (instruction - start) // 2
            if refreshed or self.layout.code_tlbc is None:
                return None
            code.copies = self._bytecode_copies(code)
        return None

    def _bytecode_copies(self, code: _Code) -> tuple[int, ...]:
        """Start addresses of the thread-local copies: _PyCodeArray {size, entries[]} (cpython/code.h)."""
        assert self.layout.code_tlbc is not None
        try:
            table = self.memory.read_word(code.address + self.layout.code_tlbc)
            size = self.memory.read_word(table)
            if not 0 < size <= MAX_THREADS:
                return ()
            entries = struct.unpack(f"<{size}Q", self.memory.read(table + 8, 8 * size))
        except MemoryReadError:
            return ()
        return tuple(entry for entry in entries if entry and entry != code.bytecode)

    def recheck_codes(self) -> int:
        """Drop code objects that are gone or replaced; return how many. Called about once a second.

        A freed code object's address can be reused by another one; without this check its old name would
        go on. All are compared in a few batched reads.
        """
        if not self._codes:
            return 0
        addresses = list(self._codes)
        size = self.layout.code_bytecode
        stale = [
            address
            for address, data in zip(
                addresses, self.memory.read_many([(address, size) for address in addresses]), strict=True
            )
            if data is None or self._fingerprint(data) != self._codes[address].fingerprint
        ]
        for address in stale:
            del self._codes[address]
        if stale:
            self._known.clear()
            self.objects.forget_types()
        return len(stale)


def _range_count(thread: PythonThread) -> int:
    return (
        1
        + sum(1 if size <= _PIECE_BYTES else _MAX_PIECES for _, size in thread.chunks)
        + len(thread.elsewhere_ahead)
        + len(thread.beside)
    )


def _batches(threads: Sequence[PythonThread]) -> Iterator[Sequence[PythonThread]]:
    """As many threads at a time as fit into one call with all their ranges."""
    first = count = 0
    for place, thread in enumerate(threads):
        needed = _range_count(thread)
        if count + needed > MAX_IOVECS:
            yield threads[first:place]
            first, count = place, 0
        count += needed
    if first < len(threads):
        yield threads[first:]


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of the pieces in which `size` bytes of the data stack are read, highest first.

    The leaf's frame lies highest. Read soon after the thread state, it is still there; and what lies below
    is read faster than a thread can return from it.
    """
    length = max(_PIECE_BYTES, -(-size // _MAX_PIECES) + 4095 & -4096)
    for start in range((size - 1) // length * length, -1, -length):
        yield start, min(length, size - start)


def _in_order(data: bytes, position: int, size: int) -> bytes:
    """The `size` bytes from `position` on, which are in pieces, in the order of addresses."""
    parts = []
    for _, length in _pieces(size):
        parts.append(data[position : position + length])
        position += length
    parts.reverse()
    return b"".join(parts)


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _fields(fields: Iterable[tuple[int, str]]) -> struct.Struct:
    """A Struct that unpacks the given (offset, format) fields in the given order of offsets."""
    sizes: dict[str, int] = {"Q": 8, "I": 4, "B": 1, "H": 2}
    form = "<"
    position = 0
    for offset, code in fields:
        if offset < position:
            raise ValueError("fields must come in the order of their offsets")
        form += f"{offset - position}x{code}"
        position = offset + sizes[code]
    return struct.Struct(form)
