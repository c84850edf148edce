"""Frames that tell idleness from contention."""

from __future__ import annotations

import pytest

from ftdiag.cpython import FACTS
from ftdiag.model import Frame
from ftdiag.sources.locks.waitpoints import (
    EVERY,
    is_condition_wait,
    is_import_wait,
    library_wait,
    places_of,
)

LIBRARY = "/usr/lib/python3.14/"


def frames(*places: str) -> list[Frame]:
    """Frames from "threading.py Condition.wait", leaf first."""
    return [
        Frame(LIBRARY + file, function, 1) for file, function in (place.split(" ", 1) for place in places)
    ]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["threading.py Condition.wait"], "Condition.wait"),
        (["threading.py Condition.wait", "threading.py Event.wait"], "Event.wait"),
        (["threading.py Condition.wait", "queue.py Queue.get"], "Queue.get"),
        (
            ["threading.py Condition.wait", "threading.py Condition.wait_for", "threading.py Barrier._wait"],
            "Barrier.wait",
        ),
        (["threading.py Condition.wait", "concurrent/futures/_base.py Future.result"], "Future.result"),
        (["concurrent/futures/thread.py _worker"], "work for the thread pool"),
        (["selectors.py EpollSelector.select"], "events (selector)"),
        (
            ["selectors.py EpollSelector.select", "asyncio/base_events.py BaseEventLoop._run_once"],
            "events (asyncio event loop)",
        ),
    ],
)
def test_waits_for_work(places: list[str], words: str) -> None:
    # GIVEN frames that end in a wait of the standard library, called by the program
    stack = [*frames(*places), Frame("/app/main.py", "run", 3)]
    # WHEN they are looked at, THEN what it is for is said in the best words there are
    assert library_wait(stack) == words


@pytest.mark.parametrize(
    "places",
    [
        [],
        ["threading.py Condition.__enter__", "queue.py Queue.get"],
        ["threading.py Condition._acquire_restore", "threading.py Condition.wait"],
        ["queue.py Queue.get"],
        ["threading.py Event.set"],
    ],
)
def test_waits_for_locks(places: list[str]) -> None:
    # GIVEN frames of the same library that wait for its locks
    # WHEN they are looked at, THEN they are no waits for work
    assert library_wait(frames(*places)) is None


@pytest.mark.parametrize("file", ["/app/threading.py", "threading.py", "/app/python3/mythreading.py", ""])
def test_files_of_the_program_are_not_the_library(file: str) -> None:
    # GIVEN a program with a file and a function of such names
    frame = Frame(file, "Condition.wait", 1)
    # WHEN it is looked at, THEN it is not taken for the library's
    assert library_wait([frame]) is None
    assert not is_condition_wait(frame)


def test_imports() -> None:
    # GIVEN a thread that waits for another one's import, at several depths
    lock = Frame("<frozen importlib._bootstrap>", "_ModuleLock.acquire", 300)
    caller = Frame("/app/main.py", "run", 3)
    # WHEN it is looked at, THEN it is an import where that is near the leaf
    assert is_import_wait([lock, caller])
    assert is_import_wait([caller, caller, lock])
    assert not is_import_wait([caller] * 3 + [lock])
    assert not is_import_wait([Frame("/app/own.py", "_ModuleLock.acquire", 3)])


@pytest.mark.parametrize("version", FACTS)
def test_each_version_has_the_places_where_its_library_waits(version: tuple[int, int]) -> None:
    # GIVEN the table of a version, WHEN asked, THEN it has what is common to all, and knows words for each
    places = places_of(version)
    assert places <= EVERY
    assert {
        ("threading.py", "Condition.wait"),
        ("threading.py", "Event.wait"),
        ("queue.py", "Queue.get"),
        ("concurrent/futures/thread.py", "_worker"),
        ("importlib/_bootstrap.py", "_ModuleLock.acquire"),
    } <= places


def test_a_place_that_a_version_does_not_have_is_none_of_its_waits() -> None:
    # GIVEN a function of which older versions have a wait, and 3.15 has none
    gone = frames("threading.py Thread._wait_for_tstate_lock")

    # WHEN its frames are seen, THEN they say something only where there is such a wait
    assert library_wait(gone) == "Thread.join"
    assert library_wait(gone, places=places_of((3, 15))) is None
    assert places_of((3, 8)) == EVERY
