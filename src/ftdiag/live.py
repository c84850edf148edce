"""Recording and watching processes from Python: what the commands do, without a terminal.

In: the id of a process, or the path of a recording. Out: a recording, and how it ended; or a `Session` on one
that grows. The process is looked at by a sampler, a process of its own, which ends with what started it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ftdiag.launcher import SamplerProcess, SamplingEnd
from ftdiag.recording.reader import Recording
from ftdiag.sampling.options import DEFAULT_NATIVE_RATE_HZ, DEFAULT_RATE_HZ, SamplerOptions
from ftdiag.scratch import private_directory
from ftdiag.session import Session
from ftdiag.summing import Summing


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """A recording, finished or growing; to be closed, or used in a `with` block.

    Raises RecordingError: no such file, not a recording, damaged beyond use, or of a newer schema.
    """
    return Recording.open(Path(path))


def record(
    pid: int,
    path: str | os.PathLike[str],
    *,
    duration_s: float | None = None,
    rate_hz: float = DEFAULT_RATE_HZ,
    native_rate_hz: float = DEFAULT_NATIVE_RATE_HZ,
) -> SamplingEnd:
    """Record a process into a new file until `duration_s` is over, or it ends; returns which it was.

    `rate_hz` are ticks per second, `native_rate_hz` samples of machine code per second while a thread is on a
    core (0: none). Raises UsageError for values that make no sense; NoSuchProcess, PermissionRefused,
    NotPython, UnsupportedPython, RecordingError, DiskFull; SamplerFailed where the sampler was killed.
    """
    request = SamplerOptions(
        pid=pid,
        path=os.fspath(path),
        rate_hz=rate_hz,
        native_rate_hz=native_rate_hz,
        duration_s=duration_s,
    )
    summing: Summing | None = None
    try:
        with SamplerProcess() as sampler:
            sampler.start(request)
            sampler.wait_until_started()
            summing = Summing(Path(path))
            end = sampler.wait()
            assert end is not None  # without a limit it waits for the end
            return end
    finally:
        # Nothing is written any more.
        if summing is not None:
            summing.finish()


@contextmanager
def attach(
    pid: int,
    *,
    rate_hz: float = DEFAULT_RATE_HZ,
    native_rate_hz: float = DEFAULT_NATIVE_RATE_HZ,
    keep_s: float = 1800.0,
) -> Iterator[Session]:
    """A session on a recording that grows while the process is looked at; `refresh` takes in what came.

    The recording has the last `keep_s` seconds, lies in a private directory, and goes with the context.
    Raises what `record` does.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(private_directory())
        request = SamplerOptions(
            pid=pid,
            path=os.fspath(directory / "recording"),
            rate_hz=rate_hz,
            native_rate_hz=native_rate_hz,
            keep_ns=int(keep_s * 1e9),
            private=True,
        )
        sampler = stack.enter_context(SamplerProcess())
        sampler.start(request)
        sampler.wait_until_started()
        recording = stack.enter_context(open_recording(request.path))
        yield Session(recording)
