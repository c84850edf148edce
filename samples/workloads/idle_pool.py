"""Two pools whose workers have almost nothing to do: idle is not contention."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from throughput import Tally, parse_options, run

PAUSE_S = 0.1


def resize_image(size: int) -> int:
    """A small job for the executor."""
    return sum(step * step for step in range(size))


class MailQueue:
    """Workers that block in Queue.get, the other common kind of pool."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[int | None] = queue.Queue()

    def put(self, job: int) -> None:
        """Gives one job to whoever takes it."""
        self._jobs.put(job)

    def send_mails(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread: ends at the first None."""
        while (job := self._jobs.get()) is not None:
            resize_image(job)
            tally.done()

    def close(self, workers: int) -> None:
        """Ends the workers."""
        for _ in range(workers):
            self._jobs.put(None)


class Dispatcher:
    """Now and then gives both pools a job."""

    def __init__(self, executor: ThreadPoolExecutor, mails: MailQueue) -> None:
        self._executor = executor
        self._mails = mails

    def dispatch(self, worker: int, tally: Tally) -> None:
        """The body of the dispatching thread."""
        while tally.go_on():
            self._executor.submit(resize_image, 500).result()
            self._mails.put(500)
            tally.done()
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    options = parse_options(__doc__, threads=8)
    in_executor = max(1, options.threads // 2)
    in_queue = max(1, options.threads - in_executor)
    mails = MailQueue()
    with ThreadPoolExecutor(in_executor, thread_name_prefix="resize") as executor:
        # A pool starts threads as jobs come that nobody is free for: this starts them all.
        all_there = threading.Barrier(in_executor)
        for arrived in [executor.submit(all_there.wait) for _ in range(in_executor)]:
            arrived.result()
        dispatcher = Dispatcher(executor, mails)
        bodies = [*[mails.send_mails] * in_queue, dispatcher.dispatch]
        run(bodies, options, unit="jobs", name="mail", wake=lambda: mails.close(in_queue))
