"""`python -m fuzz`: the campaign, or one mutant of it once more. Ends with 1 where a fault was found."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from ftdiag.errors import FtdiagError
from fuzz import guided, harness
from fuzz.campaign import FAMILIES, campaign, family_of, judged_alone

SEED = 20
MUTANTS = 100_000
SECONDS = 330.0


def main() -> int:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--mutants", type=int, default=MUTANTS, help="how many of all families together")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when it ends at the latest")
    parser.add_argument("--only", metavar="FAMILY", action="append", help="this family alone")
    parser.add_argument("--replay", metavar="FAMILY:NUMBER", help="make one mutant again, with its traceback")
    parser.add_argument("--guided", action="store_true", help="by the code that they reach (needs atheris)")
    arguments = parser.parse_args()
    chosen = [make for make in FAMILIES if arguments.only is None or make().name in arguments.only]
    if not chosen:
        parser.error(f"the families are: {', '.join(make().name for make in FAMILIES)}")
    if arguments.replay is not None:
        name, _, number = arguments.replay.rpartition(":")
        return _replay(name, number, arguments.seed)
    if arguments.guided:
        return _guided([make().name for make in chosen], arguments.seconds, arguments.seed)
    result = campaign(arguments.seed, arguments.mutants, arguments.seconds, families=chosen)
    sys.stdout.write("\n".join(result.lines()) + "\n")
    return int(bool(result.faults))


def _guided(names: list[str], seconds: float, seed: int) -> int:
    if not guided.is_there():
        sys.stdout.write(f"no mutants by coverage: atheris is not installed ({guided.INSTALL})\n")
        return 0
    results = guided.guided(names, seconds, seed, judged_alone)
    sys.stdout.write("family           mutants  refused   branches  faults\n")
    for result in results:
        sys.stdout.write("\n".join((result.line(), *result.faults)) + "\n")
    return int(any(result.faults for result in results))


def _replay(name: str, number: str, seed: int) -> int:
    """One mutant: of a number and the seed, or, "@" and bytes in hexadecimal, of given choices."""
    family = family_of(name)
    given = number.startswith("@")
    chance = (
        harness.chance_by(bytes.fromhex(number[1:])) if given else harness.chance_of(seed, name, int(number))
    )
    with tempfile.TemporaryDirectory(prefix="ftdiag-fuzz-") as folder:
        family.prepare(Path(folder))
        harness.reset_peak()
        try:
            wrong = family.attempt(chance)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            traceback.print_exception(error)
            return int(not isinstance(error, FtdiagError))
        sys.stdout.write(f"{wrong or 'nothing is wrong'}; at most {harness.peak_bytes() >> 20} MiB\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
