"""`ftdiag watch`: a flight recorder that runs unattended and keeps what was waited for."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from ftdiag.commands import shortage
from ftdiag.commands.parameters import PID, Number, examples
from ftdiag.sampling.options import (
    DEFAULT_RATE_HZ,
    MAX_BUDGET_CORES,
    MAX_RATE_HZ,
    MIN_BUDGET_CORES,
    MIN_RATE_HZ,
    SOURCES,
)

STEP_S: Final = 0.2
RATE: Final = Number("hz", MIN_RATE_HZ, MAX_RATE_HZ)
SECONDS: Final = Number("seconds", 1.0, 86_400.0)
MEGABYTES: Final = Number("megabytes", 4.0, 1e7)
DAYS: Final = Number("days", 0.001, 3650.0)
CORES: Final = Number("cores", MIN_BUDGET_CORES, MAX_BUDGET_CORES)
LOW_RATE_HZ: Final = 10.0
LOW_NATIVE_HZ: Final = 29.0
"""Samples of machine code per second while nothing happens: what costs most on busy threads."""


@click.command(
    short_help="Record unattended, and keep what happens around a trigger.",
    epilog=examples(
        ("ftdiag watch 4711", "kill -USR1 keeps a ring"),
        ("ftdiag watch 4711 --when 'efficiency < 0.5 for 30s'", ""),
        ("ftdiag watch --match 'gunicorn: worker' --when hot-lock", ""),
        ("ftdiag watch --children 4711 --prometheus 9464", ""),
        ("ftdiag watch 4711 --push http://127.0.0.1:4040", "to Pyroscope"),
    ),
)
@click.argument("pid", type=PID, required=False)
@click.option(
    "--match",
    "pattern",
    metavar="PATTERN",
    help="Processes whose command line matches this regular expression.",
)
@click.option("--children", "parent", type=PID, metavar="PID", help="This process and all below it.")
@click.option(
    "--when", "conditions", multiple=True, metavar="CONDITION",
    help="What to keep recordings of: 'FIGURE < NUMBER for 30s', or a rule's id. May be given several times.",
)  # fmt: skip
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where recordings lie.")
@click.option("--size", "size_mb", type=MEGABYTES, default=1000.0, show_default=True, metavar="MB",
              help="All recordings together take at most this.")  # fmt: skip
@click.option("--age", "age_days", type=DAYS, default=14.0, show_default=True, metavar="DAYS",
              help="Remove what was kept after so many days.")  # fmt: skip
@click.option("--before", "before_s", type=SECONDS, default=300.0, show_default=True, metavar="SECONDS",
              help="How much of the time before a trigger is kept.")  # fmt: skip
@click.option("--after", "after_s", type=SECONDS, default=60.0, show_default=True, metavar="SECONDS",
              help="How long to record at the full rate after it.")  # fmt: skip
@click.option("--quiet", "quiet_s", type=SECONDS, default=600.0, show_default=True, metavar="SECONDS",
              help="The least time before a condition fires again.")  # fmt: skip
@click.option("--rate", "rate_hz", type=RATE, default=LOW_RATE_HZ, show_default=True, metavar="HZ",
              help="Samples per second while nothing happens.")  # fmt: skip
@click.option("--full-rate", "full_rate_hz", type=RATE, default=DEFAULT_RATE_HZ, show_default=True,
              metavar="HZ", help="Samples per second after a trigger.")  # fmt: skip
@click.option("--budget", "budget_cores", type=CORES, default=0.03, show_default=True, metavar="CORES",
              help="What the sampler of a process may use; above that it samples less often.")  # fmt: skip
@click.option("--most", type=click.IntRange(1, 1000), default=64, show_default=True, metavar="N",
              help="Most processes that are watched at once.")  # fmt: skip
@click.option("--prometheus", metavar="[HOST:]PORT", help="Answer Prometheus here; on loopback without HOST.")
@click.option("--otlp", metavar="URL", help="Export metrics to an OpenTelemetry collector (.../v1/metrics).")
@click.option("--push", metavar="URL", help="Push profiles as pprof to Pyroscope or what takes them like it.")
@click.option("--store", metavar="URL", help="Copy what was kept to a store of objects (s3://..., gs://...).")
@click.option("--source", type=click.Choice(SOURCES), default="auto", show_default=True,
              help="Who reads the stacks; see `ftdiag attach --help`.")  # fmt: skip
def command(**asked: Any) -> int:
    """Watch a process, or many, at a low rate; keep the minutes around a trigger.

    Rings of the last minutes lie in a directory that is bounded in size and age. When a condition comes true,
    or at SIGUSR1, the ring is kept and the time after it is recorded at full rate. Ends when the process
    ends, or at Ctrl-C.
    """
    return _Command(**asked).run()


class _Command:
    """The arguments, and what is done with them."""

    def __init__(self, **asked: Any) -> None:
        self._asked = asked

    def run(self) -> int:
        """Until it is over; the exit status."""
        from ftdiag.commands.sampling import explained
        from ftdiag.commands.terminal import Terminated, note
        from ftdiag.watching.recorder import Recorder
        from ftdiag.watching.store import Limits, Store

        shortage.prepare_analysis()
        asked = self._asked
        wanted, plan = self._wanted(), self._plan()
        store = Store(self._directory(), Limits(int(asked["size_mb"] * 1e6), asked["age_days"] * 86_400))
        triggered: list[int] = []
        looking = bool(plan.conditions or asked["prometheus"] or asked["otlp"] or asked["push"])
        with ExitStack() as stack:
            stack.enter_context(store.locked())
            signal.signal(signal.SIGUSR1, lambda *_: triggered.append(1))

            def say(words: str) -> None:
                note(f"{time.strftime('%H:%M:%S')} {words}")

            pusher, uploader = self._pusher(stack), self._uploader(stack, say)
            recorder = Recorder(
                wanted, plan, store, say, most=asked["most"], looking=looking, pusher=pusher,
                **({} if uploader is None else {"complete": uploader.upload}),
            )  # fmt: skip
            stack.callback(recorder.close)
            self._publish(stack, recorder)
            note(f"watching {wanted.words}; recordings lie in {store.directory}")
            note(f"  kill -USR1 {os.getpid()}   keeps the last {plan.before_s:g} s")
            try:
                while not recorder.over:
                    recorder.step()
                    if recorder.refused is not None:
                        raise explained(recorder.refused, asked["pid"])
                    if triggered:
                        triggered.clear()
                        recorder.keep_all()
                    time.sleep(STEP_S)
            except (KeyboardInterrupt, Terminated):
                note("stopped")
        return 0

    def _wanted(self) -> Any:
        from ftdiag.commands.sampling import check_is_process
        from ftdiag.errors import NoSuchProcess, UsageError
        from ftdiag.watching.targets import Wanted

        given = [self._asked[name] for name in ("pid", "pattern", "parent")]
        if sum(each is not None for each in given) != 1:
            raise UsageError(
                "one of PID, --match and --children says what to watch",
                "ftdiag list   shows the Python processes",
            )
        wanted = Wanted(*given)
        for pid in (given[0], given[2]):
            if pid is not None:
                check_is_process(pid)
                if not os.path.isdir(f"/proc/{pid}"):
                    raise NoSuchProcess(
                        f"there is no process {pid}", "ftdiag list   shows the Python processes"
                    )
        return wanted

    def _plan(self) -> Any:
        from ftdiag.recording.writer import MIN_KEEP_BYTES
        from ftdiag.watching.triggers import parse
        from ftdiag.watching.watched import Plan

        asked = self._asked
        processes = 1 if asked["pid"] is not None else asked["most"]
        # Half of the room for rings, half for what is kept.
        ring_bytes = max(MIN_KEEP_BYTES, int(asked["size_mb"] * 1e6 / 2 / (processes + 1)))
        return Plan(
            rate_hz=asked["rate_hz"],
            full_rate_hz=asked["full_rate_hz"],
            native_rate_hz=LOW_NATIVE_HZ,
            budget_cores=asked["budget_cores"],
            before_s=asked["before_s"],
            after_s=asked["after_s"],
            ring_bytes=ring_bytes,
            conditions=tuple(parse(words) for words in asked["conditions"]),
            quiet_s=asked["quiet_s"],
            source=asked["source"],
        )

    def _directory(self) -> Path:
        if self._asked["directory"] is not None:
            return Path(self._asked["directory"]).absolute()
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        return Path(state) / "ftdiag" / "watch"

    def _pusher(self, stack: ExitStack) -> Any:
        if self._asked["push"] is None:
            return None
        from ftdiag.watching.pushing import Pusher

        pusher = Pusher(self._asked["push"])
        stack.callback(pusher.close)
        return pusher

    def _uploader(self, stack: ExitStack, say: Any) -> Any:
        if self._asked["store"] is None:
            return None
        from ftdiag.watching.uploading import Uploader

        uploader = Uploader(self._asked["store"], say)
        stack.callback(uploader.close)
        return uploader

    def _publish(self, stack: ExitStack, recorder: Any) -> None:
        from ftdiag.commands.terminal import note
        from ftdiag.watching.publishing import OpenTelemetry, Prometheus, address_of

        if self._asked["prometheus"] is not None:
            host, port = address_of(self._asked["prometheus"])
            server = Prometheus(host, port, recorder.figures)
            stack.callback(server.close)
            note(f"http://{host}:{server.port}/metrics   for Prometheus")
        if self._asked["otlp"] is not None:
            exporter = OpenTelemetry(self._asked["otlp"], recorder.figures)
            stack.callback(exporter.close)
