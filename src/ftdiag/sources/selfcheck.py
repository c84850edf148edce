"""Whether what is known of a target's CPython is true: every fact that can be checked from outside, on it.

In: the memory of a process, the address of its `_PyRuntime`. Out: one `FieldCheck` for each field.

A field is judged in two ways. First it is compared with the table of its version, where builds do not differ.
Then something known is read through it: a thread state by its thread's id, a dict by `sys.hexversion`, a line
table by the length of its bytecode. What needs another field that is wrong is not judged: so one field that
lies is named, and not all that hang on it. The process runs on meanwhile; a check that races with it is
tried again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from ftdiag.cpython.facts import Facts
from ftdiag.datatypes import dataclass
from ftdiag.errors import MemoryReadError
from ftdiag.sources.collector import generations
from ftdiag.sources.layouts import (
    COOKIE,
    DEBUG_OFFSETS_BYTES,
    CollectorLayout,
    Layout,
    Version,
    differing,
    known_facts,
    make_layout,
    parse_header,
    parse_version,
    published_offsets,
)
from ftdiag.sources.locations import LineTable
from ftdiag.sources.memory import RemoteMemory
from ftdiag.sources.objects import NotAnObject, ObjectReader

ATTEMPTS: Final = 5
"""Times that a check is made until its field is called wrong: frames and dicts change while they are read."""
MAX_THREADS: Final = 4096
MAX_FRAMES: Final = 64
MAX_STRINGS: Final = 200
MAX_TABLE: Final = 1 << 16
_WORD: Final = struct.Struct("<Q")
_TAGS: Final = 7
_TPFLAGS_DICT_SUBCLASS: Final = 1 << 29
_TPFLAGS_READY: Final = 1 << 12
_LARGEST_FLOAT: Final = 1.7976931348623157e308
"""`sys.float_info.max` of IEEE 754 doubles."""


class Judgement(Enum):
    """What a check came to."""

    RIGHT = "right"
    """Something known was found through it."""
    TABLE = "as in the table"
    """It is the table's value; from outside nothing tells more."""
    PLAUSIBLE = "plausible"
    """It differs between builds, and what lies there can be what it should be."""
    WRONG = "wrong"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """One field: "thread_state.native_thread_id", its offset or size in bytes, and what was found."""

    field: str
    value: int | None
    judgement: Judgement
    words: str


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """All fields of one process. `version` is `None` where no table of it is known."""

    version: Version | None
    free_threaded: bool
    fields: tuple[FieldCheck, ...]

    @property
    def wrong(self) -> tuple[FieldCheck, ...]:
        """Those that lie."""
        return tuple(each for each in self.fields if each.judgement is Judgement.WRONG)


def check_process(pid: int, memory: RemoteMemory, runtime: int, facts: Facts | None = None) -> SelfCheck:
    """Check the CPython whose `_PyRuntime` lies at `runtime`; `facts` instead of its version's table.

    `pid` is the process in our own PID namespace. Raises UnsupportedPython where the version has no table,
    TargetGone, PermissionRefused.
    """
    data = memory.read_up_to(runtime, DEBUG_OFFSETS_BYTES)
    header = parse_header(data)
    if header is None or data[:8] != COOKIE:
        words = f"{data[:8]!r} lies at {runtime:#x}, not {COOKIE!r} with a version"
        return SelfCheck(None, False, (FieldCheck("cookie", None, Judgement.WRONG, words),))
    version, free_threaded, known = known_facts(data)
    facts = known if facts is None else facts
    published = published_offsets(data, facts)
    return _Checker(pid, memory, runtime, version, free_threaded, facts, published).run()


class _Wrong(Exception):
    """What was found instead of what should be there."""


class _Checker:
    """One run; judges fields in an order in which each check builds on what was judged before."""

    def __init__(
        self,
        pid: int,
        memory: RemoteMemory,
        runtime: int,
        version: Version,
        free_threaded: bool,
        facts: Facts,
        published: dict[str, int],
    ) -> None:
        self._pid = pid
        self._memory = memory
        self._runtime = runtime
        self._version = version
        self._free_threaded = free_threaded
        self._published = published
        self._facts = facts
        self._others = facts.others(free_threaded=free_threaded)
        self._values = {**published, **self._others}
        self._layout: Layout = make_layout(version, published, facts, free_threaded=free_threaded)
        self._objects = ObjectReader(memory, self._layout)
        self._found: dict[str, tuple[Judgement, str]] = {}
        self._interpreter = 0
        self._threads: list[int] = []
        self._sys: dict[str, int] = {}
        self._frames: list[int] = []

    def run(self) -> SelfCheck:
        """All checks."""
        table = differing(self._published, self._facts, free_threaded=self._free_threaded)
        for name, words in table.items():
            self._found[name] = Judgement.WRONG, f"{words}, as headers of {self._facts.headers} have it"
        for judge in (
            self._interpreters,
            self._thread_states,
            self._namespaces,
            self._types,
            self._dicts,
            self._values_in_sys,
            self._orders,
            self._threading,
            self._code_objects,
            self._gil_and_collector,
        ):
            judge()
        checks = [FieldCheck("cookie", None, Judgement.RIGHT, COOKIE.decode())]
        expected = self._facts.expected(free_threaded=self._free_threaded)
        for name, value in self._values.items():
            judgement, words = self._found.get(name, (Judgement.UNCHECKED, ""))
            if judgement is Judgement.UNCHECKED and not words:
                same = name in self._others or expected.get(name) == value
                judgement = Judgement.TABLE if same else Judgement.PLAUSIBLE
            checks.append(FieldCheck(name, value, judgement, words))
        return SelfCheck(self._version, self._free_threaded, tuple(checks))

    # --- judging ---

    def _judge(self, fields: str, needs: str, check: Callable[[], str]) -> bool:
        """Judge fields by one check, if nothing that it needs is wrong. The check says what it found.

        Returns whether the fields are right. A field that was judged stays as it was judged.
        """
        names = [name for name in fields.split() if name in self._values and name not in self._found]
        # Of fields that are judged together one may be wrong already: that explains all that is found.
        blamed = [name for name in dict.fromkeys(f"{fields} {needs}".split()) if not self._good(name)]
        if not names:
            return all(self._good(name) for name in fields.split())
        if blamed:
            for name in names:
                self._found[name] = Judgement.UNCHECKED, f"needs {', '.join(blamed)}"
            return False
        words = ""
        for _ in range(ATTEMPTS):
            try:
                words = check()
            except _Wrong as problem:
                words = str(problem)
            except (MemoryReadError, NotAnObject, struct.error, IndexError, OverflowError) as problem:
                words = f"nothing sensible: {problem}".splitlines()[0]
            else:
                for name in names:
                    self._found[name] = Judgement.RIGHT, words
                return True
        for name in names:
            self._found[name] = Judgement.WRONG, words
        return False

    def _good(self, name: str) -> bool:
        found = self._found.get(name)
        return found is None or found[0] not in (Judgement.WRONG, Judgement.UNCHECKED)

    def _word(self, address: int) -> int:
        return self._memory.read_word(address)

    def _at(self, address: int, field: str) -> int:
        return self._memory.read_word(address + self._values[field])

    def _type_name(self, address: int) -> str:
        return self._objects.type_name(self._objects.type_of(address))

    # --- states ---

    def _thread_ids(self) -> set[int]:
        """Ids of the threads, in the PID namespace of the process itself."""
        ids = set()
        for task in os.listdir(f"/proc/{self._pid}/task"):
            try:
                with open(
                    f"/proc/{self._pid}/task/{task}/status", encoding="ascii", errors="replace"
                ) as file:
                    inner = next((line.split()[-1] for line in file if line.startswith("NSpid:")), task)
            except OSError:
                continue
            ids.add(int(inner))
        return ids

    def _signs(self, interpreter: int) -> dict[str, bool]:
        """What speaks for there being an interpreter state, each by fields of its own."""

        def holds(question: Callable[[], bool]) -> bool:
            try:
                return question()
            except (MemoryReadError, NotAnObject, struct.error, KeyError):
                return False

        gil = self._values["interpreter_state.gil_runtime_state"]
        return {
            "interpreter_state.ceval_gil": holds(
                lambda: self._at(interpreter, "interpreter_state.ceval_gil") == interpreter + gil
            ),
            "interpreter_state.threads_head": holds(
                lambda: self._is_thread(self._at(interpreter, "interpreter_state.threads_head"), interpreter)
            ),
            "interpreter_state.threads_main": holds(
                lambda: self._is_thread(self._at(interpreter, "interpreter_state.threads_main"), interpreter)
            ),
        }

    def _is_thread(self, state: int, interpreter: int) -> bool:
        back = self._at(state, "thread_state.interp") == interpreter
        return back or self._at(state, "thread_state.native_thread_id") in self._thread_ids()

    def _interpreters(self) -> None:
        def head() -> str:
            self._interpreter = self._word(self._runtime + self._values["runtime_state.interpreters_head"])
            # The newest comes first; the main one is the last.
            for _ in range(1024):
                following = self._at(self._interpreter, "interpreter_state.next")
                if not following or following % 8:
                    break
                try:
                    if not any(self._signs(following).values()):
                        break
                except MemoryReadError:
                    break
                self._interpreter = following
            if not any(self._signs(self._interpreter).values()):
                raise _Wrong(f"no interpreter state at {self._interpreter:#x}")
            return f"an interpreter state at {self._interpreter:#x}"

        if not self._judge("runtime_state.interpreters_head", "", head):
            return
        signs = self._signs(self._interpreter)

        def sign(name: str) -> Callable[[], str]:
            def check() -> str:
                if not (signs[name] or self._signs(self._interpreter)[name]):
                    raise _Wrong(f"{self._at(self._interpreter, name):#x} is no such thing")
                return "leads where it should"

            return check

        head_needed = "runtime_state.interpreters_head"

        def first_of_all() -> str:
            words = sign("interpreter_state.threads_head")()
            first = self._at(self._interpreter, "interpreter_state.threads_head")
            before = self._at(first, "thread_state.prev")
            if before and self._at(before, "thread_state.next") == first:
                raise _Wrong("a thread state stands before the first")
            return words

        self._judge("interpreter_state.threads_head", head_needed, first_of_all)
        self._judge("interpreter_state.threads_main", head_needed, sign("interpreter_state.threads_main"))
        self._judge(
            "interpreter_state.ceval_gil interpreter_state.gil_runtime_state",
            head_needed,
            sign("interpreter_state.ceval_gil"),
        )

        def number() -> str:
            found = self._at(self._interpreter, "interpreter_state.id")
            if found != 0:
                raise _Wrong(f"the main interpreter would have number {found}")
            return "0: the main interpreter's"

        self._judge("interpreter_state.id", head_needed, number)

        def last() -> str:
            following = self._at(self._interpreter, "interpreter_state.next")
            if following:
                raise _Wrong(f"{following:#x} follows the main interpreter, and is none")
            return "none behind the main interpreter"

        self._judge("interpreter_state.next", head_needed, last)

    def _thread_states(self) -> None:
        first = 0
        if self._good("interpreter_state.threads_head") and self._interpreter:
            first = self._at(self._interpreter, "interpreter_state.threads_head")
        needed = "interpreter_state.threads_head runtime_state.interpreters_head"

        def back() -> str:
            if self._at(first, "thread_state.interp") != self._interpreter:
                raise _Wrong("it does not lead back to the interpreter")
            return "leads back to the interpreter"

        def native() -> str:
            found, known = self._at(first, "thread_state.native_thread_id"), self._thread_ids()
            if found not in known:
                raise _Wrong(f"{found} is no thread of the process")
            return f"{found}, a thread of the process"

        def chain() -> str:
            seen: list[int] = []
            state, known = first, self._thread_ids()
            while state and state not in seen and len(seen) < MAX_THREADS:
                if self._at(state, "thread_state.interp") != self._interpreter:
                    raise _Wrong(f"{state:#x} is no thread state")
                seen.append(state)
                state = self._at(state, "thread_state.next")
            natives = {self._at(state, "thread_state.native_thread_id") for state in seen}
            if not natives <= known | self._thread_ids() | {0} or not natives & known:
                raise _Wrong("it leads to states of no thread")
            self._threads = seen
            return f"{len(seen)} thread states, each of a thread of the process"

        def before() -> str:
            for one, other in zip(self._threads, self._threads[1:], strict=False):
                if self._at(other, "thread_state.prev") != one:
                    raise _Wrong("the one behind does not lead back")
            if self._at(self._threads[0], "thread_state.prev"):
                raise _Wrong("something stands before the first")
            return "each leads back to the one before"

        def ident() -> str:
            # On x86-64 glibc and musl, threading.get_ident() is the address of the thread's control block,
            # whose
            # first word is its own address.
            for state in self._threads:
                found = self._at(state, "thread_state.thread_id")
                if self._word(found) != found:
                    raise _Wrong(f"{found:#x} is not the control block of a thread")
            return "the control block of each thread"

        self._judge("thread_state.interp", needed, back)
        self._judge("thread_state.native_thread_id", needed, native)
        self._judge("thread_state.next", f"{needed} thread_state.interp thread_state.native_thread_id", chain)
        if not self._threads and first and self._good("thread_state.interp"):
            self._threads = [first]
        self._judge("thread_state.prev", "thread_state.next", before)
        if os.uname().machine == "x86_64":
            self._judge("thread_state.thread_id", f"{needed} thread_state.next", ident)

        def attachment() -> str:
            found = [
                int.from_bytes(self._memory.read(one + self._layout.thread_state, 4), "little")
                for one in self._threads
            ]
            # Include/cpython/pystate.h: detached, attached, suspended, and shutting down (3.14 on)
            if not found or any(each > 3 for each in found):
                raise _Wrong(f"{found[:4]} are no states of threads")
            return f"states {sorted(set(found))}"

        if self._free_threaded:
            self._judge("PyThreadState.state", "thread_state.next", attachment)

        def section() -> str:
            for state in self._threads:
                found = self._at(state, "PyThreadState.critical_section")
                if found:
                    self._word(found & ~3)
            return "null, or a critical section"

        if self._free_threaded:
            self._judge("PyThreadState.critical_section", "thread_state.next", section)

    # --- objects ---

    def _namespaces(self) -> None:
        """Three dicts of the interpreter prove the head of objects and of types."""
        fields = (
            "interpreter_state.sysdict",
            "interpreter_state.builtins",
            "interpreter_state.imports_modules",
        )
        needed = "runtime_state.interpreters_head"

        def named(field: str) -> str | None:
            try:
                return self._type_name(self._at(self._interpreter, field))
            except (MemoryReadError, NotAnObject):
                return None

        def circle() -> str:
            for field in fields:
                try:
                    kind = self._at(self._at(self._interpreter, field), "pyobject.ob_type")
                    metatype = self._at(kind, "pyobject.ob_type")
                    if self._at(metatype, "pyobject.ob_type") == metatype and metatype != kind:
                        return "the type of types is its own"
                except MemoryReadError:
                    continue
            raise _Wrong("no type there whose type is its own type")

        def name() -> str:
            for field in fields:
                if named(field) == "dict":
                    return '"dict"'
            raise _Wrong(f"{named(fields[0])!r} instead of 'dict'")

        self._judge("pyobject.ob_type", needed, circle)
        self._judge("type_object.tp_name", f"{needed} pyobject.ob_type", name)

        def is_dict(field: str) -> Callable[[], str]:
            def check() -> str:
                if named(field) != "dict":
                    raise _Wrong("no dict lies there")
                return "a dict"

            return check

        for field in fields:
            self._judge(field, f"{needed} pyobject.ob_type type_object.tp_name", is_dict(field))

    def _dict_type(self) -> int:
        return self._at(self._at(self._interpreter, "interpreter_state.sysdict"), "pyobject.ob_type")

    def _types(self) -> None:
        needed = "pyobject.ob_type interpreter_state.sysdict"

        def flags() -> str:
            found = self._at(self._dict_type(), "type_object.tp_flags")
            if found >> 24 != _TPFLAGS_DICT_SUBCLASS >> 24 or not found & _TPFLAGS_READY:
                raise _Wrong(f"{found:#x} are not the flags of dict")
            return "those of dict"

        def representation() -> str:
            found = self._at(self._dict_type(), "type_object.tp_repr")
            if not self._is_code_address(found):
                raise _Wrong(f"{found:#x} is no function")
            return "a function"

        def size() -> str:
            found = self._at(self._dict_type(), "PyTypeObject.tp_basicsize")
            if found != self._values["dict_object.size"]:
                metatype = self._at(self._dict_type(), "pyobject.ob_type")
                whole = self._at(metatype, "PyTypeObject.tp_basicsize")
                if whole > self._values["type_object.size"] and whole < 4096:
                    return "that of type"
                raise _Wrong(f"a dict would have {found} bytes")
            return f"a dict has {found} bytes"

        def dict_size() -> str:
            found = self._at(self._dict_type(), "PyTypeObject.tp_basicsize")
            if found != self._values["dict_object.size"]:
                raise _Wrong(f"dict says {found}")
            return "as dict says itself"

        self._judge("type_object.tp_flags", needed, flags)
        self._judge("type_object.tp_repr", needed, representation)
        self._judge("PyTypeObject.tp_basicsize type_object.tp_basicsize", needed, size)
        self._judge("dict_object.size", f"{needed} PyTypeObject.tp_basicsize", dict_size)

    def _is_code_address(self, address: int) -> bool:
        with open(f"/proc/{self._pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                span, permissions = line.split(maxsplit=2)[:2]
                start, _, end = span.partition("-")
                if int(start, 16) <= address < int(end, 16):
                    return "x" in permissions
        return False

    def _dicts(self) -> None:
        """The keys of `sys.__dict__` are strings whose length and data prove each other."""
        needed = "interpreter_state.sysdict pyobject.ob_type type_object.tp_name type_object.tp_flags"

        def address() -> int:
            return self._at(self._interpreter, "interpreter_state.sysdict")

        def keys() -> str:
            table = self._at(address(), "dict_object.ma_keys")
            head = self._memory.read(table, 32)
            count = _WORD.unpack_from(head, 24)[0]
            if head[10] > 2 or head[9] > 40 or not 0 < count < MAX_TABLE:
                raise _Wrong("no table of keys lies there")
            return f"a table of {count} keys"

        def values() -> str:
            found = self._at(address(), "dict_object.ma_values")
            if found:
                raise _Wrong(f"{found:#x} would be values of their own, which sys.__dict__ has not")
            return "null, as in sys.__dict__"

        self._judge("dict_object.ma_keys", needed, keys)
        self._judge("dict_object.ma_values", f"{needed} dict_object.ma_keys", values)
        needed += " dict_object.ma_keys dict_object.ma_values"
        layout = self._layout

        def strings() -> Iterable[tuple[int, bytes]]:
            for key, _ in self._objects.dict_items(address())[:MAX_STRINGS]:
                data = self._memory.read_up_to(key, layout.unicode_ascii_data + 256)
                yield key, data

        def shape() -> str:
            count = 0
            for _, data in strings():
                (state,) = struct.unpack_from("<I", data, layout.unicode_state)
                kind, compact, ascii_only = (
                    state >> layout.unicode_kind_shift + shift for shift in (0, 3, 4)
                )
                if kind & 7 != 1 or not compact & 1 or not ascii_only & 1:
                    raise _Wrong(f"{state:#x} is not the state of a compact ASCII string")
                count += 1
            return f"{count} compact ASCII strings"

        def lengths() -> list[tuple[int, int]]:
            found = []
            for _, data in strings():
                (length,) = _WORD.unpack_from(data, layout.unicode_length)
                found.append((length, len(data[layout.unicode_ascii_data :].split(b"\0", 1)[0])))
            return found

        def data() -> str:
            off = {length - text for length, text in lengths() if length > 16 or text > 16}
            if len(off) == 1 and 0 not in off:
                raise _Wrong(f"text begins {off.pop()} bytes off")
            return "text that ends where its length says"

        def length() -> str:
            wrong = [pair for pair in lengths() if pair[0] != pair[1]]
            if wrong:
                raise _Wrong(f"length {wrong[0][0]} of {wrong[0][1]} characters")
            return "that of the text"

        self._judge("unicode_object.state UNICODE_KIND_BIT", needed, shape)
        self._judge("unicode_object.asciiobject_size", needed, data)
        self._judge("unicode_object.length", f"{needed} unicode_object.asciiobject_size", length)
        needed += " unicode_object.state unicode_object.asciiobject_size unicode_object.length"
        self._tell_namespaces_apart(needed)
        if all(self._good(name) for name in needed.split()):
            try:
                for key, value in self._objects.dict_items(address()):
                    self._sys.setdefault(self._objects.string(key), value)
            except (MemoryReadError, NotAnObject):
                pass

    def _tell_namespaces_apart(self, needed: str) -> None:
        """Each of the three dicts has a name that the others have not: they lie side by side."""
        for field, name in (
            ("interpreter_state.sysdict", "hexversion"),
            ("interpreter_state.builtins", "ZeroDivisionError"),
            ("interpreter_state.imports_modules", "builtins"),
        ):
            others = [one for one in needed.split() if one != "interpreter_state.sysdict"]
            if not self._good(field) or not all(map(self._good, others)):
                continue
            try:
                found = self._objects.dict_get(self._at(self._interpreter, field), name)
            except (MemoryReadError, NotAnObject):
                continue
            if found is None:
                self._found[field] = Judgement.WRONG, f"a dict without {name!r}"
            else:
                self._found[field] = Judgement.RIGHT, f"a dict with {name!r}"

    def _values_in_sys(self) -> None:
        """Values of known name: numbers, tuples, lists and sets."""
        self._integers()
        self._sequences()

        def table() -> str:
            names = self._sys["stdlib_module_names"]
            used = self._at(names, "set_object.used")
            mask = self._at(names, "set_object.mask")
            entries = self._at(names, "set_object.table")
            if not 100 < used <= mask < MAX_TABLE or mask & mask + 1:
                raise _Wrong(f"{used} of {mask + 1} entries are in use")
            found = self._memory.read(entries, 16 * (mask + 1))
            words = [
                self._objects.string(word) for word in struct.unpack(f"<{2 * mask + 2}Q", found)[0::2] if word
            ]
            if "threading" not in words:
                raise _Wrong("sys.stdlib_module_names does not name threading")
            return f"sys.stdlib_module_names, {used} of them"

        def numbers() -> str:
            names = self._sys["stdlib_module_names"]
            used, mask = self._at(names, "set_object.used"), self._at(names, "set_object.mask")
            if not 100 < used <= mask < MAX_TABLE or mask & mask + 1:
                raise _Wrong(f"{used} of {mask + 1} entries would be in use")
            return f"sys.stdlib_module_names has {used}"

        if "stdlib_module_names" in self._sys:
            self._judge("set_object.used set_object.mask", "unicode_object.length", numbers)
            self._judge("set_object.table", "unicode_object.length set_object.used set_object.mask", table)

    def _integers(self) -> None:
        needed = "unicode_object.length dict_object.ma_keys type_object.tp_flags"
        if "hexversion" not in self._sys:
            return
        number = self._sys["hexversion"]

        def tag() -> str:
            found = self._at(number, "long_object.lv_tag")
            if found != 1 << 3:
                raise _Wrong(f"{found:#x} is not the tag of one positive digit")
            return "one digit, positive"

        def digits() -> str:
            found = self._objects.integer(number)
            if parse_version(found) != self._version:
                raise _Wrong(f"sys.hexversion would be {found:#x}")
            return f"sys.hexversion is {found:#x}"

        self._judge("long_object.lv_tag", needed, tag)
        self._judge("long_object.ob_digit", f"{needed} long_object.lv_tag", digits)

    def _sequences(self) -> None:
        needed = "unicode_object.length dict_object.ma_keys"
        if not {"version_info", "path", "float_info"} <= self._sys.keys():
            return

        def count() -> str:
            found = self._at(self._sys["version_info"], "tuple_object.ob_size")
            if found != 5:
                raise _Wrong(f"sys.version_info would have {found} items")
            return "sys.version_info has 5 items"

        def items() -> str:
            first = self._sys["version_info"] + self._values["tuple_object.ob_item"]
            found = [self._objects.integer(self._word(first + 8 * place)) for place in range(3)]
            if found != [self._version.major, self._version.minor, self._version.micro]:
                raise _Wrong(f"sys.version_info would begin with {found}")
            return f"sys.version_info begins with {found}"

        def floating() -> str:
            largest = self._at(self._sys["float_info"], "tuple_object.ob_item")
            value = struct.unpack("<d", self._memory.read(largest + self._values["float_object.ob_fval"], 8))[
                0
            ]
            if value != _LARGEST_FLOAT:
                raise _Wrong(f"sys.float_info.max would be {value}")
            return f"sys.float_info.max is {value}"

        def list_size() -> str:
            found = self._at(self._sys["path"], "list_object.ob_size")
            if not 0 < found < 10_000:
                raise _Wrong(f"sys.path would have {found} items")
            return f"sys.path has {found} items"

        def list_items() -> str:
            word = self._word(self._at(self._sys["path"], "list_object.ob_item"))
            return f"sys.path begins with {self._objects.string(word)!r}"

        self._judge("tuple_object.ob_size", needed, count)
        self._judge("tuple_object.ob_item", f"{needed} long_object.ob_digit long_object.lv_tag", items)
        self._judge("float_object.ob_fval", f"{needed} tuple_object.ob_item", floating)
        self._judge("list_object.ob_size", needed, list_size)
        self._judge("list_object.ob_item", needed, list_items)

    def _orders(self) -> None:
        """The method resolution order of dict, for which tuples have to be right."""
        needed = "pyobject.ob_type interpreter_state.sysdict type_object.tp_name tuple_object.ob_item"

        def order() -> str:
            kind = self._dict_type()
            bases = self._at(kind, "PyTypeObject.tp_mro")
            if self._type_name(bases) != "tuple" or self._at(bases, "tuple_object.ob_item") != kind:
                raise _Wrong("it is not a tuple that begins with the type itself")
            return "a tuple that begins with the type itself"

        self._judge("PyTypeObject.tp_mro", needed, order)

    def _threading(self) -> None:
        """The main thread's name and a lock of the module `threading`."""
        needed = (
            "interpreter_state.imports_modules unicode_object.length dict_object.ma_keys type_object.tp_flags"
        )
        if any(not self._good(name) for name in needed.split()):
            return
        try:
            modules = self._at(self._interpreter, "interpreter_state.imports_modules")
            module = self._objects.dict_get(modules, "threading")
        except (MemoryReadError, NotAnObject):
            return
        if module is None:
            return

        def namespace() -> str:
            if self._type_name(self._at(module, "PyModuleObject.md_dict")) != "dict":
                raise _Wrong("no dict lies there")
            return "the dict of threading"

        self._judge("PyModuleObject.md_dict", needed, namespace)
        needed += " PyModuleObject.md_dict"

        def variable(name: str) -> int:
            found = self._objects.dict_get(self._at(module, "PyModuleObject.md_dict"), name)
            if found is None:
                raise _Wrong(f"threading.{name} is not there")
            return found

        def name() -> str:
            names = []
            for _, thread in self._objects.dict_items(variable("_active")):
                attribute = self._objects.attribute(thread, "_name")
                if attribute is not None:
                    names.append(self._objects.string(attribute))
            if not names:
                raise _Wrong("no thread of threading._active has a name")
            return f"{', '.join(names[:4])}"

        attributes = "MANAGED_DICT_OFFSET PyHeapTypeObject.ht_cached_keys heap_type_object.ht_cached_keys"
        self._judge(f"{attributes} PyDictValues.values", f"{needed} PyTypeObject.tp_basicsize", name)

        def lock() -> str:
            found = variable("_active_limbo_lock")
            kind = self._type_name(found)
            state = self._memory.read(found + self._layout.object_size, 1)[0]
            if kind not in ("_thread.lock", "_thread.RLock") or (kind == "_thread.lock" and state > 3):
                raise _Wrong(f"a {kind} whose mutex is {state:#x}")
            return f"a {kind} follows its head: threading._active_limbo_lock"

        self._judge("pyobject.size", needed, lock)

    # --- frames and code ---

    def _code_of(self, frame: int) -> int:
        return self._at(frame, "interpreter_frame.executable") & ~_TAGS

    def _code_objects(self) -> None:
        needed = "thread_state.next type_object.tp_name type_object.tp_flags pyobject.ob_type"

        def is_code(frame: int) -> bool:
            try:
                return self._type_name(self._code_of(frame)) == "code"
            except (MemoryReadError, NotAnObject):
                return False

        def starts() -> list[int]:
            return [
                frame for state in self._threads if (frame := self._at(state, "thread_state.current_frame"))
            ]

        def current() -> str:
            found = starts()
            good = [frame for frame in found if is_code(frame) or self._in_chunk(frame)]
            if not good:
                raise _Wrong("no thread has a frame there")
            return f"frames of {len(good)} threads"

        def executable() -> str:
            good = [frame for frame in starts() if is_code(frame)]
            if not good:
                raise _Wrong("no code object")
            return "a code object"

        def previous() -> str:
            longest: list[int] = []
            for frame in starts():
                walked: list[int] = []
                while frame and frame not in walked and len(walked) < MAX_FRAMES:
                    if self._memory.read(frame + self._values["interpreter_frame.owner"], 1)[0] > 4:
                        raise _Wrong("it leads to no frame")
                    walked.append(frame)
                    frame = self._at(frame, "interpreter_frame.previous")
                kept = [each for each in walked if is_code(each)]
                if len(kept) > len(longest):
                    longest = kept
            if len(longest) < 2:
                raise _Wrong("no thread has two frames")
            self._frames = longest
            return f"a stack of {len(longest)} frames"

        def owner() -> str:
            found = {
                self._memory.read(frame + self._values["interpreter_frame.owner"], 1)[0] for frame in starts()
            }
            if any(each > 4 for each in found):
                raise _Wrong(f"{sorted(found)} are no owners")
            return f"owners {sorted(found)}"

        def chunk() -> str:
            if not any(self._in_chunk(frame) for frame in starts()):
                raise _Wrong("no frame lies in it")
            return "holds the thread's frames"

        self._judge("interpreter_frame.executable thread_state.current_frame", needed, executable)
        self._found_again("thread_state.current_frame", needed, current, "interpreter_frame.executable")
        self._judge("thread_state.datastack_chunk", f"{needed} thread_state.current_frame", chunk)
        needed += " thread_state.current_frame interpreter_frame.executable"
        self._judge("interpreter_frame.owner", needed, owner)
        self._judge("interpreter_frame.previous", f"{needed} interpreter_frame.owner", previous)
        needed += " interpreter_frame.previous"
        self._code_fields(needed)

    def _found_again(self, field: str, needs: str, check: Callable[[], str], other: str) -> None:
        """Where two fields failed together: `field` may be right by itself, so that the other one lies."""
        if self._good(field) or field not in self._found:
            return
        del self._found[field]
        if not self._judge(field, needs, check):
            self._found[other] = Judgement.UNCHECKED, f"needs {field}"

    def _in_chunk(self, frame: int) -> bool:
        for state in self._threads:
            try:
                chunk = self._at(state, "thread_state.datastack_chunk")
                size = self._word(chunk + 8)
            except MemoryReadError:
                continue
            if chunk < frame < chunk + size <= chunk + (1 << 32):
                return True
        return False

    def _code_fields(self, needed: str) -> None:
        strings = f"{needed} unicode_object.length unicode_object.state unicode_object.asciiobject_size"

        def codes() -> list[int]:
            return [self._code_of(frame) for frame in self._frames]

        def texts(field: str, suits: Callable[[str], bool]) -> Callable[[], str]:
            def check() -> str:
                found = [self._objects.string(self._at(code, field)) for code in codes()]
                if not found or not all(map(suits, found)):
                    raise _Wrong(f"{found[:1]} is no such name")
                return repr(found[0])

            return check

        def is_file(text: str) -> bool:
            return "/" in text or text.startswith("<") or text.endswith(".py")

        def is_name(text: str) -> bool:
            return "/" not in text

        self._judge("code_object.filename", strings, texts("code_object.filename", is_file))
        self._judge("code_object.name", strings, texts("code_object.name", is_name))

        def qualified() -> str:
            for code in codes():
                whole = self._objects.string(self._at(code, "code_object.qualname"))
                if not whole.endswith(self._objects.string(self._at(code, "code_object.name"))):
                    raise _Wrong(f"{whole!r} does not end with the function's name")
            return "ends with the function's name"

        self._judge("code_object.qualname", f"{strings} code_object.name", qualified)

        def units(code: int) -> int:
            return self._at(code, "PyCodeObject.ob_base.ob_size")

        def raw(address: int) -> bytes:
            if self._type_name(address) != "bytes":
                raise _Wrong("it is no bytes object")
            return self._objects.bytes_object(address)

        def table() -> str:
            for code in codes():
                data = raw(self._at(code, "code_object.linetable"))
                lines = LineTable(data, 1)
                # The table accounts for every code unit, and for no further one.
                if lines.units != units(code):
                    raise _Wrong(f"lines of {lines.units} code units, of {units(code)}")
            return "lines of every code unit"

        def ends_with_null() -> str:
            for code in codes():
                handlers = self._at(code, "PyCodeObject.co_exceptiontable")
                size = self._at(handlers, "bytes_object.ob_size")
                start = handlers + self._values["bytes_object.ob_sval"]
                data = self._memory.read(start, min(size, MAX_TABLE) + 1)
                # Objects/bytesobject.c: a null follows; in a table of handlers the first byte is no null.
                if data[-1] or (size and not data[0]):
                    raise _Wrong(f"{size} bytes, and no null behind them")
            return "a null follows the bytes"

        def inside() -> str:
            for frame in self._frames:
                code = self._code_of(frame)
                place = self._at(frame, "interpreter_frame.instr_ptr")
                if not any(start <= place < start + 2 * units(code) for start in self._bytecodes(code)):
                    raise _Wrong(f"{place:#x} is not in the bytecode of its function")
            return "in the bytecode of its function"

        def kind_of(field: str, kind: str) -> Callable[[], str]:
            def check() -> str:
                for code in codes():
                    found = self._type_name(self._at(code, field))
                    if found != kind:
                        raise _Wrong(f"a {found}, not a {kind}")
                return f"a {kind}"

            return check

        def locals_named() -> str:
            for code in codes():
                names = self._at(code, "code_object.localsplusnames")
                count = self._at(names, "tuple_object.ob_size")
                kinds = raw(self._at(code, "code_object.localspluskinds"))
                if self._type_name(names) != "tuple" or len(kinds) != count:
                    raise _Wrong(f"{len(kinds)} kinds of {count} names")
                (said,) = struct.unpack("<i", self._memory.read(code + self._layout.code_local_count, 4))
                if said != count:
                    raise _Wrong(f"{said} locals, but {count} names")
            return "names, kinds and number agree"

        def arguments() -> str:
            for code in codes():
                (said,) = struct.unpack(
                    "<i", self._memory.read(code + self._values["code_object.argcount"], 4)
                )
                (local,) = struct.unpack("<i", self._memory.read(code + self._layout.code_local_count, 4))
                if not 0 <= said <= local:
                    raise _Wrong(f"{said} arguments among {local} locals")
            return "no more than there are locals"

        table_of_handlers = "PyCodeObject.co_exceptiontable"
        self._judge(table_of_handlers, needed, kind_of(table_of_handlers, "bytes"))
        self._judge(
            "bytes_object.ob_size bytes_object.ob_sval", f"{needed} {table_of_handlers}", ends_with_null
        )
        in_bytes = f"{needed} bytes_object.ob_size bytes_object.ob_sval"
        self._judge("code_object.linetable", in_bytes, table)
        self._judge("PyCodeObject.ob_base.ob_size", f"{in_bytes} code_object.linetable", table)
        bytecode = f"{needed} PyCodeObject.ob_base.ob_size"
        self._judge(
            "code_object.co_code_adaptive code_object.co_tlbc interpreter_frame.instr_ptr", bytecode, inside
        )
        self._judge("PyCodeObject.co_consts", needed, kind_of("PyCodeObject.co_consts", "tuple"))
        self._judge("PyCodeObject.co_names", needed, kind_of("PyCodeObject.co_names", "tuple"))
        self._judge(
            "code_object.localsplusnames code_object.localspluskinds PyCodeObject.co_nlocalsplus",
            f"{needed} bytes_object.ob_size tuple_object.ob_size",
            locals_named,
        )
        self._judge("code_object.argcount", f"{needed} PyCodeObject.co_nlocalsplus", arguments)

    def _bytecodes(self, code: int) -> list[int]:
        """Where the bytecode of a code object begins: the shared one, and the threads' own."""
        found = [code + self._layout.code_bytecode]
        if self._layout.code_tlbc is not None:
            table = self._word(code + self._layout.code_tlbc)
            count = self._word(table)
            if not 0 < count <= MAX_TABLE:
                raise _Wrong("no table of threads' own bytecode")
            found += struct.unpack(f"<{count}Q", self._memory.read(table + 8, 8 * count))
        return found

    # --- the rest ---

    def _gil_and_collector(self) -> None:
        layout = self._layout
        needed = "runtime_state.interpreters_head interpreter_state.gil_runtime_state"

        def small(offset: int | None, allowed: tuple[int, ...]) -> Callable[[], str]:
            def check() -> str:
                assert offset is not None
                data = self._memory.read(self._interpreter + offset, 4)
                found = int.from_bytes(data, "little", signed=True)
                if found not in allowed:
                    raise _Wrong(f"{found} is none of {allowed}")
                return f"{found}"

            return check

        if layout.interpreter_gil_enabled is not None:
            switch = small(layout.interpreter_gil_enabled, (0, 1, 0x7FFF_FFFF))
            self._judge("interpreter_state.gil_runtime_state_enabled", needed, switch)
        self._judge(
            "interpreter_state.gil_runtime_state_locked",
            needed,
            small(layout.interpreter_gil_locked, (-1, 0, 1)),
        )

        def holder() -> str:
            found = self._word(self._interpreter + layout.interpreter_gil_holder)
            if found and found not in self._threads:
                raise _Wrong(f"{found:#x} is no thread state")
            return "a thread state" if found else "nobody"

        self._judge("interpreter_state.gil_runtime_state_holder", f"{needed} thread_state.next", holder)
        collector = "runtime_state.interpreters_head"
        flag = small(layout.interpreter_gc + layout.gc_collecting, (0, 1))
        self._judge("gc.collecting", collector, flag)
        if layout.collector is not None and self._good("runtime_state.interpreters_head"):
            self._statistics(layout.collector, collector)

    def _statistics(self, layout: CollectorLayout, needed: str) -> None:
        def counts() -> str:
            address = self._word(self._interpreter + layout.pointer)
            data = self._memory.read(address, layout.size)
            found = generations(data, layout)
            if found is None:
                raise _Wrong("no statistics of a collector")
            (sequence,) = struct.unpack_from("<I", data, layout.sequence)
            collections = sum(each.count for each in found)
            if sequence != 2 * collections & 0xFFFF_FFFF:
                raise _Wrong(f"{collections} collections, but {sequence} changes of their statistics")
            for each in found:
                if (each.count > 0) != (each.total_ns > 0):
                    raise _Wrong(f"{each.count} collections in {each.total_ns / 1e9} s")
            return f"{collections} collections in {sum(each.total_ns for each in found) / 1e9:.6f} s"

        entries = " ".join(
            f"struct gc_generation_stats.{name}"
            for name in ("ts_start", "ts_stop", "collections", "collected", "candidates", "duration")
        )
        self._judge(
            f"gc.generation_stats interpreter_state.gc {entries} struct gc_stats.old"
            " struct gc_stats.update_seq sizeof(struct gc_generation_stats)",
            f"{needed} gc.generation_stats_size",
            counts,
        )
