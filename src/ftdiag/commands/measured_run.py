"""One run of a sweep: its processes started together, recorded or not, timed, and ended in every case.

In: command lines, how throughput is read, limits. Out: a `Run`, or the reason why there is none as
FtdiagError.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ftdiag import descriptors
from ftdiag.commands.program import Program, start, wait_until_python
from ftdiag.datatypes import dataclass
from ftdiag.errors import AttachError, FtdiagError
from ftdiag.launcher import SamplerProcess
from ftdiag.sampling.options import MAX_BUDGET_CORES, MIN_BUDGET_CORES, SamplerOptions
from ftdiag.scaling import throughput
from ftdiag.scaling.results import Foreseen, Run
from ftdiag.scaling.settings import Setting
from ftdiag.scaling.throughput import Reading
from ftdiag.scratch import private_directory

if TYPE_CHECKING:
    from ftdiag.scaling.digest import Digest

LOOK_S: Final = 0.2
"""How often a running job is looked at: its counter, its memory, the size of its output."""
MEMORY_S: Final = 1.0
"""How often the memory of several processes is added up."""
MAX_OUTPUT_BYTES: Final = 256 << 20
"""A job that writes more is ended: the disk is not ours to fill."""
READ_OUTPUT_BYTES: Final = 16 << 20
"""So much of the end of the output is searched for numbers."""
MAX_COUNTER_BYTES: Final = 4096
END_S: Final = 5.0
"""How long a job that is ended may take before it is killed."""
IMPORTS_S: Final = 3.0
QUIET_S: Final = 0.1
"""A process that took no CPU time for so long waits for something."""
SHOWN_LINES: Final = 5
MOST_RECORDED: Final = 8
"""Processes of one run that are recorded."""
NATIVE_RATE_HZ: Final = 25.0
OVERHEAD_RATIO: Final = 0.005
"""The samplers of a run look less often rather than use more of the cores than this, all together. It is half
of what recording may cost: the other half is for their start."""


class JobFailed(FtdiagError):
    """The job ended with an error, or did not end."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run: `commands` has a line for each process that is started."""

    setting: Setting
    round: int
    commands: tuple[tuple[str, ...], ...]
    reading: Reading
    timeout_s: float
    skip_s: float
    recordings: tuple[Path, ...]
    """New files, one for each process that is recorded."""
    rate_hz: float
    adds_memory: bool
    """Whether memory of its own is added up over all processes, which costs some milliseconds a second."""
    capacity_cores: float
    next_threads: int | None = None
    """The number of threads of which a replay of the run shall say what it would bring."""


def run_once(job: Job, passed: Callable[[float], None]) -> Run:
    """Run it; `passed` is told now and then how many seconds it has run.

    Raises JobFailed, NoThroughput, UsageError where it cannot be started; after all of them, and after
    Ctrl-C, none of its processes is left.
    """
    with private_directory() as directory, ExitStack() as stack:
        output = directory / "output"
        samplers = [stack.enter_context(SamplerProcess()) for _ in job.recordings]
        for sampler in samplers:
            sampler.prepare()
        _until_imported(samplers)
        watch = stack.enter_context(_started(job, output))
        recorded = _record(job, watch, samplers)
        watch.follow(passed)
        digest, foreseen, why = _finished(job, samplers, recorded)
        said = _tail(output)
        wall_s = watch.wall_s
        if job.reading.way == "pattern":
            value = throughput.printed(said, job.reading.pattern, _take(job))
        elif job.reading.way == "counter":
            value = throughput.counted(watch.counts, job.skip_s, job.reading.counter)
        else:
            value = throughput.per_second(job.reading, wall_s, job.setting.workers)
        latency = None
        if job.reading.latency:
            latency = throughput.printed(said, job.reading.latency, _latency_take(job), "--latency")
        return Run(
            setting=job.setting,
            round=job.round,
            throughput=throughput.check_throughput(value),
            wall_s=wall_s,
            latency_ms=latency,
            memory_bytes=watch.memory_bytes,
            memory_is_own=job.adds_memory,
            cpu_s=watch.cpu_s,
            digest=digest,
            foreseen=foreseen,
            recordings=tuple(path.name for path in job.recordings if path.exists()),
            not_recorded=why,
        )


def _until_imported(samplers: Sequence[SamplerProcess]) -> None:
    """Wait until they do nothing but wait for their request: imports must not take the cores from the job."""
    from ftdiag.sources.kernel.procfs import process_cpu_ns

    deadline = time.monotonic() + IMPORTS_S
    before = -1
    while samplers and time.monotonic() < deadline:
        used = sum(process_cpu_ns(sampler.pid) or 0 for sampler in samplers if sampler.pid is not None)
        if used == before:
            return
        before = used
        time.sleep(QUIET_S)


def _take(job: Job) -> str:
    """What each of several processes prints adds up."""
    return "sum" if len(job.commands) > 1 and job.reading.take == "only" else job.reading.take


def _latency_take(job: Job) -> str:
    """Of several processes, and of several lines, the mean."""
    return "mean" if len(job.commands) > 1 or job.reading.take in ("sum", "max") else job.reading.take


# --- the processes -------------------------------------------------------------------------------------


class _Watch:
    """The processes of a job while they run, and what was seen of them."""

    def __init__(self, job: Job, programs: Sequence[Program], output: Path, begun_s: float) -> None:
        self._job = job
        self.programs = programs
        self._output = output
        self._begun_s = begun_s
        self.wall_s = 0.0
        self.counts: list[tuple[float, float]] = []
        self.memory_bytes: int | None = None
        self.cpu_s: float | None = None
        self._cpu: dict[int, float] = {}
        self._resident: dict[int, int] = {}
        self._next_memory_s = 0.0

    def follow(self, passed: Callable[[float], None]) -> None:
        """Until all have ended. Raises JobFailed."""
        ends: dict[int, Program] = {}
        poll = select.poll()
        try:
            for program in self.programs:
                with suppress(ProcessLookupError):
                    descriptor = descriptors.open_process(program.pid)
                    ends[descriptor] = program
                    poll.register(descriptor, select.POLLIN)
            while ends:
                ready = poll.poll(LOOK_S * 1000)
                now_s = time.monotonic() - self._begun_s
                for descriptor, _ in ready:
                    program = ends.pop(descriptor)
                    poll.unregister(descriptor)
                    os.close(descriptor)
                    self.wall_s = max(self.wall_s, now_s)
                    self._read_kernel(program.pid)  # its last figures, before it is reaped
                    self._check_end(program)
                self._look(now_s)
                if ends and now_s > self._job.timeout_s:
                    raise JobFailed(
                        f"the job did not end within {self._job.timeout_s:g} s and was ended"
                        f" ({self._job.setting.words()}){self._said()}",
                        "--timeout SECONDS   gives it longer",
                    )
                passed(now_s)
        finally:
            for descriptor in ends:
                os.close(descriptor)
        self.wall_s = self.wall_s or time.monotonic() - self._begun_s
        self._read_counter(self.wall_s)
        self.cpu_s = sum(self._cpu.values()) if self._cpu else None
        if self.memory_bytes is None and self._resident:
            self.memory_bytes = sum(self._resident.values())

    def _check_end(self, program: Program) -> None:
        status = program.status
        if status is None:  # it has ended, and is not reaped yet
            program.process.wait()
            status = program.status
        if status:
            how = f"signal {status - 128}" if status > 128 else f"status {status}"
            raise JobFailed(
                f"the job failed with {how} ({self._job.setting.words()}){self._said()}",
                f"Run it by itself: {' '.join(self._job.commands[0])[:500]}",
            )

    def _said(self) -> str:
        lines = [line for line in _tail(self._output).splitlines() if line.strip()][-SHOWN_LINES:]
        return (
            "; it wrote nothing"
            if not lines
            else "; it wrote last: " + " | ".join(each[:200] for each in lines)
        )

    def _look(self, now_s: float) -> None:
        self._read_counter(now_s)
        with suppress(OSError):
            if self._output.stat().st_size > MAX_OUTPUT_BYTES:
                raise JobFailed(
                    f"the job wrote more than {MAX_OUTPUT_BYTES >> 20} MiB of output and was ended",
                    "-- sh -c 'exec COMMAND | tail -n 100'   keeps what matters, or have it write less",
                )
        if self._job.adds_memory and now_s >= self._next_memory_s:
            self._next_memory_s = now_s + MEMORY_S
            self._add_memory()
        for program in self.programs:
            self._read_kernel(program.pid)

    def _read_counter(self, now_s: float) -> None:
        name = self._job.reading.counter
        if self._job.reading.way != "counter":
            return
        from ftdiag.commands import plain_files

        with suppress(OSError):
            text = plain_files.read(name, MAX_COUNTER_BYTES).decode("utf-8", "replace")
            value = throughput.number_in(text)
            if value is not None:
                self.counts.append((now_s, value))

    def _add_memory(self) -> None:
        """Memory of their own of all processes and their children (USS: what ending them would give back)."""
        import psutil

        total = 0
        for program in self.programs:
            with suppress(psutil.Error):
                root = psutil.Process(program.pid)
                for process in (root, *root.children(recursive=True)):
                    with suppress(psutil.Error):
                        total += process.memory_full_info().uss
        if total:
            self.memory_bytes = max(self.memory_bytes or 0, total)

    def _read_kernel(self, pid: int) -> None:
        from ftdiag.sources.kernel.procfs import process_cpu_ns
        from ftdiag.sources.kernel.tasks import status_fields

        with suppress(OSError, FtdiagError):
            if not self._job.adds_memory:
                words = status_fields(f"/proc/{pid}/status", (b"VmHWM",)).get(b"VmHWM", b"").split()
                if words and words[0].isdigit():
                    self._resident[pid] = int(words[0]) * 1024
            used = process_cpu_ns(pid)
            if used is not None:
                self._cpu[pid] = used / 1e9


@contextmanager
def _started(job: Job, output: Path) -> Iterator[_Watch]:
    """The processes, each the leader of a group of its own; all of it is gone when the context is left."""
    programs: list[Program] = []
    with open(output, "xb", buffering=0) as stream, open(os.devnull, "rb") as nothing:
        begun_s = time.monotonic()
        try:
            programs.extend(
                start(command, stdin=nothing.fileno(), stdout=stream, stderr=stream, own_group=True)
                for command in job.commands
            )
            yield _Watch(job, programs, output, begun_s)
        finally:
            _end(programs)


def _end(programs: Sequence[Program]) -> None:
    """End what is left, with all in its group: by request, by force when that does not help."""
    for number, wait_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
        left = [program for program in programs if program.status is None]
        for program in programs:
            if program in left or number == signal.SIGKILL:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(program.pid, number)
        deadline = time.monotonic() + wait_s
        while left and time.monotonic() < deadline:
            left = [program for program in left if program.status is None]
            time.sleep(0.01)


def _tail(output: Path) -> str:
    """The end of what was written."""
    from ftdiag.opening import open_plain

    try:
        descriptor = open_plain(output)
    except OSError:
        return ""
    try:
        size = os.fstat(descriptor).st_size
        begin = max(0, size - READ_OUTPUT_BYTES)
        return os.pread(descriptor, READ_OUTPUT_BYTES, begin).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


# --- recording -----------------------------------------------------------------------------------------


def _record(job: Job, watch: _Watch, samplers: Sequence[SamplerProcess]) -> list[FtdiagError | None]:
    """Attach a sampler to each process; for each what prevented it, or `None`."""
    found: list[FtdiagError | None] = []
    for program, path, sampler in zip(watch.programs, job.recordings, samplers, strict=False):
        try:
            pid = _python_of(program)
            sampler.start(
                SamplerOptions(
                    pid=pid,
                    path=os.fspath(path),
                    rate_hz=job.rate_hz,
                    native_rate_hz=NATIVE_RATE_HZ,
                    budget_cores=_budget(job),
                )
            )
            sampler.wait_until_started()
            found.append(None)
        except FtdiagError as error:
            from ftdiag.commands.sampling import explained

            found.append(explained(error, program.pid))
    return found


def _budget(job: Job) -> float:
    """What each sampler may use once it knows the program."""
    share = OVERHEAD_RATIO * job.capacity_cores / max(1, len(job.recordings))
    return min(MAX_BUDGET_CORES, max(MIN_BUDGET_CORES, share))


def _python_of(program: Program) -> int:
    """The process that is looked at: the program's own, or the one Python that a wrapper started."""
    from ftdiag.commands.processes import python_children
    from ftdiag.errors import NotPython

    try:
        wait_until_python(program)
    except NotPython:
        children = python_children(program.pid)
        if len(children) != 1:
            raise
        return children[0]
    return program.pid


def _finished(
    job: Job, samplers: Sequence[SamplerProcess], recorded: Sequence[FtdiagError | None]
) -> tuple[Digest | None, Foreseen | None, str | None]:
    """What the recordings say, of all processes together, and of the next point; or why they say nothing."""
    if not job.recordings:
        return None, None, None
    from ftdiag.scaling.digest import together

    digests: list[Digest] = []
    foreseen: Foreseen | None = None
    why: str | None = None
    for sampler, path, error in zip(samplers, job.recordings, recorded, strict=False):
        try:
            if error is not None:
                raise error
            with suppress(AttachError):
                # The job's end is its end.
                sampler.stop()
            digest, foreseen = seen_in(path, job.skip_s, job.next_threads)
            digests.append(digest)
        except FtdiagError as failure:
            why = failure.what
    if not digests or why is not None:
        return None, None, why
    return together(digests), foreseen, None


def seen_in(
    path: Path, skip_s: float = 0.0, next_threads: int | None = None
) -> tuple[Digest, Foreseen | None]:
    """What a recording says without its first seconds, and of another number of threads.

    Raises RecordingError.
    """
    from ftdiag.errors import RecordingError
    from ftdiag.model import Change, ChangeKind
    from ftdiag.recording.reader import Recording
    from ftdiag.scaling.digest import digest_of
    from ftdiag.session import Session

    with Recording.open(path) as recording:
        span = recording.span_ns()
        if span is None:
            raise RecordingError("the run ended before it could be looked at", "Let it run a second or more.")
        begin = span[0] + int(skip_s * 1e9)
        session = Session(recording)
        snapshot = session.snapshot(begin if begin < span[1] else None)
        foreseen = None
        if next_threads is not None:
            change = Change(ChangeKind.THREADS, number=float(next_threads))
            told = session.predict([change], snapshot.t0_ns, snapshot.t1_ns)
            foreseen = Foreseen(next_threads, told.gain, told.low, told.high, told.not_told)
        return digest_of(snapshot), foreseen
