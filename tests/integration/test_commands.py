"""Every command on real processes: what it prints, its exit status, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from command_line import (
    Ran,
    finished,
    ftdiag,
    samplers_of,
    screen,
    started,
    until_seen,
)
from reading import eventually, windows_in
from small_disk import small_disk
from tools.provision.verification import Interpreter
from tools.workloads import running_workload

Workload = Callable[..., int]

IDLE = "import time; print('ready', flush=True); time.sleep(1000)"
UNTIL_TOLD = "import os, sys, time; print('ready', flush=True); sys.stdin.readline(); "
"""A process that goes on when it is sent a line, or whoever could send one is gone."""


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[dict[str, str | None]]:
    """An environment with its own TMPDIR, in which no file and no sampler may be left."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    yield {"TMPDIR": str(directory)}
    assert list(directory.iterdir()) == []
    eventually(lambda: not samplers_of(directory))


def place(scratch: dict[str, str | None]) -> Path:
    """The directory of such an environment."""
    return Path(scratch["TMPDIR"] or "")


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of ours that has said it is ready."""
    child = subprocess.Popen(
        [str(word) for word in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def tell(child: subprocess.Popen[str]) -> None:
    """Have a process go on that waits to be told."""
    assert child.stdin is not None
    child.stdin.write("go on\n")
    child.stdin.flush()


@pytest.fixture
def one_python(free_threaded_pythons: tuple[Interpreter, ...]) -> str:
    """One interpreter, where all would say the same."""
    return str(free_threaded_pythons[0].path)


class TestAttach:
    def test_json(self, workload: Workload, scratch: dict[str, str | None]) -> None:
        # GIVEN a contended program
        pid = workload("hot_lock", "--threads", "2")

        # WHEN it is looked at for a second
        begin = time.monotonic()
        ran = ftdiag("attach", pid, "--duration", "1", "--format", "json", env=scratch)
        length = time.monotonic() - begin

        # THEN it takes a second and what starting takes, and standard output has the report alone
        assert ran.status == 0, ran.err
        report = ran.json
        assert report["schema"] == "ftdiag-report/1"
        assert report["target"]["pid"] == pid
        assert report["target"]["free_threaded"] is True
        assert 1.0 <= report["window"]["duration_s"] < length
        assert {"order-worker-0", "order-worker-1", "MainThread"} <= {t["name"] for t in report["threads"]}
        assert any("hot_lock.py" in line["file"] for line in report["hot"])
        assert ran.err == ""

    def test_text_and_record(
        self, workload: Workload, scratch: dict[str, str | None], tmp_path: Path
    ) -> None:
        pid = workload("idle_pool")
        kept = tmp_path / "kept.ftdiag"

        ran = ftdiag("attach", pid, "--duration", "0.6", "--record", kept, env=scratch)

        assert ran.status == 0
        assert f"pid {pid}" in ran.out
        assert f"recorded in {kept}" in ran.err
        assert kept.stat().st_mode & 0o777 == 0o600
        # AND the recording says the same again
        again = ftdiag("report", kept, env=scratch)
        assert again.out == ran.out

    def test_more_threads_than_open_files(self, workload: Workload, scratch: dict[str, str | None]) -> None:
        # GIVEN a program with more threads than we may have open files
        pid = workload("idle_pool", "--threads", "150")
        eventually(lambda: len(os.listdir(f"/proc/{pid}/task")) > 150)  # they come with their first task

        # WHEN it is looked at
        low = ("sh", "-c", 'ulimit -n 128; exec "$@"', "sh")
        ran = ftdiag("attach", pid, "--duration", "1", "--format", "json", env=scratch, prefix=low)

        # THEN every thread is there, and what that costs is said
        assert ran.status == 0, ran.err
        assert ran.json["metrics"]["threads"] > 128
        gaps = {gap["why"] for gap in ran.json["quality"]["gaps"]}
        assert any("limit of open files" in why for why in gaps)
        assert not any("could not be opened" in why for why in gaps)

    def test_cockpit(self, workload: Workload, scratch: dict[str, str | None]) -> None:
        pid = workload("hot_lock", "--threads", "2")

        with screen("attach", pid, env=scratch) as shown:
            shown.wait_for("order-worker")
            shown.press("q")
            assert shown.wait() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_leaves_the_cockpit_in_order(
        self, one_python: str, scratch: dict[str, str | None], number: signal.Signals
    ) -> None:
        with (
            process(one_python, "-c", IDLE) as target,
            screen("attach", target.pid, env=scratch) as shown,
        ):
            shown.wait_for("LIVE")
            os.kill(shown.pid, number)

            # THEN the terminal is given back (the alternate screen is left)
            assert shown.wait() == 128 + number
            assert b"\x1b[?1049l" in shown.seen

    def test_the_target_ends(self, one_python: str, scratch: dict[str, str | None], tmp_path: Path) -> None:
        for end, words in (
            ("sys.exit(3)", "exited with status 3"),
            ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
            ("os.execv('/bin/sleep', ['sleep', '1000'])", "replaced itself (exec): sleep 1000"),
        ):
            with (
                process(one_python, "-c", UNTIL_TOLD + end) as target,
                started("attach", target.pid, "--duration", "600", env=scratch) as command,
            ):
                until_seen(place(scratch))
                tell(target)
                ran = finished(command)

            assert ran.status == 0, ran.err
            assert f"recording ended: process {target.pid} {words}" in ran.out or words in " ".join(
                ran.out.split()
            )

    def test_json_tells_of_an_early_end_on_standard_error(
        self, one_python: str, scratch: dict[str, str | None]
    ) -> None:
        with (
            process(one_python, "-c", UNTIL_TOLD) as target,
            started("attach", target.pid, "--duration", "600", "--format", "json", env=scratch) as command,
        ):
            until_seen(place(scratch))
            tell(target)
            ran = finished(command)

        assert ran.status == 0
        assert ran.json["threads"]
        assert f"sampling ended early: process {target.pid}" in ran.err

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_early_with_a_report(
        self, one_python: str, scratch: dict[str, str | None], number: signal.Signals
    ) -> None:
        with (
            process(one_python, "-c", IDLE) as target,
            started("attach", target.pid, "--duration", "600", "--format", "json", env=scratch) as command,
        ):
            until_seen(place(scratch))
            command.send_signal(number)
            ran = finished(command)

        assert ran.status == 128 + number
        assert ran.out, ran.err
        assert ran.json["window"]["duration_s"] < 300
        assert "interrupted" in ran.err

    def test_ctrl_c_at_any_moment(self, one_python: str, scratch: dict[str, str | None]) -> None:
        with process(one_python, "-c", IDLE) as target:
            for wait_s in (0.0, 0.1, 0.2, 0.35):
                with started(
                    "attach", target.pid, "--duration", "600", "--format", "text", env=scratch
                ) as command:
                    # Until it has a child it is Python that starts, and not we.
                    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
                    eventually(children.read_text, every_s=0.002)
                    time.sleep(wait_s)
                    command.send_signal(signal.SIGINT)
                    with suppress(subprocess.TimeoutExpired):
                        command.wait(20)
                    if command.poll() is None:
                        # Python loses an interrupt that comes in a callback of its own (of a weak reference,
                        # while it imports); a person presses the keys again.
                        command.send_signal(signal.SIGINT)
                    ran = finished(command)

                # Before our own handler is there the signal ends us, which a shell calls 130 too.
                assert ran.status in (130, -signal.SIGINT)
                assert "ftdiag/commands" not in ran.err

    def test_a_killed_command_leaves_no_sampler_and_no_folder(
        self, one_python: str, scratch: dict[str, str | None]
    ) -> None:
        directory = place(scratch)
        with (
            process(one_python, "-c", IDLE) as target,
            started("attach", target.pid, "--duration", "600", "--format", "text", env=scratch) as command,
        ):
            until_seen(directory)
            (private,) = directory.iterdir()
            assert private.stat().st_mode & 0o777 == 0o700
            command.kill()
            finished(command)
            eventually(lambda: not samplers_of(directory))
            eventually(lambda: not private.exists())

    def test_what_a_command_and_its_sampler_leave_that_were_killed_goes_with_the_next(
        self, one_python: str, scratch: dict[str, str | None]
    ) -> None:
        directory = place(scratch)
        with process(one_python, "-c", IDLE) as target:
            with started(
                "attach", target.pid, "--duration", "600", "--format", "text", env=scratch
            ) as command:
                until_seen(directory)
                (private,) = directory.iterdir()
                (sampler,) = samplers_of(directory)
                # In this order: a sampler without its parent would clear up.
                os.kill(sampler, signal.SIGSTOP)
                command.kill()
                os.kill(sampler, signal.SIGKILL)
                finished(command)
            eventually(lambda: not samplers_of(directory))
            assert private.exists()

            ran = ftdiag("attach", target.pid, "--duration", "0.3", "--format", "text", env=scratch)

        assert ran.status == 0
        assert not private.exists()

    def test_a_killed_sampler_is_told_and_the_report_comes(
        self, one_python: str, scratch: dict[str, str | None]
    ) -> None:
        directory = place(scratch)
        with (
            process(one_python, "-c", IDLE) as target,
            started("attach", target.pid, "--duration", "600", "--format", "text", env=scratch) as command,
        ):
            until_seen(directory)
            (sampler,) = samplers_of(directory)
            os.kill(sampler, signal.SIGKILL)
            ran = finished(command)

        assert ran.status == 3
        assert f"pid {target.pid}" in ran.out
        assert "the sampler was killed by SIGKILL" in ran.err

    def test_thread_storm(self, one_python: str, scratch: dict[str, str | None]) -> None:
        with running_workload(one_python, "thread_storm") as storm:
            ran = ftdiag("attach", storm.pid, "--duration", "1", "--format", "json", env=scratch)

        assert ran.status == 0, ran.err
        assert ran.json["window"]["ticks"] > 0


class TestRefused:
    @pytest.fixture(autouse=True)
    def clean(self, scratch: dict[str, str | None]) -> None:
        self.scratch = scratch

    def refused(self, pid: object, words: str, *, prefix: tuple[str, ...] = ()) -> Ran:
        """All commands that attach refuse the process for the same reason, in one message."""
        for command in (
            ("attach", pid, "--duration", "1", "--format", "text"),
            ("record", pid, "-o", Path(self.scratch["TMPDIR"] or "") / "no.ftdiag"),
        ):
            ran = ftdiag(*command, env=self.scratch, prefix=prefix)
            assert ran.status == 3
            assert ran.out == ""
            assert words in ran.message
            assert len(ran.err.splitlines()) >= 2
        doctor = ftdiag("doctor", pid, env=self.scratch, prefix=prefix)
        assert doctor.status == 3
        assert f"Attaching to process {pid} will not work." in doctor.out
        return doctor

    def test_no_such_process(self) -> None:
        self.refused(4_194_304, "there is no process 4194304")

    def test_a_zombie(self) -> None:
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        try:
            self.refused(child.pid, f"zombie that waits for its parent {os.getpid()}")
        finally:
            child.wait()

    def test_not_python(self) -> None:
        with process("sh", "-c", "echo ready; exec sleep 60") as child:
            time.sleep(0.2)
            self.refused(child.pid, "is not a CPython process")

    def test_a_thread(self, one_python: str) -> None:
        code = (
            "import threading, time\n"
            "t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start()\n"
            "print(t.native_id, flush=True); time.sleep(60)"
        )
        child = subprocess.Popen([one_python, "-c", code], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            tid = int(child.stdout.readline())
            ran = ftdiag("attach", tid, "--format", "text", env=self.scratch)
        finally:
            child.kill()
            child.communicate()

        assert ran.status == 3
        assert f"{tid} is a thread of process {child.pid}" in ran.message
        assert f"ftdiag attach {child.pid}" in ran.err

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
    def test_another_user_without_the_capability(self, one_python: str) -> None:
        # GIVEN a process of another user, and us as a root that may not ptrace (as in a container)
        code = (
            "import os, time; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "print('ready', flush=True); time.sleep(60)"
        )
        with process(one_python, "-c", code) as child:
            self.refused(
                child.pid,
                "it belongs to user",
                prefix=("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-all"),
            )

    def test_another_user(self, one_python: str) -> None:
        # GIVEN us as an ordinary user, and a process of root's; as root we become another user first, who can
        # only open the files that ftdiag itself consists of
        if os.geteuid() != 0:
            self.refused(1, "it belongs to user root")
            return
        nobody = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
        files = "+dac_override,+dac_read_search"
        with process(one_python, "-c", IDLE) as child:
            self.refused(
                child.pid,
                "it belongs to user root",
                prefix=("setpriv", *nobody, "--inh-caps", files, "--ambient-caps", files),
            )


class TestRecord:
    def test_until_ctrl_c(self, workload: Workload, scratch: dict[str, str | None], tmp_path: Path) -> None:
        pid = workload("idle_pool")
        path = tmp_path / "a.ftdiag"
        with started("record", pid, "-o", path, env=scratch) as command:
            eventually(lambda: windows_in(path))
            assert ftdiag("report", path, env=scratch).status == 0
            command.send_signal(signal.SIGINT)
            ran = finished(command)

        assert ran.status == 0
        assert ran.out == ""
        assert f"recorded process {pid} in {path}" in ran.err
        assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != "scratch") == ["a.ftdiag"]
        assert "stopped on request" in ftdiag("report", path, env=scratch).out

    def test_never_overwrites(self, one_python: str, scratch: dict[str, str | None], tmp_path: Path) -> None:
        path = tmp_path / "precious"
        path.write_text("precious")
        with process(one_python, "-c", IDLE) as target:
            for arguments in (
                ("record", target.pid, "-o", path),
                ("attach", target.pid, "--record", path, "--format", "text"),
                ("run", "--record", path, "--format", "text", "--", one_python, "-c", "print('started')"),
            ):
                ran = ftdiag(*arguments, env=scratch)
                assert ran.status == 3
                assert "exists already" in ran.message
                assert "started" not in ran.out
        assert path.read_text() == "precious"

    @pytest.mark.parametrize("place", ["missing/a", "scratch", "file/a"])
    def test_where_nothing_can_be_made(
        self, one_python: str, scratch: dict[str, str | None], tmp_path: Path, place: str
    ) -> None:
        (tmp_path / "file").write_text("")
        with process(one_python, "-c", IDLE) as target:
            ran = ftdiag("record", target.pid, "-o", tmp_path / place, env=scratch)

        assert ran.status == 3
        assert len(ran.err.splitlines()) == 2

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
    def test_full_disk(self, one_python: str, tmp_path: Path, scratch: dict[str, str | None]) -> None:
        small = tmp_path / "small"
        with small_disk(small, "100k") as mounted, running_workload(one_python, "recursion") as target:
            if not mounted:
                pytest.skip("needs the right to mount a file system")
            path = small / "a.ftdiag"
            ran = ftdiag("record", target.pid, "-o", path, "--rate", "500", env=scratch)
            assert ran.status == 3
            assert "disk is full" in ran.message
            # THEN what was recorded is kept
            assert ftdiag("report", path, env=scratch).status == 0
            for left in small.iterdir():
                left.unlink()
            # AND a look that is not kept says how to take another place, after its report
            ran = ftdiag(
                "attach", target.pid, "--format", "text", "--duration", "600", "--rate", "500",
                env={"TMPDIR": str(small)},
            )  # fmt: skip
            assert ran.status == 3
            assert f"pid {target.pid}" in ran.out
            assert "TMPDIR=" in ran.err
            assert list(small.iterdir()) == []


class Gated:
    """A program that says something, and ends when it was seen."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "program.py"
        self._gate = directory / "gate"

    def write(self, before: str = "", after: str = "") -> Path:
        """Have it do something before it waits, and after that."""
        wait = f"import os, sys, time\nwhile not os.path.exists({str(self._gate)!r}): time.sleep(0.02)"
        self.path.write_text(f"import os, signal, sys, time\n{before}\n{wait}\n{after}\n")
        return self.path

    def let_go(self) -> None:
        """Let it end."""
        self._gate.touch()

    def ran(
        self, scratch: dict[str, str | None], *arguments: object, stdin: int | IO[str] = subprocess.DEVNULL
    ) -> Ran:
        """What a command does that runs it."""
        with started(*arguments, env=scratch, stdin=stdin) as command:
            until_seen(place(scratch))
            self.let_go()
            return finished(command)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    """A program for `ftdiag run`; it ends in any case."""
    one = Gated(tmp_path)
    yield one
    one.let_go()


class TestRun:
    def test_report_and_status_of_the_program(
        self, free_threaded_python: Interpreter, scratch: dict[str, str | None], gated: Gated, tmp_path: Path
    ) -> None:
        program = gated.write("print(sys.stdin.readline())", "sys.exit(7)")
        words = tmp_path / "words"
        words.write_text("in\n")

        with words.open() as stdin:
            ran = gated.ran(
                scratch, "run", "--format", "json", "--", free_threaded_python.path, program, stdin=stdin
            )

        # THEN its status is ours, its input came from us, and standard output has the report alone
        assert ran.status == 7
        assert "in\n" in ran.err
        assert ran.json["target"]["python_version"] == free_threaded_python.version

    def test_html(self, one_python: str, scratch: dict[str, str | None], gated: Gated) -> None:
        program = gated.write("print('said by it', flush=True)")

        ran = gated.ran(scratch, "run", "--format", "html", "--", one_python, program)

        # THEN standard output has the document alone
        assert ran.status == 0, ran.err
        assert ran.out.startswith("<!DOCTYPE html>\n")
        assert ran.out.endswith("</html>\n")
        assert "said by it\n" in ran.err
        assert "said by it\n" not in ran.out

    def test_text_follows_the_output_of_the_program(
        self, one_python: str, scratch: dict[str, str | None], gated: Gated
    ) -> None:
        program = gated.write("print('out', flush=True)")

        ran = gated.ran(scratch, "run", "--", one_python, program)

        assert ran.status == 0
        assert ran.out.startswith("out\n")
        assert "recording ended" in ran.out

    def test_a_wrapper_that_becomes_python(
        self, one_python: str, scratch: dict[str, str | None], gated: Gated
    ) -> None:
        code = f"sleep 0.3; exec {one_python} {gated.write()}"

        ran = gated.ran(scratch, "run", "--format", "json", "--", "sh", "-c", code)

        assert ran.status == 0, ran.err
        assert ran.json["target"]["executable"] == os.path.realpath(one_python)

    def test_a_program_that_only_starts_python(
        self, one_python: str, scratch: dict[str, str | None], gated: Gated
    ) -> None:
        code = f"{one_python} {gated.write()}; exit 0"

        with started("run", "--format", "text", "--", "sh", "-c", code, env=scratch) as command:
            # THEN it says which process is Python, and lets the program end
            assert command.stderr is not None
            assert "the program only started Python" in command.stderr.readline()
            assert "ftdiag attach " in command.stderr.readline()
            gated.let_go()
            assert finished(command).status == 3

    def test_too_short_to_be_seen(self, scratch: dict[str, str | None]) -> None:
        assert ftdiag("run", "--format", "text", "--", "true", env=scratch).status == 3
        assert ftdiag("run", "--format", "text", "--", "false", env=scratch).status == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
    def test_signals_reach_the_program(
        self,
        one_python: str,
        scratch: dict[str, str | None],
        gated: Gated,
        tmp_path: Path,
        number: signal.Signals,
    ) -> None:
        ready = tmp_path / "ready"
        program = gated.write(
            f"signal.signal({int(number)}, lambda n, f: sys.exit(9)); open({str(ready)!r}, 'w').close()"
        )
        with started("run", "--format", "json", "--", one_python, program, env=scratch) as command:
            eventually(ready.exists)
            until_seen(place(scratch))
            command.send_signal(number)
            ran = finished(command)

        assert ran.status == 9
        assert json.loads(ran.out)["target"]["command"].startswith(one_python)

    def test_the_program_outlives_the_look(
        self, one_python: str, scratch: dict[str, str | None], gated: Gated
    ) -> None:
        program = gated.write(after="print('end', flush=True)")

        with started(
            "run", "--duration", "0.5", "--format", "text", "--", one_python, program, env=scratch
        ) as command:
            # THEN the report is there, and the recording is gone, before the program ends
            assert command.stdout is not None
            assert command.stdout.readline()
            eventually(lambda: list(place(scratch).iterdir()) == [])
            gated.let_go()
            ran = finished(command)

        assert ran.status == 0
        assert ran.out.endswith("end\n")

    def test_cockpit_keeps_the_output_in_a_file(
        self, one_python: str, scratch: dict[str, str | None], tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        code = "import sys, time; print('from the program', flush=True); time.sleep(1000)"
        with screen("run", "--log", log, "--", one_python, "-c", code, env=scratch) as shown:
            shown.wait_for("LIVE")
            shown.press("q")
            shown.wait_for("the program still runs")
            shown.press("\x03")
            assert shown.wait() == 128 + signal.SIGINT
        assert f"the program's output is in {log}".encode() in shown.seen
        assert log.read_text().startswith("from the program\n")


class TestOverview:
    def test_list(self, free_threaded_python: Interpreter, workload: Workload) -> None:
        pid = workload("independent_cpu", "--threads", "1")

        def listed() -> dict[str, Any]:
            processes = ftdiag("list", "--format", "json").json["processes"]
            (found,) = [process for process in processes if process["pid"] == pid]
            return found  # type: ignore[no-any-return]

        found = listed()
        assert found["python_version"] == free_threaded_python.version
        assert found["free_threaded"] is True
        assert found["gil_enabled"] is False
        assert found["attachable"] is True
        assert found["threads"] == 2
        # The machine may not let it run while we look.
        eventually(lambda: listed()["cpu_ratio"] > 0)
        assert f"{pid}" in ftdiag("list").out

    def test_doctor(self, free_threaded_python: Interpreter, workload: Workload) -> None:
        pid = workload("idle_pool")

        ran = ftdiag("doctor", pid, "--format", "json")

        assert ran.status == 0
        assert ran.json["attach_works"] is True
        assert ran.json["target"]["python_version"] == free_threaded_python.version
        assert ran.json["target"]["gil_enabled"] is False
        assert f"Attaching to process {pid} will work" in ftdiag("doctor", pid).out

    def test_doctor_tells_of_a_gil_that_was_turned_on(self, workload_process: Callable[..., object]) -> None:
        running = workload_process("idle_pool", environ={"PYTHON_GIL": "1"})

        ran = ftdiag("doctor", running.pid)  # type: ignore[attr-defined]

        assert ran.status == 0
        assert "the GIL is on" in ran.out

    def test_demo_live_without_a_terminal(self, one_python: str, scratch: dict[str, str | None]) -> None:
        ran = ftdiag("demo", "--live", env={**scratch, "FTDIAG_PYTHONS": one_python})

        assert ran.status == 0, ran.err
        assert "order-worker" in ran.out
        eventually(
            lambda: (
                not [
                    name
                    for name in os.listdir("/proc")
                    if name.isdigit() and _parent_is_gone_demo(int(name), scratch["TMPDIR"] or "")
                ]
            )
        )


def _parent_is_gone_demo(pid: int, directory: str) -> bool:
    """Whether this is the demo's program, still running."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        variables = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return b"hot_lock.py" in command and directory.encode() in variables


def test_two_at_once_do_not_disturb_each_other(one_python: str, scratch: dict[str, str | None]) -> None:
    with process(one_python, "-c", IDLE) as target:
        attach = ("attach", target.pid, "--duration", "1", "--format", "json")
        with started(*attach, env=scratch) as one, started(*attach, env=scratch) as other:
            reports = [finished(command).json for command in (one, other)]
    assert [report["target"]["pid"] for report in reports] == [target.pid] * 2
