"""Where in its bytecode a function is in the middle of updating something that others can reach.

In: the code units of a code object, specialised or not. Out: `Update`s: stretches between a load and a store
of the same place, which is an attribute, a global, a closure's cell or an item of a container.

Two kinds of stores count. One is of a value that was made of what had been loaded from there (`self.n += 1`,
`n = self.n` ... `self.n = f(n)`, a swap of two items): the update begins behind the load. The other is made
because of what was found there (`if self.x is None: self.x = make()`): it begins behind the test, where it
is decided. What may yet be left out begins behind the last branch that leaves it out. Stores alone,
`list.append` and the like are single operations of the interpreter and no updates.

How: the instructions are gone through once, in their order, with an expression for each value on the stack
and the loads that it was made of. Where ways come together, what differs is forgotten; loops are gone
through once.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Final, NamedTuple

from ftdiag.datatypes import dataclass, replace
from ftdiag.sources.python.maybeupdates import SUBSCRIPT, may_update
from ftdiag.sources.python.opcodes import Instruction, OpcodeTable

MAX_UNITS: Final = 4096
"""Longer code is not gone through: modules of data, mostly."""
MAX_UPDATES: Final = 64
"""Updates of one code object that are kept."""
MAX_LOADS: Final = 16
"""Loads that are remembered of one value."""
MAX_STACK: Final = 512
MAX_ATTRIBUTES: Final = 3
"""Attributes in a row (`self.app.stats`) that are followed to the object that is updated."""
_STORED: Final = {
    "STORE_ATTR": "attr",
    "STORE_GLOBAL": "global",
    "STORE_NAME": "global",
    "STORE_DEREF": "cell",
    "STORE_SUBSCR": "item",
}
STORES: Final = tuple(_STORED)
_READING_METHODS: Final = frozenset(("get", "pop"))
"""Methods of a dict whose result is an item of it: `d[k] = d.get(k, 0) + 1`."""
_LEAVES: Final = frozenset(
    ("RETURN_VALUE", "RAISE_VARARGS", "RERAISE", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
)
_ADDS: Final = frozenset(("LIST_APPEND", "LIST_EXTEND", "SET_ADD", "SET_UPDATE", "DICT_UPDATE", "DICT_MERGE"))
"""What is on top goes into a container that lies deeper."""
_DROPS: Final = frozenset(
    ("POP_TOP", "POP_ITER", "POP_EXCEPT", "END_FOR", "STORE_SLICE", "DELETE_ATTR", "DELETE_SUBSCR")
)
_KEEPS: Final = frozenset(
    "NOP RESUME MAKE_CELL COPY_FREE_VARS DELETE_FAST DELETE_NAME DELETE_GLOBAL DELETE_DEREF SETUP_ANNOTATIONS"
    " CHECK_EXC_MATCH TO_BOOL".split()
)
"""What leaves the value on top what it was, as far as it matters here."""
_NO_STACK: Final = -1

Expression = tuple[Any, ...]
"""("local", number, version), ("cell", number), ("global", name), ("const", number), ("int", value),
("attr", expression, name), ("item", expression, expression), ("method", expression), ("value", ...) where
nothing is known; in an `Update` ("local", number), and ("stack", number): what lies there on the frame's
stack. Names are numbers of `co_names`."""


@dataclass(frozen=True, slots=True)
class Update:
    """Code units [start, end) in which a place is about to be stored, after it was looked at.

    `kind` is "attribute", "global", "cell" or "item". `base` says whose attribute or item (not of globals and
    cells), `name` the number of the attribute's or global's name, or of the local that is the cell, `key` the
    item's. `check` where what was found there decided that it is stored, else its value.
    """

    start: int
    end: int
    kind: str
    name: int
    base: Expression | None = None
    key: Expression | None = None
    check: bool = False

    @property
    def by_stack(self) -> bool:
        """Whether base or key lie on the frame's stack: only while the thread is still there."""
        return any(one is not None and one[0] == "stack" for one in (self.base, self.key))


class _Load(NamedTuple):
    """A place was loaded by the instruction that ends at `end`; `slots` are where its base and key lay.

    `tested`: a branch on its value decides by what was there.
    """

    end: int
    place: Expression
    tested: bool
    slots: tuple[int, int]


_NONE: Final[frozenset[_Load]] = frozenset()


class _Value(NamedTuple):
    expression: Expression
    loads: frozenset[_Load] = _NONE


class _State(NamedTuple):
    stack: list[_Value]
    loads: dict[int, frozenset[_Load]]
    """By local variable: what its value was made of."""
    versions: dict[int, int]
    exact: bool


class _Branch(NamedTuple):
    """A conditional jump: what follows it, where it leads, and what its condition was made of."""

    end: int
    target: int
    loads: frozenset[_Load]


class _Store(NamedTuple):
    """A store: its code units, where the swaps before it begin, the stack's slots of base and key."""

    start: int
    end: int
    settled: int
    slots: tuple[int, int]


def find_updates(units: bytes, table: OpcodeTable, names: Sequence[str]) -> tuple[Update, ...]:
    """All updates of a code object whose bytecode this is; () where an opcode is hidden, or there are none.

    `names` is its co_names. Never raises for damaged bytecode: what does not fit together has no updates.
    """
    if len(units) > 2 * MAX_UNITS or not may_update(units, table):
        return ()
    instructions = list(table.located(units))
    if not instructions or 2 * instructions[-1][1] < len(units):
        return ()
    readers = {number for number, name in enumerate(names) if name in _READING_METHODS}
    try:
        return _Search(_until_last(instructions, readers), table, readers).updates()
    except IndexError:
        return ()


def _until_last(
    instructions: list[tuple[int, int, Instruction]], readers: Container[int]
) -> list[tuple[int, int, Instruction]]:
    """The instructions up to the last that stores what may have been looked at before, by its name; or none.

    Most functions of libraries that store something store attributes that they do not read: a constructor.
    Going through them was a third of what the sampler of a program with many libraries took at first.
    """
    loaded: set[tuple[str, int]] = set()
    length = 0
    for number, (_, _, (name, argument)) in enumerate(instructions):
        match name:
            case "LOAD_ATTR":
                loaded.add(("attr", argument >> 1))
                if argument & 1 and argument >> 1 in readers:
                    loaded.add(("item", 0))
            case "LOAD_GLOBAL":
                loaded.add(("global", argument >> 1))
            case "LOAD_NAME":
                loaded.add(("global", argument))
            case "LOAD_DEREF":
                loaded.add(("cell", argument))
            case "BINARY_SUBSCR" | "CONTAINS_OP":
                loaded.add(("item", 0))
            case "BINARY_OP" if argument == SUBSCRIPT:
                loaded.add(("item", 0))
            case _ if name in _STORED and (
                (_STORED[name], 0 if name == "STORE_SUBSCR" else argument) in loaded
            ):
                length = number + 1
    return instructions[:length]


class _Search:
    """Goes through one code object.

    Longer than 300 lines, because each instruction works on all that is known of the stack, locals and ways.
    """

    def __init__(
        self, instructions: list[tuple[int, int, Instruction]], table: OpcodeTable, readers: Container[int]
    ) -> None:
        """`readers` are the numbers of names that are methods whose result is an item."""
        self._instructions = instructions
        self._effect = table.effect
        self._readers = readers
        stored = [(one.name, one.argument) for _, _, one in instructions if one.name in STORES]
        self._attributes = {number for name, number in stored if name == "STORE_ATTR"}
        self._globals = {number for name, number in stored if name in ("STORE_GLOBAL", "STORE_NAME")}
        self._cells = {number for name, number in stored if name == "STORE_DEREF"}
        self._items = any(name == "STORE_SUBSCR" for name, _ in stored)
        self._stack: list[_Value] = []
        self._loads: dict[int, frozenset[_Load]] = {}
        self._versions: dict[int, int] = {}
        self._exact = True
        """Whether it is known how deep the stack is."""
        self._counter = 0
        self._joins: dict[int, _State] = {}
        self._ahead: list[_Branch] = []
        """Branches whose target was not come to yet."""
        self._left: list[tuple[_Branch, int, int]] = []
        """Branches whose other way leaves, up to where it was decided so, where it goes on (-1: nowhere)."""
        self._swaps: int | None = None
        """Where the row of swaps began that the last instruction ended."""
        self._crossed: dict[tuple[Expression, Expression], tuple[_Load, _Store]] = {}
        self._found: dict[Update, None] = {}

    def updates(self) -> tuple[Update, ...]:
        """The updates in the order of their code."""
        alive = True
        before = Instruction("", 0)
        for start, end, instruction in self._instructions:
            self._arrive(start, before, alive=alive)
            name = instruction.name
            if name == "SWAP" and self._swaps is None:
                self._swaps = start
            self._step(start, end, instruction)
            if name != "SWAP":
                self._swaps = None
            alive = name not in _LEAVES and name != "JUMP_FORWARD"
            leads = end - instruction.argument if "BACKWARD" in name else end + instruction.argument
            before = Instruction(name, leads)
            if len(self._found) >= MAX_UPDATES or len(self._stack) > MAX_STACK:
                break
        return tuple(sorted(self._found, key=lambda update: (update.start, update.end)))

    # --- ways ---

    def _arrive(self, start: int, before: Instruction, *, alive: bool) -> None:
        """Come to an instruction: by the one before it if `alive`, and by jumps."""
        joined = self._joins.pop(start, None)
        if joined is not None and alive:
            joined = self._joined(joined, self._state())
        if joined is not None:
            self._stack, self._loads, self._versions, self._exact = (
                list(joined.stack),
                dict(joined.loads),
                dict(joined.versions),
                joined.exact,
            )
        elif not alive:  # an exception's handler: of its stack only the top is known
            self._stack = [_Value(("value", start, number)) for number in range(8)]
            self._loads, self._exact = {}, False
        arrived = [branch for branch in self._ahead if branch.target <= start]
        if not arrived:
            return
        self._ahead = [branch for branch in self._ahead if branch.target > start]
        if not alive:
            until = before.argument if before.name == "JUMP_FORWARD" else 1 << 62
            back = before.argument if "BACKWARD" in before.name else -1
            self._left.extend((branch, until, back) for branch in arrived)

    def _state(self) -> _State:
        return _State(self._stack, self._loads, self._versions, self._exact)

    def _jump(self, target: int) -> None:
        state = _State(list(self._stack), dict(self._loads), dict(self._versions), self._exact)
        other = self._joins.get(target)
        self._joins[target] = state if other is None else self._joined(other, state)

    def _joined(self, one: _State, other: _State) -> _State:
        """What is known where two ways come together."""
        depth = min(len(one.stack), len(other.stack))
        stack = [
            a
            if a == b
            else _Value(a.expression if a.expression == b.expression else self._new(), _both(a, b))
            for a, b in zip(
                one.stack[-depth:] if depth else [], other.stack[-depth:] if depth else [], strict=True
            )
        ]
        loads = {
            number: _bounded(one.loads.get(number, _NONE) | other.loads.get(number, _NONE))
            for number in one.loads.keys() | other.loads.keys()
        }
        versions = {
            number: self._next()
            if one.versions.get(number) != other.versions.get(number)
            else one.versions[number]
            for number in one.versions.keys() | other.versions.keys()
        }
        exact = one.exact and other.exact and len(one.stack) == len(other.stack)
        return _State(stack, loads, versions, exact)

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    def _new(self) -> Expression:
        return ("value", self._next())

    # --- one instruction ---

    def _step(self, start: int, end: int, instruction: Instruction) -> None:
        name, argument = instruction
        stack = self._stack
        match name:
            case "LOAD_FAST" | "LOAD_FAST_BORROW":
                self._push_local(argument)
            case "LOAD_FAST_LOAD_FAST" | "LOAD_FAST_BORROW_LOAD_FAST_BORROW":
                self._push_local(argument >> 4)
                self._push_local(argument & 15)
            case "STORE_FAST":
                self._store_local(argument)
            case "STORE_FAST_LOAD_FAST":
                self._store_local(argument >> 4)
                self._push_local(argument & 15)
            case "STORE_FAST_STORE_FAST":
                self._store_local(argument >> 4)
                self._store_local(argument & 15)
            case "LOAD_CONST":
                stack.append(_Value(("const", argument)))
            case "LOAD_SMALL_INT":
                stack.append(_Value(("int", argument)))
            case "LOAD_GLOBAL":
                self._load(end, ("global", argument >> 1), kept=argument >> 1 in self._globals)
                if argument & 1:
                    stack.append(_Value(self._new()))
            case "LOAD_NAME":
                self._load(end, ("global", argument), kept=argument in self._globals)
            case "LOAD_DEREF":
                self._load(end, ("cell", argument), kept=argument in self._cells)
            case "LOAD_ATTR":
                self._load_attribute(end, argument)
            case "BINARY_SUBSCR":
                self._load_item(end)
            case "BINARY_OP" if argument == SUBSCRIPT:
                self._load_item(end)
            case "CONTAINS_OP":
                self._contains(end)
            case "CALL":
                self._call(end, argument)
            case "COPY":
                stack.append(stack[-argument])
            case "SWAP":
                stack[-1], stack[-argument] = stack[-argument], stack[-1]
            case "STORE_ATTR":
                owner, value = stack.pop(), stack.pop()
                slots = self._slot(len(stack) + 1), _NO_STACK
                self._store(start, end, ("attr", owner.expression, argument), value, slots)
            case "STORE_SUBSCR":
                key, container, value = stack.pop(), stack.pop(), stack.pop()
                slots = self._slot(len(stack) + 1), self._slot(len(stack) + 2)
                self._store(start, end, ("item", container.expression, key.expression), value, slots)
            case "STORE_GLOBAL" | "STORE_NAME":
                self._store(start, end, ("global", argument), stack.pop(), (_NO_STACK, _NO_STACK))
            case "STORE_DEREF":
                self._store(start, end, ("cell", argument), stack.pop(), (_NO_STACK, _NO_STACK))
            case _:
                self._other(name, argument, end)

    def _other(self, name: str, argument: int, end: int) -> None:
        """An instruction of which only the effect on the stack matters, and where it may lead."""
        effect = self._effect(name, argument)
        if effect is None:
            raise IndexError(name)
        stack = self._stack
        if name.startswith("POP_JUMP_IF"):
            tested = stack.pop()
            self._ahead.append(
                _Branch(end, end + argument, frozenset(one for one in tested.loads if one.tested))
            )
            self._jump(end + argument)
        elif name in _ADDS:
            added = stack.pop()
            into = stack[-argument]
            stack[-argument] = _Value(into.expression, _both(into, added))
        elif name in _DROPS or name in _LEAVES:
            del stack[len(stack) + effect :]
        elif effect < 0:
            taken = stack[effect - 1 :]
            del stack[effect - 1 :]
            stack.append(_Value(self._new(), _union(taken)))
        elif effect == 0:
            if name == "JUMP_FORWARD":
                self._jump(end + argument)
            elif name not in _KEEPS and stack:
                stack[-1] = _Value(self._new(), stack[-1].loads)
        else:
            made_of_top = name.startswith(("UNPACK_", "FOR_ITER", "GET_", "MATCH_"))
            loads = stack[-1].loads if made_of_top else _NONE
            if name.startswith("UNPACK_"):
                stack.pop()
                effect += 1
            stack.extend(_Value(self._new(), loads) for _ in range(min(effect, MAX_STACK)))
        if name == "FOR_ITER":
            self._ahead.append(_Branch(end, end + argument, _NONE))
        if name in ("FOR_ITER", "SEND"):
            self._jump(end + argument)

    def _slot(self, depth: int) -> int:
        """A place on the stack, where it is known how deep it is."""
        return depth if self._exact else _NO_STACK

    def _slot_of(self, expression: Expression) -> int:
        """The lowest place on the stack that has a value."""
        for depth, value in enumerate(self._stack):
            if value.expression == expression:
                return self._slot(depth)
        return _NO_STACK

    def _push_local(self, number: int) -> None:
        expression = ("local", number, self._versions.get(number, 0))
        self._stack.append(_Value(expression, self._loads.get(number, _NONE)))

    def _store_local(self, number: int) -> None:
        self._loads[number] = self._stack.pop().loads
        self._versions[number] = self._next()

    def _load(self, end: int, place: Expression, *, kept: bool, loads: frozenset[_Load] = _NONE) -> None:
        if kept:
            loads = _bounded(loads | {_Load(end, place, True, (_NO_STACK, _NO_STACK))})
        self._stack.append(_Value(place, loads))

    def _load_attribute(self, end: int, argument: int) -> None:
        number = argument >> 1
        slot = self._slot_of(self._stack[-1].expression)
        owner = self._stack.pop()
        place = ("attr", owner.expression, number)
        loads = owner.loads
        if number in self._attributes:
            loads = _bounded(loads | {_Load(end, place, True, (slot, _NO_STACK))})
        if argument & 1:
            method = number in self._readers
            self._stack.append(_Value(("method", owner.expression) if method else self._new(), loads))
            self._stack.append(owner)
        else:
            self._stack.append(_Value(place, loads))

    def _load_item(self, end: int) -> None:
        container, key = self._stack[-2], self._stack[-1]
        slots = self._slot_of(container.expression), self._slot_of(key.expression)
        del self._stack[-2:]
        place = ("item", container.expression, key.expression)
        loads = _both(container, key)
        if self._items:
            loads = _bounded(loads | {_Load(end, place, True, slots)})
        self._stack.append(_Value(place, loads))

    def _contains(self, end: int) -> None:
        key, container = self._stack[-2], self._stack[-1]
        slots = self._slot_of(container.expression), self._slot_of(key.expression)
        del self._stack[-2:]
        loads = _both(container, key)
        if self._items:
            place = ("item", container.expression, key.expression)
            loads = _bounded(loads | {_Load(end, place, True, slots)})
        self._stack.append(_Value(self._new(), loads))

    def _call(self, end: int, arguments: int) -> None:
        taken = self._stack[-arguments - 2 :]
        if len(taken) < arguments + 2:
            raise IndexError("CALL")
        del self._stack[-arguments - 2 :]
        loads = _union(taken)
        called = taken[0].expression
        if called[0] == "method" and arguments and self._items:
            place = ("item", called[1], taken[2].expression)
            loads = _bounded(loads | {_Load(end, place, False, (_NO_STACK, _NO_STACK))})
        self._stack.append(_Value(self._new(), loads))

    # --- stores ---

    def _store(self, start: int, end: int, place: Expression, value: _Value, slots: tuple[int, int]) -> None:
        store = _Store(start, end, start if self._swaps is None else self._swaps, slots)
        made_of = max((one for one in value.loads if one.place == place), default=None)
        decided = max(
            (
                (load.end, since)
                for since, loads in self._decided(start)
                for load in loads
                if load.place == place
            ),
            default=None,
        )
        if made_of is not None and (decided is None or made_of.end >= decided[0]):
            self._update(place, made_of.end, made_of.slots, store, check=False)
        elif decided is not None:
            self._update(place, max(decided), (_NO_STACK, _NO_STACK), store, check=True)
        for load in value.loads:
            if load.place == place or load.place[:-1] != place[:-1] or len(place) < 3:
                continue
            other = self._crossed.get((place, load.place))
            if other is not None:
                self._update(load.place, other[0].end, other[0].slots, other[1], check=False)
                self._update(place, load.end, load.slots, store, check=False)
            elif len(self._crossed) < MAX_UPDATES:
                self._crossed[load.place, place] = load, store

    def _decided(self, at: int) -> Iterable[tuple[int, frozenset[_Load]]]:
        """(since where, by what loads) it was decided that a code unit is come to."""
        for branch in self._ahead:
            yield branch.end, branch.loads
        for branch, until, _ in self._left:
            if at < until:
                yield branch.target, branch.loads

    def _update(
        self, place: Expression, since: int, slots: tuple[int, int], store: _Store, *, check: bool
    ) -> None:
        """Keep an update of a place that was loaded, or tested, right before `since`."""
        start = since
        for branch in self._ahead:
            if branch.end > since:
                start = max(start, branch.end)
        for branch, _, back in self._left:
            if branch.end > since and back < since:  # else a loop in between
                start = max(start, branch.target)
        main = self._described(place, slots, check=check)
        if main is not None:
            end = store.settled if main.by_stack else store.end
            if start < end:
                self._found[replace(main, start=start, end=end)] = None
        if main is None or main.by_stack:
            tail = self._described(place, store.slots, check=check)
            if tail is not None:
                self._found[replace(tail, start=store.start, end=store.end)] = None

    def _described(self, place: Expression, slots: tuple[int, int], *, check: bool) -> Update | None:
        kind = place[0]
        if kind in ("global", "cell"):
            return Update(0, 0, kind, place[1], check=check)
        base = _recipe(place[1], slots[0])
        if base is None:
            return None
        if kind == "attr":
            return Update(0, 0, "attribute", place[2], base, check=check)
        key = _recipe(place[2], slots[1])
        return None if key is None else Update(0, 0, "item", 0, base, key, check)


def _recipe(expression: Expression, slot: int, attributes: int = MAX_ATTRIBUTES) -> Expression | None:
    """How to find a value in the frame: by its variables where that is enough, else on its stack."""
    known: Expression | None = None
    match expression:
        case ("local", number, _):
            known = ("local", number)
        case ("cell" | "global" | "const" | "int", _):
            known = expression
        case ("attr", owner, name) if attributes:
            found = _recipe(owner, _NO_STACK, attributes - 1)
            known = None if found is None else ("attr", found, name)
    if known is None and slot != _NO_STACK:
        return ("stack", slot)
    return known


def _bounded(loads: frozenset[_Load]) -> frozenset[_Load]:
    """The loads, or the latest of them."""
    return loads if len(loads) <= MAX_LOADS else frozenset(sorted(loads)[-MAX_LOADS:])


def _both(one: _Value, other: _Value) -> frozenset[_Load]:
    return _bounded(one.loads | other.loads) if one.loads or other.loads else _NONE


def _union(values: Iterable[_Value]) -> frozenset[_Load]:
    return _bounded(_NONE.union(*(value.loads for value in values)))
