"""What of a look is compared: names that stay, processes together, cores that could be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, spent
from ftdiag.scaling.digest import asked_account, digest_of, together
from ftdiag.session import Session
from sweeps import a_cause, a_digest


def test_a_digest_of_a_recording_names_locks_and_lines(tmp_path: Path) -> None:
    # GIVEN two threads, one of which waits for the other's lock
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10)
    for _ in range(20):
        builder.window(
            {
                "w-1": [spent(10, "work", at="app.py:10 work")],
                "w-2": [spent(10, "lock", at="app.py:9 work", lock="self._lock", holder="w-1")],
            }
        )
    builder.end()
    builder.close()
    with builder.open() as recording:
        snapshot = Session(recording).snapshot()
        digest = digest_of(snapshot)

    # THEN it has them by names that have no number in them, and the account adds up
    assert sum(digest.account.values()) == pytest.approx(digest.capacity_cores)
    assert any(
        name.startswith("self._lock (") and value == pytest.approx(1.0)
        for name, value in digest.locks.items()
    )
    assert digest.lines["app.py:10 in work"] == pytest.approx(1.0)
    assert len({cause.key for cause in digest.causes}) == len(digest.causes)


def test_processes_share_the_cores_that_they_waited_for() -> None:
    # GIVEN two processes on four cores, each of which used one and waited for three that the other had
    one = a_digest({"useful": 1.0, "runnable_other_programs": 3.0}, causes=[a_cause(lost=0.5)])
    both = together([one, one])

    # THEN together they used two, and waited for no more than the two that were left
    assert both.account["useful"] == 2.0
    assert both.account["runnable_other_programs"] == pytest.approx(2.0)
    assert sum(both.account.values()) == pytest.approx(4.0)
    assert both.causes[0].lost_cores == 1.0
    assert both.threads == 10
    # AND what nobody wanted is counted once
    calm = together([a_digest({"useful": 1.0, "no_demand": 3.0})] * 2)
    assert calm.account["no_demand"] == pytest.approx(2.0)


def test_cores_that_so_few_threads_cannot_have_are_not_asked_for() -> None:
    digest = a_digest({"useful": 0.9, "lock": 0.1, "no_demand": 3.0})
    assert asked_account(digest, 1)["no_demand"] == 0.0
    assert asked_account(digest, 3)["no_demand"] == pytest.approx(2.0)
