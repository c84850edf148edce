"""Which rows a lock's waits and holders are summed into."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, a_lock, spent
from ftdiag.analysis.locks import HOLDERS_OF_LOCK


def test_blame_adds_up_beyond_the_bound_of_holders(tmp_path: Path) -> None:
    # GIVEN a lock that is held at more lines than are listed
    lines = HOLDERS_OF_LOCK + 40
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "holder": [spent(1, "on_cpu", at=f"a.py:{line} slow") for line in range(lines)],
            "waiter": [spent(lines, "lock", lock="self._lock", holder="holder")],
        }
    )
    # WHEN its holders are asked for
    (lock,) = builder.session().snapshot().locks
    # THEN those that are not listed one by one are summed, still as what the thread did
    assert len(lock.holders) == HOLDERS_OF_LOCK + 1
    assert {each.thread.name for each in lock.holders if each.thread} == {"holder"}
    assert sum(each.blame_ns for each in lock.holders) == pytest.approx(lock.wait_ns)
    assert [each.stack for each in lock.holders if not each.stack] == [()]


def test_another_name_at_the_same_address_is_another_lock(tmp_path: Path) -> None:
    # GIVEN a list that was freed, and another one made at its address
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [
                spent(2, "object_lock", lock=a_lock("orders", address=4096, type_name="list")),
                spent(3, "object_lock", lock=a_lock("prices", address=4096, type_name="list")),
            ]
        }
    )
    # WHEN the locks are asked for, THEN neither has the waits of the other
    locks = builder.session().snapshot().locks
    assert {each.lock.label: round(each.wait_ns / 1e6) for each in locks} == {"orders": 200, "prices": 300}


def test_a_name_that_is_found_late_is_that_of_the_lock(tmp_path: Path) -> None:
    # GIVEN a lock whose first waiter has no name for it
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10).window(
        {
            "w": [
                spent(2, "lock", lock=a_lock(None, address=4096)),
                spent(3, "lock", lock=a_lock("orders", address=4096)),
                spent(1, "lock", lock=a_lock(None, address=4096)),
            ]
        }
    )
    # WHEN the locks are asked for, THEN it is one lock with that name
    (lock,) = builder.session().snapshot().locks
    assert (lock.lock.label, round(lock.wait_ns / 1e6)) == ("orders", 600)
