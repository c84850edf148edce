"""A build goes on where it was interrupted, never shows half a result, and takes what can be had."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from reading import PATIENCE_S, eventually
from tools.provision import build
from tools.provision.apt_mirror import (
    AptMirror,
    Candidate,
    apt_configuration,
    candidate_order,
    machine_distribution,
    machine_sources,
    parse_stanzas,
)
from tools.provision.build import Toolchain, Workshop, build_tree, check_toolchain, choose
from tools.provision.cache import series_lock
from tools.provision.commands import run_logged
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import Interpreter, Refusal

SHOWSRC = """\
Package: python3.13
Binary: python3.13, python3.13-venv
Version: 3.13.5-2+deb13u5
Directory: pool/main/p/python3.13

Package: python3.13
Version: 3.13.15-1

Package: python3.13-docs
Version: 3.13.99-1

Package: python3.13
Version: 3.13.1-1;rm
"""

CONFIGURE = """\
#!/bin/sh
echo configured >> "$TRACE"
for option; do case $option in --prefix=*) prefix=${option#--prefix=};; esac; done
printf 'all:\\n\\t@echo made >> "$(TRACE)"; if test -e "$(BREAK)"; then false; fi\\n' > Makefile
printf 'install:\\n\\tmkdir -p $(DESTDIR)%s/bin\\n' "$prefix" >> Makefile
printf '\\tprintf "#!/bin/sh\\\\n" > $(DESTDIR)%s/bin/python3.13t\\n' "$prefix" >> Makefile
printf '\\tchmod 755 $(DESTDIR)%s/bin/python3.13t\\n' "$prefix" >> Makefile
"""


def source_tarball(path: Path, configure: str = CONFIGURE) -> Path:
    """A tarball shaped like CPython's, whose build takes no time and writes what it did to $TRACE."""
    with tarfile.open(path, "w:xz") as archive:
        member = tarfile.TarInfo("Python-3.13.5/configure")
        member.mode, member.size = 0o755, len(configure)
        archive.addfile(member, io.BytesIO(configure.encode()))
    return path


class Bench:
    """A workshop in a temporary directory and what its builds did."""

    def __init__(self, root: Path, log: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trace, self.obstacle = root / "trace", root / "break"
        monkeypatch.setenv("TRACE", str(self.trace))
        monkeypatch.setenv("BREAK", str(self.obstacle))
        # The interpreter that comes out is a shell script: say that it is good.
        self.verdict: Callable[[Path], Interpreter | Refusal] = lambda home: Interpreter(
            home / "bin/python3.13t", "3.13.5", str(home), "cache"
        )
        monkeypatch.setattr(build, "verify_home", self.verify_home)
        self.shop = Workshop(root / "cache", "3.13.5", 1, Progress(io.StringIO()), log, log.fileno())
        self.tarball = source_tarball(root / "python3.13_3.13.5.orig.tar.xz")

    def verify_home(self, home: Path) -> Interpreter | Refusal:
        """Stands in for running what was built."""
        return self.verdict(home)

    def did(self) -> list[str]:
        """The steps that ran, in order."""
        return self.trace.read_text().split() if self.trace.exists() else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A workshop whose log is open."""
    with (tmp_path / "log").open("wb") as log:
        yield Bench(tmp_path, log, monkeypatch)


def test_build_puts_the_interpreter_in_place_and_cleans_up(bench: Bench) -> None:
    # GIVEN a source tarball
    # WHEN it is built
    build_tree(bench.tarball, bench.shop)

    # THEN the interpreter is in its home, and nothing of the work is left
    assert (bench.shop.home / "bin/python3.13t").is_file()
    assert not bench.shop.work.exists()
    assert bench.did() == ["configured", "made"]


def test_interrupted_build_goes_on_with_the_step_it_was_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a build that was interrupted after configure
    run = Workshop.run

    def interrupted(shop: Workshop, command: list[str], step: str) -> object:
        if step == "make":
            raise KeyboardInterrupt
        return run(shop, command, step)

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_tree(bench.tarball, bench.shop)
    assert not bench.shop.home.exists()

    # WHEN it is built again
    build_tree(bench.tarball, bench.shop)

    # THEN configure did not run a second time
    assert bench.did() == ["configured", "made"]
    assert bench.shop.home.is_dir()


def test_resumed_build_that_fails_starts_clean(bench: Bench) -> None:
    # GIVEN an interrupted build whose tree is damaged
    (bench.shop.work / "source").mkdir(parents=True)
    for step in ("unpack", "configure"):
        bench.shop.stamp(step).touch()
    settings = "\n".join([bench.shop.version, str(bench.shop.home), sys.platform, *build.CONFIGURE])
    (bench.shop.work / "settings").write_text(settings)

    # WHEN it is built again
    build_tree(bench.tarball, bench.shop)

    # THEN it began from the tarball
    assert bench.did() == ["configured", "made"]
    assert bench.shop.home.is_dir()


def test_build_with_other_settings_starts_clean(bench: Bench) -> None:
    # GIVEN work left over from a build that was configured differently
    bench.shop.work.mkdir(parents=True)
    (bench.shop.work / "settings").write_text("other")
    (bench.shop.work / "leftover").touch()
    for step in ("unpack", "configure", "make"):
        bench.shop.stamp(step).touch()

    # WHEN the version is built
    build_tree(bench.tarball, bench.shop)

    # THEN every step ran
    assert bench.did() == ["configured", "made"]


def test_failing_build_tells_the_step_and_the_log(bench: Bench) -> None:
    # GIVEN a source that does not compile
    bench.obstacle.touch()

    # WHEN it is built
    with pytest.raises(ProvisioningFailure) as failure:
        build_tree(bench.tarball, bench.shop)

    # THEN the step, its output and the log are named, and nothing is in place
    assert failure.value.what.startswith("make of CPython 3.13.5 failed")
    assert "3.13.5.log" in str(failure.value.remedy)
    assert not bench.shop.home.exists()


def test_interpreter_that_does_not_work_is_not_put_in_place(bench: Bench) -> None:
    # GIVEN a build whose interpreter is broken
    bench.verdict = lambda home: Refusal(home, "is broken: no threads", "cache")

    # WHEN it is built, THEN it fails and nothing is in place
    with pytest.raises(ProvisioningFailure, match="is broken: no threads"):
        build_tree(bench.tarball, bench.shop)
    assert not bench.shop.home.exists()


def test_broken_interpreter_in_the_cache_is_replaced(bench: Bench) -> None:
    # GIVEN a broken interpreter where the new one belongs
    (bench.shop.home / "bin").mkdir(parents=True)
    (bench.shop.home / "broken").touch()

    # WHEN the version is built
    build_tree(bench.tarball, bench.shop)

    # THEN nothing of the old one is left
    assert not (bench.shop.home / "broken").exists()
    assert (bench.shop.home / "bin/python3.13t").is_file()


def test_cut_tarball_is_told(bench: Bench) -> None:
    # GIVEN a tarball of which half is missing
    content = bench.tarball.read_bytes()
    bench.tarball.write_bytes(content[: len(content) // 2])

    # WHEN it is built, THEN the failure names it
    with pytest.raises(ProvisioningFailure, match=r"orig\.tar\.xz cannot be unpacked"):
        build_tree(bench.tarball, bench.shop)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A member of a tarball that is a link."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def device(name: str) -> tarfile.TarInfo:
    """A member of a tarball that is a device."""
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize("filters", [True, False], ids=["with-filters", "without-filters"])
@pytest.mark.parametrize(
    "member",
    [
        pytest.param(tarfile.TarInfo("../escaped"), id="above"),
        pytest.param(tarfile.TarInfo("top/../../escaped"), id="above-by-a-detour"),
        pytest.param(link("top/escaped", "/etc"), id="link-to-elsewhere"),
        pytest.param(link("top/escaped", "../../.."), id="link-above"),
        pytest.param(link("top/escaped", "../etc", tarfile.LNKTYPE), id="hard-link-above"),
        pytest.param(device("top/escaped"), id="device"),
    ],
)
def test_tarball_that_leaves_its_directory_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: tarfile.TarInfo, filters: bool
) -> None:
    # GIVEN a tarball with a member that leads outside, and a Python with filters or without
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with tarfile.open(bench.tarball, "w:xz") as archive:
        archive.addfile(member)

    # WHEN it is built, THEN it is refused and nothing was written
    with pytest.raises(ProvisioningFailure, match="cannot be unpacked"):
        build_tree(bench.tarball, bench.shop)
    assert not list(tmp_path.rglob("escaped"))


def test_python_without_filters_unpacks_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a Python older than tarfile's filters
    monkeypatch.delattr(tarfile, "data_filter", raising=False)

    # WHEN a version is built, THEN it is in place
    build_tree(bench.tarball, bench.shop)
    assert bench.shop.home.is_dir()


def test_options_of_a_calling_make_do_not_reach_the_build(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a make that calls us with flags that would only print
    monkeypatch.setenv("MAKEFLAGS", "n")
    monkeypatch.setenv("MAKELEVEL", "1")

    # WHEN a version is built, THEN it is really built
    build_tree(bench.tarball, bench.shop)
    assert bench.did() == ["configured", "made"]


# --- candidates ------------------------------------------------------------------------------------


def test_listed_source_packages_become_candidates_newest_first() -> None:
    # GIVEN what apt lists, with another package and a version that no package has
    # WHEN it is parsed
    candidates = parse_stanzas(SHOWSRC, "python3.13", "trixie")

    # THEN only proper versions of the package are candidates
    assert [candidate.version for candidate in candidates] == ["3.13.15-1", "3.13.5-2+deb13u5"]
    assert [candidate.upstream_version for candidate in candidates] == ["3.13.15", "3.13.5"]


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("3.13.5-2+deb13u5", "3.13.5"),
        ("1:3.14.0-1", "3.14.0"),
        ("3.15.0~a5-1", "3.15.0a5"),
        ("3.13.5", "3.13.5"),
    ],
)
def test_upstream_version_of_a_package(version: str, upstream: str) -> None:
    # GIVEN a Debian version, WHEN CPython's is asked for, THEN epoch and revision are gone
    assert Candidate("python3.13", version, "trixie").upstream_version == upstream


class PoolOf(AptMirror):
    """A mirror whose suites list some versions, of which some are still there."""

    def __init__(self, listed: dict[str, list[str]], there: set[str]) -> None:
        self.listed, self.there, self.asked, self.trouble = listed, there, list[str](), list[str]()

    def candidates(self, package: str, suite: str) -> tuple[Candidate, ...]:
        self.asked.append(suite)
        return tuple(Candidate(package, version, suite) for version in self.listed.get(suite, []))

    def download(self, candidate: Candidate, directory: Path) -> Path:
        if candidate.version not in self.there:
            raise ProvisioningFailure("404  Not Found")
        return directory / candidate.version


def test_version_that_is_gone_from_the_pool_gives_way_to_the_next(tmp_path: Path) -> None:
    # GIVEN an index that is newer than its pool
    mirror = PoolOf({"trixie": ["3.13.15-1"], "forky": ["3.13.15-1", "3.13.9-1"]}, {"3.13.9-1"})

    # WHEN a version is chosen
    candidate, tarball = choose(mirror, "3.13", ("trixie", "forky"), tmp_path, Progress(io.StringIO()))

    # THEN it is the first that is there, and what was gone was asked for once
    assert (candidate.version, candidate.suite) == ("3.13.9-1", "forky")
    assert tarball == tmp_path / "3.13.9-1"


def test_further_suites_are_not_read_when_the_first_has_it(tmp_path: Path) -> None:
    # GIVEN a mirror whose first suite has the package
    mirror = PoolOf({"trixie": ["3.13.5-2"], "forky": ["3.13.9-1"]}, {"3.13.5-2", "3.13.9-1"})

    # WHEN a version is chosen, THEN only that suite's index was read
    choose(mirror, "3.13", ("trixie", "forky"), tmp_path, Progress(io.StringIO()))
    assert mirror.asked == ["trixie"]


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        pytest.param({"trixie": ["3.13.5-2"]}, "3.13.5-2 (trixie): 404", id="gone"),
        pytest.param({}, "none of trixie, forky lists python3.13", id="not-listed"),
    ],
)
def test_nothing_to_be_had_is_told_with_reasons(
    tmp_path: Path, listed: dict[str, list[str]], told: str
) -> None:
    # GIVEN a mirror that has nothing
    # WHEN a version is chosen
    with pytest.raises(ProvisioningFailure) as failure:
        choose(PoolOf(listed, set()), "3.13", ("trixie", "forky"), tmp_path, Progress(io.StringIO()))

    # THEN the reasons and the next step are told
    assert told in failure.value.what
    assert "FTDIAG_PYTHONS" in str(failure.value.remedy)


def test_mirror_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    # GIVEN a machine without network, whose suites list nothing for that reason
    mirror = PoolOf({}, set())
    mirror.trouble = ["W: Failed to fetch http://deb.example/: Could not connect (Connection refused)"]

    # WHEN a version is chosen, THEN apt's complaint is told, and the next command is about that version
    with pytest.raises(ProvisioningFailure) as failure:
        choose(mirror, "3.15", ("trixie",), tmp_path, Progress(io.StringIO()))
    assert "Connection refused" in failure.value.what
    assert "FTDIAG_PYTHONS=/path/to/python3.15t" in str(failure.value.remedy)


def test_candidates_of_several_suites_come_once() -> None:
    # GIVEN two suites that list the same version
    mirror = PoolOf({"trixie": ["3.13.5-2"], "sid": ["3.13.5-2"]}, set())

    # WHEN candidates are asked for, THEN it comes once
    assert len(list(candidate_order(mirror, "3.13", ("trixie", "sid")))) == 1


# --- the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nNAME="x"\n', ("debian", "bookworm")),
        (
            "ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_CODENAME=virginia\nUBUNTU_CODENAME=noble\n",
            ("ubuntu", "noble"),
        ),
        ("ID=debian\n", ("debian", "stable")),
    ],
)
def test_distribution_is_known(tmp_path: Path, text: str, expected: tuple[str, str]) -> None:
    # GIVEN an os-release
    file = tmp_path / "os-release"
    file.write_text(text)

    # WHEN the distribution is asked for, THEN it is named with its codename
    assert machine_distribution(file) == expected


@pytest.mark.parametrize("text", ["ID=fedora\n", ""])
def test_other_distributions_are_told_another_way(tmp_path: Path, text: str) -> None:
    # GIVEN a machine that is neither Debian nor Ubuntu
    file = tmp_path / "os-release"
    file.write_text(text)

    # WHEN the distribution is asked for, THEN the failure tells another way
    with pytest.raises(ProvisioningFailure, match="FTDIAG_PYTHONS"):
        machine_distribution(file)


def test_apt_configuration_is_private() -> None:
    # GIVEN a home for apt's state
    # WHEN its configuration is written for root
    text = apt_configuration(Path("/home/x/apt"), as_root=True)

    # THEN state, caches and sources are there, hooks are off, and root's directory can be entered
    for name in ("State", "State::status", "Cache", "Etc::sourceparts"):
        assert f'Dir::{name} "/home/x/apt/' in text
    assert "#clear APT::Update::Post-Invoke;" in text
    assert 'APT::Sandbox::User "root";' in text
    assert "Sandbox" not in apt_configuration(Path("/home/x/apt"), as_root=False)


def test_sources_of_the_machine_are_read(tmp_path: Path) -> None:
    # GIVEN an apt configuration in both formats, and a disabled file
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a/debian bookworm main\n")
    (tmp_path / "sources.list.d/b.sources").write_text("Types: deb\nURIs: http://b\nSuites: bookworm\n")
    (tmp_path / "sources.list.d/c.list.disabled").write_text("deb http://c bookworm main\n")

    # WHEN it is read, THEN both are there
    assert [source.uris for source in machine_sources(tmp_path)] == [("http://a/debian",), ("http://b",)]


def test_missing_tools_are_named_by_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN a machine without a compiler
    monkeypatch.setenv("PATH", str(tmp_path))

    # WHEN its tools are checked, THEN the package that has them is named
    assert check_toolchain() == Toolchain(("build-essential",), ())


def test_missing_headers_are_named_by_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN a compiler that finds no header
    compiler = tmp_path / "nocc"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    # WHEN the tools are checked
    toolchain = check_toolchain("nocc")

    # THEN what is needed and what is only good to have are told apart
    assert toolchain.missing[-2:] == ("zlib1g-dev", "libffi-dev")
    assert toolchain.optional == ("libssl-dev",)


# --- commands, lock, progress ---------------------------------------------------------------------


def test_second_build_waits_for_the_first(tmp_path: Path) -> None:
    # GIVEN a build that holds the lock in another process
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path.cwd(),
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        # It lets go when it is told that the second one waits.
        shown = Shown(holder.stdin.close)

        # WHEN a second one starts, THEN it says that it waits, and goes on once the first has ended
        with series_lock(tmp_path, "3.15", Progress(shown)):
            assert "waiting for another run that gets 3.15t" in shown.getvalue()


class Shown(io.StringIO):
    """Does something as soon as anything is shown."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self._then = then

    def write(self, text: str) -> int:
        written = super().write(text)
        self._then()
        return written


HOLD_LOCK = """
import io, sys
from pathlib import Path
from tools.provision.cache import series_lock
from tools.provision.progress import Progress
with series_lock(Path(sys.argv[1]), "3.15", Progress(io.StringIO())):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    # GIVEN a command that starts another and waits
    script = f"sleep 60 & echo $! > {tmp_path}/child; wait"

    # WHEN its time is over: once more where it did not get to start the other
    said = tmp_path / "child"
    for timeout_s in (0.5, 5.0, 30.0):
        with (
            (tmp_path / "log").open("wb") as log,
            pytest.raises(ProvisioningFailure, match="did not end"),
        ):
            run_logged(
                ["sh", "-c", script],
                cwd=tmp_path,
                log=log,
                progress=Progress(io.StringIO()),
                timeout_s=timeout_s,
            )
        if said.exists() and said.read_text():
            break

    # THEN neither is left
    child = int(said.read_text())
    eventually(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_output_of_a_command_is_logged_and_its_end_kept(tmp_path: Path) -> None:
    # GIVEN a command with output on both streams, the last line without an end
    command = ["sh", "-c", "echo one; echo two >&2; printf three; exit 4"]

    # WHEN it is run
    with (tmp_path / "log").open("wb") as log:
        ended = run_logged(
            command, cwd=tmp_path, log=log, progress=Progress(io.StringIO()), timeout_s=PATIENCE_S
        )

    # THEN its status and lines are known, and the log has all
    assert ended.status == 4
    assert ended.tail == ("one", "two", "three")
    assert b"$ sh -c" in (tmp_path / "log").read_bytes()


def test_command_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    # GIVEN no such program, WHEN it is run, THEN the failure says so
    with (tmp_path / "log").open("wb") as log, pytest.raises(ProvisioningFailure, match="No such file"):
        run_logged(["no-such-program"], cwd=tmp_path, log=log, progress=Progress(io.StringIO()), timeout_s=1)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    # GIVEN a log file and a clock
    now, stream = [0.0], io.StringIO()
    progress = Progress(stream, lambda: now[0])

    # WHEN a step writes a line every second for a minute
    progress.step("make 3.13.5")
    for second in range(60):
        now[0] = float(second)
        progress.log_line(f"cc file{second}.c")

    # THEN few of them are shown, each with the time
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["[ 0:00] make 3.13.5", "[ 0:20] make 3.13.5: cc file20.c"]
    assert len(lines) == 3


def test_progress_on_a_terminal_shows_no_control_characters() -> None:
    # GIVEN a terminal
    now, stream = [0.0], Terminal()
    progress = Progress(stream, lambda: now[0])

    # WHEN a step's output has control characters
    progress.step("make")
    now[0] = 1.0
    progress.log_line("cc \x1b[31mred\x07.c")
    progress.close()

    # THEN they are not passed on
    assert "\x1b[31m" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()
