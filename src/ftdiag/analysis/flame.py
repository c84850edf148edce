"""The flame graph of a range: who calls whom, without the frames that every thread begins with.

In: a call tree. Out: `Box`es, each a function with its place and width; bounded in number and depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ftdiag.analysis.timeline import CallNode
from ftdiag.datatypes import dataclass
from ftdiag.model import Frame, ThreadState

MAX_BOXES: Final = 3000
LEAST_SHARE: Final = 0.0005
"""Functions below this share of all thread-time are left out: half a pixel."""
_BOILERPLATE: Final[Mapping[str, tuple[str, ...]]] = {
    "threading.py": ("Thread._bootstrap", "Thread._bootstrap_inner", "Thread.run"),
    "runpy.py": ("_run_module_as_main", "_run_code", "run_module", "run_path", "_run_module_code"),
    "<frozen runpy>": ("_run_module_as_main", "_run_code"),
    "concurrent/futures/thread.py": ("_worker", "_WorkItem.run", "_WorkItem._run", "WorkerContext.run"),
    "multiprocessing/pool.py": ("worker", "ThreadPool._worker_handler"),
}
"""By the end of a file's name: functions that only lead to others."""


@dataclass(frozen=True, slots=True)
class Box:
    """A function at a depth; `begin` and `share` are of all thread-time, `state` is where most of it went."""

    frame: Frame
    depth: int
    begin: float
    share: float
    self_share: float
    state: ThreadState


def is_boilerplate(frame: Frame) -> bool:
    """Whether a frame only leads to others: the first functions of threads and pools, what runs modules."""
    return any(
        frame.function in functions and (frame.filename == end or frame.filename.endswith(f"/{end}"))
        for end, functions in _BOILERPLATE.items()
    )


def without_boilerplate(nodes: Sequence[CallNode]) -> Iterator[CallNode]:
    """The tree from the first functions on that tell something."""
    for node in nodes:
        if is_boilerplate(node.frame) and node.children:
            yield from without_boilerplate(node.children)
        else:
            yield node


def boxes(nodes: Sequence[CallNode]) -> tuple[Box, ...]:
    """The boxes of a tree, callers before what they call, at most `MAX_BOXES`."""
    first = list(without_boilerplate(nodes))
    whole = sum(node.total_ns for node in first)
    if whole <= 0:
        return ()
    made: list[Box] = []
    level: list[tuple[CallNode, float]] = []
    begin = 0.0
    for node in first:
        level.append((node, begin))
        begin += node.total_ns / whole
    depth = 0
    while level and len(made) < MAX_BOXES:
        below: list[tuple[CallNode, float]] = []
        for node, begin in level:
            share = node.total_ns / whole
            if share < LEAST_SHARE or len(made) >= MAX_BOXES:
                continue
            states = node.states_ns
            state = max(states, key=lambda each: states[each], default=ThreadState.UNKNOWN)
            made.append(Box(node.frame, depth, begin, share, node.self_ns / whole, state))
            for child in node.children:
                below.append((child, begin))
                begin += child.total_ns / whole
        level = below
        depth += 1
    return tuple(made)
