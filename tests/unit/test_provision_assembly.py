"""An interpreter is put together from packages whole or not at all, and starts as `python` does."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import zipfile
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.provision import assembly, wheels
from tools.provision.apt_mirror import AptMirror, Candidate
from tools.provision.assembly import Parts, assemble, libraries
from tools.provision.entry_code import start_as_python
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import Interpreter, Refusal

MAIN, WANTED, LOADED_AT = 0x400800, 0x400900, 0x400000


def executable(*, exported: bytes = b"Py_BytesMain", kind: int = 2, main: int = MAIN) -> bytes:
    """An ELF executable with start code, one loaded segment and a table of exported functions."""
    image = bytearray(0x1000)
    image[:16] = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    entry, programs, sections = LOADED_AT + 0x200, 0x40, 0x600
    struct.pack_into("<HHIQQQ", image, 16, kind, 62, 1, entry, programs, sections)
    struct.pack_into("<HHHHHH", image, 52, 64, 56, 1, 64, 3, 0)
    struct.pack_into("<IIQQQQQQ", image, programs, 1, 5, 0, LOADED_AT, LOADED_AT, 0x1000, 0x1000, 0x1000)
    # xor ebp, ebp; mov rdi, main; call
    image[0x200:0x20E] = b"\x31\xed\x48\xc7\xc7" + struct.pack("<i", main) + b"\xe8\0\0\0\0"
    names = b"\0other\0" + exported + b"\0"
    image[0x300 : 0x300 + len(names)] = names
    struct.pack_into("<IBBHQQ", image, 0x400 + 24, 1, 0x12, 0, 1, MAIN, 8)
    struct.pack_into("<IBBHQQ", image, 0x400 + 48, 7, 0x12, 0, 1, WANTED, 8)
    struct.pack_into("<IIQQQQIIQQ", image, sections + 64, 0, 11, 0, 0, 0x400, 72, 2, 0, 8, 24)
    struct.pack_into("<IIQQQQIIQQ", image, sections + 128, 0, 3, 0, 0, 0x300, len(names), 0, 0, 1, 0)
    return bytes(image)


# --- the start code -------------------------------------------------------------------------------


def test_only_the_address_of_main_changes() -> None:
    # GIVEN an executable that starts its own main
    image = executable()

    # WHEN it is made to start as python
    changed = start_as_python(image)

    # THEN the start code names the other function, and nothing else differs
    assert struct.unpack_from("<i", changed, 0x205)[0] == WANTED
    assert [at for at in range(len(image)) if image[at] != changed[at]] == [0x206]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        pytest.param(b"#!/bin/sh\n", "no 64-bit ELF file", id="script"),
        pytest.param(executable(kind=3), "no x86-64 executable with fixed addresses", id="pie"),
        pytest.param(executable(exported=b"Py_Main"), "does not export Py_BytesMain", id="not-exported"),
        pytest.param(
            executable().replace(b"\x48\xc7\xc7", b"\x90\x90\x90"), "does not name", id="other-code"
        ),
        pytest.param(executable(main=0x10), "0x10 is not in the file", id="no-address"),
        pytest.param(executable()[:0x500], "is not as expected", id="cut"),
    ],
)
def test_executable_of_another_kind_is_refused(image: bytes, told: str) -> None:
    # GIVEN a file that is not such an executable, WHEN it is changed, THEN it is refused with the reason
    with pytest.raises(ProvisioningFailure, match=told):
        start_as_python(image)


@given(st.integers(0, 0xFFF), st.binary(min_size=1, max_size=64))
def test_damaged_executable_is_refused_or_changed(at: int, damage: bytes) -> None:
    # GIVEN an executable of which some bytes are wrong
    image = executable()
    damaged = image[:at] + damage + image[at + len(damage) :]

    # WHEN it is changed, THEN it is of the same length or refused, and nothing else is raised
    try:
        assert len(start_as_python(damaged)) == len(damaged)
    except ProvisioningFailure:
        pass


# --- the parts ------------------------------------------------------------------------------------

FAKE_PYTHON = """#!/bin/sh
case "$1" in
-V) echo "Python 3.15.1";;
-c) if test -e "{root}/broken"; then echo "ImportError: cannot import name _x" >&2; exit 1; fi;;
esac
"""


class Shelf(AptMirror):
    """A mirror whose suites list some versions of the library, of which some are still there."""

    def __init__(self, listed: dict[str, list[str]], gone: tuple[str, ...] = ()) -> None:
        self.listed, self.gone, self.asked, self.trouble = listed, gone, list[str](), list[str]()

    def binary_candidates(self, package: str, suite: str) -> tuple[Candidate, ...]:
        self.asked.append(suite)
        return tuple(Candidate(package, version, suite) for version in self.listed.get(suite, []))

    def unpack_binaries(self, packages: Iterable[Candidate], root: Path) -> None:
        wanted = tuple(packages)
        assert [one.package for one in wanted] == [
            "libpython3.15-stdlib",
            "libpython3.15-minimal",
            "libpython3.15-dev",
        ]
        if wanted[0].version in self.gone:
            raise ProvisioningFailure("404  Not Found")
        library, headers = root / "usr/lib/python3.15", root / "usr/include/python3.15"
        for directory in (library / "lib-dynload", headers):
            directory.mkdir(parents=True)
        (library / "os.py").write_text(f"# {wanted[0].version}\n")
        (library / "lib-dynload/_ssl.cpython-315-x86_64-linux-gnu.so").touch()
        (library / "EXTERNALLY-MANAGED").touch()
        (library / "dangling.py").symlink_to("/nowhere/else.py")
        (library / "_sysconfigdata__x86_64-linux-gnu.py").write_text(
            "build_time_vars = {'SOABI': 'cpython-315-x86_64-linux-gnu', 'HAVE_X': 1}\n"
        )
        (headers / "pyconfig.h").write_text("/* #undef Py_GIL_DISABLED */\n#define HAVE_X 1\n")


class Bench:
    """A cache in a temporary directory, a wheel, a mirror: what `assemble` works with."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.cache = root, root / "cache"
        self.shelf = Shelf({"forky": ["3.15.0-1"], "sid": ["3.15.2-1"]})
        self.verdict: Refusal | None = None
        self.wheels = 0
        monkeypatch.setattr(assembly, "unpack_wheel", self.unpack_wheel)
        monkeypatch.setattr(assembly, "AptMirror", lambda *_, **__: self.shelf)
        monkeypatch.setattr(assembly, "machine_distribution", lambda: ("debian", "bookworm"))
        monkeypatch.setattr(assembly, "machine_sources", lambda: ())
        monkeypatch.setattr(assembly, "require_apt", lambda: None)
        monkeypatch.setattr(assembly, "start_as_python", lambda image: image)
        monkeypatch.setattr(assembly, "verify_home", self.verify_home)

    def unpack_wheel(self, requirement: str, directory: Path, **_: object) -> None:
        """Stands in for pip."""
        self.wheels += 1
        for name in ("bases", "lib"):
            (directory / "freeze_core" / name).mkdir(parents=True)
        tag = "cpython-315t-x86_64-linux-gnu"
        base = directory / "freeze_core/bases" / f"console-{tag}"
        base.write_text(FAKE_PYTHON.format(root=self.root))
        (directory / "freeze_core/lib" / f"_ssl.{tag}.so").touch()
        (directory / "freeze_core.libs").mkdir()

    def verify_home(self, home: Path) -> Interpreter | Refusal:
        """Stands in for running what was put together."""
        if self.verdict is not None:
            return self.verdict
        return Interpreter(home / "bin/python3.15t", "3.15.1", str(home), "cache")

    def assemble(self) -> Interpreter:
        """Puts 3.15 together."""
        with (self.root / "lock").open("w") as lock:
            return assemble(self.cache, "3.15", Progress(io.StringIO()), lock.fileno())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Packages and a cache."""
    return Bench(tmp_path, monkeypatch)


def test_interpreter_is_put_together_and_work_is_gone(bench: Bench) -> None:
    # GIVEN a wheel and the packages of the library
    # WHEN an interpreter is put together
    interpreter = bench.assemble()

    # THEN it is in its home with the library, the wheel's modules, headers and facts of a free-threaded build
    home = bench.cache / "3.15.1t"
    assert interpreter.path == home / "bin/python3.15t"
    assert os.access(interpreter.path, os.X_OK)
    library = home / "lib/python3.15t"
    assert (library / "os.py").read_text() == "# 3.15.0-1\n"
    assert os.listdir(library / "lib-dynload") == ["_ssl.cpython-315t-x86_64-linux-gnu.so"]
    assert not (library / "EXTERNALLY-MANAGED").exists()
    assert not (library / "dangling.py").is_symlink()
    assert "#define Py_GIL_DISABLED 1\n" in (home / "include/python3.15t/pyconfig.h").read_text()
    facts: dict[str, dict[str, object]] = {}
    exec((library / "_sysconfigdata_t_linux_.py").read_text(), facts)
    assert facts["build_time_vars"]["Py_GIL_DISABLED"] == 1
    assert facts["build_time_vars"]["EXT_SUFFIX"] == ".cpython-315t-x86_64-linux-gnu.so"
    assert facts["build_time_vars"]["HAVE_X"] == 1
    # AND nothing of the work is left, nor was a further index read
    assert os.listdir(bench.cache / ".work") == []
    assert bench.shelf.asked == ["forky"]


def test_library_that_is_gone_gives_way_to_the_next_suite(bench: Bench) -> None:
    # GIVEN a suite whose index is newer than its pool
    bench.shelf.gone = ("3.15.0-1",)

    # WHEN an interpreter is put together, THEN it has the library of the next, and the wheel was taken once
    home = bench.assemble().path.parents[1]
    assert (home / "lib/python3.15t/os.py").read_text() == "# 3.15.2-1\n"
    assert bench.wheels == 1


def test_library_that_does_not_fit_is_never_put_in_place(bench: Bench) -> None:
    # GIVEN an interpreter that cannot import its modules from any library
    (bench.root / "broken").touch()

    # WHEN an interpreter is put together
    with pytest.raises(ProvisioningFailure) as failure:
        bench.assemble()

    # THEN the reason is told for each library, and nothing is in place
    assert "3.15.0-1: what was put together fails: ImportError: cannot import name _x" in failure.value.what
    assert "3.15.2-1" in failure.value.what
    assert not (bench.cache / "3.15.1t").exists()


def test_interpreter_that_is_refused_is_never_put_in_place(bench: Bench) -> None:
    # GIVEN an interpreter that starts with the GIL
    bench.verdict = Refusal(Path("x"), "is a free-threaded build, but its GIL is on", "cache")

    # WHEN it is put together, THEN it is not in place
    with pytest.raises(ProvisioningFailure, match="its GIL is on"):
        bench.assemble()
    assert not (bench.cache / "3.15.1t").exists()


def test_interrupted_assembly_starts_clean(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an assembly that was interrupted while it laid the parts out
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "_describe_build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.assemble()
    assert not (bench.cache / "3.15.1t").exists()

    # WHEN it is done again, THEN it is whole
    assert bench.assemble().path.is_file()


def test_broken_interpreter_in_the_cache_is_replaced(bench: Bench) -> None:
    # GIVEN a broken installation where the new one belongs
    (bench.cache / "3.15.1t/bin").mkdir(parents=True)
    (bench.cache / "3.15.1t/leftover").touch()

    # WHEN one is put together, THEN nothing of the old one is left
    bench.assemble()
    assert not (bench.cache / "3.15.1t/leftover").exists()


def test_unlisted_series_is_told_with_what_apt_complained_of(bench: Bench) -> None:
    # GIVEN a mirror whose index the machine's keyrings cannot verify: apt leaves it out
    bench.shelf.listed = {}
    bench.shelf.trouble = ["W: GPG error: sid InRelease: NO_PUBKEY 123"]

    # WHEN an interpreter is put together, THEN the failure says so
    with pytest.raises(ProvisioningFailure, match=r"no suite lists it .*NO_PUBKEY 123"):
        bench.assemble()


@pytest.mark.parametrize(
    ("machine", "libc", "series", "told"),
    [
        ("aarch64", ("glibc", "2.36"), "3.15", "another machine"),
        ("x86_64", ("", ""), "3.15", "another machine"),
        ("x86_64", ("glibc", "2.36"), "3.13", "no package has a 3.13t"),
    ],
)
def test_machine_or_series_without_packages_takes_nothing(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    libc: tuple[str, str],
    series: str,
    told: str,
) -> None:
    # GIVEN a machine or a series for which there are no packages
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: libc)

    # WHEN an interpreter is asked for, THEN it is refused before anything is downloaded
    with pytest.raises(ProvisioningFailure, match=told):
        assemble(bench.cache, series, Progress(io.StringIO()), 0)
    assert bench.wheels == 0


def test_wheel_of_another_shape_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a wheel without the interpreter
    monkeypatch.setattr(assembly, "unpack_wheel", lambda *_, **__: None)

    # WHEN an interpreter is put together, THEN what is missing is named
    with pytest.raises(ProvisioningFailure, match="has no console-cpython-315t-x86_64-linux-gnu"):
        bench.assemble()


def test_interpreter_that_does_not_say_its_version_is_told(tmp_path: Path) -> None:
    # GIVEN an executable that answers something else
    with (tmp_path / "log").open("wb") as log:
        parts = Parts(tmp_path, "3.15", log, Progress(io.StringIO()), log.fileno())
        (tmp_path / "python3.15t").write_text("#!/bin/sh\necho Python 3.14.1\n")
        (tmp_path / "python3.15t").chmod(0o755)

        # WHEN parts are put together, THEN it is refused
        with pytest.raises(ProvisioningFailure, match=r"does not answer as Python 3\.15"):
            parts.put_together(tmp_path / "cache")


def test_versions_of_one_library_go_together() -> None:
    # GIVEN two suites with the same version
    shelf = Shelf({"forky": ["3.15.0-1"], "sid": ["3.15.0-1"]})

    # WHEN libraries are looked for, THEN it comes once, all its packages of that version
    (found,) = libraries(shelf, "3.15", ("forky", "sid"))
    assert {candidate.version for candidate in found} == {"3.15.0-1"}


# --- wheels ---------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Iterator[BinaryIO]:
    """A log that is open."""
    with (tmp_path / "log").open("wb") as file:
        yield file


def wheel(directory: Path, name: str) -> Path:
    """A wheel with one file."""
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/data.txt", "content")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def offline(monkeypatch: pytest.MonkeyPatch, links: Path) -> None:
    """Has pip look at a directory only."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))


def test_wheel_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BinaryIO) -> None:
    # GIVEN an index with a wheel
    offline(monkeypatch, tmp_path)
    wheel(tmp_path, "example")

    # WHEN it is asked for, THEN its files are there
    target = tmp_path / "target"
    wheels.unpack_wheel(
        "example", target, environment=tmp_path / "pip", log=log, progress=Progress(io.StringIO())
    )
    assert (target / "example/data.txt").read_text() == "content"


def test_wheel_that_cannot_be_had_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BinaryIO
) -> None:
    # GIVEN an index without the package
    offline(monkeypatch, tmp_path)

    # WHEN it is asked for, THEN pip's reason is told
    with pytest.raises(ProvisioningFailure, match="No matching distribution found for example"):
        wheels.unpack_wheel(
            "example",
            tmp_path / "target",
            environment=tmp_path / "pip",
            log=log,
            progress=Progress(io.StringIO()),
        )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(None, "package index cannot be reached: Connection refused", id="no-network"),
        pytest.param(404, "No matching distribution found for example", id="not-found"),
        pytest.param(503, "package index cannot be reached|503|No matching distribution", id="unavailable"),
    ],
)
def test_index_that_does_not_answer_is_told_apart_from_one_without_the_package(
    answer: int | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BinaryIO
) -> None:
    # GIVEN a package index that nobody answers at, or that has no such page

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(answer or 500)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever)
    port = server.server_address[1]
    if answer is None:
        server.server_close()
    else:
        thread.start()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    # WHEN a wheel is asked for, THEN the reason is what happened
    try:
        with pytest.raises(ProvisioningFailure, match=told):
            wheels.unpack_wheel(
                "example",
                tmp_path / "target",
                environment=tmp_path / "pip",
                log=log,
                progress=Progress(io.StringIO()),
            )
    finally:
        if answer is not None:
            server.shutdown()
            thread.join()
            server.server_close()


FAKE_VENV = """#!/bin/sh
mkdir -p "$3/bin" && echo environment >> "{home}/made"
printf '#!/bin/sh\\necho "$@" >> "{home}/asked"\\n' > "$3/bin/python" && chmod 755 "$3/bin/python"
"""


def test_python_without_pip_gets_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BinaryIO
) -> None:
    # GIVEN a Python without pip, which can make environments
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    python = tmp_path / "python"
    python.write_text(FAKE_VENV.format(home=tmp_path))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    # WHEN wheels are asked for, twice
    for _ in range(2):
        wheels.unpack_wheel(
            "example",
            tmp_path / "target",
            environment=tmp_path / "pip",
            log=log,
            progress=Progress(io.StringIO()),
        )

    # THEN the pip of an environment beside the cache was asked, and that was made once
    assert (tmp_path / "made").read_text().split() == ["environment"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2
    assert asked[0].startswith("-m pip install --no-deps")


def test_python_that_cannot_make_environments_is_told_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: BinaryIO
) -> None:
    # GIVEN a Python with neither pip nor venv
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    # WHEN a wheel is asked for, THEN the failure names what to install
    with pytest.raises(ProvisioningFailure, match="apt-get install python3-venv"):
        wheels.unpack_wheel(
            "example",
            tmp_path / "target",
            environment=tmp_path / "pip",
            log=log,
            progress=Progress(io.StringIO()),
        )
