"""Before and after: what is better, what is worse, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

from ftdiag.reports.comparison import headline
from ftdiag.scaling.comparing import Comparison, Side, Verdict, compare
from ftdiag.scaling.digest import Digest
from ftdiag.scaling.results import Sweep
from ftdiag.scaling.settings import Setting
from sweeps import a_cause, a_digest, a_sweep


def law(setting: Setting) -> float:
    return 100.0 * setting.workers / (1 + 0.05 * (setting.workers - 1))


def noisy(seed: int, *, gain: float = 1.0, repeats: int = 10, noise: float = 0.05) -> Sweep:
    return a_sweep(lambda setting: gain * law(setting), repeats=repeats, noise=noise, seed=seed)


def compared(before: Sweep, after: Sweep) -> Comparison:
    return compare(Side("a", "sweep", None, sweep=before), Side("b", "sweep", None, sweep=after))


def recorded(name: str, efficiencies: list[float], **more: object) -> Side:
    parts = tuple(
        a_digest({"useful": 4 * each, "lock": 4 - 4 * each}, efficiency=each) for each in efficiencies
    )
    whole = a_digest(efficiency=float(np.mean(efficiencies)), **more)  # type: ignore[arg-type]
    return Side(name, "recording", whole, parts)


def test_no_identical_pair_of_forty_is_better_or_worse() -> None:
    # GIVEN forty pairs of sweeps of one program, ten runs of each of four points, that scatter by 5 %
    verdicts = [compared(noisy(2 * pair), noisy(2 * pair + 1)).verdict for pair in range(40)]

    assert {Verdict.BETTER, Verdict.WORSE} & set(verdicts) == set()


def test_a_tenth_is_found_with_ten_runs() -> None:
    slower = [compared(noisy(2 * pair), noisy(2 * pair + 1, gain=0.9)).verdict for pair in range(20)]
    faster = [compared(noisy(2 * pair), noisy(2 * pair + 1, gain=1.1)).verdict for pair in range(20)]

    assert slower.count(Verdict.WORSE) == 20
    assert faster.count(Verdict.BETTER) == 20


def test_a_tenth_at_a_single_point_is_found_with_ten_runs_too() -> None:
    points = {"settings": [Setting(4)], "repeats": 10, "noise": 0.03}
    found = [
        compared(
            a_sweep(law, seed=2 * pair, **points),  # type: ignore[arg-type]
            a_sweep(lambda setting: 0.9 * law(setting), seed=2 * pair + 1, **points),  # type: ignore[arg-type]
        ).verdict
        for pair in range(20)
    ]
    assert found.count(Verdict.WORSE) >= 19


def test_what_is_alike_is_said_and_what_cannot_be_told_says_how_many_runs_would() -> None:
    assert compared(noisy(1, noise=0.004), noisy(2, noise=0.004)).verdict is Verdict.ALIKE

    found = compared(noisy(1, repeats=2), noisy(2, repeats=2, gain=0.96))
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.main[0].runs_needed is not None
    assert 3 <= found.main[0].runs_needed < 200
    assert "runs of each would tell" in headline(found)


def test_one_run_a_side_cannot_tell() -> None:
    found = compared(noisy(1, repeats=1), noisy(2, repeats=1, gain=0.3))
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.main[0].low is None


def test_worse_at_one_number_of_threads_only_is_worse() -> None:
    # GIVEN a change that costs only with eight threads
    before = noisy(1, noise=0.02)
    after = a_sweep(
        lambda setting: law(setting) * (0.8 if setting.workers == 8 else 1.0), repeats=10, noise=0.02, seed=2
    )
    found = compared(before, after)

    assert found.verdict is Verdict.WORSE
    assert found.why.startswith("throughput, 8 threads: -")


def test_sweeps_without_a_common_setting() -> None:
    found = compared(a_sweep(law, (1, 2)), a_sweep(law, (4, 8), host="elsewhere"))
    assert found.verdict is Verdict.CANNOT_TELL
    assert "nothing was measured on both sides" in headline(found)
    assert any("other machines" in note for note in found.notes)


def test_findings_resolved_and_new() -> None:
    lock, churn, note = a_cause(what="cache"), a_cause("heap-types", what="f"), a_cause("x", severity="info")
    before = recorded("a", [0.5, 0.52, 0.48, 0.5], causes=[lock, note])
    after = recorded("b", [0.9, 0.91, 0.9, 0.89], causes=[churn])
    found = compare(before, after)

    assert found.verdict is Verdict.BETTER
    assert [cause.rule for cause in found.resolved] == ["hot-lock"]
    assert [cause.rule for cause in found.new] == ["heap-types"]
    assert found.still == ()
    locks = next(change for change in found.parts if change.name == "lock")
    assert locks.verdict is Verdict.BETTER
    useful = next(change for change in found.parts if change.name == "useful")
    assert useful.verdict is Verdict.BETTER


def test_recordings_of_one_program_are_not_told_apart() -> None:
    # GIVEN forty pairs of recordings whose parts wander: each is like the one before it
    random = np.random.default_rng(8)

    def wandering() -> list[float]:
        value, values = 0.0, []
        for _ in range(12):
            value = 0.6 * value + random.normal(0, 0.03)
            values.append(0.7 + value)
        return values

    verdicts = [compare(recorded("a", wandering()), recorded("b", wandering())).verdict for _ in range(40)]
    assert {Verdict.BETTER, Verdict.WORSE} & set(verdicts) == set()


def test_a_recording_that_is_worse() -> None:
    found = compare(recorded("a", [0.9, 0.88, 0.91, 0.9]), recorded("b", [0.6, 0.62, 0.58, 0.61]))
    assert found.verdict is Verdict.WORSE
    assert any("each side is one run" in note for note in found.notes)


def test_what_was_not_measured_cannot_be_told() -> None:
    def unmeasured(name: str) -> Side:
        parts: tuple[Digest, ...] = (a_digest(efficiency=None),) * 3
        return Side(name, "recording", parts[0], parts)

    found = compare(unmeasured("a"), unmeasured("b"))
    assert found.verdict is Verdict.CANNOT_TELL
    assert "not measured" in headline(found)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_finding_that_comes_and_goes_is_neither_resolved_nor_new(share: float) -> None:
    def sweep(seed: int) -> Sweep:
        random = np.random.default_rng(seed)
        return a_sweep(
            law,
            repeats=10,
            digest=lambda _: a_digest(causes=[a_cause()] if share > 0.3 or random.random() < share else []),
        )

    found = compared(sweep(1), sweep(2))
    assert found.resolved == ()
    assert found.new == ()
