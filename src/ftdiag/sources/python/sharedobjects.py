"""Which shared object a line of the program touches: what a contended reference count belongs to.

In: a thread as of the last walk. Out: its line and the objects there that several threads count references
to, named as the program writes them ("CONFIG", "self.table", "cell limit").

How it is known: the bytecode of the line says which globals, attributes, cells and locals it loads; they are
looked up in the frame, its namespaces and its objects, by the identity of the name. An object counts only if
its header says so (`counting`):
- not immortal (small ints, interned strings, constants; on 3.13 also functions, types and modules once a
  thread was started),
- no deferred reference counting (functions that are not nested, modules, types),
- merged or owned by another thread, or counted by others: then each load is an atomic operation.
What a line gets from C code has no name there: the places that its contended atomic instructions worked on,
as samples of machine code have them, lie in such an object, which is then called by its type.
The target runs on meanwhile; whatever does not fit together is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.errors import MemoryReadError
from ftdiag.model import OWN_LOCK, SPUN_FOR, Confidence, Counting, SharedObject, ThreadState
from ftdiag.sources.python.counting import OBJECT_MUTEX_OFFSET, counted
from ftdiag.sources.python.frameview import AttributeReader, FrameView, Loaded
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.opcodes import OPCODES, Instruction
from ftdiag.sources.python.paths import PathSearch
from ftdiag.sources.python.walking import PythonThread

MAX_OBJECTS: Final = 8
"""Objects named on one line."""
MAX_UNITS: Final = 512
"""Code units that are looked at of each stretch of a line's bytecode."""
MAX_RANGES: Final = 16
"""Stretches of bytecode that one line may have (a loop's head comes twice)."""
MAX_NAME_CHARACTERS: Final = 80
ATOMIC_SHARE: Final = 0.25
"""Lines with this share of their CPU samples on atomics are looked at; private objects give under 0.05."""
MIN_ATOMIC_SAMPLES: Final = 4
"""Samples on atomics in a window below which a line is not looked at."""
MAX_HOT_LINES: Final = 32
"""Lines of one window that are looked at, those with most samples on atomics."""
MAX_KNOWN_LINES: Final = 4096
"""Lines whose objects are remembered; when there are more, all are forgotten."""
PLACE_SHARE: Final = 0.02
"""Where the place itself is known that threads contend for, so much is enough to name it."""
MIN_PLACE_SAMPLES: Final = 3
"""Samples of one place in a window below which it is not looked at."""
MAX_PLACES: Final = 2
"""Places of a line that are looked at in a window, those with most samples."""
_MUTEX: Final = OBJECT_MUTEX_OFFSET
PLACES_IN_OBJECT: Final = (16, _MUTEX, 32, 40)
"""Where atomic instructions work in an object: ob_ref_shared, ob_mutex (Include/object.h), and the words
behind the head: where itertools.count has its number (countobject.cnt in Modules/itertoolsmodule.c)."""
LOOK_EVERY_NS: Final = 125_000_000
"""At most one line is looked at in this time: a look takes some 0.2 ms."""
LOOKS_OF_LINE: Final = 3
"""Looks at a line until it is left alone for LOOK_AGAIN_NS."""
LOOK_AGAIN_NS: Final = 20_000_000_000
SPUN_SHARE: Final = 0.5
"""Share of a line's samples of spinning for known locks that has to be for one of the interpreter, or for
objects of several threads."""
MAX_SPUN_LINES: Final = 128
"""Lines of one window of which it is told what they spin for, those with most samples."""
MAX_ALIKE: Final = 32
"""Mutexes of one window that are taken together by what they are of, those with most samples."""
MAX_OWN_LOOKS: Final = 8
"""Objects of a line that are looked at in a window to see whether only one thread has them."""
_NEVER_CONTENDED: Final = frozenset((Counting.IMMORTAL, Counting.DEFERRED, Counting.PER_THREAD))


class SharedObjectReader:
    """Names shared objects of one target; none of builds with a GIL, or without a table of opcodes."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self._objects = interpreter.objects
        self._layout = interpreter.layout
        self._attributes = AttributeReader(interpreter)
        version = interpreter.layout.version
        self._opcodes = OPCODES.get((version.major, version.minor))

    @property
    def able(self) -> bool:
        """Whether anything can be named in this target."""
        return self._opcodes is not None and self._layout.free_threaded

    def line(self, thread: PythonThread) -> int | None:
        """Frame id of the line that the thread's innermost frame was in at the last walk."""
        current = self._interpreter.current_line(thread)
        return None if current is None else current.frame_id

    def named(self, thread: PythonThread) -> tuple[SharedObject, ...]:
        """The shared objects that the line of the thread's innermost frame touches; () if none is known.

        Raises TargetGone, PermissionRefused.
        """
        if not self.able:
            return ()
        current = self._interpreter.current_line(thread)
        if current is None:
            return ()
        found: dict[int, SharedObject] = {}
        try:
            frame = FrameView(self._interpreter, current, thread.chain[0])
            for loaded in self._loaded(frame):
                if loaded.address in found or not loaded.counted:
                    continue
                one = self._if_shared(loaded, thread.ident)
                if one is not None:
                    found[loaded.address] = one
                    if len(found) >= MAX_OBJECTS:
                        break
            if not frame.still_there():
                return ()
        except (MemoryReadError, NotAnObject, struct.error):
            return ()
        return tuple(found.values())

    def at_place(self, place: int) -> SharedObject | None:
        """The object that an atomic instruction worked on, called by its type; `None` where there is none.

        Raises TargetGone, PermissionRefused.
        """
        if not self.able:
            return None
        for offset in PLACES_IN_OBJECT:
            if (place - offset) % 16 == 0:
                found = self._if_shared(Loaded("", place - offset), 0)
                if found is not None:
                    return replace(found, name=found.type_name)
        return None

    def locked_at(self, mutex: int) -> SharedObject | None:
        """The object whose mutex this is, called by its type, however it is counted; else as `at_place`.

        What counts its references differently, or by no thread, has a lock like any other: 3.15 defers the
        counts of what lies in globals. Raises TargetGone, PermissionRefused.
        """
        if not self.able:
            return None
        if (mutex - _MUTEX) % 16 == 0:
            with suppress(MemoryReadError, NotAnObject):
                one = counted(self._memory, self._objects, mutex - _MUTEX)
                sure = Confidence.KNOWN if one.seen else Confidence.INFERRED
                return SharedObject(one.type_name, one.type_name, sure, one.facts)
        return self.at_place(mutex)

    def own_at(self, mutex: int, ident: int) -> str | None:
        """The type of the object whose mutex this is, if only the thread of `ident` has it; else `None`.

        Raises TargetGone, PermissionRefused, and MemoryReadError or NotAnObject where no object is there.
        """
        one = counted(self._memory, self._objects, mutex - _MUTEX)
        return one.type_name if one.private_to(ident) else None

    # --- what the line loads ---

    def _loaded(self, frame: FrameView) -> Iterator[Loaded]:
        """Everything that the line loads by name, and what hangs on it."""
        for start, end in frame.line.units[:MAX_RANGES]:
            units = self._memory.read(frame.line.bytecode + 2 * start, 2 * min(end - start, MAX_UNITS))
            assert self._opcodes is not None
            instructions = list(self._opcodes.decode(units))
            top: Loaded | None = None
            for place, instruction in enumerate(instructions):
                following = instructions[place + 1].name if place + 1 < len(instructions) else ""
                if instruction.name in ("COPY", "NOP", "PUSH_NULL"):
                    if instruction.name == "COPY" and instruction.argument != 1:
                        top = None
                    continue
                pushed = [one for one in self._pushed(frame, instruction, top, following) if one is not None]
                top = pushed[-1] if pushed else None
                for one in pushed:
                    yield one
                    yield from self._bound_to(one)

    def _pushed(
        self, frame: FrameView, instruction: Instruction, top: Loaded | None, following: str
    ) -> list[Loaded | None]:
        """What an instruction loads; the last one is on top of the stack then."""
        name, argument = instruction
        match name:
            case "LOAD_FAST":
                return [frame.local(argument)]
            case "LOAD_FAST_BORROW":
                # Not counted, but a call or a loop makes a reference of its own.
                return [frame.local(argument, counted=following in ("PUSH_NULL", "GET_ITER"))]
            case "LOAD_FAST_LOAD_FAST":
                return [frame.local(argument >> 4), frame.local(argument & 15)]
            case "LOAD_FAST_BORROW_LOAD_FAST_BORROW":
                return [frame.local(argument >> 4, counted=False), frame.local(argument & 15, counted=False)]
            case "STORE_FAST_LOAD_FAST":
                return [frame.local(argument & 15)]
            case "LOAD_DEREF":
                return [frame.cell(argument)]
            case "COPY_FREE_VARS":
                return [*frame.free_cells(argument), None]
            case "LOAD_CONST":
                return [frame.constant(argument)]
            case "LOAD_GLOBAL":
                return [frame.named(argument >> 1, local=False)]
            case "LOAD_NAME":
                return [frame.named(argument, local=True)]
            case "LOAD_ATTR":
                return [self._attribute(frame, top, argument >> 1)]
            case "RETURN_VALUE":
                # The frame lets go of what it was given.
                return [*frame.owned_locals(), None]
            case _:
                return []

    def _attribute(self, frame: FrameView, top: Loaded | None, number: int) -> Loaded | None:
        if top is None or not top.address:
            return None
        key = frame.name_address(number)
        try:
            value = self._attributes.value(top.address, key)
        except (MemoryReadError, NotAnObject):
            value = None
        # The value is not known for properties and the like; a longer chain then ends here.
        base = top.name.removeprefix("cell ")
        return Loaded(f"{base}.{self._objects.string(key)}", value or 0)

    def _bound_to(self, loaded: Loaded) -> Iterator[Loaded]:
        """The object that a bound method is of: each call counts a reference to it."""
        if not loaded.address or not loaded.counted:
            return
        try:
            if self._objects.type_name(self._objects.type_of(loaded.address)) != "method":
                return
            # PyMethodObject: im_func, im_self (Include/cpython/classobject.h)
            instance = self._memory.read_word(loaded.address + self._layout.object_size + 8)
        except (MemoryReadError, NotAnObject):
            return
        yield Loaded(f"{loaded.name}.__self__", instance)

    # --- what the header says ---

    def _if_shared(self, loaded: Loaded, ident: int) -> SharedObject | None:
        """The object if several threads count references to it. `ident` is `get_ident()` of the thread."""
        if loaded.address <= 4096 or loaded.address % 8:
            return None
        try:
            one = counted(self._memory, self._objects, loaded.address)
        except (MemoryReadError, NotAnObject):
            return None
        if one.facts.counting in _NEVER_CONTENDED or one.private_to(ident):
            return None
        name = f"cell {loaded.name.removeprefix('cell ')}" if one.type_name == "cell" else loaded.name
        return SharedObject(
            name[:MAX_NAME_CHARACTERS],
            one.type_name,
            Confidence.KNOWN if one.seen else Confidence.INFERRED,
            one.facts,
        )


class AtomicLines:
    """Which lines spend much of their CPU time on contended atomics, and the shared objects named there.

    In: the native samples of every window, and threads as they pass such a line. Out: rows for the window.
    A line is looked at a few times, then again after a while: objects change, names hardly do.
    """

    def __init__(
        self, reader: SharedObjectReader, leaves: Sequence[int], paths: PathSearch | None = None
    ) -> None:
        """`leaves` has the innermost frame's id of every stack id, 0 where there is none; it may grow."""
        self._reader = reader
        self._leaves = leaves
        self._paths = paths
        self._lines: dict[int, _Line] = {}
        self._wanted: dict[int, _Line] = {}
        self._next_look_ns = 0

    def search(self, now_ns: int) -> None:
        """Go on looking for the paths of what was named. Raises TargetGone, PermissionRefused."""
        if self._paths is not None:
            self._paths.step(now_ns)

    def window(
        self,
        samples: Mapping[tuple[int, int, int, int], int],
        places: Mapping[tuple[int, int], int],
        now_ns: int,
    ) -> tuple[tuple[int, SharedObject], ...]:
        """Takes in a window's samples by thread, stack, state and native frame, and those of atomics by stack
        and the place that these worked on.

        Returns (frame id, object) for those of its lines with much ATOMIC time that were named so far. Raises
        TargetGone, PermissionRefused.
        """
        if not self._reader.able:
            return ()
        atomic: dict[int, int] = {}
        total: dict[int, int] = {}
        leaves = self._leaves
        for (_, stack, state, _), count in samples.items():
            leaf = leaves[stack] if stack < len(leaves) else 0
            if leaf:
                total[leaf] = total.get(leaf, 0) + count
                if state == ThreadState.ATOMIC:
                    atomic[leaf] = atomic.get(leaf, 0) + count
        hot = [
            leaf
            for leaf, count in sorted(atomic.items(), key=lambda item: -item[1])
            if count >= MIN_ATOMIC_SAMPLES and count >= PLACE_SHARE * total[leaf]
        ][:MAX_HOT_LINES]
        if len(self._lines) > MAX_KNOWN_LINES:
            self._lines.clear()
        self._wanted = {}
        at_line: dict[int, dict[int, int]] = {}
        for (stack, place), count in places.items():
            leaf = leaves[stack] if stack < len(leaves) else 0
            here = at_line.setdefault(leaf, {})
            here[place] = here.get(place, 0) + count
        rows: list[tuple[int, SharedObject]] = []
        if self._paths is not None and self._paths.found:
            for line in self._lines.values():
                line.found(self._paths.found)
        for leaf in hot:
            line = self._lines.setdefault(leaf, _Line())
            if now_ns >= line.look_again_ns:
                line.looks = 0
            if line.looks < LOOKS_OF_LINE and atomic[leaf] >= ATOMIC_SHARE * total[leaf]:
                self._wanted[leaf] = line
            self._name_places(line, at_line.get(leaf, {}))
            rows.extend((leaf, one) for one in line.objects.values())
        if self._paths is not None:
            facts = [one.facts for _, one in rows]
            self._paths.want([each.address for each in facts if each is not None and not each.path], "lines")
        return tuple(rows)

    def _name_places(self, line: _Line, places: Mapping[int, int]) -> None:
        """What a line's contended atomics worked on, where it is none of the objects that it names."""
        for place, count in sorted(places.items(), key=lambda item: -item[1])[:MAX_PLACES]:
            if count < MIN_PLACE_SAMPLES or place in line.places:
                continue
            if len(line.places) >= MAX_OBJECTS:
                line.places.clear()
            line.places.add(place)
            found = self._reader.at_place(place)
            if found is None or any(one.type_name == found.type_name for one in line.objects.values()):
                continue
            line.add(found)

    @property
    def due_ns(self) -> int | None:
        """When a line is to be looked at next, or the search goes on; `None` where nothing is wanted."""
        look_ns = self._next_look_ns if self._wanted else None
        search_ns = None if self._paths is None else self._paths.due_ns
        return min((at_ns for at_ns in (look_ns, search_ns) if at_ns is not None), default=None)

    def due(self, now_ns: int) -> bool:
        """Whether a line is to be looked at now."""
        return bool(self._wanted) and now_ns >= self._next_look_ns

    def look(self, threads: Iterable[tuple[int, PythonThread]], now_ns: int) -> None:
        """Look at one line that is wanted and that one of these (stack id, thread) is in as of this tick.

        Raises TargetGone, PermissionRefused.
        """
        for stack, thread in threads:
            leaf = self._leaves[stack] if stack < len(self._leaves) else 0
            line = self._wanted.get(leaf)
            if line is None or self._reader.line(thread) != leaf:
                continue
            self._next_look_ns = now_ns + LOOK_EVERY_NS
            line.looks += 1
            if line.looks >= LOOKS_OF_LINE:
                line.look_again_ns = now_ns + LOOK_AGAIN_NS
                del self._wanted[leaf]
            for one in self._reader.named(thread):
                line.add(one)
            return


class SpunLocks:
    """Which lines spin for locks of the interpreter or of objects, and whose these are: several threads', or
    only the spinning thread's own.

    Nobody else can hold the lock of an object that only one thread has: C code locked the object and locks
    it again, and CPython 3.13 waits for it as for another thread's (Python/critical_section.c; 3.14 looks).
    The thread yields, then parks, which lets go of what it holds. In: the mutexes that were spun for in a
    window. Out: rows for it.
    """

    def __init__(
        self, reader: SharedObjectReader, leaves: Sequence[int], paths: PathSearch | None = None
    ) -> None:
        """`leaves` has the innermost frame's id of every stack id, 0 where there is none; it may grow."""
        self._reader = reader
        self._leaves = leaves
        self._paths = paths
        self._before: set[int] = set()
        """Objects of the window before."""
        self._looked_at: dict[int, SharedObject | None] = {}

    def window(
        self,
        spun: Mapping[tuple[int, int], tuple[int, int]],
        idents: Mapping[int, int],
        interpreters: Mapping[int, str],
    ) -> tuple[tuple[int, SharedObject], ...]:
        """Takes in which thread (its index; negative for several) spun at a stack for a mutex and in how many
        samples, the latest last, what `threading.get_ident()` is in each thread, and which mutexes are the
        interpreter's, with their names.

        Returns (frame id, object) with `OWN_LOCK` or `SPUN_FOR` as the name, as far as objects were still
        there to be looked at; a lock of the interpreter is called by its name in place of a type. Raises
        TargetGone, PermissionRefused.
        """
        if not self._reader.able:
            return ()
        at_line: dict[int, dict[int, tuple[int, int]]] = {}
        everywhere: dict[int, tuple[int, int]] = {}
        for (stack, mutex), (index, times) in reversed(list(spun.items())):
            leaf = self._leaves[stack] if stack < len(self._leaves) else 0
            # Machine code is sampled a little before or after the line: who spins is asked of all lines.
            for here in (everywhere, at_line.setdefault(leaf, {})):
                before, more = here.get(mutex, (index, 0))
                here[mutex] = (index if before == index else -1), times + more
        at_line.pop(0, None)
        counted = {leaf: sum(times for _, times in places.values()) for leaf, places in at_line.items()}
        rows: list[tuple[int, SharedObject]] = []
        self._looked_at.clear()
        often = self._often(everywhere, interpreters)
        for leaf in sorted(counted, key=lambda leaf: -counted[leaf])[:MAX_SPUN_LINES]:
            here = {mutex: (everywhere[mutex][0], times) for mutex, (_, times) in at_line[leaf].items()}
            if counted[leaf] < MIN_PLACE_SAMPLES:
                # A line of few samples tells what is spun for only where others spin for it, too.
                here = {mutex: known for mutex, known in here.items() if mutex in often}
            named: dict[str, int] = {}
            for mutex in [mutex for mutex in here if mutex in interpreters]:
                label = interpreters[mutex]
                named[label] = named.get(label, 0) + here.pop(mutex)[1]
            most = max(named, key=lambda label: named[label], default=None)
            if most is not None and named[most] >= SPUN_SHARE * counted[leaf]:
                rows.append((leaf, SharedObject(SPUN_FOR, most, Confidence.KNOWN)))
            elif here:
                rows.extend((leaf, one) for one in self._objects(here, counted[leaf], idents, often))
        return self._with_paths(rows)

    def _with_paths(self, rows: list[tuple[int, SharedObject]]) -> tuple[tuple[int, SharedObject], ...]:
        """The rows with paths as far as they were found; those of objects that last are looked for."""
        paths = self._paths
        if paths is None:
            return tuple(rows)
        facts = [(leaf, one, one.facts) for leaf, one in rows]
        found = tuple(
            (
                leaf,
                one
                if each is None
                else replace(one, facts=replace(each, path=paths.found.get(each.address))),
            )
            for leaf, one, each in facts
        )
        here = {each.address for _, _, each in facts if each is not None}
        paths.want(here & self._before, "spun for")
        self._before = here
        return found

    def _often(self, everywhere: Mapping[int, tuple[int, int]], interpreters: Mapping[int, str]) -> set[int]:
        """The mutexes that several threads spin for in samples enough to look at them: the interpreter's, and
        those of objects of one type, which several threads spin for or at least count."""
        found: set[int] = set()
        alike: dict[str, list[int]] = {}
        for mutex in sorted(everywhere, key=lambda mutex: -everywhere[mutex][1])[:MAX_ALIKE]:
            several = everywhere[mutex][0] < 0
            one = None if mutex in interpreters else self._at(mutex, several)
            name = interpreters.get(mutex) if one is None else one.type_name
            if name is not None and (several or (one is not None and one.confidence is Confidence.KNOWN)):
                alike.setdefault(name, []).append(mutex)
        for same in alike.values():
            threads = {everywhere[mutex][0] for mutex in same}
            samples = sum(everywhere[mutex][1] for mutex in same)
            if samples >= MIN_PLACE_SAMPLES and (len(threads) > 1 or threads == {-1}):
                found.update(same)
        return found

    def _at(self, mutex: int, several: bool) -> SharedObject | None:
        """The object of a mutex for which several threads spin, or else of one that several count; it is
        looked at once in a window."""
        if mutex not in self._looked_at:
            found = self._reader.locked_at(mutex) if several else self._reader.at_place(mutex)
            self._looked_at[mutex] = None if found is None else replace(found, name=SPUN_FOR)
        return self._looked_at[mutex]

    def _objects(
        self,
        places: Mapping[int, tuple[int, int]],
        whole: int,
        idents: Mapping[int, int],
        often: Collection[int],
    ) -> list[SharedObject]:
        """What most samples of a line are for: an object that other threads have, too, or the thread's own.

        `places` are the mutexes with the thread and the samples, the latest first.
        """
        shared: dict[str, tuple[int, SharedObject]] = {}
        own: dict[str, int] = {}
        looks = 0
        for mutex, (index, times) in places.items():
            if index >= 0 and mutex not in often:
                # One thread was seen there, which may be the only one that has the object.
                if looks >= MAX_OWN_LOOKS:
                    continue
                looks += 1
                try:
                    type_name = self._reader.own_at(mutex, idents.get(index, 0))
                except (MemoryReadError, NotAnObject):
                    whole -= times  # gone by now
                    continue
                if type_name is not None:
                    own[type_name] = own.get(type_name, 0) + times
                    continue
            one = self._at(mutex, index < 0)
            if one is not None:
                before, first = shared.get(one.type_name, (0, one))
                shared[one.type_name] = before + times, first
        if shared and sum(times for times, _ in shared.values()) >= SPUN_SHARE * whole:
            return [max(shared.values(), key=lambda each: each[0])[1]]
        if own and sum(own.values()) >= SPUN_SHARE * whole:
            return [SharedObject(OWN_LOCK, max(own, key=lambda kind: own[kind]), Confidence.KNOWN)]
        return []


def with_makers(
    shared: tuple[tuple[int, SharedObject], ...], idents: Mapping[int, int]
) -> tuple[tuple[int, SharedObject], ...]:
    """The shared objects with the threads that made them, as far as these live.

    `idents` is what `threading.get_ident()` is in each thread, by its index.
    """
    makers = {ident: index for index, ident in idents.items()} if shared else {}
    return tuple(
        (frame, one)
        if one.facts is None
        else (frame, replace(one, facts=replace(one.facts, maker=makers.get(one.facts.owner, -1))))
        for frame, one in shared
    )


class _Line:
    """What is known of one line."""

    __slots__ = ("look_again_ns", "looks", "objects", "places")

    def __init__(self) -> None:
        self.looks = 0
        self.look_again_ns = 1 << 62
        self.objects: dict[tuple[str, str], SharedObject] = {}
        self.places: set[int] = set()
        """Places that were looked at."""

    def found(self, paths: Mapping[int, str]) -> None:
        """Take the paths of its objects."""
        for key, one in self.objects.items():
            path = None if one.facts is None else paths.get(one.facts.address)
            if one.facts is not None and path is not None:
                self.objects[key] = replace(one, facts=replace(one.facts, path=path))

    def add(self, one: SharedObject) -> None:
        """Keep an object, the surer of two; one that the line names in place of one by its type alone."""
        if one.better_than(self.objects.get((one.name, one.type_name))):
            self.objects[one.name, one.type_name] = one
        if one.name != one.type_name:
            self.objects.pop((one.type_name, one.type_name), None)
        while len(self.objects) > MAX_OBJECTS:
            del self.objects[next(iter(self.objects))]
