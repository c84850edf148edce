"""What is said of a sweep: points, ideal, causes that grow, layouts, interpreters, gates."""

from __future__ import annotations

import pytest

from ftdiag.datatypes import replace
from ftdiag.errors import UsageError
from ftdiag.reports.sweep import headline, sections, value_of
from ftdiag.scaling import gates
from ftdiag.scaling.curve import scaling_of
from ftdiag.scaling.law import Law, NoLaw
from ftdiag.scaling.results import Foreseen
from ftdiag.scaling.settings import Setting
from sweeps import a_cause, a_digest, a_sweep


def amdahl(setting: Setting) -> float:
    return 100 * setting.workers / (1 + 0.1 * (setting.workers - 1))


def all_words(scaling: object) -> str:
    found = sections(scaling)  # type: ignore[arg-type]
    return "\n".join(sentence for part in found for sentence in (*part.sentences, *part.after))


def test_speedup_is_against_what_the_cores_could_do() -> None:
    # GIVEN 1, 2, 4 and 8 threads on four cores
    scaling = scaling_of(a_sweep(amdahl, cores=4.0))
    curve = scaling.curves[0]

    # THEN beyond four cores the ideal stays at four, and these points are marked
    assert [point.ideal_speedup for point in curve.points] == [1, 2, 4, 4]
    assert [point.over for point in curve.points] == [False, False, False, True]
    last = curve.points[-1]
    assert last.speedup == pytest.approx(8 / 1.7)
    assert last.efficiency is not None
    assert last.efficiency.value == pytest.approx(8 / 1.7 / 4)
    assert "* more threads than the 4 cores" in all_words(scaling)
    # AND the law has to take them, for want of others, and says so
    assert isinstance(curve.law, Law)
    assert curve.fitted_over
    assert "fitted also to those above" in all_words(scaling)


def test_the_law_is_of_the_points_within_the_cores_where_they_are_enough() -> None:
    # GIVEN a program that scales, on eight cores, beyond which it gains nothing
    scaling = scaling_of(
        a_sweep(lambda setting: 10.0 * min(setting.workers, 8), (1, 2, 4, 6, 8, 16, 32), cores=8.0)
    )
    law = scaling.curves[0].law
    assert isinstance(law, Law)
    assert law.contention.value == pytest.approx(0.0, abs=1e-9)
    assert not scaling.curves[0].fitted_over


def test_the_cause_that_grows_is_named() -> None:
    # GIVEN object locks that take more cores the more threads there are, and cores nobody could have had
    def digest(setting: Setting) -> object:
        lost = 0.3 * (setting.workers - 1)
        causes = [a_cause("object-lock", lost=lost, what="cache")] if lost else []
        return a_digest(
            {
                "useful": setting.workers - lost - 0.05,
                "object_lock": lost,
                "io": 0.05,
                "no_demand": 4.0 - setting.workers,
            },
            causes=causes,
        )

    scaling = scaling_of(a_sweep(amdahl, (1, 2, 3, 4), cores=4.0, digest=digest))  # type: ignore[arg-type]
    curve = scaling.curves[0]

    assert [growth.part for growth in curve.growing] == ["object_lock"]
    assert curve.growing[0].series == pytest.approx((0.0, 0.3, 0.6, 0.9))
    assert curve.points[0].account["no_demand"] == 0.0
    assert curve.grown_cause is not None
    assert curve.grown_cause.rule == "object-lock"
    assert "What grows is object lock: from 0.00 to 0.90 cores." in headline(scaling)
    assert "object-lock costs" in all_words(scaling)


def test_what_other_programs_took_is_no_cause_but_a_warning() -> None:
    def digest(setting: Setting) -> object:
        return a_digest({"useful": 1.0, "runnable_other_programs": setting.workers - 1.0})

    scaling = scaling_of(a_sweep(amdahl, (1, 2, 3, 4), cores=4.0, digest=digest))  # type: ignore[arg-type]

    assert "What grows" not in headline(scaling)
    assert "Beware: others took up to 3.00 cores" in all_words(scaling)


def test_two_points_are_shown_and_have_no_law() -> None:
    scaling = scaling_of(a_sweep(amdahl, (1, 2)))
    curve = scaling.curves[0]
    assert isinstance(curve.law, NoLaw)
    assert "it takes 4 different numbers of threads, and there are 2" in all_words(scaling)
    assert curve.points[1].speedup == pytest.approx(2 / 1.1)


def test_throughput_that_falls() -> None:
    scaling = scaling_of(a_sweep(lambda setting: 100.0 / setting.workers))
    assert headline(scaling).startswith(
        "More threads do less: 0.12 times the work of 1 thread with 8 threads."
    )


def test_without_one_thread_the_base_is_said() -> None:
    scaling = scaling_of(a_sweep(amdahl, (2, 4)))
    assert scaling.curves[0].points[1].ideal_speedup == 2
    assert "Speedup is against 2 threads" in all_words(scaling)


def test_the_fastest_layout_that_takes_least_memory_is_recommended() -> None:
    settings = (Setting(4, 1), Setting(2, 2), Setting(1, 4))
    sweep = a_sweep(
        lambda setting: {1: 300.0, 2: 395.0, 4: 400.0}[setting.processes],
        settings=settings,
        kind="layouts",
        cores=4.0,
        memory=lambda setting: setting.processes * (100 << 20),
        latency=lambda setting: {1: 9.0, 2: 8.0, 4: 5.0}[setting.processes],
    )
    scaling = scaling_of(sweep)

    assert scaling.advice is not None
    assert scaling.advice.setting == Setting(2, 2)
    words = all_words(scaling)
    assert "4 processes x 1 thread takes 2.0 times its memory" in words
    assert "latency: 8 ms, where 4 processes x 1 thread has 5 ms" in words
    assert "sharing" in words
    assert value_of(scaling)["recommended"]["processes"] == 2


def test_interpreters_are_compared_with_the_one_that_has_a_gil() -> None:
    def throughput(setting: Setting) -> float:
        return 80.0 * setting.threads if setting.python == "3.14t" else 100.0

    sweep = a_sweep(
        throughput,
        settings=[Setting(n, 1, name) for name in ("3.14t", "3.14") for n in (1, 2, 4)],
        kind="pythons",
        cores=4.0,
        versions={"3.14t": "3.14.1 free-threaded", "3.14": "3.14.1 with GIL"},
    )
    scaling = scaling_of(sweep)

    assert scaling.reference == "3.14"
    assert len(scaling.exchanges) == 1
    exchange = scaling.exchanges[0]
    assert exchange.single_ratio == pytest.approx(0.8)
    assert exchange.best_ratio == pytest.approx(3.2)
    assert exchange.breaks_even == 2
    assert "3.14t does at best 3.20 times what 3.14 does (0.80 times with one thread)" in headline(scaling)


@pytest.mark.parametrize("text", ["0.7", "70@4", "0@4", "0.7@0", "x@4", "0.7@4@5", "1.2@4"])
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(UsageError, match="not RATIO@THREADS"):
        gates.asked([text])


def test_gates() -> None:
    sweep = a_sweep(amdahl, cores=4.0)
    results = gates.judged(gates.asked(["0.7@4", "0.9@4"]), sweep)

    assert [result.passed for result in results] == [True, False]
    assert "77 %" in results[1].words
    assert "below the 90 % asked for" in results[1].words
    with pytest.raises(UsageError, match="16 threads are not measured"):
        gates.check(gates.asked(["0.7@16"]), sweep)
    with pytest.raises(UsageError, match="layouts have no such curve"):
        gates.check(gates.asked(["0.7@4"]), a_sweep(amdahl, (4,), kind="layouts"))


def test_an_unfinished_sweep_says_what_is_missing_and_a_gate_on_it_fails() -> None:
    sweep = a_sweep(amdahl, cores=8.0)
    part = replace(sweep, runs=tuple(run for run in sweep.runs if run.setting.threads != 4))
    assert "Not finished: 3 runs to be made." in all_words(scaling_of(part))
    result = gates.judged(gates.asked(["0.5@4"]), part)[0]
    assert not result.passed
    assert "was not measured" in result.words


def test_what_was_foreseen_stands_beside_what_came() -> None:
    # GIVEN runs whose replays said twice the work for twice the threads, of a program that stops at four
    sweep = a_sweep(lambda setting: 100.0 * min(setting.workers, 4), cores=8.0)
    runs = tuple(
        replace(
            run,
            foreseen=Foreseen(2 * run.setting.threads, 2.0, 1.7, 2.3)
            if run.setting.threads < 8
            else Foreseen(16, not_told="cannot tell: nothing was recorded in this range"),
        )
        for run in sweep.runs
    )
    scaling = scaling_of(replace(sweep, runs=runs))

    expected = scaling.curves[0].expected
    assert [each.came_true for each in expected] == [True, True, False, None]
    assert expected[2].came == pytest.approx(1.0)
    assert "From 8 threads: cannot tell: nothing was recorded in this range." in all_words(scaling)
    assert [each["within"] for each in value_of(scaling)["curves"][0]["foreseen"]] == [
        True,
        True,
        False,
        None,
    ]


def test_a_program_that_keeps_itself_to_fewer_cores_is_measured_against_those() -> None:
    # GIVEN sixteen cores, of which the program took two for itself
    sweep = a_sweep(amdahl, cores=16.0, digest=lambda _: a_digest(capacity_cores=2.0))
    scaling = scaling_of(sweep)

    assert scaling.cores == 2.0
    assert [point.over for point in scaling.curves[0].points] == [False, False, True, True]
    result = gates.judged(gates.asked(["0.99@4"]), sweep)[0]
    assert "efficiency with 4 threads on 2 cores" in result.words
