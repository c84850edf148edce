"""Compares with the reviewed files of tests/golden, or rewrites them (see its README)."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """Fail where the text is not that of the file; with FTDIAG_UPDATE_GOLDEN, write it."""
    path = GOLDEN / name
    if os.environ.get("FTDIAG_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: see tests/golden/README.md"
    assert text == path.read_text(encoding="utf-8"), "see tests/golden/README.md"
