"""States of the interpreter and of its threads.

In: an inspection of a process. Out: judgements of fields.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.selfcheck.inspection import Inspection, Wrong

MAX_THREADS: Final = 4096


class States(Inspection):
    """Checks of interpreter and thread states."""

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

    def interpreters(self) -> None:
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
                raise Wrong(f"no interpreter state at {self._interpreter:#x}")
            return f"an interpreter state at {self._interpreter:#x}"

        if not self._judge("runtime_state.interpreters_head", "", head):
            return
        signs = self._signs(self._interpreter)

        def sign(name: str) -> Callable[[], str]:
            def check() -> str:
                if not (signs[name] or self._signs(self._interpreter)[name]):
                    raise Wrong(f"{self._at(self._interpreter, name):#x} is no such thing")
                return "leads where it should"

            return check

        head_needed = "runtime_state.interpreters_head"

        def first_of_all() -> str:
            words = sign("interpreter_state.threads_head")()
            first = self._at(self._interpreter, "interpreter_state.threads_head")
            before = self._at(first, "thread_state.prev")
            if before and self._at(before, "thread_state.next") == first:
                raise Wrong("a thread state stands before the first")
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
                raise Wrong(f"the main interpreter would have number {found}")
            return "0: the main interpreter's"

        self._judge("interpreter_state.id", head_needed, number)

        def last() -> str:
            following = self._at(self._interpreter, "interpreter_state.next")
            if following:
                raise Wrong(f"{following:#x} follows the main interpreter, and is none")
            return "none behind the main interpreter"

        self._judge("interpreter_state.next", head_needed, last)

    def thread_states(self) -> None:
        first = 0
        if self._good("interpreter_state.threads_head") and self._interpreter:
            first = self._at(self._interpreter, "interpreter_state.threads_head")
        needed = "interpreter_state.threads_head runtime_state.interpreters_head"

        def back() -> str:
            if self._at(first, "thread_state.interp") != self._interpreter:
                raise Wrong("it does not lead back to the interpreter")
            return "leads back to the interpreter"

        def native() -> str:
            found, known = self._at(first, "thread_state.native_thread_id"), self._thread_ids()
            if found not in known:
                raise Wrong(f"{found} is no thread of the process")
            return f"{found}, a thread of the process"

        def chain() -> str:
            seen: list[int] = []
            state, known = first, self._thread_ids()
            while state and state not in seen and len(seen) < MAX_THREADS:
                if self._at(state, "thread_state.interp") != self._interpreter:
                    raise Wrong(f"{state:#x} is no thread state")
                seen.append(state)
                state = self._at(state, "thread_state.next")
            natives = {self._at(state, "thread_state.native_thread_id") for state in seen}
            if not natives <= known | self._thread_ids() | {0} or not natives & known:
                raise Wrong("it leads to states of no thread")
            self._threads = seen
            return f"{len(seen)} thread states, each of a thread of the process"

        def before() -> str:
            for one, other in zip(self._threads, self._threads[1:], strict=False):
                if self._at(other, "thread_state.prev") != one:
                    raise Wrong("the one behind does not lead back")
            if self._at(self._threads[0], "thread_state.prev"):
                raise Wrong("something stands before the first")
            return "each leads back to the one before"

        def ident() -> str:
            # On x86-64 glibc and musl, threading.get_ident() is the address of the thread's control block,
            # whose
            # first word is its own address.
            for state in self._threads:
                found = self._at(state, "thread_state.thread_id")
                if self._word(found) != found:
                    raise Wrong(f"{found:#x} is not the control block of a thread")
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
                raise Wrong(f"{found[:4]} are no states of threads")
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
