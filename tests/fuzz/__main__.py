"""`python -m fuzz`: the campaign, or one mutant of it once more. Ends with 1 where a fault was found."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from ftdiag.errors import FtdiagError
from fuzz import harness
from fuzz.campaign import FAMILIES, campaign

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
    arguments = parser.parse_args()
    chosen = [make for make in FAMILIES if arguments.only is None or make().name in arguments.only]
    if not chosen:
        parser.error(f"the families are: {', '.join(make().name for make in FAMILIES)}")
    if arguments.replay is not None:
        name, _, number = arguments.replay.rpartition(":")
        return _replay(name, int(number), arguments.seed)
    result = campaign(arguments.seed, arguments.mutants, arguments.seconds, families=chosen)
    sys.stdout.write("\n".join(result.lines()) + "\n")
    return int(bool(result.faults))


def _replay(name: str, number: int, seed: int) -> int:
    family = next(made for made in (make() for make in FAMILIES) if made.name == name)
    with tempfile.TemporaryDirectory(prefix="ftdiag-fuzz-") as folder:
        family.prepare(Path(folder))
        harness.reset_peak()
        try:
            wrong = family.attempt(harness.chance_of(seed, name, number))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            traceback.print_exception(error)
            return int(not isinstance(error, FtdiagError))
        sys.stdout.write(f"{wrong or 'nothing is wrong'}; at most {harness.peak_bytes() >> 20} MiB\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
