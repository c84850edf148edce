"""A made-up process to look at, with all that a reader follows: threads, frames, names, locks, modules.

In: a build. Out: `SceneOfObjects`, whose memory is damaged and put right again for each mutant.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from fake_process import PAGE, FakeProcess, Sink
from ftdiag.errors import FtdiagError
from ftdiag.sources.kernel.syscalls import BlockedCall
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.locks.stoptheworld import StopTheWorldReader
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import Runtime
from ftdiag.sources.python.sharedobjects import SharedObjectReader
from ftdiag.sources.python.walking import MAX_STACK_DEPTH, PythonThread
from fuzz.ticks import take_ticks

FUTEX: Final = 202
MOST_BYTES: Final = 256 << 20
"""What looking at everything twice may read of a process that lies."""
MOST_CALLS: Final = 100_000
THREADS: Final = 4
TYPE_FLAG: Final = 1 << 31
MANAGED: Final = 1 << 4 | 1 << 9


@dataclass(slots=True)
class SceneOfObjects:
    """A process, and the addresses of words in it that mean something."""

    build: str
    process: FakeProcess
    words: list[int]
    locks: list[int]
    entries: list[int]
    pristine: dict[int, bytes] = field(default_factory=dict)

    def address(self, chance: Random) -> int:
        """Where something lies."""
        return chance.choice(self.words) + chance.choice((0, 0, 0, 8, -8, 1))

    def damage(self, address: int, value: int) -> None:
        """Change a word; `heal` puts it right."""
        pages = self.process.memory.pages
        for page in {address & -PAGE, address + 7 & -PAGE}:
            if page in pages:
                self.pristine.setdefault(page, bytes(pages[page]))
        if all(page in pages for page in (address & -PAGE, address + 7 & -PAGE)):
            self.process.memory.write_word(address, value)

    def lose(self, address: int) -> None:
        """Take the page away."""
        page = self.process.memory.pages.pop(address & -PAGE, None)
        if page is not None:
            self.pristine.setdefault(address & -PAGE, bytes(page))

    def heal(self) -> None:
        """Everything as it was."""
        for page, data in self.pristine.items():
            self.process.memory.pages[page] = bytearray(data)
        self.pristine.clear()


def scene_of(build: str) -> SceneOfObjects:
    """Four threads, each five functions deep, that have names, locks, and variables of many types."""
    process = FakeProcess(build)
    layout, memory = process.layout, process.memory
    process._next += layout.runtime_size
    metatype = process.type("type", TYPE_FLAG)
    memory.write_word(metatype + layout.object_type, metatype)
    for name in ("str", "dict", "list", "tuple", "int", "bytes", "code", "module", "_thread.lock", "Config"):
        memory.write_word(process.type(name) + layout.object_type, metatype)
        memory.write_word(process.type(name) + layout.type_basic_size, 128)
    process.type("Thread", MANAGED)
    lock, queue = process.object("_thread.lock", 128), process.object("list", 128)
    config = process.object("Config", 256)
    memory.write(config, struct.pack("<QHBBIq", 99, 0, 0, 0, 1, 1))
    values = {"LOCK": lock, "QUEUE": queue, "CONFIG": config, "NAME": process.string("wörker €")}
    names = {name: process.string(name) for name in values}
    tree = process.dict({names[name]: value for name, value in values.items()})
    state, entries, threads = 0, [], {}
    for number in range(THREADS):
        leaf, chunk = process.stack(["main", "serve", "handle", "work", f"step{number}"])
        code = memory.read_word(leaf + layout.frame_executable) & ~7
        local_names = _tuple(process, [names["LOCK"], names["CONFIG"]])
        memory.write_word(code + layout.code_local_names, local_names)
        memory.write(code + layout.code_local_count, struct.pack("<i", 2))
        memory.write_word(code + layout.code_names, _tuple(process, list(names.values())))
        memory.write_word(leaf + layout.frame_localsplus, lock)
        memory.write_word(leaf + layout.frame_localsplus + 8, config | 1)
        memory.write_word(leaf + layout.frame_globals, tree)
        memory.write_word(leaf + layout.frame_globals + 8, tree)
        ident = 0x7F00_1000 + number
        state = process.thread(leaf, chunk, native_id=1000 + number, ident=ident, following=state)
        entry = process.allocate(256)
        memory.write(entry + 64, struct.pack("<QQ", state, lock + layout.object_size))
        memory.write_word(state + layout.thread_critical_section, entry + 128)
        memory.write(entry + 128, struct.pack("<QQ", 0, queue + 10))
        entries.append(entry + 64)
        thread = process.object("Thread", 512)
        memory.write_word(
            thread + layout.managed_dict,
            process.dict({process.string("_name"): process.string(f"w-{number}")}),
        )
        threads[process.integer(ident)] = thread
    module = process.object("module", 256)
    memory.write_word(
        module + layout.object_size, process.dict({process.string("_active"): process.dict(threads)})
    )
    modules = process.dict({process.string("threading"): module, process.string("app"): module})
    process._next = process._next + PAGE - 1 & -PAGE
    process.interpreter(state, modules=modules)
    process._next += layout.interpreter_size
    words = [
        page + place
        for page, data in memory.pages.items()
        for place in range(0, PAGE, 8)
        if data[place : place + 8] != bytes(8)
    ]
    return SceneOfObjects(build, process, words, [lock + layout.object_size, queue + 10, config], entries)


def _tuple(process: FakeProcess, items: list[int]) -> int:
    layout = process.layout
    address = process.object("tuple", layout.tuple_items + 8 * len(items) + 8)
    process.memory.write_word(address + layout.tuple_count, len(items))
    process.memory.write(address + layout.tuple_items, struct.pack(f"<{len(items)}Q", *items))
    return address


def look_at_everything(scene: SceneOfObjects, runtime: Runtime, *, compiled: bool) -> list[str]:
    """All that the sampler asks of a process; what is wrong with how it was asked or answered.

    `compiled`: whether the walker in C follows the frames.
    """
    memory = scene.process.memory
    memory.calls = memory.transferred = 0
    sink = Sink()
    interpreter = InterpreterReader(memory, runtime, sink, compiled=compiled)
    threads: list[PythonThread] = []
    with suppress(FtdiagError):
        threads = interpreter.threads()[:64]
    for _ in range(2):
        with suppress(FtdiagError):
            interpreter.walk(threads)
    locks, shared = LockReader(interpreter), SharedObjectReader(interpreter)
    _each(
        interpreter.thread_names,
        interpreter.gil_enabled,
        interpreter.gil_culprits,
        interpreter.gil_holder,
        interpreter.finalizing,
        interpreter.recheck_codes,
        lambda: StopTheWorldReader(interpreter).requester(threads),
        lambda: locks.refresh(scene.locks),
        lambda: locks.held_by_critical_sections(threads),
        lambda: locks.entries_now(scene.entries),
    )
    for thread, entry in zip(threads[:THREADS], scene.entries, strict=False):
        call = BlockedCall(FUTEX, (entry + 16, 0, 0, 0, 0, 0), entry - 64)
        _each(
            locks.look_anew,
            partial(locks.identify, call, thread),
            partial(locks.held_by_with_blocks, thread),
            partial(interpreter.current_line, thread),
            partial(interpreter.local_variables, thread, 0),
            partial(interpreter.globals_of, thread, 0),
            partial(shared.named, thread),
        )
    wrong = []
    if memory.transferred > MOST_BYTES:
        wrong.append("read more of the process than it has")
    if memory.calls > MOST_CALLS:
        wrong.append("asked for memory without an end")
    if any(len(stack) > MAX_STACK_DEPTH + 1 for stack in sink.stacks.values()):
        wrong.append("a stack deeper than any can be")
    if interpreter.compiled:
        wrong += take_ticks(scene.process, runtime, scene.entries, threads, interpreter, sink)
    return wrong


def _each(*acts: Callable[[], object]) -> None:
    for act in acts:
        with suppress(FtdiagError):
            act()
