"""Tasks of two microseconds through an executor: the way there costs more than the work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from throughput import Tally, parse_options, run

TASKS = 2000
CHUNK = 500


def score(item: int) -> int:
    """One task."""
    value = item
    for step in range(20):
        value = (value * 31 + step) & 0xFF
    return value


def score_chunk(items: range) -> int:
    """Many tasks in one."""
    return sum(map(score, items))


class Scoring:
    """Gives its executor the work."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def score_one_by_one(self, worker: int, tally: Tally) -> None:
        """The body of the submitting thread."""
        while tally.go_on():
            futures = [self._executor.submit(score, item) for item in range(TASKS)]
            for future in futures:
                future.result()
            tally.done(TASKS)

    def score_in_chunks(self, worker: int, tally: Tally) -> None:
        """The same in chunks, always some of them under way."""
        chunks = [range(start, start + CHUNK) for start in range(0, TASKS * 8, CHUNK)]
        while tally.go_on():
            for _ in self._executor.map(score_chunk, chunks):
                tally.done(CHUNK)


if __name__ == "__main__":
    options = parse_options(__doc__, fixed=f"chunks of {CHUNK} tasks")
    with ThreadPoolExecutor(options.threads, thread_name_prefix="scorer") as executor:
        scoring = Scoring(executor)
        body = scoring.score_in_chunks if options.fixed else scoring.score_one_by_one
        run([body], options, unit="tasks", name="submitter")
