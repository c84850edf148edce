"""The command line itself: help, usage errors, exit statuses, output that cannot be written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from command_line import FTDIAG, environment, ftdiag
from ftdiag.commands import main, terminal
from ftdiag.commands.group import COMMANDS, cli
from ftdiag.errors import (
    DiskFull,
    FtdiagError,
    NoSuchProcess,
    RecordingError,
    UsageError,
)


class TestHelp:
    def test_overview_names_every_command(self) -> None:
        ran = ftdiag("--help")

        assert ran.status == 0
        for name, (_, text) in COMMANDS.items():
            assert re.search(rf"^  {name} +{re.escape(text)}$", ran.out, re.MULTILINE)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_examples_that_fit_a_terminal(self, name: str) -> None:
        ran = ftdiag(name, "--help")

        assert ran.status == 0
        assert "Examples:\n" in ran.out
        assert f"  ftdiag {name}" in ran.out or f'"$(ftdiag {name}' in ran.out
        assert max(map(len, ran.out.splitlines())) <= 80

    @pytest.mark.parametrize("name", COMMANDS)
    def test_overview_says_of_a_command_what_the_command_says(self, name: str) -> None:
        # GIVEN the table that saves importing every command
        command = cli.get_command(click.Context(cli), name)

        # THEN it does not drift from the commands
        assert command is not None
        said = command.short_help or (command.help or "").partition("\n")[0]
        if name != "completion":
            assert said == COMMANDS[name][1]

    def test_without_arguments_it_is_a_usage_error_with_the_overview(self) -> None:
        ran = ftdiag()

        assert ran.status == 2
        assert "Commands:" in ran.err
        assert ran.out == ""

    def test_overview_imports_no_command_and_nothing_heavy(self) -> None:
        code = (
            "import sys; from ftdiag.commands.main import main; status = main(['--help'])\n"
            "heavy = {'numpy', 'textual', 'rich', 'sqlite3', 'ftdiag.commands.attach'}\n"
            "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else status)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
        )

        assert done.returncode == 0, done.stderr


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["attch", "1"], "Did you mean `ftdiag attach`?"),
            (["4711"], "Did you mean `ftdiag attach 4711`?"),
            (["pyproject.toml"], "Did you mean `ftdiag open pyproject.toml`?"),
            (["attach"], "missing argument 'PID'"),
            (["attach", "0"], "above 0"),
            (["attach", "-5"], "above 0"),
            (["attach", "--", "-5"], "above 0"),
            (["attach", "abc"], "'abc' is not a process id"),
            (["attach", "1.5"], "'1.5' is not a process id"),
            (["attach", "9" * 30], "cannot be a process id"),
            (["attach", "1", "--rate", "0"], "0 is not possible; it takes from 1 to 10,000"),
            (["attach", "1", "--rate", "-5"], "-5 is not possible"),
            (["attach", "1", "--rate", "1e9"], "1e9 is not possible"),
            (["attach", "1", "--rate", "nan"], "nan is not possible"),
            (["attach", "1", "--budget", "0"], "0 is not possible; it takes from 0.005 to 1"),
            (
                ["record", "1", "-o", "x", "--native-rate", "1e6"],
                "1e6 is not possible; it takes from 0 to 1,000",
            ),
            (["attach", "1", "--rate", "fast"], "'fast' is not a number"),
            (["attach", "1", "--duration", "0"], "it takes above 0"),
            (["attach", "1", "--duration", "inf"], "inf is not possible"),
            (["attach", "1", "--format", "tui"], "needs a terminal"),
            (["record", "1"], "missing option '-o'"),
            (["record", "1", "-o", "x", "--rate", "0"], "0 is not possible"),
            (["run"], "missing argument"),
            (["run", "--rate", "0", "--", "true"], "0 is not possible"),
            (["run", "--", "no-such-program-anywhere"], "cannot start"),
            (["report", "x", "--from", "nan"], "nan is not possible"),
            (["doctor", "abc"], "not a process id"),
            (["completion", "tcsh"], "is not one of"),
        ],
    )
    def test_each_mistake_is_one_message_with_a_hint(self, arguments: list[str], words: str) -> None:
        ran = ftdiag(*arguments)

        assert ran.status == 2
        assert ran.out == ""
        assert ran.message.startswith("ftdiag: error: ")
        assert words in ran.message
        assert len(ran.err.splitlines()) == 2 or "Did you mean" in ran.err


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (UsageError("what", "hint"), 2),
            (NoSuchProcess("what", "hint"), 3),
            (RecordingError("what", "hint"), 3),
            (DiskFull("what", "hint"), 3),
            (KeyboardInterrupt(), 130),
            (terminal.Terminated(15), 143),
            (BrokenPipeError(), 141),
            (ZeroDivisionError("oops"), 70),
        ],
    )
    def test_each_error_has_its_status(
        self, error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main._in_words(error) == status
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if isinstance(error, FtdiagError):
            assert said == "ftdiag: error: what\n  hint\n"

    def test_what_a_target_chose_cannot_move_the_cursor(self, capsys: pytest.CaptureFixture[str]) -> None:
        # GIVEN a name with an escape sequence in it
        terminal.complain("process \x1b[2J\x07evil\u202e", "hint \x1b]0;title\x07")

        # THEN it arrives as text
        said = capsys.readouterr().err
        assert "\x1b" not in said
        assert "\x07" not in said
        assert "\\x1b[2J" in said

    def test_a_mistake_of_ours_shows_its_traceback_when_asked(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FTDIAG_DEBUG", "1")

        assert main._in_words(ZeroDivisionError("oops")) == 70

        assert capsys.readouterr().err.startswith("ZeroDivisionError: oops\n")


class TestOutput:
    def test_a_closed_pipe_is_quiet(self, recording: Path) -> None:
        # GIVEN a reader that is gone before anything is written
        reader, writer = os.pipe()
        os.close(reader)

        done = subprocess.run(
            [*FTDIAG, "report", str(recording)],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
        os.close(writer)

        assert done.returncode == 141
        assert done.stderr == b""

    def test_a_full_disk_is_said(self, recording: Path) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*FTDIAG, "report", str(recording)],
                stdout=full,
                stderr=subprocess.PIPE,
                env=environment(),
                check=False,
            )

        assert done.returncode == 3
        assert b"cannot write: No space left on device" in done.stderr
        assert b"Traceback" not in done.stderr

    @pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
    def test_closed_standard_output_is_told_before_the_work(self, closed: str, recording: Path) -> None:
        command = " ".join([*FTDIAG, "report", str(recording), closed])
        done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment(), check=False)

        assert done.returncode == 2
        assert b"Traceback" not in done.stderr

    @pytest.mark.parametrize(
        "env",
        [
            {"LC_ALL": "C", "LANG": "C"},
            {"TERM": "dumb", "NO_COLOR": "1"},
            {"TERM": None},
            {"COLUMNS": "20", "LINES": "5"},
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        ],
    )
    @pytest.mark.parametrize("command", ["--help", "list", "doctor", "report"])
    def test_works_in_poor_surroundings(
        self, env: dict[str, str | None], command: str, recording: Path
    ) -> None:
        ran = ftdiag(command, *([recording] if command == "report" else []), env=env)

        assert ran.status == 0
        assert "\x1b" not in ran.out + ran.err
        if (env.get("LC_ALL") or "") == "C" and command == "report":
            assert ran.out.isascii()

    def test_the_locale_is_judged_as_the_cockpit_judges_it(self) -> None:
        from ftdiag.tui.look import locale_is_ascii

        for everything in ("", "C", "POSIX", "C.UTF-8", "de_DE.utf8", "de_DE.ISO-8859-1"):
            for types in ("", "C", "C.UTF-8", "UTF-8"):
                for language in ("", "C", "en_US.UTF-8"):
                    variables = {"LC_ALL": everything, "LC_CTYPE": types, "LANG": language}
                    assert terminal.ascii_only(variables) == locale_is_ascii(variables), variables


class TestCompletion:
    def test_bash_completes_commands_and_options(self) -> None:
        # GIVEN the script in a shell, as ~/.bashrc has it
        script = ftdiag("completion", "bash").out
        commands = f"""
            ftdiag() {{ {" ".join(FTDIAG)} "$@"; }}
            {script}
            COMP_WORDS=(ftdiag at) COMP_CWORD=1
            _ftdiag_completion ftdiag; echo "${{COMPREPLY[@]}}"
            COMPREPLY=() COMP_WORDS=(ftdiag attach --du) COMP_CWORD=2
            _ftdiag_completion ftdiag; echo "${{COMPREPLY[@]}}"
        """
        # The script asks the program by its name: it has to be on the PATH, as for a user.
        variables = environment()
        variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
        done = subprocess.run(
            ["bash", "-c", commands], capture_output=True, text=True, check=False, env=variables
        )

        assert done.stdout.splitlines() == ["attach", "--duration"], done.stderr

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_every_shell_has_its_script(self, shell: str) -> None:
        ran = ftdiag("completion", shell)

        assert ran.status == 0
        assert f"_FTDIAG_COMPLETE={shell}_complete" in ran.out
