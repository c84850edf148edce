"""Which profile and trace functions and tools of sys.monitoring are set in the target.

In: the thread states of a target. Out: `TracingHook`s, each once, whichever threads have it.

`sys.setprofile` and `sys.settrace` (and their namesakes in `threading`) keep what they were given in the
thread's state, `c_profileobj` and `c_traceobj` (Include/cpython/pystate.h): a Python function, a bound
method, or the object of a tracer in C. `sys.monitoring.use_tool_id` keeps the tool's name in the state of the
interpreter. From 3.12 on cProfile is such a tool.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.model import HookKind, TracingHook
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.walking import PythonThread

MAX_THREADS: Final = 16
"""Threads that are asked; a hook is nearly always set in all of them."""
MAX_HOOKS: Final = 8
TOOLS: Final = 6
"""Tools of sys.monitoring with a name; two further numbers are those of setprofile and settrace
(PY_MONITORING_SYS_PROFILE_ID, Include/internal/pycore_instruments.h)."""


class TracingReader:
    """Reads what traces the threads of one target."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._interpreter = interpreter
        self._memory = interpreter.memory
        self._layout = interpreter.layout
        self._objects = interpreter.objects

    def hooks(self, threads: Iterable[PythonThread]) -> tuple[TracingHook, ...]:
        """What is set at this moment: in these threads, and as tools of the main interpreter. Raises
        TargetGone."""
        found: dict[TracingHook, None] = {}
        seen: set[tuple[HookKind, int]] = set()
        profile, trace = self._layout.thread_profile_object, self._layout.thread_trace_object
        first = min(profile, trace)
        size = abs(profile - trace) + 8
        for thread in itertools.islice(threads, MAX_THREADS):
            try:
                data = self._memory.read(thread.address + first, size)
                for kind, offset in ((HookKind.PROFILE, profile - first), (HookKind.TRACE, trace - first)):
                    address = int.from_bytes(data[offset : offset + 8], "little")
                    if address and (kind, address) not in seen:
                        seen.add((kind, address))
                        found[self._described(kind, address)] = None
            except (MemoryReadError, NotAnObject):
                continue  # the thread ended, or its function was replaced just now
        for name in self._tool_names():
            found[TracingHook(HookKind.TOOL, name)] = None
        return tuple(found)[:MAX_HOOKS]

    def _described(self, kind: HookKind, address: int) -> TracingHook:
        objects, memory = self._objects, self._memory
        type_name = objects.type_name(objects.type_of(address))
        if type_name == "method":
            address = memory.read_word(address + self._layout.method_function)
            type_name = objects.type_name(objects.type_of(address))
        if type_name != "function":
            return TracingHook(kind, type_name)
        code = memory.read_word(address + self._layout.function_code)
        name = objects.string(memory.read_word(code + self._layout.code_qualname))
        return TracingHook(kind, name, objects.string(memory.read_word(code + self._layout.code_filename)))

    def _tool_names(self) -> list[str]:
        offset = self._layout.interpreter_tool_names
        if offset is None:
            return []
        names = []
        try:
            main = [ref.address for ref in self._interpreter.interpreters() if ref.id == 0]
            for interpreter in main:
                words = memoryview(self._memory.read(interpreter + offset, 8 * TOOLS)).cast("Q")
                names = [self._objects.string(word) for word in words if word]
        except (MemoryReadError, NotAnObject):
            pass
        return names
