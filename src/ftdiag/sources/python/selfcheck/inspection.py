"""One inspection of a process: what it knows so far, and how a field is judged.

In: the memory of a process, the facts of its version. Out: judgements, which later checks build on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from enum import Enum
from typing import Final

from ftdiag.cpython.facts import Facts
from ftdiag.datatypes import dataclass
from ftdiag.errors import MemoryReadError
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import (
    Layout,
    Version,
    make_layout,
)
from ftdiag.sources.python.objects import NotAnObject, ObjectReader

ATTEMPTS: Final = 5
"""Times that a check is made until its field is called wrong: frames and dicts change while they are read."""
MAX_TABLE: Final = 1 << 16


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


class Wrong(Exception):
    """What was found instead of what should be there."""


class Inspection:
    """What is known of one process; fields are judged in an order in which each check builds on others."""

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
            except Wrong as problem:
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

    def _is_code_address(self, address: int) -> bool:
        with open(f"/proc/{self._pid}/maps", encoding="utf-8", errors="replace") as file:
            for line in file:
                span, permissions = line.split(maxsplit=2)[:2]
                start, _, end = span.partition("-")
                if int(start, 16) <= address < int(end, 16):
                    return "x" in permissions
        return False

    def _dict_type(self) -> int:
        return self._at(self._at(self._interpreter, "interpreter_state.sysdict"), "pyobject.ob_type")
