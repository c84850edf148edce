"""Where the standard library waits for work or for others to finish: what tells idleness from contention.

In: the innermost Python frames of a blocked thread. Out: the library wait it is in, if any.
The parking lot looks the same from outside whether a worker has nothing to do or fights for a lock; only
the Python frames above the wait tell. The functions are facts of each version (`ftdiag.cpython`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ftdiag.cpython import FACTS
from ftdiag.cpython.waits import ALL, ENCLOSING_WAITS, IMPORT_WAITS, PRIMITIVE_WAITS, Place
from ftdiag.model import Frame, LibraryWait

EVERY: Final = frozenset(ALL)
"""The places of all versions, for those whose table is not known."""


def places_of(version: tuple[int, int]) -> frozenset[Place]:
    """Where the standard library of a version waits; of one without a table, wherever any does."""
    facts = FACTS.get(version)
    return EVERY if facts is None else frozenset(facts.waits)


def _plain(table: Mapping[Place, LibraryWait]) -> Mapping[Place, LibraryWait]:
    """The table by unqualified names, without those that several functions of a file share."""
    found: dict[Place, set[LibraryWait]] = {}
    for (file_end, function), words in table.items():
        found.setdefault((file_end, function.rpartition(".")[2]), set()).add(words)
    return {key: next(iter(words)) for key, words in found.items() if len(words) == 1}


_IMPORT_FUNCTIONS: Final = frozenset(function for _, function in IMPORT_WAITS)
"""Their file is frozen: "<frozen importlib._bootstrap>"."""
_PLAIN_PRIMITIVE_WAITS: Final = _plain(PRIMITIVE_WAITS)
_PLAIN_ENCLOSING_WAITS: Final = _plain(ENCLOSING_WAITS)


def library_wait(
    frames: Sequence[Frame], *, qualified: bool = True, places: Collection[Place] = EVERY
) -> LibraryWait | None:
    """What the standard library waits for in these frames (leaf first), or `None` if it is no such wait.

    `places` are those of the target's version. Only the innermost frame decides whether it is one; the
    frames around it make the words better. Before 3.11 code has no `qualified` name: a method is then told by
    its own name, where the file has only one.
    """
    if not frames:
        return None
    primitive, enclosing = (
        (PRIMITIVE_WAITS, ENCLOSING_WAITS) if qualified else (_PLAIN_PRIMITIVE_WAITS, _PLAIN_ENCLOSING_WAITS)
    )
    if not qualified:
        places = {*primitive, *enclosing}
    words = _look_up(primitive, frames[0], places)
    if words is None:
        return None
    for frame in frames[1:]:
        better = _look_up(enclosing, frame, places) or _look_up(primitive, frame, places)
        if better is None:
            break
        words = better
    return words


def is_condition_wait(frame: Frame) -> bool:
    """Whether the frame is Condition.wait: it has released the condition's lock and waits for a signal."""
    return frame.function == "Condition.wait" and _is_library_file(frame.filename, "threading.py")


def is_import_wait(frames: Sequence[Frame]) -> bool:
    """Whether the innermost frames wait for an import that another thread is doing."""
    return any(
        frame.function in _IMPORT_FUNCTIONS and "importlib._bootstrap" in frame.filename
        for frame in frames[:3]
    )


def _look_up(
    table: Mapping[Place, LibraryWait], frame: Frame, places: Collection[Place]
) -> LibraryWait | None:
    for (file_end, function), words in table.items():
        if (
            frame.function == function
            and (file_end, function) in places
            and _is_library_file(frame.filename, file_end)
        ):
            return words
    return None


def _is_library_file(filename: str, file_end: str) -> bool:
    """A file of the standard library: a program's own queue.py is not one (its path has no "python3")."""
    return filename.endswith("/" + file_end) and ("/python3" in filename or "/Lib/" in filename)
