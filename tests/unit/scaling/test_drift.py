"""A look against a baseline: what is as usual, what is not."""

from __future__ import annotations

from ftdiag.scaling.drift import drift_of
from sweeps import a_cause, a_digest

PARTS = [
    a_digest(
        {"useful": useful, "lock": 4 - useful}, efficiency=useful / 4, locks={"cache (lock)": 4 - useful}
    )
    for useful in (3.6, 3.5, 3.7, 3.6, 3.4)
]


def test_what_is_within_the_usual_range_is_no_drift() -> None:
    drift = drift_of(PARTS, PARTS[0], PARTS[3])

    assert drift.outside == ()
    assert drift.words() == "as usual"


def test_what_is_worse_comes_first_with_its_usual_range() -> None:
    # GIVEN a look that loses two cores to a lock, and has a new finding
    now = a_digest(
        {"useful": 1.6, "lock": 2.4},
        efficiency=0.4,
        locks={"cache (lock)": 2.4},
        causes=[a_cause(what="cache")],
    )
    drift = drift_of(PARTS, PARTS[0], now)

    assert {each.name for each in drift.outside} == {
        "useful",
        "lock",
        "efficiency",
        "waiting for cache (lock)",
    }
    assert all(each.worse for each in drift.outside)
    efficiency = next(each for each in drift.outside if each.name == "efficiency")
    assert efficiency.low < 0.89 < efficiency.high
    assert [cause.rule for cause in drift.new] == ["hot-lock"]
    assert "new: hot-lock" in drift.words()


def test_what_is_better_is_told_as_such_and_a_cause_that_is_gone() -> None:
    before = a_digest({"useful": 1.0}, efficiency=0.25, causes=[a_cause()])
    drift = drift_of([before] * 4, before, a_digest({"useful": 3.9}, efficiency=0.97))

    assert all(each.better for each in drift.outside)
    assert [cause.rule for cause in drift.gone] == ["hot-lock"]


def test_one_part_alone_has_the_least_range() -> None:
    drift = drift_of(
        PARTS[:1],
        PARTS[0],
        a_digest({"useful": 3.62, "lock": 0.38}, efficiency=0.91, locks={"cache (lock)": 0.38}),
    )
    assert drift.outside == ()


def test_what_is_not_measured_is_not_compared() -> None:
    empty = a_digest(efficiency=None)
    assert drift_of([empty], empty, a_digest({"useful": 3.0})).figures == ()
