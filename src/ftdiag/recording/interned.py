"""The dictionary of a recording: strings, frames, stacks and waits by id, as read from its deltas.

In: the blobs of the table `dictionary`, in order. Out: model values by id, and the stack tree as arrays.
Entries of a lost delta stay unknown: their stacks read as UNKEPT_STACK, their texts as LOST_TEXT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ftdiag.model import FIRST_STACK_ID, NO_STACK, UNKEPT_STACK, Frame, LockKind, LockRef, Stack, Wait
from ftdiag.recording import schema
from ftdiag.recording.columns import Column, Int32Array, Int64Array, bounded, decode_columns

LOST_TEXT: Final = "<damaged>"
"""Stands where a text is in a damaged part of the file."""
_LOCK_KINDS: Final = {kind.value: kind for kind in LockKind}
_FRAME_COLUMNS: Final = ("frame.filename", "frame.function", "frame.line")
_WAIT_COLUMNS: Final = (
    "wait.syscall",
    "wait.detail",
    "wait.lock_address",
    "wait.lock_kind",
    "wait.lock_type",
    "wait.lock_label",
)
_LOST: Final = -1
MAX_TEXT_BYTES: Final = 1 << 27
"""All texts together, in UTF-8: what a file repeats it could have said once."""
MAX_KEPT_FRAMES: Final = 1_000_000
"""Frames in the stacks that are kept once they were put together: 8 bytes each."""


class InternedTables:
    """Everything interned in a recording so far."""

    def __init__(self) -> None:
        self._strings: list[str | None] = []
        # Row i of a table is id i: the reserved ids have rows too.
        self._frames: npt.NDArray[np.int64] = np.full((schema.FIRST_FRAME_ID, 3), _LOST, np.int64)
        self._parents = np.full(FIRST_STACK_ID, NO_STACK, np.int32)
        self._leaves = np.full(FIRST_STACK_ID, _LOST, np.int32)
        self._waits: list[Wait | None] = [None] * schema.FIRST_WAIT_ID
        self._new_frames: list[npt.NDArray[np.int64]] = []
        self._new_stacks: list[tuple[Int32Array, Int32Array]] = []
        self._frame_count = len(self._frames)
        self._stack_count = len(self._parents)
        self._frame_values: dict[int, Frame] = {}
        self._stack_values: dict[int, Stack] = {}
        self._frames_kept = 0
        self._text_bytes = 0
        self._incomplete = False

    @property
    def frame_count(self) -> int:
        """Frame ids are below this."""
        return self._frame_count

    @property
    def wait_count(self) -> int:
        """Wait ids are below this."""
        return len(self._waits)

    # --- taking in ---------------------------------------------------------------------------------

    def add(self, seq: int, blob: object) -> None:
        """Take in delta number `seq`. Raises DamagedBlob, and has taken in nothing then.

        Call `settle` after the last one.
        """
        columns = decode_columns(blob, seq, schema.GROUP_DICTIONARY, (*_REQUIRED_COLUMNS,))
        first = _first_ids(columns["first"], self._counts())
        strings = _strings(columns["string.bytes"], columns["string.data"])
        frames = _rows(columns, _FRAME_COLUMNS, np.int64)
        parents, leaves = columns["stack.parent"], columns["stack.frame"]
        waits = _rows(columns, _WAIT_COLUMNS, np.uint64)
        added = (len(strings), len(frames), len(parents), len(waits))
        for start, count, limit in zip(first, added, schema.ID_LIMITS.values(), strict=True):
            if start + count > limit:
                raise schema.DamagedBlob("a dictionary has more entries than a recording can hold")
        text_bytes = self._text_bytes + len(columns["string.data"])
        if text_bytes > MAX_TEXT_BYTES:
            raise schema.DamagedBlob("the dictionary has more text than a recording can hold")
        _check_frames(frames, first[0] + len(strings))
        _check_stacks(parents, leaves, first[2], first[1] + len(frames))
        self._lose_up_to(first)
        self._text_bytes = text_bytes
        self._strings.extend(strings)
        self._new_frames.append(frames)
        self._frame_count += len(frames)
        self._new_stacks.append((parents.astype(np.int32), leaves.astype(np.int32)))
        self._stack_count += len(parents)
        self._waits.extend(self._wait(row) for row in waits.tolist())

    def settle(self) -> None:
        """Join what `add` took in, and give up stacks whose outer frames are lost."""
        if self._new_frames:
            self._frames = np.concatenate((self._frames, *self._new_frames))
            self._parents = np.concatenate((self._parents, *(stacks[0] for stacks in self._new_stacks)))
            self._leaves = np.concatenate((self._leaves, *(stacks[1] for stacks in self._new_stacks)))
            self._new_frames.clear()
            self._new_stacks.clear()
        if self._incomplete:
            self._give_up_lost_stacks()
            self._forget_stacks()

    def _counts(self) -> tuple[int, int, int, int]:
        return len(self._strings), self._frame_count, self._stack_count, len(self._waits)

    def _lose_up_to(self, first: tuple[int, int, int, int]) -> None:
        strings, frames, stacks, waits = (
            start - count for start, count in zip(first, self._counts(), strict=True)
        )
        if not (strings or frames or stacks or waits):
            return
        self._incomplete = True
        self._strings.extend([None] * strings)
        self._new_frames.append(np.full((frames, 3), _LOST, np.int64))
        self._frame_count += frames
        self._new_stacks.append((np.full(stacks, NO_STACK, np.int32), np.full(stacks, _LOST, np.int32)))
        self._stack_count += stacks
        self._waits.extend([None] * waits)

    def _give_up_lost_stacks(self) -> None:
        lost = self._leaves < 0
        lost[:FIRST_STACK_ID] = False
        # Twice as far out each time: stacks may be as deep as there are stacks.
        outer = self._parents
        while outer.any():
            lost = lost | lost[outer]
            outer = outer[outer]
        self._leaves[lost] = _LOST
        self._parents[lost] = NO_STACK

    # --- looking up --------------------------------------------------------------------------------

    def frame(self, frame_id: int) -> Frame:
        """A frame by id. Raises IndexError."""
        known = self._frame_values.get(frame_id)
        if known is not None:
            return known
        if not 0 <= frame_id < len(self._frames):
            raise IndexError(f"frame {frame_id} of {len(self._frames)}")
        filename, function, line = self._frames[frame_id].tolist()
        frame = Frame(self._text(filename), self._text(function), line - 1 if line > 0 else None)
        self._frame_values[frame_id] = frame
        return frame

    def stack(self, stack_id: int) -> Stack:
        """Frames of a stack, leaf first; () for reserved, lost and unknown ids."""
        known = self._stack_values.get(stack_id)
        if known is not None:
            return known
        if not FIRST_STACK_ID <= stack_id < len(self._leaves):
            return ()
        stack = self._put_together(stack_id)
        if self._frames_kept + len(stack) > MAX_KEPT_FRAMES:
            self._forget_stacks()
        self._stack_values[stack_id] = stack
        self._frames_kept += len(stack)
        return stack

    def _forget_stacks(self) -> None:
        self._stack_values.clear()
        self._frames_kept = 0

    def _put_together(self, stack_id: int) -> Stack:
        frames: list[Frame] = []
        # Parents are smaller than their children (checked): this ends.
        while stack_id != NO_STACK and len(frames) < schema.MAX_STACK_DEPTH:
            leaf = int(self._leaves[stack_id])
            if leaf < 0:
                return ()
            frames.append(self.frame(leaf))
            stack_id = int(self._parents[stack_id])
        return tuple(frames)

    def wait(self, wait_id: int) -> Wait | None:
        """A wait by id; `None` for NO_WAIT, lost and unknown ids."""
        return self._waits[wait_id] if 0 <= wait_id < len(self._waits) else None

    def leaf_frames(self) -> Int32Array:
        """Leaf frame id by stack id, -1 where there is none. A copy."""
        return self._leaves.copy()

    def parents(self) -> Int32Array:
        """Parent stack id by stack id. A copy."""
        return self._parents.copy()

    def usable_stacks(self, ids: Int64Array) -> Int64Array:
        """The stack ids, with UNKEPT_STACK for those that the table does not have."""
        if len(ids) and int(ids.max()) >= len(self._leaves):
            ids = np.where(ids < len(self._leaves), ids, UNKEPT_STACK)
        missing = (self._leaves[ids] < 0) & (ids > UNKEPT_STACK)
        return np.where(missing, UNKEPT_STACK, ids) if missing.any() else ids

    def _text(self, string_id: int) -> str:
        text = self._strings[string_id] if 0 <= string_id < len(self._strings) else None
        return LOST_TEXT if text is None else text

    def _optional_text(self, reference: int) -> str | None:
        return None if reference == 0 else self._text(reference - 1)

    def _wait(self, row: list[int]) -> Wait:
        syscall, detail, address, kind, type_name, label = row
        lock = None
        if kind:
            # A kind of a newer minor version: what is known of every lock is that it is native code's.
            lock_kind = _LOCK_KINDS.get(self._text(kind - 1), LockKind.NATIVE)
            lock = LockRef(address, lock_kind, self._optional_text(type_name), self._optional_text(label))
        return Wait(self._optional_text(syscall), self._optional_text(detail), lock)


_REQUIRED_COLUMNS: Final = (
    "first",
    "string.bytes",
    "string.data",
    *_FRAME_COLUMNS,
    "stack.parent",
    "stack.frame",
    *_WAIT_COLUMNS,
)


def _rows(columns: dict[str, Column], names: Sequence[str], dtype: type[np.generic]) -> Column:
    """The columns side by side."""
    if len({len(columns[name]) for name in names}) != 1:
        raise schema.DamagedBlob("columns of a dictionary differ in length")
    return np.stack([columns[name].astype(dtype) for name in names], axis=1)


def _first_ids(column: npt.NDArray[Any], counts: tuple[int, ...]) -> tuple[int, int, int, int]:
    first = column.tolist()
    if len(first) != len(counts) or any(start < count for start, count in zip(first, counts, strict=True)):
        raise schema.DamagedBlob("a dictionary defines an id twice")
    for start, limit in zip(first, schema.ID_LIMITS.values(), strict=True):
        if start > limit:
            raise schema.DamagedBlob("a dictionary has more entries than a recording can hold")
    return first[0], first[1], first[2], first[3]


def _strings(lengths: npt.NDArray[Any], data: npt.NDArray[Any]) -> list[str | None]:
    sizes = bounded(lengths, 0, schema.MAX_STRING_BYTES, "a string's length")
    ends = np.cumsum(sizes)
    if data.dtype.itemsize != 1 or int(sizes.sum()) != len(data):
        raise schema.DamagedBlob("the texts of a dictionary do not fill it")
    joined = data.tobytes()
    starts = (ends - sizes).tolist()
    decode: Callable[[bytes], str] = schema.decode_text
    return [decode(joined[start:end]) for start, end in zip(starts, ends.tolist(), strict=True)]


def _check_frames(frames: npt.NDArray[np.int64], string_count: int) -> None:
    if len(frames) and (frames.min() < 0 or frames[:, :2].max() >= string_count):
        raise schema.DamagedBlob("a frame refers to a text that is not there")


def _check_stacks(
    parents: npt.NDArray[Any], leaves: npt.NDArray[Any], first_id: int, frame_count: int
) -> None:
    parents = bounded(parents, 0, schema.MAX_STACKS, "a stack's parent")
    bounded(leaves, schema.FIRST_FRAME_ID, frame_count - 1, "a stack's frame")
    own_ids = np.arange(first_id, first_id + len(parents))
    # Parents come first: so the stacks are a forest, and every walk to the root ends.
    if len(parents) != len(leaves) or not np.all(
        (parents == NO_STACK) | ((parents >= FIRST_STACK_ID) & (parents < own_ids))
    ):
        raise schema.DamagedBlob("a stack's parent does not come before it")
