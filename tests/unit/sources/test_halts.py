"""Who keeps a process from running: signals, tracers, cgroups; and through which task it is read."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdiag.confined import Owner
from ftdiag.sources.kernel import halts, tasks
from ftdiag.sources.kernel.halts import CHECK_EVERY_NS, Halt, HaltKind, HaltWatch, frozen_cgroup, halt_of
from ftdiag.sources.kernel.tasks import has_ended, living_task, proc_folder, state_letter
from ftdiag.sources.tools import memray

PATIENCE_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that sleeps; it is gone afterwards, whatever state it is in."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_process_that_just_sleeps_is_not_halted(sleeper: int) -> None:
    until(lambda: state_letter(sleeper, sleeper) == "S")
    assert halt_of(sleeper) is None
    assert HaltWatch(sleeper).look([sleeper], (), 0) == {}


def test_a_stop_signal_is_told_with_what_ends_it(sleeper: int) -> None:
    # GIVEN a stopped process
    os.kill(sleeper, signal.SIGSTOP)
    until(lambda: state_letter(sleeper, sleeper) == "T")
    # WHEN asked, THEN it says so, and how it goes on
    halt = halt_of(sleeper)
    assert halt == Halt(HaltKind.STOPPED, f"kill -CONT {sleeper}")
    assert halt.detail == f"stopped by a signal (T; kill -CONT {sleeper})"


def test_halts_are_looked_for_when_threads_stopped_running_and_once_a_second(
    sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a watch that has seen a process asleep
    looked: list[int] = []
    letter = {"now": "S"}

    def state(pid: int, tid: int) -> str:
        looked.append(tid)
        return letter["now"]

    monkeypatch.setattr(halts, "state_letter", state)
    watch = HaltWatch(sleeper)
    assert watch.look([1, 2], (), CHECK_EVERY_NS) == {}
    looked.clear()
    # WHEN nothing ran since, THEN nothing is read
    assert watch.look([1, 2], (), CHECK_EVERY_NS + 1) == {}
    assert looked == []
    # WHEN one ran and then none did, THEN one look tells that both are stopped, and it is told once
    letter["now"] = "T"
    assert watch.look([1, 2], (1,), CHECK_EVERY_NS + 2) == {}
    assert set(watch.look([1, 2], (), CHECK_EVERY_NS + 3)) == {1, 2}
    assert watch.look([1, 2], (), CHECK_EVERY_NS + 4) == {}
    assert set(watch.halted) == {1, 2}
    # WHEN one runs again, THEN that one is not halted any more
    letter["now"] = "S"
    assert watch.look([1, 2], (1,), CHECK_EVERY_NS + 5) == {}
    assert set(watch.halted) == {2}


def test_a_tracer_of_single_threads_is_seen_within_a_second(
    sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN three threads of which the last is stopped by a tracer while the first runs
    monkeypatch.setattr(halts, "state_letter", lambda pid, tid: "t" if tid == 3 else "S")
    monkeypatch.setattr(halts, "tracer_of", lambda pid, tid: "4711 (gdb)")
    watch = HaltWatch(sleeper)
    # WHEN a second has passed, THEN it is found, with who traces it
    found = watch.look([1, 2, 3], (1,), CHECK_EVERY_NS)
    assert {tid: halt.words for tid, halt in found.items()} == {3: "traced by 4711 (gdb)"}


def test_only_threads_that_ran_are_looked_at_once_a_second(
    sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN threads that were all looked at, the last of which a tracer stops
    looked: list[int] = []

    def state(pid: int, tid: int) -> str:
        looked.append(tid)
        return "t" if tid == 3 and stopped else "S"

    stopped = False
    monkeypatch.setattr(halts, "state_letter", state)
    monkeypatch.setattr(halts, "tracer_of", lambda pid, tid: "4711 (gdb)")
    watch = HaltWatch(sleeper)
    watch.look([1, 2, 3], (1,), CHECK_EVERY_NS)
    assert looked == [1, 2, 3]
    # WHEN one of the others runs THEN it is the only one that is looked at a second later
    looked.clear()
    assert watch.all_run((1,), CHECK_EVERY_NS + 5)
    assert not watch.all_run((1,), 2 * CHECK_EVERY_NS)
    watch.look([1, 2, 3], (1,), 2 * CHECK_EVERY_NS)
    assert looked == [1]
    # WHEN the last one runs, to stop, THEN it is found
    stopped = True
    assert watch.all_run((1, 3), 2 * CHECK_EVERY_NS + 5)
    assert set(watch.look([1, 2, 3], (1,), 3 * CHECK_EVERY_NS)) == {3}
    # AND for as long as one is halted all are looked at
    looked.clear()
    watch.look([1, 2, 3], (1,), 4 * CHECK_EVERY_NS)
    assert looked == [1, 2, 3]
    # WHEN it goes on THEN those of which the kernel just said that they run need not be asked
    stopped = False
    watch.look([1, 2, 3], (3,), 5 * CHECK_EVERY_NS)
    looked.clear()
    watch.look([1, 2, 3], (1, 2, 3), 6 * CHECK_EVERY_NS, running={1, 2})
    assert looked == [3]


def test_a_traced_process_names_its_tracer() -> None:
    # GIVEN a child that lets us trace it and stops
    code = (
        "import ctypes, os, signal; ctypes.CDLL(None).ptrace(0, 0, 0, 0);"
        " os.kill(os.getpid(), signal.SIGSTOP)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: state_letter(process.pid, process.pid) == "t")
        # WHEN asked, THEN we are its tracer
        halt = halt_of(process.pid)
        assert halt is not None
        assert halt.kind is HaltKind.TRACED
        assert halt.by is not None
        assert halt.by.startswith(f"{os.getpid()} (")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("controllers", "files", "remedy"),
    [
        ("0::/app/web", {"app/web/cgroup.events": "populated 1\nfrozen 1\n", "app/cgroup.freeze": "1\n"}, 0),
        ("7:freezer:/app/web", {"freezer/app/web/freezer.state": "FROZEN\n"}, "THAWED"),
    ],
)
def test_a_frozen_cgroup_is_told_with_the_file_that_thaws_it(
    controllers: str,
    files: dict[str, str],
    remedy: object,
    tmp_path: Path,
    sleeper: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # GIVEN a process whose cgroup is frozen, by itself or from above
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(halts, "CGROUP_ROOT", str(tmp_path))
    folders = [
        (tmp_path / ("" if v2 else "freezer") / path.lstrip("/"), v2)
        for _, names, path in [controllers.split(":")]
        for v2 in [names == ""]
    ]
    monkeypatch.setattr(halts, "_freezers", lambda pid: folders)
    # WHEN asked, THEN the cgroup and the command are named
    halt = frozen_cgroup(sleeper)
    assert halt is not None
    assert halt.kind is HaltKind.FROZEN
    assert halt.remedy.startswith(f"echo {remedy} | sudo tee {tmp_path}")
    assert halt.words.startswith("frozen by its cgroup /app")


def test_a_command_for_a_shell_has_no_more_in_it_than_the_name_of_a_cgroup(
    tmp_path: Path, sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a frozen cgroup whose user has called it like a command
    folder = tmp_path / "user $(touch pwned); reboot 'x"
    folder.mkdir()
    (folder / "cgroup.events").write_text("frozen 1\n")
    (folder / "cgroup.freeze").write_text("1\n")
    monkeypatch.setattr(halts, "CGROUP_ROOT", str(tmp_path))
    monkeypatch.setattr(halts, "_freezers", lambda pid: [(folder, True)])
    # WHEN it is told what thaws it THEN the whole name is one word of that
    halt = frozen_cgroup(sleeper)
    assert halt is not None
    assert shlex.split(halt.remedy)[-1] == str(folder / "cgroup.freeze")


@pytest.mark.parametrize(("us", "owner", "prefix"), [(0, 1000, "sudo -u '#1000' "), (0, 0, ""), (7, 7, "")])
def test_a_users_interpreter_is_run_by_hand_as_that_user(
    us: int, owner: int, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN an interpreter of a user's, called like a command, and who is to run it
    monkeypatch.setattr(os, "geteuid", lambda: us)
    whose = Owner(1, owner, owner, 1, (1, 1))
    # WHEN a command is said THEN it is that user's, and the name one word
    assert memray.by_hand(whose, "/srv/$(id)/python", "-m", "pip") == f"{prefix}'/srv/$(id)/python' -m pip"


def test_a_process_is_read_by_its_own_id_while_its_main_thread_lives(sleeper: int) -> None:
    assert living_task(sleeper) == sleeper
    assert proc_folder(sleeper) == f"/proc/{sleeper}"
    assert not has_ended(sleeper, sleeper)


def test_after_the_main_thread_a_process_is_read_through_another() -> None:
    # GIVEN a process whose main thread has left by pthread_exit while another goes on
    code = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start();"
        " print('up', flush=True); ctypes.CDLL(None).pthread_exit(0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        until(lambda: has_ended(process.pid, process.pid))
        # WHEN asked, THEN another task shows its memory, which /proc/PID does not any more
        task = living_task(process.pid)
        assert task is not None
        assert task != process.pid
        assert Path(f"/proc/{process.pid}/maps").read_bytes() == b""
        assert b"python" in Path(f"{proc_folder(process.pid)}/maps").read_bytes()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_of_a_zombie_nothing_is_left() -> None:
    process = subprocess.Popen(["true"])
    until(lambda: has_ended(process.pid, process.pid))
    assert living_task(process.pid) is None
    process.wait()
    assert tasks.state_letter(process.pid, process.pid) is None
