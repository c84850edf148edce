"""One account, that closes: every view of every recorded sample shows the same figures."""

from __future__ import annotations

import json
import math
import re

import pytest

from ftdiag.model import RUNNABLE_PARTS, CorePart, Severity, StateGroup, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.reports.html import render as render_html
from ftdiag.reports.json import to_report
from ftdiag.reports.text import render as render_text
from ftdiag.session import Session
from ftdiag.wording import units
from ftdiag.wording.account import SAID_CORES, account_words, part_name
from ftdiag.wording.answer import answer
from golden.test_baseline import IDS, RECORDED, snapshot_of
from tools.record_samples import RECORDINGS
from tools.samples import Sample

TO_THE_HUNDREDTH = 0.005
LEAST_CELLS = 100
WORK_IS_LOST = {"tracing-on"}
"""Rules that say of work itself that nobody wanted it."""
every_recording = pytest.mark.parametrize(("version", "sample"), RECORDED, ids=IDS)


@every_recording
def test_the_account_closes_and_every_view_shows_it(version: str, sample: Sample) -> None:
    # GIVEN the account of a recorded sample
    snapshot = snapshot_of(version, sample.name)
    metrics = snapshot.metrics
    assert metrics.capacity_cores is not None
    # THEN it closes, and useful cores, losses and the time on a core are parts of it
    assert math.fsum(metrics.account.values()) == pytest.approx(metrics.capacity_cores, abs=1e-9)
    assert all(cores >= 0 for cores in metrics.account.values())
    if metrics.useful_cores is not None:
        assert metrics.account[CorePart.USEFUL] == pytest.approx(metrics.useful_cores)
    for state, lost in metrics.lost_cores.items():
        parts = RUNNABLE_PARTS if state is ThreadState.RUNNABLE else (CorePart(state.label),)
        assert sum(metrics.account[part] for part in parts) == pytest.approx(lost)
    # AND text, JSON and HTML say the same figures
    said = account_words(metrics)
    assert said in re.sub(r"\s+", " ", "\n".join(render_text(snapshot)))
    account = json.loads(json.dumps(to_report(snapshot)))["metrics"]["account"]
    assert account == pytest.approx({part.label: cores for part, cores in metrics.account.items()})
    html = render_html(snapshot)
    for part, cores in metrics.account.items():
        if cores >= SAID_CORES:
            assert f"{part_name(part, metrics)}: {units.cores(cores)} cores" in html


@every_recording
def test_the_time_line_is_the_account_over_time(version: str, sample: Sample) -> None:
    # GIVEN a recorded sample and its account over time
    account = snapshot_of(version, sample.name).metrics.account
    with Recording.open(RECORDINGS / version / f"{sample.name}.ftdiag") as recording:
        line = Session(recording).timeline(None, None, 50)
    assert line is not None
    assert line.capacity_cores is not None
    # THEN every slice closes to the capacity
    for place, on_cpu in enumerate(line.on_cpu_cores):
        parts = [part[place] for part in line.account.values()]
        if on_cpu is not None:
            assert sum(part or 0.0 for part in parts) == pytest.approx(line.capacity_cores, abs=1e-6)
    # AND over the range each part is what the account says
    for part in CorePart:
        whole = sum(account[each] for each in RUNNABLE_PARTS) if part is CorePart.RUNNABLE else account[part]
        if part in RUNNABLE_PARTS and part is not CorePart.RUNNABLE:
            continue
        values = [value for value in line.account.get(part, ()) if value is not None]
        mean = sum(values) / len(values) if values else 0.0
        assert mean == pytest.approx(whole, abs=0.03 * line.capacity_cores + TO_THE_HUNDREDTH), part


@every_recording
def test_the_answer_the_account_and_the_findings_do_not_contradict_each_other(
    version: str, sample: Sample
) -> None:
    snapshot = snapshot_of(version, sample.name)
    metrics = snapshot.metrics
    capacity = metrics.capacity_cores or 0.0
    wanting = sum(metrics.account[part] for part in RUNNABLE_PARTS)
    said = answer(snapshot).sentence
    # An idle program is one that leaves most cores to others because it wants none.
    if snapshot.workload is not None and snapshot.workload.kind == "idle":
        assert metrics.on_cpu_cores + wanting <= 0.5 * capacity, snapshot.workload
    # What is said to be lost is no more than what is no work of the program.
    most = capacity - metrics.useful_parts_cores.get(ThreadState.WORK, 0.0)
    for finding in snapshot.findings:
        bound = capacity if finding.rule_id in WORK_IS_LOST else most
        assert finding.lost_cores <= bound + TO_THE_HUNDREDTH, finding.rule_id
    if any(finding.severity is not Severity.INFO for finding in snapshot.findings):
        assert "all cores are busy and no thread waits" not in said


@every_recording
def test_a_lane_has_each_state_as_often_as_its_thread(version: str, sample: Sample) -> None:
    # GIVEN the lanes of a recorded sample, and what its threads did by the kernel's own account
    snapshot = snapshot_of(version, sample.name)
    with Recording.open(RECORDINGS / version / f"{sample.name}.ftdiag") as recording:
        lanes = Session(recording).lanes(None, None, 200)
    assert lanes is not None
    for thread in snapshot.threads:
        lane = [ThreadState(code) for code in lanes.states.get(thread.info.index, b"") if code]
        # What lived shorter has too few cells to have each state in.
        if len(lane) < LEAST_CELLS or thread.alive_ns < 0.9 * snapshot.metrics.duration_ns:
            continue
        # THEN cells off the CPU are as many as the time was; a tick tells a core from a wait for one
        # only by the second, so these count together
        for state in ThreadState:
            if state.group is StateGroup.OFF_CPU and state is not ThreadState.UNKNOWN:
                share = thread.states_ns.get(state, 0.0) / thread.alive_ns
                assert lane.count(state) / len(lane) == pytest.approx(share, abs=0.05), (thread.info, state)
