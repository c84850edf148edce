"""The compiled runs of a thread and those in Python are the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdiag.sampling.seen import Observation, PlainSeen
from ftdiag.sources import _tick

OBSERVATIONS: list[Observation] = [(1, 100, 0, 0, 0), (1, 101, 0, 0, 0), (4, 100, 7, 2, 1)]
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["observe", "begin_run", "close_run"]),
        st.sampled_from(OBSERVATIONS),
        st.integers(0, 2),
    )
)


@given(CALLS)
@settings(max_examples=200, deadline=None)
def test_runs(calls: list[tuple[str, Observation, int]]) -> None:
    # GIVEN both, WHEN they are told the same, at ticks that go up or stay
    plain, compiled = PlainSeen(), _tick.Seen()
    tick = 0
    for name, observation, step in calls:
        tick += step
        for seen in (plain, compiled):
            if name == "close_run":
                seen.close_run(tick)
            else:
                getattr(seen, name)(observation, tick)
        # THEN they have the same runs
        assert compiled.runs == plain.runs
        assert (compiled.observation, compiled.run_start) == (plain.observation, plain.run_start)


def test_wrong_arguments() -> None:
    seen = _tick.Seen()
    with pytest.raises(TypeError):
        seen.note(object(), 1, False)
    with pytest.raises(TypeError):
        seen.note(PlainSeen(), 1, False)
    with pytest.raises(TypeError):
        seen.observe(OBSERVATIONS[0], "now")  # type: ignore[arg-type]
    # GIVEN something else in place of its parts THEN it is told, and nothing is read of it
    seen.runs = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match="runs are a list"):
        seen.observe(OBSERVATIONS[0], 1)
    seen.runs = [3]  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a run is"):
        seen.observe(OBSERVATIONS[0], 0)
    del seen.observation, seen.runs
    with pytest.raises(TypeError, match="runs are a list"):
        seen.observe(OBSERVATIONS[0], 1)
