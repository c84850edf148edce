"""The walk of stacks in Python: used where the compiled part is not there, and what that is compared with.

In: threads, the memory of a process, a layout. Out: ids of stacks, filled into the threads. Memory may hold
anything and change while it is read: every chain, size and amount of work is bounded.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain as concatenated
from typing import Final

from ftdiag.datatypes import dataclass, field
from ftdiag.errors import MemoryReadError
from ftdiag.model import NO_STACK, TORN_STACK
from ftdiag.sources.kernel.memory import MAX_IOVECS, ReadAlong, RemoteMemory
from ftdiag.sources.python.layouts import Layout
from ftdiag.sources.python.walking import (
    CRITICAL_SECTION_TAGS,
    MAX_STACK_DEPTH,
    Meaning,
    PythonThread,
    Resolve,
    read_along,
)

_CYCLE_CHECK_DEPTH: Final = MAX_STACK_DEPTH // 2
"""Frames below this depth are checked for a cycle, which only a torn stack has; few stacks get there."""
MAX_KNOWN_STACKS: Final = 100_000
"""Chains whose meaning is remembered; the cache starts anew beyond."""
MAX_KNOWN_WORDS: Final = 1 << 23
"""Their length in all: a target chooses how deep its stacks are."""
MAX_BATCH_BYTES: Final = 128 << 20
"""Read in one call; chunks beyond are read when a frame is found to lie there."""
MAX_WORK: Final = 200_000_000
"""What one walk may cost, in nanoseconds as the next four tell: stacks that were not walked by then are torn.
A hundred threads of forty frames cost 0.1 million. It is counted and not measured, so that a busy machine
makes no difference."""
READ_WORK: Final = 2_000
BYTES_PER_WORK: Final = 8
FRAME_WORK: Final = 20
THREAD_WORK: Final = 200
MAX_CHUNK_BYTES: Final = 8 << 20
"""Part of a data stack chunk that is read."""
MAX_LATE_BYTES: Final = 16 << 20
"""What is read of the chunks of one thread that were not expected."""
MAX_FRAMES_ELSEWHERE: Final = 24
"""Frames outside the data stack that are fetched along with it."""
_FORMER_FRAMES_ELSEWHERE: Final = 4
"""Of those, how many that it was not in the last time: threads go back and forth between few places."""
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
_ATTEMPTS: Final = 8
"""Times a torn stack is read in one walk."""
_Region = tuple[int, int, bytes, int]
"""Start, end, bytes, and what is added to an address to find it in them."""


@dataclass(slots=True)
class Ahead:
    """What the next walk of a thread is expected to need, and reads at once: learned from those before."""

    chunks: tuple[tuple[int, int], ...] = ()
    """Start and size of pieces of its data stack."""
    absences: int = 0
    """How often in a row the first of them could not be read."""
    elsewhere: tuple[int, ...] = ()
    """Frames outside of it: the last ones, and a few that were seen before."""


@dataclass(slots=True)
class PlainThread:
    """A thread of the plain walker: what the last walk saw of it."""

    address: int
    native_id: int
    ident: int
    interpreter: int
    ahead: Ahead = field(default_factory=Ahead)
    late: bool = False
    elsewhere: tuple[int, ...] = ()
    beside: tuple[tuple[int, int], ...] = ()
    frames: list[int] = field(default_factory=list)
    chain: tuple[int, ...] = ()
    critical_section: int = 0
    section: int = 0
    with_exits: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()


class PlainWalker:
    """The walker in Python.

    Longer than 300 lines, because it is the walk of the compiled part step for step, to be compared with it.
    """

    compiled = False

    def __init__(self, memory: RemoteMemory, layout: Layout, resolve: Resolve) -> None:
        self._memory = memory
        self._resolve = resolve
        self._known: dict[tuple[int, ...], Meaning] = {}
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
        self._foreign = layout.first_foreign_owner
        self._cut = self._given_up = 0
        self._work = self._known_words = 0
        self._late_reads = 0
        self._late_bytes = 0

    def thread(self, address: int, native_id: int, ident: int, interpreter: int) -> PythonThread:
        """A thread that this walker can walk."""
        return PlainThread(address, native_id, ident, interpreter)

    def take_cut(self) -> int:
        """See StackWalker."""
        cut, self._cut = self._cut, 0
        return cut

    def take_given_up(self) -> int:
        """See StackWalker."""
        given_up, self._given_up = self._given_up, 0
        return given_up

    def forget(self) -> None:
        """See StackWalker."""
        self._known.clear()
        self._known_words = 0

    @property
    def _spent(self) -> bool:
        """Whether this walk has cost as much as one may."""
        return self._work > MAX_WORK

    def _reads(self, size: int) -> None:
        """A read is about to be made."""
        self._work += READ_WORK + size // BYTES_PER_WORK

    def walk(self, threads: Sequence[PythonThread], along: ReadAlong | None = None) -> list[int]:
        """See StackWalker."""
        results: list[int] = []
        self._work = 0
        first = along if along is not None and along.wanted else None
        for batch in _batches(threads):  # type: ignore[arg-type]
            stacks = self._walk_batch(batch, along, whole=first is not None)
            if first is not None:
                read_along(self._memory, first)
                first = None
            again = [
                place
                for place, stack in enumerate(stacks)
                if stack == TORN_STACK or (stack != NO_STACK and batch[place].late)
            ]
            for _ in range(_ATTEMPTS - 1):
                if not again or self._spent:
                    break
                parts = _batches([batch[place] for place in again])
                anew = [self._walk_batch(part, along) for part in parts]
                for place, stack in zip(again, concatenated.from_iterable(anew), strict=True):
                    stacks[place] = stack
                again = [place for place in again if stacks[place] == TORN_STACK]
            if self._spent:
                self._given_up += stacks.count(TORN_STACK)
            results.extend(stacks)
        if first is not None:
            read_along(self._memory, first)
        return results

    def _walk_batch(
        self, threads: Sequence[PlainThread], along: ReadAlong | None = None, *, whole: bool = False
    ) -> list[int]:
        """Stack ids; `whole`: all that is wanted of `along` is read with them, else what lies beside them."""
        if self._spent:
            for thread in threads:
                thread.frames, thread.chain = [], ()
            return [TORN_STACK] * len(threads)
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
            for place, (chunk, size) in enumerate(thread.ahead.chunks):
                if total + size > MAX_BATCH_BYTES:
                    thread.ahead.chunks = thread.ahead.chunks[:place]
                    break
                if size <= _PIECE_BYTES:
                    add(chunk)
                    add(size)
                else:
                    for start, length in _pieces(size):
                        add(chunk + start)
                        add(length)
                total += size
            for address in thread.ahead.elsewhere:
                add(address)
                add(frame_bytes)
            total += frame_bytes * len(thread.ahead.elsewhere)
            ends.append(total)
        read = total
        whole = whole and along is not None and len(vectors) // 2 + len(along.wanted) <= MAX_IOVECS
        if whole and along is not None:
            for address, size in along.wanted.items():
                add(address)
                add(size)
                read += size
        self._reads(read)
        view = self._memory.read_scattered(vectors, len(vectors) // 2, read)
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
            thread.ahead.absences = 0
            stacks.append(self._stack_of(thread, data, position, along))
            position = end
        return stacks

    def _walk_apart(self, threads: Sequence[PlainThread], along: ReadAlong | None) -> list[int]:
        """A prediction was wrong (memory was freed): forget those of the thread that it was."""
        if len(threads) > 1:
            middle = len(threads) // 2
            return self._walk_batch(threads[:middle], along) + self._walk_batch(threads[middle:], along)
        (thread,) = threads
        if along is not None and thread.beside:
            read = self._memory.read_many(thread.beside)
            for (address, _), data in zip(thread.beside, read, strict=True):
                along.found[address] = data
            return self._walk_batch(threads)
        if thread.ahead.chunks:
            # The top of the data stack comes and goes, what lies below it stays.
            absent, thread.ahead.chunks = thread.ahead.chunks[0], thread.ahead.chunks[1:]
            absences = thread.ahead.absences + 1
            stacks = self._walk_batch(threads, along)
            thread.ahead.absences = absences
            if thread.ahead.absences <= _MAX_ABSENCES and absent[0] not in dict(thread.ahead.chunks):
                thread.ahead.chunks = (absent, *thread.ahead.chunks)[:_MAX_CHUNKS_AHEAD]
            return stacks
        if thread.ahead.elsewhere:
            thread.ahead.elsewhere = ()
            return self._walk_batch(threads, along)
        return [TORN_STACK]

    def _stack_of(
        self, thread: PlainThread, data: bytes, position: int, along: ReadAlong | None = None
    ) -> int:
        """Stack id of one thread whose ranges lie in `data` from `position` on; updates its predictions."""
        frame, native_id, critical_section, chunk = self._thread_fields.unpack_from(data, position)
        position += self._thread_bytes
        if along is not None:
            for address, size in thread.beside:
                along.found[address] = data[position : position + size]
                position += size
        thread.frames, thread.chain = [], ()
        self._work += THREAD_WORK
        if self._spent or native_id != thread.native_id:
            return TORN_STACK  # the thread state was freed, or reused by another thread
        thread.critical_section = critical_section
        if critical_section:
            thread.section = critical_section & ~CRITICAL_SECTION_TAGS
        thread.with_exits = thread.marked = ()
        if not frame:
            return NO_STACK
        regions: list[_Region] = []
        for start, size in thread.ahead.chunks:
            if size <= _PIECE_BYTES:
                regions.append((start, start + size, data, position - start))
            else:
                regions.append((start, start + size, _in_order(data, position, size), -start))
            position += size
        elsewhere = {
            address: position + place * self._frame_bytes
            for place, address in enumerate(thread.ahead.elsewhere)
        }
        before = self._late_reads
        self._late_bytes = 0
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
            if len(self._known) >= MAX_KNOWN_STACKS or self._known_words > MAX_KNOWN_WORDS:
                self._known.clear()
                self._known_words = 0
            self._known_words += len(key)
            self._known[key] = known
        stack, exits, marks = known
        if exits:
            thread.with_exits = self._slots(thread, exits, regions)
            if thread.with_exits:
                thread.marked = self._slots(thread, marks, regions)
        return stack

    def _slots(
        self,
        thread: PlainThread,
        slots: tuple[tuple[int, int], ...],
        regions: list[_Region],
    ) -> tuple[int, ...]:
        """The words in the given (frame number, offset) stack slots; from the same read as the frames."""
        words = []
        for number, offset in slots:
            address = thread.frames[number] + offset
            for low, high, source, shift in regions:
                if low < address <= high - 8:
                    words.append(_word(source, address + shift))
                    break
            else:
                try:
                    words.append(self._memory.read_word(address))
                except MemoryReadError:
                    continue
        return tuple(words)

    def _chain(
        self,
        thread: PlainThread,
        frame: int,
        top_chunk: int,
        regions: list[_Region],
        data: bytes,
        elsewhere: dict[int, int],
    ) -> list[int] | None:
        """Follow the frames: [executable, instruction, ...] leaf first; `None` if it is torn."""
        unpack = self._frame_fields.unpack_from
        frame_bytes = self._frame_bytes
        foreign = self._foreign
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
                self._reads(frame_bytes)
                try:
                    alone = self._memory.read(frame, frame_bytes)
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
            self._work += FRAME_WORK
            if steps > _CYCLE_CHECK_DEPTH:
                if frame in visited:
                    return None
                visited.add(frame)
                if steps >= MAX_STACK_DEPTH:
                    self._cut += bool(frame)
                    break
        if popped and not chain:
            return None
        self._predict(thread, highest, regions)
        now = tuple(used[:MAX_FRAMES_ELSEWHERE])
        if now != thread.elsewhere or now != thread.ahead.elsewhere[: len(now)]:
            former = [address for address in thread.ahead.elsewhere if address not in now]
            thread.elsewhere = now
            thread.ahead.elsewhere = (*now, *former[:_FORMER_FRAMES_ELSEWHERE])[:MAX_FRAMES_ELSEWHERE]
        return chain

    def _predict(
        self,
        thread: PlainThread,
        highest: dict[int, int],
        regions: list[_Region],
    ) -> None:
        """Remember which parts of which chunks to read next time: the used ones, top first.

        A chunk above them that could be read stays too, and a size shrinks slowly: a stack that was deep
        may be so again. What is not predicted is read later than the rest, and more often torn.
        """
        if len(highest) == len(thread.ahead.chunks) == 1:  # nearly always: one chunk, and much as before
            ((low, size),) = thread.ahead.chunks
            needed = highest.get(low, 0) - low + self._frame_bytes + _CHUNK_SLACK_BYTES
            if needed <= size <= needed + 512:
                return
        before = dict(thread.ahead.chunks)
        above = [item for item in thread.ahead.chunks if item[0] not in highest]
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
        thread.ahead.chunks = (
            *above[: _MAX_CHUNKS_AHEAD // 4],
            *((low, size) for low, _, size in chunks[: _MAX_CHUNKS_AHEAD - len(above)]),
        )[:_MAX_CHUNKS_AHEAD]

    def _region_with(self, frame: int, top_chunk: int, regions: list[_Region]) -> _Region | None:
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
                found = self._fetch_chunk(chunk, frame - chunk + self._frame_bytes)
                if found is None or not chunk < frame <= found[1] - self._frame_bytes:
                    return None
                regions[:] = [other for other in regions if other[0] != chunk] + [found]
                return found
            chunk = previous
        return None

    def _fetch_chunk(self, chunk: int, wanted: int) -> _Region | None:
        """Read up to `wanted` bytes of a data stack chunk: (start, end, bytes, index minus address)."""
        self._late_reads += 1
        self._reads(_CHUNK_HEADER_BYTES)
        try:
            header = self._memory.read(chunk, _CHUNK_HEADER_BYTES)
            _, size, _ = struct.unpack("<QQQ", header)
            if not _CHUNK_HEADER_BYTES < size <= 1 << 32:
                return None
            length = min(size, wanted, MAX_CHUNK_BYTES)
            self._late_bytes += length
            if self._late_bytes > MAX_LATE_BYTES:
                return None
            self._reads(length)
            data = self._memory.read(chunk, length)
        except MemoryReadError:
            return None
        return chunk, chunk + len(data), data, -chunk


def _range_count(thread: PlainThread) -> int:
    return (
        1
        + sum(1 if size <= _PIECE_BYTES else _MAX_PIECES for _, size in thread.ahead.chunks)
        + len(thread.ahead.elsewhere)
        + len(thread.beside)
    )


def _batches(threads: Sequence[PlainThread]) -> Iterator[Sequence[PlainThread]]:
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
