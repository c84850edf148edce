"""Integration tests run real free-threaded processes.

In: tests of this folder. Out: the marker `integration` on each, so that the others can be run alone; the
fixture `program`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.workloads import RunningWorkload


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies in this folder: the hook is given the tests of all folders."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")


@pytest.fixture
def program(
    workload_process: Callable[..., RunningWorkload], tmp_path: Path
) -> Callable[..., RunningWorkload]:
    """Runs a program given as text, which has to say that it is ready: `program(source, *arguments)`."""

    def start(source: str, *arguments: str) -> RunningWorkload:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source))
        return workload_process(path, *arguments)

    return start
