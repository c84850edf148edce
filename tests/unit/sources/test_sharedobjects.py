"""Shared objects by name: from made-up bytecode and headers; damaged memory gives no name and no error."""

from __future__ import annotations

import struct
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_process import FakeProcess, Sink
from ftdiag.model import (
    OTHERS_COUNTS,
    OWN_LOCK,
    SPUN_FOR,
    TYPES_LOCK,
    Confidence,
    SharedObject,
    ThreadState,
)
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.opcodes import OPCODES
from ftdiag.sources.python.paths import PathSearch
from ftdiag.sources.python.plainwalk import PlainThread
from ftdiag.sources.python.sharedobjects import (
    LOOK_AGAIN_NS,
    LOOK_EVERY_NS,
    LOOKS_OF_LINE,
    MAX_NAME_CHARACTERS,
    MAX_OBJECTS,
    AtomicLines,
    SharedObjectReader,
    SpunLocks,
)
from ftdiag.sources.python.walking import PythonThread

BUILDS = ["3.13.5t", "3.14.9t", "3.15.1t"]
OWN, FOREIGN = 77, 99
TYPE = 1 << 31
MANAGED = 1 << 4 | 1 << 9


class Program:
    """One thread in one function: its code is `body` (opcode name, argument), all on one line."""

    def __init__(
        self, build: str, body: list[tuple[str, int]], names: list[str], variables: dict[str, int]
    ) -> None:
        self.fake = fake = FakeProcess(build)
        self.layout = layout = fake.layout
        metatype = fake.type("type", TYPE)
        self.memory = fake.memory
        self.memory.write_word(metatype + layout.object_type, metatype)
        self.names = {name: fake.string(name) for name in names}
        self.globals: dict[int, int] = {}
        table = OPCODES[layout.version.major, layout.version.minor]
        numbers = {name: number for number, name in reversed(list(table.names.items()))}
        units = b""
        for name, argument in body:
            number = numbers[name]
            units += bytes([number, argument]) + bytes(2 * table.caches.get(number, 0))
        self.code = fake.code("work", units=len(units) // 2)
        # All units on line 10, in entries of at most eight units.
        entries, left = bytearray(), len(units) // 2
        while left:
            count = min(8, left)
            entries += bytes([0x80 | 10 << 3 | count - 1, 0])
            left -= count
        self.memory.write_word(self.code + layout.code_linetable, fake.bytes(bytes(entries)))
        self.memory.write(self.code + layout.code_bytecode, units)
        self.memory.write_word(self.code + layout.code_names, self.tuple_of(list(self.names.values())))
        self.memory.write_word(
            self.code + layout.code_local_names, self.tuple_of([fake.string(one) for one in variables])
        )
        self.memory.write(self.code + layout.code_local_count, struct.pack("<i", len(variables)))
        self.chunk = fake.chunk()
        self.frame = fake.frame(self.chunk + 64, self.code)
        for number, word in enumerate(variables.values()):
            self.memory.write_word(self.frame + layout.frame_localsplus + 8 * number, word)
        state = fake.thread(self.frame, self.chunk, ident=OWN)
        self.sink = Sink()
        self.interpreter = InterpreterReader(self.memory, fake.runtime, self.sink, compiled=False)
        self.thread = PlainThread(state, 1000, OWN, 0)
        self.reader = SharedObjectReader(self.interpreter)

    def tuple_of(self, items: list[int]) -> int:
        layout = self.layout
        address = self.fake.object("tuple", layout.tuple_items + 8 * len(items) + 8)
        self.memory.write_word(address + layout.tuple_count, len(items))
        for number, item in enumerate(items):
            self.memory.write_word(address + layout.tuple_items + 8 * number, item)
        return address

    def object(
        self, type_name: str, *, owner: int = FOREIGN, gc_bits: int = 0, local: int = 1, shared: int = 1
    ) -> int:
        """An object with a header of its own making; `shared` is ob_ref_shared with its flags."""
        known = type_name in self.fake._types
        address = self.fake.object(type_name, 256)
        if not known:
            self.memory.write_word(
                self.fake.type(type_name) + self.layout.object_type, self.fake.type("type")
            )
        type_address = self.fake.type(type_name)
        self.memory.write(address, struct.pack("<QHBBIqQ", owner, 0, 0, gc_bits, local, shared, type_address))
        return address

    def set_globals(self, values: dict[str, int]) -> None:
        space = self.fake.dict({self.names[name]: value for name, value in values.items()})
        self.memory.write_word(self.frame + self.layout.frame_globals, space)
        self.memory.write_word(self.frame + self.layout.frame_globals + 8, self.fake.dict({}))

    def set_local(self, number: int, word: int) -> None:
        self.memory.write_word(self.frame + self.layout.frame_localsplus + 8 * number, word)

    def set_attributes(self, instance: int, values: dict[str, int]) -> None:
        space = self.fake.dict({self.names[name]: value for name, value in values.items()})
        self.memory.write_word(instance + self.layout.managed_dict, space)

    def named(self) -> tuple[SharedObject, ...]:
        self.interpreter.walk([self.thread])
        return self.reader.named(self.thread)


@pytest.mark.parametrize("build", BUILDS)
def test_a_global_is_named(build: str) -> None:
    # GIVEN a line that loads a global which another thread owns and this one counted
    program = Program(build, [("LOAD_GLOBAL", 0), ("NOP", 0)], ["CONFIG"], {})
    program.set_globals({"CONFIG": program.object("Config")})

    # WHEN it is looked at, THEN it is named, and known to be shared
    assert program.named() == (SharedObject("CONFIG", "Config", Confidence.KNOWN),)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(
    ("header", "confidence"),
    [
        ({"shared": 1}, Confidence.KNOWN),
        ({"shared": 3 << 2}, Confidence.KNOWN),
        ({"owner": 0, "local": 0, "shared": 9 << 2 | 3}, Confidence.KNOWN),
        ({"owner": OWN, "shared": 4 << 2 | 1}, Confidence.KNOWN),
        ({"shared": 0}, Confidence.INFERRED),
        ({"owner": OWN, "shared": 0}, None),
        ({"local": 0xFFFF_FFFF}, None),
        ({"gc_bits": 0x41}, None),
    ],
    ids=["weakref", "counted", "merged", "counted by others", "foreign only", "mine", "immortal", "deferred"],
)  # fmt: skip
def test_the_header_decides(build: str, header: dict[str, int], confidence: Confidence | None) -> None:
    # GIVEN a global with such a header
    program = Program(build, [("LOAD_GLOBAL", 0)], ["X"], {})
    program.set_globals({"X": program.object("Thing", **header)})

    # WHEN it is looked at, THEN its confidence, or absence, is that of the header
    found = program.named()
    assert [one.confidence for one in found] == ([] if confidence is None else [confidence])


@pytest.mark.parametrize("build", BUILDS)
def test_attributes_of_a_local(build: str) -> None:
    # GIVEN `self.table` and `self.table` again
    program = Program(
        build, [("LOAD_FAST", 0), ("COPY", 1), ("LOAD_ATTR", 0), ("LOAD_FAST", 0), ("LOAD_ATTR", 0)],
        ["table"], {"self": 0},
    )  # fmt: skip
    program.fake.type("Cache", MANAGED)
    program.memory.write_word(
        program.fake.type("Cache") + program.layout.object_type, program.fake.type("type")
    )
    instance = program.object("Cache", owner=OWN, shared=0)
    table = program.object("dict")
    program.set_attributes(instance, {"table": table})
    program.set_local(0, instance)
    program.set_globals({})

    # WHEN it is looked at, THEN the shared value is named once, and its private owner is not
    assert [(one.name, one.type_name) for one in program.named()] == [("self.table", "dict")]


@pytest.mark.parametrize("build", BUILDS)
def test_cells_and_bound_methods(build: str) -> None:
    # GIVEN a closure's variable, and a local that is a bound method of a shared object
    program = Program(
        build, [("LOAD_DEREF", 1), ("LOAD_FAST", 0), ("PUSH_NULL", 0)], [], {"call": 0, "limit": 0}
    )
    instance = program.object("Service")
    method = program.object("method")
    program.memory.write_word(method + program.layout.object_size + 8, instance)
    cell = program.object("cell", owner=OWN, shared=0)
    program.memory.write_word(cell + program.layout.object_size, program.object("Limit"))
    program.set_local(0, method)
    program.set_local(1, cell)
    program.set_globals({})

    # WHEN it is looked at, THEN all three have a name
    assert [one.name for one in program.named()] == ["cell limit", "call", "call.__self__"]


def test_borrowed_locals_count_only_where_they_are_called() -> None:
    # GIVEN a local that 3.14 borrows: once for an attribute, once to be iterated
    for following, expected in (("NOP", []), ("GET_ITER", ["items"])):
        program = Program("3.14.9t", [("LOAD_FAST_BORROW", 0), (following, 0)], [], {"items": 0})
        program.set_local(0, program.object("list") | 1)
        program.set_globals({})

        # WHEN it is looked at, THEN only the second counts a reference
        assert [one.name for one in program.named()] == expected


@pytest.mark.parametrize("build", BUILDS)
def test_specialised_opcodes_and_long_arguments(build: str) -> None:
    # GIVEN a specialised LOAD_GLOBAL behind an EXTENDED_ARG, for the 200th name
    table = OPCODES[FakeProcess(build).layout.version.major, FakeProcess(build).layout.version.minor]
    base = next(number for number, name in table.names.items() if name == "LOAD_GLOBAL")
    special = next(number for number, of in table.specialised.items() if of == base)
    argument = 200 << 1
    caches = bytes(2 * table.caches[base])

    # WHEN it is decoded, THEN it is a LOAD_GLOBAL of that name, and the caches are skipped
    units = bytes([table.extended, argument >> 8, special, argument & 255]) + caches
    assert list(table.decode(units * 2)) == [("LOAD_GLOBAL", argument)] * 2
    # AND a hidden opcode ends it
    assert list(table.decode(bytes([table.first_opaque, 0]) + units)) == []


def test_tables_cover_each_opcode_once() -> None:
    # GIVEN the tables, WHEN looked through, THEN no opcode is both specialised and base, and all fit a byte
    for table in OPCODES.values():
        assert not set(table.specialised) & set(table.names)
        assert not set(table.specialised) & set(table.caches)
        assert max(table.specialised) < table.first_opaque <= 255


@pytest.mark.parametrize("build", ["3.13.0"])
def test_other_builds_have_no_names(build: str) -> None:
    # GIVEN a build with a GIL, or one without a table, WHEN asked, THEN there is no name and no error
    fake = FakeProcess(build)
    reader = SharedObjectReader(InterpreterReader(fake.memory, fake.runtime, Sink()))
    assert not reader.able
    assert reader.named(PlainThread(0, 1, 1, 0)) == ()


@pytest.mark.parametrize("build", BUILDS)
def test_names_and_objects_are_bounded(build: str) -> None:
    # GIVEN a line that touches many objects with long names
    names = [f"{number}{'x' * 500}" for number in range(100)]
    program = Program(build, [("LOAD_GLOBAL", number << 1) for number in range(100)], names, {})
    program.set_globals({name: program.object("Thing") for name in names})

    # WHEN it is looked at, THEN some are named, and cut
    found = program.named()
    assert len(found) == MAX_OBJECTS
    assert all(len(one.name) == MAX_NAME_CHARACTERS for one in found)


@given(st.sampled_from(BUILDS), st.data())
def test_damaged_memory_never_raises(build: str, data: st.DataObject) -> None:
    # GIVEN a working program with words of it overwritten
    program = Program(
        build,
        [("LOAD_GLOBAL", 0), ("LOAD_ATTR", 2), ("LOAD_DEREF", 0), ("LOAD_CONST", 0), ("RETURN_VALUE", 0)],
        ["CONFIG", "v"], {"cell": 0},
    )  # fmt: skip
    program.fake.type("Config", MANAGED)
    config = program.object("Config")
    program.set_attributes(config, {"v": program.object("Thing")})
    program.set_globals({"CONFIG": config, "v": config})
    program.set_local(0, program.object("cell"))
    program.interpreter.walk([program.thread])
    start = 0x7F00_0000_0000
    size = program.fake._next - start
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, size // 8 - 1), st.integers(0, (1 << 64) - 1)), max_size=30)
    ):
        program.memory.write_word(start + 8 * place, value)

    # WHEN it is looked at, THEN names come or none, from little memory
    program.memory.transferred = 0
    assert len(program.reader.named(program.thread)) <= MAX_OBJECTS
    assert program.memory.transferred < 16 << 20


# --- what the line does not name ---------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("offset", [16, 10, 32, 40], ids=["count", "lock", "first word", "second word"])
def test_what_an_atomic_instruction_worked_on_is_called_by_its_type(build: str, offset: int) -> None:
    # GIVEN an object that an extension gives to all threads, and that no line names
    program = Program(build, [("NOP", 0)], [], {})
    place = program.object("columns.Missing") + offset

    # WHEN the place of an instruction is looked up, THEN it is the object's, by type
    found = program.reader.at_place(place)
    assert found == SharedObject("columns.Missing", "columns.Missing", Confidence.KNOWN)


@pytest.mark.parametrize("build", BUILDS)
def test_places_in_nobody_elses_memory_have_no_object(build: str) -> None:
    # GIVEN an immortal object, memory that is not there, and words that are no object
    program = Program(build, [("NOP", 0)], [], {})
    immortal = program.object("columns.Missing", local=0xFFFF_FFFF)
    words = program.fake.bytes(bytes(256))

    # WHEN looked up, THEN there is none
    for place in (immortal + 16, 0, 16, 7, (1 << 64) - 16, words + 16, words + 32):
        assert program.reader.at_place(place) is None


# --- what is spun for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_the_lock_of_one_object_that_several_threads_spin_for(build: str) -> None:
    # GIVEN a line at which several threads spin, most of the time for one object
    program = Program(build, [("NOP", 0)], [], {})
    shared = program.object("index.Engine") + 10
    own = program.object("index.Engine", owner=OWN, shared=0) + 10
    locks = SpunLocks(program.reader, [0, 5])

    # WHEN a window is looked at, THEN the line spins for that object's lock
    rows = locks.window({(1, own): (0, 2), (1, shared): (-1, 6)}, {0: OWN}, {})
    assert rows == ((5, SharedObject(SPUN_FOR, "index.Engine", Confidence.KNOWN)),)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("counted", [{"gc_bits": 1 << 6, "shared": 0}, {"local": 0xFFFF_FFFF}])
def test_the_lock_of_an_object_whose_count_nobody_contends_for(build: str, counted: dict[str, int]) -> None:
    # GIVEN an object whose references are counted later or never, as 3.15 does what lies in globals
    program = Program(build, [("NOP", 0)], [], {})
    hypot = program.object("_FuncPtr", owner=OWN, **counted) + 10
    locks = SpunLocks(program.reader, [0, 5])

    # WHEN two threads spin for it THEN it is named, and what no object is at is not
    (row,) = locks.window({(1, hypot): (-1, 90)}, {0: OWN}, {})
    assert (row[0], row[1].name, row[1].type_name) == (5, SPUN_FOR, "_FuncPtr")
    nothing = program.fake.bytes(bytes(64)) + 10
    assert locks.window({(1, nothing): (-1, 90)}, {0: OWN}, {}) == ()


@pytest.mark.parametrize("build", BUILDS)
def test_locks_of_a_threads_own_objects_are_held_by_nobody_else(build: str) -> None:
    # GIVEN a line at which a thread spins for objects that only it has, one of them gone by now
    program = Program(build, [("NOP", 0)], [], {})
    own = [program.object("index.Engine", owner=OWN, shared=0) + 10 for _ in range(3)]
    gone = program.fake.bytes(bytes(64)) + 10
    locks = SpunLocks(program.reader, [0, 5])
    spun = {(1, mutex): (0, 1) for mutex in (*own, gone)}

    # WHEN a window is looked at, THEN it waits for itself
    assert locks.window(spun, {0: OWN}, {}) == (
        (5, SharedObject(OWN_LOCK, "index.Engine", Confidence.KNOWN)),
    )

    # WHEN another thread counts references to the one it spins for most, or owns it, THEN it is that's lock
    for other in (program.object("index.Engine", owner=OWN, shared=4), program.object("index.Engine")):
        assert locks.window(spun | {(1, other + 10): (0, 4)}, {0: OWN}, {}) == (
            (5, SharedObject(SPUN_FOR, "index.Engine", Confidence.KNOWN)),
        )
    # WHEN most of the time it is none that can be told, THEN nothing is said
    constant = program.object("index.Engine", local=0xFFFF_FFFF) + 10
    assert locks.window(spun | {(1, constant): (0, 9)}, {0: OWN}, {}) == ()
    # WHEN there are too few samples, or no line, THEN nothing is said
    assert locks.window({(1, own[0]): (0, 1)}, {0: OWN}, {}) == ()
    assert locks.window({(0, own[0]): (0, 9)}, {0: OWN}, {}) == ()


def test_a_lock_of_the_interpreter_that_is_spun_for_is_called_by_its_name() -> None:
    # GIVEN a line at which threads spin for the lock of all types most of the time, in places of one lock
    program = Program(BUILDS[0], [("NOP", 0)], [], {})
    shared = program.object("index.Engine") + 10
    locks = SpunLocks(program.reader, [0, 5])
    interpreters = {0x5000: TYPES_LOCK, 0x6000: OTHERS_COUNTS, 0x6010: OTHERS_COUNTS}
    spun = {(1, shared): (-1, 3), (1, 0x5000): (-1, 6)}

    # WHEN a window is looked at, THEN the line spins for that; and for the object where that is most
    rows = locks.window(spun, {0: OWN}, interpreters)
    assert rows == ((5, SharedObject(SPUN_FOR, TYPES_LOCK, Confidence.KNOWN)),)
    rows = locks.window({(1, shared): (-1, 9), (1, 0x5000): (-1, 1)}, {0: OWN}, interpreters)
    assert rows == ((5, SharedObject(SPUN_FOR, "index.Engine", Confidence.KNOWN)),)
    rows = locks.window({(1, 0x6000): (-1, 2), (1, 0x6010): (0, 2)}, {0: OWN}, interpreters)
    assert rows == ((5, SharedObject(SPUN_FOR, OTHERS_COUNTS, Confidence.KNOWN)),)


def test_a_line_of_few_samples_spins_for_what_others_spin_for() -> None:
    # GIVEN lines at which single samples spin for one object, each of another thread, and one for another
    program = Program(BUILDS[0], [("NOP", 0)], [], {})
    shared, alone = (program.object(kind) + 10 for kind in ("index.Engine", "index.Other"))
    locks = SpunLocks(program.reader, [0, 5, 6, 7, 8])
    spun = {(1, shared): (0, 1), (2, shared): (1, 1), (3, alone): (0, 1)}

    # WHEN there are too few of them in all, THEN nothing is said; with enough, each line that has one has it
    assert locks.window(spun, {0: OWN}, {}) == ()
    rows = locks.window({**spun, (4, shared): (0, 1)}, {0: OWN}, {})
    one = SharedObject(SPUN_FOR, "index.Engine", Confidence.KNOWN)
    assert sorted(rows, key=lambda row: row[0]) == [(5, one), (6, one), (8, one)]

    # WHEN they are for several objects of one type, each of which several threads count, THEN it is the type
    others = [program.object("index.Engine") + 10 for _ in range(4)]
    spun = {(1 + number, other): (number % 2, 1) for number, other in enumerate(others)}
    rows = locks.window(spun, {0: OWN}, {})
    assert sorted(rows, key=lambda row: row[0]) == [(5, one), (6, one), (7, one), (8, one)]


class FoundPaths(PathSearch):
    """A search that has found what it was asked for."""

    def __init__(self) -> None:
        self.found: dict[int, str] = {}

    def want(self, addresses: Collection[int], whose: str = "") -> None:
        self.found = dict.fromkeys(addresses, "app.ENGINE")


def test_an_object_that_is_spun_for_is_called_by_its_path_once_that_is_found() -> None:
    # GIVEN a line that spins for the lock of an object
    program = Program(BUILDS[0], [("NOP", 0)], [], {})
    mutex = program.object("index.Engine") + 10
    locks = SpunLocks(program.reader, [0, 5], FoundPaths())

    # WHEN windows are looked at, THEN its path is asked for once it has lasted, and is there in the next one
    seen = [locks.window({(1, mutex): (-1, 6)}, {0: OWN}, {})[0][1].facts for _ in range(3)]
    assert [facts and facts.path for facts in seen] == [None, None, "app.ENGINE"]


# --- which lines ----------------------------------------------------------------------------------------


class Named(SharedObjectReader):
    """A reader that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def able(self) -> bool:
        return True

    def line(self, thread: PythonThread) -> int | None:
        return thread.address

    def named(self, thread: PythonThread) -> tuple[SharedObject, ...]:
        self.asked += 1
        return (SharedObject(f"x{thread.address}", "Thing", Confidence.KNOWN),)

    def at_place(self, place: int) -> SharedObject | None:
        self.asked += 1
        kinds = {1016: "columns.Missing", 2016: "Thing"}
        return SharedObject(kinds[place], kinds[place], Confidence.KNOWN) if place in kinds else None


ATOMIC, WORK = int(ThreadState.ATOMIC), int(ThreadState.WORK)


def test_only_lines_with_much_atomic_time_are_looked_at_and_rarely() -> None:
    # GIVEN a line full of atomics, one with few of them, and one with hardly any sample
    reader = Named()
    leaves = [0] * 8 + [1, 2, 3]
    lines = AtomicLines(reader, leaves)
    samples = {
        (0, 8, ATOMIC, 5): 60,
        (0, 8, WORK, 5): 40,
        (0, 9, ATOMIC, 5): 10,
        (0, 9, WORK, 5): 90,
        (0, 10, ATOMIC, 5): 2,
    }
    threads = [(stack, PlainThread(leaves[stack], 1, 1, 0)) for stack in (10, 9, 8)]
    now = 10**12
    assert not lines.due(now)
    assert lines.window(samples, {}, now) == ()

    # WHEN ticks pass
    ticks = 0
    while ticks < 200:
        if lines.due(now):
            lines.look(threads, now)
        now += LOOK_EVERY_NS // 10
        ticks += 1

    # THEN the first was looked at a few times, the others never, and the window has its name
    assert reader.asked == LOOKS_OF_LINE
    assert lines.window(samples, {}, now) == ((1, SharedObject("x1", "Thing", Confidence.KNOWN)),)
    assert not lines.due(now)
    # AND a window without such time has none of it; much later it is looked at again
    assert lines.window({(0, 8, WORK, 5): 100}, {}, now) == ()
    now += LOOK_AGAIN_NS
    lines.window(samples, {}, now)
    assert lines.due(now)


def test_places_that_several_samples_hit_are_looked_at_once() -> None:
    # GIVEN a line full of atomics: most at one object, some at another, one at a third place
    reader = Named()
    lines = AtomicLines(reader, [0] * 8 + [1])
    samples = {(0, 8, ATOMIC, 5): 60, (0, 8, WORK, 5): 40}
    places = {(8, 1016): 40, (8, 5016): 12, (8, 6016): 1}

    # WHEN windows are taken in
    rows = [lines.window(samples, places, now) for now in range(5)]

    # THEN the object is told by its type, and each place was looked at once
    assert rows[-1] == ((1, SharedObject("columns.Missing", "columns.Missing", Confidence.KNOWN)),)
    assert reader.asked == 2


def test_a_known_place_needs_less_than_names() -> None:
    # GIVEN a line with some atomics, at one place, and one with next to none
    reader = Named()
    lines = AtomicLines(reader, [0] * 8 + [1, 2])
    samples = {(0, 8, ATOMIC, 5): 15, (0, 8, WORK, 5): 85, (0, 9, ATOMIC, 5): 5, (0, 9, WORK, 5): 495}

    # WHEN taken in THEN the first is named by what its instructions worked on, and no thread is looked at
    found = lines.window(samples, {(8, 1016): 12, (9, 2016): 5}, 0)
    assert found == ((1, SharedObject("columns.Missing", "columns.Missing", Confidence.KNOWN)),)
    assert reader.asked == 1
    assert not lines.due(1 << 60)


def test_what_a_line_names_is_not_told_again_by_its_type() -> None:
    # GIVEN a line that names an object, at which its atomics work
    lines = AtomicLines(Named(), [0] * 8 + [1])
    samples, places = {(0, 8, ATOMIC, 5): 60}, {(8, 2016): 40}
    threads = [(8, PlainThread(1, 1, 1, 0))]
    assert len(lines.window(samples, places, 10**12)) == 1

    # WHEN it is looked at, THEN the name takes the place of the type
    lines.look(threads, 10**12)
    named = (1, SharedObject("x1", "Thing", Confidence.KNOWN))
    assert lines.window(samples, places, 10**12) == (named,)
    assert lines.window(samples, {(8, 2016): 40, (8, 1016): 3}, 10**12)[0] == named


def test_stacks_that_are_not_known_yet_are_ignored() -> None:
    # GIVEN samples at reserved stacks and at one that no table has
    lines = AtomicLines(Named(), [0] * 8)
    # WHEN taken in, THEN nothing is wanted
    assert lines.window({(0, 0, ATOMIC, 1): 50, (0, 900, ATOMIC, 1): 50}, {}, 0) == ()
    assert not lines.due(1 << 60)
