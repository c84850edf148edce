"""CPython's struct layouts, per version: where things lie in the target's memory.

In: the bytes of `_Py_DebugOffsets`, the first field of `_PyRuntime`. Out: a `Layout`.

From 3.13 on, CPython publishes most offsets itself; their order, and what it does not publish, are facts of
each minor version (`ftdiag.cpython`). What is published is compared with them by name: structs that do not
change within a minor version must be the known ones, because what is not published was derived from the same
headers. Others are refused, with the fields that differ: a wrong offset would give wrong answers, not errors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from ftdiag.cpython import FACTS
from ftdiag.cpython.by_hand import BY_HAND
from ftdiag.cpython.facts import ByHand, Facts
from ftdiag.datatypes import dataclass
from ftdiag.errors import UnsupportedPython
from ftdiag.model import (
    CONSTANTS_LOCK,
    DELAYED_FREES,
    EXTENSIONS_LOCK,
    FUNCTIONS_LOCK,
    IMPORT_LOCK,
    NAMES_LOCK,
    OTHERS_COUNTS,
    STOP_EVENT,
    STOP_TURN,
    THREADS_LOCK,
    TYPES_LOCK,
    WARNINGS_LOCK,
    WEAK_REFERENCES,
)

COOKIE: Final = b"xdebugpy"
"""First bytes of `_Py_DebugOffsets` (macro _Py_Debug_Cookie)."""
HEADER_BYTES: Final = 24
"""cookie[8], version, free_threaded: the part of the struct that is the same in every version."""
DEBUG_OFFSETS_BYTES: Final = 1024
"""Enough for the whole struct in every known version."""
SUPPORTED: Final = tuple(FACTS)

VARYING: Final = ("runtime_state.", "interpreter_state.", "gc.", "thread_state.size", "debugger_support.")
"""Fields whose value differs between patch releases and builds of one minor version: these states hold what
others declare (the allocator's heaps, the collector's settings). Nothing unpublished is read beside them."""
MAX_DIFFERENCES_NAMED: Final = 6
STATISTICS_SIZE: Final = "gc.generation_stats_size"


@dataclass(frozen=True, slots=True)
class Version:
    """A PY_VERSION_HEX, taken apart. `release` is "a", "b", "rc" or ""."""

    major: int
    minor: int
    micro: int
    release: str
    serial: int

    def __str__(self) -> str:
        suffix = f"{self.release}{self.serial}" if self.release else ""
        return f"{self.major}.{self.minor}.{self.micro}{suffix}"


def parse_version(version_hex: int) -> Version:
    """Take PY_VERSION_HEX apart (Include/patchlevel.h)."""
    release = {0xA: "a", 0xB: "b", 0xC: "rc"}.get(version_hex >> 4 & 0xF, "")
    return Version(
        version_hex >> 24 & 0xFF,
        version_hex >> 16 & 0xFF,
        version_hex >> 8 & 0xFF,
        release,
        version_hex & 0xF,
    )


@dataclass(frozen=True, slots=True)
class CollectorLayout:
    """Where `struct gc_stats` lies and what is in it (Include/internal/pycore_interp_structs.h).

    `pointer` is in the interpreter state; `sequence` (`update_seq`) and `rings` (begin and number of entries
    for each generation, youngest first) are in the struct of `size` bytes; the others in an entry of
    `entry_size` bytes, struct gc_generation_stats.
    """

    pointer: int
    size: int
    sequence: int
    rings: tuple[tuple[int, int], ...]
    entry_size: int
    begin: int
    end: int
    count: int
    freed: int
    looked_at: int
    seconds: int

    @property
    def generations(self) -> int:
        """How many generations have statistics."""
        return len(self.rings)


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes of everything that is read, for one version and build of CPython.

    Fields named `<struct>_<field>` come from `_Py_DebugOffsets`; the others say where they come from.
    `None` where the version has no such thing.
    """

    version: Version
    free_threaded: bool

    runtime_size: int
    runtime_interpreters_head: int

    interpreter_size: int
    interpreter_id: int
    interpreter_next: int
    interpreter_threads_head: int
    interpreter_imports_modules: int
    interpreter_gil_state: int
    interpreter_gil_enabled: int | None
    interpreter_gil_locked: int
    interpreter_gil_holder: int
    interpreter_code_object_generation: int | None
    interpreter_tlbc_generation: int | None
    interpreter_tool_names: int | None
    """`PyInterpreterState.monitoring_tool_names`: a word for each tool of sys.monitoring, null or a str
    (Include/internal/pycore_interp.h). `None` where the struct is of another size than in the headers."""
    interpreter_gc: int
    gc_collecting: int
    """In struct _gc_runtime_state: an int, true while the collector runs."""
    collector: CollectorLayout | None
    """The collector's statistics (from 3.15 on); `None` also where they are of another size."""

    thread_size: int
    thread_next: int
    thread_interpreter: int
    thread_current_frame: int
    thread_ident: int
    thread_native_id: int
    thread_datastack_chunk: int
    thread_state: int
    """`PyThreadState.state`: 0 detached, 1 attached, 2 suspended (Include/cpython/pystate.h).

    4-byte int."""
    thread_critical_section: int
    """`PyThreadState.critical_section`: a tagged pointer (Include/internal/pycore_critical_section.h)."""
    thread_profile_object: int
    thread_trace_object: int
    """What sys.setprofile and sys.settrace were given in the thread, or null: a function, a bound method, or
    the object of a tracer in C."""

    frame_size: int
    frame_previous: int
    frame_executable: int
    frame_instr_ptr: int
    frame_localsplus: int
    frame_owner: int
    frame_tlbc_index: int | None
    first_foreign_owner: int
    """Frame owners from this value on are not Python frames (enum _frameowner:
    FRAME_OWNED_BY_CSTACK or _INTERPRETER = 3)."""

    code_size: int
    code_filename: int
    code_qualname: int
    code_linetable: int
    code_first_line: int
    code_bytecode: int
    code_tlbc: int | None
    code_units: int
    """Number of 2-byte code units: `ob_size` of the code object (PyVarObject)."""
    code_exception_table: int
    """`co_exceptiontable`: third pointer behind the PyVarObject header (Include/cpython/code.h)."""
    code_constants: int
    """`co_consts`: first pointer behind the PyVarObject header."""
    code_names: int
    """`co_names`: the second one."""
    code_stack_size: int
    """`co_stacksize`, 4-byte int just before co_firstlineno."""
    code_local_count: int
    """`co_nlocalsplus`, 4-byte int just behind co_firstlineno."""
    code_local_names: int
    with_handler: bytes
    """First opcodes of the handler that a `with` statement puts in the exception table:
    PUSH_EXC_INFO, WITH_EXCEPT_START (Include/opcode_ids.h)."""
    with_keeps_exit_method: bool
    """Whether a `with` statement keeps the bound `__exit__` on the stack (BEFORE_WITH, 3.13) or the
    context manager itself above the unbound function (LOAD_SPECIAL, from 3.14 on)."""
    rlock_is_semaphore: bool
    """Whether an RLock points to a semaphore (3.13), or has its mutex in itself (from 3.14 on)."""
    frame_globals: int
    """`f_globals`; f_builtins and f_locals follow."""

    object_size: int
    object_type: int
    type_name: int
    type_flags: int
    tuple_items: int
    tuple_count: int
    list_items: int
    list_count: int
    dict_keys: int
    dict_values: int
    long_tag: int
    long_digits: int
    bytes_count: int
    bytes_data: int
    unicode_state: int
    unicode_length: int
    unicode_ascii_data: int
    """Data of a compact ASCII string: sizeof(PyASCIIObject)."""
    unicode_compact_data: int
    """Data of other compact strings: sizeof(PyCompactUnicodeObject) = PyASCIIObject + 2 words."""
    unicode_kind_shift: int
    """Bit of `kind:3` in the 4 bytes of `state`; `compact` and `ascii` follow. `interned` before it is 2
    bits wide, but a whole byte in free-threaded builds from 3.14 on (Include/cpython/unicodeobject.h)."""

    module_gil: int
    """`md_gil` (3.13, 3.14) or `md_requires_gil` (3.15) of PyModuleObject, free-threaded builds only
    (Objects/moduleobject.c, Include/internal/pycore_moduleobject.h)."""
    module_gil_is_wish: bool
    """Whether it is a bool that asks for the GIL (3.15), or 0 = used, 1 = not used."""
    managed_dict: int
    """Offset (negative) of the managed `__dict__` pointer: -1 word in free-threaded builds, -3 words else
    (MANAGED_DICT_OFFSET, Include/internal/pycore_object.h)."""
    type_basic_size: int
    """`tp_basicsize`: the word behind tp_name (Include/cpython/object.h)."""
    type_dict: int
    """`tp_dict`: 12 words behind tp_flags; null for static types (Include/cpython/object.h)."""
    type_mro: int
    """`tp_mro`: 22 words behind tp_flags."""
    function_code: int
    method_function: int
    interpreter_locks: tuple[tuple[int, int, str], ...]
    """Mutexes of the interpreter state that have a name: (offset, bytes, label). Left out is what may lie
    elsewhere, because published fields do not lie where those of the headers do."""
    moved_locks: tuple[tuple[int, int, str], ...]
    """Those that are left out and follow the first: where they lie if they moved as far as what is published
    behind them. The first has a state of its own by which that is known (`locks.handovers`)."""
    runtime_locks: tuple[tuple[int, int, str], ...]
    type_cached_keys: int
    """`PyHeapTypeObject.ht_cached_keys`, behind ht_type, the slot tables, ht_name, ht_slots and
    ht_qualname (Include/cpython/object.h). 3.15 publishes it."""


def parse_header(data: bytes) -> tuple[Version, bool] | None:
    """Version and free-threading flag from the first HEADER_BYTES of the struct; `None` if it is not one."""
    if len(data) < HEADER_BYTES or data[:8] != COOKIE:
        return None
    version_hex, free_threaded = struct.unpack_from("<QQ", data, 8)
    if version_hex >> 32 or free_threaded > 1:
        return None
    return parse_version(version_hex), bool(free_threaded)


def parse_layout(data: bytes) -> Layout:
    """Make the layout from the bytes of `_Py_DebugOffsets` (DEBUG_OFFSETS_BYTES of them, or fewer).

    Raises UnsupportedPython for versions that are not in SUPPORTED and for a struct that is not the known
    one.
    """
    version, free_threaded, facts = known_facts(data)
    published = published_offsets(data, facts)
    wrong = differing(published, facts, free_threaded=free_threaded)
    wrong.pop(STATISTICS_SIZE, None)  # then the collector's statistics are not read; nothing hangs on them
    if wrong:
        named = ", ".join(f"{name} {words}" for name, words in list(wrong.items())[:MAX_DIFFERENCES_NAMED])
        more = len(wrong) - MAX_DIFFERENCES_NAMED
        raise UnsupportedPython(
            f"the memory layout that Python {version} publishes is not the one this ftdiag knows: {named}"
            + (f", and {more} more" if more > 0 else ""),
            "ftdiag doctor --self-check PID   checks every field on the process, for a report",
        )
    return make_layout(version, published, facts, free_threaded=free_threaded)


def known_facts(data: bytes) -> tuple[Version, bool, Facts]:
    """Version, free-threading flag and table of the struct. Raises UnsupportedPython."""
    header = parse_header(data)
    if header is None:
        raise UnsupportedPython("the target has no _Py_DebugOffsets: not CPython 3.13 or later")
    version, free_threaded = header
    facts = FACTS.get((version.major, version.minor))
    if facts is None:
        known = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        series = f"{version.major}.{version.minor}"
        raise UnsupportedPython(
            f"Python {version} is not known to this ftdiag (it knows {known})",
            "pip install --upgrade ftdiag   if there is a newer ftdiag\n"
            f"python3 -m tools.cpython_facts make --headers .../python{series} --python python{series}"
            "   makes its table, in ftdiag's sources",
        )
    return version, free_threaded, facts


def published_offsets(data: bytes, facts: Facts) -> dict[str, int]:
    """ "group.field" -> value, as published. Raises UnsupportedPython where the struct ends early."""
    names = [name for name, _, _ in facts.published]
    if len(data) < HEADER_BYTES + 8 * len(names):
        raise UnsupportedPython("the target's _Py_DebugOffsets is cut short")
    return dict(zip(names, struct.unpack_from(f"<{len(names)}Q", data, HEADER_BYTES), strict=True))


def differing(published: Mapping[str, int], facts: Facts, *, free_threaded: bool) -> dict[str, str]:
    """Field -> "is 8, not 16" for every one that cannot be of this version's struct."""
    expected = facts.expected(free_threaded=free_threaded)
    wrong: dict[str, str] = {}
    for name, value in published.items():
        known = expected.get(name)
        if known is None or not name.startswith(VARYING):
            if value != known:
                wrong[name] = f"is {value}, not {known}"
            continue
        group = name.partition(".")[0]
        whole = published.get(f"{group}.size", _MAX_PLAUSIBLE_SIZE)
        if name.endswith(".size"):
            if not known // 2 <= value <= min(2 * known, _MAX_PLAUSIBLE_SIZE):
                wrong[name] = f"is {value}, about {known} was expected"
        elif name in _INSIDE_ANOTHER:
            if value != known:
                wrong[name] = f"is {value}, not {known}"
        elif value % 4 or (known == 0) != (value == 0) or not value < max(whole, 1):
            wrong[name] = f"is {value} in a struct of {whole}"
    return wrong


_INSIDE_ANOTHER: Final = frozenset(
    "interpreter_state.gil_runtime_state_enabled gc.generation_stats_size"
    " debugger_support.debugger_pending_call"
    " debugger_support.debugger_script_path debugger_support.debugger_script_path_size".split()
)
"""Offsets in, and sizes of, small structs of their own."""
_MAX_PLAUSIBLE_SIZE: Final = 1 << 24


_INTERPRETER_LOCKS: Final[Mapping[str, str]] = {
    # Include/internal/pycore_interp.h (3.13), pycore_interp_structs.h (from 3.14 on)
    "types.mutex": TYPES_LOCK,
    "warnings.mutex": WARNINGS_LOCK,
    "warnings.lock": WARNINGS_LOCK,
    "imports.lock": IMPORT_LOCK,
    "stoptheworld.mutex": STOP_TURN,
    "code_state.mutex": CONSTANTS_LOCK,
    "func_state.mutex": FUNCTIONS_LOCK,
    "mem_free_queue.mutex": DELAYED_FREES,
    "brc": OTHERS_COUNTS,
    "weakref_locks": WEAK_REFERENCES,
}
_FOLLOWING_COUNTS: Final = {member: _INTERPRETER_LOCKS[member] for member in ("brc", "weakref_locks")}
"""The counts of objects that other threads own, and what follows them."""
_RUNTIME_LOCKS: Final[Mapping[str, str]] = {
    # Include/internal/pycore_runtime.h (3.13), pycore_runtime_structs.h (from 3.14 on)
    "stoptheworld.mutex": STOP_TURN,
    "interpreters.mutex": THREADS_LOCK,
    "unicode_state.ids.mutex": NAMES_LOCK,
    "imports.extensions.mutex": EXTENSIONS_LOCK,
}
_LOCK_SIZES: Final[Mapping[str, str]] = {
    "brc": "sizeof(struct _brc_state)",
    "weakref_locks": "NUM_WEAKREF_LIST_LOCKS",
}
"""Where it is not one mutex, whose state is a byte: the fact with the bytes of all of them."""
STOP_EVENT_OFFSET: Final = 4
"""`stop_event` behind `mutex` in `struct _stoptheworld_state`, whose three flags lie between."""


def _named_locks(
    others: Mapping[str, int],
    structure: str,
    labels: Mapping[str, str],
    place_of: Callable[[int], int | None],
) -> tuple[tuple[int, int, str], ...]:
    found: list[tuple[int, int, str]] = []
    for member, label in labels.items():
        known = others.get(f"{structure}.{member}")
        offset = None if known is None else place_of(known)
        if offset is None:
            continue
        found.append((offset, others.get(_LOCK_SIZES.get(member, ""), 1), label))
        if label == STOP_TURN:
            found.append((offset + STOP_EVENT_OFFSET, 1, STOP_EVENT))
    return tuple(found)


def _interpreter_locks(
    published: Mapping[str, int],
    expected: Mapping[str, int],
    others: Mapping[str, int],
    *,
    only_perhaps: bool = False,
) -> tuple[tuple[int, int, str], ...]:
    """Where a build has its mutexes: published fields before and behind them say by how much they moved.

    Or, `only_perhaps`, where those lie between such fields, if they moved as far as what follows.

    Builds differ in the size of what lies in between: optimised 3.14.9t and 3.15.1t have `tlbc_generation`,
    and what follows, 328 and 312 bytes further on than headers of these versions say.
    """

    def moved(name: str) -> int | None:
        here, there = (offsets.get(f"interpreter_state.{name}") for offsets in (published, expected))
        return None if here is None or there is None else here - there

    if moved("imports_modules") or moved("gc") or moved("gil_runtime_state"):
        return ()
    first_end = others["PyInterpreterState.stoptheworld.mutex"] + others["sizeof(struct _stoptheworld_state)"]
    later = expected.get("interpreter_state.tlbc_generation") or expected["interpreter_state.size"]
    by = moved("tlbc_generation") if later < expected["interpreter_state.size"] else None

    def place_of(offset: int) -> int | None:
        if offset < first_end or not moved("size"):
            return offset
        return offset + by if by is not None and offset > later else None

    def perhaps(offset: int) -> int | None:
        return offset + by if by is not None and place_of(offset) is None else None

    labels = _FOLLOWING_COUNTS if only_perhaps else _INTERPRETER_LOCKS
    return _named_locks(others, "PyInterpreterState", labels, perhaps if only_perhaps else place_of)


def _runtime_locks(
    published: Mapping[str, int], expected: Mapping[str, int], others: Mapping[str, int]
) -> tuple[tuple[int, int, str], ...]:
    """They lie before the main interpreter, which is the last field and the one whose size varies."""
    same = all(
        published[name] == expected[name]
        for name in ("runtime_state.finalizing", "runtime_state.interpreters_head")
    )
    return _named_locks(others, "_PyRuntimeState", _RUNTIME_LOCKS, lambda offset: offset if same else None)


def make_layout(
    version: Version, published: Mapping[str, int], facts: Facts, *, free_threaded: bool
) -> Layout:
    """The layout by published offsets and this version's facts; nothing is checked."""
    others = facts.others(free_threaded=free_threaded)
    expected = facts.expected(free_threaded=free_threaded)
    hand: ByHand = BY_HAND[facts.version]
    numbers = facts.opcodes.numbers
    has_tlbc = free_threaded and published.get("code_object.co_tlbc", 0) != 0
    foreign = [value for name, value in others.items() if name.startswith("FRAME_OWNED_BY_")]
    gil = published["interpreter_state.gil_runtime_state"]
    return Layout(
        version=version,
        free_threaded=free_threaded,
        runtime_size=published["runtime_state.size"],
        interpreter_size=published["interpreter_state.size"],
        runtime_interpreters_head=published["runtime_state.interpreters_head"],
        interpreter_id=published["interpreter_state.id"],
        interpreter_next=published["interpreter_state.next"],
        interpreter_threads_head=published["interpreter_state.threads_head"],
        interpreter_imports_modules=published["interpreter_state.imports_modules"],
        interpreter_gil_state=gil,
        # An offset inside struct _gil_runtime_state, whose first field it is; 0 on GIL builds, too.
        interpreter_gil_enabled=(
            gil + published["interpreter_state.gil_runtime_state_enabled"] if free_threaded else None
        ),
        interpreter_gil_locked=published["interpreter_state.gil_runtime_state_locked"],
        interpreter_gil_holder=published["interpreter_state.gil_runtime_state_holder"],
        interpreter_code_object_generation=published.get("interpreter_state.code_object_generation"),
        interpreter_tlbc_generation=(
            published.get("interpreter_state.tlbc_generation") if has_tlbc else None
        ),
        interpreter_tool_names=(
            others["PyInterpreterState.monitoring_tool_names"]
            if published["interpreter_state.size"] == expected["interpreter_state.size"]
            else None
        ),
        interpreter_gc=published["interpreter_state.gc"],
        gc_collecting=published["gc.collecting"],
        collector=_collector_layout(published, others),
        thread_size=published["thread_state.size"],
        thread_next=published["thread_state.next"],
        thread_interpreter=published["thread_state.interp"],
        thread_current_frame=published["thread_state.current_frame"],
        thread_ident=published["thread_state.thread_id"],
        thread_native_id=published["thread_state.native_thread_id"],
        thread_datastack_chunk=published["thread_state.datastack_chunk"],
        thread_state=others["PyThreadState.state"],
        thread_critical_section=others["PyThreadState.critical_section"],
        thread_profile_object=others["PyThreadState.c_profileobj"],
        thread_trace_object=others["PyThreadState.c_traceobj"],
        frame_size=published["interpreter_frame.size"],
        frame_previous=published["interpreter_frame.previous"],
        frame_executable=published["interpreter_frame.executable"],
        frame_instr_ptr=published["interpreter_frame.instr_ptr"],
        frame_localsplus=published["interpreter_frame.localsplus"],
        frame_owner=published["interpreter_frame.owner"],
        frame_tlbc_index=published["interpreter_frame.tlbc_index"] if has_tlbc else None,
        first_foreign_owner=min(foreign),
        code_size=published["code_object.size"],
        code_filename=published["code_object.filename"],
        code_qualname=published["code_object.qualname"],
        code_linetable=published["code_object.linetable"],
        code_first_line=published["code_object.firstlineno"],
        code_bytecode=published["code_object.co_code_adaptive"],
        code_tlbc=published["code_object.co_tlbc"] if has_tlbc else None,
        code_units=others["PyCodeObject.ob_base.ob_size"],
        code_exception_table=others["PyCodeObject.co_exceptiontable"],
        code_constants=others["PyCodeObject.co_consts"],
        code_names=others["PyCodeObject.co_names"],
        code_stack_size=others["PyCodeObject.co_stacksize"],
        code_local_count=others["PyCodeObject.co_nlocalsplus"],
        code_local_names=published["code_object.localsplusnames"],
        with_handler=bytes((numbers["PUSH_EXC_INFO"], numbers["WITH_EXCEPT_START"])),
        with_keeps_exit_method=hand.with_keeps_exit_method,
        rlock_is_semaphore=hand.rlock_is_semaphore,
        frame_globals=others["_PyInterpreterFrame.f_globals"],
        object_size=published["pyobject.size"],
        object_type=published["pyobject.ob_type"],
        type_name=published["type_object.tp_name"],
        type_flags=published["type_object.tp_flags"],
        tuple_items=published["tuple_object.ob_item"],
        tuple_count=published["tuple_object.ob_size"],
        list_items=published["list_object.ob_item"],
        list_count=published["list_object.ob_size"],
        dict_keys=published["dict_object.ma_keys"],
        dict_values=published["dict_object.ma_values"],
        long_tag=published["long_object.lv_tag"],
        long_digits=published["long_object.ob_digit"],
        bytes_count=published["bytes_object.ob_size"],
        bytes_data=published["bytes_object.ob_sval"],
        unicode_state=published["unicode_object.state"],
        unicode_length=published["unicode_object.length"],
        unicode_ascii_data=published["unicode_object.asciiobject_size"],
        unicode_compact_data=others["sizeof(PyCompactUnicodeObject)"],
        unicode_kind_shift=others["UNICODE_KIND_BIT"],
        module_gil=others.get("PyModuleObject.md_gil", others.get("PyModuleObject.md_requires_gil", 0)),
        module_gil_is_wish="PyModuleObject.md_requires_gil" in others,
        managed_dict=others["MANAGED_DICT_OFFSET"],
        type_basic_size=others["PyTypeObject.tp_basicsize"],
        type_dict=others["PyTypeObject.tp_dict"],
        type_mro=others["PyTypeObject.tp_mro"],
        function_code=others["PyFunctionObject.func_code"],
        method_function=others["PyMethodObject.im_func"],
        interpreter_locks=_interpreter_locks(published, expected, others),
        moved_locks=_interpreter_locks(published, expected, others, only_perhaps=True),
        runtime_locks=_runtime_locks(published, expected, others),
        type_cached_keys=others["PyHeapTypeObject.ht_cached_keys"],
    )


def _collector_layout(published: Mapping[str, int], others: Mapping[str, int]) -> CollectorLayout | None:
    pointer = published.get("gc.generation_stats")
    if pointer is None or published[STATISTICS_SIZE] != _whole_words(
        others["struct gc_stats.update_seq"] + 4
    ):
        return None
    entry = "struct gc_generation_stats."
    old, sequence = others["struct gc_stats.old"], others["struct gc_stats.update_seq"]
    older = others["GC_OLD_STATS_SIZE"]
    # struct gc_stats {young, old[2], update_seq}: two rings between the members that have a fact.
    rings = ((0, others["GC_YOUNG_STATS_SIZE"]), (old, older), ((old + sequence) // 2, older))
    return CollectorLayout(
        pointer=published["interpreter_state.gc"] + pointer,
        size=published[STATISTICS_SIZE],
        sequence=sequence,
        rings=rings,
        entry_size=others["sizeof(struct gc_generation_stats)"],
        begin=others[f"{entry}ts_start"],
        end=others[f"{entry}ts_stop"],
        count=others[f"{entry}collections"],
        freed=others[f"{entry}collected"],
        looked_at=others[f"{entry}candidates"],
        seconds=others[f"{entry}duration"],
    )


def _whole_words(size: int) -> int:
    return -(-size // 8) * 8
