"""Many processes at once: recordings put together, and a process with all below it looked at.

In: recordings, or a process id. Out: one report: a row a process, what they use together, who is unlike the
others.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import FILE
from ftdiag.errors import FtdiagError, RecordingError, UsageError
from ftdiag.sampling.options import DEFAULT_NATIVE_RATE_HZ, DEFAULT_RATE_HZ, Effort

if TYPE_CHECKING:
    from ftdiag.analysis.fleet import Fleet
    from ftdiag.watching.following import Following
    from ftdiag.watching.recorder import Recorder

MOST: Final = 64
STEP_S: Final = 0.1
REPORT_DURATION_S: Final = 5.0
RING_BYTES: Final = 64_000_000
"""Of each process; half an hour of many threads."""
RING_S: Final = 1800.0
FINDINGS_STATUS: Final = 1
FORMATS: Final = ("text", "json")
LOW_RATE_HZ: Final = 5.0
LOW_NATIVE_HZ: Final = 19.0
BUDGET_CORES: Final = 0.01
"""Of one process. Twenty samplers at the rate of one would take a core."""

LOOK_SHARE: Final = 0.05
"""Of a core, for looking at all processes while they are shown."""


def one_or_many(command: Callable[..., int]) -> Callable[..., int]:
    """FILE... of a command about one `file`; of several there is one report of all of them."""

    @functools.wraps(command)
    def of_all(files: tuple[Path, ...], **asked: Any) -> int:
        if len(files) == 1:
            return command(file=files[0], **asked)
        if any(asked[name] is not None for name in ("from_s", "to_s", "memory")):
            raise UsageError(
                "--from, --to and --memory are about one recording",
                "ftdiag report FILE --from 60   takes a part of one of them",
            )
        return report_files(files, asked["form"], asked["fail_on"])

    return click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")(of_all)


def report_files(files: Sequence[Path], form: str, fail_on: str | None) -> int:
    """The report of several recordings; the exit status."""
    from ftdiag.analysis.fleet import Member, fleet_of
    from ftdiag.commands import viewing

    terminal.require_output()
    _check_format(form)
    members = []
    line = terminal.Progress()
    for number, file in enumerate(files, 1):
        line.show(f"reading {number} of {len(files)}: {file}")
        with viewing.opened(file) as session:
            if session.recording.span_ns() is None:
                line.clear()
                terminal.note(f"{file} has nothing in it yet; it is left out")
                continue
            members.append(Member(file.name, session.snapshot()))
    line.clear()
    if not members:
        raise RecordingError("none of the files has anything in it", "ftdiag record PID -o FILE")
    return _print(fleet_of(members), form, fail_on)


def attach_family(
    pid: int, form: str | None, duration_s: float | None, effort: Effort, fail_on: str | None
) -> int:
    """Look at a process and all below it: the screen of all while it goes on, then the report; the exit
    status.
    """
    from ftdiag.commands.sampling import check_is_process
    from ftdiag.commands.terminal import Terminated
    from ftdiag.scratch import private_directory
    from ftdiag.watching.following import Following
    from ftdiag.watching.recorder import Recorder
    from ftdiag.watching.store import Limits, Store
    from ftdiag.watching.targets import Wanted
    from ftdiag.watching.watched import Plan

    _check_format(form or "text")
    check_is_process(pid)
    # What was not asked for is what many processes can afford.
    rate_hz = LOW_RATE_HZ if effort.rate_hz == DEFAULT_RATE_HZ else effort.rate_hz
    native_hz = LOW_NATIVE_HZ if effort.native_rate_hz == DEFAULT_NATIVE_RATE_HZ else effort.native_rate_hz
    budget = BUDGET_CORES if effort.budget_cores is None else effort.budget_cores
    live = form is None and terminal.cockpit_possible()
    limit_s = duration_s if duration_s is not None or live else REPORT_DURATION_S
    plan = Plan(rate_hz, rate_hz, native_hz, budget, RING_S, 1.0, RING_BYTES, (), RING_S)
    with ExitStack() as stack:
        store = Store(stack.enter_context(private_directory()), Limits(MOST * RING_BYTES, RING_S))
        following = Following()
        recorder = Recorder(
            Wanted(parent=pid),
            plan,
            store,
            following.say if live else terminal.note,
            most=MOST,
            look_every_s=1.0,
            look_share=LOOK_SHARE,
            with_ready=False,
        )
        stack.callback(recorder.close)
        status = 0
        try:
            if live:
                _show(following, recorder, limit_s)
            else:
                _follow(following, recorder, limit_s)
        except KeyboardInterrupt:
            status = 0 if live else 130
        except Terminated as termination:
            status = 128 + termination.number
        recorder.look_now()
        following.take(recorder)
        for note in following.take_notes():
            terminal.note(note)
        found = following.fleet()
        if not found.members:
            raise UsageError(
                f"nothing was seen of process {pid} and what is below it", "ftdiag list   shows processes"
            )
        return status or _print(found, form or "text", fail_on)


def _follow(following: Following, recorder: Recorder, limit_s: float | None) -> None:
    begin = time.monotonic()
    while limit_s is None or time.monotonic() - begin < limit_s:
        recorder.step()
        following.take(recorder)
        time.sleep(STEP_S)


def _show(following: Following, recorder: Recorder, limit_s: float | None) -> None:
    """All processes on the screen, and the cockpit of each that is chosen, until it is left."""
    from ftdiag.commands import viewing
    from ftdiag.tui.fleet import FleetApp

    viewing.load("tui")
    until = None if limit_s is None else time.monotonic() + limit_s

    def ends() -> bool:
        over = until is not None and time.monotonic() >= until
        return over or following.failure is not None

    chosen, words = None, ""
    with following.follow(recorder):
        while not ends():
            app = FleetApp(following.fleet, chosen=chosen, words=words, notes=following.take_notes, ends=ends)
            app.run()
            if app.ended_by is not None:
                raise terminal.Terminated(app.ended_by)
            if app.chosen is None:
                break
            chosen = app.chosen
            ring = following.ring(chosen)
            words = f"{chosen} has ended" if ring is None else _show_one(ring)
    if following.failure is not None:
        raise following.failure


def _show_one(ring: Path) -> str:
    """The cockpit on one of the processes; what went wrong, or ""."""
    from ftdiag.commands import viewing

    try:
        with viewing.opened(ring) as session:
            viewing.show_cockpit(session, file=ring, goes_on=True)
    except FtdiagError as error:
        return error.what
    return ""


def _check_format(form: str) -> None:
    if form not in FORMATS:
        raise UsageError(f"there is no report of many processes as {form}", "--format takes text or json")


def _print(fleet: Fleet, form: str, fail_on: str | None) -> int:
    from ftdiag.model import Severity
    from ftdiag.reports import fleet as report

    if form == "json":
        terminal.put_json(report.to_report(fleet))
    else:
        terminal.put_lines(report.render(fleet, ascii_only=terminal.ascii_only()))
    order = tuple(Severity)
    if fail_on is None or fleet.severity is None:
        return 0
    return FINDINGS_STATUS if order.index(fleet.severity) >= order.index(Severity(fail_on)) else 0
