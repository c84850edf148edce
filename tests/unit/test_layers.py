"""The table of layers is an allow-list: what no row allows breaks the contract."""

from __future__ import annotations

import grimp
import pytest

from tools.layers import breaches, parse_rows


def house(*imports: tuple[str, str]) -> grimp.ImportGraph:
    """A graph with the given imports."""
    graph = grimp.ImportGraph()
    for module in {"app", *(name for pair in imports for name in pair)}:
        graph.add_module(module)
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported, line_number=7, line_contents="")
    return graph


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(("app.view", "app.model"), id="allowed-layer"),
        pytest.param(("app.view.pane", "app.view.table"), id="inside-the-layer"),
        pytest.param(("app.view.pane", "rich"), id="allowed-package"),
        pytest.param(("app.model", "dataclasses"), id="standard-library"),
        pytest.param(("app.main", "anything"), id="row-that-allows-all"),
        pytest.param(("app.model", "app"), id="the-package-itself"),
        pytest.param(("app.view.raw", "app.disk.reader"), id="own-row-of-a-module"),
    ],
)
def test_what_a_row_allows_is_kept(pair: tuple[str, str]) -> None:
    # GIVEN a table and an import that it allows
    rows = ["model =", "view = model rich", "view.raw = disk.reader", "disk =", "main = *"]

    # WHEN the graph is checked, THEN there is no breach
    assert breaches(house(pair), "app", rows) == []


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(("app.model", "app.view"), id="layer-not-named"),
        pytest.param(("app.model", "numpy"), id="package-not-named"),
        pytest.param(("app.view", "app.disk.reader"), id="part-of-a-layer-not-named"),
        pytest.param(("app.view.raw", "app.model"), id="own-row-replaces-the-layer's"),
        pytest.param(("app.view", "richer"), id="name-that-only-begins-alike"),
    ],
)
def test_what_no_row_allows_is_a_breach(pair: tuple[str, str]) -> None:
    # GIVEN a table and an import that it does not allow
    rows = ["model =", "view = model rich", "view.raw = disk.reader", "disk ="]

    # WHEN the graph is checked
    (breach,) = breaches(house(pair), "app", rows)

    # THEN the breach names both ends and the line
    assert (breach.importer, breach.imported, breach.line) == (*pair, 7)


def test_a_room_that_every_row_allows() -> None:
    # GIVEN a layer that stands for a part of the standard library
    graph = house(("app.view", "app.types"), ("app.view", "app.typesetting"))

    # WHEN the graph is checked, THEN it may be imported, and what only begins alike may not
    rows = ["view =", "types =", "typesetting ="]
    (breach,) = breaches(graph, "app", rows, ["types"])
    assert breach.imported == "app.typesetting"


def test_module_without_a_row_is_a_breach() -> None:
    # GIVEN a module that the table does not know
    # WHEN the graph is checked
    (breach,) = breaches(house(("app.new", "json")), "app", ["model ="])

    # THEN it is told
    assert (breach.importer, breach.imported) == ("app.new", None)


@pytest.mark.parametrize("rows", [["model"], ["= x"], ["model =", "model = x"]])
def test_senseless_rows_are_refused(rows: list[str]) -> None:
    # GIVEN a table with a row that makes no sense, WHEN it is read, THEN it is refused
    with pytest.raises(ValueError, match="row"):
        parse_rows(rows)
