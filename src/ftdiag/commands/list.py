"""`ftdiag list`: the Python processes here, and which of them ftdiag can look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import examples
from ftdiag.datatypes import asdict

if TYPE_CHECKING:
    from ftdiag.commands.processes import PythonProcess

SCHEMA: Final = "ftdiag-list/1"
HEADINGS: Final = ("PID", "PYTHON", "BUILD", "GIL", "THREADS", "CPU %", "USER", "COMMAND")
MIN_COMMAND_WIDTH: Final = 12


@click.command(
    short_help="Show the Python processes here.",
    epilog=examples(
        ("ftdiag list", ""),
        ("ftdiag list --format json | jq '.processes[] | select(.free_threaded)'", ""),
    ),
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(form: str) -> None:
    """Show the Python processes here.

    Processes that cannot be attached to are listed too, with the reason behind the table.
    """
    from ftdiag.commands.processes import python_processes

    terminal.require_output()
    processes = python_processes()
    if form == "json":
        terminal.put_json({"schema": SCHEMA, "processes": [asdict(process) for process in processes]})
        return
    if not processes:
        terminal.note("There are no Python processes that you may see here.")
        terminal.note("  ftdiag run -- python script.py   starts one")
        return
    terminal.put_lines(table(processes, terminal.width_of_table(), ascii_only=terminal.ascii_only()))


def table(
    processes: Sequence[PythonProcess], width: int | None, *, ascii_only: bool = False
) -> Iterator[str]:
    """Lines of the table, then what cannot be attached to and why. `width` None: nothing is cut."""
    from ftdiag.reports.escaping import visible

    rows = [_cells(process, ascii_only) for process in processes]
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS) - 1)]
    for row in [HEADINGS, *rows]:
        cells = [
            cell.rjust(size) if heading in ("PID", "THREADS", "CPU %") else cell.ljust(size)
            for heading, cell, size in zip(HEADINGS, row, widths, strict=False)
        ]
        line = "  ".join([*cells, row[-1]])
        if width is not None:
            line = line[: max(width, sum(widths) + 2 * len(widths) + MIN_COMMAND_WIDTH)]
        yield line.rstrip()
    refused: dict[str, list[str]] = {}
    for process in processes:
        if not process.attachable:
            reason = (process.reason or "unknown").replace(f"process {process.pid}", "it")
            refused.setdefault(reason, []).append(str(process.pid))
    helped = [str(process.pid) for process in processes if process.source == "py-spy"]
    if helped:
        yield ""
        yield f"Through py-spy, without locks, holders and what cores do: {', '.join(helped)}"
    told = [process for process in processes if process.remark is not None]
    if told:
        yield ""
        for process in told:
            yield f"{process.pid}: {visible(process.remark or '', ascii_only=ascii_only)}"
    if refused:
        yield ""
        yield "Cannot be attached to:"
        for reason, pids in refused.items():
            yield f"  {', '.join(pids)}: {visible(reason, ascii_only=ascii_only)}"


def _cells(process: PythonProcess, ascii_only: bool) -> tuple[str, ...]:
    from ftdiag.reports.escaping import visible

    build = {True: "free-threaded", False: "GIL", None: "?"}[process.free_threaded]
    gil = {True: "on", False: "off", None: "?"}[process.gil_enabled]
    if not process.attachable and process.free_threaded is None and process.reason:
        build = "-"
        gil = "-"
    return (
        str(process.pid),
        visible(process.python_version or "?", ascii_only=ascii_only),
        build,
        gil,
        "?" if process.threads is None else str(process.threads),
        "?" if process.cpu_ratio is None else f"{100 * process.cpu_ratio:.0f}",
        visible(process.user or "?", ascii_only=ascii_only),
        visible(process.command, ascii_only=ascii_only),
    )
