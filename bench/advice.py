"""Measures what advice rests on, and writes the table that rules read: `python -m bench.advice --write`.

In: the patterns of bench/targets/patterns.py, a free-threaded interpreter of each series. Out: a table, and
with `--write` src/ftdiag/rules/figures/measured.tsv.

How: each sample is a process of its own, started with bytecode files and without the caller's PYTHON
variables; in it the pattern runs with one thread and then with two, for SECONDS each, after a warm-up. A
round takes a sample of every variant of a case, one after the other, so that what else the machine does
hits all of them; `gain` compares a variant with its case's first one within a round. Medians of ROUNDS are
written, with the lowest and highest; where these lie far apart two rounds more are taken. The machine should
have two idle cores. Where it has not, real-time priority with round robin comes near, as root:

    chrt --rr 10 python -m bench.advice --write
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tools.provision.search import find_interpreters  # noqa: E402
from tools.provision.verification import Interpreter, probe_environment  # noqa: E402

PATTERNS: Final = Path(__file__).resolve().parent / "targets" / "patterns.py"
TABLE: Final = Path(__file__).resolve().parent.parent / "src/ftdiag/rules/figures/measured.tsv"
START: Final = (
    f"import sys; sys.path.insert(0, {os.fspath(PATTERNS.parent)!r}); import patterns;"
    " patterns.main(sys.argv[1:])"
)
"""Imported, so that it runs from a bytecode file as programs do."""
SECONDS: Final = 0.2
ROUNDS: Final = 3
MORE_ROUNDS: Final = 2
FAR_APART: Final = 1.4
"""Highest over lowest of a gain from which on more rounds are taken."""
SAMPLE_TIMEOUT_S: Final = 30.0
"""A pattern that takes longer is not measured: a container that its version does not lock may never end."""
COLUMNS: Final = (
    *("case", "variant", "series", "version"),
    *("scaling", "scaling_low", "scaling_high", "gain", "gain_low", "gain_high", "rounds"),
)
OPTIONS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("gil", "on"): ("-X", "gil=1"),
    ("tlbc", "off"): ("-X", "tlbc=0"),
}

MALLOC: Final = ("malloc", "raw-malloc", "python-objects")
JEMALLOC: Final = os.environ.get("FTDIAG_JEMALLOC", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")
"""Where it is (libjemalloc2 of Debian and Ubuntu); variants with it are not measured without."""
ENVIRON: Final[dict[tuple[str, str], dict[str, str]]] = {
    **{
        (case, "jemalloc"): {"LD_PRELOAD": JEMALLOC, "MALLOC_CONF": "oversize_threshold:0"} for case in MALLOC
    },
    ("python-objects", "purge-at-once"): {"MIMALLOC_PURGE_DELAY": "0"},
    ("malloc", "one-arena"): {"MALLOC_ARENA_MAX": "1"},
    ("arenas", "one"): {"MALLOC_ARENA_MAX": "1"},
}


@dataclass
class Samples:
    """Of one variant on one interpreter: 2 threads over 1, and over 2 threads of the first variant."""

    scaling: list[float] = field(default_factory=list)
    gain: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        """How far apart the gains lie."""
        return max(self.gain) / max(min(self.gain), 1e-9) if self.gain else 1.0


def patterns() -> dict[str, list[str]]:
    """Case -> variants, of which the first is the pattern itself."""
    newest = find_interpreters().chosen[0]
    listed = subprocess.run(
        [newest.path, "-c", START, "--list"], capture_output=True, check=True, env=probe_environment()
    )
    cases: dict[str, list[str]] = json.loads(listed.stdout)
    return cases


def sample(interpreter: Interpreter, case: str, variant: str) -> tuple[float, float] | None:
    """Steps a second with one thread and with two; None where this version does not have the variant."""
    if case == "tlbc" and interpreter.series == "3.13":
        return None  # it came with 3.14
    if variant == "jemalloc" and not os.path.exists(JEMALLOC):
        print(f"# {interpreter.version} {case} {variant}: no {JEMALLOC} (FTDIAG_JEMALLOC)", flush=True)
        return None
    command = [
        os.fspath(interpreter.path),
        *OPTIONS.get((case, variant), ()),
        *("-c", START, case, variant, str(SECONDS)),
    ]
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SAMPLE_TIMEOUT_S,
            env=probe_environment() | ENVIRON.get((case, variant), {}),
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"# {interpreter.version} {case} {variant}: no end in {SAMPLE_TIMEOUT_S:.0f} s", flush=True)
        return None
    if ran.returncode != 0:
        # What a version lacks is no error: a name, or the syntax of a statement.
        if "AttributeError" not in ran.stderr and "SyntaxError" not in ran.stderr:
            print(f"# {interpreter.version} {case} {variant}: {ran.stderr.strip()[-200:]}", flush=True)
        return None
    said = json.loads(ran.stdout)
    return said["one"], said["many"]


def measure(interpreter: Interpreter, case: str, variants: list[str]) -> dict[str, Samples]:
    """The samples of all variants of a case."""
    taken: dict[str, Samples] = {variant: Samples() for variant in variants}
    for number in range(ROUNDS + MORE_ROUNDS):
        if number >= ROUNDS and all(one.spread < FAR_APART for one in taken.values()):
            break
        # What could not be measured once is not tried again.
        rates = {
            variant: sample(interpreter, case, variant) if len(taken[variant].scaling) == number else None
            for variant in variants
        }
        first = rates[variants[0]]
        for variant, rate in rates.items():
            if rate is None:
                continue
            taken[variant].scaling.append(rate[1] / rate[0])
            if first is not None and variant != variants[0]:
                taken[variant].gain.append(rate[1] / first[1])
    return taken


def rows(cases: list[str]) -> Iterator[tuple[str, ...]]:
    """The table, row by row as it is measured."""
    for case, variants in patterns().items():
        if cases and case not in cases:
            continue
        for interpreter in sorted(find_interpreters().chosen, key=lambda one: one.version):
            for variant, taken in measure(interpreter, case, variants).items():
                if taken.scaling:
                    yield (
                        *(case, variant, interpreter.series, interpreter.version),
                        *_figures(taken.scaling),
                        *(_figures(taken.gain) if taken.gain else ("", "", "")),
                        str(len(taken.scaling)),
                    )


def _figures(values: list[float]) -> tuple[str, str, str]:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.3g}", f"{low:.3g}", f"{high:.3g}"


def kept(cases: list[str]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Rows of the table as it is, without those of cases that are measured now."""
    if not cases or not TABLE.exists():
        return {}
    lines = [tuple(line.split("\t")) for line in TABLE.read_text().splitlines()[1:]]
    return {line[:3]: line for line in lines if line[0] not in cases}


def main() -> int:
    """Measures, prints, and writes if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.advice", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("cases", nargs="*", help="only these (all)")
    parser.add_argument("--write", action="store_true", help=f"put them into {TABLE.name}")
    options = parser.parse_args()
    unknown = set(options.cases) - set(patterns())
    if unknown:
        parser.error(f"no pattern {', '.join(sorted(unknown))}")
    table = kept(options.cases)
    for row in rows(options.cases):
        print("\t".join(row), flush=True)
        table[row[:3]] = row
    if options.write:
        order = {case: number for number, case in enumerate(patterns())}
        lines = sorted(table.values(), key=lambda row: order.get(row[0], len(order)))
        TABLE.write_text("\n".join("\t".join(row) for row in (COLUMNS, *lines)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
