"""Patterns given to `re` as text in a hot loop: looked up in a shared cache, and shared while they match."""

from __future__ import annotations

import re

from throughput import Tally, parse_options, run

LINE = r"(\w+)-(\d+)"


def read_lines(worker: int) -> list[str]:
    """A few lines that are this thread's own, as lines of a log are."""
    return [f"abc-{worker}", f"order-{worker}7", f"item-{worker}4", f"no match {worker}"]


def parse_line(line: str) -> list[str]:
    """The pattern is text at each call."""
    return re.findall(LINE, line)


def parse_log(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    lines = read_lines(worker)
    while tally.go_on():
        for _ in range(20):
            for line in lines:
                parse_line(line)
        tally.done(20 * len(lines))


def parse_log_with_own_pattern(worker: int, tally: Tally) -> None:
    """The same, compiled for each thread: the comment makes it a pattern that is not shared."""
    own = re.compile(f"{LINE}(?#{worker})")
    lines = read_lines(worker)
    while tally.go_on():
        for _ in range(20):
            for line in lines:
                own.findall(line)
        tally.done(20 * len(lines))


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="each thread compiles a pattern of its own")
    body = parse_log_with_own_pattern if options.fixed else parse_log
    run([body] * options.threads, options, unit="lines", name="parser")
