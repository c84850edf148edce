"""Every sample workload starts, says that it is ready, works, and ends when it is asked to."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reading import PATIENCE_S
from tools.provision.verification import Interpreter
from tools.workloads import WORKLOADS, RunningWorkload, WorkloadFailure

NAMES = sorted(path.stem for path in WORKLOADS.glob("*.py") if path.stem not in {"throughput", "compiling"})

Start = Callable[..., RunningWorkload]


def os_threads(pid: int) -> int:
    """How many threads the kernel knows of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_every_workload_is_in_the_table() -> None:
    # GIVEN the programs of the folder and the table that describes them
    table = (WORKLOADS / "README.md").read_text()

    # WHEN the names in the table's first column are read
    described = sorted(re.findall(r"^\| `(\w+)\.py` \|", table, re.MULTILINE))

    # THEN they are the same
    assert described == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_workload_ends_cleanly_on_sigterm(name: str, workload_process: Start) -> None:
    said = ""
    # A busy machine may not let it get anything done in a moment.
    for moment_s in (0.3, 3.0, 20.0):
        # GIVEN a workload that is ready, with the threads it was asked for, and warnings that are errors
        running = workload_process(name, "--threads", "3", options=("-W", "error"))
        threads = os_threads(running.pid)

        # WHEN it works for a moment and is told to end
        time.sleep(moment_s)
        status = running.terminate()

        # THEN it had threads beside the main one, ends with success, and says what it did
        assert threads >= 2
        assert status == 0, running.said()
        done = re.search(r"^total ([\d,]+) ", running.said(), re.MULTILINE)
        assert done is not None, running.said()
        assert "Traceback" not in running.said()
        assert "Warning" not in running.said()
        said = running.said()
        if int(done[1].replace(",", "")) > 0:
            return
    pytest.fail(f"got nothing done: {said}")


@pytest.mark.parametrize("name", NAMES)
def test_workload_ends_after_its_seconds(name: str, free_threaded_pythons: tuple[Interpreter, ...]) -> None:
    # GIVEN a workload with a time to run; how it looks at its clock is the same on all versions
    command = [str(free_threaded_pythons[0].path), str(WORKLOADS / f"{name}.py"), "--seconds", "0.1"]

    # WHEN it runs to its end
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    # THEN it succeeded, and stdout has the one line that says it was ready
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"ready \d+\n", run.stdout)


def test_workload_ends_cleanly_on_interrupt(workload_process: Start) -> None:
    # GIVEN a workload whose threads are blocked in reads
    running = workload_process("io_wait")

    # WHEN it is interrupted
    running.process.send_signal(signal.SIGINT)

    # THEN it ends as on SIGTERM
    assert running.process.wait(PATIENCE_S) == 0, running.said()


def test_senseless_arguments_are_refused(workload_process: Start) -> None:
    # GIVEN a number of threads that makes no sense
    # WHEN the workload is started, THEN it says why it does not
    with pytest.raises(WorkloadFailure, match="--threads must be at least 1"):
        workload_process("independent_cpu", "--threads", "0")


def test_program_that_never_gets_ready_is_a_failure(workload_process: Start, tmp_path: Path) -> None:
    # GIVEN a program that hangs
    program = tmp_path / "hangs.py"
    program.write_text("import time\ntime.sleep(60)\n")

    # WHEN it is waited for, THEN the wait has an end
    with pytest.raises(WorkloadFailure, match="not ready within"):
        workload_process(program, ready_timeout_s=0.5)
