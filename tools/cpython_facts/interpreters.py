"""Facts that an interpreter tells of itself: its opcodes, where its library waits, its `_Py_DebugOffsets`.

In: the path of an interpreter. Out: its version, an `Opcodes` table, functions of its standard library; the
bytes as they lie in its file.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any, Final

from ftdiag.cpython.facts import Opcodes
from ftdiag.cpython.waits import ALL as WAITS
from ftdiag.cpython.waits import Place
from ftdiag.sources.native.elf import FileSource, read_elf

RUN_TIMEOUT_S: Final = 60.0
EFFECT_ARGUMENTS: Final = 8
"""Arguments from 0 on for which an interpreter is asked what an opcode does to the stack."""
EFFECTS_KEPT: Final = 4
_ASK: Final = """
import dis, json, opcode, os, platform, sys, sysconfig
import _opcode_metadata as table

def effects(number):
    try:
        arguments = range(EFFECT_ARGUMENTS) if number >= table.HAVE_ARGUMENT else (None,)
        return [dis.stack_effect(number, argument, jump=False) for argument in arguments]
    except ValueError:
        return []

def functions(code):
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield constant.co_qualname
            yield from functions(constant)

def written(file):
    path = os.path.join(os.path.dirname(os.__file__), file)
    if not os.path.exists(path):
        return []
    with open(path, "rb") as source:
        return sorted(set(functions(compile(source.read(), path, "exec"))))

print(json.dumps({
    "version": platform.python_version(),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "numbers": dict(opcode.opmap),
    "families": {base: list(members) for base, members in table._specializations.items()},
    "members": dict(table._specialized_opmap),
    "caches": dict(opcode._inline_cache_entries),
    "effects": {name: effects(number) for name, number in opcode.opmap.items() if number < 256},
    "first_instrumented": table.MIN_INSTRUMENTED_OPCODE,
    "functions": {file: written(file) for file in sys.argv[1:]},
}))
"""


class InterpreterError(Exception):
    """An interpreter that does not run, or a file that is none; the message says which and why."""


def ask(python: Path) -> tuple[str, Opcodes, tuple[Place, ...]]:
    """The version of an interpreter, its opcodes, where its library waits. Raises InterpreterError."""
    files = sorted({file for file, _ in WAITS})
    try:
        run = subprocess.run(
            [python, "-I", "-c", f"EFFECT_ARGUMENTS = {EFFECT_ARGUMENTS}\n{_ASK}", *files],
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise InterpreterError(f"{python} does not run: {problem}") from problem
    if run.returncode:
        raise InterpreterError(f"{python} does not tell its opcodes: {run.stderr.strip()[-500:]}")
    told: dict[str, Any] = json.loads(run.stdout)
    numbers = {
        name: number
        for name, number in sorted(told["numbers"].items())
        if number < 256 and not name.startswith("INSTRUMENTED_")
    }
    specialised = {
        base: tuple(sorted(told["members"][member] for member in members if member in told["members"]))
        for base, members in sorted(told["families"].items())
    }
    caches = {name: units for name, units in sorted(told["caches"].items()) if units}
    effects = {name: kept for name in numbers if (kept := _effects(told["effects"][name]))}
    opcodes = Opcodes(numbers, specialised, caches, told["first_instrumented"], effects)
    waits = tuple(place for place in WAITS if place[1] in told["functions"][place[0]])
    return told["version"], opcodes, waits


def _effects(by_argument: list[int]) -> tuple[int, ...]:
    """What `Opcodes.effects` has of an opcode, from its effects for the arguments from 0 on."""
    if len(set(by_argument)) <= 1:
        return tuple(by_argument[:1])
    steps = {after - before for before, after in itertools.pairwise(by_argument)}
    return tuple(by_argument[: 2 if len(steps) == 1 else EFFECTS_KEPT])


def debug_offsets(executable: Path, size: int) -> bytes:
    """The first bytes of the section `.PyRuntime` of an executable or libpython. Raises InterpreterError."""
    try:
        with executable.open("rb") as file:
            source = FileSource(file.fileno())
            elf = read_elf(source)
            section = None if elf is None else elf.section(".PyRuntime")
            data = b"" if section is None else source.at(section.offset, min(size, section.size))
    except OSError as problem:
        raise InterpreterError(f"{executable}: {problem}") from problem
    if not data:
        raise InterpreterError(f"{executable} has no section .PyRuntime: not CPython 3.13 or later")
    return data
