"""Collapsed stacks: a line for each thread, stack, state and lock, with its thread-time in ns.

In: the material of a range. Out: lines `thread;outer (app.py:3);inner (app.py:9);[lock self._lock
(_thread.lock)] 12` for flame graphs. Work has no state behind it.
"""

from __future__ import annotations

from typing import IO, Final

from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.material import Material, state_frame
from ftdiag.model import Frame
from ftdiag.reports.escaping import visible

NAME: Final = "collapsed"
ENDING: Final = ".collapsed.txt"
NEEDS: Final = Needs.SNAPSHOT
EXTRA: Final = None


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the lines, longest time first; no notes."""
    sums: dict[str, int] = {}
    frames: dict[Frame, str] = {}
    for sample in material.samples():
        parts = [_plain(f"{sample.thread.name} ({sample.thread.tid})")]
        for frame in reversed(sample.stack):
            if frame not in frames:
                frames[frame] = _plain(frame_text(frame))
            parts.append(frames[frame])
        state = state_frame(sample.state, sample.wait)
        if state is not None:
            parts.append(_plain(state))
        stack = ";".join(parts)
        sums[stack] = sums.get(stack, 0) + round(sample.time_ns)
    for stack, time_ns in sorted(sums.items(), key=lambda row: (-row[1], row[0])):
        if time_ns:
            out.write(f"{stack} {time_ns}\n".encode())
    return ()


def frame_text(frame: Frame) -> str:
    """As py-spy writes it: `run (app.py:12)`."""
    line = "" if frame.line is None else f":{frame.line}"
    return f"{frame.function} ({frame.filename}{line})"


def _plain(text: str) -> str:
    """On one line, without the separator."""
    return visible(text, limit=1000).replace(";", ":")
