"""The ways to an interpreter are tried in order; what fails is told once, with the next command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.provision import __main__ as command
from tools.provision import with_uv
from tools.provision.cache import cached_of_series, find_cached
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.routes import Route, provide, routes
from tools.provision.search import Found
from tools.provision.verification import Interpreter
from tools.provision.with_uv import install_with_uv


def interpreter(version: str = "3.15.1", origin: str = "cache") -> Interpreter:
    """An interpreter that nobody runs."""
    return Interpreter(Path(f"/x/python{version}t"), version, "/x", origin)


def failing(what: str, remedy: str | None = None) -> Route:
    """A way that does not succeed."""

    def way(cache: Path, series: str, progress: Progress, lock_fd: int) -> Interpreter:
        raise ProvisioningFailure(what, remedy)

    return way


def giving(result: Interpreter, asked: list[str]) -> Route:
    """A way that succeeds and keeps what it was asked for."""

    def way(cache: Path, series: str, progress: Progress, lock_fd: int) -> Interpreter:
        asked.append(series)
        return result

    return way


def quiet() -> Progress:
    """Progress that nobody sees."""
    return Progress(io.StringIO())


def test_order_is_uv_packages_source() -> None:
    # GIVEN the ways, WHEN they are listed, THEN the quick ones come first and the build last
    assert [name for name, _ in routes(jobs=1)] == ["uv", "packages", "source build"]


def test_way_that_fails_gives_way_to_the_next(tmp_path: Path) -> None:
    # GIVEN a refused download and a way that works
    asked: list[str] = []
    ways = [("uv", failing("cannot download")), ("packages", giving(interpreter(), asked))]

    # WHEN an interpreter is asked for
    got = provide(tmp_path, "3.15", quiet(), [*ways, ("source build", failing("never asked"))])

    # THEN it is the one of the second way
    assert got == interpreter()
    assert asked == ["3.15"]


def test_no_way_is_one_message_with_reasons_and_one_command(tmp_path: Path) -> None:
    # GIVEN a machine without network and compiler
    ways = [
        ("uv", failing("pip cannot install uv: no network")),
        ("packages", failing("no suite lists it", "Look at /etc/apt.")),
        ("source build", failing("needs build-essential", "sudo apt-get install build-essential")),
    ]

    # WHEN an interpreter is asked for
    with pytest.raises(ProvisioningFailure) as failure:
        provide(tmp_path, "3.15", quiet(), ways)

    # THEN each way's reason is there, and the next command
    assert str(failure.value).splitlines() == [
        "no free-threaded 3.15 could be had:",
        "  uv: pip cannot install uv: no network",
        "  packages: no suite lists it",
        "  source build: needs build-essential",
        "sudo apt-get install build-essential",
    ]


def test_cache_that_cannot_be_written_names_another_place(tmp_path: Path) -> None:
    # GIVEN a cache directory whose place is taken by a file
    (tmp_path / "cache").touch()

    # WHEN an interpreter is asked for, THEN the failure says where else to put it
    with pytest.raises(ProvisioningFailure, match=r"XDG_CACHE_HOME=.* ensure --series 3\.15"):
        provide(tmp_path / "cache", "3.15", quiet(), [])


def test_second_run_takes_what_the_first_has_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a run that is getting 3.15t
    made: list[Interpreter] = []
    monkeypatch.setattr(
        "tools.provision.routes.cached_of_series", lambda cache, series: made[0] if made else None
    )
    began, go_on = threading.Event(), threading.Event()

    def slow(cache: Path, series: str, progress: Progress, lock_fd: int) -> Interpreter:
        began.set()
        assert go_on.wait(60)
        made.append(interpreter())
        return made[0]

    first = threading.Thread(target=provide, args=(tmp_path, "3.15", quiet(), [("packages", slow)]))
    first.start()
    assert began.wait(60)

    class Shown(io.StringIO):
        """Lets the first end once the second says that it waits."""

        def write(self, text: str) -> int:
            go_on.set()
            return super().write(text)

    # WHEN a second one is started
    shown = Shown()
    got = provide(tmp_path, "3.15", Progress(shown), [("packages", failing("asked a second time"))])
    first.join()

    # THEN it waited, and has what the first one made
    assert "waiting for another run that gets 3.15t" in shown.getvalue()
    assert got == interpreter()


# --- uv -------------------------------------------------------------------------------------------

UV = """#!/bin/sh
echo "$@" >> "{home}/asked"
echo "${{UV_PYTHON_INSTALL_DIR:-default}}" >> "{home}/places"
case "$2" in
install) test ! -e "{home}/refuse" || {{ echo "error: Failed to install
  Caused by: error sending request
  Caused by: dns error" >&2; exit 2; }};;
find) echo "{home}/python3.15t";;
esac
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a uv, which is not on PATH yet."""
    home = tmp_path / "uv"
    (home / "bin").mkdir(parents=True)
    (home / "bin/uv").write_text(UV.format(home=home))
    (home / "bin/uv").chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("shutil.which", lambda name: None)
    return home


def test_uv_of_the_user_installs_where_it_always_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: Path
) -> None:
    # GIVEN a uv on PATH
    monkeypatch.setattr("shutil.which", lambda name: str(uv / "bin/uv"))

    # WHEN it is asked for an interpreter
    path = install_with_uv(tmp_path / "cache", "3.15", quiet(), 1)

    # THEN it downloaded it to its own place, leaves ~/.local/bin alone, and the path is known
    assert path == uv / "python3.15t"
    assert (uv / "asked").read_text().splitlines()[0] == "python install --no-bin 3.15t"
    assert set((uv / "places").read_text().split()) == {"default"}


def test_uv_from_the_package_index_stays_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: Path
) -> None:
    # GIVEN no uv on PATH, and an index that has it
    asked: list[str] = []

    def unpack(requirement: str, directory: Path, **_: object) -> None:
        asked.append(requirement)
        (directory / "bin").mkdir(parents=True)
        os.link(uv / "bin/uv", directory / "bin/uv")

    monkeypatch.setattr(with_uv, "unpack_wheel", unpack)
    cache = tmp_path / "cache"
    cache.mkdir()

    # WHEN it is asked for interpreters twice
    for _ in range(2):
        install_with_uv(cache, "3.15", quiet(), 1)

    # THEN it was taken from the index once, and keeps its interpreters in the cache, where they are found
    assert asked == [with_uv.WHEEL]
    assert set((uv / "places").read_text().split()) == {str(cache / ".uv")}
    home = cache / ".uv/cpython-3.15.2+freethreaded-linux-x86_64-gnu/bin"
    home.mkdir(parents=True)
    (home / "python3.15t").touch()
    assert list(find_cached(cache)) == [home / "python3.15t"]


def test_refused_download_of_uv_is_told_by_its_innermost_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: Path
) -> None:
    # GIVEN a uv whose downloads are refused
    monkeypatch.setattr("shutil.which", lambda name: str(uv / "bin/uv"))
    (uv / "refuse").touch()

    # WHEN it is asked for an interpreter, THEN the reason is told
    with pytest.raises(ProvisioningFailure, match="uv cannot download it: dns error"):
        install_with_uv(tmp_path / "cache", "3.15", quiet(), 1)


# --- the command ----------------------------------------------------------------------------------


class Machine:
    """What is at hand and what can be had, by series."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, at_hand: list[Interpreter], to_be_had: set[str]
    ) -> None:
        self.asked: list[str] = []
        self.to_be_had = to_be_had
        monkeypatch.setattr(command, "find_interpreters", lambda: Found(tuple(at_hand), ()))
        monkeypatch.setattr(command, "provide", self.provide)

    def provide(self, cache: Path, series: str, *_: object, **__: object) -> Interpreter:
        """Stands in for the ways."""
        self.asked.append(series)
        if series not in self.to_be_had:
            raise ProvisioningFailure(f"no free-threaded {series} could be had", f"get {series}")
        return interpreter(f"{series}.0")


@pytest.mark.parametrize(
    ("at_hand", "to_be_had", "wanted", "asked", "got"),
    [
        pytest.param([], {"3.15"}, [], ["3.15"], ["3.15.0"], id="fresh-machine-gets-the-newest"),
        pytest.param(["3.15.1"], set(), [], [], ["3.15.1"], id="newest-at-hand"),
        pytest.param(["3.14.2"], {"3.15"}, [], ["3.15"], ["3.15.0"], id="newest-is-got-beside-an-older"),
        pytest.param(["3.14.2"], set(), [], ["3.15"], ["3.14.2"], id="older-does-if-newest-cannot-be-had"),
        pytest.param([], {"3.13"}, [], ["3.15", "3.14", "3.13"], ["3.13.0"], id="any-that-can-be-had"),
        pytest.param(
            ["3.14.2"], {"3.13"}, ["3.13", "3.14"], ["3.13"], ["3.13.0", "3.14.2"], id="named-series"
        ),
    ],
)
def test_series_that_are_missing_are_got(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at_hand: list[str],
    to_be_had: set[str],
    wanted: list[str],
    asked: list[str],
    got: list[str],
) -> None:
    # GIVEN a machine
    machine = Machine(monkeypatch, [interpreter(version) for version in at_hand], to_be_had)

    # WHEN interpreters are made sure of
    options = [word for series in wanted for word in ("--series", series)]
    status = command.main(["ensure", *options])

    # THEN only what is missing is got, and all are named
    assert status == 0
    assert machine.asked == asked
    assert capsys.readouterr().out.splitlines() == [f"/x/python{version}t" for version in got]


def test_interpreters_that_the_user_named_are_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN one interpreter that the user named
    machine = Machine(monkeypatch, [interpreter("3.14.2", "FTDIAG_PYTHONS"), interpreter("3.13.1")], set())

    # WHEN all series are asked for, THEN it is the only one, and nothing is got
    assert command.main(["ensure", "--all"]) == 0
    assert capsys.readouterr().out == "/x/python3.14.2t\n"
    assert machine.asked == []


def test_series_that_cannot_be_had_do_not_keep_from_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a machine on which one series cannot be had
    machine = Machine(monkeypatch, [], {"3.13", "3.15"})

    # WHEN all are asked for
    status = command.main(["ensure", "--all"])

    # THEN the others were got, and one message names the one that is missing and the next command
    assert status == 1
    assert machine.asked == ["3.13", "3.14", "3.15"]
    said = capsys.readouterr().err
    assert "error: no free-threaded 3.14 could be had\nget 3.14\n" in said


# --- the cache ------------------------------------------------------------------------------------


def answering(home: Path, series: str, **changed: object) -> None:
    """A program in the cache that answers the probe like an interpreter, or breaks."""
    path = home / f"bin/python{series}t"
    path.parent.mkdir(parents=True)
    facts = {
        "version": f"{series}.1",
        "implementation": "cpython",
        "executable": str(path),
        "prefix": str(home),
        "gil_disabled_build": True,
        "gil_enabled": False,
        "libraries": [],
        "threads_run": True,
        **changed,
    }
    path.write_text(f"#!/bin/sh\ncat <<'FACTS'\n{json.dumps(facts)}\nFACTS\n")
    path.chmod(0o755)


def test_half_written_interpreter_in_the_cache_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a cache whose newest 3.15 is cut off and whose older one works
    monkeypatch.setattr("tools.provision.verification.has_section", lambda image, name: True)
    answering(tmp_path / "3.15.1t", "3.15")
    (tmp_path / "3.15.2t/bin").mkdir(parents=True)
    (tmp_path / "3.15.2t/bin/python3.15t").write_bytes(b"\x7fELF")
    (tmp_path / "3.15.2t/bin/python3.15t").chmod(0o755)
    answering(tmp_path / "3.14.9t", "3.14")

    # WHEN one of the series is looked for, THEN it is the one that works
    found = cached_of_series(tmp_path, "3.15")
    assert found is not None
    assert found.version == "3.15.1"
    assert cached_of_series(tmp_path, "3.13") is None


def test_command_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    # GIVEN a Python without any installed package
    # WHEN the command is asked for help, THEN it answers
    ran = subprocess.run(
        [sys.executable, "-S", "-m", "tools.provision", "ensure", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "--series" in ran.stdout
