"""Threads of our own where there is no memory."""

from __future__ import annotations

import threading

import pytest

from ftdiag.ownthreads import start_thread


def test_no_room_for_a_thread_is_a_shortage_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a process that may have no more threads
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)

    # WHEN one is started THEN it is told as what it is
    with pytest.raises(MemoryError, match="no room for the thread 'reader'"):
        start_thread(lambda: None, "reader")


def test_a_thread_that_runs_out_of_memory_ends(capfd: pytest.CaptureFixture[str]) -> None:
    # GIVEN a thread that has no memory left WHEN it runs
    def hungry() -> None:
        raise MemoryError

    start_thread(hungry, "hungry").join()

    # THEN nothing is written where nobody expects it
    assert capfd.readouterr().err == ""
