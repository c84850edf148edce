"""Starts the sampler's process, follows what it says, and ends it in every case.

In: `SamplerOptions`. Out: a running sampler that writes a recording, its end, or the error it met, as
the exception of the same name. The protocol is that of `sampling.process`: one JSON line on its standard
input, which stays open as long as it shall sample; JSON lines on its standard output.

The process is started before it is told what to do (`spawning`), so that its imports overlap with ours.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ftdiag import errors, spawning
from ftdiag.datatypes import dataclass
from ftdiag.errors import FtdiagError
from ftdiag.sampling.options import PREPARE, STARTED, SamplerOptions
from ftdiag.sources.kernel.scheduling import hurry_child

if TYPE_CHECKING:
    from ftdiag.model import EndReason

START_TIMEOUT_S: Final = 60.0
"""From the request to "started": a few hundred ms; a loaded machine or a huge target takes longer."""
FINISH_TIMEOUT_S: Final = 30.0
"""From the request to stop until the recording is finished and the process gone; long for the same reason."""
TERMINATE_TIMEOUT_S: Final = 2.0
KILLED_TIMEOUT_S: Final = 2.0
MAX_LINE_BYTES: Final = 4 << 20
"""Longest line taken from the sampler; it quotes the target's command line, which it bounds."""
MAX_STDERR_BYTES: Final = 16_384
MAX_NOTES: Final = 100

_ERRORS: Final[Mapping[str, type[FtdiagError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, FtdiagError)
}


class SamplerFailed(FtdiagError):
    """The sampler's process ended without saying why. `details` is what it wrote on its standard error."""

    def __init__(self, what: str, hint: str | None = None, details: str = "") -> None:
        super().__init__(what, hint)
        self.details = details


@dataclass(frozen=True, slots=True)
class SamplingEnd:
    """Why sampling ended, in the sampler's words."""

    reason: EndReason
    detail: str


class SamplerProcess:
    """The sampler's process. A context manager: when it is left, the process is gone.

    `start` returns at once; `wait_until_started` and `wait` raise what the sampler reports.
    """

    def __init__(self) -> None:
        self._process: spawning.Child | None = None
        self._unread = b""
        self._requested: float | None = None
        self._started = False
        self._end: SamplingEnd | None = None
        self._error: FtdiagError | None = None
        self._notes: list[str] = []
        self.silent: str | None = None
        """That the target does not answer, while that is so."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's id while it is there."""
        return None if self._process is None else self._process.pid

    # --- beginning ---------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Start the process; it waits for the request. Does nothing when it was started before.

        Raises SamplerFailed when it cannot be started.
        """
        if self._process is not None:
            return
        try:
            self._process = spawning.sampler()
        except OSError as error:
            command = " ".join((sys.executable, *spawning.SAMPLER))
            raise SamplerFailed(
                f"the sampler, which is a process of its own, cannot be started: {error}",
                f"{command}   must run for this user: install ftdiag"
                " where it can be read and executed, or run it as the user that installed it",
            ) from error
        hurry_child(self._process.pid)  # it asks for more itself, but not before it was on a core

    def prepare(self) -> None:
        """Start the process and have it import what it may need later, too. Raises like `spawn`."""
        self.spawn()
        assert self._process is not None
        with suppress(BrokenPipeError):
            self._process.tell(PREPARE.encode())

    def start(self, request: SamplerOptions) -> None:
        """Say what to do, without waiting for it."""
        self.spawn()
        assert self._process is not None
        self._requested = time.monotonic()
        with suppress(BrokenPipeError):  # it is gone already; `wait_until_started` says why
            self._process.tell(request.as_json().encode() + b"\n")

    def wait_until_started(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the target is attached and the recording exists; raise what prevents it."""
        deadline = time.monotonic() + timeout_s
        while not (self._started or self._over):
            if not self._read(deadline - time.monotonic()):
                self.close()
                raise SamplerFailed(
                    f"the sampler did not attach within {timeout_s:g} s",
                    "Try again; if the machine is busy, with a lower --rate.",
                    self._said_on_stderr(),
                )
        if not self._started:
            self._raise_error()

    # --- going on ----------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        return self._end is not None or self._error is not None

    def poll(self) -> SamplingEnd | None:
        """The end if it has come, else `None`. Raises what the sampler reports."""
        return self.wait(0.0)

    def wait(self, timeout_s: float | None = None, *, or_notes: bool = False) -> SamplingEnd | None:
        """Wait for the end; `None` if it has not come in time, or, with `or_notes`, something was said.

        Raises what the sampler reports.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._over:
            if or_notes and self._notes:
                return None
            if not self._read(None if deadline is None else deadline - time.monotonic()):
                return None
        if self._end is None:
            self._raise_error()
        return self._end

    @property
    def has_notes(self) -> bool:
        """Whether the sampler said something for people that was not taken yet."""
        return bool(self._notes)

    def take_notes(self) -> list[str]:
        """What the sampler said for people since this was last asked."""
        notes, self._notes = self._notes, []
        return notes

    # --- ending ------------------------------------------------------------------------------------

    def stop(self, timeout_s: float = FINISH_TIMEOUT_S) -> SamplingEnd | None:
        """Ask for the end and wait until the recording is finished. Raises what the sampler reports.

        `None` if it had to be killed.
        """
        self._let_go()
        try:
            return self.wait(timeout_s)
        finally:
            self.close()

    def close(self) -> None:
        """End the process if it is there: in order if it can, by force if not. Never raises."""
        process = self._process
        if process is None:
            return
        try:
            process.let_go()
            # Before the request was sent, or while it attaches, there is nothing to finish.
            if self._requested is not None and (self._started or self._over):
                # Who said its last word may be kept from ending by what it reads.
                process.wait(TERMINATE_TIMEOUT_S if self._over else FINISH_TIMEOUT_S)
            if process.wait(0) is None:
                process.send(signal.SIGTERM)
                process.wait(TERMINATE_TIMEOUT_S)
        finally:
            # Also when Ctrl-C is pressed once more in the lines above.
            if process.wait(0) is None:
                process.send(signal.SIGKILL)
                # The kernel lets some reads end even then only when they do; it is left behind.
                process.wait(KILLED_TIMEOUT_S)
            with suppress(FtdiagError):
                self._drain()
            self._details = self._said_on_stderr()
            process.close()

    _details = ""

    def _let_go(self) -> None:
        if self._process is not None:
            self._process.let_go()

    # --- what it says ------------------------------------------------------------------------------

    def _read(self, timeout_s: float | None) -> bool:
        """Wait for something to happen and take it in; False if nothing did."""
        assert self._process is not None
        descriptor = self._process.said
        if descriptor < 0:
            self._note_silent_end()
            return True
        if not select.select([descriptor], [], [], None if timeout_s is None else max(0.0, timeout_s))[0]:
            return False
        self._take(os.read(descriptor, 65_536))
        return True

    def _drain(self) -> None:
        assert self._process is not None
        if self._process.said < 0:
            return
        while not self._over:
            try:
                data = os.read(self._process.said, 65_536)
            except BlockingIOError:
                return
            self._take(data)
            if not data:
                return

    def _take(self, data: bytes) -> None:
        if not data:
            if not self._over:
                self._note_silent_end()
            return
        self._unread += data
        *lines, self._unread = self._unread.split(b"\n")
        if len(self._unread) > MAX_LINE_BYTES:
            self._unread = b""
        for line in lines:
            if line.startswith(STARTED):
                self._on_message({"event": "started"})  # and what it says of the target is for others
                continue
            import json  # not before it is needed: where all cores are taken, each import costs the target

            with suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._on_message(message)

    def _on_message(self, message: Mapping[str, object]) -> None:
        event = message.get("event")
        if event == "started":
            self._started = True
        elif event == "note":
            if len(self._notes) < MAX_NOTES:
                self._notes.append(str(message.get("text")))
        elif event == "silent":
            self.silent = str(message.get("text"))
            if len(self._notes) < MAX_NOTES:
                self._notes.append(self.silent)
        elif event == "answers":
            self.silent = None
        elif event == "error":
            kind = _ERRORS.get(str(message.get("kind")), FtdiagError)
            hint = message.get("hint")
            self._error = kind(str(message.get("what")), None if hint is None else str(hint))
        elif event == "ended":
            from ftdiag.model import EndReason

            reason = EndReason(str(message.get("reason")))
            self._end = SamplingEnd(reason, str(message.get("detail")))

    def _note_silent_end(self) -> None:
        """The process ended without a last word: a signal, or a mistake of ours."""
        assert self._process is not None
        # It has closed its standard output: all that is left is the kernel's work.
        status = self._process.wait(FINISH_TIMEOUT_S)
        details = self._said_on_stderr()
        if status is not None and status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            self._error = SamplerFailed(
                f"the sampler was killed by {name}",
                "What was recorded until then can be read. If nobody killed it: dmesg | tail   shows"
                " whether memory ran out.",
                details,
            )
            return
        last = details.strip().rpartition("\n")[2]
        if errors.is_of_memory(last):
            words = "the sampler was not given enough memory"
            self._error = SamplerFailed(words, errors.MEMORY_HINT, details)
            return
        self._error = SamplerFailed(
            f"the sampler failed: {last or f'it ended with status {status}'}",
            "This is a mistake in ftdiag. FTDIAG_DEBUG=1 shows more for a report.",
            details,
        )

    def _said_on_stderr(self) -> str:
        if self._process is None or self._process.errors < 0:
            return self._details
        return self._process.errors_said(MAX_STDERR_BYTES)

    def _raise_error(self) -> None:
        assert self._error is not None
        raise self._error
