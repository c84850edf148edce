"""What a change would bring, in words.

In: a `Prediction` or a `Change`. Out: phrases and sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ftdiag.model import Change, ChangeKind, Prediction
from ftdiag.wording import Shown, units

ALMOST_NOTHING: Final = 0.05
"""A gain that differs from 1 by less is none."""


def change_words(change: Change, shown: Shown = str) -> str:
    """For example "lock self._lock gone", "app.py:10 takes half as long", "4 threads"."""
    what = shown(change.what)
    match change.kind:
        case ChangeKind.THREADS:
            return units.plural(int(change.number or 0), "thread")
        case ChangeKind.CORES:
            return f"{change.number:g} cores"
        case ChangeKind.BALANCE:
            return "work shared evenly among its threads"
        case ChangeKind.LOCK:
            name, _, address = what.rpartition(" ")
            return (
                f"lock {name if name and address.startswith('0x') else what} {_left(change.factor, 'held')}"
            )
        case ChangeKind.LINE:
            return f"{what} {_left(change.factor, 'taking')}"
        case ChangeKind.REMEDY:
            return f"{what} done as the first remedy says"
        case ChangeKind.IO:
            return f"I/O with {what} {_left(change.factor, 'taking')}"
        case ChangeKind.OVERHEAD:
            files = what.replace("|", ", ")
            return f"the own code of {files} {_left(change.factor, 'taking')}"
        case ChangeKind.CONTENTION:
            return f"contention {f'at {what} ' if what else ''}{_left(change.factor, 'costing')}"
        case ChangeKind.ALLOCATION:
            return f"allocation {f'at {what} ' if what else ''}{_left(change.factor, 'taking')}"
        case ChangeKind.COLLECTOR:
            return f"the collector {_left(change.factor, 'taking')}"
        case ChangeKind.STOPS:
            return f"stop-the-world pauses {_left(change.factor, 'taking')}"
        case ChangeKind.GIL:
            return f"the GIL {_left(change.factor, 'held')}"


def _left(factor: float, doing: str) -> str:
    if factor <= 0:
        return "gone"
    if factor == 0.5:
        return f"{doing} half as long"
    return f"{doing} {factor:.2g} times as long"


def gain_words(prediction: Prediction) -> str:
    """For example "1.9 times as much work a second (80 % sure: 1.5 to 2.4)", or why nothing is told."""
    if prediction.gain is None and prediction.low is not None:
        return f"at least {_times(prediction.low)} times as much work a second (90 % sure)"
    if prediction.gain is None or prediction.low is None or prediction.high is None:
        return prediction.not_told or "cannot tell"
    interval = f"{_times(prediction.low)} to {_times(prediction.high)}"
    if abs(prediction.gain - 1.0) < ALMOST_NOTHING and prediction.low <= 1.0 <= prediction.high:
        return f"no more work a second than now (80 % sure: {interval} times)"
    return f"{_times(prediction.gain)} times as much work a second (80 % sure: {interval})"


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"


def prediction_sentences(prediction: Prediction, shown: Shown = str) -> Iterator[str]:
    """All that is to be said of it."""
    changes = "; ".join(change_words(change, shown) for change in prediction.changes)
    yield f"With {changes}: {shown(gain_words(prediction))}" if changes else shown(gain_words(prediction))
    if prediction.gain is None:
        if prediction.low is not None and prediction.not_told is not None:
            yield shown(prediction.not_told)
        return
    if prediction.useful_cores is not None:
        now = prediction.useful_cores
        yield (
            f"now {units.cores(now)} cores do useful work; what the program does a second would be what"
            f" {units.cores(now * prediction.gain)} such cores do"
        )
    if prediction.faithful_ratio is not None:
        yield (
            f"replayed: {units.plural(prediction.blocks, 'block')} of ticks; without the change the replay"
            f" does {prediction.faithful_ratio:.2f} times what was recorded"
        )
    for note in prediction.notes:
        yield f"note: {shown(note)}"
