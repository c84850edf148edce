"""What is known of a line's time on a core besides its states: machine code, and shared objects by name.

In: native samples and named objects of a range. Out: `OnCpuShares` (what each range of windows adds) and
`OnCpuDetails`, which a `HotLine` takes its `native` and `shared` from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ftdiag.analysis.grouping import Ints, group_by, largest_first, numbered
from ftdiag.datatypes import dataclass, field
from ftdiag.model import NO_LINE, OWN_LOCK, SPUN_FOR, UNNAMED_INTERPRETER, SharedObject, ThreadState
from ftdiag.recording.reader import Recording

MAX_ROWS: Final = 20_000
"""Rows kept of a range of windows, those with most samples."""
SYMBOLS_OF_LINE: Final = 16
"""Functions of machine code kept for a line: what an import statement does is spread over that many. Views
show the first few."""
SHARED_OF_LINE: Final = 8


@dataclass(frozen=True, slots=True)
class OnCpuShares:
    """Samples by leaf frame id and native frame id, and the shared objects by leaf frame id."""

    leaf: Ints
    symbol: Ints
    samples: Ints
    shared: Mapping[int, tuple[SharedObject, ...]]
    lost: int = 0
    measured: int = 0
    """Windows in which machine code was sampled."""
    sampled: float = 0.0
    """The share of thread-time in which samples could be taken, summed over these windows."""
    all_samples: int = 0
    unnamed_samples: int = 0
    """Those of them in functions of a stripped interpreter that have no name."""
    unseen_state: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unseen_symbol: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unseen_samples: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Samples of threads that no tick saw by state and native frame id."""

    def __len__(self) -> int:
        """Rows, as kept digests are bounded by."""
        return len(self.leaf) + len(self.unseen_state)


@dataclass(frozen=True, slots=True)
class OnCpuDetails:
    """By leaf frame id: (native frame id, share of the samples) with most samples first; shared objects."""

    symbols: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    shared: Mapping[int, tuple[SharedObject, ...]] = field(default_factory=dict)
    lost: int | None = None
    """Samples that the kernel dropped; `None` where machine code was not sampled."""
    sampled_ratio: float | None = None
    """Mean share of thread-time in which samples could be taken."""
    unnamed_ratio: float | None = None
    """Share of the samples in functions of a stripped interpreter without a name; `None` without samples."""
    error_ratio: float | None = None
    """How far the share of a state may be off: two standard errors of a half, the widest that there are."""

    lock_objects: tuple[SharedObject, ...] = ()
    """Objects whose own locks are waited for, called by the address of the lock."""
    unseen: tuple[tuple[ThreadState, int, int], ...] = ()
    """Samples of threads that no tick saw: state, native frame id and number, most first."""

    def unseen_functions(self, recording: Recording) -> tuple[tuple[str, float], ...]:
        """(symbol, share) of these samples, most first."""
        functions: dict[str, float] = {}
        for _, symbol, samples in self.unseen:
            if symbol > 0:
                name = recording.frame(symbol).function
                functions[name] = functions.get(name, 0.0) + samples
        whole = sum(samples for _, _, samples in self.unseen)
        most = sorted(functions.items(), key=lambda entry: (-entry[1], entry[0]))[:SYMBOLS_OF_LINE]
        return tuple((name, samples / whole) for name, samples in most)

    def native_of(self, recording: Recording, leaf: int) -> tuple[tuple[str, float], ...]:
        """(symbol, share) of a line."""
        return tuple(
            (recording.frame(symbol).function, share) for symbol, share in self.symbols.get(leaf, ())
        )


def on_cpu_shares(recording: Recording, first: int, last: int) -> OnCpuShares:
    """What the windows at positions [first, last) add."""
    native = recording.native(first, last)
    leaves = recording.leaf_frames()
    stack = native.stack.astype(np.int64)
    leaf = np.full(len(stack), -1, dtype=np.int64)
    inside = stack < len(leaves)
    leaf[inside] = leaves[stack[inside]]
    frames, samples_of = numbered(native.frame)
    unnamed = np.array([_is_unnamed(recording, int(frame)) for frame in frames], dtype=np.bool_)
    in_unnamed = int(native.samples[unnamed[samples_of]].sum()) if len(frames) else 0
    rows = (leaf >= 0) & (native.frame > 0)
    leaf, symbol = leaf[rows], native.frame[rows].astype(np.int64)
    groups = group_by(leaf, symbol)
    total = groups.total(native.samples[rows].astype(np.float64))
    kept = largest_first(total, MAX_ROWS)
    unseen = _unseen(native.unseen_state, native.unseen_frame, native.unseen_samples)
    frames, samples_of = numbered(native.unseen_frame)
    unnamed = np.array([_is_unnamed(recording, int(frame)) for frame in frames], dtype=np.bool_)
    in_unnamed += int(native.unseen_samples[unnamed[samples_of]].sum()) if len(frames) else 0
    return OnCpuShares(
        groups.key(leaf)[kept],
        groups.key(symbol)[kept],
        total[kept].astype(np.int64),
        recording.shared(first, last),
        native.lost,
        len(native.measured),
        (native.sampled_ratio or 0.0) * len(native.measured),
        int(native.samples.sum()) + int(native.unseen_samples.sum()),
        in_unnamed,
        *unseen,
    )


def _unseen(state: npt.ArrayLike, symbol: npt.ArrayLike, samples: npt.ArrayLike) -> tuple[Ints, Ints, Ints]:
    """Samples by state and symbol, those with most kept."""
    states, symbols = np.asarray(state, dtype=np.int64), np.asarray(symbol, dtype=np.int64)
    groups = group_by(states, symbols)
    total = groups.total(np.asarray(samples, dtype=np.float64))
    kept = largest_first(total, MAX_ROWS)
    return groups.key(states)[kept], groups.key(symbols)[kept], total[kept].astype(np.int64)


def _is_unnamed(recording: Recording, frame: int) -> bool:
    return 0 < frame < recording.frame_count and recording.frame(frame).function == UNNAMED_INTERPRETER


def joined_on_cpu(parts: Sequence[OnCpuShares]) -> OnCpuShares:
    """What consecutive ranges add together."""
    shared: dict[int, dict[tuple[str, str], SharedObject]] = {}
    for part in parts:
        for line, objects in part.shared.items():
            known = shared.setdefault(line, {})
            for one in objects:
                if one.better_than(known.get((one.name, one.type_name))):
                    known[one.name, one.type_name] = one
    none = [np.zeros(0, dtype=np.int64)]
    leaf = np.concatenate([part.leaf for part in parts] or none)
    symbol = np.concatenate([part.symbol for part in parts] or none)
    samples = np.concatenate([part.samples for part in parts] or none)
    groups = group_by(leaf, symbol)
    return OnCpuShares(
        groups.key(leaf),
        groups.key(symbol),
        groups.total(samples.astype(np.float64)).astype(np.int64),
        {line: tuple(objects.values()) for line, objects in shared.items()},
        sum(part.lost for part in parts),
        sum(part.measured for part in parts),
        round(sum(part.sampled for part in parts), 6),
        sum(part.all_samples for part in parts),
        sum(part.unnamed_samples for part in parts),
        *_unseen(
            *(
                np.concatenate([getattr(part, name) for part in parts] or none)
                for name in ("unseen_state", "unseen_symbol", "unseen_samples")
            )
        ),
    )


def unseen_states(parts: Sequence[OnCpuShares]) -> dict[ThreadState, float]:
    """Samples of threads that no tick saw by state, of consecutive ranges."""
    states: dict[ThreadState, float] = {}
    for part in parts:
        for state, samples in zip(part.unseen_state.tolist(), part.unseen_samples.tolist(), strict=True):
            states[ThreadState(state)] = states.get(ThreadState(state), 0.0) + samples
    return states


def merge_on_cpu(parts: Sequence[OnCpuShares]) -> OnCpuDetails:
    """Sums the shares of consecutive ranges."""
    whole = joined_on_cpu(parts)
    symbols: dict[int, tuple[tuple[int, float], ...]] = {}
    total = whole.samples.astype(np.float64)
    edges = np.flatnonzero(np.diff(whole.leaf, prepend=-1, append=-1))
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        of_line = float(total[begin:end].sum())
        best = begin + largest_first(total[begin:end], SYMBOLS_OF_LINE)
        symbols[int(whole.leaf[begin])] = tuple(
            (int(whole.symbol[row]), float(total[row]) / of_line) for row in best.tolist() if of_line > 0
        )
    samples_seen = whole.all_samples
    return OnCpuDetails(
        symbols,
        {line: _surest(found) for line, found in whole.shared.items() if line != NO_LINE},
        whole.lost if whole.measured else None,
        whole.sampled / whole.measured if whole.measured else None,
        whole.unnamed_samples / samples_seen if samples_seen else None,
        samples_seen**-0.5 if samples_seen else None,
        whole.shared.get(NO_LINE, ()),
        tuple(
            (ThreadState(state), symbol, samples)
            for state, symbol, samples in zip(
                whole.unseen_state.tolist(),
                whole.unseen_symbol.tolist(),
                whole.unseen_samples.tolist(),
                strict=True,
            )
        ),
    )


def _surest(objects: Sequence[SharedObject]) -> tuple[SharedObject, ...]:
    """The surest ones; none by its type alone where another window has the name of one of that type."""
    named = {one.type_name for one in objects if one.name not in (one.type_name, OWN_LOCK, SPUN_FOR)}
    told = [one for one in objects if one.name != one.type_name or one.type_name not in named]
    return tuple(sorted(told, key=lambda one: -one.confidence)[:SHARED_OF_LINE])
