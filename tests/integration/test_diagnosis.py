"""Real programs, looked at for a few seconds: the finding at the top is the right one.

In: samples that run under each interpreter. The machine may be busy with other things; so a program gets
other chances, each longer, findings about the machine itself do not count, and nothing is said about figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ftdiag.model import Finding, Severity
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from reading import cores
from tools.provision.verification import Interpreter
from tools.record_samples import record
from tools.samples import Sample, about_program, sample_named, says_where
from tools.workloads import WORKLOADS

SECONDS = (2.0, 2.0, 4.0, 8.0, 8.0, 12.0)


def looks(sample: Sample, python: Path, directory: Path) -> Iterator[tuple[Finding, ...]]:
    """What is found in fresh recordings of a sample, but for the machine."""
    for number, seconds in enumerate(SECONDS):
        path = directory / f"{number}.ftdiag"
        record(replace(sample, seconds=seconds), python, WORKLOADS, path)
        with Recording.open(path) as recording:
            findings = Session(recording).snapshot().findings
        yield about_program(sample, findings)


@pytest.mark.parametrize("name", ["hot_lock", "shared_settings", "asyncio_loop", "gil_back_on"])
def test_cause_is_at_the_top(name: str, free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a program with one cause
    sample = sample_named(name)
    tops: list[str] = []
    # WHEN it is looked at
    for findings in looks(sample, Path(free_threaded_python.path), tmp_path):
        tops += [finding.summary for finding in findings[:1]]

        # THEN the finding at the top is that cause and names it
        if findings and findings[0].rule_id == sample.rule and says_where(sample, findings[0]):
            return
    # Threads that cannot run at once do not contend for objects.
    if name != "shared_settings" or cores() > 1:
        pytest.fail(f"at the top instead: {tops or 'nothing'}")


@pytest.mark.parametrize("name", ["independent_cpu", "shared_settings-fixed"])
def test_healthy_program_has_nothing_to_act_on(
    name: str, free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a program whose threads share nothing
    sample = sample_named(name)
    said: list[str] = []
    # WHEN it is looked at
    for findings in looks(sample, Path(free_threaded_python.path), tmp_path):
        serious = [finding.summary for finding in findings if finding.severity is not Severity.INFO]

        # THEN there is nothing to act on
        if not serious:
            return
        said += serious
    pytest.fail(f"found in a healthy program: {said}")
