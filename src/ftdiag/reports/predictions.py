"""What a change would bring, as plain values for JSON.

In: a `Prediction`. Out: a dict.
"""

from __future__ import annotations

import math
from typing import Any

from ftdiag.model import Prediction
from ftdiag.wording import Shown
from ftdiag.wording.predictions import change_words


def prediction_values(prediction: Prediction | None, text: Shown) -> dict[str, Any] | None:
    """The prediction as plain values."""
    if prediction is None:
        return None
    return {
        "changes": [
            {
                "kind": change.kind.value,
                "what": text(change.what) or None,
                "factor": None if change.number is not None else _number(change.factor),
                "number": _number(change.number),
                "words": text(change_words(change)),
            }
            for change in prediction.changes
        ],
        "gain": _number(prediction.gain),
        "low": _number(prediction.low),
        "high": _number(prediction.high),
        "confidence": 0.8,
        "useful_cores": _number(prediction.useful_cores),
        "blocks": prediction.blocks,
        "replay_ratio": _number(prediction.faithful_ratio),
        "not_told": None if prediction.not_told is None else text(prediction.not_told),
        "notes": [text(note) for note in prediction.notes],
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
