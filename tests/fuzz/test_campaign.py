"""Some seconds of the campaign, and that it finds what it looks for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ftdiag.errors import RecordingError
from fuzz import campaign as campaign_module
from fuzz import guided, harness
from fuzz.__main__ import main
from fuzz.campaign import FAMILIES, campaign, judged_alone
from fuzz.offsets import DebugOffsets

SEED = 20
SHORT_S = 20.0
MUTANTS = 12_000
"""More than there is time for: the time ends it, not the number."""


def test_some_thousand_mutants_find_nothing() -> None:
    # GIVEN every kind of input WHEN it is changed in as many ways as the time allows
    result = campaign(SEED, MUTANTS, SHORT_S, processes=1)

    # THEN nothing but FtdiagError is raised, nothing takes too much, and no report says what cannot be
    assert not result.faults, "\n".join(result.lines())
    assert all(tally.mutants for tally in result.tallies.values()), "\n".join(result.lines())


def test_all_kinds_of_input_are_there() -> None:
    # GIVEN the families WHEN their shares are added up THEN they are everything
    made = [family() for family in FAMILIES]
    assert {family.name for family in made} == {
        "recordings",
        "imports",
        "object graphs",
        "debug offsets",
        "ELF",
        "perf maps",
        "sweeps",
        "memray captures",
        "memray messages",
    }
    assert sum(family.share for family in made) == 1000


def test_a_seed_gives_the_same_mutants() -> None:
    # GIVEN a seed WHEN a campaign is run twice THEN the same ones are refused
    first, second = (campaign(7, 150, 120.0, families=[DebugOffsets]) for _ in range(2))
    assert [result.tallies["debug offsets"].refused for result in (first, second)] == [
        first.tallies["debug offsets"].refused
    ] * 2
    assert first.mutants == second.mutants == 150
    # AND another seed gives other ones
    numbers = [harness.chance_of(seed, "debug offsets", 0).random() for seed in (7, 8)]
    assert numbers[0] != numbers[1]


def test_bytes_are_choices() -> None:
    # GIVEN bytes WHEN choices are taken from them THEN the same ones give the same, and each byte counts
    taken = {
        data: [harness.chance_by(data).choice(range(1000)), harness.chance_by(data).randbytes(8)]
        for data in (b"", b"abcd", b"abce", b"abcd")
    }
    assert len({str(value) for value in taken.values()}) == 3
    first, second = harness.chance_by(b"\x05\x00"), harness.chance_by(b"\x05\x00")
    assert first.random() == second.random() == 5 / 65_536
    # AND behind the last byte it goes on, the same each time
    assert [first.random() for _ in range(9)] == [second.random() for _ in range(9)]


@pytest.mark.parametrize("name", ["perf maps", "debug offsets"])
def test_a_mutant_is_judged_alone(name: str) -> None:
    # GIVEN the bytes of a mutant WHEN it is judged in a process of its own THEN nothing is wrong with it
    assert judged_alone(name, b"choices") == ""


def test_without_atheris_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN no atheris WHEN mutants by coverage are asked for THEN the command that installs it is said
    monkeypatch.setattr(guided, "is_there", lambda: False)
    monkeypatch.setattr("sys.argv", ["fuzz", "--guided"])
    assert main() == 0
    assert guided.INSTALL in capsys.readouterr().out


class Faulty:
    """A family one of whose mutants does what nothing may do."""

    name = "faulty"
    share = 1000

    def __init__(self, act: Callable[[], list[str]]) -> None:
        self._act = act

    def prepare(self, folder: Path) -> None:
        """Nothing."""

    def attempt(self, chance: Random) -> list[str]:
        """It is the one with a small number."""
        return self._act() if chance.random() < 0.2 else []


def burn() -> list[str]:
    """Take CPU time."""
    end_s = time.process_time() + 0.4
    while time.process_time() < end_s:
        pass
    return []


def swell() -> list[str]:
    """Take memory, and give it back."""
    return [] if bytearray(b"x" * (400 << 20)) else ["never"]


def refuse() -> list[str]:
    """Say no, as it should be said."""
    raise RecordingError("no", "try another")


def fail() -> list[str]:
    """Be wrong."""
    raise ValueError("wrong")


def die() -> list[str]:
    """End the process."""
    os._exit(3)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (burn, "s of CPU time"),
        (swell, "took more than 256 MiB"),
        (fail, "ValueError at"),
        (die, "the process ended with 3"),
        (lambda: ["a share above 1"], "a share above 1"),
        (refuse, None),
    ],
)
def test_what_is_wrong_is_found(
    act: Callable[[], list[str]], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a reader that does what none may do, with some of its input
    monkeypatch.setattr(harness, "LIMIT_S", 0.2)
    monkeypatch.setattr(campaign_module, "LIMIT_BYTES", 256 << 20)

    # WHEN it is tried out
    result = campaign(1, 12, 200.0, families=[lambda: Faulty(act)], processes=1)

    # THEN that is told, with how to do it again
    if words is None:
        assert result.faults == []
        assert result.tallies["faulty"].refused > 0
        return
    faults = [fault for fault in result.faults if words in fault]
    assert len(faults) == 1
    assert "--seed 1" in faults[0]
