"""A live look against a good recording: what is outside of what was usual there.

In: the parts of a baseline, and a digest of now. Out: figures with the range that is usual, and causes that
are new or gone. The range is where the next part of the baseline would have been in 95 of 100 cases (a
prediction interval of Student's t), and at least `LEAST_CORES` or `LEAST_RATIO` to each side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.model import CorePart
from ftdiag.scaling.digest import Cause, Digest
from ftdiag.scaling.noise import CONFIDENCE, mean_of, t_quantile
from ftdiag.wording.states import PART_NAMES

LEAST_CORES: Final = 0.05
LEAST_RATIO: Final = 0.03
MOST_FIGURES: Final = 12
EFFICIENCY: Final = "efficiency"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure now, and the range that was usual. `worse`: outside of it, and on the wrong side."""

    name: str
    now: float
    usual: float
    low: float
    high: float
    worse: bool
    better: bool

    @property
    def outside(self) -> bool:
        """Whether it is not as usual."""
        return self.worse or self.better


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed since a baseline."""

    figures: tuple[Figure, ...]
    new: tuple[Cause, ...]
    gone: tuple[Cause, ...]

    @property
    def outside(self) -> tuple[Figure, ...]:
        """Figures that are not as usual: what is worse first, and of that the efficiency."""
        found = [figure for figure in self.figures if figure.outside]
        return tuple(
            sorted(
                found,
                key=lambda each: (not each.worse, each.name != EFFICIENCY, -abs(each.now - each.usual)),
            )
        )

    def words(self) -> str:
        """One sentence: "efficiency 0.61 (usual 0.85 to 0.93), locks 0.72 (usual 0.00 to 0.12)"."""
        outside = self.outside
        if not outside and not self.new:
            return "as usual"
        said = [
            f"{each.name} {each.now:.2f} (usual {each.low:.2f} to {each.high:.2f})" for each in outside[:3]
        ]
        if self.new:
            said.append(f"new: {self.new[0].rule}")
        return ", ".join(said)


def drift_of(parts: Sequence[Digest], whole: Digest, now: Digest) -> Drift:
    """The drift of a look from a baseline, given as parts and as a whole."""
    figures: list[Figure] = []
    efficiencies = [part.efficiency_ratio for part in parts if part.efficiency_ratio is not None]
    if efficiencies and now.efficiency_ratio is not None:
        figures.append(
            _figure(EFFICIENCY, efficiencies, now.efficiency_ratio, LEAST_RATIO, more_is_better=True)
        )
    accounts = [part.account for part in parts if part.account]
    if accounts and now.account:
        names = {part.value: PART_NAMES[part] for part in CorePart}
        for part in CorePart:
            figure = _figure(
                names[part.value],
                [account.get(part.value, 0.0) for account in accounts],
                now.account.get(part.value, 0.0),
                LEAST_CORES,
                more_is_better=part is CorePart.USEFUL,
            )
            if figure.outside or max(figure.now, figure.usual) >= LEAST_CORES:
                figures.append(figure)
    figures += _table_figures([part.locks for part in parts], now.locks, "waiting for ")
    before, after = _that_matter(whole), _that_matter(now)
    return Drift(
        tuple(figures),
        tuple(cause for key, cause in after.items() if key not in before),
        tuple(cause for key, cause in before.items() if key not in after),
    )


def _table_figures(
    parts: Sequence[Mapping[str, float]], now: Mapping[str, float], words: str
) -> list[Figure]:
    names = dict.fromkeys((*now, *(name for part in parts for name in part)))
    made = [
        _figure(
            f"{words}{name}",
            [part.get(name, 0.0) for part in parts],
            now.get(name, 0.0),
            LEAST_CORES,
            more_is_better=False,
        )
        for name in names
        if parts
    ]
    return sorted(
        (figure for figure in made if figure.outside), key=lambda each: -abs(each.now - each.usual)
    )[:MOST_FIGURES]


def _figure(name: str, values: Sequence[float], now: float, least: float, *, more_is_better: bool) -> Figure:
    mean = mean_of(values)
    half = least
    if mean.deviation is not None:
        spread = t_quantile(mean.number - 1, CONFIDENCE) * mean.deviation * math.sqrt(1 + 1 / mean.number)
        half = max(least, spread)
    low, high = max(0.0, mean.value - half), mean.value + half
    less, more = now < low, now > high
    worse, better = (less, more) if more_is_better else (more, less)
    return Figure(name, now, mean.value, low, high, worse, better)


def _that_matter(digest: Digest) -> dict[str, Cause]:
    return {cause.key: cause for cause in digest.causes if cause.severity != "info"}
