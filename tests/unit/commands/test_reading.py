"""Commands that read a recording: report, open, demo."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builders import RecordingBuilder, spent
from command_line import ftdiag, screen
from ftdiag.commands import viewing
from ftdiag.commands.report import bounds_ns
from ftdiag.errors import UsageError
from ftdiag.model import Severity


class TestReport:
    def test_text_is_for_people_and_harmless(self, recording: Path) -> None:
        ran = ftdiag("report", recording)

        assert ran.status == 0
        assert ran.err == ""
        assert "worker-ü" in ran.out
        assert "\x1b" not in ran.out

    def test_json_is_one_object(self, recording: Path) -> None:
        ran = ftdiag("report", recording, "--format", "json")

        assert ran.json["schema"] == "ftdiag-report/1"
        assert ran.out.count("\n") == 1
        assert ran.err == ""

    def test_a_range_of_it(self, recording: Path) -> None:
        whole = ftdiag("report", recording, "--format", "json").json
        part = ftdiag("report", recording, "--format", "json", "--from", "1", "--to", "2").json

        assert whole["window"]["duration_s"] == pytest.approx(3.0)
        assert part["window"]["duration_s"] == pytest.approx(1.0)

    def test_a_range_behind_the_end_is_a_usage_error(self, recording: Path) -> None:
        ran = ftdiag("report", recording, "--from", "9")

        assert ran.status == 2
        assert "3.0 s long" in ran.message

    @pytest.mark.parametrize(("from_s", "to_s"), [(3.0, None), (1.0, 1.0), (2.0, 1.0), (None, 0.0)])
    def test_empty_ranges(self, from_s: float | None, to_s: float | None) -> None:
        with pytest.raises(UsageError):
            bounds_ns((1_000, 3_000_001_000), from_s, to_s)

    @pytest.mark.parametrize(
        ("severity", "fail_on", "status"),
        [
            (Severity.INFO, "warning", 0),
            (Severity.WARNING, "warning", 1),
            (Severity.CRITICAL, "warning", 1),
            (Severity.WARNING, "critical", 0),
            (Severity.CRITICAL, "critical", 1),
            (Severity.CRITICAL, None, 0),
        ],
    )
    def test_fail_on(self, severity: Severity, fail_on: str | None, status: int) -> None:
        snapshot: Any = SimpleNamespace(findings=(SimpleNamespace(severity=severity),))

        assert viewing.findings_status(snapshot, fail_on) == status

    def test_without_findings_it_is_fine(self, recording: Path) -> None:
        assert ftdiag("report", recording, "--fail-on", "warning").status == 0


class TestBadFiles:
    @pytest.fixture
    def bad(self, tmp_path: Path, recording: Path) -> Path:
        """A directory of files that are not what they should be."""
        directory = tmp_path / "bad"
        directory.mkdir()
        data = recording.read_bytes()
        (directory / "empty").write_bytes(b"")
        (directory / "text").write_text("not a recording\n" * 1000)
        (directory / "header").write_bytes(data[:100])
        (directory / "half").write_bytes(data[: len(data) // 2])
        (directory / "zeros").write_bytes(bytes(100_000))
        unfinished = RecordingBuilder(directory / "nothing-yet")
        unfinished.close()
        return directory

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("missing", "does not exist"),
            ("", "is a directory"),
            ("empty", "is empty"),
            ("text", "is not a recording of ftdiag"),
            ("zeros", "is not a recording of ftdiag"),
            ("header", ""),
            ("nothing-yet", "has nothing in it yet"),
        ],
    )
    def test_each_is_one_message(self, bad: Path, name: str, words: str) -> None:
        for command in ("report", "open") if name != "nothing-yet" else ("report",):
            ran = ftdiag(command, bad / name)

            assert ran.status == 3
            assert ran.out == ""
            assert words in ran.message
            assert len(ran.err.splitlines()) >= 2

    def test_a_truncated_one_is_shown_as_far_as_it_goes_or_refused(self, bad: Path) -> None:
        ran = ftdiag("report", bad / "half")

        assert ran.status in (0, 3)
        assert ran.err != ""

    def test_a_flipped_bit_costs_at_most_what_it_hit(self, recording: Path, tmp_path: Path) -> None:
        # GIVEN copies with one bit flipped, spread over the file
        data = recording.read_bytes()
        for place in range(40, len(data), max(1, len(data) // 8)):
            flipped = bytearray(data)
            flipped[place] ^= 0x10
            path = tmp_path / f"flipped-{place}"
            path.write_bytes(flipped)

            ran = ftdiag("report", path)

            # THEN it is shown, or refused in words; `ftdiag` fails on a traceback
            assert ran.status in (0, 3), place


class TestOpen:
    def test_without_a_terminal_it_is_the_text_report(self, recording: Path) -> None:
        assert ftdiag("open", recording).out == ftdiag("report", recording).out

    def test_on_a_terminal_it_is_the_cockpit(self, recording: Path) -> None:
        with screen("open", recording) as shown:
            shown.wait_for("app.py:10")
            shown.press("q")
            assert shown.wait() == 0

    def test_on_a_dumb_terminal_it_is_the_text_report(self, recording: Path) -> None:
        with screen("open", recording, env={"TERM": "dumb"}) as shown:
            assert shown.wait() == 0
            assert b"Where thread-time goes" in shown.seen
            assert b"\x1b" not in shown.seen

    def test_on_a_tiny_terminal_it_neither_fails_nor_hangs(self, recording: Path) -> None:
        with screen("open", recording, columns=20, rows=5) as shown:
            shown.wait_for("terminal too small")
            shown.press("q")
            assert shown.wait() == 0


class TestDemo:
    def test_without_a_terminal_it_is_the_text_report(self) -> None:
        ran = ftdiag("demo")

        assert ran.status == 0
        assert "shop.py" in ran.out
        # The cause is in the first line, and costs most of the machine.
        assert "_lock) (shop.py:24) costs 1." in ran.out

    def test_the_recording_says_nothing_of_the_machine_it_was_made_on(self) -> None:
        from ftdiag.recording.reader import Recording

        path = Path(viewing.__file__).parent.parent / "data" / "demo.ftdiag"
        with Recording.open(path) as recording:
            assert recording.settings.host == "demo"
            assert recording.target.free_threaded
            assert recording.target.executable is not None
            assert recording.target.executable.startswith("/srv/python/")
            assert all(reading.others == () for reading in recording.costs(0, len(recording)).process)
            assert len(recording) >= 10
            assert recording.damaged == recording.verify() == ()
        assert path.stat().st_size < 200_000

    def test_live_without_an_interpreter_says_how_to_get_one(self, tmp_path: Path) -> None:
        # GIVEN a machine where none is found
        nowhere: dict[str, str | None] = {
            "FTDIAG_PYTHONS": None,
            "PATH": "/nonexistent",
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": None,
            "XDG_DATA_HOME": None,
        }

        ran = ftdiag("demo", "--live", env=nowhere)

        assert ran.status == 3
        assert "no free-threaded Python" in ran.message
        assert "uv python install" in ran.err


def test_a_recording_that_is_being_written_is_live(tmp_path: Path) -> None:
    # GIVEN a recording without an end, just written to
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window({"a": [spent(10, "on_cpu", at="a.py:1 f")]})
    source = viewing.RecordingSource(builder.session())

    # THEN it is live until its end is written
    seen = [source.live]
    builder.end()
    seen += [source.refresh(), source.live, source.refresh()]
    assert seen == [True, True, False, False]


def test_a_recording_whose_writer_was_killed_is_not_live(tmp_path: Path) -> None:
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    builder.window({"a": [spent(10, "on_cpu", at="a.py:1 f")]})
    builder.close()
    old = tmp_path / "old"
    shutil.copy(builder.path, old)
    os.utime(old, (1, 1))
    with viewing.opened(old) as session:
        assert not viewing.RecordingSource(session).live


def test_json_of_strange_names_is_ascii_in_the_c_locale(recording: Path) -> None:
    ran = ftdiag("report", recording, "--format", "json", env={"LC_ALL": "C"})

    assert ran.out.isascii()
    assert any("worker-ü" in thread["name"] for thread in json.loads(ran.out)["threads"])
