"""Where bytecode is in the middle of an update: made-up code of each version, and bytes that are no code."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.sources.python.maybeupdates import may_update
from ftdiag.sources.python.opcodes import OPCODES
from ftdiag.sources.python.updates import (
    MAX_UNITS,
    Update,
    _Search,
    _until_last,
    find_updates,
)

VERSIONS = sorted(OPCODES)
Body = list[tuple[str, int]]
ADD = 13
"""`+=` of BINARY_OP."""


def assembled(version: tuple[int, int], body: Body) -> tuple[bytes, list[int]]:
    """The code units of instructions, and where each begins."""
    table = OPCODES[version]
    numbers = {name: number for number, name in reversed(list(table.names.items()))}
    units, places = b"", []
    for name, argument in body:
        if name == "[]":
            name, argument = ("BINARY_SUBSCR", 0) if "BINARY_SUBSCR" in numbers else ("BINARY_OP", 26)
        places.append(len(units) // 2)
        units += bytes([numbers[name], argument]) + bytes(2 * table.caches.get(numbers[name], 0))
    return units, [*places, len(units) // 2]


def found(version: tuple[int, int], body: Body, names: tuple[str, ...] = ()) -> list[tuple[Update, int, int]]:
    """The updates, with the instructions at which each begins and before which it ends."""
    units, places = assembled(version, body)
    return [
        (update, places.index(update.start), places.index(update.end))
        for update in find_updates(units, OPCODES[version], names)
    ]


ONE = ("LOAD_CONST", 0)
ATTRIBUTE: Body = [
    *(("LOAD_FAST", 0), ("COPY", 1), ("LOAD_ATTR", 2 << 1), ONE, ("BINARY_OP", ADD), ("SWAP", 2)),
    ("STORE_ATTR", 2),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_from_behind_the_load_to_the_store(version: tuple[int, int]) -> None:
    # GIVEN self.count += 1 WHEN looked through THEN it is updated from behind the load on, store included
    ((update, start, end),) = found(version, ATTRIBUTE)
    assert (update.kind, update.base, update.name, update.check) == ("attribute", ("local", 0), 2, False)
    assert (start, end) == (3, 7)


@pytest.mark.parametrize("version", VERSIONS)
def test_globals_and_cells(version: tuple[int, int]) -> None:
    # GIVEN TOTAL += 1 and a closure's count += 1 WHEN looked through THEN both are found
    body = [("LOAD_GLOBAL", 3 << 1), ONE, ("BINARY_OP", ADD), ("STORE_GLOBAL", 3)]
    ((update, start, end),) = found(version, body)
    assert (update.kind, update.name, start, end) == ("global", 3, 1, 4)
    ((update, _, _),) = found(version, [("LOAD_DEREF", 1), ONE, ("BINARY_OP", ADD), ("STORE_DEREF", 1)])
    assert (update.kind, update.name) == ("cell", 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_items_by_variables_and_by_the_stack(version: tuple[int, int]) -> None:
    # GIVEN table[key] += 1
    body: Body = [
        *(("LOAD_FAST", 0), ("LOAD_FAST", 1), ("COPY", 2), ("COPY", 2), ("[]", 0), ONE),
        *(("BINARY_OP", ADD), ("SWAP", 3), ("SWAP", 2), ("STORE_SUBSCR", 0)),
    ]
    # WHEN looked through THEN container and key are the variables
    ((update, start, end),) = found(version, body)
    assert (update.base, update.key, update.by_stack) == (("local", 0), ("local", 1), False)
    assert (start, end) == (5, 10)
    # GIVEN table[make()] += 1 THEN the key lies on the stack: at one place before the swaps, at another then
    body[1:2] = [("PUSH_NULL", 0), ("PUSH_NULL", 0), ("CALL", 0)]
    first, last = found(version, body)
    assert first[0].key == ("stack", 1)
    assert first[1:] == (7, 9)
    assert last[0].key == ("stack", 2)
    assert last[1:] == (11, 12)


@pytest.mark.parametrize("version", VERSIONS)
def test_get_and_store(version: tuple[int, int]) -> None:
    # GIVEN table[key] = table.get(key) + 1 WHEN looked through THEN the item is updated
    body: Body = [
        *(("LOAD_FAST", 0), ("LOAD_ATTR", 1), ("LOAD_FAST", 1), ("CALL", 1), ONE, ("BINARY_OP", 0)),
        *(("LOAD_FAST", 0), ("LOAD_FAST", 1), ("STORE_SUBSCR", 0)),
    ]
    ((update, start, end),) = found(version, body, ("get",))
    assert (update.kind, update.base, update.key) == ("item", ("local", 0), ("local", 1))
    assert (start, end) == (4, 9)
    # WHEN the method is another one THEN nothing is known of it
    assert not found(version, body, ("made",))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_swap_of_two_items(version: tuple[int, int]) -> None:
    # GIVEN items[i], items[j] = items[j], items[i] WHEN looked through THEN both are updated
    items, first, second = ("LOAD_FAST", 0), ("LOAD_FAST", 1), ("LOAD_FAST", 2)
    body: Body = [
        *(items, second, ("[]", 0), items, first, ("[]", 0), ("SWAP", 2)),
        *(items, first, ("STORE_SUBSCR", 0), items, second, ("STORE_SUBSCR", 0)),
    ]
    keys = {update.key: (start, end) for update, start, end in found(version, body)}
    assert keys == {("local", 1): (3, 10), ("local", 2): (6, 13)}


def jump(version: tuple[int, int], body: Body, place: int, target: int) -> Body:
    """The body with the distance of a jump put in."""
    _, places = assembled(version, body)
    name, _ = body[place]
    return [*body[:place], (name, places[target] - places[place + 1]), *body[place + 1 :]]


@pytest.mark.parametrize("version", VERSIONS)
def test_check_then_act_begins_where_it_is_decided(version: tuple[int, int]) -> None:
    # GIVEN if self.x is None: self.x = make()
    body: Body = [
        *(
            ("LOAD_FAST", 0),
            ("LOAD_ATTR", 2),
            ("POP_JUMP_IF_NOT_NONE", 0),
            ("PUSH_NULL", 0),
            ("PUSH_NULL", 0),
        ),
        *(("CALL", 0), ("LOAD_FAST", 0), ("STORE_ATTR", 1), ONE, ("RETURN_VALUE", 0)),
    ]
    # WHEN looked through THEN who only looks is not in the middle of it
    ((update, start, end),) = found(version, jump(version, body, 2, 8))
    assert update.check
    assert (start, end) == (3, 8)


@pytest.mark.parametrize("version", VERSIONS)
def test_check_with_an_early_return(version: tuple[int, int]) -> None:
    # GIVEN if self.x is not None: return 1; self.x = 1 WHEN looked through THEN from behind the return on
    body: Body = [
        *(("LOAD_FAST", 0), ("LOAD_ATTR", 2), ("POP_JUMP_IF_NONE", 0), ONE, ("RETURN_VALUE", 0)),
        *(ONE, ("LOAD_FAST", 0), ("STORE_ATTR", 1), ONE, ("RETURN_VALUE", 0)),
    ]
    ((update, start, end),) = found(version, jump(version, body, 2, 5))
    assert update.check
    assert (start, end) == (5, 8)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_latest_look_counts(version: tuple[int, int]) -> None:
    # GIVEN two checks of one attribute, as with a lock between, and then the store
    check: Body = [("LOAD_FAST", 0), ("LOAD_ATTR", 2), ("POP_JUMP_IF_NOT_NONE", 0)]
    body: Body = [*check, *check, ONE, ("LOAD_FAST", 0), ("STORE_ATTR", 1), ONE, ("RETURN_VALUE", 0)]
    # WHEN looked through THEN the update begins behind the second one
    ((_, start, end),) = found(version, jump(version, jump(version, body, 5, 9), 2, 9))
    assert (start, end) == (6, 9)


@pytest.mark.parametrize("version", VERSIONS)
def test_through_a_local_and_a_call(version: tuple[int, int]) -> None:
    # GIVEN n = self.n; n = f(n); self.n = n WHEN looked through THEN all of it is the update
    body: Body = [
        *(("LOAD_FAST", 0), ("LOAD_ATTR", 2), ("STORE_FAST", 1), ("PUSH_NULL", 0), ("PUSH_NULL", 0)),
        *(("LOAD_FAST", 1), ("CALL", 1), ("STORE_FAST", 1), ("LOAD_FAST", 1), ("LOAD_FAST", 0)),
        ("STORE_ATTR", 1),
    ]
    ((_, start, end),) = found(version, body)
    assert (start, end) == (2, 11)
    # WHEN self is another object by then THEN it is none
    body[3:3] = [ONE, ("STORE_FAST", 0)]
    assert not found(version, body)


@pytest.mark.parametrize("version", VERSIONS)
def test_single_operations_are_none(version: tuple[int, int]) -> None:
    # GIVEN stores of what was not loaded from there WHEN looked through THEN none is an update
    stores: Body = [
        *(ONE, ("LOAD_FAST", 0), ("STORE_ATTR", 1)),
        *(ONE, ("LOAD_FAST", 0), ("LOAD_FAST", 1), ("STORE_SUBSCR", 0)),
        *(("LOAD_FAST", 0), ("LOAD_ATTR", 4), ("LOAD_FAST", 0), ("STORE_ATTR", 1)),
        *(("LOAD_FAST", 0), ("LOAD_ATTR", 2), ("LOAD_FAST", 1), ("STORE_ATTR", 1)),
    ]
    assert not found(version, stores)


@pytest.mark.parametrize("version", VERSIONS)
def test_hidden_and_long_code(version: tuple[int, int]) -> None:
    # GIVEN an opcode that is instrumented, and code that is too long WHEN looked through THEN nothing is said
    units, _ = assembled(version, ATTRIBUTE)
    table = OPCODES[version]
    assert not find_updates(bytes([table.first_opaque, 0]) + units, table, ())
    assert not find_updates(units * (MAX_UNITS // (len(units) // 2) + 1), table, ())


_STORES = ("STORE_ATTR", "STORE_GLOBAL", "STORE_NAME", "STORE_DEREF", "STORE_SUBSCR")
_LOADS = ("LOAD_ATTR", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "[]", "CONTAINS_OP")
_OTHERS = ("LOAD_FAST", "LOAD_CONST", "COPY", "SWAP", "BINARY_OP", "POP_TOP", "EXTENDED_ARG", "CALL")


@pytest.mark.parametrize("version", VERSIONS)
@given(
    body=st.lists(
        st.tuples(
            st.sampled_from((*_STORES, *_LOADS, *_OTHERS)), st.sampled_from((0, 1, 2, 3, 4, 6, 13, 130))
        ),
        max_size=30,
    )
)
def test_what_cannot_have_an_update_has_none(version: tuple[int, int], body: Body) -> None:
    # GIVEN any code, also with names beyond the 128th, that is said to have none WHEN gone through THEN none
    table = OPCODES[version]
    numbers = {name: number for number, name in table.names.items()}
    numbers["EXTENDED_ARG"] = table.extended
    units = b"".join(
        bytes([numbers[name], argument]) + bytes(2 * table.caches.get(numbers[name], 0))
        for name, argument in (
            ("BINARY_OP", 26)
            if one == "[]" and "BINARY_SUBSCR" not in numbers
            else ("BINARY_SUBSCR" if one == "[]" else one, argument)
            for one, argument in body
        )
    )
    if may_update(units, table):
        return
    with suppress(IndexError):
        assert not _Search(list(table.located(units)), table, {0, 1, 2, 3}).updates()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_constructor_cannot_have_an_update(version: tuple[int, int]) -> None:
    # GIVEN stores of attributes that are not read, and one that is WHEN asked THEN the latter may
    only_stores = [("LOAD_FAST", 1), ("LOAD_FAST", 0), ("STORE_ATTR", 2), *ATTRIBUTE[:3], ("STORE_ATTR", 3)]
    assert not may_update(assembled(version, only_stores)[0], OPCODES[version])
    assert may_update(assembled(version, ATTRIBUTE)[0], OPCODES[version])


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.binary(max_size=400))
def test_whatever_bytes(version: tuple[int, int], data: bytes) -> None:
    # GIVEN bytes that are no code WHEN looked through THEN what is found lies inside
    for update in find_updates(data, OPCODES[version], ()):
        assert 0 <= update.start < update.end <= len(data) // 2


LOOKS: Body = [
    *(
        ("LOAD_FAST", 0),
        ("LOAD_FAST", 1),
        ("LOAD_ATTR", 2 << 1),
        ("LOAD_ATTR", 3 << 1 | 1),
        ("LOAD_GLOBAL", 2 << 1),
    ),
    *(
        ("LOAD_DEREF", 2),
        ("CONTAINS_OP", 0),
        ("[]", 0),
        ("CALL", 1),
        ("COPY", 1),
        ("SWAP", 2),
        ("BINARY_OP", ADD),
    ),
    *(("POP_JUMP_IF_FALSE", 4), ("POP_TOP", 0), ("STORE_FAST", 1), ("STORE_ATTR", 2), ("STORE_ATTR", 3)),
    *(("STORE_GLOBAL", 2), ("STORE_DEREF", 2), ("STORE_SUBSCR", 0)),
]


PIECES = [ATTRIBUTE, ATTRIBUTE[:4], ATTRIBUTE[4:], *([one] for one in LOOKS)]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30), version=st.sampled_from(VERSIONS))
def test_what_is_left_out_has_no_updates(pieces: list[Body], version: tuple[int, int]) -> None:
    """GIVEN code of loads and stores WHEN what stores nothing that was looked at is left out THEN it had
    no updates."""
    units, _ = assembled(version, [*[("LOAD_FAST", 0)] * 8, *(one for piece in pieces for one in piece)])
    table = OPCODES[version]
    instructions = list(table.located(units))
    shorter = _until_last(instructions, {3})
    try:
        whole = _Search(instructions, table, {3}).updates()
    except IndexError:  # the code takes more from the stack than it puts there
        return
    assert _Search(shorter, table, {3}).updates() == whole


@pytest.mark.parametrize("version", VERSIONS)
def test_a_constructor_is_not_gone_through(version: tuple[int, int]) -> None:
    """GIVEN code that stores attributes and reads others WHEN looked at THEN none of it is gone through."""
    units, _ = assembled(
        version, [("LOAD_FAST", 0), ("LOAD_ATTR", 5 << 1), ("LOAD_FAST", 0), ("STORE_ATTR", 2)]
    )
    assert not _until_last(list(OPCODES[version].located(units)), ())
