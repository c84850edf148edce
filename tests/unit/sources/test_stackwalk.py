"""The compiled walker and the one in Python see the same, whatever the memory holds."""

from __future__ import annotations

import errno
import os
import random
from array import array
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_process import PAGE, FakeProcess
from ftdiag.errors import PermissionRefused, TargetGone
from ftdiag.model import NO_STACK, TORN_STACK
from ftdiag.sources import _tick
from ftdiag.sources.kernel.memory import ReadAlong, RemoteMemory
from ftdiag.sources.python import plainwalk, stackwalk
from ftdiag.sources.python.plainwalk import PlainWalker
from ftdiag.sources.python.stackwalk import CompiledWalker, stack_walker
from ftdiag.sources.python.walking import Exits, Meaning, PythonThread, StackWalker

BUILDS = ["3.13.0", "3.13.5t", "3.14.9t"]
BASE = 0x7F00_0000_0000
NOWHERE = 0xDEAD_0000_0000


class Meanings:
    """Numbers chains; every third has slots of `with` blocks, half of these a marked one.

    Every seventh makes no sense.
    """

    def __init__(self) -> None:
        self.chains: dict[tuple[int, ...], Meaning | None] = {}

    def __call__(self, chain: tuple[int, ...]) -> Meaning | None:
        # Both walkers ask for the same chains, but perhaps not in the same order: what is said depends on
        # the chain alone.
        number = 100 + hash(chain) % 1_000_003
        exits: Exits = ((0, 8), (len(chain) // 2 - 1, 16)) if number % 3 == 0 else ()
        marks: Exits = ((0, 24),) if number % 2 == 0 else ()
        self.chains[chain] = None if number % 7 == 0 else (number, exits, marks)
        return self.chains[chain]


@dataclass
class Seen:
    """All that a walk says of a thread."""

    stack: int
    frames: tuple[int, ...]
    chain: tuple[int, ...]
    critical_section: int
    section: int
    with_exits: tuple[int, ...]
    marked: tuple[int, ...]


class Side:
    """One of the walkers at work on a process."""

    def __init__(self, process: FakeProcess, addresses: list[int], *, compiled: bool) -> None:
        self.meanings = Meanings()
        self.walker: StackWalker = stack_walker(
            process.memory, process.layout, self.meanings, compiled=compiled
        )
        self.threads = [self.walker.thread(address, 1000, 77, 0) for address in addresses]

    def walk(
        self, beside: tuple[tuple[int, int], ...], wanted: dict[int, int]
    ) -> tuple[list[Seen], dict[int, bytes | None], int]:
        """What it says of the threads, what it took along, and how many stacks it cut."""
        along = ReadAlong()
        along.wanted.update(wanted)
        for thread in self.threads:
            thread.beside = beside
        stacks = self.walker.walk(self.threads, along)
        return (
            [seen(stack, thread) for stack, thread in zip(stacks, self.threads, strict=True)],
            along.found,
            self.walker.take_cut(),
        )


def seen(stack: int, thread: PythonThread) -> Seen:
    """What was seen of a thread; of a stack that could not be read, only that."""
    if stack == TORN_STACK:
        return Seen(stack, (), (), 0, 0, (), ())
    return Seen(
        stack,
        tuple(thread.frames),
        tuple(thread.chain),
        thread.critical_section,
        thread.section,
        tuple(thread.with_exits),
        tuple(thread.marked),
    )


def agree(process: FakeProcess, addresses: list[int], changes: list[dict[int, int]]) -> list[int]:
    """Walk with both, again after each change of words; they must agree. The stacks of the last walk."""
    plain, compiled = (Side(process, addresses, compiled=which) for which in (False, True))
    beside = ((addresses[0] + 64, 16), (NOWHERE, 8), (BASE + 8, 64))
    wanted = {BASE + PAGE: 32, NOWHERE + PAGE: 8, addresses[-1]: 8}
    stacks: list[int] = []
    for words in [{}, {}, *changes]:
        for address, value in words.items():
            process.memory.write_word(address, value)
        expected, expected_along, expected_cut = plain.walk(beside, wanted)
        found, along, cut = compiled.walk(beside, wanted)
        assert found == expected
        assert along == expected_along
        assert cut == expected_cut
        stacks = [one.stack for one in found]
    return stacks


def program(build: str, chance: random.Random) -> tuple[FakeProcess, list[int]]:
    """Threads with frames in chunks, on the C stack and in generators, as real ones have them."""
    process = FakeProcess(build)
    codes = [process.code(f"f{number}") for number in range(6)]
    addresses = []
    for _ in range(chance.randrange(1, 8)):
        chunk = frame = used = 0
        for _ in range(chance.choice((0, 1, 3, 12, 120, 300))):
            kind = chance.random()
            if kind < 0.1:
                place, owner = process.allocate(256), chance.choice((1, 3, 4))
            else:
                if not chunk or used > 16 * 1024 - 400:
                    chunk, used = process.chunk(16 * 1024, chunk), 64
                place, owner = chunk + used, 0
                used += chance.randrange(104, 320, 8)
            frame = process.frame(
                place, codes[chance.randrange(6)], previous=frame, owner=owner, unit=chance.randrange(8)
            )
        addresses.append(process.thread(frame, chunk or process.chunk()))
    if chance.random() < 0.3:
        addresses.append(process.thread(native_id=2000))
    if chance.random() < 0.3:
        addresses.append(NOWHERE)
    return process, addresses


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("seed", range(25))
def test_good_stacks(build: str, seed: int) -> None:
    # GIVEN threads as real programs have them, which push and pop frames from walk to walk
    chance = random.Random(seed)
    process, addresses = program(build, chance)
    layout = process.layout
    good = [address for address in addresses if address != NOWHERE]
    changes = []
    for _ in range(6):
        words = {}
        for address in good:
            leaf = process.memory.read_word(address + layout.thread_current_frame)
            if leaf and chance.random() < 0.5:
                words[address + layout.thread_current_frame] = process.memory.read_word(
                    leaf + layout.frame_previous
                )
        changes.append(words)
    # WHEN both walk them, THEN they say the same
    agree(process, addresses, changes)


@given(st.sampled_from(BUILDS), st.integers(0, 1 << 30), st.data())
@settings(max_examples=150, deadline=None)
def test_overwritten_words(build: str, seed: int, data: st.DataObject) -> None:
    # GIVEN words of a good process that point elsewhere, or are numbers of any size
    chance = random.Random(seed)
    process, addresses = program(build, chance)
    span = process._next - BASE
    word = st.one_of(
        st.integers(0, (1 << 64) - 1),
        st.integers(0, span // 8).map(lambda place: BASE + 8 * place),
        st.integers(0, 64),
        st.just((1 << 63) - 8),
    )
    place = st.integers(0, span // 8).map(lambda number: BASE + 8 * number)
    changes = data.draw(st.lists(st.dictionaries(place, word, max_size=20), max_size=4))
    # THEN both walkers say the same of it
    agree(process, addresses, changes)


@pytest.mark.parametrize("seed", range(20))
def test_pages_that_come_and_go(seed: int) -> None:
    # GIVEN a process of which pages are not readable, others at every walk
    chance = random.Random(seed)
    process, addresses = program(chance.choice(BUILDS), chance)
    plain, compiled = (Side(process, addresses, compiled=which) for which in (False, True))
    whole = dict(process.memory.pages)
    for _ in range(8):
        process.memory.pages = {
            page: data for page, data in whole.items() if chance.random() < chance.choice((1.0, 0.9))
        }
        # THEN both walkers say the same of it
        assert compiled.walk((), {BASE: 8}) == plain.walk((), {BASE: 8})


def test_more_threads_than_fit_into_one_call() -> None:
    # GIVEN so many threads that it takes several calls
    process = FakeProcess("3.14.9t")
    code = process.code("work")
    addresses = []
    for _ in range(1500):
        chunk = process.chunk(1024)
        addresses.append(process.thread(process.frame(chunk + 64, code), chunk))
    # THEN both walkers say the same of them, and nothing is torn
    stacks = agree(process, addresses, [])
    assert len(stacks) == 1500
    assert len(set(stacks)) == 1


def test_calls_of_a_walk() -> None:
    # GIVEN 40 threads that were walked before
    process = FakeProcess("3.14.9t")
    addresses = [process.thread(*process.stack([f"f{n}", "g"])) for n in range(40)]
    side = Side(process, addresses, compiled=True)
    side.walk((), {})
    # WHEN they are walked again, THEN it takes one call, and seven more for those that make no sense
    process.memory.calls = 0
    torn = sum(one.stack == TORN_STACK for one in side.walk((), {})[0])
    assert process.memory.calls == (8 if torn else 1)


def test_a_real_process_of_our_own() -> None:
    # GIVEN a thread state and a chunk in the memory of this process
    layout = FakeProcess("3.14.9t").layout
    block = array("B", bytes(1 << 16))
    base = block.buffer_info()[0] + 7 & ~7
    shift = base - block.buffer_info()[0]

    def write(address: int, value: int) -> None:
        block[address - base + shift : address - base + shift + 8] = array("B", value.to_bytes(8, "little"))

    chunk, frame, code = base + 4096, base + 4096 + 64, base + 32768
    write(base + layout.thread_native_id, 5)
    write(base + layout.thread_current_frame, frame)
    write(base + layout.thread_datastack_chunk, chunk)
    write(chunk + 8, 16 * 1024)
    write(frame + layout.frame_executable, code)
    write(frame + layout.frame_instr_ptr, code + 10)
    for which in (PlainWalker, CompiledWalker):
        # WHEN it is walked through the kernel, THEN its chain is there
        chains: list[tuple[int, ...]] = []

        def resolve(chain: tuple[int, ...], chains: list[tuple[int, ...]] = chains) -> Meaning:
            chains.append(chain)
            return 100, ((0, 0),), ()

        walker = which(RemoteMemory(os.getpid()), layout, resolve)
        thread = walker.thread(base, 5, 1, 0)
        assert [walker.walk([thread]) for _ in range(3)] == [[100]] * 3
        assert chains == [(code, code + 10)]
        assert tuple(thread.with_exits) == (
            int.from_bytes(block[frame - base + shift : frame - base + shift + 8], "little"),
        )
        # AND what it means is asked anew when it was told to forget
        walker.forget()
        assert walker.walk([thread]) == [100]
        assert len(chains) == 2
        assert walker.walk([walker.thread(base, 6, 1, 0)]) == [TORN_STACK]
        write(base + layout.thread_current_frame, 0)
        assert walker.walk([thread]) == [NO_STACK]
        write(base + layout.thread_current_frame, frame)


def test_a_process_that_is_gone() -> None:
    # GIVEN a process that ended
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    layout = FakeProcess("3.14.9t").layout
    for which in (PlainWalker, CompiledWalker):
        walker = which(RemoteMemory(pid), layout, lambda chain: None)
        # WHEN it is walked, THEN that is said
        with pytest.raises(TargetGone):
            walker.walk([walker.thread(4096, 1, 1, 0)])


def test_the_kernel_refuses() -> None:
    # GIVEN error numbers of a read, THEN they are what they mean
    memory = RemoteMemory(os.getpid())
    with pytest.raises(PermissionRefused):
        memory.refused(errno.EPERM)
    with pytest.raises(TargetGone):
        memory.refused(errno.ESRCH)
    memory.refused(errno.EFAULT)


def test_what_resolve_raises_comes_through() -> None:
    # GIVEN a walker that is told nonsense of a chain, or nothing but an error
    process = FakeProcess("3.14.9t")
    address = process.thread(*process.stack(["main"]))

    def fail(chain: tuple[int, ...]) -> Meaning | None:
        raise KeyError("no")

    def nonsense(chain: tuple[int, ...]) -> Meaning | None:
        return 1, 2, 3  # type: ignore[return-value]

    walker = CompiledWalker(process.memory, process.layout, fail)
    for _ in range(2):
        with pytest.raises(KeyError):
            walker.walk([walker.thread(address, 1000, 77, 0)])
    walker = CompiledWalker(process.memory, process.layout, nonsense)
    with pytest.raises(TypeError):
        walker.walk([walker.thread(address, 1000, 77, 0)])


def test_wrong_arguments() -> None:
    # GIVEN arguments of other kinds, THEN they are refused, and nothing is read
    process = FakeProcess("3.14.9t")
    walker = CompiledWalker(process.memory, process.layout, lambda chain: None)
    with pytest.raises(TypeError):
        walker.walk([object()])  # type: ignore[list-item]
    thread = walker.thread(1, 1, 1, 0)
    for beside in (None, [(4096, 8)], tuple((4096, 8) for _ in range(9))):
        with pytest.raises(TypeError):
            thread.beside = beside  # type: ignore[assignment]
    for pairs in (((1,),), (1,), (("a", "b"),)):
        thread.beside = pairs  # type: ignore[assignment]
        with pytest.raises(TypeError):
            walker.walk([thread], ReadAlong())
    with pytest.raises(ValueError, match="out of all bounds"):
        _tick.Walker(1, None, lambda chain: None, (1 << 40, 0, 0, 0), (0, 0, 0, 0), 3, 0, 1)


def test_without_the_compiled_part(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an installation in which it could not be built
    process = FakeProcess("3.14.9t")
    monkeypatch.setattr(stackwalk, "COMPILED", False)
    # THEN the plain walker is taken, and asking for the other is an error
    walker = stack_walker(process.memory, process.layout, lambda chain: None)
    assert not walker.compiled
    with pytest.raises(ImportError):
        stack_walker(process.memory, process.layout, lambda chain: None, compiled=True)


@pytest.mark.parametrize("compiled", [False, True], ids=["in Python", "in C"])
def test_a_walk_costs_no_more_than_it_may(compiled: bool) -> None:
    # GIVEN threads with deep stacks of which each frame lies elsewhere, so that each takes a read of its own
    process = FakeProcess("3.14.9t")
    code = process.code("f")
    frame = 0
    for _ in range(3000):
        frame = process.frame(process.allocate(4096), code, previous=frame, owner=1, unit=0)
    addresses = [process.thread(frame, process.chunk()) for _ in range(60)]
    side = Side(process, addresses, compiled=compiled)

    # WHEN they are walked
    stacks = side.walker.walk(side.threads)

    # THEN so many are as the work allows, the others are torn, and counted
    each = 3000 * (plainwalk.READ_WORK + plainwalk.FRAME_WORK)
    walked = sum(stack != TORN_STACK for stack in stacks)
    assert 0 < walked <= plainwalk.MAX_WORK // each + 1
    assert side.walker.take_given_up() == len(stacks) - walked
    assert side.walker.take_given_up() == 0
    # AND the next walk has as much to spend
    assert side.walker.walk(side.threads[:2]) == stacks[:2]
    assert side.walker.take_given_up() == 0
