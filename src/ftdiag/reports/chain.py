"""The multiplicative view of efficiency: one factor for each cause.

In: the model's `Metrics`. Out: (factor, value) in the order of the definition; None where not measured.
"""

from __future__ import annotations

from typing import Final

from ftdiag.model import RUNNABLE_PARTS, CorePart, Metrics

_STEPS: Final[tuple[tuple[str, tuple[CorePart, ...]], ...]] = (
    ("atomic", (CorePart.ATOMIC,)),
    ("spin", (CorePart.SPIN,)),
    ("runnable", RUNNABLE_PARTS),
    ("lock", (CorePart.LOCK, CorePart.NATIVE_LOCK)),
    ("object_runtime_lock", (CorePart.OBJECT_LOCK, CorePart.RUNTIME_LOCK)),
    ("stopped", (CorePart.STOPPED,)),
    ("gil", (CorePart.GIL,)),
    ("io", (CorePart.IO,)),
    ("unknown", (CorePart.UNKNOWN,)),
    ("idle_absent", (CorePart.NO_DEMAND,)),
)
_SPLIT: Final = ("atomic", "spin")
"""Factors that need native samples."""


def chain(metrics: Metrics) -> tuple[tuple[str, float | None], ...]:
    """The account of cores as factors whose product is the share of the capacity that was useful.

    Time on a core that could not be told apart counts as useful here: the product is the most that it can be.
    Factors that need native samples are None without them; the product of the others is then the share of
    the capacity that was on a core. Empty without capacity.
    """
    account = metrics.account
    if not account:
        return ()
    level = account[CorePart.USEFUL] + account[CorePart.ON_CPU] + account[CorePart.UNSEEN_THREADS]
    steps: list[tuple[str, float | None]] = []
    for factor, parts in _STEPS:
        after = level + sum(account[part] for part in parts)
        unknown = factor in _SPLIT and metrics.useful_cores is None
        steps.append((factor, None if unknown else level / after if after > 0 else 1.0))
        level = after
    return tuple(steps)
