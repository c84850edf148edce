"""The tables of facts against the headers and interpreters that are installed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ftdiag.cpython import FACTS
from tools.cpython_facts.__main__ import TABLES, differences, gather, main
from tools.cpython_facts.headers import HeaderError, version_of
from tools.cpython_facts.writing import module_text
from tools.provision.verification import Interpreter


def headers_of(python: Interpreter) -> Path:
    """The headers of an interpreter from the cache; of others they may not be installed."""
    (found,) = Path(python.prefix, "include").glob("python3.*")
    return found


def test_the_tables_agree_with_headers_and_interpreter(free_threaded_python: Interpreter) -> None:
    # GIVEN an interpreter with its internal headers, WHEN its facts are gathered
    found = gather(headers_of(free_threaded_python), Path(free_threaded_python.path))
    table = FACTS[found.version]

    # THEN no fact differs from the table, for free-threaded builds and for those with the GIL
    assert differences(replace(table, headers=found.headers, interpreter=found.interpreter), found) == []
    # AND the module is what would be written
    if (table.headers, table.interpreter) == (found.headers, found.interpreter):
        path = TABLES / "v{}_{}.py".format(*found.version)
        assert path.read_text() == module_text(found)
    # AND a fact that is changed is named
    first, *rest = table.unpublished
    changed = replace(table, unpublished=((first[0], 1, 1), *rest))
    assert [line.partition(":")[0] for line in differences(changed, found)] == [first[0]]


def test_headers_that_are_not_there_are_said_to_be(
    free_threaded_python: Interpreter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a directory without headers, WHEN facts are asked for, THEN that is the error
    with pytest.raises(HeaderError, match="has no headers"):
        version_of(tmp_path)
    assert main(["check", "--headers", str(tmp_path), "--python", str(free_threaded_python.path)]) == 2
    assert "has no headers" in capsys.readouterr().err
