"""`ftdiag report`: the report of a recording, for people or programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ftdiag.commands.family import one_or_many
from ftdiag.commands.parameters import Number, examples, fail_on_option, memory_file_option
from ftdiag.errors import RecordingError, UsageError

if TYPE_CHECKING:
    from ftdiag.model import Snapshot

MAX_SECONDS: Final = 1e9
SECONDS: Final = Number("seconds", 0.0, MAX_SECONDS)


@click.command(
    short_help="Print the report of a recording.",
    epilog=examples(
        ("ftdiag report app.ftdiag", ""),
        ("ftdiag report worker-*.ftdiag", "of all of them together"),
        ("ftdiag report app.ftdiag --from 60 --to 90", "half a minute of it"),
        ("ftdiag report app.ftdiag --format json | jq .hot", "for programs"),
        ("ftdiag report app.ftdiag --format html > a.html", "to hand on"),
        ("ftdiag report app.ftdiag --memory capture.bin --sort allocations", ""),
        ("ftdiag report app.ftdiag --fail-on critical", "status 1 if there is one"),
    ),
)
@one_or_many
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html", "markdown"]),
    default="text",
    show_default=True,
)
@click.option("--from", "from_s", type=SECONDS, metavar="SECONDS", help="Begin here, counted from its start.")
@click.option("--to", "to_s", type=SECONDS, metavar="SECONDS", help="End here, counted from its start.")
@click.option(
    "--sort",
    type=click.Choice(["time", "allocations"]),
    default="time",
    show_default=True,
    help="Which hot lines come first.",
)
@memory_file_option
@fail_on_option
def command(
    file: Path,
    form: str,
    from_s: float | None,
    to_s: float | None,
    sort: str,
    memory: Path | None,
    fail_on: str | None,
) -> int:
    """Print the report of the recording FILE, or of the results of `ftdiag scale`."""
    from ftdiag.commands import terminal, viewing
    from ftdiag.commands.sides import is_sweep

    terminal.require_output()
    if is_sweep(file):
        from ftdiag.commands.sweep_view import print_sweep

        return print_sweep(file, form)
    if form == "markdown":
        raise UsageError("Markdown is for results of ftdiag scale", "--format text, json or html")
    viewing.load(form)
    with viewing.opened(file, memory) as session:
        span = session.recording.span_ns()
        if span is None:
            raise RecordingError(
                f"{file} has nothing in it yet", "ftdiag record PID -o FILE   records at least a second"
            )
        t0_ns, t1_ns = bounds_ns(span, from_s, to_s)
        viewing.read(session, t0_ns, t1_ns)
        snapshot = session.with_predictions(session.snapshot(t0_ns, t1_ns))
        if sort == "allocations":
            snapshot = sorted_by_allocations(snapshot, file)
        status = viewing.print_report(session, snapshot, form, fail_on)
        viewing.warn_of_damage(session.recording)
    return status


def sorted_by_allocations(snapshot: Snapshot, file: Path) -> Snapshot:
    """The lines that allocate most first. Raises UsageError where nothing is known of allocations."""
    from ftdiag.analysis.allocations import by_allocations

    if snapshot.allocations is None:
        raise UsageError(
            f"--sort allocations needs a capture of memray, and {file} has none",
            f"ftdiag report {file} --sort allocations --memory CAPTURE   joins one;"
            " ftdiag attach PID --memory makes one",
        )
    return by_allocations(snapshot)


def bounds_ns(
    span_ns: tuple[int, int], from_s: float | None, to_s: float | None
) -> tuple[int | None, int | None]:
    """The range on the recording's clock. Raises UsageError if nothing lies in it."""
    begin_ns, end_ns = span_ns
    length_s = (end_ns - begin_ns) / 1e9
    if from_s is not None and from_s >= length_s:
        raise UsageError(
            f"--from {from_s:g} is behind the end of the recording, which is {length_s:.1f} s long",
            "ftdiag report FILE   without --from takes all of it",
        )
    if to_s is not None and to_s <= (from_s or 0.0):
        raise UsageError(
            f"--to {to_s:g} is not behind --from {from_s or 0:g}: there is nothing between them",
            "ftdiag report FILE --from 0 --to 10   takes the first ten seconds",
        )
    return (
        None if from_s is None else begin_ns + int(from_s * 1e9),
        None if to_s is None else begin_ns + int(to_s * 1e9),
    )
