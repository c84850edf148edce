"""Runs the benchmarks one after the other: `python -m bench [NAME ...]` (`make bench`).

In: names of benchmarks (files of this folder; none: the short ones). Out: their tables on stdout.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
SHORT: Final = ("overhead", "sampler_cost", "torn")
"""What a change of the sampler should be held against; the others are run by name."""


def main(names: list[str]) -> int:
    """Run the named benchmarks; 2 for an unknown name, else the first status that is not 0."""
    known = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    status = 0
    for name in names or SHORT:
        print(f"== {name}", flush=True)
        status = status or subprocess.run([sys.executable, FOLDER / f"{name}.py"], check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
