"""Pipelines of generators: frames that live outside the thread's stack of calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from throughput import Tally, parse_options, run


def read_records(start: int, number: int) -> Iterator[int]:
    """Source of a pipeline."""
    for record in range(start, start + number):  # noqa: UP028 - a frame of its own is the point
        yield record


def parse_records(records: Iterable[int]) -> Iterator[int]:
    """A stage that computes."""
    for record in records:
        yield (record * 2654435761) & 0xFFFFFF


def keep_even(records: Iterable[int]) -> Iterator[int]:
    """A stage that drops some."""
    for record in records:
        if record % 2 == 0:
            yield record


def in_batches(records: Iterable[int]) -> Iterator[int]:
    """A stage that delegates."""
    yield from keep_even(records)


def run_pipelines(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    start = worker * 1000
    while tally.go_on():
        for _ in in_batches(parse_records(read_records(start, 500))):
            pass
        tally.done(500)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([run_pipelines] * options.threads, options, unit="records", name="pipeline")
