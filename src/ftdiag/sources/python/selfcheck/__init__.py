"""Whether what is known of a target's CPython is true: every fact that can be checked from outside, on it.

In: the memory of a process, the address of its `_PyRuntime`. Out: one `FieldCheck` for each field.

A field is judged in two ways. First it is compared with the table of its version, where builds do not differ.
Then something known is read through it: a thread state by its thread's id, a dict by `sys.hexversion`, a line
table by the length of its bytecode. What needs another field that is wrong is not judged: so one field that
lies is named, and not all that hang on it. The process runs on meanwhile; a check that races with it is
tried again.
"""

from __future__ import annotations

from ftdiag.cpython.facts import Facts
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import (
    COOKIE,
    DEBUG_OFFSETS_BYTES,
    differing,
    known_facts,
    parse_header,
    published_offsets,
)
from ftdiag.sources.python.selfcheck.code import CodeObjects
from ftdiag.sources.python.selfcheck.collector import GilAndCollector
from ftdiag.sources.python.selfcheck.inspection import FieldCheck, Judgement, SelfCheck
from ftdiag.sources.python.selfcheck.namespaces import Namespaces
from ftdiag.sources.python.selfcheck.states import States
from ftdiag.sources.python.selfcheck.values import Values

__all__ = ["FieldCheck", "Judgement", "SelfCheck", "check_process"]


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
    return _Checks(pid, memory, runtime, version, free_threaded, facts, published).run()


class _Checks(States, Namespaces, Values, CodeObjects, GilAndCollector):
    """One run of all checks."""

    def run(self) -> SelfCheck:
        """All checks."""
        table = differing(self._published, self._facts, free_threaded=self._free_threaded)
        for name, words in table.items():
            self._found[name] = Judgement.WRONG, f"{words}, as headers of {self._facts.headers} have it"
        for judge in (
            self.interpreters,
            self.thread_states,
            self.namespaces,
            self.types,
            self.dicts,
            self.values_in_sys,
            self.orders,
            self.threading,
            self.code_objects,
            self.gil_and_collector,
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
