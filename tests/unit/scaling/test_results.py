"""The file of a sweep: what comes back, and files that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdiag.errors import RecordingError
from ftdiag.scaling.results import HEAD, sweep_of, text_of, value_of
from sweeps import a_cause, a_digest, a_sweep


def whole() -> Any:
    return a_sweep(
        lambda setting: 10.0 * setting.workers,
        (1, 2),
        repeats=2,
        digest=lambda _: a_digest({"useful": 1.0}, causes=[a_cause()], locks={"a": 1.0}, lines={"b": 0.5}),
    )


def test_what_is_written_is_read_again() -> None:
    text = text_of(whole())

    assert text.encode().startswith(HEAD)
    assert sweep_of(text, "a") == whole()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), "ftdiag-scale/9", "this ftdiag reads ftdiag-scale/1"),
        (("settings",), [], "no settings"),
        (("settings", 0, "threads"), 0, "threads is no whole number from 1"),
        (("settings", 0, "threads"), True, "threads is no whole number"),
        (("runs",), {}, "runs is no list"),
        (("runs", 0, "throughput"), -1.0, "which cannot be"),
        (("runs", 0, "throughput"), None, "neither a throughput nor a reason"),
        (("runs", 0, "throughput"), 10**400, "is not a file"),
        (("runs", 0, "recordings"), ["../../etc/passwd"], "no name of a recording"),
        (("runs", 0, "recordings"), [".."], "no name of a recording"),
        (("runs", 0, "digest", "account"), {"useful": "many"}, "no number"),
        (("throughput", "pattern"), "(", "no regular expression"),
        (("throughput", "way"), "magic", "magic"),
        (("kind",), "circles", "circles"),
        (("command",), [], "no command"),
        (("repeats",), 10**9, "repeats is no whole number"),
    ],
)
def test_each_damage_is_told(path: tuple[str | int, ...], value: Any, words: str) -> None:
    table: Any = json.loads(text_of(whole()))
    place = table
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(RecordingError) as raised:
        sweep_of(json.dumps(table), "a.ftscale")
    assert "a.ftscale is no file of a sweep" in raised.value.what
    if value != 10**400:
        assert words in raised.value.what


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "[" * 100_000, '{"schema": 1}', b"\xff\xfe{"])
def test_what_is_no_such_file(text: str | bytes) -> None:
    with pytest.raises(RecordingError):
        sweep_of(text, "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(value_of(whole()))), json_values)
def test_no_value_anywhere_breaks_the_reader(name: str, value: Any) -> None:
    table = json.loads(text_of(whole()))
    table[name] = value
    try:
        sweep_of(json.dumps(table), "a")
    except RecordingError:
        pass
