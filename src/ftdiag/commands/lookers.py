"""Children of our own that look at processes, one question at a time, and can be given up.

In: a function and questions (what JSON can say). Out: an answer each, or why there is none. A look may hang
where no deadline reaches it: in the kernel, on a file system that does not answer, in a library. So it is
done by a forked copy of us: when it is late the copy is killed, or left behind if even that does not help,
and another takes its place. Nobody else's question waits for it, and whatever it runs into stays in it.

Time in which a child was ready to run and got no core does not count (schedstat): a busy machine is no reason
to give a look up. It is bounded, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from ftdiag.datatypes import dataclass
from ftdiag.sources.kernel.scheduling import hurried, hurry_child

MAX_ANSWER_BYTES: Final = 4 << 20
MAX_MEMORY_BYTES: Final = 4 << 30
"""Address space of a child; what it runs (py-spy) has to do with it, too."""
MOST_STRETCHED: Final = 5.0
"""Times that a busy machine may stretch a deadline."""
REAPING_S: Final = 0.2
"""Killed children are waited for so long; one that the kernel does not let go is left behind."""
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a look gave. `failure` says why there is no value; `late`: because it took too long."""

    value: Any = None
    failure: str | None = None
    late: bool = False


@dataclass(slots=True)
class _Looker:
    """One child. `question` is the number of what it works on since `begun`; `starved_s` is how long it had
    been ready to run without a core by then."""

    pid: int
    requests: int
    answers: int
    received: bytearray
    question: int | None = None
    begun: float = 0.0
    starved_s: float = 0.0


class Lookers:
    """Up to `most` children that answer with `look(question)`; a context manager, which ends them.

    The program must have one thread: children are forked. What they need is to be imported before.
    """

    def __init__(self, look: Callable[[Any], Any], most: int) -> None:
        self._look = look
        self._most = most
        self._lookers: list[_Looker] = []
        self._killed: list[int] = []
        self._starved_s = 0.0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Lookers:
        return self

    def __exit__(self, *_: object) -> None:
        for looker in list(self._lookers):
            self._give_up(looker)
        self._selector.close()
        deadline = time.monotonic() + REAPING_S
        while self._killed and time.monotonic() < deadline:
            self._killed = [pid for pid in self._killed if not _reaped(pid)]
            if self._killed:
                time.sleep(0.002)

    def ask(self, questions: Sequence[Any], *, each_s: float, ends: float) -> Iterator[tuple[int, Answer]]:
        """(number of the question, its answer), as they come.

        A question may take `each_s`; all end at `ends` (time.monotonic): what was not asked then is late.
        """
        waiting = deque(range(len(questions)))
        begun = time.monotonic()
        self._starved_s = 0.0
        while True:
            now = time.monotonic()
            over = now >= self._stretched(begun, ends - begun)
            for looker in [one for one in self._lookers if one.question is not None]:
                if not over and now < self._ends(looker, each_s):
                    continue
                number = looker.question
                assert number is not None
                self._starved_s += max(0.0, _starved_s(looker.pid) - looker.starved_s)
                self._give_up(looker)
                yield number, Answer(failure=f"it took longer than {now - looker.begun:.1g} s", late=True)
            if over:
                for number in waiting:
                    yield number, Answer(failure="there was no time left for it", late=True)
                return
            while waiting:
                idle = self._idle()
                if idle is None:
                    break
                if isinstance(idle, str):
                    yield waiting.popleft(), Answer(failure=idle)
                    continue
                idle.question, idle.begun = waiting.popleft(), time.monotonic()
                self._send(idle, questions[idle.question])
            busy = [looker for looker in self._lookers if looker.question is not None]
            if not busy:
                if waiting:
                    continue
                return
            soonest = min(ends, *(looker.begun + each_s for looker in busy))
            # A little later than now, if that is over but was stretched.
            for key, _ in self._selector.select(max(0.02, soonest - time.monotonic())):
                looker = key.data
                number = looker.question
                answer = self._received(looker)
                if answer is not None and number is not None:
                    yield number, answer

    def _ends(self, looker: _Looker, each_s: float) -> float:
        """When a look is to be given up; only then is asked how long it was kept from running."""
        if time.monotonic() < looker.begun + each_s:
            return looker.begun + each_s
        starved_s = _starved_s(looker.pid) - looker.starved_s
        return looker.begun + min(MOST_STRETCHED * each_s, each_s + starved_s)

    def _stretched(self, begun: float, seconds: float) -> float:
        """When all is over: what the children were kept from running on average is added."""
        if time.monotonic() < begun + seconds:
            return begun + seconds
        busy = [looker for looker in self._lookers if looker.question is not None]
        starved_s = self._starved_s + sum(_starved_s(looker.pid) - looker.starved_s for looker in busy)
        return begun + min(MOST_STRETCHED * seconds, seconds + starved_s / max(1, len(self._lookers)))

    def _idle(self) -> _Looker | str | None:
        """One that can be asked: `None` if all are busy and there may not be more, or why none can be had."""
        for looker in self._lookers:
            if looker.question is None:
                return looker
        if len(self._lookers) >= self._most:
            return None
        try:
            return self._forked()
        except OSError as error:
            if self._lookers:
                return None
            return f"no process can be started to look with: {error.strerror}"

    def _send(self, looker: _Looker, question: Any) -> None:
        with suppress(BrokenPipeError):  # it died: its answers end
            os.write(looker.requests, json.dumps(question).encode() + b"\n")

    def _received(self, looker: _Looker) -> Answer | None:
        """Take what came; the answer, if that is all of it."""
        piece = os.read(looker.answers, 1 << 16)
        looker.received += piece
        if not piece or len(looker.received) > MAX_ANSWER_BYTES:
            how = self._give_up(looker)
            return Answer(failure="the answer is too long" if piece else f"the look at it {how}")
        if not looker.received.endswith(b"\n"):
            return None
        value, failure = json.loads(looker.received)
        looker.received.clear()
        looker.question = None
        starved_s = _starved_s(looker.pid)
        self._starved_s += starved_s - looker.starved_s
        looker.starved_s = starved_s
        return Answer(value, failure)

    # --- children ---

    def _forked(self) -> _Looker:
        """One more. Raises OSError."""
        questions, requests = os.pipe()
        answers, replies = os.pipe()
        parent = os.getpid()
        hurry = hurried()
        try:
            pid = os.fork()
        except OSError:
            for descriptor in (questions, requests, answers, replies):
                os.close(descriptor)
            raise
        if pid == 0:
            try:
                for descriptor in (requests, answers, *self._descriptors()):
                    os.close(descriptor)
                _become_a_child(parent)
                if hurry:  # that is not inherited
                    hurry_child(0)
                _answer(self._look, questions, replies)
            finally:
                os._exit(0)
        os.close(questions)
        os.close(replies)
        looker = _Looker(pid, requests, answers, bytearray())
        self._lookers.append(looker)
        self._selector.register(answers, selectors.EVENT_READ, looker)
        return looker

    def _descriptors(self) -> Iterator[int]:
        for looker in self._lookers:
            yield from (looker.requests, looker.answers)
        yield self._selector.fileno()

    def _give_up(self, looker: _Looker) -> str:
        """Kill it and what it runs; how it ended, if it had ended before."""
        self._selector.unregister(looker.answers)
        os.close(looker.answers)
        os.close(looker.requests)
        self._lookers.remove(looker)
        status = None
        with suppress(ChildProcessError):
            pid, status = os.waitpid(looker.pid, os.WNOHANG)
            if pid == 0:
                status = None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(looker.pid, signal.SIGKILL)
        if status is None:
            with suppress(ProcessLookupError):
                os.kill(looker.pid, signal.SIGKILL)
            self._killed.append(looker.pid)
            return "ended early"
        code = os.waitstatus_to_exitcode(status)
        return f"was ended by signal {-code}" if code < 0 else "ended early"


def _starved_s(pid: int) -> float:
    """How long a process has been ready to run without a core; 0 where the kernel does not count it."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as stream:
            return int(stream.read(96).split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _become_a_child(parent: int) -> None:
    """Die with the parent; heed no keys; have no standard streams and a bounded memory."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(look: Callable[[Any], Any], questions: int, replies: int) -> None:
    """Answer until there are no more questions."""
    with os.fdopen(questions, "rb") as asked, os.fdopen(replies, "wb", buffering=0) as said:
        for line in asked:
            value: Any = None
            failure: str | None = None
            try:
                value = look(json.loads(line))
            except MemoryError:
                failure = "there was not enough memory to look at it"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is about this one process
                failure = f"a mistake in ftdiag: {type(error).__name__}: {error}"[:500]
            try:
                text = json.dumps([value, failure])
            except (TypeError, ValueError, MemoryError, RecursionError) as error:
                text = json.dumps([None, f"a mistake in ftdiag: {type(error).__name__}: {error}"[:500]])
            said.write(text.encode() + b"\n")
