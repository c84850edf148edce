"""Every recorded sample through every rule, compared with one reviewed baseline.

In: samples/recordings, tests/golden/baseline.txt. The baseline says which findings of which severity each
recording leads to, in their order, and what they are about; it holds no figures, so that a better estimate of
a loss is no difference. How to change it: tests/golden/README.md.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest

from ftdiag.model import Finding, Severity, Snapshot
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from tools.record_samples import RECORDINGS
from tools.samples import SAMPLES, Sample, about_program, says_where

BASELINE = Path(__file__).with_name("baseline.txt")
EXCEPTIONS = Path(__file__).with_name("baseline-exceptions.json")
UPDATE = "FTDIAG_UPDATE_GOLDEN"
VERSIONS = ("3.13t", "3.14t", "3.15t")
COMPLETE = ("3.13t", "3.14t")
"""Versions on which every sample is recorded; on others those for which the version matters."""
RECORDED = [
    (version, sample)
    for version in VERSIONS
    for sample in SAMPLES
    if (RECORDINGS / version / f"{sample.name}.ftdiag").exists()
]
IDS = [f"{version}-{sample.name}" for version, sample in RECORDED]


@functools.cache
def snapshot_of(version: str, name: str) -> Snapshot:
    """The whole recording, diagnosed."""
    with Recording.open(RECORDINGS / version / f"{name}.ftdiag") as recording:
        return Session(recording).snapshot()


def line_of(finding: Finding) -> str:
    """A finding in one line without figures."""
    subject = dict(finding.subject)
    words = [f"{finding.severity.name.lower()} {finding.rule_id}"]
    if "lock" in subject:
        # The address of a lock is another one in each run.
        words.append(str(subject["lock"]).partition(" 0x")[0])
    if "file" in subject:
        place = Path(str(subject["file"])).name
        words.append(f"{place}:{subject['line']}" if "line" in subject else place)
    words += [str(subject[key]) for key in ("module",) if key in subject]
    return ", ".join(words)


def described(version: str, name: str) -> list[str]:
    """The lines of the baseline for one recording."""
    findings = snapshot_of(version, name).findings
    return [f"{version} {name}", *(f"    {line_of(finding)}" for finding in findings)]


def baseline() -> dict[str, list[str]]:
    """The reviewed baseline by its headings."""
    blocks: dict[str, list[str]] = {}
    block: list[str] = []
    for line in BASELINE.read_text().splitlines():
        if not line.startswith(" "):
            block = blocks.setdefault(line, [])
        block.append(line)
    return blocks


def exceptions() -> dict[str, str]:
    """Recordings that do not show what their sample is there for, and why."""
    known: dict[str, str] = json.loads(EXCEPTIONS.read_text())
    return known


@pytest.fixture(scope="module", autouse=True)
def _rewritten() -> None:
    if os.environ.get(UPDATE):
        lines = [line for version, sample in RECORDED for line in described(version, sample.name)]
        BASELINE.write_text("\n".join(lines) + "\n")


def test_every_sample_is_recorded() -> None:
    # GIVEN the list of samples
    # WHEN it is compared with the files, THEN there is one for each, and no other
    names = {sample.name for sample in SAMPLES}
    for version in VERSIONS:
        found = {path.stem for path in (RECORDINGS / version).glob("*.ftdiag")}
        assert found == names if version in COMPLETE else found <= names
    assert {path.name for path in RECORDINGS.iterdir() if path.is_dir()} == set(VERSIONS)


def test_baseline_has_nothing_else() -> None:
    # GIVEN the baseline and the exceptions
    # WHEN their names are compared with the recordings, THEN none is left over
    names = {f"{version} {sample.name}" for version, sample in RECORDED}
    assert set(baseline()) == names
    assert set(exceptions()) <= names


@pytest.mark.parametrize(("version", "sample"), RECORDED, ids=IDS)
def test_findings_are_those_of_the_baseline(version: str, sample: Sample) -> None:
    # GIVEN a recording and what was reviewed of it
    reviewed = baseline().get(f"{version} {sample.name}", ["not in the baseline"])

    # WHEN all rules look at it
    found = described(version, sample.name)

    # THEN they find the same
    assert found == reviewed, f"review the difference, then {UPDATE}=1 python -m pytest {Path(__file__).name}"


@pytest.mark.parametrize(("version", "sample"), RECORDED, ids=IDS)
def test_diagnosis_is_right(version: str, sample: Sample) -> None:
    # GIVEN a recording of a sample that has a known cause, or none
    if not sample.expected_on(version.rstrip("t")):
        return

    # WHEN all rules look at it
    findings = snapshot_of(version, sample.name).findings

    # THEN the top finding names the cause and its place; a healthy program has no finding to act on. What is
    # known to be otherwise is otherwise indeed: an exception that is not needed any more has to go.
    right = is_right(sample, findings)
    assert right != (f"{version} {sample.name}" in exceptions()), described(version, sample.name)


def is_right(sample: Sample, findings: tuple[Finding, ...]) -> bool:
    """Whether these are the findings a sample is there for; the recordings were made beside other work."""
    findings = about_program(sample, findings)
    if sample.rule is None:
        return all(finding.severity is Severity.INFO for finding in findings)
    return bool(findings) and findings[0].rule_id == sample.rule and says_where(sample, findings[0])
