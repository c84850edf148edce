"""`ftdiag scale` and `ftdiag diff` as a person uses them: what is printed and written, every bad input.

The programs are run without being looked at, so that they need no free-threaded interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import xml.etree.ElementTree as Tree
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from command_line import Ran, finished, ftdiag, started
from ftdiag.commands.sweeping import read_sweep, write_sweep
from ftdiag.scaling.settings import Setting
from reading import eventually
from sweeps import a_digest, a_sweep

PRINTS = "import sys; print('speed:', 100 * int(sys.argv[1]), 'items/s')"


def scale(tmp_path: Path, program: str, *options: object, threads: str = "1,2", name: str = "a") -> Ran:
    """Two numbers of threads, one round, without looking."""
    return ftdiag(
        "scale",
        "--no-record",
        "--warm-up",
        0,
        "--repeat",
        1,
        "--threads",
        threads,
        "-o",
        tmp_path / f"{name}.ftscale",
        *options,
        "--",
        sys.executable,
        "-c",
        program,
        "{threads}",
    )


def test_a_sweep_its_table_its_files_and_what_opens_it(tmp_path: Path) -> None:
    # GIVEN a program that prints its throughput
    ran = scale(
        tmp_path,
        PRINTS,
        "--pattern",
        "speed: ([0-9]+) items/s",
        "--plot",
        tmp_path / "a.svg",
        "--plot",
        tmp_path / "a.png",
        "--summary",
        tmp_path / "summary.md",
        "--junit",
        tmp_path / "junit.xml",
        "--fail-below",
        "0.5@2",
        threads="1-2",
    )

    # THEN its table is printed, and its files are there
    assert ran.status == 0, ran.err
    assert "200" in ran.out
    assert "No law was fitted" in ran.out
    assert f"ftdiag open {tmp_path / 'a.ftscale'}" in ran.err
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "| threads | throughput |" in (tmp_path / "summary.md").read_text()
    suite = Tree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("tests") == "1"
    assert suite.get("failures") == "0"
    # AND the results open, as text without a terminal, and as a report in every form
    opened = ftdiag("open", tmp_path / "a.ftscale")
    assert opened.status == 0
    assert "Throughput by number of threads" in opened.out
    for form, begin in (("html", "<!DOCTYPE html>"), ("markdown", "## How it scales"), ("text", "")):
        assert ftdiag("report", tmp_path / "a.ftscale", "--format", form).out.startswith(begin)
    value = ftdiag("report", tmp_path / "a.ftscale", "--format", "json").json
    assert value["schema"] == "ftdiag-scale-report/1"
    assert [point["throughput"]["value"] for point in value["curves"][0]["points"]] == pytest.approx(
        [100, 200]
    )


def test_a_gate_that_fails_has_status_1(tmp_path: Path) -> None:
    ran = scale(
        tmp_path,
        "print('speed: 100')",
        "--pattern",
        "speed: ([0-9]+)",
        "--fail-below",
        "0.8@2",
        "--junit",
        tmp_path / "j.xml",
        "--cores",
        ",".join(map(str, sorted(os.sched_getaffinity(0))[:2])),
    )

    if len(os.sched_getaffinity(0)) > 1:
        assert ran.status == 1, ran.err
        assert "efficiency with 2 threads: 50 %" in ran.err
        assert "<failure" in (tmp_path / "j.xml").read_text()


@pytest.mark.parametrize(
    ("program", "options", "words", "hint"),
    [
        (
            "import sys; sys.exit('it broke')",
            (),
            "; it wrote last: it broke",
            "Run it by itself",
        ),
        ("import os; os.kill(os.getpid(), 9)", (), "the job failed with signal 9", "Run it by itself"),
        ("import time; time.sleep(60)", ("--timeout", "0.5"), "did not end within 0.5 s", "--timeout"),
        ("print('hello')", ("--pattern", "([0-9]+)/s"), "no number that --pattern", "wall time"),
        ("print('1/s 2/s')", ("--pattern", "([0-9]+)/s"), "2 numbers that --pattern", "--take last"),
        ("print('0/s')", ("--pattern", "([0-9]+)/s"), "a throughput of 0 makes no sense", "pattern matches"),
        (
            "pass",
            ("--counter", "/nonexistent/counter"),
            "the counter in /nonexistent/counter had no number",
            "writes",
        ),
    ],
)
def test_each_job_that_goes_wrong_is_one_message(
    tmp_path: Path, program: str, options: tuple[str, ...], words: str, hint: str
) -> None:
    ran = scale(tmp_path, program, *options)

    assert ran.status == 3
    assert ran.out == ""
    assert words in ran.err
    assert hint in ran.err
    # AND nothing is left of a sweep of which nothing came
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["scale"], "no program to run"),
        (["scale", "--threads", "0,1", "--", "x", "{threads}"], "0 threads cannot be run"),
        (["scale", "--threads", "1,2", "--", "x"], "no {threads}"),
        (["scale", "--layouts", "2", "--", "x"], "not PROCESSESxTHREADS"),
        (["scale", "--layouts", "1x2", "--threads", "1", "--", "x"], "takes neither"),
        (["scale", "--pattern", "x", "--", "x", "{threads}"], "no group"),
        (["scale", "--pattern", "(x)", "--counter", "c", "--", "x", "{threads}"], "one of them is enough"),
        (["scale", "--fail-below", "2@1", "--", "x", "{threads}"], "not RATIO@THREADS"),
        (
            ["scale", "--threads", "1,2", "--fail-below", "0.7@8", "--", "x", "{threads}"],
            "8 threads are not measured",
        ),
        (["scale", "--plot", "a.jpg", "--", "x", "{threads}"], "neither .svg nor .png"),
        (["scale", "--cores", "9999", "--", "x", "{threads}"], "cannot be had"),
        (["scale", "--pythons", "9.9t", "--", "python", "{threads}"], "no interpreter '9.9t'"),
        (["scale", "--resume", "x", "--", "y"], "takes the program from its file"),
        (["scale", "--", "no-such-program-anywhere", "{threads}"], "cannot start"),
    ],
)
def test_each_mistake_of_the_command_line(
    tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = ftdiag(*arguments)

    assert ran.status == 2
    assert words in ran.err
    assert list(tmp_path.iterdir()) == []


def test_keep_going_leaves_out_what_fails(tmp_path: Path) -> None:
    ran = scale(
        tmp_path,
        "import sys; sys.exit('no two') if sys.argv[1] == '2' else print('7/s')",
        "--pattern",
        "([0-9]+)/s",
        "--keep-going",
    )

    assert ran.status == 0
    assert "Runs that came to nothing" in ran.out
    assert "no two" in ran.out


def test_ctrl_c_keeps_finished_runs_and_resume_makes_the_others(tmp_path: Path) -> None:
    # GIVEN a sweep of two runs, whichever is the second waits
    path, begun, gate = tmp_path / "a.ftscale", tmp_path / "begun", tmp_path / "gate"
    program = (
        "import os, sys, time\n"
        f"with open({str(begun)!r}, 'a') as file: file.write('x')\n"
        f"while os.path.getsize({str(begun)!r}) == 2 and not os.path.exists({str(gate)!r}):\n"
        "    time.sleep(0.02)\n"
        "print('5/s')"
    )
    arguments = ("scale", "--no-record", "--warm-up", 0, "--repeat", 1, "--threads", "1,2", "-o", path)
    with started(
        *arguments, "--pattern", "([0-9]+)/s", "--", sys.executable, "-c", program, "{threads}"
    ) as process:
        # WHEN Ctrl-C comes in the second
        eventually(lambda: begun.exists() and begun.stat().st_size == 2)
        process.send_signal(signal.SIGINT)
        ran = finished(process)

    # THEN the first is kept, and nothing runs on
    assert ran.status == 130
    assert done(path) == 1
    assert f"1 of 2 runs are in {path}; ftdiag scale --resume {path}   goes on" in ran.err
    assert not any(str(begun) in words for words in command_lines())
    # AND the other is made when it is asked for
    again = ftdiag("scale", "--resume", path)
    assert again.status == 0, again.err
    assert done(path) == 2
    assert begun.stat().st_size == 3


def command_lines() -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return found


def done(path: Path) -> int:
    return len([run for run in read_sweep(path).runs if run.throughput is not None])


def test_a_fixed_job_and_a_counter(tmp_path: Path) -> None:
    # GIVEN a job of fixed work
    ran = scale(tmp_path, "import time; time.sleep(0.2)", "--items", "10", "--format", "json", name="b")
    value = ran.json["curves"][0]["points"][0]["throughput"]["value"]
    assert 0 < value < 50
    # AND one that counts in a file
    counter = tmp_path / "counter"
    program = (
        "import time\nfor n in range(1, 21):\n"
        f" time.sleep(0.03)\n open({str(counter)!r}, 'w').write(str(100 * n))"
    )
    ran = scale(tmp_path, program, "--counter", counter, "--format", "json", name="c")
    assert ran.status == 0, ran.err
    assert ran.json["curves"][0]["points"][0]["throughput"]["value"] > 0


def test_layouts_start_as_many_processes_and_add_up(tmp_path: Path) -> None:
    ran = ftdiag(
        *("scale", "--no-record", "--warm-up", 0, "--repeat", 1, "--layouts", "1x4,2x2", "--format", "json"),
        *("-o", tmp_path / "l.ftscale", "--pattern", "([0-9]+) items", "--latency", "p99 ([0-9.]+) ms", "--"),
        *(
            sys.executable,
            "-c",
            "import sys, time; time.sleep(0.3); print(sys.argv[1], 'items, p99 2.5 ms')",
            "{threads}",
        ),
    )

    assert ran.status == 0, ran.err
    points = ran.json["layouts"]
    assert [point["throughput"]["value"] for point in points] == pytest.approx([4, 4])
    assert all(point["memory_bytes"] > 1 << 20 and point["memory_is_own"] for point in points)
    assert points[0]["latency_ms"]["value"] == 2.5
    assert ran.json["recommended"] is not None


def test_results_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.ftscale").write_text("mine")
    ran = scale(tmp_path, PRINTS)
    assert ran.status == 3
    assert "exists already" in ran.err
    assert (tmp_path / "a.ftscale").read_text() == "mine"


# --- diff ----------------------------------------------------------------------------------------------


def sweep_file(path: Path, gain: float, seed: int, **more: Any) -> Path:
    write_sweep(
        path,
        a_sweep(
            lambda setting: gain * 100 * setting.workers,
            repeats=10,
            noise=0.03,
            seed=seed,
            digest=lambda _: a_digest({"useful": 3.0, "lock": 1.0}),
            **more,
        ),
        new=True,
    )
    return path


def test_a_diff_of_sweeps_in_every_form_and_as_a_gate(tmp_path: Path) -> None:
    before, after = sweep_file(tmp_path / "a.ftscale", 1.0, 1), sweep_file(tmp_path / "b.ftscale", 0.9, 2)

    ran = ftdiag(
        *("diff", before, after, "--fail-on", "worse"),
        *("--summary", tmp_path / "s.md", "--junit", tmp_path / "j.xml"),
    )
    assert ran.status == 1
    assert ran.out.startswith("Worse: throughput, ")
    assert "## Before and after" in (tmp_path / "s.md").read_text()
    assert "<failure" in (tmp_path / "j.xml").read_text()
    assert ftdiag("diff", after, before, "--fail-on", "worse").status == 0
    assert ftdiag("diff", after, before, "--fail-on", "not-better").status == 0
    value = ftdiag("diff", before, after, "--format", "json").json
    assert value["schema"] == "ftdiag-diff/1"
    assert value["verdict"] == "worse"
    assert ftdiag("diff", before, after, "--format", "markdown").out.startswith("## Before and after")
    assert ftdiag("diff", before, after, "--format", "html").out.startswith("<!DOCTYPE html>")


def test_a_diff_of_recordings(tmp_path: Path, recording: Path) -> None:
    ran = ftdiag("diff", recording, recording)
    assert ran.status == 0, ran.err
    assert "Alike: efficiency" in ran.out or "Cannot tell: " in ran.out


def test_a_sweep_and_a_recording_cannot_be_compared(tmp_path: Path, recording: Path) -> None:
    ran = ftdiag("diff", sweep_file(tmp_path / "a.ftscale", 1.0, 1), recording)
    assert ran.status == 2
    assert "cannot be compared" in ran.err


def test_damaged_results_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ftscale"
    value = json.loads(sweep_file(path, 1.0, 1, settings=[Setting(1)]).read_text())
    del value["runs"][0]["round"]
    path.write_text(json.dumps(value))
    for command in (("open", path), ("report", path), ("diff", path, path), ("scale", "--resume", path)):
        ran = ftdiag(*command)
        assert ran.status == 3
        assert "no file of a sweep that can be read: round is no whole number" in ran.err
