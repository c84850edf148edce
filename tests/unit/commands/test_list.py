"""The table of processes."""

from __future__ import annotations

from ftdiag.commands.list import table
from ftdiag.commands.processes import PythonProcess

FREE = PythonProcess(
    pid=4711,
    user="ann",
    command="python3.14t app.py",
    threads=65,
    cpu_ratio=3.987,
    python_version="3.14.0",
    free_threaded=True,
    gil_enabled=False,
    attachable=True,
    reason=None,
)
REFUSED = PythonProcess(
    pid=12,
    user=None,
    command="evil\x1b[2J\npython",
    threads=None,
    cpu_ratio=None,
    python_version=None,
    free_threaded=None,
    gil_enabled=None,
    attachable=False,
    reason="it may not be read",
)


def test_rows_and_reasons() -> None:
    lines = list(table([FREE, REFUSED], None))

    assert lines == [
        " PID  PYTHON  BUILD          GIL  THREADS  CPU %  USER  COMMAND",
        "4711  3.14.0  free-threaded  off       65    399  ann   python3.14t app.py",
        "  12  ?       -              -          ?      ?  ?     evil\\x1b[2J\\x0apython",
        "",
        "Cannot be attached to:",
        "  12: it may not be read",
    ]


def test_the_command_is_cut_to_the_terminal_but_never_away() -> None:
    for width in (20, 60, 75):
        row = list(table([FREE], width))[1]
        assert len(row) <= max(width, 69)
        assert "python3.14t" in row
