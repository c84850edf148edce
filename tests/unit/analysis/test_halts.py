"""A program that somebody keeps from running: told as such, and no finding is made of that time."""

from __future__ import annotations

from pathlib import Path

from builders import RecordingBuilder, Spent, a_target, spent, stands
from ftdiag.analysis.halts import ranges_without
from ftdiag.model import Severity, ThreadState
from ftdiag.rules import RULES
from ftdiag.wording.answer import answer

AT = "/srv/app.py:10 push < /srv/app.py:3 worker"
WHY = "stopped by a signal (T; kill -CONT 4100)"


def deadlocked(ticks: int) -> dict[str, list[Spent]]:
    """Two threads, each in a lock that the other one holds."""
    return {
        "a": [spent(ticks, "lock", at=AT, lock="first", holder="b")],
        "b": [spent(ticks, "lock", at=AT, lock="second", holder="a")],
        "c": [spent(ticks, "on_cpu", at=AT)],
    }


def halted(ticks: int) -> dict[str, list[Spent]]:
    """The same threads, stopped."""
    return {name: [spent(ticks, "halted", at=AT, detail=WHY)] for name in "abc"}


def contended(ticks: int) -> dict[str, list[Spent]]:
    """One works, two wait for its lock."""
    return {
        "a": [spent(ticks, "on_cpu", at=AT)],
        "b": [spent(ticks, "lock", at=AT, lock="hot", holder="a")],
        "c": [spent(ticks, "lock", at=AT, lock="hot", holder="a")],
    }


def builder_in(folder: Path) -> RecordingBuilder:
    folder.mkdir(exist_ok=True)
    return RecordingBuilder(folder / "a", rate_hz=100, target=a_target(capacity_cores=2.0))


def test_a_program_that_stays_stopped_gets_no_finding_and_says_so(tmp_path: Path) -> None:
    # GIVEN threads that waited for locks when the program was stopped, 15 s ago
    builder = builder_in(tmp_path)
    for _ in range(15):
        builder.window(halted(100))
    # WHEN looked at
    snapshot = builder.session().snapshot()
    # THEN nothing is concluded, every rule says why, and the first line says what is so and what to do
    assert snapshot.findings == ()
    assert {rule for rule, _ in snapshot.not_applicable} == {rule.id for rule in RULES}
    assert {why for _, why in snapshot.not_applicable} == {f"the program was {WHY} all the time"}
    assert WHY in answer(snapshot).sentence
    assert snapshot.metrics.states_ns == {ThreadState.HALTED: 45_000_000_000}


def test_what_waits_when_it_is_stopped_does_not_stand(tmp_path: Path) -> None:
    # GIVEN a deadlock of one second, which is then stopped for long
    builder = builder_in(tmp_path).window(deadlocked(100))
    for _ in range(14):
        builder.window(halted(100))
    # WHEN looked at, THEN nothing stands: nobody knows whether it would have gone on
    session = builder.session()
    assert not {finding.rule_id for finding in session.snapshot().findings} & {"deadlock", "stuck-thread"}
    assert stands(session).stuck == ()


def test_a_deadlock_is_found_once_the_program_goes_on(tmp_path: Path) -> None:
    # GIVEN a stopped program that goes on, in a deadlock
    builder = builder_in(tmp_path)
    for _ in range(6):
        builder.window(halted(100))
    for _ in range(6):
        builder.window(deadlocked(100))
    # WHEN looked at, THEN it is critical, and has stood since then
    found = {finding.rule_id: finding for finding in builder.session().snapshot().findings}
    assert found["deadlock"].severity is Severity.CRITICAL
    assert found["deadlock"].evidence[0].value == 6.0


def test_rules_see_the_time_in_which_the_program_could_run(tmp_path: Path) -> None:
    # GIVEN a contended lock for 5 s, and the same beside 10 s in which the program was stopped
    plain, mixed = builder_in(tmp_path / "plain"), builder_in(tmp_path / "mixed")
    for _ in range(5):
        plain.window(contended(100))
        mixed.window(contended(100)).window(halted(100)).window(halted(100))
    # WHEN both are looked at
    plain_found, found = plain.session().snapshot(), mixed.session().snapshot()
    # THEN they say the same, the halted time is a state, and a gap says which windows were left out
    assert [(each.rule_id, each.lost_cores) for each in found.findings] == [
        (each.rule_id, each.lost_cores) for each in plain_found.findings
    ]
    assert found.metrics.states_ns[ThreadState.HALTED] == 30_000_000_000
    gaps = [gap for gap in found.quality.gaps if gap.what == "windows"]
    assert [(gap.why, gap.count) for gap in gaps] == [(f"{WHY}; no finding is made of them", 10)]


def test_a_program_that_goes_on_is_not_told_as_stopped(tmp_path: Path) -> None:
    # GIVEN one that was stopped for most of the time, and is not any more
    builder = builder_in(tmp_path).window(halted(100)).window(halted(100)).window(contended(100))
    # WHEN looked at, THEN the first line is about something else
    assert WHY not in answer(builder.session().snapshot()).sentence


def test_stretches_between_what_is_touched() -> None:
    assert ranges_without([], 3) == []
    assert ranges_without([True, False, False, True, False], 7) == [(8, 10), (11, 12)]
