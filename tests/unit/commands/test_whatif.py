"""`ftdiag whatif`: changes from the command line, findings without any, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, Spent, a_target, spent
from command_line import ftdiag
from ftdiag.commands.whatif import factor_of


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "app.ftdiag"
    builder = RecordingBuilder(path, target=a_target(capacity_cores=2.0))

    def waits(holder: str) -> Spent:
        return spent(5, "lock", at="app.py:9 take", lock="self._lock", holder=holder)

    runs = spent(5, "on_cpu", at="app.py:10 inside")
    for _ in range(3):
        builder.window({"a": [runs, waits("b")] * 10, "b": [waits("a"), runs] * 10})
    builder.end()
    return path


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("gone", 0.0),
        ("half", 0.5),
        ("0.3x", 0.3),
        ("2", 2.0),
        ("nan", None),
        ("-1", None),
        ("", None),
        ("x", None),
    ],
)
def test_what_is_left(text: str, factor: float | None) -> None:
    assert factor_of(text) == factor


def test_a_lock_that_is_gone(recording: Path) -> None:
    ran = ftdiag("whatif", recording, "--lock", "self._lock=gone")
    assert ran.status == 0
    assert "With lock self._lock gone: 2.0 times as much work a second (80 % sure: " in ran.out
    assert "without the change the replay does 1.0" in ran.out


def test_the_same_for_programs(recording: Path) -> None:
    said = ftdiag("whatif", recording, "--lock", "self._lock=half", "--cores", "4", "--format", "json").json
    assert [change["kind"] for change in said["changes"]] == ["lock", "cores"]
    assert said["low"] <= said["gain"] <= said["high"]
    assert said["not_told"] is None


def test_without_a_change_each_finding_is_told(recording: Path) -> None:
    ran = ftdiag("whatif", recording)
    assert "hot-lock (lock self._lock gone): 2.0 times as much work a second" in ran.out


def test_a_report_says_it_with_its_findings(recording: Path) -> None:
    findings = ftdiag("report", recording, "--format", "json").json["findings"]
    (finding,) = [each for each in findings if each["rule"] == "hot-lock"]
    assert finding["prediction"]["gain"] == pytest.approx(2.0, rel=0.05)
    text = ftdiag("report", recording).out
    assert "without it 2.0 times as much work a second" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["--lock", "x"], "does not say what is left", "NAME=gone"),
        (["--lock", "other=gone"], "no lock that is waited for is called other", "ftdiag report"),
        (["--threads", "0"], "0", ""),
        (["--gc", "much"], "does not say what is left", "say gone, half"),
    ],
)
def test_what_makes_no_sense_is_said(recording: Path, arguments: list[str], error: str, hint: str) -> None:
    ran = ftdiag("whatif", recording, *arguments)
    assert ran.status == 2
    assert error in ran.message
    assert hint in ran.err
