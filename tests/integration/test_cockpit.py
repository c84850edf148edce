"""The cockpit in a real terminal, started by a shell, on live programs: what a person sees and gets back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ftdiag
from reading import prefer
from real_terminal import RealTerminal, real_terminal
from tools.workloads import RunningWorkload

CTRL_Z = "\x1a"
ENTER = "\r"
ESCAPE = "\x1b"


@pytest.fixture
def terminal() -> Iterator[RealTerminal]:
    with real_terminal() as one:
        yield one


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A finished recording of a program whose threads queue for one lock."""
    return Path(shutil.copy(Path(ftdiag.__file__).parent / "data" / "demo.ftdiag", tmp_path))


def expect_restored(terminal: RealTerminal, settings: list[object]) -> None:
    """The shell has its terminal back as it was, and what was on the screen with it."""
    terminal.until(
        lambda: terminal.left_on == [] and terminal.line_settings == settings,
        f"the terminal as it was (on: {terminal.left_on})",
    )
    terminal.rests()
    assert terminal.left_on == []
    assert terminal.line_settings == settings
    assert b"Traceback" not in terminal.raw


def test_a_session_from_attach_to_quit(
    terminal: RealTerminal, workload_process: Callable[..., RunningWorkload]
) -> None:
    # GIVEN a program whose threads queue for one lock
    target = workload_process("hot_lock", "--threads", "6")
    prefer(target.pid)
    settings = terminal.line_settings
    terminal.start("attach", target.pid)

    # THEN the lock is found, once there is enough to say so
    terminal.shows(rf"LIVE .*pid {target.pid}")
    terminal.shows(r"^.(warning|critical) .* hot-lock .*PriceCache")
    assert "the alternate screen" in terminal.left_on
    # Where other programs keep the cores busy, that may come first.
    terminal.shows(r"\A (CRITICAL|WARNING) ")
    terminal.type("/hot-lock" + ENTER)
    terminal.shows(r"Findings 1 of|Findings 1 .*/hot-lock")
    terminal.shows(r"^▸(warning|critical) .* hot-lock")

    # WHEN going down: the finding's evidence, the lock it speaks of, and back
    terminal.type(ENTER)
    terminal.shows(r"Evidence .*Enter: the (lock|line)")
    terminal.type(ENTER)
    terminal.shows(r"hot_lock\.py")
    terminal.type(ESCAPE)
    terminal.shows(r"Evidence ")
    terminal.type("3")
    terminal.shows(r"Holders and waiters of")
    terminal.shows(r"Held by")
    terminal.type("4")
    terminal.shows(r"Source hot_lock\.py:\d+")
    # The program's own text, from its file.
    terminal.shows(r"def |with |for |while ")

    # WHEN time is held, and gone back in
    terminal.type(" ")
    terminal.shows(r"PAUSED")
    terminal.type(" ")
    terminal.shows(r"LIVE ")
    # Nothing lies before the first second.
    terminal.type_until("[", r"REWOUND +\d:\d\d-\d:\d\d of \d")
    terminal.type("0")
    terminal.shows(r"LIVE +last 60 s")
    terminal.type("q")

    # THEN the shell goes on as before, and so does the program
    terminal.ended_with(0)
    expect_restored(terminal, settings)
    assert target.process.poll() is None


def test_the_target_dies_while_the_cockpit_is_open(
    terminal: RealTerminal, workload_process: Callable[..., RunningWorkload]
) -> None:
    # GIVEN a program that is looked at
    target = workload_process("hot_lock", "--threads", "4")
    settings = terminal.line_settings
    terminal.start("attach", target.pid)
    terminal.shows(r"LIVE ")
    terminal.type("2")
    terminal.shows(r"MainThread")

    # WHEN it is killed
    target.process.kill()

    # THEN the first lines say so, and all that was seen stays
    terminal.shows(r"ENDED: target was killed")
    terminal.shows("MainThread")
    terminal.type("4")
    terminal.shows(r"hot_lock\.py:\d+")
    terminal.type("q")
    terminal.ended_with(0)
    expect_restored(terminal, settings)


def test_a_storm_of_sizes(terminal: RealTerminal, workload: Callable[..., int]) -> None:
    # GIVEN a live picture
    settings = terminal.line_settings
    terminal.start("attach", workload("hot_lock", "--threads", "4"))
    terminal.shows(r"LIVE ")

    # WHEN the window is dragged about
    for number in range(50):
        terminal.resize(20 + number * 67 % 181, 5 + number * 23 % 56)
        if number % 10 == 0:
            terminal.type("1234567"[number // 10])
    terminal.resize(20, 5)
    terminal.shows(r"terminal too small")
    terminal.resize(120, 40)

    # THEN it draws the last size
    terminal.type("1")
    terminal.shows(r"Overview")
    terminal.shows(r"LIVE ")
    terminal.type("q")
    terminal.ended_with(0)
    expect_restored(terminal, settings)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_by_a_signal_it_gives_the_terminal_back(
    terminal: RealTerminal, recording: Path, number: signal.Signals
) -> None:
    settings = terminal.line_settings
    terminal.start("open", recording)
    terminal.shows(r"whole recording")

    os.kill(terminal.foreground, number)

    terminal.ended_with(128 + number)
    expect_restored(terminal, settings)


def test_suspended_and_brought_back(terminal: RealTerminal, recording: Path) -> None:
    # GIVEN the cockpit
    settings = terminal.line_settings
    terminal.start("open", recording)
    terminal.shows(r"whole recording")
    ours = terminal.line_settings

    # WHEN it is suspended
    terminal.type(CTRL_Z)

    # THEN the shell has the terminal
    terminal.shows(r"Stopped|Suspended")
    expect_restored(terminal, settings)

    # WHEN it is brought back
    terminal.type("fg\n")

    # THEN it is drawn again and heeds keys
    terminal.shows(r"whole recording")
    terminal.until(lambda: terminal.line_settings == ours, "the settings of the cockpit")
    terminal.type("2")
    terminal.shows(r"2 Threads")
    terminal.type("q")
    terminal.rests()
    terminal.type('echo "after=$?"\n')
    terminal.shows(r"^after=0")
    expect_restored(terminal, settings)


def test_words_are_there_before_the_cockpit_and_notes_after_it(
    terminal: RealTerminal, recording: Path
) -> None:
    # GIVEN a recording of which a part cannot be read
    with closing(sqlite3.connect(recording)) as database:
        database.execute("UPDATE column_data SET data = x'00' WHERE window = (SELECT max(id) FROM window)")
        database.commit()
    settings = terminal.line_settings

    # WHEN it is opened THEN what is read is said at once, where the cockpit comes then
    terminal.start("open", recording)
    terminal.shows(r"1 Overview")
    drawn = terminal.raw.split(b"[?1049h")
    assert f"reading {recording}"[:40].encode() in drawn[1]
    assert b"1 Overview" not in drawn[1]

    # AND what was to be said meanwhile stands on the shell's screen afterwards
    terminal.type("q")
    terminal.ended_with(0)
    terminal.shows(r"warning: ")
    expect_restored(terminal, settings)


def test_without_a_cockpit_the_error_stands_on_the_shells_screen(terminal: RealTerminal) -> None:
    # GIVEN a process that is no Python
    settings = terminal.line_settings
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as running:
        # WHEN it is attached to
        terminal.start("attach", running.pid)
        # THEN the words of the start are gone, and the reason is there
        terminal.ended_with(3)
        assert running.stdin is not None
        running.stdin.close()
    assert b"looking at process" in terminal.raw
    assert "looking at process" not in terminal.text
    assert "is not a CPython process" in terminal.text
    expect_restored(terminal, settings)


def test_a_server_and_its_workers_on_one_screen(
    terminal: RealTerminal, program: Callable[..., RunningWorkload]
) -> None:
    # GIVEN a server with two workers
    server = program(
        """
        import os, threading, time
        for number in range(2):
            if not os.fork():
                threading.Thread(target=time.sleep, args=(1000,), name="waits", daemon=True).start()
                while True:
                    sum(range(1000)); time.sleep(0.001)
        print("ready", os.getpid(), flush=True)
        time.sleep(1000)
        """
    )
    workers = [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]
    settings = terminal.line_settings
    try:
        # WHEN they are attached to together THEN each is a row
        terminal.start("attach", server.pid, "--children")
        for pid in (server.pid, *workers):
            terminal.shows(rf"process {pid} ")
        terminal.shows(r"3 processes: ")

        # WHEN one is chosen THEN its cockpit is shown, and leaving that asks nothing and comes back
        terminal.type("jj" + ENTER)
        terminal.shows(rf"pid {max(workers)}|pid {min(workers)}")
        terminal.type("q")
        terminal.shows(r"Processes ")
    finally:
        # WHEN the workers are killed THEN it says so and goes on
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
    terminal.shows(r"1 process: ")
    terminal.type("q")
    expect_restored(terminal, settings)
