"""What threads were seen to do, added up: ticks by window, thread, state, stack and wait.

In: a recording and positions of windows. Out: columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ftdiag.recording.reader import Recording

KEYS = ("window", "thread", "state", "stack", "wait")


@dataclass(frozen=True)
class Profile:
    """Columns of equal length, in the order of their keys; `window` is the position of one."""

    thread: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]
    stack: npt.NDArray[np.int64]
    wait: npt.NDArray[np.int64]
    ticks: npt.NDArray[np.int64]
    window: npt.NDArray[np.int64]


def profile_of(recording: Recording, first: int = 0, last: int | None = None) -> Profile:
    """The ticks of the windows at positions [first, last)."""
    windows = recording.all_samples(first, len(recording) if last is None else last)
    found: dict[str, Any] = {
        name: np.concatenate([np.zeros(0, np.int64), *(getattr(each, name) for each in windows)])
        for name in ("thread", "state", "stack", "wait", "ticks")
    }
    found["window"] = first + np.repeat(np.arange(len(windows)), [len(each.thread) for each in windows])
    rows = np.stack([found[name] for name in KEYS], axis=1).astype(np.int64)
    keys, row = np.unique(rows, axis=0, return_inverse=True)
    ticks = np.bincount(row.reshape(-1), found["ticks"], len(keys)).astype(np.int64)
    return Profile(ticks=ticks, **{name: keys[:, place] for place, name in enumerate(KEYS)})
