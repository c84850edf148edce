"""A sampler at work for a command: where it writes, how it starts, what its errors mean.

In: a pid and what was asked for. Out: a growing recording. An error of the sampler is explained here: which
permission is missing, and the command that gives it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from ftdiag.commands.shortage import prepare_analysis
from ftdiag.commands.terminal import Progress, Terminated, note
from ftdiag.datatypes import dataclass
from ftdiag.errors import (
    DiskFull,
    FtdiagError,
    NoSuchProcess,
    PermissionRefused,
    RecordingError,
)
from ftdiag.launcher import SamplerProcess, SamplingEnd
from ftdiag.sampling.options import Effort, SamplerOptions
from ftdiag.sources.kernel.scheduling import hurry_less
from ftdiag.sources.kernel.tasks import status_fields
from ftdiag.summing import Summing

if TYPE_CHECKING:
    from pathlib import Path

RING_NS: Final = 30 * 60 * 1_000_000_000
"""What is kept of a look without --record: the last 30 minutes ..."""
RING_BYTES: Final = 300_000_000
"""... and at most this much."""
POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampler and the file it writes; `kept` if that stays."""

    pid: int
    sampler: SamplerProcess
    file: str
    kept: bool
    duration_s: float | None

    @property
    def path(self) -> Path:
        """The file as what reads it takes it."""
        from pathlib import Path

        return Path(self.file)

    def wait_until_started(self) -> None:
        """Return when there is a recording to open; raise what prevents it, explained."""
        try:
            self.sampler.wait_until_started()
        except FtdiagError as error:
            raise self.explained(error) from None
        self.say_notes()

    def say_notes(self) -> None:
        """Say what the sampler said about how the process can be read."""
        for said in self.sampler.take_notes():
            for line in said.splitlines():
                note(line)

    def explained(self, error: FtdiagError) -> FtdiagError:
        """The error with the reason that a person can do something about."""
        if isinstance(error, DiskFull) and not self.kept:
            return DiskFull(error.what, "TMPDIR=/some/directory ftdiag ...   takes another place")
        return explained(error, self.pid)

    def has_seen(self) -> bool:
        """Whether the recording has something that can be reported already."""
        from ftdiag.recording.reader import Recording

        try:
            with Recording.open(self.path) as recording:
                return len(recording) > 0
        except FtdiagError:
            return False

    def wait(
        self, progress: Callable[[float], str], early: BaseException | None = None
    ) -> tuple[SamplingEnd | None, int]:
        """Wait for the end, or for Ctrl-C or SIGTERM; the end, and the signal's number or 0.

        `early` is one that came before. Raises what the sampler reports, after which the recording can still
        be read.
        """
        line = Progress()
        begin = time.monotonic()
        with self.summed_up():
            try:
                if early is not None:
                    raise early
                pause_s = POLL_S if line.active else None  # nobody sees how it goes: nothing to do meanwhile
                while True:
                    end = self.sampler.wait(pause_s, or_notes=True)
                    if end is not None:
                        self.sampler.stop()
                        return end, 0
                    if self.sampler.has_notes:
                        line.clear()
                        self.say_notes()
                    if line.active:
                        line.show(progress(time.monotonic() - begin))
            except KeyboardInterrupt:
                line.clear()
                return self.sampler.stop(), signal.SIGINT
            except Terminated as termination:
                return self.sampler.stop(), termination.number
            finally:
                line.clear()
                self.say_notes()

    @contextmanager
    def summed_up(self) -> Iterator[None]:
        """A recording that stays is summed up meanwhile; the sampler has ended when the context is left."""
        summing = Summing(self.file, prepare_analysis) if self.kept else None
        try:
            yield
        finally:
            if summing is not None:
                summing.finish()


@contextmanager
def sampling(
    pid: int,
    *,
    effort: Effort,
    duration_s: float | None,
    record: str | os.PathLike[str] | None,
    sampler: SamplerProcess | None = None,
    source: str = "auto",
    blocking: bool = False,
) -> Iterator[Sampling]:
    """Begin to sample `pid`, without waiting for anything; it has ended when the context is left.

    Without `record` the recording is a ring in a private directory, which is removed.
    """
    with ExitStack() as stack:
        # The directory is removed last, when nobody writes into it any more.
        if record is None:
            from ftdiag.scratch import private_directory

            path = os.path.join(stack.enter_context(private_directory()), "recording")
        else:
            path = os.fspath(record)
        process = stack.enter_context(SamplerProcess() if sampler is None else sampler)
        started_unix_ns = time.time_ns()
        process.start(
            SamplerOptions(
                pid=pid,
                path=path,
                rate_hz=effort.rate_hz,
                native_rate_hz=effort.native_rate_hz,
                budget_cores=effort.budget_cores,
                burst=effort.burst,
                duration_s=duration_s,
                keep_ns=None if record is not None else RING_NS,
                keep_bytes=None if record is not None else RING_BYTES,
                source=source,
                blocking=blocking,
                private=record is None,
            )
        )
        hurry_less()  # the first tick does not wait for us any more
        try:
            yield Sampling(pid, process, path, record is not None, duration_s)
        except BaseException:
            process.close()
            if record is not None:
                remove_if_empty(path, pid, started_unix_ns)
            raise


def remove_if_empty(path: str, pid: int, started_unix_ns: int) -> None:
    """Remove a recording that we began and into which nothing came; any other file stays."""
    try:
        prepare_analysis()
        from pathlib import Path

        from ftdiag.recording.reader import Recording

        with Recording.open(Path(path)) as recording:
            ours = recording.target.pid == pid and recording.settings.started_unix_ns >= started_unix_ns
            empty = len(recording) == 0
    except (FtdiagError, OSError):
        return
    if ours and empty:
        for ending in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(f"{path}{ending}")


def explained(error: FtdiagError, pid: int) -> FtdiagError:
    """An error of attaching with its cause: which permission, whose thread."""
    if not isinstance(error, PermissionRefused | NoSuchProcess):
        return error
    from ftdiag.sources.kernel import permissions

    more = f"ftdiag doctor {pid}   says what works and what does not"
    if permissions.is_hidden(pid):
        reason = permissions.why_hidden(pid)
        return PermissionRefused(reason.sentence, f"{reason.remedy}\n{more}")
    if isinstance(error, PermissionRefused):
        reason = permissions.why_refused(pid)
        return PermissionRefused(reason.sentence, f"{reason.remedy}\n{more}")
    return error


def check_is_process(pid: int) -> None:
    """Raise NoSuchProcess for the id of a thread: /proc knows it, but it is not what is attached to."""
    leader = status_fields(f"/proc/{pid}/status", (b"Tgid",)).get(b"Tgid", b"")
    if leader.isdigit() and int(leader) != pid:
        raise NoSuchProcess(
            f"{pid} is a thread of process {int(leader)}", f"ftdiag attach {int(leader)}   looks at all of it"
        )


def check_can_record(path: Path) -> None:
    """Raise RecordingError where a recording cannot be made: before a program is started for it."""
    if os.path.lexists(path):
        raise RecordingError(
            f"{path} exists already; a recording never overwrites a file.",
            "Choose another name, or remove the file first.",
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        reason = "may not be written to" if path.parent.is_dir() else "is not a directory"
        raise RecordingError(
            f"{path} cannot be created: {path.parent} {reason}.",
            "Choose a directory that exists and that you may write to.",
        )
