"""What the interpreters of a process say of themselves: which there are, the GIL, names of threads.

In: remote memory, a `Runtime`. Out: addresses and ids of interpreters, who has the GIL and who asked for it,
the names that `threading` gave.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import MemoryReadError
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import Layout
from ftdiag.sources.python.objects import NotAnObject, ObjectReader
from ftdiag.sources.python.runtime import Runtime

MAX_INTERPRETERS: Final = 1024
MAX_MODULES: Final = 20_000
"""Loaded modules that are asked whether they want the GIL."""


@dataclass(frozen=True, slots=True)
class InterpreterRef:
    """One PyInterpreterState."""

    address: int
    id: int


class InterpreterStates:
    """Reads the interpreters' own state.

    Raises TargetGone and PermissionRefused from any method when the process is gone or the kernel refuses.
    """

    def __init__(self, memory: RemoteMemory, runtime: Runtime) -> None:
        self.memory = memory
        self.runtime = runtime
        self.layout: Layout = runtime.layout
        self.objects = ObjectReader(memory, runtime.layout)

    def interpreters(self) -> list[InterpreterRef]:
        """All interpreters of the process, newest first as CPython links them.

        Raises MemoryReadError when the list's head cannot be read.
        """
        layout = self.layout
        found: list[InterpreterRef] = []
        seen: set[int] = set()
        address = self.memory.read_word(self.runtime.address + layout.runtime_interpreters_head)
        while address and address not in seen and len(found) < MAX_INTERPRETERS:
            seen.add(address)
            try:
                number = self.memory.read_word(address + layout.interpreter_id)
                following = self.memory.read_word(address + layout.interpreter_next)
            except MemoryReadError:
                break
            found.append(InterpreterRef(address, number))
            address = following
        return found

    def gil_enabled(self) -> bool | None:
        """Whether a GIL is in force in the main interpreter; `None` if it cannot be read.

        Always true on builds that have no free threading (gil_runtime_state.enabled, Python/ceval_gil.c).
        """
        if self.layout.interpreter_gil_enabled is None:
            return True
        try:
            main = [ref for ref in self.interpreters() if ref.id == 0]
            if not main:
                return None
            data = self.memory.read(main[0].address + self.layout.interpreter_gil_enabled, 4)
        except MemoryReadError:
            return None
        return int.from_bytes(data, "little") != 0

    def gil_culprits(self) -> tuple[str, ...]:
        """Names of the loaded extension modules that ask for the GIL, in the order of their import.

        An extension module that does not declare Py_MOD_GIL_NOT_USED switches the GIL back on. Pure Python
        modules and those built into the interpreter do not count. Empty on builds without free threading.
        """
        if not self.layout.free_threaded:
            return ()
        culprits: list[str] = []
        try:
            for interpreter in self.interpreters():
                modules = self.memory.read_word(interpreter.address + self.layout.interpreter_imports_modules)
                for key, module in self.objects.dict_items(modules)[:MAX_MODULES]:
                    if self._asks_for_gil(module):
                        culprits.append(self.objects.string(key))
        except (MemoryReadError, NotAnObject):
            return tuple(dict.fromkeys(culprits))
        return tuple(dict.fromkeys(culprits))

    def _asks_for_gil(self, module: int) -> bool:
        layout = self.layout
        try:
            if self.objects.type_name(self.objects.type_of(module)) != "module":
                return False
            data = self.memory.read(module + layout.module_gil, 8)
            if layout.module_gil_is_wish:
                asks = data[0] == 1  # bool md_requires_gil
            else:
                asks = int.from_bytes(data, "little") == 0  # Py_MOD_GIL_USED
            if not asks:
                return False
            path = self.objects.dict_get(self.objects.module_dict(module), "__file__")
            return path is not None and self.objects.string(path).endswith(".so")
        except (MemoryReadError, NotAnObject):
            return False

    def gil_holder(self) -> int | None:
        """Address of the thread state that has the main interpreter's GIL, `None` if nobody has it."""
        layout = self.layout
        try:
            for ref in self.interpreters():
                if ref.id == 0:
                    locked = self.memory.read(ref.address + layout.interpreter_gil_locked, 4)
                    if int.from_bytes(locked, "little", signed=True) == 1:
                        return self.memory.read_word(ref.address + layout.interpreter_gil_holder) or None
        except MemoryReadError:
            return None
        return None

    def finalizing(self) -> bool:
        """Whether no interpreter is left, as at the very end of a process."""
        try:
            return not self.interpreters()
        except MemoryReadError:
            return True

    def thread_names(self) -> dict[int, str]:
        """`threading.get_ident()` -> `Thread.name`, from the `threading` module of every interpreter.

        This works where the OS knows no names (3.13 does not set them). Threads whose entry changes while
        it is read are missing.
        """
        names: dict[int, str] = {}
        for interpreter in self.interpreters():
            try:
                names.update(self._names_in(interpreter.address))
            except (MemoryReadError, NotAnObject):
                continue
        return names

    def _names_in(self, interpreter: int) -> dict[int, str]:
        objects = self.objects
        modules = self.memory.read_word(interpreter + self.layout.interpreter_imports_modules)
        if not modules:
            return {}
        threading_module = objects.dict_get(modules, "threading")
        if threading_module is None:
            return {}
        active = objects.dict_get(objects.module_dict(threading_module), "_active")
        if active is None:
            return {}
        names = {}
        for key, thread in objects.dict_items(active):
            try:
                name = objects.attribute(thread, "_name")
                if name is not None:
                    names[objects.integer(key)] = objects.string(name)
            except (MemoryReadError, NotAnObject):
                continue
        return names
