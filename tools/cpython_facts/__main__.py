"""`python3 -m tools.cpython_facts make|check|capture`: tables of facts about CPython.

In: headers and interpreters of one version. Out: a module in src/ftdiag/cpython, or what differs from it; the
bytes of `_Py_DebugOffsets` of a build, for tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ftdiag.cpython.facts import Facts, Row
from tools.cpython_facts import headers as of_headers
from tools.cpython_facts.headers import HeaderError, read_headers, version_of
from tools.cpython_facts.interpreters import InterpreterError, ask, debug_offsets
from tools.cpython_facts.writing import module_text

TABLES: Final = Path(__file__).resolve().parents[2] / "src" / "ftdiag" / "cpython"
MAX_STRUCT_BYTES: Final = 4096


def gather(headers: Path, python: Path) -> Facts:
    """All facts that headers and an interpreter of one minor version tell. Raises HeaderError,
    InterpreterError."""
    version = version_of(headers)
    told, opcodes, waits = ask(python)
    major, minor = map(int, version.split(".")[:2])
    if told.split(".")[:2] != [str(major), str(minor)]:
        raise HeaderError(f"{headers} are headers of {version}, but {python} is {told}")
    published, others = read_headers(headers, free_threaded=True)
    published_with_gil, others_with_gil = read_headers(headers, free_threaded=False)
    names = [name for name in of_headers.UNPUBLISHED if name in others or name in others_with_gil]
    return Facts(
        (major, minor),
        version,
        told,
        _rows(list(published), published, published_with_gil),
        _rows(names, others, others_with_gil),
        opcodes,
        waits,
    )


def _rows(names: list[str], free: dict[str, int], locked: dict[str, int]) -> tuple[Row, ...]:
    return tuple((name, free.get(name), locked.get(name)) for name in names)


def differences(table: Facts, found: Facts) -> list[str]:
    """What a table says otherwise than headers and interpreter do, one sentence a fact."""
    lines: list[str] = []
    for kind in ("published", "unpublished"):
        ours: dict[str, Row] = {row[0]: row for row in getattr(table, kind)}
        theirs: dict[str, Row] = {row[0]: row for row in getattr(found, kind)}
        if list(ours) != list(theirs) and ours.keys() == theirs.keys():
            lines.append(f"{kind}: the fields are in another order")
        lines += [
            f"{name}: {_said(ours.get(name))} in the table, {_said(theirs.get(name))} now"
            for name in dict.fromkeys((*ours, *theirs))
            if ours.get(name) != theirs.get(name)
        ]
    for kind in ("numbers", "specialised", "caches", "effects"):
        mine, other = getattr(table.opcodes, kind), getattr(found.opcodes, kind)
        lines += [
            f"opcodes.{kind}[{name}]: {mine.get(name)} in the table, {other.get(name)} now"
            for name in sorted({*mine, *other})
            if mine.get(name) != other.get(name)
        ]
    if table.opcodes.first_instrumented != found.opcodes.first_instrumented:
        lines.append("opcodes.first_instrumented differs")
    for file, function in sorted({*table.waits} ^ {*found.waits}):
        where = "in the table" if (file, function) in table.waits else "in the library"
        lines.append(f"waits: {function} of {file} is {where} only")
    return lines


def _said(row: Row | None) -> str:
    return "absent" if row is None else f"{row[1]} (free-threaded), {row[2]} (with the GIL)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, 1 where a table differs, 2 where something cannot be read."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.cpython_facts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("make", "write the table of a version"),
        ("check", "compare it with what is installed"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument(
            "--headers", type=Path, required=True, help=".../include/python3.X, with internal/"
        )
        command.add_argument("--python", type=Path, required=True, help="an interpreter of that version")
    capture = commands.add_parser(
        "capture", help="print _Py_DebugOffsets of an executable or libpython in hex"
    )
    capture.add_argument("executable", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "capture":
            return _capture(chosen.executable)
        found = gather(chosen.headers, chosen.python)
    except (HeaderError, InterpreterError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    path = TABLES / "v{}_{}.py".format(*found.version)
    if chosen.command == "make":
        path.write_text(module_text(found))
        print(f"wrote {path}")
        print("next: name it in src/ftdiag/cpython/__init__.py, add its row to by_hand.py, and run")
        print("      ftdiag doctor --self-check PID   on a process of that version")
        return 0
    from ftdiag.cpython import FACTS

    table = FACTS.get(found.version)
    if table is None:
        print(f"error: there is no table of {found.headers}; make makes it", file=sys.stderr)
        return 1
    lines = differences(replace(table, headers=found.headers, interpreter=found.interpreter), found)
    print("\n".join(lines) or f"{path.name} agrees with headers of {found.headers} and {found.interpreter}")
    return 1 if lines else 0


def _capture(executable: Path) -> int:
    data = debug_offsets(executable, MAX_STRUCT_BYTES)
    from ftdiag.cpython import FACTS
    from ftdiag.sources.python.layouts import parse_header

    header = parse_header(data)
    if header is None:
        raise InterpreterError(f"the runtime of {executable} does not begin with _Py_DebugOffsets")
    table = FACTS.get((header[0].major, header[0].minor))
    size = (
        MAX_STRUCT_BYTES
        if table is None
        else table.others(free_threaded=header[1])["sizeof(_Py_DebugOffsets)"]
    )
    for start in range(0, size, 32):
        print(data[start : min(start + 32, size)].hex())
    return 0


if __name__ == "__main__":
    sys.exit(main())
