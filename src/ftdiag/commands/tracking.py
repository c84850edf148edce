"""memray on request: what it costs is said and asked, then the tracker's process works.

In: a pid, for how long, which recording. Out: events of the tracker in words; when the `Tracker` is left,
memray is detached and the process gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import Command, Number
from ftdiag.commands.terminal import Terminated
from ftdiag.datatypes import dataclass
from ftdiag.errors import AttachError, FtdiagError, UsageError
from ftdiag.leftovers import remove_abandoned
from ftdiag.wording.units import plural

if TYPE_CHECKING:
    from ftdiag.sources.tools.memray import Outline, Plan

DEFAULT_DURATION_S: Final = 10.0
MAX_DURATION_S: Final = 3600.0
END_TIMEOUT_S: Final = 150.0
"""From the request to end until the tracker has: attaching is not interrupted, detaching may take tries."""
END_OF_TRACKER_S: Final = 2.0
"""From the end of what a tracker says until it is gone."""
POLL_S: Final = 0.25
PLAIN_PROGRESS_EVERY_S: Final = 5.0
"""How often a log that is no terminal is told how far it is."""
FIRST_LOOK_S: Final = 5.0
"""How long a cockpit with --memory looks at the program alone before memray is attached."""
MAX_LINE_BYTES: Final = 1 << 20
SECONDS: Final = Number("seconds", 1.0, MAX_DURATION_S)


def memory_options(command: Command) -> Command:
    """--memory, --memory-duration and --yes of commands that attach."""
    command = click.option("--yes", is_flag=True, help="Do not ask whether memray may be attached.")(command)
    command = click.option(
        "--memory-duration",
        "memory_duration_s",
        type=SECONDS,
        metavar="SECONDS",
        help=f"How long memray is attached. Default: {DEFAULT_DURATION_S:g}.",
    )(command)
    return click.option(
        "--memory",
        is_flag=True,
        help="Afterwards, attach memray to the process for a while: what each line allocates. Shows the"
        " overhead, then asks.",
    )(command)


def memory_wish(memory: bool, duration_s: float | None, yes: bool) -> MemoryWish | None:
    """What these options ask for. Raises UsageError for options that make no sense without --memory."""
    if memory:
        return MemoryWish(duration_s or DEFAULT_DURATION_S, yes)
    if duration_s is not None or yes:
        name = "--yes" if duration_s is None else "--memory-duration"
        raise UsageError(f"{name} is for --memory", "ftdiag attach PID --memory   attaches memray")
    return None


def may_ask(yes: bool) -> None:
    """Raise UsageError where nobody can be asked, before anything is begun."""
    if not yes and not _can_ask():
        raise UsageError(
            "--memory asks before it attaches memray, and there is no terminal to ask on",
            "ftdiag attach PID --memory --yes   attaches it without asking",
        )


@dataclass(frozen=True, slots=True)
class MemoryWish:
    """What was asked for with --memory."""

    duration_s: float
    yes: bool


def agreed_plan(pid: int, wish: MemoryWish) -> Plan:
    """How memray will be attached, after its price was said and agreed to; only then is anything run.

    Raises AttachError: it cannot be, UsageError: nobody can be asked, click.Abort: no.
    """
    may_ask(wish.yes)
    from ftdiag.commands.silence import told_if_silent
    from ftdiag.sources.tools.memray import outline as outline_of
    from ftdiag.sources.tools.memray import plan as plan_for

    with _checking(pid), told_if_silent(pid):
        outline = outline_of(pid)
    for sentence in outline.price:
        terminal.note(sentence)
    if not wish.yes:
        click.confirm(f"Attach memray for {wish.duration_s:g} s?", default=False, abort=True, err=True)
    with _checking(pid):
        return plan_for(outline)


@contextmanager
def _checking(pid: int) -> Iterator[None]:
    line = terminal.Progress()
    line.show(f"checking whether memray can be attached to process {pid}")
    try:
        yield
    finally:
        line.clear()


def agree_to_memray(wish: MemoryWish) -> None:
    """Say the price and ask before there is a process. Raises UsageError, click.Abort."""
    may_ask(wish.yes)
    from ftdiag.sources.tools.memray import GENERAL_PRICE

    for sentence in GENERAL_PRICE:
        terminal.note(sentence)
    if not wish.yes:
        click.confirm(f"Attach memray for {wish.duration_s:g} s?", default=False, abort=True, err=True)


def _can_ask() -> bool:
    return all(
        stream is not None and not stream.closed and stream.isatty() for stream in (sys.stdin, sys.stderr)
    )


@dataclass(frozen=True, slots=True)
class Tracked:
    """How far a tracker is: a word for the phase, and a sentence."""

    phase: str
    words: str

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.phase in ("done", "failed")


class Tracker:
    """The tracker's process. A context manager: when it is left, memray is detached and the process gone."""

    def __init__(self, plan: Plan, duration_s: float, recording: Path, keep: Path | None = None) -> None:
        from ftdiag.tracker import TrackingRequest

        self.plan = plan
        self.duration_s = duration_s
        self.notes: list[str] = []
        """What a person should know afterwards: what was left behind."""
        self._state = Tracked("attaching", "attaching memray")
        self._failed = False
        self._over = False
        self._unread = b""
        request = TrackingRequest(
            plan,
            max(1, round(duration_s)),
            os.fspath(recording.absolute()),
            None if keep is None else os.fspath(keep.absolute()),
        )
        self._stderr: IO[bytes] = tempfile.TemporaryFile(prefix="ftdiag-")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ftdiag.tracker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            process_group=0,  # Ctrl-C is for us; we end it in order
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._begin = time.monotonic()
        with suppress(BrokenPipeError):
            self._process.stdin.write(request.to_json().encode() + b"\n")
            self._process.stdin.flush()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, timeout_s: float = 0.0) -> Tracked:
        """How far it is; waits so long for something new."""
        deadline = time.monotonic() + timeout_s
        while not self._over and self._read(deadline - time.monotonic()):
            pass
        if self._state.phase == "attached":
            passed = min(time.monotonic() - self._begin, self.duration_s)
            return Tracked("attached", f"memray is attached: {passed:.0f} of {self.duration_s:g} s")
        return self._state

    def close(self) -> None:
        """Detach if it is attached, and end the process. Never raises; may take some seconds."""
        process = self._process
        with suppress(BrokenPipeError, OSError):
            if process.stdin is not None:
                process.stdin.close()
        deadline = time.monotonic() + END_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                self.poll(POLL_S)
            except KeyboardInterrupt:
                terminal.note("memray is being detached; please wait some seconds")
            if self._over:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
        # Never by force: it would leave the target to memray's own timer, which ends it as well.
        self._drain()
        if process.stdout is not None:
            process.stdout.close()
        self._stderr.close()

    def _drain(self) -> None:
        while self._read(0.0):
            pass

    def _read(self, timeout_s: float) -> bool:
        stdout = self._process.stdout
        if stdout is None or stdout.closed or self._over:
            return False
        if not select.select([stdout.fileno()], [], [], max(0.0, timeout_s))[0]:
            return False
        data = os.read(stdout.fileno(), 65_536)
        if not data:
            self._over = True
            if not self._state.over:
                self._fail("the process that attaches memray ended without a word", self._last_words())
                self._clear_up()
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > MAX_LINE_BYTES:
            self._unread = b""
        for line in lines:
            with suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._take(message)
        return True

    def _clear_up(self) -> None:
        """After a tracker that was killed: its folder is removed, and what may still be attached is said."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_OF_TRACKER_S)  # its folder is locked until then
        for folder in remove_abandoned(Path(tempfile.gettempdir())):
            self.notes.append(f"removed what the process that attaches memray has left: {folder}")
        self.notes.append(
            f"memray may still be attached to process {self.plan.pid}; its own timer ends that. By hand:"
            f" {self.plan.python} -m memray detach {self.plan.pid}"
        )

    def _last_words(self) -> str:
        with suppress(OSError, ValueError):
            self._stderr.seek(0)
            return self._stderr.read(16_384).decode("utf-8", "replace").strip().rpartition("\n")[2]
        return ""

    def _take(self, message: Mapping[str, object]) -> None:
        event = message.get("event")
        if event == "attached":
            self._begin = time.monotonic()
            self._state = Tracked("attached", "")
        elif event == "detached":
            self._state = Tracked("detached", f"memray is detached: {message.get('why')}")
            if message.get("early") and not message.get("stopped"):
                self.notes.append(
                    f"memray was attached for a shorter time than asked: {str(message.get('why'))[:200]}"
                )
            if message.get("capture_open") and message.get("stopped"):
                self.notes.append(
                    f"process {self.plan.pid} is stopped by a signal, with memray attached: its timer"
                    f" detaches it when the process goes on (kill -CONT {self.plan.pid})"
                )
            elif message.get("capture_open"):
                self.notes.append(
                    f"memray could not be detached from process {self.plan.pid}; its timer will. By hand:"
                    f" {self.plan.python} -m memray detach {self.plan.pid}"
                )
            elif isinstance(number := message.get("threads"), int) and number:
                came = plural(number, "thread")
                self.notes.append(
                    f"while memray was attached {came} came that stayed (the program's own, if it starts"
                    " threads)"
                )
        elif event == "reading":
            self._state = Tracked("reading", str(message.get("words"))[:500])
        elif event == "note":
            self.notes.append(str(message.get("words"))[:500])
        elif event == "done":
            self._state = Tracked("done", f"allocations of {float(str(message.get('seconds'))):.1f} s")
        elif event == "error":
            self._fail(str(message.get("what")), str(message.get("hint") or ""))
        elif event == "end":
            self._over = True
            if not self._state.over:
                self._state = Tracked("failed", "stopped before its capture was read")

    def _fail(self, what: str, hint: str) -> None:
        self.error = AttachError(what, hint or None)
        self._state = Tracked("failed", what)

    error: FtdiagError | None = None
    """What went wrong, if anything."""


def track(
    plan: Plan,
    duration_s: float,
    recording: Path,
    wait: Callable[[float], object] | None = None,
) -> int:
    """Attach memray, with progress, until its sums are in the recording; the number of a signal, or 0.

    `wait` waits in the command's own way between two looks. A signal detaches it early. Raises what went
    wrong.
    """
    line = terminal.Progress(plain_every_s=PLAIN_PROGRESS_EVERY_S)
    number = 0
    with Tracker(plan, duration_s, recording) as tracker:
        try:
            while True:
                state = tracker.poll(POLL_S if wait is None else 0.0)
                if state.over:
                    break
                line.show(
                    f"{state.words}  (Ctrl-C detaches it)" if state.phase == "attached" else state.words
                )
                if wait is not None:
                    wait(POLL_S)
        except KeyboardInterrupt:
            number = signal.SIGINT
            line.clear()
            terminal.note("detaching memray")
        except Terminated as termination:
            number = termination.number
        finally:
            line.clear()
    for note in tracker.notes:
        terminal.note(note)
    if tracker.error is not None and not number:
        raise tracker.error
    return number


class MemoryTool:
    """What the cockpit needs to attach memray: the price, to begin, how far it is. A context manager.

    All calls come from one thread at a time, not the screen's own: some take a second.
    """

    def __init__(self, pid: int, recording: Path) -> None:
        self._pid = pid
        self._recording = recording
        self._agreed: Outline | Plan | None = None
        self._tracker: Tracker | None = None
        self._due: float | None = None
        self.duration_s = DEFAULT_DURATION_S
        """How long it is attached when it is asked for by a key."""

    def __enter__(self) -> MemoryTool:
        return self

    def __exit__(self, *_: object) -> None:
        self._due = None
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            if not tracker.poll().over:
                terminal.note("detaching memray")
            tracker.close()
            for note in tracker.notes:
                terminal.note(note)

    @property
    def busy(self) -> bool:
        """Whether memray is attached (or about to be), or its capture still read."""
        return self._due is not None or self._tracker is not None

    def price(self) -> tuple[str, ...]:
        """What it would cost now, in sentences. Raises AttachError: it cannot be attached, and why."""
        from ftdiag.sources.tools.memray import outline

        self._agreed = outline(self._pid)
        return self._agreed.price

    def attach(self) -> None:
        """Begin, as the price said: whoever calls this was asked. Raises AttachError."""
        from ftdiag.sources.tools.memray import Outline, plan

        if self._agreed is None or self.busy:
            return
        if isinstance(self._agreed, Outline):
            self._agreed = plan(self._agreed)
        self._tracker = Tracker(self._agreed, self.duration_s, self._recording)

    def attach_later(
        self, duration_s: float, plan: Plan | None = None, delay_s: float = FIRST_LOOK_S
    ) -> None:
        """Begin after the cockpit has seen the program alone for a while; a plan is made then if need be.

        The person has agreed to it.
        """
        self._agreed = plan
        self.duration_s = duration_s
        self._due = time.monotonic() + delay_s

    def poll(self) -> str | None:
        """One line on how far it is, the last one once; `None` when there is nothing to say."""
        if self._due is not None:
            left = self._due - time.monotonic()
            if left > 0:
                return f"memray is attached in {left:.0f} s"
            self._due = None
            try:
                if self._agreed is None:
                    self.price()
                self.attach()
            except FtdiagError as error:
                return f"memray: {error.what}"
        if self._tracker is None:
            return None
        state = self._tracker.poll()
        if not state.over:
            return state.words
        tracker, self._tracker = self._tracker, None
        tracker.close()
        if tracker.error is not None:
            return f"memray: {tracker.error.what}"
        return "; ".join([f"{state.words}: see hot code (4) and memory (6)", *tracker.notes])
