"""Who imported a module: told by the order in which imports ended, and by what binds what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from fake_process import FakeProcess, Sink
from ftdiag.sources.python.importchains import MAX_CHAIN, ImportChains
from ftdiag.sources.python.interpreter import InterpreterReader


@dataclass
class Imported:
    """A process with modules, in the order in which their imports ended; the program's file comes first."""

    build: str
    fake: FakeProcess = field(init=False)
    modules: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fake = FakeProcess(self.build)

    def module(self, name: str, binds: Mapping[str, str] | None = None, **values: int) -> int:
        """A module that binds others by name."""
        layout, memory = self.fake.layout, self.fake.memory
        names = {**{key: self.modules[other] for key, other in (binds or {}).items()}, **values}
        address = self.modules.get(name) or self.fake.allocate(128)
        memory.write_word(address + layout.object_type, self.fake.type("module"))
        words = {self.fake.string(key): value for key, value in names.items()}
        memory.write_word(address + layout.object_size, self.fake.dict(words))
        self.modules[name] = address
        return address

    def python_class(self, module: str) -> int:
        """A class that a Python module defines."""
        layout, memory = self.fake.layout, self.fake.memory
        address = self.fake.type("Client")
        memory.write_word(address + layout.object_type, self.fake.type("type"))
        namespace = self.fake.dict({self.fake.string("__module__"): self.fake.string(module)})
        memory.write_word(address + layout.type_dict, namespace)
        return address

    def chain(self, name: str) -> tuple[str, ...]:
        """What is told of a module."""
        layout, memory = self.fake.layout, self.fake.memory
        interpreter = self.fake.interpreter()
        listed = self.fake.dict({self.fake.string(key): value for key, value in self.modules.items()})
        memory.write_word(interpreter + layout.interpreter_imports_modules, listed)
        reader = InterpreterReader(memory, self.fake.runtime, Sink(), compiled=False)
        return ImportChains(reader).chain(name)


@pytest.fixture(params=["3.13.5t", "3.14.9t", "3.15.1t"])
def imported(request: pytest.FixtureRequest) -> Imported:
    """A process of each free-threaded layout, with the program's file."""
    made = Imported(request.param)
    made.module("__main__")
    return made


def test_the_chain_from_the_program_to_an_accelerator(imported: Imported) -> None:
    # GIVEN a library that imports a part of another, and a program that takes a class of the library
    imported.module("lxml")
    imported.module("lxml.etree")
    imported.module("bs4.builder", {"etree": "lxml.etree"})
    client = imported.python_class("bs4.element")
    imported.module("bs4.element", None, Client=client)
    imported.module("bs4", {"builder": "bs4.builder"}, Client=client)
    imported.module("__main__", None, Soup=client)

    # WHEN asked who imported the part, THEN the packages on the way are told, the outermost first
    assert imported.chain("lxml.etree") == ("__main__", "bs4")


def test_the_first_that_ended_after_it_is_the_importer(imported: Imported) -> None:
    # GIVEN a module that two others bind
    imported.module("fast")
    imported.module("client", {"fast": "fast"})
    imported.module("server", {"fast": "fast"})

    # WHEN asked, THEN it is the one that was being imported, not the one that came later
    assert imported.chain("fast") == ("client",)


def test_a_package_is_not_its_own_importer(imported: Imported) -> None:
    # GIVEN a package that imports its part, and nobody else who binds either
    imported.module("fast.core")
    imported.module("fast", {"core": "fast.core"})
    # WHEN asked, THEN nobody is told
    assert imported.chain("fast.core") == ()


def test_circles_end(imported: Imported) -> None:
    # GIVEN packages that bind each other, and more of them than are told
    for number in range(MAX_CHAIN + 3):
        imported.module(f"p{number}")
    for number in range(MAX_CHAIN + 2):
        imported.module(f"p{number + 1}", {"before": f"p{number}", "first": "p0"})
    # WHEN asked, THEN no more are told than can be, each once
    chain = imported.chain("p0")
    assert len(chain) <= MAX_CHAIN
    assert len(set(chain)) == len(chain)
    assert imported.chain("no such module") == ()
