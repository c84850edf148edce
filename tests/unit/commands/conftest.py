"""A small recording for the commands that read one."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, spent


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three seconds of two threads; names with what no terminal should get."""
    path = tmp_path / "a.ftdiag"
    builder = RecordingBuilder(path, rate_hz=10)
    for _ in range(3):
        builder.window(
            {
                "worker-ü": [spent(10, "on_cpu", at="app.py:10 work < app.py:3 main")],
                "worker\x1b[2J": [
                    spent(10, "lock", at="app.py:9 work", lock="self._lock", holder="worker-ü")
                ],
            }
        )
    builder.end()
    builder.close()
    return path
