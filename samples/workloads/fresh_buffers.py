"""A new 16 MB buffer for every frame: the kernel clears each page of it, every time."""

from __future__ import annotations

import mmap

from throughput import Tally, parse_options, run

SIZE = 16 << 20
PAGE = 4096


def render(frame: mmap.mmap) -> None:
    """Writes to every page once."""
    frame[::PAGE] = b"\1" * (SIZE // PAGE)


def render_frames(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        with mmap.mmap(-1, SIZE) as frame:
            render(frame)
        tally.done()


def render_frames_in_place(worker: int, tally: Tally) -> None:
    """The same with one buffer for the thread's life."""
    with mmap.mmap(-1, SIZE) as frame:
        while tally.go_on():
            render(frame)
            tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="one buffer for each thread, used again")
    body = render_frames_in_place if options.fixed else render_frames
    run([body] * options.threads, options, unit="frames", name="renderer")
