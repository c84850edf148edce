"""What a walk of stacks is: threads before and after it, chains of words that get ids, the walker's protocol.

In: nothing. Out: types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ftdiag.sources.kernel.memory import ReadAlong, RemoteMemory

MAX_STACK_DEPTH: Final = 4096
"""Frames of a stack that are followed; a deeper stack is kept from the leaf down, its root cut off. It bounds
the time that a tick takes (4 ms in Python), and a recording keeps no deeper stacks (recording.schema)."""
CRITICAL_SECTION_TAGS: Final = 3
"""Low bits of a thread's pointer to its critical sections (Include/internal/pycore_critical_section.h)."""
Exits = tuple[tuple[int, int], ...]
"""(frame number from the leaf, offset from the frame's address) of stack slots that `with` blocks keep."""
Meaning = tuple[int, Exits, Exits]
"""What a chain of frames means: the id of its stack, the slots of its `with` blocks, and the marked ones.
What these have tells which of the locks behind the others the thread has released (`Condition.wait`)."""
FrameMeaning = tuple[int, tuple[int, ...], tuple[int, ...]]
"""What one frame means: its id, and the offsets of both kinds of slots from its address."""
Resolve = Callable[[tuple[int, ...]], Meaning | None]
"""(code object, instruction) words, leaf first, to what they mean; `None` if they make no sense."""


class PythonThread(Protocol):
    """A thread state of the target, and what the last walk saw of it.

    `native_id` is the thread's id in the target's own PID namespace, `ident` is `threading.get_ident()`,
    `interpreter` the number of the interpreter that it belongs to.
    """

    beside: tuple[tuple[int, int], ...]
    """(address, size) of what a walk that takes things along is to read right beside the thread state."""

    @property
    def address(self) -> int: ...
    @property
    def native_id(self) -> int: ...
    @property
    def ident(self) -> int: ...
    @property
    def interpreter(self) -> int: ...
    @property
    def critical_section(self) -> int:
        """The tagged pointer to the object locks it holds (free-threaded builds)."""
        ...

    @property
    def section(self) -> int:
        """Where the last critical section that it was seen in lies."""
        ...

    @property
    def late(self) -> int:
        """Whether the last walk had to read parts of the stack after the others."""
        ...

    @property
    def frames(self) -> Sequence[int]:
        """Addresses of its Python frames, leaf first."""
        ...

    @property
    def chain(self) -> Sequence[int]:
        """(code object, instruction) words, leaf first."""
        ...

    @property
    def elsewhere(self) -> Sequence[int]:
        """Addresses of its frames outside the data stack."""
        ...

    @property
    def with_exits(self) -> Sequence[int]:
        """Stack slots of the `with` blocks it is in, innermost first: managers or their bound `__exit__`."""
        ...

    @property
    def marked(self) -> Sequence[int]:
        """What the marked slots have; empty while it is in no `with` block."""
        ...


class StackWalker(Protocol):
    """Walks the stacks of one target's threads. Not thread-safe."""

    compiled: bool

    def take_cut(self) -> int:
        """How many stacks were deeper than MAX_STACK_DEPTH since this was asked the last time."""
        ...

    def take_given_up(self) -> int:
        """How many stacks were not walked because the walk had cost MAX_WORK, since this was asked last."""
        ...

    def thread(self, address: int, native_id: int, ident: int, interpreter: int) -> PythonThread:
        """A thread that this walker can walk."""
        ...

    def walk(self, threads: Sequence[PythonThread], along: ReadAlong | None = None) -> list[int]:
        """Stack ids of the threads, in their order: NO_STACK, TORN_STACK or a real one.

        A torn stack is read again a few times before it is given up, and one that took several reads once:
        they may be of different moments, and now it is known what to read at once.

        `along` is read in the same system call as the first stacks if that works, else right after it; what
        is read beside the threads goes there, too. Raises TargetGone and PermissionRefused.
        """
        ...

    def forget(self) -> None:
        """What chains mean has to be asked anew: code objects were replaced."""
        ...


def read_along(memory: RemoteMemory, along: ReadAlong) -> None:
    """What was not read together with stacks."""
    missing = [item for item in along.wanted.items() if item[0] not in along.found]
    if missing:
        addresses = [address for address, _ in missing]
        along.found.update(zip(addresses, memory.read_many(missing), strict=True))
