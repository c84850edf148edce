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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ftdiag.errors import MemoryReadError
from ftdiag.model import NO_STACK, TORN_STACK, Frame
from ftdiag.sources.layouts import Layout
from ftdiag.sources.locations import LineTable
from ftdiag.sources.memory import MAX_IOVECS, RemoteMemory
from ftdiag.sources.objects import NotAnObject, ObjectReader
from ftdiag.sources.runtime import Runtime

MAX_INTERPRETERS: Final = 1024
MAX_THREADS: Final = 65_536
MAX_STACK_DEPTH: Final = 4096
"""Frames of a stack that are followed; a deeper stack is kept from the leaf down, its root cut off."""
_CYCLE_CHECK_DEPTH: Final = MAX_STACK_DEPTH // 2
"""Frames below this depth are checked for a cycle, which only a torn stack has; few stacks get there."""
MAX_CODE_OBJECTS: Final = 50_000
MAX_KNOWN_STACKS: Final = 100_000
"""Chains whose stack id is remembered; the cache starts anew beyond."""
MAX_CHUNK_BYTES: Final = 8 << 20
"""Part of a data stack chunk that is read."""
MAX_FRAMES_ELSEWHERE: Final = 24
"""Frames outside the data stack that are fetched along with it."""
MAX_CODE_UNITS: Final = 1 << 24

_POINTER_TAGS: Final = 7
_CHUNK_HEADER_BYTES: Final = 24
"""struct _PyStackChunk: previous, size, top (Include/cpython/pystate.h)."""
_CHUNK_SLACK_BYTES: Final = 768
"""Read beyond the highest frame seen last time, for frames that were pushed since."""
_FIRST_CHUNK_BYTES: Final = 4096


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
    chunk: int = 0
    chunk_bytes: int = 0
    elsewhere: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class InterpreterRef:
    """One PyInterpreterState."""

    address: int
    id: int


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
        "lines",
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
        self.frames: dict[int, int] = {}


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
        self._known: dict[tuple[int, ...], int] = {}
        layout = runtime.layout
        self._thread_fields = _fields(
            [
                (layout.thread_current_frame, "Q"),
                (layout.thread_native_id, "Q"),
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

    def walk(self, threads: Sequence[PythonThread]) -> list[int]:
        """Stack ids of the threads, in their order: NO_STACK, TORN_STACK or a real one.

        A torn stack is read once more before it is given up.
        """
        results: list[int] = []
        # Three to MAX_FRAMES_ELSEWHERE + 2 ranges a thread must fit into one call.
        per_call = MAX_IOVECS // (MAX_FRAMES_ELSEWHERE + 2)
        for first in range(0, len(threads), per_call):
            batch = threads[first : first + per_call]
            stacks = self._walk_batch(batch)
            again = [place for place, stack in enumerate(stacks) if stack == TORN_STACK]
            if again:
                for place, stack in zip(again, self._walk_batch([batch[i] for i in again]), strict=True):
                    stacks[place] = stack
                    self.torn += stack == TORN_STACK
            results.extend(stacks)
        self.walked += len(threads)
        return results

    def _walk_batch(self, threads: Sequence[PythonThread]) -> list[int]:
        vectors = array("Q")
        total = count = 0
        thread_bytes, frame_bytes = self._thread_bytes, self._frame_bytes
        for thread in threads:
            vectors.append(thread.address)
            vectors.append(thread_bytes)
            total += thread_bytes
            count += 1
            if thread.chunk:
                vectors.append(thread.chunk)
                vectors.append(thread.chunk_bytes)
                total += thread.chunk_bytes
                count += 1
            for address in thread.elsewhere:
                vectors.append(address)
                vectors.append(frame_bytes)
                total += frame_bytes
                count += 1
        view = self.memory.read_scattered(vectors, count, total)
        if view is None:
            return [self._walk_alone(thread) for thread in threads]
        data = bytes(view)
        stacks = []
        position = 0
        for thread in threads:
            following = position + thread_bytes + (thread.chunk_bytes if thread.chunk else 0)
            following += frame_bytes * len(thread.elsewhere)
            stacks.append(self._stack_of(thread, data, position))
            position = following
        return stacks

    def _walk_alone(self, thread: PythonThread) -> int:
        """Some prediction was wrong (memory was freed): forget it and read the thread for itself."""
        thread.chunk = thread.chunk_bytes = 0
        thread.elsewhere = ()
        try:
            data = self.memory.read(thread.address, self._thread_bytes)
        except MemoryReadError:
            return TORN_STACK
        return self._stack_of(thread, data, 0)

    def _stack_of(self, thread: PythonThread, data: bytes, position: int) -> int:
        """Stack id of one thread whose ranges lie in `data` from `position` on; updates its predictions."""
        frame, native_id, chunk = self._thread_fields.unpack_from(data, position)
        if native_id != thread.native_id:
            return TORN_STACK  # the thread state was freed, or reused by another thread
        if not frame:
            return NO_STACK
        position += self._thread_bytes
        regions: list[tuple[int, int, bytes, int]] = []
        if thread.chunk:
            if thread.chunk == chunk:
                regions.append((chunk, chunk + thread.chunk_bytes, data, position - chunk))
            position += thread.chunk_bytes
        if not regions:
            fetched = self._fetch_chunk(chunk, _FIRST_CHUNK_BYTES)
            if fetched is not None:
                regions.append(fetched)
        elsewhere = {
            address: position + place * self._frame_bytes for place, address in enumerate(thread.elsewhere)
        }
        chain = self._chain(thread, frame, regions, data, elsewhere)
        if chain is None:
            return TORN_STACK
        if not chain:
            return NO_STACK
        key = tuple(chain)
        known = self._known.get(key)
        if known is not None:
            return known
        return self._resolve(key)

    def _chain(
        self,
        thread: PythonThread,
        frame: int,
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
        used: list[int] = []
        visited: set[int] = set()
        highest = 0
        low, high, source, shift = regions[0] if regions else (0, 0, b"", 0)
        top_low, top_high = low, high
        last = high - frame_bytes
        steps = 0
        while frame:
            if low < frame <= last:
                executable, previous, instruction, owner = unpack(source, frame + shift)
                if frame > highest and low == top_low:
                    highest = frame
            elif frame in elsewhere:
                executable, previous, instruction, owner = unpack(data, elsewhere[frame])
                used.append(frame)
            else:
                region = self._region_with(frame, regions)
                if region is not None:
                    low, high, source, shift = region
                    last = high - frame_bytes
                    if low == top_low:
                        top_high = high
                    continue
                try:
                    alone = self.memory.read(frame, frame_bytes)
                except MemoryReadError:
                    return None
                executable, previous, instruction, owner = unpack(alone, 0)
                used.append(frame)
            if owner < foreign:
                add(executable)
                add(instruction)
            elif owner > foreign + 1:
                return None
            frame = previous
            steps += 1
            if steps > _CYCLE_CHECK_DEPTH:
                if frame in visited:
                    return None
                visited.add(frame)
                if steps > MAX_STACK_DEPTH:
                    break
        if regions:
            used_bytes = highest - top_low + frame_bytes if highest else _CHUNK_HEADER_BYTES
            needed = used_bytes + _CHUNK_SLACK_BYTES
            thread.chunk = top_low
            thread.chunk_bytes = min(needed + 255 & ~255, max(top_high - top_low, _FIRST_CHUNK_BYTES))
        thread.elsewhere = tuple(used[:MAX_FRAMES_ELSEWHERE])
        return chain

    def _region_with(
        self, frame: int, regions: list[tuple[int, int, bytes, int]]
    ) -> tuple[int, int, bytes, int] | None:
        """The region of the data stack that holds `frame`, fetched if it was not yet.

        Chunks are linked from the newest to the oldest; those below the top are fetched in that order.
        """
        for region in regions:
            if region[0] < frame <= region[1] - self._frame_bytes:
                return region
        chunk = regions[-1][0] if regions else 0
        for _ in range(64):
            if not chunk:
                return None
            region_data = next(((r[2], r[3]) for r in regions if r[0] == chunk), None)
            if region_data is None:
                return None
            source, shift = region_data
            previous, size, _ = struct.unpack_from("<QQQ", source, chunk + shift)
            end = chunk + min(size, MAX_CHUNK_BYTES)
            if chunk < frame < end:  # in this chunk, behind the part that was read
                fetched = self._fetch_chunk(chunk, end - chunk)
                if fetched is None or not chunk < frame <= fetched[1] - self._frame_bytes:
                    return None
                regions[:] = [fetched if region[0] == chunk else region for region in regions]
                return fetched
            if not previous or any(region[0] == previous for region in regions):
                return None
            fetched = self._fetch_chunk(previous, MAX_CHUNK_BYTES)
            if fetched is None:
                return None
            regions.append(fetched)
            if previous < frame <= fetched[1] - self._frame_bytes:
                return fetched
            chunk = previous
        return None

    def _fetch_chunk(self, chunk: int, wanted: int) -> tuple[int, int, bytes, int] | None:
        """Read up to `wanted` bytes of a data stack chunk: (start, end, bytes, index minus address)."""
        try:
            header = self.memory.read(chunk, _CHUNK_HEADER_BYTES)
            _, size, _ = struct.unpack("<QQQ", header)
            if not _CHUNK_HEADER_BYTES < size <= 1 << 32:
                return None
            data = self.memory.read(chunk, min(size, wanted, MAX_CHUNK_BYTES))
        except MemoryReadError:
            return None
        return chunk, chunk + len(data), data, -chunk

    def _resolve(self, chain: tuple[int, ...]) -> int:
        """Turn a chain never seen before into a stack id, or TORN_STACK if it makes no sense."""
        frame_ids = []
        for executable, instruction in zip(chain[0::2], chain[1::2], strict=True):
            code = self._code(executable & ~_POINTER_TAGS)
            if code is None:
                return TORN_STACK
            frame_id = code.frames.get(instruction)
            if frame_id is None:
                unit = self._unit(code, instruction)
                if unit is None:
                    return TORN_STACK
                frame_id = self._sink.intern_frame(Frame(code.filename, code.function, code.lines.line(unit)))
                code.frames[instruction] = frame_id
            frame_ids.append(frame_id)
        frame_ids.reverse()
        stack = self._sink.intern_stack(frame_ids)
        if len(self._known) >= MAX_KNOWN_STACKS:
            self._known.clear()
        self._known[chain] = stack
        return stack

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
