"""A recording on the screen or on standard output; the same for one that grows and one that is finished.

In: an open recording, and the sampler that writes it if that is ours. Out: the cockpit, or a report and the
exit status that its findings ask for.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from ftdiag.commands import shortage, terminal
from ftdiag.errors import FtdiagError, UsageError
from ftdiag.leftovers import LOOK_PREFIX
from ftdiag.model import Severity
from ftdiag.ownthreads import start_thread

if TYPE_CHECKING:
    from ftdiag.commands.baseline import Baseline
    from ftdiag.commands.first_sight import FirstSight
    from ftdiag.commands.tracking import MemoryTool
    from ftdiag.launcher import SamplerProcess
    from ftdiag.model import Allocations, Snapshot
    from ftdiag.recording.reader import Recording
    from ftdiag.scaling.comparing import Comparison
    from ftdiag.session import Session
    from ftdiag.tui.app import CockpitApp
    from ftdiag.tui.saving import Export, Saver
    from ftdiag.tui.sourcetext import SourceText

FINDINGS_STATUS: Final = 1
BUG_STATUS: Final = 70
FIRST_WINDOW_WAIT_S: Final = 1.0
"""How long the first look at a growing recording waits for its first window: the screen is then not empty."""
LONG_READING_S: Final = 0.5
STILL_WRITTEN_S: Final = 5.0
"""A recording without an end to which nothing was added for so long is not written any more."""
EXIT_TRIES_S: Final = 5.0
_SEVERITIES: Final = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)


def chosen_format(asked: str | None) -> str:
    """What to show: as asked, else the cockpit on a terminal, else the text report."""
    if asked is None:
        return "tui" if terminal.cockpit_possible() else "text"
    if asked == "tui" and not terminal.cockpit_possible():
        raise UsageError(
            "the cockpit needs a terminal to draw on and to read keys from", "--format text   needs none"
        )
    if asked != "tui":
        terminal.require_output()
    return asked


def load(form: str | None) -> None:
    """Import what showing `form` needs, while the sampler starts; with `None` what reading a recording needs.

    Signals that end us come right after: an import that is interrupted may fail in any way.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    # What imports make stays to the end: looking through it for garbage took a sixth of their time.
    gc.disable()
    try:
        shortage.prepare_analysis()
        import ftdiag.recording.reader
        import ftdiag.session

        if form == "tui":
            import ftdiag.tui.app
        elif form == "json":
            import ftdiag.reports.json
        elif form == "html":
            import ftdiag.reports.html
        elif form is not None:
            import ftdiag.reports.text  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ReadingAhead:
    """Reads a finished recording while the cockpit is imported and mounted, by a thread.

    On another core, as far as that is not Python: decompressing and widening columns. Nobody else may ask the
    session before `end`, which does not wait for more than the piece that is being read.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._enough = threading.Event()
        self._thread: threading.Thread | None = None
        if session.recording.end is not None:
            with suppress(MemoryError):
                self._thread = start_thread(self._read, "reading")

    def end(self) -> None:
        """What is read stays with the session."""
        self._enough.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _read(self) -> None:
        # Whoever asks next meets the same failure, and says it.
        with suppress(Exception):
            for _ in self._session.reading():
                if self._enough.is_set():
                    return


class RecordingSource:
    """What the cockpit asks: a session, and whether more is to come."""

    def __init__(
        self, session: Session, sampler: SamplerProcess | None = None, ahead: ReadingAhead | None = None
    ) -> None:
        self._session = session
        self._ahead = ahead
        self._sampler = sampler
        self._latest_s = self._modified_s()
        self._failure: str | None = None
        self._live = self._is_live()

    @property
    def live(self) -> bool:
        """True while more data may come."""
        return self._live

    @property
    def watches(self) -> bool:
        """Whether its sampler is ours; a file that seems to grow may name any process."""
        return self._sampler is not None

    @property
    def failure(self) -> str | None:
        """What the sampler failed with, if it did; the error itself is raised when the cockpit is left.

        Before that, that the target does not answer, while that is so.
        """
        if self._failure is None and self._sampler is not None:
            return self._sampler.silent
        return self._failure

    @property
    def session(self) -> Session:
        """What answers questions about time."""
        return self._session

    def refresh(self) -> bool:
        """Read what is new; true if there is anything, also the end."""
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None
        changed = self._session.refresh()
        if self._live and self.span_ns() is None:
            deadline = time.monotonic() + FIRST_WINDOW_WAIT_S
            while self.span_ns() is None and time.monotonic() < deadline and self._is_live():
                time.sleep(0.02)
                changed = self._session.refresh() or changed
        if changed:
            self._latest_s = time.time()
        before = self.failure
        was_live, self._live = self._live, self._live and self._is_live()
        changed = changed or self.failure != before
        if was_live and not self._live:
            # What was written between our look and the end.
            self._session.refresh()
            return True
        return changed

    def snapshot(self, t0_ns: int | None, t1_ns: int | None) -> Snapshot:
        """The picture of a range."""
        return self._session.snapshot(t0_ns, t1_ns)

    def span_ns(self) -> tuple[int, int] | None:
        """Begin and end of what is recorded."""
        return self._session.recording.span_ns()

    def close(self) -> None:
        """Let go of the recording."""
        self._session.recording.close()

    def _is_live(self) -> bool:
        if self._session.recording.end is not None:
            return False
        if self._sampler is not None:
            try:
                return self._sampler.poll() is None
            except FtdiagError as error:
                self._failure = f"nothing more is recorded: {error.what}"
                return False
        return time.time() - self._latest_s < STILL_WRITTEN_S

    def _modified_s(self) -> float:
        latest = 0.0
        for ending in ("", "-wal"):
            with suppress(OSError):
                status = os.stat(f"{self._session.recording.path}{ending}")
                # A reader may have made an empty log beside it.
                if status.st_size:
                    latest = max(latest, status.st_mtime)
        return latest


# --- the cockpit -------------------------------------------------------------------------------------


def show_cockpit(
    session: Session,
    sampler: SamplerProcess | None = None,
    *,
    on_signal: Callable[[int], None] | None = None,
    fail_on: str | None = None,
    memory: MemoryTool | None = None,
    file: Path | None = None,
    sight: FirstSight | None = None,
    baseline: Baseline | None = None,
    goes_on: bool = False,
    texts: SourceText | None = None,
    ahead: ReadingAhead | None = None,
) -> int:
    """Show the cockpit until it is left, in place of `sight`; the exit status.

    `file` is what was opened, where that is no look; `texts` has the program's source, where its files are
    not where it says. What is recorded stays when the cockpit is left if
    recording `goes_on`: nothing is asked then. `ahead` reads the session until the cockpit does.

    Raises Terminated after SIGTERM or SIGHUP, unless `on_signal` takes them.
    """
    from ftdiag.sources.kernel.scheduling import take_turns_again
    from ftdiag.tui.app import CockpitApp
    from ftdiag.tui.sourcetext import SourceFiles

    recording = session.recording
    if texts is None:
        texts = (
            SourceFiles(recording=file or recording.path)
            if sampler is None
            else SourceFiles(process=recording.target.pid)
        )
    app = CockpitApp(
        RecordingSource(session, sampler, ahead),
        saver=saver(recording.path, goes_on=goes_on),
        memory=memory,
        texts=texts,
        on_first_data=take_turns_again,
        baseline=baseline,
    )
    with _quits_on_signals(app) as came:
        # Until the first picture, as for imports: the application enables it then.
        gc.disable()
        try:
            app.run()
        finally:
            gc.enable()
            # Without a driver it never came to drawing, nor gave the screen back.
            if sight is not None and app._driver is not None:
                sight.give_way()
    if app.ended_by is not None:
        came.append(app.ended_by)
    for number in came[:1]:
        if on_signal is None:
            raise terminal.Terminated(number)
        on_signal(number)
    if app.kept is not None:
        terminal.note(f"the recording is kept: ftdiag open {app.kept}")
    if app.return_code:
        return BUG_STATUS  # it has said what happened
    return 0 if fail_on is None else findings_status(session.snapshot(), fail_on)


def saver(recording: Path, *, goes_on: bool = False) -> Saver:
    """What the cockpit saves of a recording, growing or finished, or going on behind it."""
    from ftdiag.tui.saving import Saver

    def html_report(snapshot: Snapshot) -> str:
        from ftdiag.recording.reader import Recording
        from ftdiag.session import Session

        # Called by a thread of its own, beside the one that the screen's session belongs to.
        with Recording.open(recording) as again:
            return _html_report(Session(again), snapshot)

    def copy(path: Path) -> None:
        from ftdiag.recording.copying import copy_recording

        copy_recording(recording, path)

    # A look that nobody asked to keep is in a directory of ours.
    temporary = recording.parent.name.startswith(LOOK_PREFIX) and not goes_on
    reports = {"txt": _text_report, "json": _json_report, "html": html_report}
    return Saver(reports, copy, temporary, _exports(recording))


def _exports(path: Path) -> dict[str, Export]:
    """What a recording can be written as for other tools."""
    from ftdiag.formats.exporters import EXPERIMENTAL, MODULES, exporter_of
    from ftdiag.tui.saving import Export

    def write(name: str, output: Path, snapshot: Snapshot) -> None:
        from ftdiag.commands import exporting
        from ftdiag.formats.exporters.material import Material
        from ftdiag.recording.reader import Recording
        from ftdiag.session import Session

        with Recording.open(path) as again:
            material = Material(Session(again), snapshot.t0_ns, snapshot.t1_ns)
            exporting.write(material, exporter_of(name), output)

    def export(name: str) -> Export:
        return Export(
            MODULES[name],
            lambda: exporter_of(name).ENDING,
            lambda output, snapshot: write(name, output, snapshot),
        )

    return {name: export(name) for name in MODULES if name not in EXPERIMENTAL}


def _text_report(snapshot: Snapshot) -> str:
    from ftdiag.reports.text import render

    return "".join(f"{line}\n" for line in render(snapshot))


def _json_report(snapshot: Snapshot) -> str:
    from ftdiag.reports.json import to_report

    return terminal.json_text(to_report(snapshot)) + "\n"


def _html_report(session: Session, snapshot: Snapshot) -> str:
    from ftdiag.reports.html import render
    from ftdiag.reports.html_course import course_of

    return render(snapshot, course_of(session, snapshot.t0_ns, snapshot.t1_ns))


@contextmanager
def _quits_on_signals(app: CockpitApp) -> Iterator[list[int]]:
    """SIGTERM and SIGHUP leave the cockpit in order also while it starts; then it heeds them itself."""
    came: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        came.append(number)
        # From a thread: its event loop has to be woken, and may not run yet.
        start_thread(lambda: _exit_app(app), "leaving")

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_app(app: CockpitApp) -> None:
    deadline = time.monotonic() + EXIT_TRIES_S
    while time.monotonic() < deadline:
        try:
            app.call_from_thread(app.exit)
            return
        except RuntimeError:  # its loop does not run yet
            time.sleep(0.05)


def read(session: Session, t0_ns: int | None = None, t1_ns: int | None = None) -> None:
    """Read a range, and say how far that is where it takes long."""
    line = terminal.Progress()
    begun_s = time.monotonic()
    try:
        for share, _ in session.reading(t0_ns, t1_ns):
            if time.monotonic() - begun_s > LONG_READING_S:
                line.show(f"reading {session.recording.path}: {share:.0%}")
    finally:
        line.clear()


# --- reports -----------------------------------------------------------------------------------------


def print_report(
    session: Session,
    snapshot: Snapshot,
    form: str,
    fail_on: str | None = None,
    comparison: Comparison | None = None,
) -> int:
    """Print the report of a snapshot of the session, and how it differs from a baseline; the exit status."""
    if form == "json":
        from ftdiag.reports.json import to_report

        value = to_report(snapshot)
        if comparison is not None:
            from ftdiag.reports.comparison import value_of

            value["baseline"] = value_of(comparison)
        terminal.put_json(value)
    elif form == "html":
        page = _html_report(session, snapshot)
        if comparison is not None:
            from ftdiag.reports.comparison import baseline_sections
            from ftdiag.reports.document import html_sections

            made = "\n".join(html_sections(baseline_sections(comparison)))
            # The findings of the report come first, then what is new about them.
            page = page.replace("<main>", f"<main>\n{made}", 1)
        terminal.put_lines(page.splitlines())
    else:
        from ftdiag.reports.text import render

        width, ascii_only = terminal.width(), terminal.ascii_only()
        terminal.put_lines(render(snapshot, width, ascii_only=ascii_only))
        if comparison is not None:
            from ftdiag.reports.comparison import baseline_sections
            from ftdiag.reports.document import text_lines

            terminal.put("")
            terminal.put_lines(text_lines(baseline_sections(comparison), width, ascii_only=ascii_only))
    return findings_status(snapshot, fail_on)


def findings_status(snapshot: Snapshot, fail_on: str | None) -> int:
    """1 if there is a finding of the severity `fail_on` or above, else 0."""
    if fail_on is None:
        return 0
    least = _SEVERITIES.index(Severity(fail_on))
    found = any(_SEVERITIES.index(finding.severity) >= least for finding in snapshot.findings)
    return FINDINGS_STATUS if found else 0


@contextmanager
def opened(path: Path, memory: Path | None = None) -> Iterator[Session]:
    """A session on a recording, or on another profiler's file, with a capture of memray joined to it."""
    from ftdiag.commands.importing import as_recording
    from ftdiag.recording.reader import Recording
    from ftdiag.session import Session

    with as_recording(path) as found, Recording.open(found) as recording:
        yield Session(recording, None if memory is None else captured(memory, recording))


def captured(path: Path, recording: Recording) -> Allocations:
    """What is in a capture of memray. Raises RecordingError."""
    from ftdiag.formats.importers.memray import read_capture

    line = terminal.Progress()
    try:
        capture = read_capture(path, line.show)
    finally:
        line.clear()
    if capture.pid != recording.target.pid:
        terminal.note(
            f"{path} is of process {capture.pid}, the recording of {recording.target.pid}:"
            " lines are joined by file, line and function"
        )
    return capture


def warn_of_damage(recording: Recording) -> None:
    """Say what could not be read and was left out."""
    for gap in recording.damaged:
        times = f" ({gap.count} times)" if gap.count > 1 else ""
        terminal.note(f"warning: {recording.path}: {gap.what}: {gap.why}{times}")
