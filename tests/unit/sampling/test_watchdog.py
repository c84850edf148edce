"""A read that does not come back is noticed; whatever else takes long is not taken for one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from ftdiag.sampling.watchdog import SLOW_LOOKS, Watchdog
from reading import PATIENCE_S, eventually

EVERY_S = 0.02


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its two ends: who reads the first waits for the second."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def said_while(reads: bool, pipe: tuple[int, int], work: str) -> list[str]:
    """What a watchdog says while its thread waits, computes or sleeps and wakes, for a while."""
    said: list[str] = []
    go_on = threading.Event()

    def main() -> None:
        watchdog = Watchdog(said.append, every_s=EVERY_S)
        watchdog.reading = reads
        if work == "waits":
            os.read(pipe[0], 1)
        while not go_on.is_set():
            if work == "wakes":
                time.sleep(EVERY_S / 4)
            elif work == "computes":
                sum(range(10_000))
        watchdog.close()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    if work == "waits" and reads:
        eventually(lambda: bool(said))
    else:
        time.sleep(4 * SLOW_LOOKS * EVERY_S)
    go_on.set()
    os.write(pipe[1], b"x")
    thread.join(PATIENCE_S)
    return said


@pytest.mark.parametrize(
    ("reads", "work", "silent"),
    [(True, "waits", True), (False, "waits", False), (True, "computes", False), (True, "wakes", False)],
)
def test_only_a_read_that_waits_is_silent(
    reads: bool, work: str, silent: bool, pipe: tuple[int, int]
) -> None:
    # GIVEN a thread that reads, or does not, and waits in the kernel, computes, or wakes now and then
    # WHEN a watchdog looks at it
    said = said_while(reads, pipe, work)
    # THEN it speaks, once, of a read that waits, and of nothing else
    assert said == (["the kernel does not answer what it was asked of it"] if silent else [])


def test_who_comes_back_is_told_first_and_not_given_up(pipe: tuple[int, int]) -> None:
    # GIVEN a thread that waits in the kernel, long enough to be told
    said: list[str] = []
    go_on = threading.Event()

    def main() -> None:
        watchdog = Watchdog(
            lambda what: said.append("silent"),
            lambda what: said.append("slow"),
            lambda: said.append("back"),
            every_s=EVERY_S,
        )
        watchdog.reading = True
        for _ in range(2):
            os.read(pipe[0], 1)
        watchdog.reading = False
        go_on.wait(PATIENCE_S)
        watchdog.close()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    eventually(lambda: "slow" in said)
    # WHEN it goes on THEN that is told, too, and it is looked at as before
    os.write(pipe[1], b"x")
    eventually(lambda: "back" in said)
    # AND what does not come back at all is given up at last
    eventually(lambda: said == ["slow", "back", "slow", "silent"])
    os.write(pipe[1], b"x")
    go_on.set()
    thread.join(PATIENCE_S)
