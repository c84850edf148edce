"""`ftdiag attach`: look at a running process, in the cockpit or as a report of a few seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import (
    FILE,
    duration_option,
    effort_options,
    examples,
    fail_on_option,
    format_option,
    pid_argument,
    source_options,
)
from ftdiag.commands.tracking import (
    MemoryTool,
    MemoryWish,
    agreed_plan,
    memory_options,
    memory_wish,
    track,
)
from ftdiag.errors import AttachError, FtdiagError, UsageError
from ftdiag.model import EndReason
from ftdiag.sampling.options import BURST_CORES, MAX_RATE_HZ, Effort

if TYPE_CHECKING:
    from ftdiag.launcher import SamplingEnd

REPORT_DURATION_S: Final = 5.0
"""How long a report looks when nothing is said: long enough for steady shares, short enough to wait for."""
BURST_DURATION_S: Final = 1.0
SIGNAL_STATUS: Final = 128
DEFAULT_EFFORT: Final = Effort()


@click.command(
    short_help="Look at a running process.",
    epilog=examples(
        ("ftdiag attach 4711", "in the cockpit"),
        ("ftdiag attach 4711 --children", "and its workers"),
        ("ftdiag attach 4711 --record app.ftdiag", "keep what was seen"),
        ("ftdiag attach 4711 --duration 10 --format text", "a report of 10 s"),
        ("ftdiag attach 4711 --burst --format text", "a second, looked at closely"),
        ("ftdiag attach 4711 --format json | jq .metrics", "for programs"),
        ("ftdiag attach 4711 --format text --memory", "then what allocates"),
        ("ftdiag attach 4711 --baseline good.ftdiag", "what changed since"),
    ),
)
@pid_argument
@click.option("--children", is_flag=True, help="Include all of its child processes: one row each.")
@effort_options
@click.option(
    "--burst",
    is_flag=True,
    help=f"One second, with as many samples as {BURST_CORES:g} core allows: for locks held for microseconds.",
)
@duration_option(
    f"How long to sample. Default: {REPORT_DURATION_S:g} s for a report, until you quit for the cockpit."
)
@click.option(
    "--record",
    type=FILE,
    metavar="FILE",
    help="Keep the whole recording in a new file. Without it the last 30 minutes (at most 300 MB) are"
    " kept until you leave.",
)
@format_option("when the time is over")
@source_options
@memory_options
@fail_on_option
@click.option(
    "--baseline",
    type=FILE,
    metavar="FILE",
    help="Show what differs from this recording, made when all was well.",
)
def command(
    pid: int,
    children: bool,
    effort: Effort,
    burst: bool,
    duration_s: float | None,
    record: Path | None,
    asked_format: str | None,
    source: str,
    blocking: bool,
    memory: bool,
    memory_duration_s: float | None,
    yes: bool,
    fail_on: str | None,
    baseline: Path | None,
) -> int:
    """Look at the running process PID.

    Ctrl-C ends a report early; what was seen until then is reported.
    """
    if children:
        from ftdiag.commands.family import attach_family

        if burst or memory or record is not None:
            raise UsageError(
                "--burst, --memory and --record are about one process",
                f"ftdiag watch --children {pid}   keeps recordings of all of them",
            )
        return attach_family(pid, asked_format, duration_s, effort, fail_on)
    if burst:
        effort = Effort(MAX_RATE_HZ, effort.native_rate_hz, effort.budget_cores or BURST_CORES, burst=True)
        duration_s = duration_s or BURST_DURATION_S
    return attach(
        pid,
        effort,
        duration_s,
        record,
        asked_format,
        fail_on,
        source=source,
        blocking=blocking,
        memory=memory_wish(memory, memory_duration_s, yes),
        baseline=baseline,
    )


def attach(
    pid: int,
    effort: Effort = DEFAULT_EFFORT,
    duration_s: float | None = None,
    record: Path | None = None,
    asked_format: str | None = None,
    fail_on: str | None = None,
    *,
    source: str = "auto",
    blocking: bool = False,
    memory: MemoryWish | None = None,
    baseline: Path | None = None,
) -> int:
    """Look at a process until the end; the exit status."""
    from ftdiag.commands import viewing
    from ftdiag.commands.first_sight import first_sight
    from ftdiag.commands.sampling import check_is_process, sampling

    form = viewing.chosen_format(asked_format)
    if form != "tui" and duration_s is None:
        duration_s = REPORT_DURATION_S
    plan = None if memory is None else agreed_plan(pid, memory)
    there = os.path.isdir(f"/proc/{pid}")  # else there will be one line, and no cockpit
    with (
        first_sight(form if there else "", f"looking at process {pid}") as sight,
        sampling(
            pid, effort=effort, duration_s=duration_s, record=record, source=source, blocking=blocking
        ) as work,
    ):
        check_is_process(pid)
        early: BaseException | None = None
        try:
            viewing.load(form)
            work.wait_until_started()
        except (KeyboardInterrupt, terminal.Terminated) as came:
            # The sampler may be ahead of us: what it has seen is reported all the same.
            if form == "tui" or not work.has_seen():
                raise
            early = came
        from ftdiag.recording.reader import Recording
        from ftdiag.session import Session

        good = None
        if baseline is not None:
            from ftdiag.commands.baseline import Baseline

            good = Baseline(baseline)
        failure: FtdiagError | None = None
        if form == "tui":
            with work.summed_up():
                with Recording.open(work.path) as recording, MemoryTool(pid, work.path) as tool:
                    if plan is not None and memory is not None:
                        tool.attach_later(memory.duration_s, plan)
                    status = viewing.show_cockpit(
                        Session(recording),
                        work.sampler,
                        fail_on=fail_on,
                        memory=tool,
                        sight=sight,
                        baseline=good,
                    )
                try:
                    work.sampler.stop()
                except FtdiagError as error:
                    failure = work.explained(error)
            work.say_notes()
        else:
            length = duration_s or 0.0
            number = 0
            end: SamplingEnd | None = None
            try:
                end, number = work.wait(
                    lambda passed: f"looking at process {pid}: {min(passed, length):.0f} of {length:g} s",
                    early,
                )
            except FtdiagError as error:
                failure = work.explained(error)
            if plan is not None and memory is not None and not number and failure is None:
                # The look is over: its figures are those of the program alone.
                try:
                    number = track(plan, memory.duration_s, work.path)
                except FtdiagError as error:
                    failure = error
            with Recording.open(work.path) as recording:
                if len(recording) == 0:
                    raise failure or nothing_seen(pid, recording.end.detail if recording.end else None)
                session = Session(recording)
                snapshot = session.with_predictions(session.snapshot())
                comparison = None if good is None else good.comparison(session)
                status = viewing.print_report(session, snapshot, form, fail_on, comparison)
            if number:
                status = SIGNAL_STATUS + number
                terminal.note("interrupted: the report covers what was seen until then")
            elif form == "json" and end is not None and end.reason is not EndReason.DURATION:
                terminal.note(f"sampling ended early: {end.detail}")
        if failure is not None:
            raise failure
    if record is not None:
        terminal.note(f"recorded in {record}; ftdiag open {record}   shows it again")
    return status


def nothing_seen(pid: int, detail: str | None) -> AttachError:
    """The error when a process was attached to, but ended before the first look was over."""
    return AttachError(
        f"nothing was seen of process {pid}: {detail or 'it was not looked at long enough'}",
        "ftdiag run -- python script.py   looks at a program from its beginning",
    )
