"""What may be asked of a sampler."""

from __future__ import annotations

import json

import pytest

from ftdiag.datatypes import asdict
from ftdiag.errors import UsageError
from ftdiag.sampling.options import LONGEST_DURATION_S, MAX_RATE_HZ, MIN_RATE_HZ, SamplerOptions


def test_options_survive_the_pipe() -> None:
    # GIVEN what a parent asks for, WHEN it is written as JSON and read, THEN it is the same
    options = SamplerOptions(
        4711, "a b", rate_hz=250.0, duration_s=1.5, keep_ns=3, source="py-spy", blocking=True
    )
    assert SamplerOptions(**json.loads(options.as_json())) == options


@pytest.mark.parametrize("path", ["", 'a"b\\c', "a\nb\0", "\x7f\u00fc\u65e5\U0001f40d", "\udc80\udcff", "/"])
def test_any_path_survives_the_pipe_in_ascii_and_on_one_line(path: str) -> None:
    # GIVEN a path that somebody chose WHEN written THEN json reads it, as it reads what it has written itself
    written = SamplerOptions(1, path).as_json()

    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == json.loads(json.dumps(asdict(SamplerOptions(1, path))))
    assert json.loads(written)["path"] == path


@pytest.mark.parametrize("rate_hz", [MIN_RATE_HZ, MAX_RATE_HZ])
def test_limits_are_possible(rate_hz: float) -> None:
    assert SamplerOptions(1, "a", rate_hz=rate_hz, duration_s=LONGEST_DURATION_S).rate_hz == rate_hz


@pytest.mark.parametrize(
    ("wrong", "what", "hint"),
    [
        ({"rate_hz": 0.9}, "a rate of 0.9 Hz is not possible", "--rate takes 1 to 10000; 100 is usual"),
        ({"rate_hz": float("nan")}, "a rate of nan Hz is not possible", "--rate"),
        ({"rate_hz": 10_001.0}, "a rate of 10001 Hz", "--rate"),
        ({"native_rate_hz": 1000.1}, "a native rate of 1000.1 Hz", "--native-rate"),
        ({"budget_cores": 0.0}, "a budget of 0 cores", "--budget takes 0.005 to 1"),
        ({"native_rate_hz": -1.0}, "a native rate of -1 Hz", "--native-rate takes 0 (off)"),
        ({"duration_s": 0.0}, "a duration of 0 s", "--duration"),
        ({"duration_s": 2 * LONGEST_DURATION_S}, "a duration of", "--duration"),
        ({"source": "gdb"}, "there is no source 'gdb'", "auto, native, py-spy"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float], what: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        SamplerOptions(1, "a", **wrong)  # type: ignore[arg-type]
    assert what in refused.value.what
    assert hint in (refused.value.hint or "")
