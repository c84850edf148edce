"""Attaches memray to a target for a bounded time, reads what it wrote into the recording, and cleans up.

In: a `TrackingRequest` as one JSON line on standard input, which stays open as long as memray shall stay
attached. Out: JSON lines on standard output (`attached`, `detached`, `reading`, `done`, `error`, `end`), and
in the recording: first the time that figures must leave out, at the end the capture's sums.

Runs in a process of its own: `python -m ftdiag.tracker`. Whoever started it may die in any way: then standard
input closes, and memray is detached. Should this process be killed too, memray detaches by its own timer.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from ftdiag import confined
from ftdiag.confined import Child, Tail
from ftdiag.datatypes import asdict, dataclass
from ftdiag.errors import AttachError, FtdiagError, TargetGone, UsageError
from ftdiag.formats.importers.memray import read_capture
from ftdiag.leftovers import CAPTURE_PREFIX, INNER, own, remove_abandoned, remove_capture
from ftdiag.model import Perturbation
from ftdiag.opening import Reader, open_plain
from ftdiag.recording.additions import add_allocations, next_perturbation, put_perturbation
from ftdiag.sources.tools import memray, traces
from ftdiag.sources.tools.memray import Plan
from ftdiag.sources.tools.traces import Traces

INSTRUMENT: Final = "memray"
MIN_DURATION_S: Final = 1
MAX_DURATION_S: Final = 3600
DEFAULT_MAX_BYTES: Final = 4 << 20
"""A capture of this size (500,000 allocations and what freed them, 1 to 2 s of a core to read) says enough:
then memray is detached, which costs the program a lock and a write for each of them."""
LOW_DISK_BYTES: Final = 64 << 20
"""With less than this free, memray is detached before the disk is full."""
ATTACH_TIMEOUT_S: Final = 40.0
"""memray waits 10 s for the target to answer; a debugger may wait for ever for a thread to move."""
DETACH_TIMEOUT_S: Final = 30.0
DEBUGGER_TIMEOUT_S: Final = 10.0
"""From the request that a debugger let go until it has."""
GRACE_S: Final = 8.0
"""How long after its time memray may take to detach by itself, before it is told to."""
GONE_TIMEOUT_S: Final = 10.0
"""From detaching until memray's threads and files are gone."""
EARLY_S: Final = 0.5
"""A capture that is closed so long before its time was closed for another reason."""
IN_TIME: Final = "its time was over"
ON_REQUEST: Final = "stopped"
MOST_KEPT: Final = 2
"""Times the bytes at which a capture is ended that are kept of one."""
PIECE_BYTES: Final = 1 << 20
POLL_S: Final = 0.1
MAX_REQUEST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TrackingRequest:
    """What to do: how (`plan`), for how long, into which recording. `keep` names a file for the capture."""

    plan: Plan
    duration_s: int
    recording: str | None = None
    keep: str | None = None
    max_bytes: int = DEFAULT_MAX_BYTES

    def __post_init__(self) -> None:
        """Raises UsageError for a duration that makes no sense."""
        if not MIN_DURATION_S <= self.duration_s <= MAX_DURATION_S:
            raise UsageError(
                f"memray cannot be attached for {self.duration_s} s",
                f"--memory-duration takes {MIN_DURATION_S} to {MAX_DURATION_S:,} seconds; 10 is usual",
            )

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def request_from_json(line: str) -> TrackingRequest:
    """The inverse. Raises ValueError, KeyError, TypeError."""
    fields = json.loads(line)
    return TrackingRequest(**{**fields, "plan": memray.plan_from_json(fields["plan"])})


Say = Callable[[Mapping[str, object]], None]


class Tracking:
    """One time that memray is attached. `wanted` says whether it shall go on."""

    def __init__(self, request: TrackingRequest, say: Say, wanted: Callable[[float], bool]) -> None:
        self._request = request
        self._plan = request.plan
        self._say = say
        self._wanted = wanted
        self._rights = confined.rights_of(self._plan.owner)
        remove_abandoned(Path(tempfile.gettempdir()))
        self._directory = Path(tempfile.mkdtemp(prefix=CAPTURE_PREFIX))
        self._owner = own(self._directory)
        self.capture = self._directory / INNER / "capture.bin"
        self._suspects: frozenset[int] = frozenset()
        self._mark = -1
        self._begin_ns = 0
        self._method = ""

    def run(self) -> None:
        """Attach, wait, detach, read. Raises FtdiagError."""
        try:
            self._make_place()
            self._track()
            if self._wanted(0.0):
                self._read()
        finally:
            self._put_away()

    def _make_place(self) -> None:
        """Where the target, as its user, can make a file, in a directory that nobody can put another for."""
        os.mkdir(self._directory / INNER, 0o700)
        if self._rights is None:
            return
        os.chown(self._directory / INNER, self._rights.user, self._rights.group, follow_symlinks=False)
        # Others may go through it, not look into it.
        os.chmod(self._directory, 0o711)

    # --- while it is attached ------------------------------------------------------------------------

    def _track(self) -> None:
        self._begin_ns = time.monotonic_ns()
        self._mark_time(self._begin_ns + int((self._request.duration_s + ATTACH_TIMEOUT_S + GRACE_S) * 1e9))
        before = traces.threads_of(self._plan.pid)
        why = ""
        try:
            self._attach()
            self._suspects = traces.threads_of(self._plan.pid) - before
            self._say(
                {
                    "event": "attached",
                    "method": self._method,
                    "duration_s": self._request.duration_s,
                    "memray": self._plan.memray_version,
                }
            )
            why = self._wait()
        finally:
            left = self._detach() if self._method else self._traces()
            if not left.capture_open:
                self._mark_time(time.monotonic_ns())
        self._say(
            {
                "event": "detached",
                "why": why,
                "early": why not in (IN_TIME, ON_REQUEST, ""),
                "seconds": (time.monotonic_ns() - self._begin_ns) / 1e9,
                "capture_open": left.capture_open,
                "stopped": self._is_stopped(),
                "threads": len(left.threads),
            }
        )

    def _attach(self) -> None:
        """Attach by the first method that works. Raises AttachError, TargetGone."""
        failure = AttachError("memray was not attached", "")
        for method in self._plan.methods:
            self._check_target()
            command = self._plan.attach_command(method, self._request.duration_s, self.capture)
            # From here on there may be something to detach.
            self._method = method
            status, said = self._drive(command, ATTACH_TIMEOUT_S)
            # A program that is stopped just then keeps memray's command from ending, and has memray in it.
            if status == 0 or self._traces().capture_open:
                return
            self._check_target()
            failure = self._explained(method, status, said)
            if not self._wanted(0.0):
                break
        if not self._traces():
            self._method = ""
        raise failure

    def _explained(self, method: str, status: int | None, said: str) -> AttachError:
        known = traces.gdb_words(said)
        if known is None and status is None:
            known = "no thread of the program moved: all of them wait"
        if known is None:
            lines = [line for line in said.splitlines() if line.strip()]
            known = lines[-1][:300] if lines else f"it ended with status {status}"
        command = ("-m", "memray", "attach", "-v", "-o", "/tmp/capture.bin", "--method", method)
        by_hand = memray.by_hand(self._plan.owner, self._plan.python, *command, str(self._plan.pid))
        more = f"{by_hand}   shows more"
        if known == traces.REFUSED:
            more = (
                "sudo sysctl kernel.yama.ptrace_scope=0   allows it on the machine itself,"
                " docker run --cap-add SYS_PTRACE in a container"
            )
        elif "wait" in known or "came to" in known:
            more = f"ftdiag attach {self._plan.pid} --memory   again while the program is at work"
        return AttachError(f"memray could not be attached with {method}: {known}", more)

    def _wait(self) -> str:
        """Until the time is over or something else ends it; in words what."""
        deadline = time.monotonic() + self._request.duration_s + GRACE_S
        while time.monotonic() < deadline:
            if not self._wanted(POLL_S):
                return ON_REQUEST
            if not self._alive():
                return "the program ended"
            if not self._traces().capture_open:
                if time.monotonic() > deadline - GRACE_S - EARLY_S:
                    return IN_TIME
                return "the disk was full" if self._disk_is_low() else "memray ended it before its time"
            if self._is_stopped():
                return "the program was stopped by a signal"
            if self._capture_bytes() > self._request.max_bytes:
                return f"its file had {self._request.max_bytes >> 20} MB, which is enough"
            if self._disk_is_low():
                return "the disk was nearly full"
        return "its timer did not end it"

    def _detach(self) -> Traces:
        """Detach if it is still attached; what is left after that."""
        for method in dict.fromkeys((self._method, *self._plan.methods)):
            if not self._alive() or not self._traces().capture_open or self._is_stopped():
                break
            self._drive(self._plan.detach_command(method), DETACH_TIMEOUT_S)
        else:
            # Nothing helped: its own timer will.
            overdue = self._begin_ns / 1e9 + self._request.duration_s + GRACE_S
            while self._alive() and self._traces().capture_open and time.monotonic() < overdue:
                time.sleep(POLL_S)
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while self._alive() and self._traces() and not self._is_stopped() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return self._traces() if self._alive() else Traces(False)

    # --- afterwards ----------------------------------------------------------------------------------

    def _read(self) -> None:
        """The capture into the recording. Raises RecordingError."""
        if self._request.keep is not None:
            self._keep(Path(self._request.keep))

        def progress(words: str) -> None:
            if not self._wanted(0.0):
                raise KeyboardInterrupt
            self._say({"event": "reading", "words": words})

        try:
            allocations = read_capture(
                self.capture, progress, fallback=self._plan.python, rights=self._rights, promptly=True
            )
        except KeyboardInterrupt:
            return
        if self._request.recording is not None:
            add_allocations(Path(self._request.recording), allocations)
        self._say({"event": "done", "seconds": allocations.duration_ns / 1e9, "count": allocations.count})

    def _keep(self, path: Path) -> None:
        rights = self._rights
        reader = None if rights is None else Reader(rights.user, rights.group)
        try:
            # Never over a file that is there.
            with (
                os.fdopen(open_plain(self.capture, reader=reader), "rb") as source,
                open(path, "xb") as target,
            ):
                # Its user chooses how long it says that it is.
                left = MOST_KEPT * self._request.max_bytes
                while left > 0 and (piece := source.read(min(left, PIECE_BYTES))):
                    target.write(piece)
                    left -= len(piece)
        except OSError as error:
            self._say({"event": "note", "words": f"the capture is not kept in {path}: {error.strerror}"})

    def _put_away(self) -> None:
        """Remove the capture, and what its user has put beside it."""
        try:
            remove_capture(self._directory)
        except OSError as error:
            self._say({"event": "note", "words": f"{self._directory} is left: {error.strerror}"})
        os.close(self._owner)
        # The command may have been killed meanwhile; its sampler ended before.
        remove_abandoned(Path(tempfile.gettempdir()))

    # --- parts -----------------------------------------------------------------------------------------

    def _mark_time(self, end_ns: int) -> None:
        if self._request.recording is None:
            return
        path = Path(self._request.recording)
        if self._mark < 0:
            self._mark = next_perturbation(path)
        put_perturbation(path, self._mark, Perturbation(INSTRUMENT, self._begin_ns, end_ns))

    def _alive(self) -> bool:
        return traces.is_same_process(self._plan.pid, self._plan.start_ticks)

    def _disk_is_low(self) -> bool:
        return shutil.disk_usage(self._directory).free < LOW_DISK_BYTES

    def _is_stopped(self) -> bool:
        return traces.is_stopped(self._plan.pid)

    def _check_target(self) -> None:
        if not self._alive():
            raise TargetGone(
                f"process {self._plan.pid} ended while memray was to be attached",
                "ftdiag run --memory -- python script.py   looks at a program from its beginning",
            )
        # It may have become another program since it was agreed to, and another user's.
        confined.check_still(self._plan.owner)
        if self._is_stopped():
            raise AttachError(
                f"process {self._plan.pid} was stopped by a signal before memray was attached",
                f"kill -CONT {self._plan.pid}   lets it go on",
            )

    def _traces(self) -> Traces:
        return traces.traces(self._plan.pid, self.capture, self._suspects)

    def _capture_bytes(self) -> int:
        with suppress(OSError):
            # memray makes the file larger ahead of what it writes; blocks are what is there.
            return os.stat(self.capture).st_blocks * 512
        return 0

    def _drive(self, command: list[str], timeout_s: float) -> tuple[int | None, str]:
        """Run one of memray's commands; its status (`None`: it had to be stopped) and what it said.

        It is never interrupted midway because somebody wants to stop: a debugger that is killed leaves the
        target with breakpoints that kill it.
        """
        output = Tail(memray.MAX_SAID)
        try:
            try:
                child = Child(
                    command,
                    memray.DRIVE_LIMITS,
                    self._rights,
                    stdout=output.writer,
                    stderr=output.writer,
                    environment=self._plan.environment,
                    ends_with_us=False,
                )
            finally:
                output.begun()
        except OSError as error:
            return 1, f"{command[0]} does not start: {error.strerror}"
        with child:
            deadline = time.monotonic() + timeout_s
            while child.wait(POLL_S) is None and time.monotonic() < deadline:
                if not self._alive():
                    deadline = min(deadline, time.monotonic() + DEBUGGER_TIMEOUT_S)
            status = child.status
            if status is None:
                self._let_go(child)
            failure = child.failure()
            if failure is not None:
                return 1, f"{command[0]} does not start: {failure}"
            return status, output.text()

    def _let_go(self, child: Child) -> None:
        """End memray's command: its debugger first, by request, so that it takes its breakpoints out."""
        for number in (signal.SIGINT, signal.SIGTERM):
            debuggers = traces.debuggers_below(child.pid)
            if not debuggers:
                break
            for debugger in debuggers:
                with suppress(OSError):
                    os.kill(debugger, number)
            if child.wait(DEBUGGER_TIMEOUT_S) is not None:
                return
        if not traces.debuggers_below(child.pid):
            child.send(signal.SIGTERM)
            if child.wait(DEBUGGER_TIMEOUT_S) is None:
                child.close()


# --- the process --------------------------------------------------------------------------------------


class _Wanted:
    """Whether whoever started us is still there and wants us to go on."""

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self, wait_s: float) -> bool:
        """Wait so long, or until it is not wanted any more; false then."""
        if not self.stopped and select.select([sys.stdin], [], [], wait_s)[0]:
            self.stopped = not os.read(sys.stdin.fileno(), 4096)
        return not self.stopped

    def stop(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM and SIGHUP: detach, then end."""
        self.stopped = True


def main() -> int:
    """Entry point of the tracker's process."""
    wanted = _Wanted()
    # `ftdiag run` takes signals itself and blocks them; a debugger that inherits that waits for ever.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # The terminal's Ctrl-C is for the command; it closes our standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, wanted.stop)
    signal.signal(signal.SIGHUP, wanted.stop)

    def say(message: Mapping[str, object]) -> None:
        with suppress(
            OSError, ValueError
        ):  # nobody listens any more; what has to be done is done all the same
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

    line = _first_line()
    if not line:
        return 0
    try:
        request = request_from_json(line)
        Tracking(request, say, wanted).run()
    except FtdiagError as error:
        say({"event": "error", "kind": type(error).__name__, "what": error.what, "hint": error.hint})
    except OSError as error:
        hint = "TMPDIR=/some/directory ftdiag ...   takes another place"
        say({"event": "error", "kind": "AttachError", "what": f"memray: {error.strerror}", "hint": hint})
    say({"event": "end"})
    return 0


def _first_line() -> str:
    """The request; unbuffered, so that `select` tells of all that follows."""
    data = b""
    while b"\n" not in data and len(data) < MAX_REQUEST_BYTES:
        part = os.read(sys.stdin.fileno(), 65_536)
        if not part:
            return ""
        data += part
    return data.partition(b"\n")[0].decode()


if __name__ == "__main__":
    sys.exit(main())
