"""Interpreters are found in their order, and what is broken is refused with its reason."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tools import record_samples
from tools.provision.cache import cache_directory, find_cached
from tools.provision.search import NAMED_VARIABLE, Found, find_interpreters
from tools.provision.verification import Interpreter, Refusal, has_section, verify

FREE_THREADED_FACTS = {
    "version": "3.14.0",
    "implementation": "cpython",
    "executable": sys.executable,
    "prefix": "/nowhere",
    "gil_disabled_build": True,
    "gil_enabled": False,
    "libraries": [],
    "threads_run": True,
}


def program(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def answering(path: Path, **changed: object) -> Path:
    """A program that answers the probe like an interpreter: facts of a good one, some of them changed."""
    facts = {**FREE_THREADED_FACTS, "prefix": str(path.parent), **changed}
    return program(path, f"cat <<'FACTS'\n{json.dumps(facts)}\nFACTS")


@pytest.fixture
def runtime_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running interpreter stands in for a free-threaded one; its section is looked for elsewhere."""
    monkeypatch.setattr("tools.provision.verification.has_section", lambda image, name: True)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param("exit 3", "is broken: exit status 3", id="fails"),
        pytest.param("echo 'cannot find libpython' >&2; exit 127", "cannot find libpython", id="says-why"),
        pytest.param("echo hello", "did not answer like a Python interpreter", id="other-program"),
        pytest.param("echo '{}'", "did not answer like a Python interpreter", id="facts-missing"),
        pytest.param("echo '[1]'", "did not answer like a Python interpreter", id="no-facts"),
    ],
)
def test_broken_interpreter_is_refused(tmp_path: Path, body: str, reason: str) -> None:
    # GIVEN a program that is no working interpreter
    path = program(tmp_path / "python3.14t", body)

    # WHEN it is verified
    verdict = verify(path, "PATH")

    # THEN it is refused, and the reason is told
    assert isinstance(verdict, Refusal)
    assert reason in verdict.reason


@pytest.mark.usefixtures("runtime_everywhere")
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"gil_disabled_build": False}, "not a free-threaded build", id="gil-build"),
        pytest.param({"gil_enabled": True}, "its GIL is on", id="gil-on"),
        pytest.param({"implementation": "pypy"}, "not CPython", id="pypy"),
        pytest.param({"threads_run": False}, "does not run threads", id="no-threads"),
    ],
)
def test_unfit_interpreter_is_refused(tmp_path: Path, changed: dict[str, object], reason: str) -> None:
    # GIVEN an interpreter that works, but is not what is wanted
    path = answering(tmp_path / "python3.14t", **changed)

    # WHEN it is verified, THEN it is refused, with its version
    verdict = verify(path, "PATH")
    assert isinstance(verdict, Refusal)
    assert reason in verdict.reason
    assert verdict.version == "3.14.0"


def test_interpreter_that_hangs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a program that does not end
    monkeypatch.setattr("tools.provision.verification.PROBE_TIMEOUT_S", 0.2)
    path = program(tmp_path / "python3.14t", "exec sleep 60")

    # WHEN it is verified, THEN the wait has an end
    verdict = verify(path, "PATH")
    assert isinstance(verdict, Refusal)
    assert "did not answer" in verdict.reason


def test_interpreter_without_runtime_section_is_refused(tmp_path: Path) -> None:
    # GIVEN an interpreter whose executable is not a CPython
    path = answering(tmp_path / "python3.14t", executable="/bin/true")

    # WHEN it is verified, THEN it is refused: nothing of it could be read from outside
    verdict = verify(path, "PATH")
    assert isinstance(verdict, Refusal)
    assert ".PyRuntime" in verdict.reason


def test_missing_and_plain_files_are_refused(tmp_path: Path) -> None:
    # GIVEN no file, and one that cannot be run
    plain = tmp_path / "plain"
    plain.write_text("")

    # WHEN they are verified
    verdicts = [verify(tmp_path / "none", "PATH"), verify(plain, "PATH")]

    # THEN both are refused
    assert [verdict.reason for verdict in verdicts if isinstance(verdict, Refusal)] == [
        "no such file",
        "not executable",
    ]


def test_gil_build_that_runs_these_tests_is_refused_or_found() -> None:
    # GIVEN the interpreter of these tests, whatever it is
    # WHEN it is verified
    verdict = verify(Path(sys.executable), "PATH")

    # THEN the verdict is what the interpreter says of itself
    assert isinstance(verdict, Interpreter) == (not getattr(sys, "_is_gil_enabled", lambda: True)())


@pytest.mark.usefixtures("runtime_everywhere")
def test_named_come_before_path_before_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an interpreter in each place
    def place(name: str, version: str) -> Path:
        path = tmp_path / name / "python3.14t"
        return answering(path, version=version, executable=str(path), prefix=str(path.parent))

    named, on_path = place("named", "3.14.1"), place("path", "3.14.2")
    cached = place("cache/ftdiag/pythons/3.14.3t/bin", "3.14.3")
    environ = {
        "FTDIAG_PYTHONS": str(named),
        "PATH": str(on_path.parent),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    # WHEN interpreters are looked for
    found = find_interpreters(environ, ask_uv=False)

    # THEN they come in order, each with where it was found
    assert [(one.version, one.origin) for one in found.interpreters] == [
        ("3.14.1", "FTDIAG_PYTHONS"),
        ("3.14.2", "PATH"),
        ("3.14.3", "cache"),
    ]
    assert cached.exists()


@pytest.mark.usefixtures("runtime_everywhere")
def test_one_interpreter_under_several_names_is_found_once(tmp_path: Path) -> None:
    # GIVEN an installation with a symbolic and a hard link to its interpreter
    path = answering(tmp_path / "bin/python3.14t", prefix=str(tmp_path))
    (tmp_path / "bin/python3").symlink_to(path)
    os.link(path, tmp_path / "bin/python3.14")

    # WHEN interpreters are looked for
    found = find_interpreters({"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": "/nowhere"}, ask_uv=False)

    # THEN there is one
    assert len(found.interpreters) == 1


def test_entries_of_path_that_cannot_be_looked_at_are_passed_over(tmp_path: Path) -> None:
    # GIVEN entries of PATH that raise when they are asked for (a name that is too long, for one)
    environ = {"PATH": f"/{'x' * 5000}:relative", "FTDIAG_PYTHONS": f"/{'y' * 5000}"}

    # WHEN interpreters are looked for
    found = find_interpreters({**environ, "XDG_CACHE_HOME": str(tmp_path)}, ask_uv=False)

    # THEN there are none, and the named one is refused
    assert found.interpreters == ()
    assert [refusal.reason for refusal in found.refusals] == ["no such file"]


def test_named_interpreter_that_is_broken_is_told_apart(tmp_path: Path) -> None:
    # GIVEN a broken interpreter that the user named, and a broken one on PATH
    named = program(tmp_path / "named/python", "exit 1")
    program(tmp_path / "path/python3.14t", "exit 1")
    environ = {
        "FTDIAG_PYTHONS": str(named),
        "PATH": str(tmp_path / "path"),
        "XDG_CACHE_HOME": str(tmp_path),
    }

    # WHEN interpreters are looked for
    found = find_interpreters(environ, ask_uv=False)

    # THEN both are refused, and the named one can be warned about
    assert len(found.refusals) == 2
    assert [refusal.path for refusal in found.named_refusals] == [named]


def test_cache_gives_finished_interpreters_newest_first(tmp_path: Path) -> None:
    # GIVEN a cache with two versions, an unfinished build, and a finished one without an executable
    for home in ("3.13.5t", "3.13.15t", ".work/3.13.9"):
        program(tmp_path / home / "bin/python3.13t", "exit 0")
    (tmp_path / "3.13.7t/bin").mkdir(parents=True)

    # WHEN its interpreters are listed
    found = [path.parent.parent.name for path in find_cached(tmp_path)]

    # THEN work in progress is not among them
    assert found == ["3.13.15t", "3.13.5t"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/somewhere"}, Path("/somewhere/ftdiag/pythons")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/ftdiag/pythons"),
        ({}, Path.home() / ".cache/ftdiag/pythons"),
    ],
)
def test_cache_directory_follows_xdg(environ: dict[str, str], expected: Path) -> None:
    # GIVEN an environment, WHEN the cache is asked for, THEN it is where XDG says
    assert cache_directory(environ) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"\x7fELF\x02\x01" + b"\xff" * 58,
        b"\x7fELF\x02\x01" + b"\0" * 58,
        b"#!/bin/sh\n" * 20,
    ],
)
def test_files_that_are_no_elf_have_no_sections(tmp_path: Path, content: bytes) -> None:
    # GIVEN a file that is no ELF, or a cut one
    file = tmp_path / "file"
    file.write_bytes(content)

    # WHEN a section is looked for, THEN it is not there
    assert not has_section(file, ".PyRuntime")


def test_section_of_a_real_executable_is_found() -> None:
    # GIVEN the running interpreter's executable
    # WHEN sections are looked for, THEN one that every program has is found, an invented one is not
    executable = Path(os.path.realpath(sys.executable))
    assert has_section(executable, ".text")
    assert not has_section(executable, ".invented")


def test_what_is_named_is_what_programs_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN interpreters that FTDIAG_PYTHONS names, and others on this machine
    named = Interpreter(Path("/opt/a/python3.15t"), "3.15.1", "/opt/a", NAMED_VARIABLE)
    other = Interpreter(Path("/opt/b/python3.14t"), "3.14.9", "/opt/b", "PATH")
    monkeypatch.setattr(record_samples, "find_interpreters", lambda: Found((named, other), ()))
    # WHEN samples are recorded THEN on those alone
    assert record_samples.interpreters() == {"3.15": named.path}
    # AND where none is named, on one of each series
    monkeypatch.setattr(record_samples, "find_interpreters", lambda: Found((other,), ()))
    assert record_samples.interpreters() == {"3.14": other.path}
