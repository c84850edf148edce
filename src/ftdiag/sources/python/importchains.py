"""Who imported a module: the chain from the program's file to it, told from outside.

In: the interpreter of a target, names of modules. Out: names of packages, the outermost importer first.

How: `importlib` moves a module to the end of `sys.modules` when its import has ended (_load_unlocked in
Lib/importlib/_bootstrap.py), so who imports it comes later; and who imports it mostly binds it, a part of it
or a class of it, to a name of its own. The first one after it that does is the one that its import was for.
Packages are told, not their parts, which import each other. The program's file is listed first of all.
"""

from __future__ import annotations

from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.objects import NotAnObject

MAX_LISTED: Final = 4_000
"""Modules of one interpreter that are looked at; further ones are not told as importers."""
MAX_NAMES: Final = 4_000
"""Names of one module that are looked at."""
MAX_CLASSES: Final = 500
"""Values of one module that are looked at for classes."""
_METATYPES: Final = frozenset({"type", "ABCMeta"})
MAX_CHAIN: Final = 6
"""Importers of one module that are told, the nearest of them."""


class ImportChains:
    """The modules of a target, by whom they were imported; read once."""

    def __init__(self, interpreter: InterpreterReader) -> None:
        self._objects = interpreter.objects
        self._memory = interpreter.memory
        self._layout = interpreter.layout
        self._names: list[str] = []
        self._modules: list[int] = []
        self._values: list[frozenset[int]] = []
        self._chains: dict[str, tuple[str, ...]] = {}
        try:
            for each in interpreter.interpreters():
                words = each.address + interpreter.layout.interpreter_imports_modules
                listed = self._objects.dict_items(interpreter.memory.read_word(words))
                for key, module in listed[:MAX_LISTED]:
                    self._add(key, module)
                break  # the main one: the others import for themselves
        except (MemoryReadError, NotAnObject):
            pass  # what was read so far stands

    def _add(self, key: int, module: int) -> None:
        try:
            name = self._objects.string(key)
        except (MemoryReadError, NotAnObject):
            return
        values: frozenset[int] = frozenset()
        try:
            items = self._objects.dict_items(self._objects.module_dict(module))
            values = frozenset(value for _, value in items[:MAX_NAMES])
        except (MemoryReadError, NotAnObject):
            pass  # None in sys.modules, or an object that stands for a module
        self._names.append(name)
        self._modules.append(module)
        self._values.append(values)

    def chain(self, name: str) -> tuple[str, ...]:
        """The packages that lead to a module, the outermost of the last MAX_CHAIN first, its own left out.

        Empty where nobody is found.
        """
        package = _package(name)
        known = self._chains.get(package)
        if known is not None:
            return known
        culprit = package
        found: list[str] = []
        while len(found) < MAX_CHAIN and package != "__main__":
            importer = self._importer(package)
            if importer is None or importer in found:
                break
            found.append(importer)
            package = importer
        self._chains[culprit] = tuple(reversed(found))
        return self._chains[culprit]

    def _importer(self, package: str) -> str | None:
        """The package whose module imported this one."""
        parts = [place for place, name in enumerate(self._names) if _package(name) == package]
        if not parts:
            return None
        wanted = {self._modules[place] for place in parts}
        for place in parts:
            wanted |= self._defined(place, package)
        main = self._names.index("__main__") if "__main__" in self._names else None
        # A package has ended when its own file has; what comes before that was imported by it.
        own = self._names.index(package) if package in self._names else parts[0]
        after = range(own + 1, len(self._names))
        for place in (*after, *(() if main is None else (main,))):
            name = _package(self._names[place])
            if name != package and self._values[place] & wanted:
                return "__main__" if name == "__mp_main__" else name
        return None

    def _defined(self, place: int, package: str) -> set[int]:
        """The classes of a module that its package defines: others import them by name."""
        defined: set[int] = set()
        values = sorted(self._values[place])[:MAX_CLASSES]
        self._objects.look_ahead(values)
        for value in values:
            try:
                kind = self._objects.type_name(self._objects.type_of(value))
                if kind in _METATYPES and _package(self._module_of(value)) == package:
                    defined.add(value)
            except (MemoryReadError, NotAnObject):
                continue
        self._objects.look_ahead(())
        return defined

    def _module_of(self, kind: int) -> str:
        """The module that a class is of: by its full name where it is made in C, else by `__module__`."""
        name = self._objects.type_name(kind)
        if "." in name:
            return name
        attributes = self._memory.read_word(kind + self._layout.type_dict)
        module = self._objects.dict_get(attributes, "__module__") if attributes else None
        return "" if module is None else self._objects.string(module)


def _package(name: str) -> str:
    """ "lxml" for "lxml.etree"."""
    return name.partition(".")[0]
