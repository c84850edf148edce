"""One process never stops the others: list, doctor and completion where there are hostile processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from command_line import FTDIAG, environment, ftdiag
from fake_process import Sink
from ftdiag.commands.main import COMPLETION_VARIABLE
from ftdiag.errors import FtdiagError
from ftdiag.model import EndReason
from ftdiag.recording.reader import Recording
from ftdiag.sampling.clock import TOO_COSTLY_REFRESH, TOO_COSTLY_TICK
from ftdiag.sampling.observers.interpreter import TOO_MANY_STATES
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.runtime import find_runtime
from reading import PATIENCE_S, eventually, is_root
from tools.provision.verification import Interpreter

PROGRAM = Path(__file__).parents[1] / "programs" / "hostile.py"
FLEET = 12
KINDS: Mapping[str, int] = {
    "names": 0,
    "cookies": 16,
    "sections": 0,
    "maps": 20_000,
    "threads": 50_000,
    "hanging": 0,
}


@contextmanager
def hostile(python: Interpreter, kind: str, directory: Path, number: int = 0) -> Iterator[int | None]:
    """Runs one, yields its pid; `None` where the kernel does not permit what it wants to do."""
    directory.mkdir()
    command = [str(python.path), str(PROGRAM), kind, str(directory), str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline().split()
        if not said:
            said_why = process.stderr.read()
            assert "not permitted" in said_why, said_why
            assert not is_root()
        yield int(said[1]) if said else None
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def machine(free_threaded_python: Interpreter, tmp_path: Path) -> Iterator[dict[str, list[int]]]:
    """Ordinary and hostile processes: kind -> pids."""
    with ExitStack() as running:
        found: dict[str, list[int]] = {}
        pid = running.enter_context(hostile(free_threaded_python, "fleet", tmp_path / "fleet", FLEET))
        assert pid is not None
        found["fleet"] = [pid, *map(int, (tmp_path / "fleet" / "fleet").read_text().split())]
        for kind, number in KINDS.items():
            pid = running.enter_context(hostile(free_threaded_python, kind, tmp_path / kind, number))
            found[kind] = [] if pid is None else [pid]
        for seed in range(4):
            pid = running.enter_context(hostile(free_threaded_python, "offsets", tmp_path / f"o{seed}", seed))
            assert pid is not None
            found.setdefault("offsets", []).append(pid)
        yield found


def test_every_process_is_a_row(machine: dict[str, list[int]], free_threaded_python: Interpreter) -> None:
    # GIVEN hostile processes among ordinary ones WHEN processes are listed
    ran = ftdiag("list", "--format", "json")

    # THEN it works, and the ordinary ones are as always
    assert ran.status == 0, ran.err
    rows = {row["pid"]: row for row in ran.json["processes"]}
    for pid in machine["fleet"]:
        assert rows[pid]["attachable"] is True, rows[pid]
        assert rows[pid]["python_version"] == free_threaded_python.version
    # AND each hostile one is a row, with the reason where it cannot be attached to
    for pids in machine.values():
        for pid in pids:
            assert rows[pid]["attachable"] or rows[pid]["reason"], rows[pid]
            assert "a mistake in ftdiag" not in (rows[pid]["reason"] or ""), rows[pid]
    for kind in ("names", "cookies", "sections"):
        assert rows[machine[kind][0]]["attachable"] is True, (kind, rows[machine[kind][0]])
    for pid in machine["hanging"]:
        assert "took longer" in rows[pid]["reason"]


@pytest.mark.parametrize("compiled", [True, False], ids=["in C", "in Python"])
def test_damaged_offsets(free_threaded_python: Interpreter, tmp_path: Path, compiled: bool) -> None:
    # GIVEN a process that damages what it publishes of its memory, each time otherwise
    command = [str(free_threaded_python.path), str(PROGRAM), "seeds", str(tmp_path)]
    found = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pid = int(process.stdout.readline().split()[1])
        for seed in range(150):
            process.stdin.write(f"{seed}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

            # WHEN all is read of it THEN that works, or is refused in words
            try:
                read_all(pid, compiled)
                found.add("read")
            except FtdiagError as error:
                found.add(type(error).__name__)
        process.kill()
    # AND it was damaged in more than one way
    assert {"read", "UnsupportedPython"} <= found


def read_all(pid: int, compiled: bool) -> None:
    """What a sampler reads of an interpreter, within a budget of CPU time."""
    memory = RemoteMemory(pid, Budget(pid, seconds=10.0, clock=time.thread_time))
    reader = InterpreterReader(memory, find_runtime(pid, memory), Sink(), compiled=compiled)
    threads = reader.threads()
    for _ in range(2):
        reader.walk(threads)
    for question in (reader.thread_names, reader.gil_culprits, reader.gil_enabled, reader.gil_holder):
        question()


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_target_that_does_not_answer(free_threaded_python: Interpreter, tmp_path: Path, when: str) -> None:
    # GIVEN a process whose memory cannot be read to an end, from the beginning or from some time on
    kind = "hanging" if when == "at once" else "silent"
    path = tmp_path / "a.ftdiag"
    with hostile(free_threaded_python, kind, tmp_path / "h", 8) as pid:
        if pid is None:
            return
        # WHEN it is recorded
        command = [*FTDIAG, "record", str(pid), "-o", str(path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
        if when == "later":
            eventually(lambda: path.exists() and recorded(path) >= 2)
            (tmp_path / "h" / "go").touch()
        _, said = process.communicate(timeout=PATIENCE_S)
        lives = Path(f"/proc/{pid}").exists()
    # THEN that is said, soon, and the command ends in order
    assert "does not answer: a read of its memory does not come back" in said
    assert ("does not answer for now" in said) is (when == "later")
    assert process.returncode == 3
    assert lives, "nothing was done to the program"
    # AND what was recorded until then is there, with its end
    if when == "later":
        with Recording.open(path) as recording:
            assert len(recording) >= 2
            assert recording.end is not None
            assert recording.end.reason is EndReason.FAILED
            assert "does not answer" in recording.end.detail
    else:
        assert not path.exists()


def recorded(path: Path) -> int:
    """Windows of a recording that grows."""
    try:
        with Recording.open(path) as recording:
            return len(recording)
    except FtdiagError:
        return 0


def test_a_list_of_threads_without_an_end(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN an interpreter with hundreds of thousands of thread states
    with hostile(free_threaded_python, "threads", tmp_path / "h", 400_000) as pid:
        assert pid is not None
        # WHEN it is looked at
        ran = ftdiag("attach", pid, "--format", "json", "--duration", "4")
    # THEN the look ends in time, what was left out is said, and the sampler did not take a core for itself
    assert ran.status == 0, ran.err
    gaps = {gap["why"] for gap in ran.json["quality"]["gaps"]}
    assert gaps & {TOO_COSTLY_TICK, TOO_COSTLY_REFRESH, TOO_MANY_STATES}, gaps
    assert ran.json["quality"]["sampler_cpu_ratio"] < 0.8


def test_a_command_that_asks_itself_says_that_nothing_comes_back(
    free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a process whose memory cannot be read to an end
    with hostile(free_threaded_python, "hanging", tmp_path / "h") as pid:
        if pid is None:
            return
        # WHEN what is known of its interpreter is to be checked on it THEN the command says so, and ends
        ran = ftdiag("doctor", pid, "--self-check")
    assert ran.status == 3
    assert ran.message.endswith(f"process {pid} does not answer: a read of its memory does not come back")


def test_a_look_that_takes_all_memory_is_given_up(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a sampler that needs, after a while, more memory than it may have
    path = tmp_path / "a.ftdiag"
    script = (
        "import sys; from ftdiag.sampling import clock, process\n"
        "end_window = clock.Clock._end_window\n"
        "def greedy(self, threads, now):\n"
        "    end_window(self, threads, now)\n"
        "    if self._windows.count > 1: bytearray(process.MEMORY_BYTES)\n"
        "clock.Clock._end_window = greedy\n"
        "sys.exit(process.main())\n"
    )
    with hostile(free_threaded_python, "fleet", tmp_path / "h", 0) as pid:
        assert pid is not None
        # WHEN it looks at a process
        command = [sys.executable, "-P", "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"pid": pid, "path": str(path)}) + "\n")
            process.stdin.flush()
            said = [json.loads(line) for line in process.stdout]
    # THEN it says so, and what was recorded until then is there, with its end
    assert said[-1]["kind"] == "BudgetSpent", said
    with Recording.open(path) as recording:
        assert len(recording) > 1
        assert recording.end is not None
        assert recording.end.reason is EndReason.FAILED


def test_the_doctor_says_that_it_hangs(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a process whose memory cannot be read to an end
    with hostile(free_threaded_python, "hanging", tmp_path / "h") as pid:
        if pid is None:
            return
        # WHEN the doctor looks at it THEN it says so, and ends
        ran = ftdiag("doctor", pid)
        assert ran.status == 3
        assert "it took longer than" in ran.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(machine: dict[str, list[int]], shell: str) -> None:
    # GIVEN hostile processes WHEN a shell asks for process ids THEN the ordinary ones are offered
    word = "" if shell == "fish" else "2"  # its text there, its number in other shells
    ran = ftdiag(
        env={COMPLETION_VARIABLE: f"{shell}_complete", "COMP_WORDS": "ftdiag attach ", "COMP_CWORD": word}
    )
    assert ran.status == 0, ran.err
    for pid in machine["fleet"]:
        assert str(pid) in ran.out


def test_nothing_is_left_behind(free_threaded_python: Interpreter, tmp_path: Path) -> None:
    # GIVEN a list that is being made while a process hangs
    with hostile(free_threaded_python, "hanging", tmp_path / "h") as pid:
        if pid is None:
            return
        process = subprocess.Popen(
            [*FTDIAG, "list"], env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        # WHEN it has ended THEN its output has no other holder: nobody that it forked lives on
        assert process.stdout is not None
        with process.stdout as output:
            assert output.read()
        assert process.wait(PATIENCE_S) == 0
