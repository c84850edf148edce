"""The tables of `_Py_DebugOffsets` against what real builds publish, and against everything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fake_process import BUILDS, debug_offsets, layout_of
from ftdiag.cpython import FACTS
from ftdiag.cpython.by_hand import BY_HAND
from ftdiag.errors import UnsupportedPython
from ftdiag.sources.python.layouts import (
    DEBUG_OFFSETS_BYTES,
    HEADER_BYTES,
    SUPPORTED,
    VARYING,
    Layout,
    parse_header,
    parse_layout,
    parse_version,
)


def words_of(build: str) -> dict[str, int]:
    """Field -> number of its word in the struct of a build."""
    version = layout_of(build).version
    rows = FACTS[version.major, version.minor].published
    return {name: number for number, (name, _, _) in enumerate(rows, HEADER_BYTES // 8)}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        # thread: native id, chunk, state, critical section; frame: size, owner; code: bytecode; keys of a
        # class
        ("3.13.0", (160, 232, 40, 176, 80, 70, 200, 880)),
        ("3.13.5t", (160, 232, 40, 176, 80, 70, 216, 896)),
        ("3.14.9", (160, 232, 44, 176, 88, 74, 208, 880)),
        ("3.14.9t", (160, 232, 44, 176, 88, 78, 232, 896)),
        ("3.15.1", (184, 256, 48, 200, 88, 74, 208, 888)),
        ("3.15.1t", (184, 256, 48, 200, 88, 78, 232, 904)),
    ],
)
def test_every_field_is_read_from_its_place(build: str, expected: tuple[int, ...]) -> None:
    # GIVEN what a real build publishes, WHEN it is parsed
    layout = layout_of(build)

    # THEN it is that version, AND offsets are those that were looked up in its memory
    assert str(layout.version) == build.removesuffix("t")
    assert layout.free_threaded is build.endswith("t")
    found = (
        layout.thread_native_id,
        layout.thread_datastack_chunk,
        layout.thread_state,
        layout.thread_critical_section,
        layout.frame_size,
        layout.frame_owner,
        layout.code_bytecode,
        layout.type_cached_keys,
    )
    assert found == expected
    assert layout.thread_current_frame == 72
    assert layout.object_size == (32 if layout.free_threaded else 16)
    assert layout.unicode_ascii_data == layout.unicode_length + 24


@pytest.mark.parametrize("build", BUILDS)
def test_what_only_some_builds_have(build: str) -> None:
    # GIVEN a build
    layout = layout_of(build)

    # WHEN and THEN: thread-local bytecode is there from 3.14 on, in free-threaded builds only
    has_local_bytecode = layout.free_threaded and layout.version.minor >= 14
    assert (layout.code_tlbc is not None) == has_local_bytecode
    assert (layout.frame_tlbc_index is not None) == has_local_bytecode
    # AND the switch of the GIL is there in free-threaded builds only
    assert (layout.interpreter_gil_enabled is not None) == layout.free_threaded
    # AND the width of `interned` decides where a string's kind lies
    assert layout.unicode_kind_shift == (8 if has_local_bytecode else 2)
    # AND statistics of collections with times are there from 3.15 on
    assert (layout.collector is not None) == (layout.version.minor >= 15)


def test_opcodes_that_prove_a_with_statement() -> None:
    # GIVEN the versions, WHEN and THEN: PUSH_EXC_INFO and WITH_EXCEPT_START have the numbers that they have
    # there
    assert layout_of("3.13.5t").with_handler == bytes((33, 44))
    assert layout_of("3.14.9t").with_handler == bytes((32, 43))
    assert layout_of("3.15.1t").with_handler == bytes((30, 41))


def test_every_version_has_its_facts_by_hand() -> None:
    # GIVEN the tables, WHEN and THEN: whoever adds a version says on what the rest was verified
    assert FACTS.keys() == BY_HAND.keys() == set(SUPPORTED)
    assert all(row.verified_on for row in BY_HAND.values())


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("free_threaded", [True, False])
def test_structs_that_readers_take_for_granted(version: tuple[int, int], free_threaded: bool) -> None:
    # GIVEN what headers say of structs that are the same in every version, and written down in the readers
    facts = FACTS[version].others(free_threaded=free_threaded)

    # WHEN and THEN: objects.py, sharedobjects.py, stoptheworld.py and locks.py have them right
    header = FACTS[version].expected(free_threaded=free_threaded)["pyobject.size"]
    assert facts["PyDictKeysObject.dk_log2_index_bytes"] == 9
    assert facts["PyDictKeysObject.dk_kind"] == 10
    assert facts["PyDictKeysObject.dk_nentries"] == 24
    assert facts["sizeof(PyDictKeysObject)"] == 32
    assert facts["PyDictValues.values"] == 8
    assert facts["PyMemberDescrObject.d_member"] == header + 24
    assert facts["PyMemberDef.offset"] == 16
    assert facts["PyMethodObject.im_self"] == header + 8
    assert facts["PyModuleObject.md_dict"] == header
    frame = ("f_globals", "f_builtins", "f_locals")
    assert [facts[f"_PyInterpreterFrame.{name}"] for name in frame] == [24, 32, 40]
    pause = ("requested", "world_stopped", "thread_countdown", "requester")
    assert [facts[f"struct _stoptheworld_state.{name}"] for name in pause] == [1, 2, 8, 16]
    assert facts["sizeof(struct _gil_runtime_state)"] <= 256
    if free_threaded:
        fields = ("ob_tid", "ob_mutex", "ob_gc_bits", "ob_ref_local", "ob_ref_shared")
        assert [facts[f"PyObject.{name}"] for name in fields] == [0, 10, 11, 12, 16]


@pytest.mark.parametrize("build", BUILDS)
def test_a_field_that_is_not_the_known_one_is_named(build: str) -> None:
    # GIVEN a struct in which one field of a struct that does not vary is shifted
    for name, word in words_of(build).items():
        if name.startswith(VARYING):
            continue
        data = bytearray(debug_offsets(build))
        (value,) = struct.unpack_from("<Q", data, 8 * word)
        struct.pack_into("<Q", data, 8 * word, value + 8)

        # WHEN it is parsed, THEN it is refused, with that field alone
        with pytest.raises(UnsupportedPython, match=f": {name} is {value + 8}, not {value}\n") as raised:
            parse_layout(bytes(data))
        assert raised.value.hint is not None
        assert "--self-check" in raised.value.hint


@pytest.mark.parametrize("build", BUILDS)
def test_states_may_be_of_another_size(build: str) -> None:
    # GIVEN a build whose states are a little larger, as those of other patch releases are
    data = bytearray(debug_offsets(build))
    words = words_of(build)
    for name in ("runtime_state.size", "interpreter_state.size", "thread_state.size"):
        (value,) = struct.unpack_from("<Q", data, 8 * words[name])
        struct.pack_into("<Q", data, 8 * words[name], value + 64)

    # WHEN it is parsed, THEN it is read
    assert parse_layout(bytes(data)).interpreter_size == layout_of(build).interpreter_size + 64


@pytest.mark.parametrize("build", ["3.15.1", "3.15.1t"])
def test_statistics_of_another_size_are_not_read(build: str) -> None:
    # GIVEN a build whose collector keeps other statistics
    data = bytearray(debug_offsets(build))
    word = words_of(build)["gc.generation_stats_size"]
    (size,) = struct.unpack_from("<Q", data, 8 * word)
    struct.pack_into("<Q", data, 8 * word, size - 8)

    # WHEN it is parsed, THEN all else is read
    assert layout_of(build).collector is not None
    assert parse_layout(bytes(data)).collector is None


@pytest.mark.parametrize(
    "version_hex",
    [0x30C00F0, 0x30B07F0, 0x3100000, 0x40000F0, 0x20712F0, 0x30A00F0],
    ids=["3.12", "3.11", "3.16", "4.0", "2.7", "3.10"],
)
def test_unknown_version_is_refused(version_hex: int) -> None:
    # GIVEN a struct of a version that is in no table
    data = debug_offsets("3.13.5t", version_hex=version_hex)

    # WHEN it is parsed, THEN the error names both what it is and what is known
    with pytest.raises(UnsupportedPython) as raised:
        parse_layout(data)
    assert str(parse_version(version_hex)) in raised.value.what
    assert all(f"{major}.{minor}" in raised.value.what for major, minor in SUPPORTED)
    # AND what makes the table
    assert raised.value.hint is not None
    assert "tools.cpython_facts make" in raised.value.hint


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("claimed", [0x30D00F0, 0x30E00F0, 0x30F00F0], ids=["3.13", "3.14", "3.15"])
def test_struct_of_another_version_is_refused(build: str, claimed: int) -> None:
    # GIVEN a struct whose version number is not the one its fields are of, as in pre-releases
    if parse_version(claimed).minor == layout_of(build).version.minor:
        return
    data = debug_offsets(build, version_hex=claimed)

    # WHEN it is parsed, THEN it is not believed
    with pytest.raises(UnsupportedPython, match="is not the one this ftdiag knows"):
        parse_layout(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"xdebugpy", b"\0" * DEBUG_OFFSETS_BYTES, b"Xdebugpy" + debug_offsets("3.13.5t")[8:]],
    ids=["nothing", "cookie only", "zeros", "other cookie"],
)
def test_not_the_struct(data: bytes) -> None:
    # GIVEN bytes without the cookie or the header
    # WHEN they are parsed, THEN that is said
    assert parse_header(data) is None
    with pytest.raises(UnsupportedPython, match="no _Py_DebugOffsets"):
        parse_layout(data)


@pytest.mark.parametrize("build", BUILDS)
def test_truncated_struct_is_refused(build: str) -> None:
    # GIVEN a struct that ends in the middle, at any length
    length = HEADER_BYTES + 8 * len(words_of(build))
    data = debug_offsets(build)
    assert isinstance(parse_layout(data[:length]), Layout)

    # WHEN it is parsed, THEN it is refused
    for size in range(0, length, 8):
        with pytest.raises(UnsupportedPython):
            parse_layout(data[:size])


def test_impossible_flag_of_free_threading_is_refused() -> None:
    # GIVEN a header whose flag is neither 0 nor 1
    data = bytearray(debug_offsets("3.13.5t"))
    struct.pack_into("<Q", data, 16, 7)

    # WHEN it is parsed, THEN it is not a header
    assert parse_header(bytes(data)) is None


@given(
    st.sampled_from(BUILDS),
    st.lists(st.tuples(st.integers(3, 90), st.integers(0, (1 << 64) - 1)), max_size=4),
)
@example("3.13.5t", [(20, 1 << 63)])
def test_damaged_offsets_never_raise_anything_else(build: str, damage: list[tuple[int, int]]) -> None:
    # GIVEN a struct with some words overwritten
    data = bytearray(debug_offsets(build))
    for word, value in damage:
        struct.pack_into("<Q", data, 8 * word, value)

    # WHEN it is parsed, THEN it is a layout with bounded offsets, or refused
    try:
        layout = parse_layout(bytes(data))
    except UnsupportedPython:
        return
    assert 0 < layout.frame_size <= 256
    assert layout.thread_current_frame < layout.thread_size <= 1 << 16
    assert layout.code_bytecode < 4096


@given(st.binary(max_size=DEBUG_OFFSETS_BYTES), st.sampled_from([0x30D05F0, 0x30E00F0, 0x30F00F0, 0]))
def test_random_bytes_never_raise_anything_else(garbage: bytes, version_hex: int) -> None:
    # GIVEN garbage behind a good cookie, and garbage alone
    headed = struct.pack("<8sQQ", b"xdebugpy", version_hex, 1) + garbage

    # WHEN it is parsed, THEN it is refused
    for data in (garbage, headed):
        with pytest.raises(UnsupportedPython):
            parse_layout(data)


@pytest.mark.parametrize(
    ("version_hex", "text"),
    [(0x30D05F0, "3.13.5"), (0x30E00A7, "3.14.0a7"), (0x30F00B2, "3.15.0b2"), (0x30E00C3, "3.14.0rc3")],
)
def test_versions_read_like_python_writes_them(version_hex: int, text: str) -> None:
    # GIVEN a PY_VERSION_HEX, WHEN it is taken apart, THEN it reads as `platform.python_version()` does
    assert str(parse_version(version_hex)) == text
