"""Workers with a queue each, that mark every item as done: what is shared is nobody's."""

from __future__ import annotations

import queue

from throughput import Tally, parse_options, run


def work(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    own: queue.Queue[int] = queue.Queue()
    while tally.go_on():
        for number in range(200):
            own.put(number)
        for _ in range(200):
            own.get()
            own.task_done()
        tally.done(200)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([work] * options.threads, options, unit="items", name="work")
