"""`ftdiag whatif`: what a change would bring, by a replay of a recording with that change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ftdiag.commands.parameters import FILE, BadValue, Number, examples
from ftdiag.commands.report import SECONDS, bounds_ns
from ftdiag.errors import RecordingError, UsageError
from ftdiag.model import Change, ChangeKind

if TYPE_CHECKING:
    _ChangeType = click.ParamType[Change]
else:
    _ChangeType = click.ParamType

MAX_THREADS: Final = 4096
MAX_CORES: Final = 4096
THREADS: Final = Number("threads", 1.0, MAX_THREADS)
CORES: Final = Number("cores", 0.0, MAX_CORES, above=True)
MAX_FACTOR: Final = 1000.0
FACTORS: Final = {"gone": 0.0, "half": 0.5}
HINT: Final = "say NAME=gone, NAME=half, or what is left of its time: NAME=0.3x"


def factor_of(text: str) -> float | None:
    """What is left of a time: "gone", "half", "0.3x"; `None` for anything else."""
    word = text.strip().lower()
    if word in FACTORS:
        return FACTORS[word]
    try:
        factor = float(word.removesuffix("x"))
    except ValueError:
        return None
    return factor if math.isfinite(factor) and 0.0 <= factor <= MAX_FACTOR else None


class ChangeOption(_ChangeType):
    """ "NAME=gone|half|0.3x"; where a name is not needed the factor alone, or nothing after "="."""

    name = "change"

    def __init__(self, kind: ChangeKind, *, named: bool = True) -> None:
        self._kind = kind
        self._named = named

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Change:
        """A change. Raises BadValue."""
        if isinstance(value, Change):
            return value
        name, separator, factor_text = str(value).rpartition("=")
        if not separator and not self._named:
            name, factor_text = "", str(value)
        factor = factor_of(factor_text)
        if factor is None or (self._named and not name.strip()):
            error = BadValue(f"{str(value)!r} does not say what is left", ctx=ctx, param=param)
            error.hint = (
                HINT if self._named else f"say gone, half, or what is left: 0.3x{_or_place(self._kind)}"
            )
            raise error
        return Change(self._kind, name.strip(), factor)


def _or_place(kind: ChangeKind) -> str:
    return "; or for a line: app.py:10=gone" if kind in (ChangeKind.CONTENTION, ChangeKind.ALLOCATION) else ""


@click.command(
    short_help="Say what a change would bring.",
    epilog=examples(
        ("ftdiag whatif app.ftdiag", "every finding's cause gone"),
        ("ftdiag whatif app.ftdiag --lock self._lock=half", ""),
        ("ftdiag whatif app.ftdiag --threads 16 --cores 8", ""),
        ("ftdiag whatif app.ftdiag --line app.py:10=0.5x", "a line, with what it calls"),
        ("ftdiag whatif app.ftdiag --io 5432=half --format json", ""),
    ),
)
@click.argument("file", type=FILE)
@click.option(
    "--lock",
    "locks",
    type=ChangeOption(ChangeKind.LOCK),
    multiple=True,
    metavar="NAME=LEFT",
    help="A lock: gone, half, 0.3x.",
)
@click.option(
    "--line",
    "lines",
    type=ChangeOption(ChangeKind.LINE),
    multiple=True,
    metavar="FILE:N=LEFT",
    help="A line, or a function, and what it calls.",
)
@click.option(
    "--io",
    "peers",
    type=ChangeOption(ChangeKind.IO),
    multiple=True,
    metavar="PEER=LEFT",
    help="I/O, by its peer.",
)
@click.option(
    "--contention",
    "contended",
    type=ChangeOption(ChangeKind.CONTENTION, named=False),
    multiple=True,
    metavar="LEFT",
    help="Contended memory and objects.",
)
@click.option(
    "--allocation",
    "allocating",
    type=ChangeOption(ChangeKind.ALLOCATION, named=False),
    multiple=True,
    metavar="LEFT",
    help="Time in the allocator.",
)
@click.option(
    "--gc", type=ChangeOption(ChangeKind.COLLECTOR, named=False), metavar="LEFT", help="The collector."
)
@click.option(
    "--stops", type=ChangeOption(ChangeKind.STOPS, named=False), metavar="LEFT", help="Stop-the-world pauses."
)
@click.option("--gil", type=ChangeOption(ChangeKind.GIL, named=False), metavar="LEFT", help="The GIL.")
@click.option("--balance", is_flag=True, help="All work shared evenly.")
@click.option("--threads", type=THREADS, metavar="N", help="Another number of working threads.")
@click.option("--cores", type=CORES, metavar="K", help="Another number of cores.")
@click.option("--from", "from_s", type=SECONDS, metavar="SECONDS", help="Begin here, counted from its start.")
@click.option("--to", "to_s", type=SECONDS, metavar="SECONDS", help="End here, counted from its start.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    file: Path,
    locks: tuple[Change, ...],
    lines: tuple[Change, ...],
    peers: tuple[Change, ...],
    contended: tuple[Change, ...],
    allocating: tuple[Change, ...],
    gc: Change | None,
    stops: Change | None,
    gil: Change | None,
    balance: bool,
    threads: float | None,
    cores: float | None,
    from_s: float | None,
    to_s: float | None,
    form: str,
) -> int:
    """Replay the recording FILE with changes, and say how much more work per second that gives.

    All changes are made at once; without any, each finding's cause is removed in turn.
    """
    from ftdiag.commands import terminal, viewing
    from ftdiag.reports.escaping import visible
    from ftdiag.reports.predictions import prediction_values
    from ftdiag.wording.predictions import change_words, gain_words, prediction_sentences

    terminal.require_output()
    viewing.load("text")
    changes = [*locks, *lines, *peers, *contended, *allocating, *(one for one in (gc, stops, gil) if one)]
    if balance:
        changes.append(Change(ChangeKind.BALANCE))
    if threads is not None:
        changes.append(Change(ChangeKind.THREADS, number=float(int(threads))))
    if cores is not None:
        changes.append(Change(ChangeKind.CORES, number=cores))

    def shown(text: str) -> str:
        return visible(text, ascii_only=terminal.ascii_only())

    with viewing.opened(file) as session:
        span = session.recording.span_ns()
        if span is None:
            raise RecordingError(
                f"{file} has nothing in it yet", "ftdiag record PID -o FILE   records at least a second"
            )
        t0_ns, t1_ns = bounds_ns(span, from_s, to_s)
        if changes:
            try:
                prediction = session.predict(changes, t0_ns, t1_ns)
            except ValueError as error:
                raise UsageError(str(error), f"ftdiag report {file}   names locks, lines and peers") from None
            if form == "json":
                terminal.put_json(prediction_values(prediction, lambda text: text))
            else:
                terminal.put_lines(prediction_sentences(prediction, shown))
        else:
            snapshot = session.with_predictions(session.snapshot(t0_ns, t1_ns))
            told = [finding for finding in snapshot.findings if finding.prediction is not None]
            if form == "json":
                values = [
                    {"rule": one.rule_id, "prediction": prediction_values(one.prediction, lambda text: text)}
                    for one in told
                ]
                terminal.put_json({"findings": values})
            elif not told:
                terminal.put(
                    "no finding costs cores: there is no cause to take away; --help lists other changes"
                )
            else:
                for one in told:
                    assert one.prediction is not None
                    what = "; ".join(change_words(change, shown) for change in one.prediction.changes)
                    terminal.put(
                        f"{one.rule_id}{f' ({what})' if what else ''}: {shown(gain_words(one.prediction))}"
                    )
        viewing.warn_of_damage(session.recording)
    return 0
