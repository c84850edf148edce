"""Integration tests run real free-threaded processes.

In: tests of this folder. Out: the marker `integration` on each, so that the others can be run alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies in this folder: the hook is given the tests of all folders."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("integration")
