"""Looking from children that can be given up: whatever one question does, the others are answered."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from ftdiag.commands.lookers import MAX_ANSWER_BYTES, Answer, Lookers
from reading import eventually

LONG_S = 600.0


def look(question: Any) -> Any:
    """Does what it is told to."""
    match question:
        case ["double", number]:
            return 2 * number
        case ["hang", path]:
            Path(path).write_text(str(os.getpid()))
            time.sleep(LONG_S)
        case ["hang, deaf", path]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Path(path).write_text(str(os.getpid()))
            while True:
                time.sleep(1)
        case ["start and wait", path]:
            with subprocess.Popen(["sleep", str(LONG_S)]) as child:
                Path(path).write_text(str(child.pid))
        case ["raise", text]:
            raise ValueError(text)
        case ["no memory"]:
            raise MemoryError
        case ["die", number]:
            faulthandler.disable()
            os.kill(os.getpid(), number)
        case ["exit", status]:
            os._exit(status)
        case ["say", size]:
            return "x" * size
        case ["not JSON"]:
            return object()
        case ["ask"]:
            return [os.getpid(), os.isatty(0), os.read(0, 1).decode()]
    return None


def gone(pid: str) -> bool:
    """Whether a process has ended; what nobody has waited for yet has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def ask(questions: list[Any], *, most: int = 2, each_s: float = 30.0, all_s: float = 60.0) -> list[Answer]:
    """The answers in the order of the questions."""
    with Lookers(look, most) as lookers:
        answers = dict(lookers.ask(questions, each_s=each_s, ends=time.monotonic() + all_s))
    assert sorted(answers) == list(range(len(questions)))
    return [answers[place] for place in range(len(questions))]


def test_more_questions_than_lookers() -> None:
    # GIVEN many questions WHEN three children answer THEN all are answered
    assert [one.value for one in ask([["double", n] for n in range(50)], most=3)] == [
        2 * n for n in range(50)
    ]
    assert ask([]) == []


@pytest.mark.parametrize("kind", ["hang", "hang, deaf"])
def test_a_look_that_hangs_is_given_up(tmp_path: Path, kind: str) -> None:
    # GIVEN questions of which some hang
    questions = [[kind, str(tmp_path / str(n))] if n % 4 == 0 else ["double", n] for n in range(9)]

    # WHEN they are asked THEN the others are answered, and the reason is said
    answers = ask(questions, most=4, each_s=4.0)
    assert [one.value for one in answers] == [None if n % 4 == 0 else 2 * n for n in range(9)]
    assert {one.failure for one in answers if one.late} == {"it took longer than 4 s"}
    # AND nobody is left
    for path in tmp_path.iterdir():
        eventually(lambda path=path: gone(path.read_text()))


def test_all_ends_when_it_shall(tmp_path: Path) -> None:
    # GIVEN more questions that hang than there is time for
    began = time.monotonic()

    # WHEN they are asked THEN each has an answer when the time is over
    answers = ask([["hang", str(tmp_path / str(n))] for n in range(20)], each_s=LONG_S, all_s=0.5)
    assert all(one.late for one in answers)
    assert {one.failure for one in answers[2:]} == {"there was no time left for it"}
    assert time.monotonic() - began < LONG_S / 4


def test_what_a_look_started_ends_with_it(tmp_path: Path) -> None:
    # GIVEN a look that waits for a program WHEN it is given up THEN the program ends, too
    (answer,) = ask([["start and wait", str(tmp_path / "pid")]], each_s=1.0)
    assert answer.late
    eventually(lambda: gone((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (["raise", "\x1b[2J"], "a mistake in ftdiag: ValueError"),
        (["no memory"], "not enough memory to look at it"),
        (["die", signal.SIGSEGV], "the look at it"),
        (["die", signal.SIGKILL], "the look at it"),
        (["exit", 3], "the look at it"),
        (["say", MAX_ANSWER_BYTES + 1], "the answer is too long"),
        (["not JSON"], "a mistake in ftdiag: TypeError"),
    ],
    ids=["raises", "has no memory", "crashes", "is killed", "exits", "says too much", "says no JSON"],
)
def test_whatever_happens_to_one_is_its_own(question: list[Any], words: str) -> None:
    # GIVEN a question on which a look fails, among others
    answers = ask([["double", 1], question, ["double", 2], question, ["double", 3]], most=1)

    # WHEN they are asked THEN it has a reason, and the others are answered
    assert [one.value for one in answers] == [2, None, 4, None, 6]
    assert all(words in (answers[place].failure or "") for place in (1, 3))


def test_lookers_have_no_terminal_and_keep_nothing() -> None:
    # GIVEN a look that reads from its standard input WHEN it is asked THEN there is nothing
    (answer,) = ask([["ask"]])
    pid, terminal, read = answer.value
    assert (terminal, read) == (False, "")
    assert pid != os.getpid()
    # AND they are gone, and no descriptor of ours is left
    eventually(lambda: gone(pid))
    before = len(os.listdir("/proc/self/fd"))
    ask([["double", 1]] * 5, most=4)
    assert len(os.listdir("/proc/self/fd")) == before


def test_lookers_end_with_us(tmp_path: Path) -> None:
    # GIVEN a program whose look hangs
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import json, os, time
            from ftdiag.commands.lookers import Lookers

            def look(question):
                print(json.dumps(os.getpid()), file=open(question, "w"), flush=True)
                time.sleep(600)

            with Lookers(look, 1) as lookers:
                list(lookers.ask([PATH], each_s=600, ends=time.monotonic() + 600))
            """
        ).replace("PATH", repr(str(tmp_path / "pid")))
    )
    with subprocess.Popen([sys.executable, str(program)]) as running:
        said = eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())

        # WHEN the program is killed THEN the child is gone, too
        running.kill()
    eventually(lambda: gone(json.loads(said)))
