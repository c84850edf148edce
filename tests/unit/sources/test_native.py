"""Classification: which atomic instructions count, and how large buffers are."""

from __future__ import annotations

import ctypes
import os
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.model import ThreadState
from ftdiag.sources.kernel.memory import Mapping, read_mappings
from ftdiag.sources.kernel.perfevents import MAX_BUFFER_PAGES, REGISTERS, RawSample
from ftdiag.sources.native import classifier as native
from ftdiag.sources.native import symbols
from ftdiag.sources.native.classifier import Classifier, effective_address, spun_for
from ftdiag.sources.native.kernelsymbols import KernelSymbols
from ftdiag.sources.native.sampler import buffer_pages
from ftdiag.sources.native.sharedlines import ANYHOW_SHARE, MAX_LINES, MOST_ANYHOW, SharedLines
from ftdiag.sources.native.symbols import NOWHERE, CodeMap, Place
from ftdiag.sources.native.x86 import Operand


def registers(**values: int) -> bytes:
    """The registers of a sample."""
    names = REGISTERS[os.uname().machine]
    return struct.pack(f"={len(names)}Q", *(values.get(name, 0) for name in names))


def test_a_line_that_one_thread_uses_is_its_own() -> None:
    # GIVEN one thread that changes a place again and again
    lines = SharedLines()

    # WHEN it is asked THEN it is not shared, also later
    assert not any(lines.hit(0x1000, 1) for _ in range(10))
    lines.age()
    assert not lines.hit(0x1000, 1)


def test_a_line_that_two_threads_use_is_shared() -> None:
    # GIVEN a place of one thread
    lines = SharedLines()
    lines.hit(0x1000, 1)

    # WHEN another changes something on the same line THEN it is shared, for both
    assert lines.hit(0x1010, 2)
    assert lines.hit(0x1000, 1)
    assert not lines.hit(0x1040, 1)


def test_sharing_is_remembered_for_a_while_only() -> None:
    # GIVEN a shared line
    lines = SharedLines()
    lines.hit(0x1000, 1)
    lines.hit(0x1000, 2)

    # WHEN from then on one thread uses it THEN it is shared for one more age
    lines.age()
    assert lines.hit(0x1000, 1)
    assert lines.hit(0x1000, 1)
    lines.age()
    lines.hit(0x1000, 1)
    lines.age()
    assert not lines.hit(0x1000, 1)


def test_what_is_changed_on_a_line() -> None:
    # GIVEN a line that one thread changes
    lines = SharedLines()
    lines.hit(0x1000, 1)

    # WHEN it is asked for again and again THEN nothing is shared there until another thread has changed it
    assert [lines.changed(0x1010) for _ in range(3)] == [None] * 3
    lines.hit(0x1008, 2)
    assert lines.changed(0x1010) == 0x1008
    assert lines.changed(0x1040) is None
    lines.age()
    assert lines.changed(0x1010) == 0x1008
    lines.age()
    assert lines.changed(0x1010) is None


@pytest.mark.parametrize(("value", "near"), [(0x1008, True), (0xFF0, True), (0xFE8, False), (0x1040, False)])
def test_registers_near_a_shared_line(value: int, near: bool) -> None:
    # GIVEN a line that is shared, and one that one thread changes
    lines = SharedLines()
    name = {"x86_64": "r14"}.get(os.uname().machine, "x9")
    assert not lines.near(registers(**{name: value}))
    for tid in (1, 2):
        lines.hit(0x1000, tid)
    lines.hit(0x1040, 1)

    # WHEN a register points to it, or to an object whose count is on it, THEN that is known
    assert lines.near(registers(**{name: value})) is near
    assert not lines.near(b"")


def test_what_a_thread_has_at_such_instructions_anyhow_is_not_lost() -> None:
    # GIVEN threads that are at a line of others in one of ten samples, in one of fifty, and late
    lines = SharedLines()
    lost = dict.fromkeys((1, 2, 3), 0)
    for number in range(10_000):
        for tid, there in ((1, number % 10 == 0), (2, number % 50 == 0), (3, number >= 9_990)):
            lines.sampled(tid)
            lost[tid] += there and lines.lost(tid)

    # THEN what it would have without them is taken off, and what was not used is not kept for long
    assert lost[1] == pytest.approx(1000 - 10_000 * ANYHOW_SHARE, abs=2)
    assert lost[2] == 1  # the first
    assert lost[3] == 10 - MOST_ANYHOW


def test_two_threads_in_two_ages_share_a_line() -> None:
    # GIVEN a line that a thread used before WHEN another uses it now THEN it is shared
    lines = SharedLines()
    lines.hit(0x1000, 1)
    lines.age()
    assert lines.hit(0x1000, 2)


def test_the_number_of_lines_is_bounded() -> None:
    # GIVEN more places than are remembered WHEN they are hit
    lines = SharedLines()
    for place in range(3 * MAX_LINES):
        lines.hit(place << 6, 1)

    # THEN two ages of them are kept
    assert len(lines._young) + len(lines._old) <= 2 * MAX_LINES


def test_addresses() -> None:
    # GIVEN registers of this machine
    base, index, pc = {"x86_64": ("rax", "rcx", "rip")}.get(os.uname().machine, ("x1", "x2", "pc"))
    values = registers(**{base: 0x1000, index: 3, pc: 0x400000})

    # WHEN operands are worked out THEN they are as the processor does it
    assert effective_address(Operand(base, None, 1, 16), values) == 0x1010
    assert effective_address(Operand(base, index, 8, -8), values) == 0x1010
    assert effective_address(Operand(pc, None, 1, 0x20), values) == 0x400020
    assert effective_address(Operand(None, None, 1, 0x77), values) == 0x77
    assert effective_address(Operand("no such register", None, 1, 0x77), values) == 0x77


def test_the_mutex_that_is_spun_for_is_in_a_register_that_calls_preserve() -> None:
    # GIVEN registers while a thread yields its core
    keeps, other, scratch = {"x86_64": ("rbx", "r12", "rax")}.get(os.uname().machine, ("x19", "x20", "x1"))
    mutex = 0x7F00_0000_120A

    # WHEN they are looked at, THEN the one that can be an object's mutex is it
    assert spun_for(registers(**{keeps: mutex, other: 0x7F00_0000_1200})) == mutex
    assert spun_for(registers(**{keeps: mutex, other: mutex})) == mutex
    # WHEN none can be, or more than one, or it lies in one that calls change, THEN it is not known
    assert spun_for(registers(**{keeps: 0x7F00_0000_1208, other: 10})) is None
    assert spun_for(registers(**{keeps: mutex, other: mutex + 16})) is None
    assert spun_for(registers(**{scratch: mutex})) is None
    assert spun_for(b"") is None
    # WHEN it is one of the interpreter's own, THEN it is known by its address, whatever that looks like
    own = 0x7F00_0000_1208
    assert spun_for(registers(**{keeps: own, other: 0x7F00_0000_1300}), {own: "a lock"}) == own
    assert spun_for(registers(**{keeps: own, other: mutex}), {own: "a lock"}) is None


def test_code_that_is_mapped_nowhere_is_unknown() -> None:
    # GIVEN samples of this process, at addresses without code
    classifier = Classifier(os.getpid(), "/no/such/python", kernel=False)

    # WHEN they are judged THEN they are unknown, and that is noted
    assert classifier.judge(RawSample(1, 5, 0x10, b"")).state is ThreadState.UNKNOWN
    assert classifier.missed
    classifier.reload()
    assert not classifier.missed


def test_code_of_a_library_that_was_unloaded_is_unknown_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GIVEN samples in a library, which is unloaded meanwhile WHEN the mappings were read anew THEN what is
    sampled there is unknown, and a gap says so; it does not keep the library's name."""
    library = Mapping(0x7F00_0000_0000, 0x7F00_0001_0000, "r-xp", 0, 7, "/srv/lib/codec.so")
    other = Mapping(0x7F00_0010_0000, 0x7F00_0011_0000, "r-xp", 0, 8, "/srv/lib/other.so")
    mapped = [library, other]
    monkeypatch.setattr(symbols, "read_mappings", lambda *_, **__: list(mapped))
    classifier = Classifier(os.getpid(), "/no/such/python", kernel=False)
    sample = RawSample(1, 5, library.start + 0x100, b"")
    assert classifier.judge(sample)[2:4] == (ThreadState.WORK, "[codec.so]")
    classifier.take_unnamed()

    mapped.remove(library)
    classifier.reload()
    assert [classifier.judge(sample)[2:4] for _ in range(3)] == [(ThreadState.UNKNOWN, None)] * 3
    assert classifier.take_unnamed() == {("", NOWHERE): 3}
    assert not classifier.take_unnamed()


def test_what_a_packed_interpreter_does_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN code that is in no file WHEN the program's own file has none that is mapped, as that of one that
    unpacks itself THEN it is unknown; beside the file's own code it is what a compiler made: work."""
    made = Mapping(0x7F00_0000_0000, 0x7F00_0001_0000, "r-xp", 0, 0, "")
    for path, state in (("/srv/lib/libc.so", ThreadState.UNKNOWN), ("/srv/python", ThreadState.WORK)):
        mapped = [made, Mapping(0x7F00_0010_0000, 0x7F00_0011_0000, "r-xp", 0, 8, path)]
        monkeypatch.setattr(symbols, "read_mappings", lambda *_, mapped=mapped, **__: mapped)
        classifier = Classifier(os.getpid(), "/srv/python", kernel=False)
        assert classifier.judge(RawSample(1, 5, made.start + 0x100, b"")).state is state


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=300))
def test_any_sample_is_borne(ip: int, values: bytes) -> None:
    # GIVEN any address and registers WHEN judged
    sample = _CLASSIFIER.judge(RawSample(1, 5, ip, values))

    # THEN there is a state that a thread on a core can have
    assert sample.state in (
        ThreadState.WORK,
        ThreadState.ATOMIC,
        ThreadState.SPIN,
        ThreadState.ALLOC,
        ThreadState.GC,
        ThreadState.UNKNOWN,
    )


_CLASSIFIER = Classifier(os.getpid(), "/no/such/python", kernel=True)

LOADS = bytes.fromhex("f0480fc14710 0fb6470b a840 4889c1 c3")
"""lock xadd [rdi+16], rax; movzx eax, byte [rdi+11]; test al, 64; mov rcx, rax; ret"""
BEHIND_ATOMIC, BEHIND_LOAD, BEHIND_TEST = 6, 10, 12


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="loads are looked at on x86-64")
def test_a_load_from_a_line_that_others_change_is_contended(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN code of this process that counts references of an object, then looks at another byte of its head
    code = ctypes.create_string_buffer(LOADS, len(LOADS))
    begin, shared, own = ctypes.addressof(code), 0x7F00_0000_1000, 0x7F00_0000_2000
    place = Place("/no/such/python", "EM_X86_64", "f", begin, begin + len(LOADS))
    monkeypatch.setattr(CodeMap, "place", lambda self, ip: place)
    classifier = Classifier(os.getpid(), "/no/such/python", kernel=False)

    def judged(tid: int, behind: int, **values: int) -> tuple[ThreadState, int | None]:
        sample = classifier.judge(RawSample(tid, 0, begin + behind, registers(**values)))
        return sample.state, sample.address

    # WHEN one thread stands behind the load THEN it works
    judged(1, BEHIND_ATOMIC, rdi=shared)
    judged(1, BEHIND_ATOMIC, rdi=own)
    assert judged(1, BEHIND_LOAD, rdi=shared) == (ThreadState.WORK, None)

    # WHEN another thread counts it, too THEN whoever stands behind the load waits for that count
    assert judged(2, BEHIND_ATOMIC, rdi=shared) == (ThreadState.ATOMIC, shared + 16)
    assert judged(1, BEHIND_LOAD, rdi=shared) == (ThreadState.ATOMIC, shared + 16)
    assert judged(2, BEHIND_LOAD, rdi=shared) == (ThreadState.ATOMIC, shared + 16)
    # AND not who loads from an object of its own, or stands behind something else
    assert judged(1, BEHIND_LOAD, rdi=own, rbx=shared) == (ThreadState.WORK, None)
    assert judged(1, BEHIND_TEST, rdi=shared) == (ThreadState.WORK, None)
    assert judged(1, BEHIND_LOAD) == (ThreadState.WORK, None)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="loads are looked at on x86-64")
def test_who_waits_before_a_second_thread_is_seen_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """GIVEN samples of a window, in which the second thread is seen to count an object last WHEN they are
    judged THEN those before it that stand behind loads of the object, and its first count, are contended."""
    code = ctypes.create_string_buffer(LOADS, len(LOADS))
    begin, shared, own = ctypes.addressof(code), 0x7F00_0000_1000, 0x7F00_0000_2000
    place = Place("/no/such/python", "EM_X86_64", "f", begin, begin + len(LOADS))
    monkeypatch.setattr(CodeMap, "place", lambda self, ip: place)
    classifier = Classifier(os.getpid(), "/no/such/python", kernel=False)

    samples = [
        RawSample(tid, number, begin + behind, registers(rdi=place))
        for number, (tid, behind, place) in enumerate(
            (
                *((1, BEHIND_ATOMIC, shared), (1, BEHIND_ATOMIC, own), (1, BEHIND_LOAD, own)),
                *((1, BEHIND_LOAD, shared), (2, BEHIND_LOAD, shared), (2, BEHIND_ATOMIC, shared)),
            )
        )
    ]
    states = [sample.state for sample in classifier.judge_all(samples)]
    contended, work = ThreadState.ATOMIC, ThreadState.WORK
    assert states == [contended, work, work, contended, contended, contended]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="loads are looked at on x86-64")
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from((BEHIND_ATOMIC, BEHIND_LOAD, BEHIND_TEST, 0, 1 << 63)),
            st.sampled_from((0x7F00_0000_1000, 0x7F00_0000_2000)),
        ),
        max_size=60,
    ),
    st.integers(0, 60),
)
def test_many_samples_are_judged_as_each_alone(seen: list[tuple[int, int, int]], first: int) -> None:
    # GIVEN samples of threads at code that counts references, at code that loads, and in the kernel
    code = ctypes.create_string_buffer(LOADS, len(LOADS))
    begin = ctypes.addressof(code)
    place = Place("/no/such/python", "EM_X86_64", "f", begin, begin + len(LOADS))
    samples = [
        RawSample(tid, number, behind if behind >> 63 else begin + behind, registers(rdi=points_to))
        for number, (tid, behind, points_to) in enumerate(seen)
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CodeMap, "place", lambda self, ip: place)
        one_by_one, at_once = (Classifier(os.getpid(), "/no/such/python", kernel=False) for _ in range(2))
        # WHEN they are judged in two lots THEN all are what each is by itself once all of them were foreseen
        for lot in (samples[:first], samples[first:]):
            for sample in lot:
                one_by_one._foresee(sample)
            assert at_once.judge_all(lot) == list(map(one_by_one.judge, lot))


def test_addresses_on_pages_that_were_read_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN addresses in exported functions of the C library of this process, around borders of pages
    once, each = (Classifier(os.getpid(), "/no/such/python", kernel=False) for _ in range(2))
    mapping = next(one for one in once._code._mappings if "/libc" in one.path)
    places = range(mapping.start, mapping.end, 4096 // 8 + 1)
    borders = (border + near for border in range(mapping.start, mapping.end, 4096) for near in (0, 1, 40))
    addresses = [*places, *borders]
    monkeypatch.setattr(
        each, "_code_of_file", lambda start, end: each._memory.read_up_to(start, end - start), raising=True
    )
    read: list[int] = []
    read_memory = once._memory.read

    def note(address: int, size: int) -> bytes:
        read.append(address)
        return read_memory(address, size)

    monkeypatch.setattr(once._memory, "read", note)

    # WHEN they are judged with pages and functions remembered, and by reading around each of them
    verdicts = list(map(once._judge_user, addresses))

    # THEN they mean the same as in a classifier that knows nothing of other addresses
    for address, verdict in zip(addresses, verdicts, strict=True):
        each._functions.clear()
        each._code._places.clear()
        assert each._judge_user(address) == verdict
    assert len({verdict.symbol for verdict in verdicts}) > 20

    # AND no page was read twice
    of_files = [address for address in read if address % 4096 == 0]
    assert len(of_files) > 20
    assert len(of_files) == len(set(of_files))


def test_code_that_ends_with_its_mapping_is_read_up_to_there() -> None:
    # GIVEN code of files behind which nothing is mapped that can be read
    classifier = Classifier(os.getpid(), "/no/such/python", kernel=False)
    whole = read_mappings(os.getpid())
    starts = {one.start for one in whole if "r" in one.permissions}
    ends = [one.end for one in whole if one.is_file and "r" in one.permissions and one.end not in starts]
    assert ends

    # WHEN bytes around its end are asked for THEN those before it come
    for end in ends:
        code = classifier._code_of_file(end - 40, end + 32)
        assert code == classifier._memory.read_up_to(end - 40, 72)
        assert len(code) == 40


def test_buffers_grow_with_the_rate() -> None:
    # GIVEN rates WHEN asked THEN buffers are powers of two within bounds
    pages = [buffer_pages(rate) for rate in (1, 100, 199, 1000, 1_000_000)]
    assert pages == sorted(pages)
    assert pages[0] == 1
    assert pages[-1] == MAX_BUFFER_PAGES
    assert all(number & (number - 1) == 0 for number in pages)


def test_nobody_waits_for_the_names_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a kernel whose functions take long to read
    read = threading.Event()
    table = KernelSymbols(b"ffffffff81000000 T first\nffffffff81000100 T second\nffffffff81000200 T third\n")

    def slowly() -> KernelSymbols:
        assert read.wait(60)
        return table

    monkeypatch.setattr(native, "read_kernel_symbols", slowly)
    classifier = Classifier(os.getpid(), "/no/such/python", kernel=True)
    classifier.kernel_named = True
    classifier.begin_search()

    # WHEN a sample is judged meanwhile THEN its function has no name
    sample = RawSample(1, 0, 0xFFFFFFFF81000110, b"")
    assert classifier.judge(sample).symbol == "[kernel]"

    # AND has one when they are read
    read.set()
    assert classifier._kernel_reading is not None
    classifier._kernel_reading.join(60)
    assert classifier.judge(sample).symbol == "second [kernel]"
    assert classifier.end_search(60)
