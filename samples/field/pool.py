"""A ThreadPoolExecutor that is given the same job again and again, as programs use libraries in threads.

In: the job. Out: as `throughput`: "ready PID", then until the end of the program the jobs that were done.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from throughput import Options, Tally, run

JOBS_OF_A_BATCH = 8
"""For each worker."""


def pooled(job: Callable[[int], object], options: Options, *, unit: str, of_job: int = 1) -> None:
    """Runs the job in a pool of `options.threads` workers; it does `of_job` units of work."""

    def feed(number: int, tally: Tally) -> None:
        with ThreadPoolExecutor(options.threads, thread_name_prefix="pool") as pool:
            while tally.go_on():
                for _ in pool.map(job, range(JOBS_OF_A_BATCH * options.threads)):
                    tally.done(of_job)

    run([feed], options, unit=unit, name="feed")
