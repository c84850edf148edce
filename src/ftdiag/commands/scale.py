"""`ftdiag scale`: run a program with 1, 2, 4 ... threads, and say where it stops to scale and why."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import FILE, Number, examples
from ftdiag.errors import FtdiagError, UsageError

if TYPE_CHECKING:
    from ftdiag.scaling.results import Sweep
    from ftdiag.scaling.settings import Setting
    from ftdiag.scaling.throughput import Reading

DEFAULT_REPEATS: Final = 3
DEFAULT_RATE_HZ: Final = 10.0
"""Samples per second of each run: enough for the shares of some rounds of some seconds each."""
DEFAULT_TIMEOUT_S: Final = 600.0
FAILED_STATUS: Final = 1
LONGEST_S: Final = 1e6


@click.command(
    short_help="Measure how a program scales with its threads.",
    epilog=examples(
        ("ftdiag scale --threads 1,2,4 -- python b.py --threads {threads}", ""),
        ("ftdiag scale --pattern '([0-9.]+) req/s' -- ./b {threads}", "its number"),
        ("ftdiag scale --layouts 1x8,2x4 -- ./serve -w {processes}", ""),
        ("ftdiag scale --pythons 3.14t,3.14 -- python b.py {threads}", ""),
        ("ftdiag scale --fail-below 0.7@4 -- python b.py {threads}", "for CI"),
        ("ftdiag scale --resume sweep.ftscale", "goes on with one"),
    ),
)
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--threads", metavar="LIST", help="Numbers of threads: 1,2,4,8 or 1-8. Default: 1,2,4 ... cores."
)
@click.option("--layouts", metavar="LIST", help="Processes x threads instead: 1x8,2x4,4x2,8x1.")
@click.option("--pythons", metavar="LIST", help="The same on each of these: 3.13t,3.14t,3.14 or paths.")
@click.option(
    "--repeat",
    "repeats",
    type=click.IntRange(1, 1000),
    default=DEFAULT_REPEATS,
    show_default=True,
    help="Rounds; each runs every setting once, in an order of its own.",
)
@click.option(
    "--warm-up",
    "warm_ups",
    type=click.IntRange(0, 1000),
    default=1,
    show_default=True,
    help="Warm-up runs, which do not count.",
)
@click.option("--pattern", metavar="REGEX", help="The throughput is the group of this in the output.")
@click.option(
    "--take",
    type=click.Choice(["only", "first", "last", "mean", "sum", "max"]),
    default="only",
    show_default=True,
    help="Which number, where --pattern matches several.",
)
@click.option(
    "--counter", type=FILE, metavar="FILE", help="The throughput is the growth of the number in FILE."
)
@click.option(
    "--items",
    type=Number("number", 0.0, 1e18, above=True),
    metavar="N",
    help="Else it is N over the time that the job takes; 1 if nothing is said.",
)
@click.option("--per-thread", is_flag=True, help="The job does its work (--items) in every thread.")
@click.option("--latency", metavar="REGEX", help="The latency in ms is the group of this in the output.")
@click.option(
    "--skip",
    "skip_s",
    type=Number("seconds", 0.0, LONGEST_S),
    default=0.0,
    metavar="SECONDS",
    help="Leave out the beginning of each run, for --counter and causes.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Number("seconds", 0.0, LONGEST_S, above=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="A run that takes longer is ended, and failed.",
)
@click.option("--keep-going", is_flag=True, help="Leave out runs that fail, instead of ending.")
@click.option(
    "--cores", metavar="LIST", help="Run on these cores only: 0-3 or 0,2. ftdiag stays on them, too."
)
@click.option(
    "--no-record", is_flag=True, help="Only measure: nothing is looked at, and no causes are named."
)
@click.option(
    "--rate",
    "rate_hz",
    type=Number("hz", 1.0, 1000.0),
    default=DEFAULT_RATE_HZ,
    show_default=True,
    metavar="HZ",
    help="Samples per second of each run.",
)
@click.option("-o", "--output", "path", type=FILE, metavar="FILE", help="The results file; a new one.")
@click.option("--resume", type=FILE, metavar="FILE", help="Make the runs that this results file lacks.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "html", "markdown"]),
    default="text",
    show_default=True,
    help="What is printed when all is done.",
)
@click.option(
    "--plot", "plots", type=FILE, multiple=True, metavar="FILE", help="Draw it: a new .svg or .png."
)
@click.option("--summary", type=FILE, metavar="FILE", help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
@click.option("--junit", type=FILE, metavar="FILE", help="Write JUnit XML: a test for each --fail-below.")
@click.option(
    "--fail-below",
    "gates",
    multiple=True,
    metavar="RATIO@N",
    help="Status 1 if the efficiency with N threads is below this: 0.7@4.",
)
def command(
    program: tuple[str, ...],
    threads: str | None,
    layouts: str | None,
    pythons: str | None,
    repeats: int,
    warm_ups: int,
    pattern: str | None,
    take: str,
    counter: Path | None,
    items: float | None,
    per_thread: bool,
    latency: str | None,
    skip_s: float,
    timeout_s: float,
    keep_going: bool,
    cores: str | None,
    no_record: bool,
    rate_hz: float,
    path: Path | None,
    resume: Path | None,
    form: str,
    plots: tuple[Path, ...],
    summary: Path | None,
    junit: Path | None,
    gates: tuple[str, ...],
) -> int:
    """Run PROGRAM (after --) with several numbers of threads and measure it.

    {threads} in it stands for the number, {processes} and {python} likewise. Each run is recorded. Results
    are kept in a file that `ftdiag open` shows.
    """
    from ftdiag.commands import outputs, sweeping
    from ftdiag.scaling import gates as gate

    terminal.require_output()
    outputs.check(plots, junit)
    asked_gates = gate.asked(gates)
    if resume is not None:
        if program:
            raise UsageError(
                "--resume takes the program from its file, and there is one after --",
                f"ftdiag scale --resume {resume}",
            )
        sweep = sweeping.read_sweep(resume)
        target = resume
        if cores is not None:
            _stay_on(cores)
    else:
        if not program:
            raise UsageError(
                "there is no program to run",
                "ftdiag scale --threads 1,2,4 -- python bench.py --threads {threads}   is the form",
            )
        if cores is not None:
            _stay_on(cores)
        sweep = _asked_sweep(
            program, threads, layouts, pythons, pattern, take, counter, items, per_thread, latency
        )
        sweep = _with_limits(sweep, repeats, warm_ups, skip_s, timeout_s, not no_record, rate_hz)
        target = path or Path(time.strftime("scale-%Y%m%d-%H%M%S.ftscale"))
    gate.check(asked_gates, sweep)
    if sweep.recorded:
        from ftdiag.commands import viewing

        # Before the runs, which are not to share the cores with imports.
        viewing.load("text")
    if resume is None:
        sweeping.write_sweep(target, sweep, new=True)
    work = sweeping.Sweeping(sweep, target, keep_going=keep_going)
    try:
        sweep = work.go()
    except (KeyboardInterrupt, terminal.Terminated, FtdiagError):
        _say_how_to_go_on(work.sweep, target)
        raise
    outputs.put_sweep(sweep, form, asked_gates, plots=plots, summary=summary, junit=junit)
    terminal.note(f"results in {target}; ftdiag open {target}   shows them")
    failed = [result for result in gate.judged(asked_gates, sweep) if not result.passed]
    for result in failed:
        terminal.note(f"failed: {result.words}")
    return FAILED_STATUS if failed else 0


def _asked_sweep(
    program: tuple[str, ...],
    threads: str | None,
    layouts: str | None,
    pythons: str | None,
    pattern: str | None,
    take: str,
    counter: Path | None,
    items: float | None,
    per_thread: bool,
    latency: str | None,
) -> Sweep:
    from ftdiag.commands.pythons import interpreters_of, named_pythons
    from ftdiag.scaling import settings
    from ftdiag.scaling.results import Sweep
    from ftdiag.scaling.settings import Setting
    from ftdiag.sources.kernel.procfs import capacity

    cores, reason, _ = capacity(os.getpid())
    reading = _reading(pattern, take, counter, items, per_thread, latency)
    if layouts is not None:
        if threads is not None or pythons is not None:
            raise UsageError(
                "--layouts says how many threads there are: it takes neither --threads nor --pythons",
                "ftdiag scale --layouts 1x4,2x2,4x1 -- ./serve -w {processes} -t {threads}",
            )
        points: tuple[Setting, ...] = settings.layouts(layouts)
        kind = "layouts"
    else:
        numbers = settings.thread_numbers(threads) if threads is not None else _up_to(int(cores))
        points = tuple(Setting(number) for number in numbers)
        kind = "threads"
    interpreters: dict[str, str] = {}
    versions: dict[str, str] = {}
    if pythons is not None:
        found = named_pythons(pythons)
        interpreters, versions = interpreters_of(found)
        points = tuple(Setting(each.threads, 1, one.name) for one in found for each in points)
        kind = "pythons"
    if len(points) > settings.MAX_SETTINGS:
        raise UsageError(
            f"that would be {len(points)} settings; at most {settings.MAX_SETTINGS} are run",
            "--threads 1,2,4,8   names fewer",
        )
    settings.check_command(program, points)
    return Sweep(
        command=program,
        settings=points,
        repeats=1,
        seed=time.time_ns() & 0xFFFF_FFFF,
        reading=reading,
        capacity_cores=cores,
        capacity_reason=reason,
        host=platform.node(),
        started_unix_ns=time.time_ns(),
        recorded=True,
        rate_hz=DEFAULT_RATE_HZ,
        timeout_s=DEFAULT_TIMEOUT_S,
        skip_s=0.0,
        warm_ups=1,
        kind=kind,
        interpreters=interpreters,
        versions=versions,
    )


def _with_limits(
    sweep: Sweep,
    repeats: int,
    warm_ups: int,
    skip_s: float,
    timeout_s: float,
    recorded: bool,
    rate_hz: float,
) -> Sweep:
    from ftdiag.datatypes import replace

    return replace(
        sweep,
        repeats=repeats,
        warm_ups=warm_ups,
        skip_s=skip_s,
        timeout_s=timeout_s,
        recorded=recorded,
        rate_hz=rate_hz,
    )


def _reading(
    pattern: str | None,
    take: str,
    counter: Path | None,
    items: float | None,
    per_thread: bool,
    latency: str | None,
) -> Reading:
    from ftdiag.scaling.throughput import Reading, check_pattern

    if pattern is not None:
        check_pattern(pattern, "--pattern")
    if latency is not None:
        check_pattern(latency, "--latency")
    given = [
        name
        for name, there in (
            ("--pattern", pattern is not None),
            ("--counter", counter is not None),
            ("--items or --per-thread", items is not None or per_thread),
        )
        if there
    ]
    if len(given) > 1:
        raise UsageError(
            f"{' and '.join(given)} are ways to say the throughput: one of them is enough",
            "--pattern reads the output, --counter a file; without both it is work over wall time",
        )
    way = "pattern" if pattern is not None else "counter" if counter is not None else "wall"
    return Reading(
        way=way,
        pattern=pattern or "",
        take=take,
        items=1.0 if items is None else items,
        per_thread=per_thread,
        counter="" if counter is None else os.path.abspath(counter),
        latency=latency or "",
    )


def _up_to(cores: int) -> tuple[int, ...]:
    """1, 2, 4 ... and the number of cores."""
    numbers = {1, max(1, cores)}
    number = 2
    while number < cores:
        numbers.add(number)
        number *= 2
    return tuple(sorted(numbers))


def _stay_on(cores: str) -> None:
    """Keep this process and what it starts on these cores. Raises UsageError."""
    hint = "--cores 0-3   or --cores 0,2   is the form; taskset -pc $$   shows those that may be used"
    wanted: set[int] = set()
    for part in cores.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in ends):
            raise UsageError(f"--cores: {part.strip()!r} is not a core, and no range of cores", hint)
        wanted.update(range(int(ends[0]), int(ends[1]) + 1))
    allowed = os.sched_getaffinity(0)
    if not wanted or wanted - allowed:
        there = ", ".join(map(str, sorted(allowed)[:64]))
        raise UsageError(f"--cores {cores} cannot be had: there are {there}", hint)
    os.sched_setaffinity(0, wanted)


def _say_how_to_go_on(sweep: Sweep, target: Path) -> None:
    done = sum(1 for run in sweep.runs if run.throughput is not None)
    whole = len(sweep.settings) * sweep.repeats
    if done:
        terminal.note(f"{done} of {whole} runs are in {target}; ftdiag scale --resume {target}   goes on")
    else:
        import shutil

        from ftdiag.commands.sweeping import runs_folder

        # Nothing came of it: nothing is left behind.
        target.unlink(missing_ok=True)
        shutil.rmtree(runs_folder(target), ignore_errors=True)
