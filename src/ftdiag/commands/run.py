"""`ftdiag run`: start a program and look at it from its beginning."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import (
    FILE,
    duration_option,
    effort_options,
    examples,
    fail_on_option,
    format_option,
    source_options,
)
from ftdiag.commands.tracking import (
    FIRST_LOOK_S,
    MemoryTool,
    MemoryWish,
    agree_to_memray,
    memory_options,
    memory_wish,
    track,
)
from ftdiag.errors import FtdiagError
from ftdiag.sampling.options import Effort

if TYPE_CHECKING:
    from ftdiag.commands.program import Program
    from ftdiag.commands.sampling import Sampling
    from ftdiag.launcher import SamplerProcess

CANNOT_ATTACH_STATUS: Final = 3
SI_USER: Final = 0
"""siginfo's si_code of kill(2); signals of the terminal's keys come from the kernel, with a code above 0."""
WAIT_S: Final = 0.5


@click.command(
    short_help="Start a program and look at it.",
    context_settings={"ignore_unknown_options": False},
    epilog=examples(
        ("ftdiag run -- python app.py --port 8000", ""),
        ("ftdiag run --record app.ftdiag --format text -- python3.14t -m pytest", ""),
        ("ftdiag run --format json --duration 10 -- ./serve > report.json", ""),
    ),
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
@effort_options
@duration_option("Look for so long; the program goes on. Without it: until the program ends.")
@click.option("--record", type=FILE, metavar="FILE", help="Keep the whole recording in a new file.")
@format_option("when the program has ended or the time is over")
@click.option(
    "--log", type=FILE, metavar="FILE", help="Where the program's output goes while the cockpit is shown."
)
@source_options
@memory_options
@fail_on_option
def command(
    program: tuple[str, ...],
    effort: Effort,
    duration_s: float | None,
    record: Path | None,
    asked_format: str | None,
    log: Path | None,
    source: str,
    blocking: bool,
    memory: bool,
    memory_duration_s: float | None,
    yes: bool,
    fail_on: str | None,
) -> int:
    """Start PROGRAM (after --) and look at it from its beginning.

    The program gets our standard input and the signals that are sent to us, and its exit status is ours.
    With --format json or html its standard output goes to standard error: standard output has the report
    alone.
    While the cockpit is shown its output goes to a file that is named at the end.
    """
    from ftdiag.commands import viewing
    from ftdiag.commands.sampling import check_can_record
    from ftdiag.launcher import SamplerProcess

    form = viewing.chosen_format(asked_format)
    wish = memory_wish(memory, memory_duration_s, yes)
    if wish is not None:
        # Before the program is there: it may need the terminal.
        agree_to_memray(wish)
        if duration_s is None and form != "tui":
            duration_s = FIRST_LOOK_S
    if record is not None:
        check_can_record(record)
    with ExitStack() as stack:
        sampler = stack.enter_context(SamplerProcess())
        sampler.spawn()
        look = _Look(sampler, effort, duration_s, record, fail_on, form)
        look.source, look.blocking, look.memory = source, blocking, wish
        if form == "tui":
            return _with_cockpit(stack, program, look, log)
        return _with_report(program, look, form)


class _Look:
    """What was asked for, and how it went."""

    def __init__(
        self,
        sampler: SamplerProcess,
        effort: Effort,
        duration_s: float | None,
        record: Path | None,
        fail_on: str | None,
        form: str,
    ) -> None:
        self.sampler = sampler
        self.form = form
        self.effort = effort
        self.duration_s = duration_s
        self.record = record
        self.fail_on = fail_on
        self.source = "auto"
        self.blocking = False
        self.memory: MemoryWish | None = None
        self.failed = False
        self.findings_status = 0

    @contextmanager
    def begun(self, program: Program) -> Iterator[Sampling]:
        from ftdiag.commands import viewing
        from ftdiag.commands.program import wait_until_python
        from ftdiag.commands.sampling import sampling

        wait_until_python(program, self.source)
        with sampling(
            program.pid,
            effort=self.effort,
            duration_s=self.duration_s,
            record=self.record,
            sampler=self.sampler,
            source=self.source,
            blocking=self.blocking,
        ) as work:
            viewing.load(self.form)
            work.wait_until_started()
            yield work

    def attach_memray(self, program: Program, work: Sampling, wait: Callable[[float], None]) -> None:
        """The look is over: attach memray as was agreed. Raises AttachError: it cannot be, and why."""
        from ftdiag.errors import AttachError
        from ftdiag.sources.tools.memray import outline, plan

        assert self.memory is not None
        if program.status is not None:
            raise AttachError(
                "memray was not attached: the program ended before the first look was over",
                "ftdiag run --duration 1 --memory -- ...   looks for a shorter time before",
            )
        track(plan(outline(program.pid)), self.memory.duration_s, work.path, wait)

    def fail(self, error: FtdiagError, program: Program) -> None:
        """Say what went wrong with looking; the program goes on."""
        self.failed = True
        terminal.complain(error.what, error.hint)
        if program.status is None:
            terminal.note(f"ftdiag: the program goes on without being looked at (process {program.pid})")

    def status(self, program_status: int) -> int:
        """Our exit status: the program's, unless it went well and the look did not."""
        if program_status:
            return program_status
        return CANNOT_ATTACH_STATUS if self.failed else self.findings_status


# --- a report ----------------------------------------------------------------------------------------


def _with_report(arguments: tuple[str, ...], look: _Look, form: str) -> int:
    from ftdiag.commands.program import start

    alone = form in ("json", "html") and sys.stderr is not None
    program = start(arguments, stdout=sys.stderr.fileno() if alone else None)
    with _ended_on_errors(program), _signals_passed_to(program) as wait:
        try:
            with look.begun(program) as work:
                from ftdiag.recording.reader import Recording
                from ftdiag.session import Session

                failure: FtdiagError | None = None
                try:
                    with work.summed_up():
                        while work.sampler.poll() is None:
                            wait(WAIT_S)
                        work.sampler.stop()
                    if look.memory is not None:
                        look.attach_memray(program, work, wait)
                except FtdiagError as error:
                    failure = work.explained(error)
                from ftdiag.commands import viewing
                from ftdiag.commands.attach import nothing_seen

                with Recording.open(work.path) as recording:
                    if len(recording) == 0:
                        raise failure or nothing_seen(
                            program.pid, recording.end.detail if recording.end else None
                        )
                    session = Session(recording)
                    snapshot = session.with_predictions(session.snapshot())
                    look.findings_status = viewing.print_report(session, snapshot, form, look.fail_on)
                    if sys.stdout is not None:
                        sys.stdout.flush()
                if failure is not None:
                    raise failure
        except FtdiagError as error:
            look.fail(error, program)
        while program.status is None:
            wait(WAIT_S)
    return look.status(program.status or 0)


@contextmanager
def _signals_passed_to(program: Program) -> Iterator[Callable[[float], None]]:
    """Yields a wait that ends early when a child ends, and passes signals on to the program."""
    from ftdiag.commands.program import FORWARDED

    waited = {*FORWARDED, signal.SIGCHLD}
    # Threads started from here on have them blocked as well, so that all are ours to take.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)

    def wait(timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while program.status is None:
            came = signal.sigtimedwait(waited, max(0.0, deadline - time.monotonic()))
            if came is None or came.si_signo == signal.SIGCHLD:
                return
            program.forward(came.si_signo, from_terminal=came.si_code > SI_USER)
        time.sleep(0.01)

    try:
        yield wait
    finally:
        # What came for a program that is gone is not for us.
        while signal.sigtimedwait(waited, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ended_on_errors(program: Program) -> Iterator[None]:
    """A mistake of ours, or Ctrl-C before signals are passed on, leaves no program behind."""
    try:
        yield
    except BaseException:
        program.end()
        raise


# --- the cockpit -------------------------------------------------------------------------------------


def _with_cockpit(stack: ExitStack, arguments: tuple[str, ...], look: _Look, log: Path | None) -> int:
    from ftdiag.commands.first_sight import first_sight
    from ftdiag.commands.program import start

    stream, path = _log_file(log)
    with stream:
        program = start(arguments, stdin=_nothing(stack), stdout=stream, stderr=stream, own_group=True)
    with _ended_on_errors(program):
        try:
            with (
                first_sight(look.form, f"looking at process {program.pid}") as sight,
                look.begun(program) as work,
            ):
                from ftdiag.commands.viewing import show_cockpit
                from ftdiag.recording.reader import Recording
                from ftdiag.session import Session

                with work.summed_up():
                    with Recording.open(work.path) as recording, MemoryTool(program.pid, work.path) as tool:
                        if look.memory is not None:
                            tool.attach_later(look.memory.duration_s)
                        look.findings_status = show_cockpit(
                            Session(recording),
                            work.sampler,
                            on_signal=program.forward,
                            fail_on=look.fail_on,
                            memory=tool,
                            sight=sight,
                        )
                    try:
                        work.sampler.stop()
                    except FtdiagError as error:
                        raise work.explained(error) from None
        except FtdiagError as error:
            look.fail(error, program)
        _name_log(path, program, look.record)
        with _signals_passed_to(program) as wait:
            while program.status is None:
                wait(WAIT_S)
    if log is None and _is_empty(path):
        path.unlink(missing_ok=True)
    return look.status(program.status or 0)


def _log_file(asked: Path | None) -> tuple[IO[bytes], Path]:
    if asked is not None:
        try:
            return open(asked, "xb", buffering=0), asked
        except OSError as error:
            from ftdiag.errors import UsageError

            raise UsageError(f"cannot create {asked}: {error.strerror}", "--log takes a new file") from None
    descriptor, name = tempfile.mkstemp(prefix="ftdiag-run-", suffix=".log")
    return open(descriptor, "wb", buffering=0), Path(name)


def _name_log(path: Path, program: Program, record: Path | None) -> None:
    if record is not None:
        terminal.note(f"recorded in {record}; ftdiag open {record}   shows it again")
    if not _is_empty(path):
        terminal.note(f"the program's output is in {path}")
    if program.status is None:
        terminal.note(f"the program still runs (process {program.pid}); Ctrl-C ends it")


def _is_empty(path: Path) -> bool:
    with suppress(OSError):
        return path.stat().st_size == 0
    return True


def _nothing(stack: ExitStack) -> int:
    """A standard input with nothing in it: the keyboard is the cockpit's."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    return descriptor
