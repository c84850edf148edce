"""Stacks, threads and names out of memory that may hold anything."""

from __future__ import annotations

import random
import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_process import PAGE, FakeProcess, Sink
from ftdiag.errors import MemoryReadError, TargetGone
from ftdiag.model import NO_STACK, TORN_STACK, Frame
from ftdiag.recording import schema
from ftdiag.sources import _tick
from ftdiag.sources.kernel.memory import ReadAlong
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.interpreterstates import MAX_INTERPRETERS
from ftdiag.sources.python.plainwalk import PlainThread
from ftdiag.sources.python.walking import MAX_STACK_DEPTH, PythonThread

WALKERS = ["plain", "compiled"]
BUILDS = ["3.13.0", "3.13.5t", "3.14.9t"]
NOWHERE = 0xDEAD_0000_0000


@pytest.fixture(params=[(build, walker) for build in BUILDS for walker in WALKERS], ids="-".join)
def process(request: pytest.FixtureRequest) -> FakeProcess:
    """A process of each layout, for each of the walkers."""
    build, walker = request.param
    process = FakeProcess(build)
    process.compiled = walker == "compiled"
    return process


def reader(process: FakeProcess) -> tuple[InterpreterReader, Sink]:
    """A reader of it, and where its frames go."""
    sink = Sink()
    return InterpreterReader(process.memory, process.runtime, sink, compiled=process.compiled), sink


def wanting(*ranges: tuple[int, int]) -> ReadAlong:
    """What is to be read along."""
    along = ReadAlong()
    for address, size in ranges:
        along.want(address, size)
    return along


def python_thread(process: FakeProcess, address: int, native_id: int = 1000) -> PythonThread:
    """As the list of threads would give it."""
    if process.compiled:
        return _tick.Thread(address, native_id, 77, 0)
    return PlainThread(address, native_id, 77, 0)


# --- stacks ---


def test_stack_with_lines(process: FakeProcess) -> None:
    # GIVEN a thread in three functions, each at the sixth unit of code that begins at line 10
    leaf, chunk = process.stack(["main", "outer", "inner"])
    thread = python_thread(process, process.thread(leaf, chunk))
    interpreter, sink = reader(process)

    # WHEN it is walked, also again with what the first walk learned
    stacks = interpreter.walk([thread]) + interpreter.walk([thread])

    # THEN it is one stack, root first, with its lines
    assert len(set(stacks)) == 1
    assert sink.stacks[stacks[0]] == tuple(
        Frame("/app/work.py", name, 15) for name in ("main", "outer", "inner")
    )
    assert (interpreter.walked, interpreter.torn) == (2, 0)


def test_frames_on_the_c_stack_are_no_frames(process: FakeProcess) -> None:
    # GIVEN an entry frame of the interpreter below the Python frame, elsewhere in memory
    entry = process.frame(process.allocate(128), 0, owner=3)
    chunk = process.chunk()
    leaf = process.frame(chunk + 64, process.code("work"), previous=entry)

    # WHEN it is walked, THEN only the Python frame is there
    interpreter, sink = reader(process)
    (stack,) = interpreter.walk([python_thread(process, process.thread(leaf, chunk))])
    assert sink.names(stack) == ["work"]


@pytest.mark.parametrize("tag", range(8))
def test_tagged_code_references(process: FakeProcess, tag: int) -> None:
    # GIVEN a frame whose reference to its code has any low bits set
    chunk = process.chunk()
    leaf = process.frame(chunk + 64, process.code("work"), tag=tag)

    # WHEN it is walked, THEN they are ignored
    interpreter, sink = reader(process)
    (stack,) = interpreter.walk([python_thread(process, process.thread(leaf, chunk))])
    assert sink.names(stack) == ["work"]


def test_frames_over_several_chunks(process: FakeProcess) -> None:
    # GIVEN a deep recursion whose frames fill three chunks
    code = process.code("deep")
    frame, previous_chunk, expected = 0, 0, 0
    for _ in range(3):
        chunk = process.chunk(16 * 1024, previous_chunk)
        for place in range(chunk + 64, chunk + 16 * 1024 - 256, 160):
            frame = process.frame(place, code, previous=frame, unit=3)
            expected += 1
        previous_chunk = chunk
    thread = python_thread(process, process.thread(frame, previous_chunk))

    # WHEN it is walked twice, THEN all of it is there, and the memory read is not much more than it
    interpreter, sink = reader(process)
    for _ in range(2):
        (stack,) = interpreter.walk([thread])
        assert len(sink.stacks[stack]) == expected
    assert process.memory.transferred < 8 * 3 * 16 * 1024


def test_many_frames_elsewhere(process: FakeProcess) -> None:
    # GIVEN a chain of generators, whose frames lie in objects of their own
    code = process.code("produce")
    frame = 0
    for _ in range(200):
        frame = process.frame(process.allocate(256), code, previous=frame, owner=1)

    # WHEN it is walked with many other threads, THEN all frames are there
    address = process.thread(frame, process.chunk())
    threads = [python_thread(process, address) for _ in range(80)]
    interpreter, sink = reader(process)
    for _ in range(2):
        for stack in interpreter.walk(threads):
            assert len(sink.stacks[stack]) == 200


def test_ranges_are_read_along_with_stacks(process: FakeProcess) -> None:
    # GIVEN a thread, and two ranges elsewhere in memory, one of which belongs to the thread
    interpreter, sink = reader(process)
    chunk = process.chunk()
    thread = python_thread(process, process.thread(process.frame(chunk + 64, process.code("work")), chunk))
    one, two = process.put(b"first"), process.put(b"second")
    assert sink.names(interpreter.walk([thread])[0]) == ["work"]
    calls = process.memory.calls

    # WHEN they are to be read along, THEN they are, in the one system call that reads the stack
    thread.beside = ((two, 6),)
    along = wanting((one, 5))
    assert sink.names(interpreter.walk([thread], along)[0]) == ["work"]
    assert along.found == {one: b"first", two: b"second"}
    assert process.memory.calls == calls + 1

    # AND where one of them cannot be read, the stack and the other one still are
    thread.beside = ((two, 6), (NOWHERE, 8))
    assert sink.names(interpreter.walk([thread], along := wanting((one, 5), (NOWHERE + PAGE, 4)))[0]) == [
        "work"
    ]
    assert along.found == {one: b"first", two: b"second", NOWHERE: None, NOWHERE + PAGE: None}

    # AND without threads, they are read alone
    along = wanting((one, 2), (one, 5))
    interpreter.walk([], along)
    assert along.found == {one: b"first"}

    # AND nothing is where nothing is to be taken along
    assert sink.names(interpreter.walk([thread])[0]) == ["work"]


def test_what_lies_beside_a_thread_is_of_the_moment_of_its_stack(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a thread whose frames must be read twice, because they lie where they did not before
    interpreter, sink = reader(process)
    entry = process.put(b"\x01")
    frame = process.frame(process.allocate(256), process.code("produce"), owner=1)
    thread = python_thread(process, process.thread(frame, process.chunk()))
    thread.beside = ((entry, 1),)
    transfer = process.memory._transfer
    reads = []

    def changing(*arguments: Any) -> int:
        reads.append(transfer(*arguments))
        process.memory.write(entry, bytes([len(reads) + 1]))  # the target goes on
        return reads[-1]

    monkeypatch.setattr(process.memory, "_transfer", changing)
    # WHEN it is walked, THEN what lies beside it is what was read with the stack that counts
    along = ReadAlong()
    assert sink.names(interpreter.walk([thread], along)[0]) == ["produce"]
    read_at = along.found[entry]
    assert read_at is not None
    assert read_at[0] > 1
    assert not thread.late


def test_frames_elsewhere_are_expected_back(process: FakeProcess) -> None:
    # GIVEN a thread that goes back and forth between two generators
    interpreter, sink = reader(process)
    code = process.code("produce")
    frames = [process.frame(process.allocate(256), code, owner=1) for _ in range(2)]
    thread = python_thread(process, process.thread(frames[0], process.chunk()))
    current = thread.address + process.layout.thread_current_frame
    late = []
    for number in range(6):
        process.memory.write_word(current, frames[number % 2])
        calls = process.memory.calls
        # WHEN it is walked, THEN it is where it is
        assert sink.names(interpreter.walk([thread])[0]) == ["produce"]
        assert thread.elsewhere == (frames[number % 2],)
        late.append(process.memory.calls - calls > 1)
    # AND only the first time in each took more than one read
    assert late == [True, True, False, False, False, False]


def test_thread_without_frames(process: FakeProcess) -> None:
    # GIVEN a thread that runs no Python, one whose state is gone, one that is another's by now
    interpreter, _ = reader(process)
    idle = python_thread(process, process.thread())
    gone = python_thread(process, NOWHERE)
    other = python_thread(process, process.thread(native_id=2000))

    # WHEN they are walked, THEN the first has no stack, and the others are torn
    assert interpreter.walk([idle]) == [NO_STACK]
    assert interpreter.walk([idle, gone, other]) == [NO_STACK, TORN_STACK, TORN_STACK]
    assert interpreter.walk([]) == []


@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_cyclic_chain_is_torn(process: FakeProcess, length: int) -> None:
    # GIVEN frames that come back to the first of them
    code = process.code("work")
    chunk = process.chunk(256 * 1024)
    places = [chunk + 64 + 160 * number for number in range(length)]
    for number, place in enumerate(places):
        process.frame(place, code, previous=places[number - 1])
    thread = python_thread(process, process.thread(places[-1], chunk))

    # WHEN it is walked, THEN it is torn, in bounded time
    interpreter, _ = reader(process)
    assert interpreter.walk([thread]) == [TORN_STACK]
    assert interpreter.torn == 1
    assert process.memory.calls < 3 * MAX_STACK_DEPTH


def test_cycle_through_frames_elsewhere_is_torn(process: FakeProcess) -> None:
    # GIVEN two frames outside the data stack that name each other
    code = process.code("work")
    one, two = process.allocate(256), process.allocate(256)
    process.frame(one, code, previous=two, owner=1)
    process.frame(two, code, previous=one, owner=1)

    # WHEN it is walked, THEN it is torn
    interpreter, _ = reader(process)
    assert interpreter.walk([python_thread(process, process.thread(one, process.chunk()))]) == [TORN_STACK]


def test_very_deep_stack_keeps_its_leaf(process: FakeProcess) -> None:
    # GIVEN a recursion deeper than is followed
    code, top = process.code("deep"), process.code("leaf")
    chunk = process.chunk(160 * (MAX_STACK_DEPTH + 1200))
    frame = 0
    for number in range(MAX_STACK_DEPTH + 1000):
        frame = process.frame(chunk + 64 + 160 * number, code, previous=frame)
    frame = process.frame(chunk + 64 + 160 * (MAX_STACK_DEPTH + 1000), top, previous=frame)

    # WHEN it is walked, THEN the root is cut off, not the leaf
    interpreter, sink = reader(process)
    (stack,) = interpreter.walk([python_thread(process, process.thread(frame, chunk))])
    assert sink.names(stack)[-1] == "leaf"
    assert len(sink.stacks[stack]) == MAX_STACK_DEPTH <= schema.MAX_STACK_DEPTH
    assert interpreter.cut >= 1


@pytest.mark.parametrize("what", ["previous", "code", "chunk", "frame", "instruction", "owner"])
def test_dangling_pointer_is_torn(process: FakeProcess, what: str) -> None:
    # GIVEN a stack in which one pointer leads nowhere
    layout, memory = process.layout, process.memory
    leaf, chunk = process.stack(["main", "work"])
    thread = process.thread(leaf, chunk)
    match what:
        case "previous":
            memory.write_word(leaf + layout.frame_previous, NOWHERE)
        case "code":
            memory.write_word(leaf + layout.frame_executable, NOWHERE)
        case "chunk":
            memory.write_word(thread + layout.thread_datastack_chunk, NOWHERE)
        case "frame":
            memory.write_word(thread + layout.thread_current_frame, NOWHERE)
        case "instruction":
            memory.write_word(leaf + layout.frame_instr_ptr, NOWHERE)
        case "owner":
            memory.write(leaf + layout.frame_owner, b"\x77")

    # WHEN it is walked, THEN it is torn; but frames can be read without their chunk
    interpreter, sink = reader(process)
    (stack,) = interpreter.walk([python_thread(process, thread)])
    if what == "chunk":
        assert sink.names(stack) == ["main", "work"]
    else:
        assert stack == TORN_STACK


def test_code_of_another_type_is_torn(process: FakeProcess) -> None:
    # GIVEN frames whose executable is a str, a dict, or the null object
    for wrong in (process.string("no code " * 60), process.dict({}), 0):
        chunk = process.chunk()
        leaf = process.frame(chunk + 64, wrong)

        # WHEN they are walked, THEN they are torn
        interpreter, _ = reader(process)
        assert interpreter.walk([python_thread(process, process.thread(leaf, chunk))]) == [TORN_STACK]


@pytest.mark.parametrize("units", [0, 1 << 30, (1 << 64) - 1])
def test_code_of_impossible_size_is_torn(process: FakeProcess, units: int) -> None:
    # GIVEN a code object that claims a size no code has
    chunk = process.chunk()
    code = process.code()
    process.memory.write_word(code + process.layout.code_units, units)
    leaf = process.frame(chunk + 64, code)

    # WHEN it is walked, THEN it is torn
    interpreter, _ = reader(process)
    assert interpreter.walk([python_thread(process, process.thread(leaf, chunk))]) == [TORN_STACK]


@pytest.mark.parametrize("size", [0, 23, 1 << 40, (1 << 64) - 1])
def test_chunk_of_impossible_size(process: FakeProcess, size: int) -> None:
    # GIVEN a data stack chunk that claims a size no chunk has
    leaf, chunk = process.stack(["main", "work"])
    process.memory.write_word(chunk + 8, size)

    # WHEN it is walked, THEN the frames are read one by one, or it is torn, and no memory is wasted
    interpreter, sink = reader(process)
    (stack,) = interpreter.walk([python_thread(process, process.thread(leaf, chunk))])
    assert stack == TORN_STACK or sink.names(stack) == ["main", "work"]
    assert process.memory.transferred < 1 << 20


def test_cyclic_chunks_end(process: FakeProcess) -> None:
    # GIVEN chunks that name each other, and a frame in neither
    one = process.chunk()
    two = process.chunk(previous=one)
    process.memory.write_word(one, two)
    interpreter, _ = reader(process)

    # WHEN a thread there is walked, THEN it is torn
    assert interpreter.walk([python_thread(process, process.thread(NOWHERE, two))]) == [TORN_STACK]


def test_address_of_freed_code_is_used_again(process: FakeProcess) -> None:
    # GIVEN a code object that was seen, and another one that took its place
    chunk = process.chunk()
    code = process.code("before", units=50)
    leaf = process.frame(chunk + 64, code, unit=5)
    thread = python_thread(process, process.thread(leaf, chunk))
    interpreter, sink = reader(process)
    assert sink.names(interpreter.walk([thread])[0]) == ["before"]
    after = process.code("after", units=50)
    process.memory.write(code, process.memory.read(after, process.layout.code_bytecode + 100))

    # WHEN the codes are checked, THEN the new name is seen from then on
    assert interpreter.recheck_codes() == 1
    assert sink.names(interpreter.walk([thread])[0]) == ["after"]
    assert interpreter.recheck_codes() == 0


def test_thread_local_bytecode() -> None:
    # GIVEN code of 3.14t with copies of its bytecode for two threads, at index 1 and 2
    process = FakeProcess("3.14.9t")
    layout = process.layout
    code = process.code("work", units=50)
    copies = [process.allocate(100), process.allocate(100)]
    table = process.put(struct.pack("<4Q", 3, code + layout.code_bytecode, *copies))
    assert layout.code_tlbc is not None
    process.memory.write_word(code + layout.code_tlbc, table)
    interpreter, sink = reader(process)

    for unit, start in enumerate([code + layout.code_bytecode, *copies], start=7):
        # WHEN a frame runs any of them
        chunk = process.chunk()
        leaf = process.frame(chunk + 64, code)
        process.memory.write_word(leaf + layout.frame_instr_ptr, start + 2 * unit)
        (stack,) = interpreter.walk([python_thread(process, process.thread(leaf, chunk))])

        # THEN its line is right
        assert sink.stacks[stack] == (Frame("/app/work.py", "work", 10 + unit),)

    # AND what a place means is found out once, whoever's copy it is in
    before = len(sink.frames)
    chunk = process.chunk()
    leaf = process.frame(chunk + 64, code)
    for start in (code + layout.code_bytecode, *copies):
        process.memory.write_word(leaf + layout.frame_instr_ptr, start + 2 * 20)
        (stack,) = interpreter.walk([python_thread(process, process.thread(leaf, chunk))])
        assert sink.stacks[stack] == (Frame("/app/work.py", "work", 30),)
    assert len(sink.frames) == before + 1


@pytest.mark.parametrize("size", [0, 1 << 40, (1 << 64) - 1])
def test_thread_local_bytecode_of_impossible_size_is_torn(size: int) -> None:
    # GIVEN a table of copies that claims a size it cannot have
    process = FakeProcess("3.14.9t")
    layout = process.layout
    code = process.code("work")
    assert layout.code_tlbc is not None
    process.memory.write_word(code + layout.code_tlbc, process.put(struct.pack("<2Q", size, 0)))
    chunk = process.chunk()
    leaf = process.frame(chunk + 64, code)
    process.memory.write_word(leaf + layout.frame_instr_ptr, process.allocate(100))

    # WHEN it is walked, THEN it is torn
    interpreter, _ = reader(process)
    assert interpreter.walk([python_thread(process, process.thread(leaf, chunk))]) == [TORN_STACK]


# --- threads, interpreters, names ---


def test_threads_of_all_interpreters(process: FakeProcess) -> None:
    # GIVEN two interpreters with two threads and one, and one thread that has not begun
    first = process.thread(native_id=11, following=process.thread(native_id=12))
    process.interpreter(first, number=0)
    process.interpreter(process.thread(native_id=0, following=process.thread(native_id=21)), number=1)

    # WHEN they are listed, THEN those that have begun are there
    interpreter, _ = reader(process)
    found = interpreter.threads()
    assert sorted((thread.native_id, thread.interpreter) for thread in found) == [(11, 0), (12, 0), (21, 1)]


def test_cyclic_lists_of_threads_and_interpreters_end(process: FakeProcess) -> None:
    # GIVEN a thread and an interpreter that follow themselves
    thread = process.thread(native_id=11)
    process.memory.write_word(thread + process.layout.thread_next, thread)
    one = process.interpreter(thread)
    process.memory.write_word(one + process.layout.interpreter_next, one)

    # WHEN they are listed, THEN each is there once
    interpreter, _ = reader(process)
    assert len(interpreter.interpreters()) == 1
    assert len(interpreter.threads()) == 1


def test_very_many_interpreters_are_bounded() -> None:
    # GIVEN memory in which every interpreter has a next one
    process = FakeProcess()
    layout = process.layout
    base = 0x5000_0000_0000
    size = 32 * 1024
    head = process.runtime_address + layout.runtime_interpreters_head
    process.memory.write_word(head, base)
    for number in range(MAX_INTERPRETERS + 50):
        address = base + number * size
        process.memory.write_word(address + layout.interpreter_id, number)
        process.memory.write_word(address + layout.interpreter_next, address + size)
        process.memory.write_word(address + layout.interpreter_threads_head, 0)

    # WHEN they are listed, THEN there is an end
    interpreter, _ = reader(process)
    assert len(interpreter.interpreters()) == MAX_INTERPRETERS


def test_unreadable_interpreters(process: FakeProcess) -> None:
    # GIVEN a list head that leads nowhere, and then none at all
    interpreter, _ = reader(process)
    head = process.runtime_address + process.layout.runtime_interpreters_head
    process.memory.write_word(head, NOWHERE)

    # WHEN threads are listed, THEN there are none, and no error
    assert interpreter.threads() == []
    process.memory.write_word(head, 0)
    assert interpreter.finalizing()
    process.memory.pages.clear()
    with pytest.raises(MemoryReadError):
        interpreter.threads()
    assert interpreter.finalizing()


def named_process(build: str = "3.13.5t") -> FakeProcess:
    """A process whose `threading` module knows two threads: one good, one with a broken name."""
    process = FakeProcess(build)
    process.type("Thread", 1 << 4 | 1 << 9)
    threads = {}
    for ident, name in ((0x7F00_1000, process.string("Wörker-1")), (0x7F00_2000, NOWHERE)):
        thread = process.object("Thread", 512)
        process.memory.write_word(
            thread + process.layout.managed_dict, process.dict({process.string("_name"): name})
        )
        threads[process.integer(ident)] = thread
    module = process.object("module", 256)
    process.memory.write_word(
        module + process.layout.object_size, process.dict({process.string("_active"): process.dict(threads)})
    )
    modules = process.dict({process.string("sys"): module, process.string("threading"): module})
    leaf, chunk = process.stack(["main", "work", "inner"])
    process.interpreter(process.thread(leaf, chunk), modules=modules)
    return process


@pytest.mark.parametrize("build", BUILDS)
def test_thread_names(build: str) -> None:
    # GIVEN a process whose threads have names
    interpreter, _ = reader(named_process(build))

    # WHEN they are read, THEN the good one is there, and the broken one missing
    assert interpreter.thread_names() == {0x7F00_1000: "Wörker-1"}


def test_names_without_threading_module(process: FakeProcess) -> None:
    # GIVEN an interpreter that has not imported it, and one without modules
    process.interpreter(modules=process.dict({process.string("sys"): NOWHERE}))
    process.interpreter()

    # WHEN names are read, THEN there are none
    assert reader(process)[0].thread_names() == {}


def test_gil(process: FakeProcess) -> None:
    # GIVEN a main interpreter, listed after another one
    main = process.interpreter(number=0)
    process.interpreter(number=1)
    interpreter, _ = reader(process)

    # WHEN its GIL is asked for, THEN a free-threaded build says what is set, any other that it is on
    offset = process.layout.interpreter_gil_enabled
    if offset is None:
        assert interpreter.gil_enabled() is True
        return
    assert interpreter.gil_enabled() is False
    process.memory.write(main + offset, b"\x01\0\0\0")
    assert interpreter.gil_enabled() is True


def test_process_that_ended(process: FakeProcess) -> None:
    # GIVEN a reader of a process that ends
    thread = python_thread(process, process.thread(*process.stack(["main"])))
    interpreter, _ = reader(process)
    process.memory.gone = True

    # WHEN anything is read, THEN that is said
    for act in (
        interpreter.threads,
        interpreter.thread_names,
        lambda: interpreter.walk([thread]),
    ):
        with pytest.raises(TargetGone):
            act()


# --- anything at all ---


def read_everything(process: FakeProcess) -> None:
    """All that the sampler asks for, twice, as it would; raises what it would meet."""
    interpreter, sink = reader(process)
    for _ in range(2):  # the second time it is known where frames were
        try:
            threads = interpreter.threads()
        except MemoryReadError:
            threads = []
        threads.append(python_thread(process, NOWHERE))
        stacks = interpreter.walk(threads[:200])
        assert all(stack in (NO_STACK, TORN_STACK) or stack in sink.stacks for stack in stacks)
        assert all(len(stack) <= MAX_STACK_DEPTH + 1 for stack in sink.stacks.values())
        for act in (interpreter.thread_names, interpreter.gil_enabled, interpreter.recheck_codes):
            try:
                act()
            except MemoryReadError:
                pass


@given(st.sampled_from(BUILDS), st.data())
@settings(max_examples=150)
def test_overwritten_words_never_raise(build: str, data: st.DataObject) -> None:
    # GIVEN a good process in which some words point elsewhere, or are numbers of any size
    process = named_process(build)
    span = process._next - 0x7F00_0000_0000
    word = st.one_of(
        st.integers(0, (1 << 64) - 1),
        st.integers(0, span // 8).map(lambda place: 0x7F00_0000_0000 + 8 * place),
        st.integers(0, 64),
    )
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, span // 8), word), max_size=30)):
        process.memory.write_word(0x7F00_0000_0000 + 8 * place, value)

    # WHEN everything is read, THEN nothing is raised, and not much is read
    for process.compiled in (False, True):
        read_everything(process)
    assert process.memory.transferred < 256 << 20


@pytest.mark.parametrize("seed", range(12))
def test_memory_full_of_pointers_into_itself(seed: int) -> None:
    # GIVEN a process in which every second word of its objects is some other object's address
    chance = random.Random(seed)
    process = named_process(chance.choice(BUILDS))
    first = 0x7F00_0000_0000 + 2 * PAGE
    for place in range(first, process._next, 8):
        if chance.random() < chance.choice((0.02, 0.5)):
            process.memory.write_word(place, chance.randrange(first, process._next) & -8)

    # WHEN everything is read, THEN it ends, soon
    start = time.process_time()
    for process.compiled in (False, True):
        read_everything(process)
    assert time.process_time() - start < 20


@pytest.mark.parametrize("seed", range(6))
def test_missing_pages_never_raise(seed: int) -> None:
    # GIVEN a process of which many pages are not readable
    chance = random.Random(seed)
    process = named_process(chance.choice(BUILDS))
    for page in list(process.memory.pages):
        if chance.random() < 0.2:
            del process.memory.pages[page]

    # WHEN everything is read, THEN nothing is raised
    for process.compiled in (False, True):
        read_everything(process)
