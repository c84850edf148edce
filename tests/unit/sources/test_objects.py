"""Objects in somebody else's memory: right ones are read right, wrong ones are refused, fast."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_process import PAGE, FakeProcess
from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.objects import (
    MAX_BYTES_OBJECT,
    MAX_STRING_CHARACTERS,
    NotAnObject,
    ObjectReader,
)

BUILDS = ["3.13.0", "3.13.5t", "3.14.9t"]
NOWHERE = 0xDEAD_0000_0000


@pytest.fixture(params=BUILDS)
def process(request: pytest.FixtureRequest) -> FakeProcess:
    """A process of each layout."""
    return FakeProcess(request.param)


def reader(process: FakeProcess) -> ObjectReader:
    """What reads it."""
    return ObjectReader(process.memory, process.layout)


@pytest.mark.parametrize(
    "value", ["", "x", "run", "é" * 300, "日本語" * 100, "🧵 thread", "a" * 4000, "\x00\x1b[31m", "z" * 64]
)
def test_strings_of_all_kinds(process: FakeProcess, value: str) -> None:
    # GIVEN a str, WHEN it is read, THEN it is the same
    assert reader(process).string(process.string(value)) == value


def test_long_string_is_cut(process: FakeProcess) -> None:
    # GIVEN a str of five thousand characters
    address = process.string("abcde" * 1000)

    # WHEN it is read, THEN the beginning is kept
    assert reader(process).string(address) == ("abcde" * 1000)[:MAX_STRING_CHARACTERS]


def test_string_at_the_end_of_what_is_mapped(process: FakeProcess) -> None:
    # GIVEN a short str whose page is the last that is readable
    layout = process.layout
    source = process.string("end")
    size = layout.unicode_compact_data + 8
    place = 0x7E00_0000_0000 + PAGE - size
    process.memory.write(place, process.memory.read(source, size))

    # WHEN it is read, THEN the missing page behind it does no harm
    assert reader(process).string(place) == "end"


@pytest.mark.parametrize(("kind", "length"), [(0, 3), (3, 3), (7, 3), (1, 1 << 60), (2, (1 << 64) - 1)])
def test_impossible_strings_are_refused(process: FakeProcess, kind: int, length: int) -> None:
    # GIVEN a str of no kind, or of a length that no memory has
    address = process.string("abc", kind=kind, length=length)

    # WHEN it is read, THEN it is refused
    with pytest.raises(NotAnObject):
        reader(process).string(address)


def test_lone_surrogates_do_not_raise(process: FakeProcess) -> None:
    # GIVEN a str that no encoding can say
    address = process.string("a\ud800b")

    # WHEN it is read, THEN something printable comes
    assert reader(process).string(address)[0] == "a"


def test_another_type_is_not_a_string(process: FakeProcess) -> None:
    # GIVEN objects of other types
    # WHEN they are taken for a str, bytes, int or dict, THEN they are refused
    objects = reader(process)
    with pytest.raises(NotAnObject):
        objects.string(process.bytes(b"x" * 300))
    with pytest.raises(NotAnObject):
        objects.bytes_object(process.string("x" * 300))
    with pytest.raises(NotAnObject):
        objects.integer(process.string("x" * 300))
    with pytest.raises(NotAnObject):
        objects.dict_items(process.string("x" * 300))


@pytest.mark.parametrize("value", [b"", b"\0\xff" * 100, b"t" * 100_000])
def test_bytes(process: FakeProcess, value: bytes) -> None:
    # GIVEN bytes, WHEN they are read, THEN they are the same
    assert reader(process).bytes_object(process.bytes(value)) == value


@pytest.mark.parametrize("count", [MAX_BYTES_OBJECT + 1, 1 << 63, (1 << 64) - 1])
def test_bytes_of_huge_length_are_refused_unread(process: FakeProcess, count: int) -> None:
    # GIVEN bytes that claim a huge length
    address = process.bytes(b"x", count=count)
    process.memory.transferred = 0

    # WHEN they are read, THEN they are refused before anything is fetched
    with pytest.raises(NotAnObject):
        reader(process).bytes_object(address)
    assert process.memory.transferred < PAGE


@pytest.mark.parametrize("value", [0, 1, (1 << 30) - 1, 1 << 30, 0x7F12_3456_7890, (1 << 90) - 1])
def test_integers(process: FakeProcess, value: int) -> None:
    # GIVEN an int, WHEN it is read, THEN it is the same
    assert reader(process).integer(process.integer(value)) == value


@pytest.mark.parametrize("tag", [2, 1 << 3 | 2, 4 << 3, 1 << 63])
def test_negative_and_huge_integers_are_refused(process: FakeProcess, tag: int) -> None:
    # GIVEN an int with a sign or with many digits
    address = process.integer(5)
    process.memory.write_word(address + process.layout.long_tag, tag)

    # WHEN it is read, THEN it is refused
    with pytest.raises(NotAnObject):
        reader(process).integer(address)


@pytest.mark.parametrize("general", [True, False], ids=["any keys", "str keys"])
def test_dicts(process: FakeProcess, general: bool) -> None:
    # GIVEN a dict with an entry that was deleted
    name, value = process.string("_active"), process.integer(3)
    address = process.dict({process.string("other"): 0, name: value}, general=general)

    # WHEN it is read, THEN the deleted entry is missing
    objects = reader(process)
    assert objects.dict_items(address) == [(name, value)]
    assert objects.dict_get(address, "_active") == value
    assert objects.dict_get(address, "other") is None


@pytest.mark.parametrize("count", [-1, 1 << 40, (1 << 63) - 1, 1 << 17])
def test_dict_of_impossible_size_is_refused(process: FakeProcess, count: int) -> None:
    # GIVEN a dict that claims entries it cannot have
    address = process.dict({}, count=count)

    # WHEN it is read, THEN it is refused
    with pytest.raises((NotAnObject, MemoryReadError)):
        reader(process).dict_items(address)


def test_dangling_pointers_are_read_errors(process: FakeProcess) -> None:
    # GIVEN pointers to nothing, to zero and beyond all addresses
    objects = reader(process)
    for address in (NOWHERE, 0, (1 << 64) - 8, 1 << 63, 5):
        for read in (
            objects.string,
            objects.bytes_object,
            objects.integer,
            objects.dict_items,
            objects.type_of,
        ):
            # WHEN they are read, THEN one kind of error comes
            with pytest.raises((MemoryReadError, NotAnObject)):
                read(address)


def test_type_names(process: FakeProcess) -> None:
    # GIVEN types with a good name, none, and one with control characters
    objects = reader(process)

    # WHEN and THEN
    assert objects.type_name(process.type("_thread.lock")) == "_thread.lock"
    with pytest.raises(NotAnObject):
        objects.type_name(process.type(""))
    with pytest.raises(NotAnObject):
        objects.type_name(process.type("a\x1bb"))


def test_instance_attributes_in_a_dict(process: FakeProcess) -> None:
    # GIVEN an instance of a Python class whose attributes lie in a dict
    name, value = process.string("_name"), process.string("Worker-1")
    process.type("Thread", 1 << 4 | 1 << 9)
    instance = process.object("Thread", 512)
    process.memory.write_word(instance + process.layout.managed_dict, process.dict({name: value}))

    # WHEN they are asked for, THEN they are found by name
    objects = reader(process)
    assert objects.attribute(instance, "_name") == value
    assert objects.attribute(instance, "_other") is None


def test_instance_without_attributes(process: FakeProcess) -> None:
    # GIVEN an instance of a type that has no dict
    # WHEN its attributes are asked for, THEN there are none
    assert reader(process).attributes(process.integer(1)) == {}


@given(st.sampled_from(BUILDS), st.data())
def test_damaged_objects_never_raise_anything_else(build: str, data: st.DataObject) -> None:
    # GIVEN a string, bytes, an int, a dict and an instance, with bytes of them overwritten
    process = FakeProcess(build)
    process.type("Thread", 1 << 2 | 1 << 4 | 1 << 9)
    name = process.string("_name")
    addresses = [
        name,
        process.bytes(b"abc"),
        process.integer(1 << 40),
        process.dict({name: process.integer(1)}),
        process.object("Thread", 512),
    ]
    start = min(addresses) - 8192
    size = process._next - start
    words = st.one_of(st.integers(0, 255), st.integers(0, (1 << 64) - 1), st.sampled_from(addresses))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, size // 8 - 1), words), max_size=12)):
        if start + 8 * place in range(start, start + size):
            process.memory.write(start + 8 * place, struct.pack("<Q", value))

    # WHEN everything is read, THEN values or one of the two errors come
    objects = reader(process)
    for address in addresses:
        for read in (
            objects.string,
            objects.bytes_object,
            objects.integer,
            objects.dict_items,
            objects.attributes,
            objects.type_name,
        ):
            try:
                read(address)
            except (NotAnObject, MemoryReadError):
                pass
    assert process.memory.transferred < 64 << 20
