"""Many processes as one: sums, shared findings, who is unlike the others; reports of several recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_target, spent
from command_line import ftdiag
from ftdiag.analysis.fleet import Member, fleet_of
from ftdiag.model import CorePart, Snapshot
from ftdiag.reports.fleet import render, to_report


def made(path: Path, pid: int, busy: int, *, command: str = "python app.py", threads: int = 2) -> Path:
    """A worker of which so many ticks of a hundred are work."""
    builder = RecordingBuilder(path, rate_hz=100, target=a_target(pid=pid, command=command))
    for _ in range(3):
        parts = [spent(busy, "work", at="app.py:9 work"), spent(100 - busy, "idle", at="app.py:3 wait")]
        builder.window({f"w{number}": parts for number in range(threads)})
    builder.end()
    return path


def snapshot_of(path: Path) -> Snapshot:
    """All of a recording."""
    from ftdiag.recording.reader import Recording
    from ftdiag.session import Session

    with Recording.open(path) as recording:
        return Session(recording).snapshot()


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    """Five workers of one program, one of which does next to nothing, and another program."""
    busy = [80, 81, 79, 80, 5]
    files = [made(tmp_path / f"w{n}.ftdiag", 100 + n, part) for n, part in enumerate(busy)]
    files.append(made(tmp_path / "other.ftdiag", 200, 50, command="python other.py"))
    return [Member(file.name, snapshot_of(file)) for file in files]


def test_processes_are_put_together(members: list[Member]) -> None:
    # GIVEN six processes of two programs WHEN they are put together
    fleet = fleet_of(members)

    # THEN each program is a group, and cores add up
    assert [(group.command, len(group.members)) for group in fleet.groups] == [
        ("python app.py", 5),
        ("python other.py", 1),
    ]
    assert fleet.on_cpu_cores == pytest.approx(sum(each.snapshot.metrics.on_cpu_cores for each in members))
    # THEN the one that is unlike the others is named, and nobody else
    assert {each.member.name for each in fleet.groups[0].unlike} == {"w4.ftdiag"}
    assert {each.figure for each in fleet.groups[0].unlike} >= {"cores in use"}


def test_a_finding_that_several_have_is_told_once(members: list[Member]) -> None:
    # GIVEN processes that have a finding in common
    base = snapshot_of(Path(__file__).parents[3] / "samples" / "recordings" / "3.14t" / "counter_lock.ftdiag")
    assert base.findings
    several = [Member(f"p{number}", base) for number in range(3)]

    # WHEN they are put together THEN it is there once, with all that have it and what it costs them together
    (shared, *_) = fleet_of([*several, members[0]]).findings
    assert len(shared.members) == 3
    assert shared.lost_cores == pytest.approx(3 * base.findings[0].lost_cores)


def test_a_core_that_others_had_is_lost_once(members: list[Member]) -> None:
    # GIVEN ten workers on two cores that take turns: each waits for the others, for a program beside them,
    # and for the samplers of all, which take 0.2 cores together
    first = members[0].snapshot
    account = {
        CorePart.USEFUL: 0.15,
        CorePart.OTHER_PROGRAMS: 0.6,
        CorePart.FTDIAG: 0.08,
        CorePart.NO_DEMAND: 1.17,
    }
    metrics = replace(first.metrics, on_cpu_cores=0.15, other_programs_cores=1.65, account=account)
    worker = replace(first, metrics=metrics, quality=replace(first.quality, sampler_cpu_ratio=0.02))
    # WHEN they are put together
    together = fleet_of([Member(f"p{number}", worker) for number in range(10)])
    # THEN the samplers cost what they took, not what each waited for them, others what no member had
    assert together.account[CorePart.FTDIAG] == pytest.approx(0.2)
    assert together.account[CorePart.OTHER_PROGRAMS] == pytest.approx(1.65 - 9 * 0.15)
    assert together.account[CorePart.USEFUL] == pytest.approx(1.5)
    assert "ftdiag itself) 0.2" in "\n".join(render(together))
    # AND workers of another machine have its cores
    away = replace(worker, settings=replace(worker.settings, host="elsewhere"))
    both = fleet_of([Member("p", worker), Member("q", worker), Member("r", away), Member("s", away)])
    assert both.account[CorePart.OTHER_PROGRAMS] == pytest.approx(2.4)
    assert both.account[CorePart.FTDIAG] == pytest.approx(0.08)
    # AND a finding about cores that others had costs what it costs one of them, once
    (finding, *_) = snapshot_of(
        Path(__file__).parents[3] / "samples" / "recordings" / "3.14t" / "counter_lock.ftdiag"
    ).findings
    starved = replace(worker, findings=(replace(finding, context=True, lost_cores=0.6),))
    (shared, *_) = fleet_of([Member(f"p{number}", starved) for number in range(10)]).findings
    assert shared.lost_cores == pytest.approx(0.6)


def test_what_is_not_measured_is_not_compared(members: list[Member]) -> None:
    # GIVEN a process whose efficiency is not known WHEN it is put with others THEN it is not unlike them
    blank = replace(members[0].snapshot.metrics, efficiency_ratio=None, useful_cores=None)
    unknown = Member("unknown", replace(members[0].snapshot, metrics=blank, process=None))
    fleet = fleet_of([*members[:3], unknown])
    assert fleet.useful_cores is None
    assert not fleet.groups[0].unlike


def test_names_are_harmless(members: list[Member]) -> None:
    # GIVEN a process with a name that moves cursors WHEN it is reported THEN it does not
    target = replace(members[0].snapshot.target, command="\x1b[2Jevil\u202e")
    text = "\n".join(render(fleet_of([Member("\x1b[1m", replace(members[0].snapshot, target=target))])))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_several_recordings_in_one_report(tmp_path: Path, members: list[Member]) -> None:
    # GIVEN recordings WHEN they are reported together
    files = [tmp_path / f"w{number}.ftdiag" for number in range(5)]
    text = ftdiag("report", *files)
    values = ftdiag("report", *files, "--format", "json").json

    # THEN each has a row, and what is unlike stands out
    assert text.status == 0, text.err
    assert text.out.startswith("5 processes:")
    assert "unlike the others: w4.ftdiag" in text.out
    assert values["processes"] == 5
    assert to_report(fleet_of(members))["schema"] == values["schema"]
    # WHEN a range is asked for THEN it is said that this is about one
    assert ftdiag("report", *files, "--from", "1").status == 2
