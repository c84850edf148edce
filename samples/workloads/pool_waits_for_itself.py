"""Tasks of a small pool wait for tasks of the same pool: all workers wait, and nobody is left to work."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from throughput import Tally, parse_options, run


def render_image(page: int) -> int:
    """What a page needs; is never started once every worker renders a page."""
    return page * 31 & 0xFF


class Reports:
    """Renders pages in a pool, and their images in the same pool."""

    def __init__(self, executor: ThreadPoolExecutor, workers: int) -> None:
        self._executor = executor
        self._all_busy = threading.Barrier(workers)
        self._images: list[Future[int]] = []

    def render_page(self, page: int) -> int:
        """Waits in a worker for what only a worker can do."""
        self._all_busy.wait()
        image = self._executor.submit(render_image, page)
        self._images.append(image)
        return image.result()

    def accept_requests(self, worker: int, tally: Tally) -> None:
        """The body of the thread that fills the pool once, and goes on accepting."""
        for page in range(self._all_busy.parties):
            self._executor.submit(self.render_page, page)
        while tally.go_on():
            time.sleep(0.01)
            tally.done()

    def give_up(self) -> None:
        """Cancels what was never started, for the program to end."""
        for image in self._images:
            image.cancel()


if __name__ == "__main__":
    options = parse_options(__doc__, threads=4)
    with ThreadPoolExecutor(options.threads, thread_name_prefix="report") as executor:
        reports = Reports(executor, options.threads)
        run([reports.accept_requests], options, unit="requests", name="acceptor", wake=reports.give_up)
