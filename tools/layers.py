"""An import-linter contract: every layer of the house imports only what its row of the table allows.

In: the import graph of the package and, from pyproject.toml, one row a layer ("layer = what it may import
besides itself and the standard library"). Out: for each import that no row allows, its line.

import-linter's own contracts are lists of what is forbidden: a new dependency or a new module is then
allowed until somebody forbids it. The table says the opposite, so it is checked as what it is: a module
without a row, and a package that a row does not name, break the contract. Rows of layers that are not
built yet are fine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

ANYTHING = "*"
STANDARD_LIBRARY = sys.stdlib_module_names | {"compression"}
"""With what newer versions have than the one that checks: `compression` is of 3.14."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: `layer` (dotted, relative to the package) may import `allowed` layers and packages."""

    layer: str
    allowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Breach:
    """One import that its layer's row does not allow, or a module without a row (`imported` is None)."""

    importer: str
    imported: str | None
    line: int | None
    layer: str | None


def parse_rows(rows: Sequence[str]) -> tuple[Rule, ...]:
    """Rows "layer = name name ..." as rules; raises ValueError on a row without "=" or a doubled layer."""
    rules: dict[str, Rule] = {}
    for row in rows:
        layer, sign, allowed = row.partition("=")
        layer = layer.strip()
        if not sign or not layer:
            raise ValueError(f"not a row of the form 'layer = what it may import': {row!r}")
        if layer in rules:
            raise ValueError(f"two rows for the layer {layer!r}")
        rules[layer] = Rule(layer, frozenset(allowed.split()))
    return tuple(rules.values())


def covers(layer: str, module: str) -> bool:
    """Whether `module` is the layer or lies inside it."""
    return module == layer or module.startswith(layer + ".")


def layer_of(module: str, rules: Sequence[Rule]) -> Rule | None:
    """The row that holds for a module: the most specific layer it lies in."""
    holding = [rule for rule in rules if covers(rule.layer, module)]
    return max(holding, key=lambda rule: len(rule.layer), default=None)


def allows(rule: Rule, imported: str) -> bool:
    """Whether the row lets its layer import the layer or external package `imported`."""
    if ANYTHING in rule.allowed or covers(rule.layer, imported):
        return True
    return any(covers(allowed, imported) for allowed in rule.allowed)


def breaches(
    graph: ImportGraph, package: str, rows: Sequence[str], everywhere: Sequence[str] = ()
) -> list[Breach]:
    """All imports of the package that its table does not allow, in order.

    `everywhere` are layers that every row allows: they stand for a part of the standard library.
    """
    rules = parse_rows(rows)
    found: list[Breach] = []
    for module in sorted(graph.modules):
        if not module.startswith(package + "."):
            continue
        rule = layer_of(module.removeprefix(package + "."), rules)
        if rule is None:
            found.append(Breach(module, None, None, None))
            continue
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            if imported.partition(".")[0] in STANDARD_LIBRARY:
                continue
            # The package itself holds only its version.
            if imported == package:
                continue
            name = imported.removeprefix(package + ".")
            if not allows(rule, name) and not any(covers(layer, name) for layer in everywhere):
                details = graph.get_import_details(importer=module, imported=imported)
                line = details[0]["line_number"] if details else None
                found.append(Breach(module, imported, line, rule.layer))
    return found


class LayersContract(Contract):
    """The contract type `layers`. Options: `package`, `table` (rows), `everywhere` (layers)."""

    type_name = "layers"

    package = fields.StringField()
    table = fields.ListField(subfield=fields.StringField())
    everywhere = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Called by import-linter with the whole graph."""
        found = breaches(
            graph,
            str(self.package),
            list(self.table),  # type: ignore[call-overload]
            list(self.everywhere),  # type: ignore[call-overload]
        )
        metadata: Mapping[str, Any] = {"breaches": found}
        return ContractCheck(kept=not found, metadata=dict(metadata))

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Prints one line an import."""
        for breach in check.metadata["breaches"]:
            if breach.imported is None:
                output.print_error(
                    f"{breach.importer} has no row in the table of layers (pyproject.toml)", bold=False
                )
            else:
                output.print_error(
                    f"{breach.importer} -> {breach.imported} (l.{breach.line}): "
                    f"the row of {breach.layer} does not allow it",
                    bold=False,
                )
