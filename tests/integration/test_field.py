"""Programs with real libraries and services, looked at for a few seconds: the first finding is the right one.

In: a few cases of tools/field.py whose libraries install quickly; bench/field.py looks at all of them. A case
is left out only where its libraries have no wheel for a version, and the reason is said; where the package
index does not answer, the test fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftdiag.launcher import SamplerProcess
from ftdiag.model import Finding, Severity, Snapshot
from ftdiag.recording.reader import Recording
from ftdiag.sampling.options import SamplerOptions
from ftdiag.session import Session
from tools.field import Case, NotInstalled, case_named, environment_of, running_case
from tools.provision.verification import Interpreter
from tools.samples import ABOUT_THE_MACHINE

SECONDS = (2.0, 4.0, 8.0)


def looks(case: Case, interpreter: Interpreter, directory: Path) -> Iterator[Snapshot]:
    """Fresh recordings of a case, each longer than the one before."""
    try:
        python = environment_of(interpreter, case.needs)
    except NotInstalled as why:
        if "No matching distribution" not in str(why):
            raise
        pytest.skip(f"{' and '.join(case.needs)} for {interpreter.series}t: {why}")
    for number, seconds in enumerate(SECONDS):
        path = directory / f"{number}.ftdiag"
        with SamplerProcess() as sampler, running_case(case, python) as running:
            sampler.spawn()
            sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=seconds))
            sampler.wait_until_started()
            sampler.wait(seconds + 60.0)
            sampler.stop()
        with Recording.open(path) as recording:
            yield Session(recording).snapshot()


def about_program(snapshot: Snapshot) -> list[Finding]:
    """Findings of warning or above that are not about the machine."""
    return [
        finding
        for finding in snapshot.findings
        if finding.rule_id not in ABOUT_THE_MACHINE and finding.severity is not Severity.INFO
    ]


@pytest.mark.parametrize("name", ["wsgiref_threads", "soup_with_lxml", "fastapi_uvicorn"])
def test_the_cause_in_a_real_program(name: str, free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a program that uses a library, or a service under load
    case = case_named(name)
    tops: list[str] = []
    # WHEN it is looked at
    for snapshot in looks(case, free_threaded_python, tmp_path):
        found = about_program(snapshot)
        tops += [finding.summary for finding in found[:1]]

        # THEN the first finding is the right one and names the place
        if found and case.is_right(found[0], free_threaded_python.series) and case.names_it(found[0]):
            return
    pytest.fail(f"at the top instead: {tops or 'nothing'}")


def test_who_imported_what_turned_the_gil_on(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a program that uses Beautiful Soup, which imports lxml because it is installed
    case = case_named("soup_with_lxml")

    # WHEN it is looked at
    snapshot = next(looks(case, free_threaded_python, tmp_path))

    # THEN the chain is told, and to leave lxml out is the first advice
    assert snapshot.target.gil_importers[0] == ("__main__", "bs4")
    finding = next(each for each in snapshot.findings if each.rule_id == "gil-enabled")
    assert "by bs4, which the program imports" in finding.summary
    assert "leave lxml out" in finding.remedy[0].text
