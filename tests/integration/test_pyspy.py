"""py-spy as the reader of stacks: on a Python that ftdiag does not read, and a py-spy that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from command_line import ftdiag
from ftdiag.commands.crosscheck import AGREEMENT_POINTS
from ftdiag.model import Snapshot, ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.sources.tools.pyspy import find_program
from gil_pythons import GilPython, gil_pythons, readable_by_us
from reading import PATIENCE_S, SamplerRun, eventually
from tools.workloads import running_workload

BUSY = """
import os, queue, threading, time
def compute():
    total = 0
    while True:
        for number in range(1000):
            total += number
def wait(jobs):
    jobs.get()
def nap():
    while True:
        time.sleep(0.01)
for number in range(2):
    threading.Thread(target=compute, name=f"worker {number}", daemon=True).start()
threading.Thread(target=wait, args=(queue.Queue(),), name="consumer", daemon=True).start()
threading.Thread(target=nap, name="napper", daemon=True).start()
print("ready", os.getpid(), flush=True)
time.sleep(1000)
"""
BEFORE_OURS = [python for python in gil_pythons() if (3, 8) <= python.version < (3, 13)]


def targets() -> list[GilPython]:
    """Pythons that only py-spy reads, our own and the oldest; where there is none, one that both read."""
    if not BEFORE_OURS:
        return list(gil_pythons())[:1]
    oldest = min(BEFORE_OURS, key=lambda python: python.version)
    return BEFORE_OURS[:1] if oldest is BEFORE_OURS[0] else [BEFORE_OURS[0], oldest]


def source_for(python: GilPython) -> str:
    """What has to be asked for so that py-spy reads it."""
    return "auto" if python.version < (3, 13) else "py-spy"


def states_of(snapshot: Snapshot, name: str) -> Counter[ThreadState]:
    """Time in states of the threads whose names begin so."""
    found: Counter[ThreadState] = Counter()
    for thread in snapshot.threads:
        if thread.info.name.startswith(name):
            found.update({state: int(spent) for state, spent in thread.states_ns.items()})
    return found


@pytest.mark.parametrize("python", targets(), ids=lambda python: python.name)
def test_stacks_of_an_older_python(python: GilPython, tmp_path: Path) -> None:
    # GIVEN a Python whose memory ftdiag does not read
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    missing = ["all"]
    with running_workload(python.path, str(program)) as running:
        # WHEN it is recorded as any other process: for longer where py-spy does not get to see much
        for seconds in (4, 8, 16, 32):
            path = tmp_path / f"r{seconds}"
            source = source_for(python)
            ran = ftdiag("record", running.pid, "-o", path, "--duration", seconds, "--source", source)
            assert psutil.Process(running.pid).status() != psutil.STATUS_STOPPED
            assert ran.status == 0, ran.err
            with Recording.open(path) as recording:
                snapshot = Session(recording).snapshot()
            # THEN what is known is so, and what py-spy does not tell is said to be so
            assert snapshot.settings.source == "py-spy"
            assert snapshot.target.python_version == python.name
            assert snapshot.target.gil_enabled is True
            assert all(thread.info.tid != 0 for thread in snapshot.threads)
            assert {"locks", "lock_holders", "classified_cpu_ratio"} <= snapshot.quality.not_measured.keys()
            lock_rules = {"hot-lock", "object-lock", "deadlock", "stuck-thread", "queue-contention"}
            assert not lock_rules & {finding.rule_id for finding in snapshot.findings}
            missing = list(missing_in(snapshot, program))
            if not missing:
                break
    # AND stacks, names and ids of py-spy are joined with what the kernel says
    assert missing == []


def missing_in(snapshot: Snapshot, program: Path) -> Iterator[str]:
    """What py-spy and the kernel together should have shown of the busy program."""
    names = {thread.info.name for thread in snapshot.threads if thread.info.python}
    if not {"MainThread", "worker 0", "worker 1", "consumer", "napper"} <= names:
        yield f"threads: only {names}"
    hottest = max(snapshot.hot, key=lambda line: line.states_ns.get(ThreadState.ON_CPU, 0.0), default=None)
    if hottest is None or (hottest.frame.function, Path(hottest.frame.filename)) != ("compute", program):
        yield f"the hottest line, not {hottest}"
    workers, consumer = states_of(snapshot, "worker"), states_of(snapshot, "consumer")
    if not workers[ThreadState.ON_CPU] or not workers[ThreadState.GIL]:
        yield f"work and waits for the GIL in {workers}"
    if consumer[ThreadState.IDLE] <= 0.5 * consumer.total():
        yield f"idleness in {consumer}"
    main = states_of(snapshot, "MainThread")
    if main[ThreadState.SLEEP] <= 0.9 * main.total():
        yield f"sleep in {main}"
    if not any(wait.detail == "Queue.get" for thread in snapshot.threads for wait, _ in thread.waits):
        yield "the wait for a queue"
    if not sum(thread.cpu_ns for thread in snapshot.threads) > 0:
        yield "CPU time"


def test_the_commands_name_the_source(tmp_path: Path) -> None:
    # GIVEN a Python that only py-spy reads, or that we say it shall
    python = targets()[0]
    program = tmp_path / "busy.py"
    program.write_text(BUSY)
    with running_workload(python.path, str(program)) as running:
        report = ftdiag(
            "attach", running.pid, "--duration", "2", "--format", "text", "--source", source_for(python)
        )
        doctor = ftdiag("doctor", running.pid, "--format", "json").json
        listed = {one["pid"]: one for one in ftdiag("list", "--format", "json").json["processes"]}
        blocking = ftdiag(
            "attach", running.pid, "--duration", "2", "--format", "text", "--source", "py-spy", "--blocking"
        )
        refused = ftdiag("attach", running.pid, "--format", "text", "--source", "native")
    # THEN the report, doctor and the list say so, and blocking is told with its price
    assert report.status == 0
    assert "its stacks were read through py-spy" in report.out
    assert "py-spy reads the stacks, and does not say which lock" in " ".join(report.out.split())
    assert doctor["attach_works"] is True
    if python.version < (3, 13):
        assert doctor["target"]["source"] == "py-spy"
        assert listed[running.pid]["source"] == "py-spy"
        assert refused.status == 3
        assert "ftdiag reads CPython 3.13 and later" in refused.message
    assert blocking.status == 0
    assert "py-spy stops the process for each of its samples" in blocking.err
    assert "stops the process" not in report.err


# --- py-spy that is not as it should be ----------------------------------------------------------------

WRAPPED = """
import sys
from pathlib import Path
from ftdiag.sources.tools import pyspy
def find_program(search=None):
    path = Path({program!r})
    if not path.exists():
        raise pyspy.PySpyFailed("py-spy is not installed", "pip install py-spy")
    return path
pyspy.find_program = find_program
pyspy.PROBE_TIMEOUT_S = {probe_s}
pyspy.probe.__defaults__ = (None, {probe_s})
pyspy.LATEST_S = {latest_s}
from ftdiag.sampling.process import main
sys.exit(main())
"""
GOOD_DUMP = 'if [ "$1" = dump ]; then echo "Python v3.11.2 (/usr/bin/python3)"; exit 0; fi\n'
OUTPUT = 'while [ "$1" != --output ]; do shift; done\n'
FAKES = {
    "missing": (None, "py-spy is not installed"),
    "refused": (
        'echo "Error: Permission denied (os error 13)" >&2; exit 1',
        "Permission denied (os error 13)",
    ),
    "hangs at once": ("exec sleep 60", "py-spy did not answer"),
    "speaks otherwise": ("echo hello", "py-spy wrote what ftdiag does not know"),
    "cannot be run": ("", "py-spy cannot be started"),
    "hangs later": (GOOD_DUMP + "exec sleep 60", "py-spy hangs"),
    "fails later": (GOOD_DUMP + 'echo "Error: no such thing" >&2; exit 1', "no such thing"),
    "writes something else": (GOOD_DUMP + OUTPUT + 'echo "not JSON" > "$2"', "py-spy wrote what ftdiag"),
    "writes nothing": (GOOD_DUMP + "exit 0", "py-spy wrote what ftdiag does not know"),
    "writes half": (
        GOOD_DUMP + OUTPUT + """printf '[{"ph":"B","pid":1,' > "$2" """,
        "py-spy wrote what ftdiag",
    ),
}


@contextmanager
def sampler_with(program: Path, name: str, **options: object) -> Iterator[SamplerRun]:
    """A sampler's process that finds this program in place of py-spy.

    One that hangs is given up soon; any other has all the time that it needs on a busy machine.
    """

    limits = {
        "probe_s": 1.0 if name == "hangs at once" else PATIENCE_S,
        "latest_s": 0.5 if name == "hangs later" else PATIENCE_S,
    }

    class Wrapped(SamplerRun):
        command = (sys.executable, "-c", WRAPPED.format(program=str(program), **limits))

    with Wrapped(**options) as run:
        yield run


@pytest.mark.parametrize("name", FAKES)
def test_without_py_spy_the_kernels_side_goes_on(name: str, tmp_path: Path) -> None:
    # GIVEN a py-spy that is missing, refused, hangs, or writes what nobody knows
    text, words = FAKES[name]
    program = tmp_path / "py-spy"
    if text is not None:
        program.write_text(f"#!/bin/sh\n{text}\n" if text else "")
        program.chmod(0o700)
    busy = tmp_path / "busy.py"
    busy.write_text(BUSY)
    with running_workload(targets()[0].path, str(busy)) as running:
        # WHEN the process is sampled until that was noticed
        options = {"duration_s": 600, "source": "py-spy", "rate_hz": 50}
        with sampler_with(program, name, pid=running.pid, path=str(tmp_path / "r"), **options) as run:
            notes = [line for line in run.said.events if line["event"] == "note"]
            if not notes:
                assert run.process.stdout is not None
                while '"note"' not in (line := run.process.stdout.readline()):
                    assert line, "the sampler ended without a word"
                notes = [{"text": line}]
            run.written()
            ours = psutil.Process(run.process.pid).children(recursive=True)
            said = run.stop()
        # THEN one message says so, and no process of ours is left
        assert words in notes[0]["text"]
        assert said.status == 0, said.stderr
        assert sum(event["event"] == "note" for event in said.events) <= 1
        eventually(lambda: not any(map(alive, ours)))
    # AND the kernel's side is there, with the reason for what is not
    with Recording.open(tmp_path / "r") as recording:
        snapshot = Session(recording).snapshot()
        assert recording.end is not None
    assert snapshot.metrics.on_cpu_cores > 0
    assert snapshot.metrics.threads == 5
    assert snapshot.hot == ()
    told = [*snapshot.quality.not_measured.values(), *(gap.why for gap in snapshot.quality.gaps)]
    assert any(words in reason for reason in told), told


def alive(process: psutil.Process) -> bool:
    """Whether it runs; not so one that has ended and waits for its parent."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_py_spy_ends_with_the_sampler(tmp_path: Path) -> None:
    # GIVEN a sampler with py-spy at work
    busy = tmp_path / "busy.py"
    busy.write_text(BUSY)

    def children(pid: int) -> list[psutil.Process]:
        return [child for child in psutil.Process(pid).children() if child.name() == "py-spy"]

    with running_workload(targets()[0].path, str(busy)) as running:
        for how in (signal.SIGKILL, signal.SIGTERM):
            path = tmp_path / f"r{int(how)}"
            with SamplerRun(pid=running.pid, path=str(path), duration_s=600, source="py-spy") as run:
                assert run.said.events[0]["event"] == "started"
                spies = eventually(lambda run=run: children(run.process.pid))
                # WHEN the sampler is killed, or ended in order
                run.process.send_signal(how)
                run.process.wait(PATIENCE_S)
            # THEN py-spy is gone as well
            eventually(lambda spies=spies: not any(map(alive, spies)))
            # AND the target goes on, and what was recorded can be read
            os.kill(running.pid, 0)
            with Recording.open(path) as recording:
                assert (recording.end is None) is (how is signal.SIGKILL)


def test_it_is_never_asked_for_locals_and_does_not_stop_the_target(tmp_path: Path) -> None:
    # GIVEN a py-spy that notes how it is called
    program, log = tmp_path / "py-spy", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {find_program()} "$@"\n')
    program.chmod(0o700)
    busy = tmp_path / "busy.py"
    busy.write_text(BUSY)
    options = {"duration_s": 600, "source": "py-spy"}
    with (
        running_workload(targets()[0].path, str(busy)) as running,
        sampler_with(program, "good", pid=running.pid, path=str(tmp_path / "r"), **options) as run,
    ):
        eventually(lambda: len(log.read_text().splitlines()) >= 4)
        assert run.stop().status == 0
    calls = log.read_text().splitlines()
    assert all("--nonblocking" in call.split() for call in calls)
    assert not any(word.startswith(("-l", "--locals")) for call in calls for word in call.split())


# --- both readers ----------------------------------------------------------------------------------------


def test_the_readers_agree(python_with_gil: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    # GIVEN a process that ftdiag reads: of a build with the GIL, which py-spy reads, too, or of another
    python, options = python_with_gil
    busy = tmp_path / "busy.py"
    busy.write_text(BUSY)
    both = python in {one.path for one in readable_by_us()}
    with running_workload(python, str(busy), options=options) as running:
        # WHEN both look at it (again, if the machine was too busy for a fair comparison)
        compare = ("doctor", "--cross-check", running.pid, "--format", "json", "--duration")
        ran = ftdiag(*compare, 5)
        for seconds in (5, 10, 10, 20, 30):
            if ran.status == 1:
                ran = ftdiag(*compare, seconds)
    if not both and ran.status == 3:
        # THEN it is said that py-spy cannot: what it can is asked of it, and may change
        assert "there is nothing to compare" in ran.message
        return
    # THEN they see the same
    assert ran.status == 0, ran.out + ran.err
    assert ran.json["agree"] is True
    assert abs(ran.json["largest_difference_points"]) <= AGREEMENT_POINTS
    assert max(line["py_spy_share"] for line in ran.json["lines"]) > 0.1


def test_cross_check_needs_a_process() -> None:
    assert ftdiag("doctor", "--cross-check").status == 2
    assert ftdiag("doctor", "--duration", "3").status == 2


def test_the_right_python_is_tried() -> None:
    # GIVEN this machine, THEN there is an interpreter with the GIL: the suite's own, or the system's
    assert gil_pythons(), subprocess.run(["python3", "--version"], check=False)
