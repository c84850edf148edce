"""What changes slowly in a target: names of its threads, the GIL, what traces it.

In: the interpreter, the threads that are alive. Out: threads and the target described anew, if they changed.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import replace
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.target import TargetProcess
from ftdiag.sampling.threads import Threads
from ftdiag.sources.python.importchains import ImportChains
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.tracing import MAX_HOOKS, TracingReader

MAX_CHAINS: Final = 16
"""Modules that want the GIL of which is found out who imported them."""


class SlowFacts:
    """Reads them when it is asked to."""

    def __init__(
        self, interpreter: InterpreterReader, process: TargetProcess, threads: Threads, sink: RecordingSink
    ) -> None:
        self._interpreter = interpreter
        self._process = process
        self._threads = threads
        self._sink = sink
        self._tracing = TracingReader(interpreter)

    def read_names(self) -> None:
        """Names that the program gave its threads; of those that are not Python's, the kernel's."""
        names = self._interpreter.thread_names()
        for thread in self._threads.alive.values():
            name = next((names[p.ident] for p in thread.python if p.ident in names), None)
            if name is None and not thread.python:
                name = thread.files.name()
            if name is not None and name != thread.info.name:
                self._threads.put(thread, replace(thread.info, name=name))

    def read_tracing(self) -> None:
        """Note what traces the program, also if it began meanwhile; what is gone again stays noted."""
        threads = (thread.python[0] for thread in self._threads.alive.values() if thread.python)
        known = self._process.target.tracing
        found = list(dict.fromkeys((*(known or ()), *self._tracing.hooks(threads))))[:MAX_HOOKS]
        if known is None or len(found) > len(known):
            self._process.target = replace(self._process.target, tracing=tuple(found))
            self._sink.update_target(self._process.target)

    def read_gil(self) -> None:
        """Whether a GIL is in force, and who asked for it."""
        enabled = self._interpreter.gil_enabled()
        if enabled != self._process.target.gil_enabled:
            culprits = self._interpreter.gil_culprits() if enabled else ()
            chains = ImportChains(self._interpreter) if culprits else None
            self._process.target = replace(
                self._process.target,
                gil_enabled=enabled,
                gil_culprits=culprits,
                gil_importers=tuple(map(chains.chain, culprits[:MAX_CHAINS])) if chains is not None else (),
            )
            self._sink.update_target(self._process.target)
