"""Whether the compiled part is used, and why not."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ftdiag.sources import compiled
from ftdiag.sources.compiled import why_not_imported

ASK = "from ftdiag.sources import compiled as c; print(c.COMPILED, c.WHY_NOT)"


def test_it_is_used_here() -> None:
    assert (compiled.COMPILED, compiled.WHY_NOT) == (True, None)


@pytest.mark.parametrize(
    ("files", "error", "why"),
    [
        ((), ModuleNotFoundError("No module named"), "it was not built: there was no compiler"),
        (
            ("_tick.cpython-313t-x86_64-linux-gnu.so",),
            ModuleNotFoundError("No module named"),
            "it was built for another Python (_tick.cpython-313t-x86_64-linux-gnu.so)",
        ),
        (
            ("_tick.abi3.so",),
            ImportError("undefined symbol: Py_Gone"),
            "_tick.abi3.so cannot be loaded: undefined",
        ),
    ],
)
def test_why_it_is_not(tmp_path: Path, files: tuple[str, ...], error: ImportError, why: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert why_not_imported(error, tmp_path).startswith(why)


def copied(tmp_path: Path) -> Path:
    """A copy of the package without the extension; the folder of its sources."""
    package = Path(compiled.__file__).resolve().parent.parent
    for source in package.rglob("*.py"):
        place = tmp_path / "ftdiag" / source.relative_to(package)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(source.read_bytes())
    return tmp_path / "ftdiag" / "sources"


def ask(folder: Path) -> str:
    """What a process that has only that copy says."""
    run = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(folder.parent.parent)},
    )
    return run.stdout.strip()


def test_an_extension_that_cannot_be_used_is_told_and_not_used(tmp_path: Path) -> None:
    # GIVEN ftdiag without its extension WHEN asked THEN it was not built
    folder = copied(tmp_path)
    assert ask(folder).startswith("False it was not built")

    # GIVEN one that is for another interpreter THEN it says so
    (folder / "_tick.cpython-313t-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")
    assert ask(folder).startswith("False it was built for another Python")

    # GIVEN one that cannot be loaded THEN it says why
    (folder / "_tick.abi3.so").write_bytes(b"\x7fELF")
    assert ask(folder).startswith("False _tick.abi3.so cannot be loaded")

    # GIVEN one of another version of ftdiag THEN it is not used either
    (folder / "_tick.abi3.so").unlink()
    (folder / "_tick.py").write_text("INTERFACE = 1\n")
    assert ask(folder) == "False it was built from another version of ftdiag"


def test_what_is_promised_has_a_number_of_its_own() -> None:
    # GIVEN what the compiled part promises WHEN it changes THEN so does its number, by which it is known
    stub = Path(compiled.__file__).with_name("_tick.pyi").read_bytes()
    assert (compiled.INTERFACE, hex(zlib.crc32(stub))) == (10, "0x6bffd5fd"), (
        "count INTERFACE up in tick/tick.h and compiled.py, and put it and the sum of _tick.pyi here"
    )
