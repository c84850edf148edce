"""memray on request, on real processes: who is refused and why, and that it is gone on every way out.

The free-threaded interpreters of tests need not have memray. A stand-in for its commands asks a program that
behaves as one that memray is attached to (an open capture file, a timer's thread): what is tested is all of
ours around it. The interpreter that runs ftdiag has memray: TestRealMemray attaches that to its programs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from command_line import FTDIAG, ftdiag
from ftdiag import tracker
from ftdiag.errors import AttachError, PermissionRefused
from ftdiag.leftovers import remove_abandoned
from ftdiag.recording.reader import Recording
from ftdiag.sources.kernel import tasks
from ftdiag.sources.tools import memray
from ftdiag.tracker import Tracking, TrackingRequest
from reading import PATIENCE_S, eventually
from tools.provision.verification import Interpreter
from tools.workloads import running_workload

PROGRAMS = Path(__file__).parents[1] / "programs"
FAKE = PROGRAMS / "fake_memray"
CAPTURE = """
import sys, memray
written = memray.FileDestination(sys.argv[1], compress_on_exit=False)
with memray.Tracker(destination=written, trace_python_allocators=True):
    for _ in range(3000):
        bytearray(70_000)
"""


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    eventually(holds, every_s=0.05)


@dataclass(frozen=True)
class Tracked:
    """A program that the stand-in can attach to."""

    pid: int
    home: Path

    @property
    def attached(self) -> bool:
        """Whether it writes a capture."""
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with suppress(OSError):
                if "capture.bin" in os.readlink(f"/proc/{self.pid}/fd/{name}"):
                    return True
        return False

    @property
    def attaching(self) -> bool:
        """Whether memray's command is still at it."""
        wanted = {"memray", "attach", str(self.pid)}
        return any(wanted <= set(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))

    @property
    def threads(self) -> int:
        """Its threads."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def tell(self, what: str, words: str = "") -> None:
        """Have the stand-in `refuse` or `hang`."""
        (self.home / f"tracked.{what}").write_text(words)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What memray would have written."""
    path = tmp_path_factory.mktemp("capture") / "made.bin"
    subprocess.run([sys.executable, "-c", CAPTURE, str(path)], check=True, timeout=PATIENCE_S)
    return path


@pytest.fixture
def tracked(
    free_threaded_pythons: tuple[Interpreter, ...], tmp_path: Path, capture: Path
) -> Iterator[Tracked]:
    home = tmp_path / "home"
    home.mkdir()
    python = free_threaded_pythons[0].path
    environ = {"HOME": str(home), "PYTHONPATH": str(FAKE), "CAPTURE": str(capture)}
    with running_workload(python, str(PROGRAMS / "tracked.py"), environ=environ) as running:
        yield Tracked(running.pid, home)
        assert running.process.poll() is None, "the target did not survive"


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[dict[str, str | None]]:
    """A TMPDIR in which nothing may be left."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    yield {"TMPDIR": str(directory)}
    until(lambda: list(directory.iterdir()) == [])


class TestRefusals:
    def test_without_memray_it_is_said_where_to_install_it(
        self, free_threaded_python: Interpreter, scratch: dict[str, str | None]
    ) -> None:
        # GIVEN a program whose interpreter has no memray
        options = ("-S",)  # nor any other package
        with running_workload(
            free_threaded_python.path, "independent_cpu", "--threads", "1", options=options
        ) as it:
            # WHEN memray is to be attached
            ran = ftdiag("attach", it.pid, "--format", "text", "--memory", "--yes", env=scratch)

        # THEN it says which interpreter lacks it and the command that installs it, or that there is none
        assert ran.status == 3
        assert "Traceback" not in ran.err
        assert "memray is not installed where process" in ran.err
        if free_threaded_python.version.startswith("3.13"):
            assert "no release for free-threaded 3.13" in ran.err
        else:
            assert "-m pip install 'memray>=" in ran.err

    def test_nobody_to_ask(self, tracked: Tracked, scratch: dict[str, str | None]) -> None:
        # GIVEN no terminal and no --yes WHEN asked for THEN it is refused with the next command
        ran = ftdiag("attach", tracked.pid, "--format", "text", "--memory", env=scratch)
        assert ran.status == 2
        assert "--yes" in ran.err
        assert not tracked.attached

    @pytest.mark.parametrize("option", [["--yes"], ["--memory-duration", "5"]])
    def test_options_without_memory(self, option: list[str]) -> None:
        ran = ftdiag("attach", os.getpid(), "--format", "text", *option)
        assert ran.status == 2
        assert "is for --memory" in ran.err

    def test_a_process_that_is_debugged(self, tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
        # GIVEN a process with a tracer WHEN planned THEN that is said
        read = tasks.status_fields

        def fields(path: str, names: tuple[bytes, ...]) -> dict[bytes, bytes]:
            return {b"TracerPid": b"77"} if names == (b"TracerPid",) else read(path, names)

        monkeypatch.setattr(memray, "status_fields", fields)
        with pytest.raises(AttachError, match=r"being debugged \(by process 77\)"):
            memray.outline(tracked.pid)

    def test_no_method_is_left(self, tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
        # GIVEN no debugger, and a main thread that waits
        monkeypatch.setattr(shutil, "which", lambda name, path=None: None)

        # WHEN planned THEN it says why nothing works, where the main thread is, and what to install
        with pytest.raises(AttachError, match="there is no debugger") as caught:
            memray.outline(tracked.pid)
        assert "gdb" in (caught.value.hint or "")

    def test_another_users_process(self, tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(PermissionRefused, match="another user"):
            memray.outline(tracked.pid)

    def test_memray_tracks_it_already(self, tracked: Tracked, tmp_path: Path) -> None:
        # GIVEN a program that memray is attached to by somebody else
        with attached_by_hand(tracked, tmp_path / "capture.bin"), pytest.raises(AttachError, match="already"):
            # WHEN planned THEN that is left alone
            memray.outline(tracked.pid)


@contextmanager
def attached_by_hand(tracked: Tracked, path: Path) -> Iterator[None]:
    environ = {**os.environ, "PYTHONPATH": str(FAKE), "HOME": str(tracked.home)}
    command = [sys.executable, "-m", "memray"]
    attach = [*command, "attach", "--duration", "600", "-o", str(path), str(tracked.pid)]
    subprocess.run(attach, env=environ, check=True, timeout=PATIENCE_S)
    try:
        yield
    finally:
        subprocess.run([*command, "detach", str(tracked.pid)], env=environ, check=True, timeout=PATIENCE_S)


class TestPlan:
    def test_a_main_thread_that_waits_needs_a_debugger(self, tracked: Tracked) -> None:
        # GIVEN a program whose main thread waits for a connection
        # WHEN it is watched THEN it does not come to a safe point, and it is known where it is
        eventually(lambda: not memray.main_thread_runs(tracked.pid))  # it said "ready" just before
        assert "accept" in memray._where_main_thread_is(tracked.pid)

    def test_the_interpreter_of_a_virtual_environment(
        self, free_threaded_pythons: tuple[Interpreter, ...], tmp_path: Path
    ) -> None:
        # GIVEN a program that was started through a link, as virtual environments have it
        link = tmp_path / "venv" / "bin" / "python"
        link.parent.mkdir(parents=True)
        link.symlink_to(free_threaded_pythons[0].path)
        with running_workload(link, "independent_cpu", "--threads", "1") as running:
            # WHEN its interpreter is looked for THEN it is the link, not what is behind it
            assert memray.interpreter_path(running.pid) == str(link)


class TestWaysOut:
    def test_a_report_has_what_was_allocated(
        self, tracked: Tracked, scratch: dict[str, str | None], tmp_path: Path
    ) -> None:
        # GIVEN a program WHEN it is looked at, then tracked for a second
        output = tmp_path / "app.ftdiag"
        threads = tracked.threads
        ran = ftdiag(
            *("attach", tracked.pid, "--format", "json", "--duration", "1", "--record", output),
            *("--memory", "--yes", "--memory-duration", "1"),
            env=scratch,
        )

        # THEN the report has the allocations and says the price, and nothing of memray is in the program
        assert ran.status == 0, ran.err
        report = json.loads(ran.out)
        assert report["memory"]["memray"]["count"] >= 3000
        assert "every allocation takes one lock" in ran.err
        assert not tracked.attached
        until(lambda: tracked.threads == threads)
        # AND they are in the recording, with the time in which memray was there
        with Recording.open(output) as recording:
            assert recording.allocations is not None
            assert [each.what for each in recording.perturbations] == ["memray"]

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_whatever_ends_the_command_memray_is_detached(
        self, tracked: Tracked, scratch: dict[str, str | None], number: signal.Signals
    ) -> None:
        # GIVEN a command that has memray attached for ten minutes
        threads = tracked.threads
        process = subprocess.Popen(
            [
                *(*FTDIAG, "attach", str(tracked.pid), "--format", "json", "--duration", "1"),
                *("--memory", "--yes", "--memory-duration", "600"),
            ],
            env={**os.environ, **{name: str(value) for name, value in scratch.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: tracked.attached or process.poll() is not None)
            assert tracked.attached, process.communicate()[1]

            # WHEN it is ended
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.communicate()

        # THEN memray is detached at once, its thread is gone, and the program goes on
        until(lambda: not tracked.attached)
        until(lambda: tracked.threads == threads)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert json.loads(out)["metrics"]["threads"] >= 2
            assert "Traceback" not in err
        # AND nothing is left of it, also where it could not do that itself
        until(lambda: not list(Path(str(scratch["TMPDIR"])).glob("ftdiag-live-*")))

    def test_killing_the_tracker_leaves_it_to_the_timer(self, tracked: Tracked, tmp_path: Path) -> None:
        # GIVEN a tracker that has memray attached for three seconds
        request = TrackingRequest(memray.plan(memray.outline(tracked.pid)), 3)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ftdiag.tracker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert process.stdin is not None
        process.stdin.write(request.to_json() + "\n")
        process.stdin.flush()
        until(lambda: tracked.attached)

        # WHEN it is killed
        process.kill()
        process.communicate()

        # THEN memray's own timer ends it
        until(lambda: not tracked.attached)
        # AND the next command removes what it left
        (folder,) = tmp_path.glob("ftdiag-memray-*")
        assert remove_abandoned(tmp_path) == [folder]
        assert not folder.exists()

    def test_what_memray_refuses_is_said_with_what_to_do(
        self, tracked: Tracked, scratch: dict[str, str | None]
    ) -> None:
        # GIVEN a memray that cannot attach
        tracked.tell("refuse", "Timed out waiting for connection from pid 1")

        # WHEN it is to THEN the report of the look is there, and the reason
        ran = ftdiag(
            *("attach", tracked.pid, "--format", "json", "--duration", "1", "--memory", "--yes"),
            env=scratch,
        )
        assert ran.status == 3
        assert json.loads(ran.out)["memory"]["memray"] is None
        assert "memray could not be attached with" in ran.err
        assert "while the program is at work" in ran.err
        assert "Traceback" not in ran.err

    def test_a_stopped_program_is_left_to_the_timer(
        self, tracked: Tracked, scratch: dict[str, str | None]
    ) -> None:
        # GIVEN a command that has memray attached for some seconds, to a program that is stopped meanwhile
        command = ["attach", str(tracked.pid), "--format", "json", "--duration", "1"]
        process = subprocess.Popen(
            [*FTDIAG, *command, "--memory", "--yes", "--memory-duration", "6"],
            env={**os.environ, **{name: str(value) for name, value in scratch.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: (tracked.attached and not tracked.attaching) or process.poll() is not None)
            os.kill(tracked.pid, signal.SIGSTOP)
            _, err = process.communicate(timeout=PATIENCE_S)

            # THEN nobody is let at it, it is said what will detach memray and how to go on, and so it is
            assert "is stopped by a signal, with memray attached" in err
            assert f"kill -CONT {tracked.pid}" in err
            with pytest.raises(AttachError, match="is stopped"):
                memray.outline(tracked.pid)
        finally:
            os.kill(tracked.pid, signal.SIGCONT)
            process.kill()
            process.communicate()
        until(lambda: not tracked.attached)

    def test_a_program_in_which_nothing_moves(
        self, tracked: Tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a memray that waits for the program for ever
        tracked.tell("hang")
        monkeypatch.setattr(tracker, "ATTACH_TIMEOUT_S", 0.5)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

        # WHEN it is to be attached THEN that ends after a while, with what to do, and leaves nothing behind
        request = TrackingRequest(memray.plan(memray.outline(tracked.pid)), 3)
        with pytest.raises(AttachError, match="all of them wait") as caught:
            Tracking(request, lambda message: None, pausing).run()
        assert "while the program is at work" in (caught.value.hint or "")
        assert not list(tmp_path.glob("ftdiag-*"))

    def test_a_disk_that_fills_up(
        self, tracked: Tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a disk with little left WHEN attached for ten minutes
        monkeypatch.setattr(tracker, "LOW_DISK_BYTES", 1 << 62)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        said: list[Mapping[str, object]] = []
        Tracking(TrackingRequest(memray.plan(memray.outline(tracked.pid)), 600), said.append, pausing).run()

        # THEN it is detached at once, that is said, and what was written is read
        (detached,) = [message for message in said if message["event"] == "detached"]
        assert detached["early"]
        assert detached["why"] == "the disk was nearly full"
        assert said[-1]["event"] == "done"
        assert not tracked.attached


def pausing(wait_s: float) -> bool:
    """Nobody wants it to end."""
    time.sleep(wait_s)
    return True


# Does what it does until memray was attached and is gone again.
ALLOCATES = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # any process may attach, where Yama asks
print("ready", os.getpid(), flush=True)
was, ends = False, time.monotonic() + float(sys.argv[1])
while time.monotonic() < ends:
    for _ in range(50):
        [bytearray(70_000) for _ in range(20)]
    time.sleep(0.01)
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            pass
    tracked = any("ftdiag-memray-" in link for link in links)
    if was and not tracked:
        break
    was = tracked
"""
REACHABLE = sys.version_info >= (3, 14) or shutil.which("gdb") is not None


class TestRealMemray:
    """memray itself, in programs that the interpreter of these tests runs.

    Where there is neither sys.remote_exec nor a debugger, just that has to be said.
    """

    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        path = tmp_path / "allocates.py"
        path.write_text(ALLOCATES)
        return path

    def test_run_attaches_after_the_first_look(
        self, program: Path, tmp_path: Path, scratch: dict[str, str | None]
    ) -> None:
        # GIVEN a program WHEN it is started with --memory
        output = tmp_path / "app.ftdiag"
        ran = ftdiag(
            *("run", "--format", "json", "--duration", "1", "--memory", "--yes", "--memory-duration", "1"),
            *("--record", output, "--", sys.executable, program, "100" if REACHABLE else "20"),
            env=scratch,
        )

        # THEN the look is reported, with allocations joined to its lines; or it is said what is missing
        assert "Traceback" not in ran.err
        report = json.loads(ran.out)
        assert report["metrics"]["threads"] == 1
        if not REACHABLE:
            assert ran.status == 3
            assert "there is no debugger" in ran.err
            assert "apt install gdb" in ran.err
            return
        assert ran.status == 0, ran.err
        capture = report["memory"]["memray"]
        assert capture["count"] > 100
        assert capture["lines"][0]["file"].endswith("allocates.py")
        assert any(line["allocations"] for line in report["hot"])
        # AND its threads add up to all
        assert sum(each["count"] for each in capture["threads"]) == capture["count"]
        # AND the time in which memray was there is marked
        with Recording.open(output) as recording:
            assert [each.what for each in recording.perturbations] == ["memray"]

    def test_a_program_that_is_killed_while_it_is_attached(
        self, program: Path, scratch: dict[str, str | None]
    ) -> None:
        # GIVEN a program that memray is attached to for ten minutes
        with running_workload(Path(sys.executable), str(program), "100") as running:
            command = ["attach", str(running.pid), "--format", "json", "--duration", "1", "--memory", "--yes"]
            process = subprocess.Popen(
                [*FTDIAG, *command, "--memory-duration", "600"],
                env={**os.environ, **{name: str(value) for name, value in scratch.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                found = Tracked(running.pid, program.parent)
                until(lambda: found.attached or process.poll() is not None)
                folder = Path(str(scratch["TMPDIR"]))
                until(
                    lambda: any(map(is_large, folder.glob("*/*/capture.bin"))) or process.poll() is not None
                )

                # WHEN it is killed
                os.kill(running.pid, signal.SIGKILL)
                out, err = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
                process.communicate()

        # THEN the report has what was captured until then
        assert "Traceback" not in err
        if not REACHABLE:
            assert process.returncode == 3
            assert "there is no debugger" in err
            return
        assert process.returncode == 0, err
        assert "the program ended" in err
        capture = json.loads(out)["memory"]["memray"]
        assert capture["cut_short"], (capture, err)


def is_large(capture: Path) -> bool:
    """Whether allocations are in it, not its header alone."""
    return capture.stat().st_blocks * 512 > 50_000
