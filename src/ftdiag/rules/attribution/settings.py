"""What the command line and the environment of the target say: settings that keep programs from scaling.

In: the target of the facts. Out: the settings found, in words. The environment is that of the start: a
program may have changed it since.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

from ftdiag.model import Frame, HookKind, Stack, TracingHook
from ftdiag.rules.attribution.frames import LIBRARY_FRAMES
from ftdiag.rules.base import Facts

MAX_OPTIONS: Final = 40
"""Words of the command line that are looked at for options of the interpreter."""

_DEBUG_BUILD: Final = re.compile(r"python3?(?:\.[0-9]+)?(?:t?d)(?:-dbg)?$|python3\.[0-9]+t?-dbg$")
_TRACING_MODULES: Final = frozenset(
    {"trace", "pdb", "cProfile", "profile", "coverage", "tracemalloc", "debugpy"}
)


def interpreter_options(command: str) -> tuple[str, ...]:
    """The options before the script: ("-B", "-X", "tlbc=0", "-m", "coverage")."""
    found: list[str] = []
    words = iter(command.split()[1 : MAX_OPTIONS + 1])
    for word in words:
        if not word.startswith("-") or word == "-":
            break
        found.append(word)
        if word in ("-X", "-W"):
            found.append(next(words, ""))
        elif word == "-m":
            found.append(next(words, ""))
            break
        elif word.startswith("-c"):
            break
    return tuple(found)


def x_option(command: str, name: str) -> str | None:
    """The value of `-X name=value` ("" for `-X name`); None where it is not given."""
    options = interpreter_options(command)
    values = [after for before, after in itertools.pairwise(options) if before == "-X"]
    values += [word[2:] for word in options if word.startswith("-X") and len(word) > 2]
    for value in values:
        key, _, rest = value.partition("=")
        if key == name:
            return rest
    return None


def bytecode_settings(facts: Facts) -> tuple[str, ...]:
    """Settings that keep Python from writing bytecode files."""
    found = []
    if facts.environment("PYTHONDONTWRITEBYTECODE"):
        found.append("PYTHONDONTWRITEBYTECODE")
    options = interpreter_options(facts.target.command)
    if any(re.fullmatch(r"-[bBdEiIOPqsSuvx]*B[bBdEiIOPqsSuvx]*", word) for word in options):
        found.append("-B")
    return tuple(dict.fromkeys(found))


def is_compiled_at_run_time(frame: Frame) -> bool:
    """Whether a frame's code was made by compile() and not loaded from a module: "<string>"."""
    return frame.filename.startswith("<") and not frame.filename.startswith("<frozen")


def tlbc_setting(facts: Facts) -> str | None:
    """The setting that switches thread-local bytecode off, or None."""
    if x_option(facts.target.command, "tlbc") == "0":
        return "-X tlbc=0"
    return "PYTHON_TLBC=0" if facts.environment("PYTHON_TLBC") == "0" else None


def tracing_functions(facts: Facts) -> tuple[TracingHook, ...]:
    """The profile and trace functions that were found set in the target.

    Tools of sys.monitoring are left out: one that is registered need not ask for events.
    """
    return tuple(hook for hook in facts.target.tracing or () if hook.kind is not HookKind.TOOL)


def is_traced(stack: Stack, facts: Facts) -> bool:
    """Whether a stack is inside of such a function of Python, or one that it called."""
    names = {(hook.filename, hook.name) for hook in tracing_functions(facts) if hook.filename}
    return bool(names) and any((frame.filename, frame.function) in names for frame in stack[:LIBRARY_FRAMES])


def tracing_settings(facts: Facts) -> tuple[str, ...]:
    """Settings that trace, profile or debug the program."""
    found = []
    value = facts.environment("PYTHONTRACEMALLOC")
    if value and value != "0":
        found.append(f"PYTHONTRACEMALLOC={value[:20]}")
    if x_option(facts.target.command, "tracemalloc") is not None:
        found.append("-X tracemalloc")
    if facts.environment("PYTHONDEVMODE") or x_option(facts.target.command, "dev") is not None:
        found.append("development mode")
    allocator = facts.environment("PYTHONMALLOC") or ""
    if "debug" in allocator:
        found.append(f"PYTHONMALLOC={allocator[:20]}")
    coverage = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_RUN")
    found.extend(name for name in coverage if facts.environment(name))
    options = interpreter_options(facts.target.command)
    if "-m" in options and options[-1].partition(".")[0] in _TRACING_MODULES:
        found.append(f"-m {options[-1]}")
    words = facts.target.command.split()
    if len(words) > 2 and words[1].rsplit("/", 1)[-1] == "coverage" and words[2] == "run":
        found.append("coverage run")
    if _DEBUG_BUILD.search(facts.target.executable.rsplit("/", 1)[-1]):
        found.append("a debug build of Python")
    return tuple(dict.fromkeys(found))
