"""What every command prints, when all that others chose is there to harm a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator

import pytest

from builders import RecordingBuilder, a_target, spent
from command_line import ftdiag
from ftdiag.commands.group import COMMANDS
from ftdiag.commands.main import COMPLETION_VARIABLE
from ftdiag.reports.escaping import harmless, json_text, visible

HOSTILE = "e\x1b[2J\x07\x7f\x85\x9b31m\u202egnp\u2066\u200b\u2028x"
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def harmful(text: str) -> set[str]:
    """Characters that a terminal might obey, or that hide or reorder others."""
    return {one for one in text if one not in "\n\t" and unicodedata.category(one) in HARMFUL}


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A recording full of it, a process that is called so, a file that is: what arguments are replaced by."""
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / f"{HOSTILE}.ftdiag"
    builder = RecordingBuilder(path, rate_hz=10, target=a_target(command=HOSTILE, gil_culprits=(HOSTILE,)))
    for _ in range(3):
        builder.window(
            {
                HOSTILE: [spent(10, "on_cpu", at=f"{HOSTILE}.py:10 {HOSTILE}")],
                f"{HOSTILE}2": [spent(10, "lock", at=f"{HOSTILE}.py:9 work", lock=HOSTILE, holder=HOSTILE)],
            }
        )
    builder.end()
    builder.close()
    other = folder / f"{HOSTILE}.json"
    other.write_text("{}")
    running = subprocess.Popen(
        [f"python {HOSTILE}", "-c", "import time; time.sleep(1000)", HOSTILE], executable=sys.executable
    )
    try:
        yield {
            "RECORDING": str(path),
            "OTHER": str(other),
            "MISSING": str(folder / HOSTILE / "missing"),
            "NEW": str(folder / f"{HOSTILE}.new"),
            "PID": str(running.pid),
            "WORD": HOSTILE,
        }
    finally:
        running.kill()
        running.wait()


COMMAND_LINES = [
    "list",
    "list --format json",
    "doctor",
    "doctor PID",
    "doctor PID --format json",
    "doctor WORD",
    "attach WORD",
    "attach PID --source native --duration 1",
    "record PID --source native -o NEW --duration 1",
    "record PID -o MISSING --duration 1",
    "run -- WORD",
    "open RECORDING",
    "open MISSING",
    "open OTHER",
    "report RECORDING",
    "report RECORDING --format json",
    "report RECORDING --format html",
    "report MISSING",
    "report RECORDING --memory OTHER",
    "report RECORDING --sort allocations",
    "whatif RECORDING",
    "whatif RECORDING --lock WORD=gone --threads 2",
    "whatif RECORDING --line WORD=half --format json",
    "export RECORDING --to collapsed -o MISSING",
    "import OTHER -o NEW",
    "import WORD -o MISSING",
    "scale -- WORD {threads}",
    "scale --threads WORD -- WORD",
    "scale --resume OTHER",
    "scale --pythons WORD -- python WORD",
    "diff RECORDING RECORDING",
    "diff RECORDING OTHER",
    "diff MISSING RECORDING --format markdown",
    "explain WORD",
    "demo WORD",
    "watch WORD",
    "watch PID --when WORD",
    "watch --match WORD --directory OTHER",
    "completion WORD",
    "completion zsh",
    "WORD",
    "--debug open OTHER",
]


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for line in COMMAND_LINES} >= set(COMMANDS)


@pytest.mark.parametrize("line", COMMAND_LINES)
@pytest.mark.parametrize("language", ["C.UTF-8", "C"])
def test_nothing_harmful_is_printed(surroundings: dict[str, str], line: str, language: str) -> None:
    # GIVEN names, paths and words that would harm a terminal WHEN a command prints them
    ran = ftdiag(
        *(surroundings.get(word, word) for word in line.split()), env={"LC_ALL": language, "LANG": language}
    )

    # THEN they are visible, and do nothing
    assert harmful(ran.out) == set()
    assert harmful(ran.err) == set()
    assert ran.status in (0, 2, 3), ran.err
    if "list" in line:
        assert surroundings["PID"] in ran.out
    if language == "C":
        assert (ran.out + ran.err).isascii()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_a_line_each(surroundings: dict[str, str], shell: str) -> None:
    # GIVEN a process that is called so WHEN a shell asks for process ids
    word = "" if shell == "fish" else "2"  # its text there, its number in other shells
    ran = ftdiag(
        env={COMPLETION_VARIABLE: f"{shell}_complete", "COMP_WORDS": "ftdiag attach ", "COMP_CWORD": word}
    )

    # THEN it is offered, with nothing that a shell or a terminal obeys
    assert ran.status == 0
    assert surroundings["PID"] in ran.out
    assert harmful(ran.out) == set()


def test_escapes() -> None:
    # GIVEN text with all of it, and what is good
    good = 'ü 漢 🧵 \\ " ~'

    # WHEN it is made harmless THEN what is good stays, and JSON still says the same
    for escaped in (visible(HOSTILE + good), harmless(HOSTILE + good), json_text(HOSTILE + good)):
        assert harmful(escaped) == set()
    assert visible(good) == harmless(good) == good
    assert harmless("a\n\tb\r") == "a\n\tb\\x0d"
    assert visible("a\n") == "a\\x0a"
    assert harmless(good, ascii_only=True).isascii()
    for value in (HOSTILE + good, {HOSTILE: [HOSTILE, 1, None, "\udc80", "\U000e0001"]}):
        for only_ascii in (False, True):
            said = json_text(value, only_ascii=only_ascii)
            assert harmful(said) == set()
            assert said.isascii() or not only_ascii
            assert json.loads(said) == value
