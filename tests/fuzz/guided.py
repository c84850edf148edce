"""Mutants whose choices follow the code that they reach, where atheris (libFuzzer for Python) is installed.

In: a family, and seconds. Out: how many mutants there were, how much of ftdiag's code they reached, and those
that may be faults. libFuzzer changes a string of bytes and keeps what reaches new code; the bytes are the
choices of a mutant, instead of a random generator's. Instrumented code is slower, so what takes too long
there is judged again without it, as everything that looked wrong is.

A process each, because libFuzzer ends the one that it runs in: `python -m fuzz.guided FAMILY SECONDS SEED
FOLDER`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

MAX_CHOICES_BYTES: Final = 512
MAX_SUSPECTS: Final = 40
"""Kinds of faults of one family that are judged again."""
ENDS_WITHIN_S: Final = 300.0
"""How long after its time a process may still be at its last mutant, and at importing what it needs."""
INSTALL: Final = "pip install --only-binary :all: atheris"


@dataclass(frozen=True, slots=True)
class Guided:
    """What came of a family. `reached` counts the branches of ftdiag that some mutant took."""

    name: str
    mutants: int
    refused: int
    reached: int
    faults: tuple[str, ...]

    def line(self) -> str:
        """For a table."""
        return (
            f"{self.name:15} {self.mutants:8,} {self.refused:8,} {self.reached:10,} {len(self.faults):7}"
            " by coverage"
        )


def is_there() -> bool:
    """Whether it can be done here."""
    return importlib.util.find_spec("atheris") is not None


def guided(
    names: Sequence[str], seconds: float, seed: int, judge: Callable[[str, bytes], str]
) -> list[Guided]:
    """Try the families, as many at once as there are cores, in about so many seconds altogether.

    `judge` says what is wrong with a mutant, "" if nothing is, in a process of its own.
    """
    cores = len(os.sched_getaffinity(0))
    rounds = [names[begin : begin + cores] for begin in range(0, len(names), cores)]
    found = []
    with tempfile.TemporaryDirectory(prefix="ftdiag-fuzz-") as folder:
        for at_once in rounds:
            running = [
                (name, _started(name, seconds / len(rounds), seed, Path(folder) / name.replace(" ", "-")))
                for name in at_once
            ]
            for name, process in running:
                said = process.communicate(timeout=seconds + ENDS_WITHIN_S)[1]
                place = Path(folder) / name.replace(" ", "-")
                found.append(_result(name, place, process.returncode, said, partial(judge, name)))
    return found


def _started(name: str, seconds: float, seed: int, place: Path) -> subprocess.Popen[str]:
    place.mkdir()
    command = [sys.executable, "-m", "fuzz.guided", name, f"{seconds:.0f}", str(seed), str(place)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _result(name: str, place: Path, status: int, said: str, judge: Callable[[bytes], str]) -> Guided:
    told: dict[str, Any] = {"mutants": 0, "refused": 0, "suspects": {}}
    with suppress(FileNotFoundError):
        told = json.loads((place / "told").read_text())
    suspects = {bytes.fromhex(data) for data in told["suspects"].values()}
    if status:
        with suppress(FileNotFoundError):
            suspects.add((place / "at").read_bytes())
    judged = {data: judge(data) for data in suspects}
    faults = [
        f"{name}: {wrong} (python -m fuzz --replay '{name}:@{data.hex()}')"
        for data, wrong in judged.items()
        if wrong
    ]
    if status and not faults:
        faults.append(f"{name}: the guided process ended with {status}: {said[-500:]}")
    reached = re.findall(r" cov: (\d+) ", said)
    return Guided(name, told["mutants"], told["refused"], int(reached[-1]) if reached else 0, tuple(faults))


# --- the process of one family ------------------------------------------------------------------------


def _fuzz(name: str, seconds: str, seed: str, place: Path) -> None:
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["ftdiag"]):
        from fuzz import harness
        from fuzz.campaign import family_of

        family = family_of(name)
        folder = place / "family"
        folder.mkdir()
        family.prepare(folder)
        told: dict[str, Any] = {"mutants": 0, "refused": 0, "suspects": {}}

        def attempt(data: bytes) -> None:
            (place / "at").write_bytes(data)
            harness.reset_peak()
            outcome = harness.judged(partial(family.attempt, harness.chance_by(data)))
            told["mutants"] += 1
            told["refused"] += outcome.refused
            fault = outcome.fault
            if not fault and harness.peak_bytes() > harness.LIMIT_BYTES:
                fault = "memory"
            # Seconds and addresses are not what makes a fault another one.
            kind = re.sub(r"\d+", "N", fault)
            new = bool(fault) and kind not in told["suspects"] and len(told["suspects"]) < MAX_SUSPECTS
            if new:
                told["suspects"][kind] = data.hex()
            if new or told["mutants"] % 16 == 0:
                (place / "told").write_text(json.dumps(told))

        harness.bound_address_space()
        limits = [f"-max_total_time={seconds}", f"-max_len={MAX_CHOICES_BYTES}", f"-seed={int(seed) + 1}"]
        # Faults are told by us; libFuzzer shall not stop at what is slow.
        atheris.Setup(["fuzz", *limits, "-timeout=600", "-rss_limit_mb=0", "-len_control=10"], attempt)
        atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
