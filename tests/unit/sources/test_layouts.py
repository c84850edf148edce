"""The tables of `_Py_DebugOffsets` against what real builds publish, and against everything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fake_process import PUBLISHED, debug_offsets, layout_of
from ftdiag.errors import UnsupportedPython
from ftdiag.sources.layouts import (
    DEBUG_OFFSETS_BYTES,
    HEADER_BYTES,
    SUPPORTED,
    Layout,
    parse_header,
    parse_layout,
    parse_version,
)

BUILDS = sorted(PUBLISHED)


@pytest.mark.parametrize("build", BUILDS)
def test_every_field_is_read_from_its_place(build: str) -> None:
    # GIVEN what a build publishes
    version_hex, free_threaded, groups = PUBLISHED[build]

    # WHEN it is parsed
    layout = parse_layout(debug_offsets(build))

    # THEN each offset comes from its group, also those behind fields that only some versions have
    assert layout.version == parse_version(version_hex)
    assert layout.free_threaded is free_threaded
    assert layout.runtime_interpreters_head == groups["runtime_state"][2]
    assert layout.interpreter_threads_head == groups["interpreter_state"][3]
    assert layout.thread_current_frame == 72
    assert layout.thread_native_id == {13: 160, 14: 160, 15: 184}[layout.version.minor]
    assert layout.thread_datastack_chunk == {13: 232, 14: 232, 15: 256}[layout.version.minor]
    assert layout.frame_size == groups["interpreter_frame"][0]
    assert layout.frame_owner == groups["interpreter_frame"][5]
    assert layout.code_bytecode == groups["code_object"][9]
    assert layout.object_size == (32 if free_threaded else 16)
    assert (layout.dict_keys, layout.dict_values) == groups["dict_object"][1:]
    assert (layout.long_tag, layout.long_digits) == groups["long_object"][1:]
    assert layout.unicode_length == groups["unicode_object"][2]
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


def test_state_of_a_thread_lies_where_the_facts_say() -> None:
    # GIVEN the versions whose PyThreadState was looked at
    # WHEN and THEN: `state` comes behind _status, holds_gil, gil_requested and _whence
    assert layout_of("3.13.5t").thread_state == 40
    assert layout_of("3.14.0t").thread_state == 44
    assert layout_of("3.13.5t").thread_critical_section == 176
    assert layout_of("3.14.0t").thread_critical_section == 176


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
    _, _, groups = PUBLISHED[build]
    length = HEADER_BYTES + 8 * sum(map(len, groups.values()))
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
