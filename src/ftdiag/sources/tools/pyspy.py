"""py-spy as a reader of stacks: for interpreters whose memory we cannot read, and to compare with.

In: a pid. Out: what every thread was doing, in pieces of a second or so ("takes"), as py-spy saw it.

`py-spy record --format chrometrace` is what is run, one take after the other, the next begun before the one
before has ended: of py-spy's outputs it alone keeps times with the stacks, names and thread ids. What
`dump --json` knows is more exact, but costs a process for each look: measured on five threads, 86 % of a core
at 100 samples per second against 4 %. Raw and speedscope files keep no times. Idle flags are not in a trace
(--idle keeps all threads); the kernel, asked at every tick, says more than they do.

py-spy runs as a child that is confined (`confined`), because it reads the files that the target maps: as the
target's user where the kernel lets that user look, else as root with the two capabilities that looking takes.
With --nonblocking, so that it never stops the target (unless that is asked for), into memory that has no name
in the file system, with a bound on its output, and killed by the kernel if we die. It is never asked for
local variables.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ftdiag import confined, descriptors
from ftdiag.confined import CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, MIB, Child, Limits, Rights
from ftdiag.datatypes import dataclass, field
from ftdiag.errors import AttachError, FtdiagError, MemoryReadError
from ftdiag.formats.pyspy_format import TracedThread, UnknownOutput, stays
from ftdiag.model import Stack
from ftdiag.opening import Reader, open_plain
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.tasks import status_fields

PROGRAM: Final = "py-spy"
PROBE_TIMEOUT_S: Final = 20.0
"""One look takes 10 ms; reading the symbols of a large program on a busy machine takes seconds."""
TAKE_S: Final = 1
"""Length of a take: py-spy counts whole seconds."""
LATEST_S: Final = 10.0
"""A take that is not there so long after it should be is given up."""
MAX_OUTPUT_BYTES: Final = 128 << 20
"""Most that one take may write."""
MAX_MESSAGE_BYTES: Final = 4096
MAX_FAILURES: Final = 3
"""After so many takes in a row that gave nothing py-spy is not asked again."""
LEAD_NS: Final = 100_000_000
"""So long before a take should end the next is begun: 40 to 70 ms until py-spy looks were measured."""
MAX_LEAD_NS: Final = 500_000_000
EVENTS_AT_ONCE: Final = 64
"""Events decoded between two looks at the clock."""
UNKNOWN: Final = "py-spy wrote what ftdiag does not know"
PTHREAD_BYTES: Final = 4096
"""Of a thread's control block, the part that is searched for its id."""
LIMITS: Final = Limits(
    seconds=60.0, cpu_s=60, memory_bytes=16_384 * MIB, file_bytes=MAX_OUTPUT_BYTES, processes=64
)
"""Of each process. Twice the patience that we have ourselves; it maps all libraries of the target."""
ENVIRONMENT: Final = {**confined.ENVIRONMENT, "NO_COLOR": "1", "CLICOLOR": "0", "RUST_BACKTRACE": "0"}
_VERSION: Final = re.compile(r"^Python v?(\d{1,3}\.\d{1,3}\.\d{1,3}[0-9a-z.+-]{0,20})", re.MULTILINE)
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


class PySpyFailed(FtdiagError):
    """py-spy is not there, is refused, hangs, or says what we do not know."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What py-spy can read of a process: the version of its Python."""

    python_version: str


@dataclass(slots=True)
class TakenThread:
    """What a thread did during a take.

    `number` is the kernel's id, or Python's (`threading.get_ident`) if not `kernel`. `times_ns[i]` is when,
    on CLOCK_MONOTONIC, the thread was first seen in `stacks[i]` (leaf first); ascending.
    """

    number: int
    kernel: bool
    ident: int
    name: str
    times_ns: array[int] = field(default_factory=lambda: array("q"))
    stacks: list[Stack] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Take:
    """What py-spy saw between `begin_ns` and `end_ns` (CLOCK_MONOTONIC); `errors` of its looks failed."""

    begin_ns: int
    end_ns: int
    threads: tuple[TakenThread, ...]
    errors: int = 0


# --- the program --------------------------------------------------------------------------------------


def find_program(search: str | None = None) -> Path:
    """Where py-spy is: beside our Python, or on `search` (PATH). Raises PySpyFailed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{search or os.environ.get('PATH', os.defpath)}"
    found = shutil.which(PROGRAM, path=path)
    if found is None:
        raise PySpyFailed("py-spy is not installed", "pip install py-spy")
    return Path(found)


def probe(pid: int, program: Path | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> Probe:
    """Have py-spy look at a process once. Raises PySpyFailed with the reason in py-spy's words."""
    command = [os.fspath(program or find_program()), "dump", "--nonblocking", "--pid", str(pid)]
    with _Run(command, rights_to_look(pid)) as run:
        if run.wait(timeout_s) is None:
            raise PySpyFailed(
                f"py-spy did not answer within {timeout_s:g} s", f"{' '.join(command)}   shows why"
            )
        failure = run.failure()
        if failure is not None:
            raise _not_started(failure)
        text = run.messages()
        if run.status:
            raise PySpyFailed(f"py-spy cannot read process {pid}: {reason_in(text)}", f"ftdiag doctor {pid}")
    match = _VERSION.search(_COLOURS.sub("", text))
    if match is None:
        raise PySpyFailed(
            f"py-spy wrote what ftdiag does not know: {text[:80]!r}", "pip install --upgrade py-spy"
        )
    return Probe(match[1])


def reason_in(text: str) -> str:
    """The sentence in which py-spy says what went wrong."""
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("Error:", "Reason:"))] or lines[-1:]
    return "; ".join(line.split(": ", 1)[-1] for line in said)[:300] or "it does not say why"


def rights_to_look(pid: int) -> Rights | None:
    """Whose rights py-spy gets for a process; `None`: ours. Raises PySpyFailed.

    The target's user may look where nothing sets the target apart from that user's other processes
    (__ptrace_may_access in kernel/ptrace.c, and Yama). Else it takes root, with no more of it than that.
    """
    if os.geteuid() != 0:
        return None
    try:
        owner = confined.owner_of(pid)
    except AttachError as error:
        raise PySpyFailed(f"py-spy is not asked: {error.what}", error.hint) from None
    if owner.user != 0 and _is_open_to_its_user(pid, owner.user):
        return Rights(owner.user, owner.group)
    return Rights(0, 0, (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH))


def _is_open_to_its_user(pid: int, user: int) -> bool:
    with suppress(OSError, ValueError):
        # As long as a process may be looked at, its directory is its user's.
        if os.stat(f"/proc/{pid}").st_uid != user:
            return False
        if status_fields(f"/proc/{pid}/status", (b"CapPrm",))[b"CapPrm"].strip(b"0"):
            return False
        if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
            return False
        try:
            with open("/proc/sys/kernel/yama/ptrace_scope", "rb") as stream:
                return int(stream.read(16)) == 0
        except FileNotFoundError:
            return True
    return False


class _Run:
    """One py-spy process whose output goes to memory. A context manager: it is gone when that is left."""

    def __init__(self, command: Sequence[str], rights: Rights | None, *, output: bool = False) -> None:
        self._messages = descriptors.file_in_memory("ftdiag-py-spy-messages")
        self._output = descriptors.file_in_memory("ftdiag-py-spy") if output else None
        kept = [] if self._output is None else [self._output]
        arguments = [*command, *(("--output", f"/proc/self/fd/{self._output}") if output else ())]
        program = _in_reach(arguments[0], rights)
        if program is not None:
            kept.append(program)
            arguments[0] = f"/proc/self/fd/{program}"
        self.status: int | None = None
        self.asked_ns = self.begun_ns = time.monotonic_ns()
        """When it was asked for; and when it began, which is known when it has ended."""
        try:
            self._process = Child(
                arguments,
                LIMITS,
                rights,
                stdout=self._messages,
                stderr=self._messages,
                environment=ENVIRONMENT,
                kept=kept,
            )
        except OSError as error:
            self._close_files()
            raise _not_started(error.strerror) from None
        finally:
            if program is not None:
                os.close(program)

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self) -> int | None:
        """The exit status, `None` while it runs."""
        if self.status is None:
            self._ended(self._process.poll())
        return self.status

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, `None` if it still runs after so long."""
        if self.status is None:
            self._ended(self._process.wait(timeout_s))
        return self.status

    def _ended(self, status: int | None) -> None:
        if status is None:
            return
        self.status = status
        # Its times count from its own beginning.
        self.begun_ns = self._process.begun_ns() or self.begun_ns

    def failure(self) -> str | None:
        """Why it was not begun, once it has ended."""
        return self._process.failure() if self.status == confined.FAILED_STATUS else None

    def interrupt(self) -> None:
        """Ask it to write what it has: py-spy does that at Ctrl-C."""
        self._process.send(signal.SIGINT)

    def messages(self) -> str:
        """What it printed."""
        return os.pread(self._messages, MAX_MESSAGE_BYTES, 0).decode("utf-8", "replace")

    def output(self) -> bytes:
        """What it wrote. Raises UnknownOutput if that is too much."""
        assert self._output is not None
        size = os.fstat(self._output).st_size
        if size >= MAX_OUTPUT_BYTES:
            raise UnknownOutput("more output than expected")
        return os.pread(self._output, size, 0)

    def close(self) -> None:
        """End it if it still runs."""
        self._process.close()
        self._close_files()

    def _close_files(self) -> None:
        for descriptor in (self._messages, self._output):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)


def _not_started(why: str | None) -> PySpyFailed:
    return PySpyFailed(f"py-spy cannot be started: {why}", "pip install --force-reinstall py-spy")


def _in_reach(program: str, rights: Rights | None) -> int | None:
    """A descriptor by which a user can run a program that lies where only we have a way to; else `None`."""
    if rights is None or rights.user == 0:
        return None
    try:
        os.close(open_plain(program, reader=Reader(rights.user, rights.group)))
    except OSError:
        with suppress(OSError):
            return open_plain(program)
    return None


# --- takes --------------------------------------------------------------------------------------------


class PySpy:
    """Takes of a process, one after the other, until `close`.

    `step` is to be called often (once a tick): it starts and ends processes and decodes a little of what they
    wrote, so that no call takes long. `blocking` stops the target for every look, which makes stacks exact.
    """

    def __init__(
        self, pid: int, rate_hz: float, program: Path | None = None, *, blocking: bool = False
    ) -> None:
        self._command = [
            os.fspath(program or find_program()), "record", "--pid", str(pid), "--format", "chrometrace",
            "--rate", str(max(1, round(rate_hz))), "--duration", str(TAKE_S),
            "--idle", "--threads", "--full-filenames", *(() if blocking else ("--nonblocking",)),
        ]  # fmt: skip
        self._rights = rights_to_look(pid)
        self._runs: list[_Run] = []
        self._decoding: Iterator[Take | None] | None = None
        self._lead_ns = LEAD_NS
        self._begin_lag_ns = 0
        self._failures = 0
        self._stopping = False
        self._next_ns = 0
        self.problem: str | None = None
        """Why the last take gave nothing, in words; `None` if it did."""
        self.given_up = False

    @property
    def waiting(self) -> bool:
        """Whether takes are still to come of processes that were started."""
        return bool(self._runs) or self._decoding is not None

    @property
    def begun_ns(self) -> int | None:
        """When the oldest take that is still to come was begun."""
        return self._runs[0].asked_ns if self._runs else None

    def step(self, now_ns: int, budget_ns: int = 2_000_000) -> list[Take]:
        """Go on for about `budget_ns`; the takes that became complete."""
        if self._decoding is None:
            self._collect(now_ns)
        taken = self._decode(budget_ns)
        if not (self._stopping or self.given_up) and now_ns >= self._next_ns and len(self._runs) < 2:
            self._begin(now_ns)
        return taken

    def stop(self) -> None:
        """Begin no more takes, and have the running ones end now; `step` until nothing is `waiting`."""
        self._stopping = True
        for run in self._runs:
            run.interrupt()

    def close(self) -> None:
        """End all processes."""
        self._stopping = True
        for run in self._runs:
            run.close()
        self._runs.clear()
        self._decoding = None

    # --- parts ---

    def _begin(self, now_ns: int) -> None:
        try:
            run = _Run(self._command, self._rights, output=True)
        except PySpyFailed as failure:
            self._failed(failure.what, now_ns)
            return
        self._runs.append(run)
        self._next_ns = run.asked_ns + TAKE_S * 1_000_000_000 - self._lead_ns

    def _collect(self, now_ns: int) -> None:
        """Take what the oldest process wrote, if it has ended."""
        if not self._runs:
            return
        run = self._runs[0]
        status = run.poll()
        if status is None:
            if now_ns - run.asked_ns > (TAKE_S + LATEST_S) * 1e9:
                self._runs.pop(0)
                run.close()
                self._failed(
                    f"py-spy hangs: it did not end {TAKE_S + LATEST_S:g} s after it was started", now_ns
                )
            return
        self._runs.pop(0)
        try:
            failure = run.failure()
            if failure is not None:
                self._failed(_not_started(failure).what, now_ns)
                return
            if status and self._stopping and status == -signal.SIGINT:
                return  # it was stopped before it had begun to look
            if status:
                how = f"signal {-status}" if status < 0 else f"status {status}"
                self._failed(f"py-spy failed ({how}): {reason_in(run.messages())}", now_ns)
                return
            self._begin_lag_ns = run.begun_ns - run.asked_ns
            self._decoding = decoded(run.output(), run.begun_ns, now_ns, errors_in(run.messages()))
        except UnknownOutput as error:
            self._failed(f"{UNKNOWN}: {error}", now_ns)
        finally:
            run.close()

    def _decode(self, budget_ns: int) -> list[Take]:
        if self._decoding is None:
            return []
        deadline = time.monotonic_ns() + budget_ns
        try:
            for take in self._decoding:
                if take is not None:
                    self._decoding = None
                    self._failures, self.problem = 0, None
                    started = min((t.times_ns[0] for t in take.threads if t.times_ns), default=take.begin_ns)
                    # Half a period of sampling is in it as well; that does no harm.
                    lag_ns = started - take.begin_ns + self._begin_lag_ns
                    self._lead_ns = max(LEAD_NS, min(MAX_LEAD_NS, 2 * lag_ns))
                    return [take]
                if not self._stopping and time.monotonic_ns() >= deadline:
                    return []
            self._failed(f"{UNKNOWN}: nothing", 0)
        except UnknownOutput as error:
            self._failed(f"{UNKNOWN}: {error}", 0)
        self._decoding = None
        return []

    def _failed(self, why: str, now_ns: int) -> None:
        self.problem = why
        self._failures += 1
        # A moment's trouble (a target that starts, an exec) passes; what lasts is not tried for ever.
        self._next_ns = max(self._next_ns, now_ns + self._failures * 500_000_000)
        if self._failures >= MAX_FAILURES:
            self.given_up = True


def errors_in(messages: str) -> int:
    """How many looks failed, from `Samples: 1495 Errors: 0`."""
    match = re.search(r"Errors: (\d{1,9})\b", messages)
    return int(match[1]) if match else 0


def decoded(text: bytes, begin_ns: int, end_ns: int, errors: int = 0) -> Iterator[Take | None]:
    """A take from the text of a Chrome trace that was begun at `begin_ns`; `None` now and then before it.

    Raises UnknownOutput.
    """
    threads: dict[tuple[int, int], TakenThread] = {}
    steps: list[None] = []
    for stay in stays(_events(text.decode("utf-8", "replace"), steps)):
        thread = _taken(threads, stay.thread)
        thread.times_ns.append(begin_ns + int(stay.begin_us * 1000))
        thread.stacks.append(stay.stack)
        if steps:
            steps.clear()
            yield None
    for key in [key for key, thread in threads.items() if thread.number == 0]:
        del threads[key]
    yield Take(begin_ns, end_ns, tuple(threads.values()), errors)


def _taken(threads: dict[tuple[int, int], TakenThread], traced: TracedThread) -> TakenThread:
    key = traced.pid, traced.ident
    thread = threads.get(key)
    if thread is None:
        kernel = traced.label is not None and traced.label.kernel
        thread = threads[key] = TakenThread(traced.number, kernel, traced.ident, traced.name)
    return thread


def _events(text: str, steps: list[None]) -> Iterator[Any]:
    """The elements of a JSON array, decoded one by one."""
    decode = json.JSONDecoder().raw_decode
    position = 0
    count = 0
    stripped = text.lstrip()
    if not stripped.startswith("["):
        raise UnknownOutput(f"{text[:40]!r}" if text else "nothing")
    position = len(text) - len(stripped) + 1
    end = len(text)
    while True:
        while position < end and text[position] in " \t\r\n,":
            position += 1
        if position >= end:
            raise UnknownOutput("it is cut short")
        if text[position] == "]":
            return
        try:
            event, position = decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UnknownOutput(str(error)[:80]) from None
        yield event
        count += 1
        if count % EVENTS_AT_ONCE == 0:
            steps.append(None)


# --- ids of threads -----------------------------------------------------------------------------------


class ThreadIds:
    """Finds the kernel's id of a thread of which only `threading.get_ident` is known.

    Before 3.11 Python keeps no id of the kernel's; its ident is the C library's pthread_t, the address of a
    control block that has the id at a place that differs among C libraries. The place is found by comparison:
    where all blocks have an id of the process's threads, each another one.
    """

    def __init__(self, memory: RemoteMemory) -> None:
        self._memory = memory
        self._offset: int | None = None
        self._known: dict[int, int] = {}

    def learn(self, idents: Iterable[int], tids: Iterable[int], main: int) -> Mapping[int, int]:
        """The tid of each ident that could be told. `main` is the main thread's id."""
        present = set(tids)
        blocks: dict[int, Sequence[int]] = {}
        for ident in set(idents):
            if self._known.get(ident) in present:
                continue
            self._known.pop(ident, None)
            data = b""
            if 0 < ident < 1 << 63 and ident % 4 == 0:
                with suppress(MemoryReadError):
                    data = self._memory.read_up_to(ident, PTHREAD_BYTES)
            blocks[ident] = memoryview(data[: len(data) & ~3]).cast("i") if data else ()
        if self._offset is None:
            self._offset = _place_of_tid(list(blocks.values()), present, main)
        if self._offset is not None:
            for ident, words in blocks.items():
                if self._offset < len(words) and words[self._offset] in present:
                    self._known[ident] = words[self._offset]
        return self._known


def _place_of_tid(blocks: Sequence[Sequence[int]], tids: set[int], main: int) -> int | None:
    """The word in which all blocks have a thread's id, each another's; one block has to be the main's."""
    filled = [words for words in blocks if len(words)]
    for place in range(min((len(words) for words in filled), default=0)):
        values = [words[place] for words in filled]
        if len(set(values)) == len(values) and main in values and all(value in tids for value in values):
            return place
    return None
