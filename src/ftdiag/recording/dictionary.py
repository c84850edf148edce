"""Frames, stacks and waits of a recording that is written: interned, and encoded as they come.

In: frames, stacks and waits. Out: ids, and a blob with what was interned since the last one.
"""

from __future__ import annotations

from array import array

from ftdiag.model import (
    FIRST_STACK_ID,
    NO_STACK,
    NO_WAIT,
    UNKEPT_STACK,
    Frame,
    Wait,
)
from ftdiag.recording import schema
from ftdiag.recording.encoding import transposed


class Dictionary:
    """The tables of strings, frames, stacks and waits, and what of them is not written yet."""

    def __init__(self) -> None:
        self.full = False
        """Set where the file's bound leaves no room for more entries."""
        self._strings: dict[str, int] = {}
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[int, int] = {}
        self._depths = array("H", bytes(2 * FIRST_STACK_ID))
        self._waits: dict[Wait, int] = {}
        self.forget_delta()

    def forget_delta(self) -> None:
        """Everything interned so far has been written."""
        self._first = [
            schema.FIRST_IDS["string"] + len(self._strings),
            schema.FIRST_IDS["frame"] + len(self._frames),
            schema.FIRST_IDS["stack"] + len(self._stacks),
            schema.FIRST_IDS["wait"] + len(self._waits),
        ]
        self._new_strings: list[bytes] = []
        self._new_frames: list[tuple[int, int, int]] = []
        self._new_stacks: list[tuple[int, int]] = []
        self._new_waits: list[tuple[int, ...]] = []

    def intern_frame(self, frame: Frame) -> int:
        known = self._frames.get(frame)
        if known is not None:
            return known
        frame_id = schema.FIRST_FRAME_ID + len(self._frames)
        if self.full or frame_id >= schema.MAX_FRAMES or len(self._strings) + 2 > schema.MAX_STRINGS:
            return schema.UNKEPT_FRAME
        line = 0 if frame.line is None or frame.line < 0 else frame.line + 1
        filename, function = self._intern_string(frame.filename), self._intern_string(frame.function)
        self._new_frames.append((filename, function, line))
        self._frames[frame] = frame_id
        return frame_id

    def extend_stack(self, parent: int, frame_id: int) -> int:
        key = parent << 32 | frame_id
        known = self._stacks.get(key)
        if known is not None:
            return known
        if parent != NO_STACK and parent < FIRST_STACK_ID:
            return parent
        stack_id = FIRST_STACK_ID + len(self._stacks)
        depth = self._depths[parent] + 1
        if frame_id == schema.UNKEPT_FRAME or depth > schema.MAX_STACK_DEPTH:
            return UNKEPT_STACK
        if self.full or stack_id >= schema.MAX_STACKS:
            return UNKEPT_STACK
        self._stacks[key] = stack_id
        self._depths.append(depth)
        self._new_stacks.append((parent, frame_id))
        return stack_id

    def intern_wait(self, wait: Wait) -> int:
        known = self._waits.get(wait)
        if known is not None:
            return known
        wait_id = schema.FIRST_WAIT_ID + len(self._waits)
        if self.full or wait_id >= schema.MAX_WAITS or len(self._strings) + 5 > schema.MAX_STRINGS:
            return NO_WAIT
        text = self._optional_string
        lock = wait.lock
        self._new_waits.append(
            (text(wait.syscall), text(wait.detail), 0, 0, 0, 0)
            if lock is None
            else (
                text(wait.syscall),
                text(wait.detail),
                lock.address,
                text(lock.kind.value),
                text(lock.type_name),
                text(lock.label),
            )
        )
        self._waits[wait] = wait_id
        return wait_id

    def encode_delta(self, seq: int) -> bytes | None:
        """The blob of everything new, `None` if there is nothing new."""
        if not (self._new_strings or self._new_frames or self._new_stacks or self._new_waits):
            return None
        filename, function, line = transposed(self._new_frames, 3)
        parent, frame = transposed(self._new_stacks, 2)
        syscall, detail, address, kind, type_name, label = transposed(self._new_waits, 6)
        return schema.encode_group(
            seq,
            schema.GROUP_DICTIONARY,
            [
                ("first", self._first, False),
                ("string.bytes", array("I", map(len, self._new_strings)), False),
                ("string.data", array("B", b"".join(self._new_strings)), False),
                ("frame.filename", filename, False),
                ("frame.function", function, False),
                ("frame.line", line, False),
                ("stack.parent", parent, True),
                ("stack.frame", frame, False),
                ("wait.syscall", syscall, False),
                ("wait.detail", detail, False),
                ("wait.lock_address", address, False),
                ("wait.lock_kind", kind, False),
                ("wait.lock_type", type_name, False),
                ("wait.lock_label", label, False),
            ],
        )

    def _optional_string(self, text: str | None) -> int:
        return 0 if text is None else 1 + self._intern_string(text)

    def _intern_string(self, text: str) -> int:
        text = schema.bounded_text(text)
        known = self._strings.get(text)
        if known is None:
            known = self._strings[text] = len(self._strings)
            self._new_strings.append(schema.encode_text(text))
        return known
