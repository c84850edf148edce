"""The sampler's process: told what to do on standard input, says how it goes on standard output.

In: `SamplerOptions` as one line of JSON on standard input, which stays open: when it closes (the parent is
gone), sampling ends. A line `prepare` before it: import and read at once what is needed whatever is
looked at. Out: a recording that grows by one window a second, and lines of JSON on standard output:
`started`, `note`, `silent` (the target does not answer for now), `answers`, `error`, `ended`. Run as
`python -m ftdiag.sampling.process`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":
    gc.disable()  # what is imported is no garbage, and looking for it takes a tenth of that

from ftdiag import __version__
from ftdiag.datatypes import asdict
from ftdiag.errors import (
    MEMORY_HINT,
    BudgetSpent,
    DiskFull,
    FtdiagError,
    MemoryReadError,
    RecordingError,
    TargetGone,
    TargetSilent,
    UnsupportedPython,
)
from ftdiag.model import End, EndReason, RecordingSettings
from ftdiag.ownthreads import take_name
from ftdiag.sampling.clock import Clock, Observer
from ftdiag.sampling.lifeline import Lifeline
from ftdiag.sampling.options import PREPARE, SamplerOptions
from ftdiag.sampling.readers import READERS
from ftdiag.sampling.target import TargetProcess
from ftdiag.sampling.watchdog import OWN_THREAD, Watchdog
from ftdiag.sources.budget import Budget
from ftdiag.sources.kernel import procfs
from ftdiag.sources.kernel.scheduling import go_first

if TYPE_CHECKING:
    from ftdiag.recording.writer import RecordingWriter

# While the request is awaited: most targets are read by the first reader.
importlib.import_module(f"ftdiag.sampling.observers.{next(iter(READERS.values()))}")

NEEDED_LATER: Final = ("ftdiag.recording.writer", "capstone")
"""Imported when they are needed, or ahead of the request: 0.1 s of a core."""
THREADS_SHARE: Final = 2 / 3
"""Part of the descriptors that may be kept open which are for the files of threads, the rest is for native
samples."""


MEMORY_BYTES: Final = 8 << 30
"""Address space of a sampler. It takes some hundred MB; a target chooses how much code and how many stacks it
has, and this keeps that from being the machine's memory."""
SWITCH_S: Final = 0.0005
"""How long another thread of the sampler may keep the one that ticks from going on (5 ms by default)."""


def open_observer(
    options: SamplerOptions, process: TargetProcess, descriptors: int, watchdog: Watchdog | None = None
) -> Observer:
    """The first reader that can read a target, or the one that was asked for.

    `descriptors` is how many events of native samples may be open. Raises AttachError.
    """
    refusal: UnsupportedPython | None = None
    asked = [name for name in READERS if options.source in ("auto", name)]
    for name in asked:
        try:
            module = importlib.import_module(f"ftdiag.sampling.observers.{READERS[name]}")
            observer: Observer = module.open_observer(options, process, descriptors, refusal, watchdog)
        except UnsupportedPython as error:
            if name == asked[-1]:
                raise
            refusal = error
        else:
            return observer
    raise AssertionError(f"no reader is called {options.source}")


class Silence:
    """What is done when the target does not answer: the recording is finished, and this process ends.

    From the watchdog's thread; the one that samples waits for what never comes.
    """

    def __init__(self, pid: int, clear_away: Callable[[], None]) -> None:
        self._pid = pid
        self._clear_away = clear_away
        self.writer: RecordingWriter | None = None
        """Where a recording was begun."""

    def slow(self, what: str) -> None:
        """Say that it takes long; where nothing was recorded yet, that is the end."""
        if self.writer is None or (what == OWN_THREAD and limited_bytes()):
            self(what)
        _say({"event": "silent", "text": f"process {self._pid} does not answer for now: {what}"})

    def back(self) -> None:
        """It answers again."""
        _say({"event": "answers"})

    def __call__(self, what: str) -> None:
        """Say so, in order, and end."""
        until_then = "" if self.writer is None else " What was recorded until then can be read."
        error: FtdiagError = TargetSilent(
            f"process {self._pid} does not answer: {what}",
            "Part of its memory is brought by another program (userfaultfd, FUSE) that does not do so."
            f"{until_then}\nftdiag doctor {self._pid}   says what can be asked of it",
        )
        if what == OWN_THREAD and limited_bytes():
            error = out_of_memory(self._pid)
        try:
            if self.writer is not None:
                with suppress(FtdiagError):
                    self.writer.finish(End(EndReason.FAILED, error.what, time.monotonic_ns()))
            _say_error(error)
            self._clear_away()
        finally:
            os._exit(error.exit_status)


def sample(
    options: SamplerOptions, *, wake_fd: int | None = None, clear_away: Callable[[], None] = lambda: None
) -> End:
    """Attach, sample into `options.path` until the end, finish the recording.

    Calls back on standard output as the module's docstring says; ends this process, after `clear_away`, when
    the target does not answer. Raises AttachError, RecordingError, DiskFull.
    """
    from ftdiag.recording.writer import RecordingWriter

    silence = Silence(options.pid, clear_away)
    watchdog = Watchdog(silence, silence.slow, silence.back)
    watchdog.reading = True
    procfs.raise_descriptor_limit()
    free = procfs.free_descriptors()
    for_threads = int(THREADS_SHARE * free)
    process = TargetProcess(options.pid)
    process.memory.budget = Budget(options.pid, clock=time.thread_time)
    with _or_what_became_of(process):
        observer = open_observer(options, process, free - for_threads, watchdog)
    watchdog.reading = False
    clock = Clock(options, process, observer, for_threads, watchdog)
    settings = RecordingSettings(
        rate_hz=options.rate_hz,
        started_ns=time.monotonic_ns(),
        started_unix_ns=time.time_ns(),
        ftdiag_version=__version__,
        host=os.uname().nodename,
        source=observer.source,
        native=observer.native_state,
        native_missing=observer.native_missing,
        no_stacks=observer.no_stacks,
    )
    writer = RecordingWriter(
        Path(options.path),
        process.target,
        settings,
        keep_ns=options.keep_ns,
        keep_bytes=options.keep_bytes,
    )
    silence.writer = writer
    try:
        with _or_what_became_of(process):
            clock.attach(writer, lambda text: _say({"event": "note", "text": text}))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: clock.stop(EndReason.STOPPED, "stopped on request"))
        _say({"event": "started", "target": asdict(process.target)})
        gc.freeze()
        gc.disable()
        go_first()
        try:
            end = clock.run(wake_fd)
        except MemoryError:
            end = End(EndReason.FAILED, "the sampler had no memory left", time.monotonic_ns())
            with suppress(FtdiagError, MemoryError):
                writer.finish(end)
            raise out_of_memory(options.pid) from None
        except DiskFull as error:
            end = End(EndReason.DISK_FULL, error.what, time.monotonic_ns())
            with suppress(DiskFull, RecordingError):
                writer.finish(end)
            raise
        writer.finish(end)
    finally:
        watchdog.close()
        clock.close()
        writer.close()
        process.close()
    return end


def bound_memory() -> None:
    """Let this process have so much address space; what it starts may have more."""
    with suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > MEMORY_BYTES:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))


def limited_bytes() -> int:
    """The address space that a shell lets us have, if that is less than we let ourselves; else 0."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return soft if soft != resource.RLIM_INFINITY and soft < MEMORY_BYTES else 0


def out_of_memory(pid: int) -> BudgetSpent:
    """What to say where there is no memory left, be it ours to bound or the shell's."""
    until_then = "What was recorded until then can be read."
    if limit := limited_bytes():
        return BudgetSpent(
            f"looking at process {pid} was given up: its sampler may use {limit >> 20} MiB of address space,"
            " and needs more",
            f"{until_then}\n{MEMORY_HINT}",
        )
    return BudgetSpent(
        f"looking at process {pid} was given up: it takes more than {MEMORY_BYTES >> 30} GiB of memory, or"
        " there is no more",
        f"{until_then} ftdiag attach with a lower --rate takes less.",
    )


def _say_error(error: FtdiagError) -> None:
    _say({"event": "error", "kind": type(error).__name__, "what": error.what, "hint": error.hint})


@contextmanager
def _or_what_became_of(process: TargetProcess) -> Iterator[None]:
    """Memory that cannot be read, and files of /proc that are not there, may be those of a program that ended
    or was replaced meanwhile: say so then.

    Raises TargetGone.
    """
    try:
        yield
    except (MemoryReadError, FileNotFoundError, ProcessLookupError):
        end = process.changed(time.monotonic_ns())
        if end is None:
            raise
        raise TargetGone(end.detail, "ftdiag list   shows the Python processes") from None


def _say(message: Mapping[str, object]) -> None:
    """One line of JSON for the parent. A parent that is gone is noticed elsewhere."""
    with suppress(BrokenPipeError, OSError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Entry point of the sampler's process: options as one line of JSON on standard input."""
    take_name("-sampler")
    sys.setswitchinterval(SWITCH_S)
    bound_memory()
    try:
        return _serve()
    except FtdiagError as error:
        _say_error(error)
        return error.exit_status


def prepare() -> None:
    """Import what is needed later, and read what is the machine's: 0.15 s of a core, ahead of the request."""
    for name in NEEDED_LATER:
        with suppress(ImportError):  # told where it is needed
            importlib.import_module(name)
    from ftdiag.sources.native.kernelsymbols import kernel_symbols_shown, read_kernel_symbols

    if kernel_symbols_shown():
        read_kernel_symbols()


def _serve() -> int:
    try:
        lifeline = Lifeline(sys.stdin.fileno())
    except MemoryError:
        lifeline = None
    request = sys.stdin.readline()
    if request == PREPARE:
        prepare()
        request = sys.stdin.readline()
    if not request:
        return 0  # started ahead, and not wanted
    options = SamplerOptions(**json.loads(request))
    if lifeline is None:
        raise out_of_memory(options.pid)
    try:
        lifeline.abandoned = Path(options.path).parent if options.private else None
        end = sample(options, wake_fd=sys.stdin.fileno(), clear_away=lifeline.clear_away)
    except MemoryError:
        raise out_of_memory(options.pid) from None
    finally:
        lifeline.clear_away()
    _say({"event": "ended", "reason": end.reason.value, "detail": end.detail})
    return 0


if __name__ == "__main__":
    sys.exit(main())
