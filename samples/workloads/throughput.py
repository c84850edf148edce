"""What every workload shares: its arguments, its threads, "ready", and its throughput.

In: the body that each worker thread runs. Out: exactly one line "ready PID" on stdout when all threads
run; on stderr the throughput of each second and of the whole run. Exit status 0 at the end of --seconds
and on SIGTERM or SIGINT.

Nothing here is shared between worker threads while they work: each has a `Tally` of its own, so that the
frame around a workload does not cause what the workload is there to show.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

JOIN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments that all workloads take; `seconds` is None for "until killed".

    `fixed` asks for the same program with its cause removed; only workloads that offer it take --fixed.
    """

    threads: int
    seconds: float | None
    fixed: bool = False


class Tally:
    """One thread's count of work done. Made by the thread that uses it."""

    stopping = False
    """Set on the class, for all threads; a bool, so that reading it writes nothing."""

    def __init__(self) -> None:
        self.count = 0

    def done(self, number: int = 1) -> None:
        """The thread did so much work."""
        self.count += number

    def go_on(self) -> bool:
        """Whether the thread is to do more."""
        return not Tally.stopping


Body = Callable[[int, Tally], None]


class _Stopped(Exception):
    """A signal asked us to end."""


def parse_options(
    description: str | None,
    threads: int | None = None,
    arguments: Sequence[str] | None = None,
    *,
    fixed: str | None = None,
) -> Options:
    """The command line; `threads` is the default (one for each core, at least two).

    `fixed` says what --fixed changes, where a workload offers it.
    """
    first_line = (description or "").strip().partition("\n")[0]
    parser = argparse.ArgumentParser(description=first_line)
    default = threads or max(2, len(os.sched_getaffinity(0)))
    parser.add_argument("--threads", type=int, default=default, help="worker threads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=None, help="end after so long (never)")
    if fixed is not None:
        parser.add_argument("--fixed", action="store_true", help=fixed)
    parsed = parser.parse_args(arguments)
    if parsed.threads < 1:
        parser.error("--threads must be at least 1")
    if parsed.seconds is not None and parsed.seconds <= 0:
        parser.error("--seconds must be greater than 0")
    return Options(parsed.threads, parsed.seconds, getattr(parsed, "fixed", False))


def run(
    bodies: Sequence[Body],
    options: Options,
    *,
    unit: str,
    name: str,
    wake: Callable[[], None] | None = None,
) -> None:
    """Runs each body in a thread of its own until the time is over or a signal comes, then exits.

    `wake` unblocks threads that wait for something when the end has come.
    """
    # From here on, so that no signal finds the default action.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    threads: list[threading.Thread] = []
    tallies: list[Tally] = []
    try:
        started = threading.Barrier(len(bodies) + 1)
        for index, body in enumerate(bodies):
            thread = threading.Thread(
                target=_work, args=(body, index, started, tallies), name=f"{name}-{index}", daemon=True
            )
            thread.start()
            threads.append(thread)
        started.wait()
        print(f"ready {os.getpid()}", flush=True)
        _report(tallies, options.seconds, unit)
    except _Stopped:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        Tally.stopping = True
        if wake is not None:
            wake()
        for thread in threads:
            thread.join(JOIN_TIMEOUT_S)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        print(f"did not end: {', '.join(stuck)}", file=sys.stderr, flush=True)
        os._exit(1)
    sys.exit(0)


def _work(body: Body, index: int, started: threading.Barrier, tallies: list[Tally]) -> None:
    tally = Tally()
    tallies.append(tally)
    started.wait()
    body(index, tally)


def _report(tallies: Sequence[Tally], seconds: float | None, unit: str) -> None:
    start = last = time.monotonic()
    before = 0
    try:
        while True:
            left = 1.0 if seconds is None else min(1.0, start + seconds - time.monotonic())
            if left <= 0:
                return
            time.sleep(left)
            now, total = time.monotonic(), sum(tally.count for tally in tallies)
            print(f"{(total - before) / (now - last):,.0f} {unit}/s", file=sys.stderr, flush=True)
            last, before = now, total
    finally:
        total, length = sum(tally.count for tally in tallies), max(time.monotonic() - start, 1e-9)
        print(
            f"total {total:,} {unit} in {length:.1f} s: {total / length:,.0f} {unit}/s",
            file=sys.stderr,
            flush=True,
        )


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped
