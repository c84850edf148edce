"""`attach --baseline`: what the report of a look says against a good recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, spent
from ftdiag.commands import viewing
from ftdiag.commands.baseline import Baseline
from ftdiag.commands.sweeping import write_sweep
from ftdiag.errors import RecordingError, UsageError
from sweeps import a_sweep


def recorded(path: Path, work: int, windows: int = 6) -> Path:
    """Seconds in which four threads work so many tenths, and wait for a lock the rest."""
    builder = RecordingBuilder(path, rate_hz=10)
    for _ in range(windows):
        lock = {"at": "app.py:9 work", "lock": "self._lock", "holder": "worker-0"}
        threads = {
            f"worker-{number}": [
                spent(work, "work", at="app.py:10 work"),
                *([spent(10 - work, "lock", **lock)] if work < 10 else []),  # type: ignore[arg-type]
            ]
            for number in range(1, 4)
        }
        threads["worker-0"] = [spent(10, "work", at="app.py:10 work")]
        builder.window(threads)
    builder.end()
    builder.close()
    return path


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_each_report_says_what_is_worse(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a good recording, and a look that waits for a lock
    baseline = Baseline(recorded(tmp_path / "good", 10))
    with viewing.opened(recorded(tmp_path / "bad", 3)) as session:
        # WHEN its report is printed against it
        viewing.print_report(session, session.snapshot(), form, None, baseline.comparison(session))

    # THEN it says so
    out = capsys.readouterr().out
    assert "good" in out
    if form == "json":
        assert '"verdict": "worse"' in out
    else:
        assert "Against the baseline" in out
        assert "Worse: efficiency: -" in out


def test_the_cockpit_is_told_what_is_not_as_usual(tmp_path: Path) -> None:
    baseline = Baseline(recorded(tmp_path / "good", 10))
    with viewing.opened(recorded(tmp_path / "bad", 3)) as session:
        drifted = baseline.drifted(session.snapshot())
    with viewing.opened(tmp_path / "good") as session:
        calm = baseline.drifted(session.snapshot())

    assert "efficiency" in drifted.words
    assert any(name == "lock" and worse for name, _, _, _, worse in drifted.figures)
    assert calm.words == "as usual"


def test_what_is_no_baseline(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a.ftscale", a_sweep(lambda _: 1.0), new=True)
    with pytest.raises(UsageError, match="a baseline is a recording"):
        Baseline(tmp_path / "a.ftscale")
    with pytest.raises(RecordingError):
        Baseline(tmp_path / "missing")
    empty = RecordingBuilder(tmp_path / "empty")
    empty.close()
    with pytest.raises(RecordingError, match="nothing in it"):
        Baseline(tmp_path / "empty")
