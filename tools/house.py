"""Measures how the house is built: long modules and classes, circles of imports, what only tests use.

In: the sources below `src/ftdiag`, and the programs beside them that use them. Out: figures and names, which
tests/unit/test_house.py holds to their bounds; `python -m tools.house` prints the longest of each kind.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = ROOT / "src"
PROGRAMS: Final = ("src", "tools", "bench", "samples")
"""Where use counts; what tests alone use is not needed."""
MOST_LINES: Final = 600
"""Of a module."""
MOST_CLASS_LINES: Final = 300
REASON: Final = f"Longer than {MOST_CLASS_LINES} lines, because"
"""What the docstring of a longer class says, with the reason."""
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MOST_NAMES: Final = 200
"""Characters of a text in which names may stand; a longer one is prose."""
_CALLED_BY_NAME: Final = re.compile(
    # By Textual, ast and others: handlers of messages, actions of keys, watched values.
    r"(?:on|action|watch|validate|compute|key|visit)_\w+|__\w+__"
    r"|compose|render_lines?|get_system_commands|check_action"
    # By click, urllib and pytest.
    r"|list_commands|get_command|format_commands|resolve_command|redirect_request|pytest_\w+"
)


@cache
def modules() -> dict[str, ast.Module]:
    """The modules of ftdiag by name, parsed."""
    return {_name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(_files("src"))}


def lines() -> dict[str, int]:
    """Lines of every module, and of every file in C."""
    named = {_name_of(path): path for path in _files("src")}
    named |= {path.name: path for path in (SOURCES / "ftdiag").rglob("*.[ch]")}
    return {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in sorted(named.items())}


def classes() -> dict[str, tuple[int, str]]:
    """Lines and docstring of every class, by module and name."""
    return {
        f"{name}.{node.name}": ((node.end_lineno or 0) - node.lineno + 1, ast.get_docstring(node) or "")
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def imports() -> dict[str, set[str]]:
    """Which modules each module imports, wherever it does, but for what only type checkers see."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, tree in known.items():
        found = graph.setdefault(name, set())
        for node in _seen_at_run_time(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = [f"{node.module}.{alias.name}" for alias in node.names]
                found.update(part if part in known else node.module for part in parts)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
        found &= known.keys() - {name}
    return graph


def circles() -> tuple[tuple[str, ...], ...]:
    """Modules that import each other, directly or by way of others: each group once, sorted."""
    graph = imports()
    reached = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted({name, *(other for other in ends if name in reached[other])}))
        for name, ends in reached.items()
        if name in ends
    }
    return tuple(sorted(groups))


def only_in_tests() -> tuple[str, ...]:
    """Functions, methods and classes that no program comes to: `module.name`, sorted.

    Programs begin at what stands outside of functions and what is called by name; a function that is come to
    comes to all whose names stand in it. So what has the name of something that is used counts as used.
    """
    found: list[_Definition] = []
    used: set[str] = set()
    for name, tree in modules().items():
        used |= _names_in(tree, name, found)
    for folder in PROGRAMS[1:]:
        for path in _files(folder):
            used |= set(_WORD.findall(path.read_text(encoding="utf-8")))
    left, come_to = found, found
    while come_to:
        come_to = [each for each in left if each.called_by_name or each.name in used]
        left = [each for each in left if not (each.called_by_name or each.name in used)]
        used.update(*(each.uses for each in come_to))
    return tuple(sorted(f"{each.module}.{each.name}" for each in left))


@dataclass(frozen=True, slots=True)
class _Definition:
    """A function or class with the names that stand in it, without those of what is defined inside."""

    module: str
    name: str
    uses: frozenset[str]
    called_by_name: bool


def _names_in(top: ast.AST, module: str, found: list[_Definition]) -> set[str]:
    """The names that stand in a module or definition; what is defined in it is added to `found`."""
    names: set[str] = set()
    ahead = list(ast.iter_child_nodes(top))
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            uses = frozenset(_names_in(node, module, found))
            by_name = not _is_plain(node) or _CALLED_BY_NAME.fullmatch(node.name) is not None
            found.append(_Definition(module, node.name, uses, by_name))
            ahead += node.decorator_list
            continue
        if _says_only(node):
            continue
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < MOST_NAMES:
            names.update(_WORD.findall(node.value))
        ahead += ast.iter_child_nodes(node)
    return names


def _says_only(node: ast.AST) -> bool:
    """Whether a statement uses nothing: an import, a docstring, a list of what a module has."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.Import | ast.ImportFrom)


def _is_plain(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether no decorator registers it: there is none, or it only changes what it is."""
    plain = {"property", "staticmethod", "classmethod", "dataclass", "cache", "overload", "contextmanager"}
    names = (ast.unparse(each).partition("(")[0].rpartition(".")[2] for each in node.decorator_list)
    return all(name in plain for name in names)


def _seen_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield other
                yield from _seen_at_run_time(other)
            continue
        yield node
        yield from _seen_at_run_time(node)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead.extend(graph[name])
    return seen


def _files(folder: str) -> Iterator[Path]:
    return (ROOT / folder).rglob("*.py")


def _name_of(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def main() -> int:
    """Print what is longest, and what should not be there."""
    long_modules = sorted(lines().items(), key=lambda item: -item[1])[:10]
    long_classes = sorted(classes().items(), key=lambda item: -item[1][0])[:20]
    print("modules:", *(f"{count:5} {name}" for name, count in long_modules), sep="\n")
    print("classes:", *(f"{count:5} {name}" for name, (count, _) in long_classes), sep="\n")
    print("circles:", *(" ".join(group) for group in circles()), sep="\n")
    print("without a use in a program:", *only_in_tests(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
