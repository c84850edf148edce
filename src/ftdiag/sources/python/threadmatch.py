"""Which thread state of the interpreter belongs to which thread of the kernel.

In: thread states, the kernel's threads, the target's memory. Out: the states of each thread, and those that
no thread belongs to.

Nearly always a state says the kernel's id of its thread (`native_thread_id` of PyThreadState,
Include/cpython/ pystate.h). After a fork that Python does not know of (`fork()` in C, as uWSGI's workers
are made) the states in the child still have the ids of the parent's threads. The C library knows better: it
writes the child's id into the descriptor of the thread that forked (`tid` of `struct pthread`: nptl/descr.h
in glibc, behind a header whose size the machine decides; src/internal/pthread_impl.h in musl), and `ident`
of a state, pthread_self(), is the address of that descriptor. Where the descriptor is of an unknown C
library, a single thread with a single state that runs Python is that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import Layout
from ftdiag.sources.python.walking import PythonThread

TID_OFFSETS: Final[Mapping[str, tuple[int, ...]]] = {
    "x86_64": (0x2D0, 0x30),
    "aarch64": (0xD0, 0x20),
}
"""Where `tid` lies behind pthread_self(): glibc, musl."""
UNMATCHED: Final = (
    "that run Python belong to no thread of the kernel: left behind by a fork in C, or by a thread that ended"
    " without a word to Python (pthread_exit)"
)
"""Of a gap that counts them."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The states of each kernel thread, and those that run Python and belong to none."""

    by_thread: Mapping[int, list[PythonThread]]
    left: tuple[PythonThread, ...]


def match_threads(
    states: Iterable[PythonThread],
    native_ids: Mapping[int, int],
    leader: int,
    memory: RemoteMemory,
    layout: Layout,
    machine: str,
) -> Matched:
    """Match `states` with kernel threads: thread id as we see it -> as the target sees it.

    `leader` is the id of the main thread: who forks in C is that in the child. `machine` is the kernel's name
    of the processor. Raises TargetGone, PermissionRefused from reading.
    """
    by_native = {native: tid for tid, native in native_ids.items()}
    found: dict[int, list[PythonThread]] = {}
    strange: list[PythonThread] = []
    for state in states:
        tid = by_native.get(state.native_id)
        if tid is None:
            strange.append(state)
        else:
            found.setdefault(tid, []).append(state)
    if not strange:
        return Matched(found, ())
    left = _that_run_python(strange, memory, layout)
    if leader in native_ids and leader not in found:
        forked = _with_id(left, native_ids[leader], memory, machine)
        if not forked and not found and len(left) == 1:
            forked = left
        if forked:
            found[leader] = forked
            theirs = {state.address for state in forked}
            left = [state for state in left if state.address not in theirs]
    return Matched(found, tuple(left))


def _that_run_python(states: list[PythonThread], memory: RemoteMemory, layout: Layout) -> list[PythonThread]:
    """Those with a frame; the others are spare states of interpreters, which need no thread."""
    words = memory.read_many([(state.address + layout.thread_current_frame, 8) for state in states])
    return [state for state, word in zip(states, words, strict=True) if word is not None and any(word)]


def _with_id(
    states: list[PythonThread], native_id: int, memory: RemoteMemory, machine: str
) -> list[PythonThread]:
    """The states whose thread has this id by the C library's descriptor."""
    for offset in TID_OFFSETS.get(machine, ()):
        words = memory.read_many([(state.ident + offset, 4) for state in states])
        found = [
            state
            for state, word in zip(states, words, strict=True)
            if word is not None and int.from_bytes(word, "little") == native_id
        ]
        if found:
            return found
    return []
