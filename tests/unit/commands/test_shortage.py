"""Too little memory, or a library that does not load: a message that says what to do, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Ran, ftdiag
from ftdiag.commands import main as main_module
from ftdiag.commands import shortage
from ftdiag.commands.group import COMMANDS
from ftdiag.commands.main import main

DEMO = Path(main_module.__file__).parents[1] / "data" / "demo.ftdiag"
ARGUMENTS: dict[str, list[str]] = {
    "list": [],
    "attach": ["1", "--duration", "1"],
    "run": ["--", "/bin/true"],
    "record": ["1", "-o", "{folder}/a.ftdiag", "--duration", "1"],
    "open": [str(DEMO)],
    "report": [str(DEMO)],
    "import": [str(DEMO), "-o", "{folder}/b.ftdiag"],
    "explain": ["hot-lock"],
    "doctor": [],
    "demo": [],
    "completion": ["bash"],
    "watch": ["999999999"],
    "whatif": [str(DEMO)],
    "export": [str(DEMO), "--to", "collapsed", "-o", "{folder}/c.txt"],
    "scale": ["--threads", "1", "--repeat", "1", "--items", "1", "--", "/bin/true", "{threads}"],
    "diff": [str(DEMO), str(DEMO)],
}


LOOKS: dict[str, list[str]] = {
    "record": ["{pid}", "-o", "{folder}/a.ftdiag", "--duration", "0.3"],
    "attach": ["{pid}", "--duration", "0.3", "--format", "text"],
    "doctor": ["{pid}"],
    "run": ["--duration", "0.3", "--", sys.executable, "-c", "import time; time.sleep(1)"],
}
"""Commands that look at a real process, which other processes of ours do for them."""


def limited(kib: int, arguments: list[str], folder: Path) -> Ran:
    """Run ftdiag in a shell that may use so much address space."""
    words = [word.replace("{folder}", str(folder)) for word in arguments]
    return ftdiag(*words, prefix=("sh", "-c", f'ulimit -v {kib}; exec "$@"', "sh"), env={"HOME": str(folder)})


@pytest.mark.parametrize("kib", [60_000, 150_000])
@pytest.mark.parametrize("command", COMMANDS)
def test_little_memory_is_told(command: str, kib: int, tmp_path: Path) -> None:
    # GIVEN a shell with a limit WHEN a command is run in it THEN it works, or says what to do
    assert_works_or_says(limited(kib, [command, *ARGUMENTS[command]], tmp_path))


@pytest.mark.parametrize("kib", [60_000, 150_000, 200_000])
@pytest.mark.parametrize("command", LOOKS)
def test_little_memory_for_who_looks(command: str, kib: int, tmp_path: Path) -> None:
    # GIVEN a process that there is much to say of, and a shell with a limit
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as process:
        arguments = [word.replace("{pid}", str(process.pid)) for word in LOOKS[command]]
        try:
            # WHEN it is looked at THEN that works, or it is said what to do
            assert_works_or_says(limited(kib, [command, *arguments], tmp_path))
        finally:
            process.kill()


def assert_works_or_says(done: Ran) -> None:
    """No mistake of ours, no traceback; an error has a hint."""
    assert "Traceback" not in done.err
    assert "mistake in ftdiag" not in done.err
    assert done.status in (0, 2, 3), done.err
    if done.status:
        first, *hints = done.err.strip().splitlines()
        assert first.startswith("ftdiag: error: ")
        assert hints


def test_what_reads_recordings_says_how_much_it_needs(tmp_path: Path) -> None:
    # GIVEN less than numpy takes WHEN a report is asked for THEN both numbers are said
    done = limited(150_000, ["report", str(DEMO)], tmp_path)
    assert done.status == 3
    assert "146 MiB" in done.err
    assert "192 MiB" in done.err


def test_just_enough_is_enough(tmp_path: Path) -> None:
    # GIVEN what is said to be needed WHEN a report is asked for THEN it is printed
    done = limited(shortage.ANALYSIS_BYTES >> 10, ["report", str(DEMO)], tmp_path)
    assert (done.status, done.err) == (0, "")


def raised(make: Callable[[], BaseException]) -> BaseException:
    """The exception as it is caught, with what it came from."""
    try:
        raise make()
    except BaseException as error:  # noqa: BLE001 - that is what is looked at
        return error


def wrapped() -> BaseException:
    """As numpy tells that its library did not load: three screens of advice around one sentence."""
    inner = ImportError("libx.so: failed to map segment from shared object")
    outer = ImportError("\n\nIMPORTANT: PLEASE READ THIS FOR ADVICE\n\nOriginal error was: ...\n")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (MemoryError, "not enough memory"),
        (lambda: OSError(12, "Cannot allocate memory"), "not enough memory"),
        (wrapped, "not enough memory"),
        (lambda: RuntimeError("can't start new thread"), "no thread could be started"),
        (lambda: BlockingIOError(11, "Resource temporarily unavailable"), "no process could be started"),
        (lambda: ImportError("libz.so.1: cannot open shared object file"), "libz.so.1: cannot open"),
        (lambda: ModuleNotFoundError("No module named 'rich'"), "No module named 'rich'"),
    ],
)
def test_what_is_short_is_told(
    make: Callable[[], BaseException],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # GIVEN a command in which something goes wrong for want of memory, threads or libraries
    def run(arguments: list[str]) -> int:
        raise raised(make)

    monkeypatch.setattr(main_module, "_run", run)
    monkeypatch.delenv("FTDIAG_DEBUG", raising=False)

    # WHEN it is run THEN what is short is said, with a hint, in the status of what cannot be read
    assert main(["list"]) == 3
    told = capsys.readouterr().err
    assert words in told
    assert len(told.splitlines()) >= 2
    assert "mistake" not in told


def test_other_mistakes_stay_mistakes() -> None:
    # GIVEN errors that are of another kind WHEN asked THEN they are not explained away
    assert shortage.in_words(ValueError("x")) is None
    assert shortage.in_words(RuntimeError("x")) is None


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a variable that is set, or is not WHEN numpy is loaded THEN a program started later sees that
    for value in ("7", None):
        if value is None:
            monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", value)
        shortage.prepare_analysis()
        assert os.environ.get("OPENBLAS_NUM_THREADS") == value
