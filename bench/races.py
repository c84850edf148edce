"""Measures how right races are: planted ones that are found, and programs without any of which none is said.

In: bench/targets/updates.py under every free-threaded interpreter at hand; with --workloads also the samples
that are healthy; with --services only programs of tools/field.py with libraries, services under load. Out: a
table; of racy programs after how many seconds at 100 Hz the first finding came, how often two threads were
seen together, and what share of the updates was lost by the program's own count beside the share that was
said. Exits with 1 where a race was not found within 30 s, or one was said that is none.

Usage: python bench/races.py [NAME ...] [--series 3.14] [--seconds 30] [--safe-seconds 12] [--workloads]
                             [--services]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench" / "targets")]

from updates import PROGRAMS, RACY  # noqa: E402

from ftdiag.errors import FtdiagError  # noqa: E402
from ftdiag.launcher import SamplerProcess  # noqa: E402
from ftdiag.model import SharedUpdate  # noqa: E402
from ftdiag.recording.reader import Recording  # noqa: E402
from ftdiag.sampling.options import SamplerOptions  # noqa: E402
from ftdiag.session import Session  # noqa: E402
from tools.field import CASES, Case, NotInstalled, environment_of, running_case  # noqa: E402
from tools.provision.search import find_interpreters  # noqa: E402
from tools.provision.verification import Interpreter  # noqa: E402
from tools.samples import SAMPLES  # noqa: E402
from tools.workloads import WORKLOADS, WorkloadFailure  # noqa: E402

TARGET: Final = ROOT / "bench" / "targets" / "updates.py"
RULE: Final = "racy-update"
LOOK_S: Final = 1.5
MORE_S: Final = 4.0
"""How long a program is looked at after its race was found: for the share of lost updates."""
THROUGHPUT: Final = "lost_updates"
"""The workload that has a race."""


def races(path: Path) -> tuple[tuple[str, ...], tuple[SharedUpdate, ...]]:
    """(summaries of the findings, all updates) of a recording."""
    with Recording.open(path) as recording:
        snapshot = Session(recording).snapshot()
    found = tuple(one.summary for one in snapshot.findings if one.rule_id == RULE)
    return found, snapshot.updates or ()


def one(command: list[str], seconds: float, *, until_found: bool) -> dict[str, Any]:
    """Runs and records one program."""
    result: dict[str, Any] = {"found": (), "after_s": None, "updates": (), "told": {}}
    with tempfile.TemporaryDirectory() as folder, SamplerProcess() as sampler:
        sampler.spawn()
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            path = Path(folder) / "a.ftdiag"
            sampler.start(SamplerOptions(pid=int(line.split()[1]), path=str(path), duration_s=seconds))
            sampler.wait_until_started()
            begin = time.monotonic()
            while time.monotonic() - begin < seconds:
                time.sleep(LOOK_S)
                result["found"], result["updates"] = races(path)
                if result["found"] and result["after_s"] is None:
                    result["after_s"] = time.monotonic() - begin
                if result["found"] and until_found and time.monotonic() - begin > result["after_s"] + MORE_S:
                    break
            sampler.stop()
            result["found"], result["updates"] = races(path)
        finally:
            program.terminate()
            try:
                rest = program.communicate(timeout=20.0)[0]
                result["told"] = json.loads(rest) if rest.strip() else {}
            except (subprocess.TimeoutExpired, ValueError):
                program.kill()
                program.wait()
    return result


def main() -> int:
    """Exit status 0 or 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--series", action="append")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--safe-seconds", type=float, default=12.0)
    parser.add_argument("--workloads", action="store_true")
    parser.add_argument("--services", action="store_true")
    parser.add_argument("--only", choices=("racy", "safe"))
    options = parser.parse_args()
    wrong = 0
    racy = {program.__name__ for program in RACY}
    for interpreter in find_interpreters().chosen:
        if options.series and interpreter.series not in options.series:
            continue
        for name in () if options.services else PROGRAMS:
            if (options.names and name not in options.names) or (
                options.only is not None and (options.only == "racy") is not (name in racy)
            ):
                continue
            seconds = options.seconds if name in racy else options.safe_seconds
            command = [str(interpreter.path), str(TARGET), name, "--seconds", "600"]
            result = one(command, seconds, until_found=name in racy)
            bad = bool(result["found"]) is not (name in racy)
            wrong += bad
            print(row(interpreter.series, name, result, racy=name in racy, bad=bad), flush=True)
        for sample in SAMPLES if options.workloads else ():
            if sample.rule or sample.workload == THROUGHPUT:
                continue
            command = [str(interpreter.path), str(WORKLOADS / f"{sample.workload}.py"), *sample.arguments]
            try:
                result = one(command, options.safe_seconds, until_found=False)
            except (FtdiagError, IndexError, ValueError) as error:
                print(f"# {sample.name}: {error}", flush=True)
                continue
            wrong += bool(result["found"])
            print(
                row(interpreter.series, sample.name, result, racy=False, bad=bool(result["found"])),
                flush=True,
            )
        for case in CASES if options.services else ():
            if (case.needs or case.service) and (case.name in options.names or not options.names):
                wrong += of_service(case, interpreter, options.seconds)
    print(f"{wrong} wrong")
    return 1 if wrong else 0


def of_service(case: Case, interpreter: Interpreter, seconds: float) -> bool:
    """Records a program of the field, under load where it is a service; whether a race was said."""
    try:
        python = environment_of(interpreter, case.needs)
        with (
            tempfile.TemporaryDirectory() as folder,
            running_case(case, python, threads=4) as running,
            SamplerProcess() as sampler,
        ):
            sampler.spawn()
            time.sleep(LOOK_S)
            path = Path(folder) / "a.ftdiag"
            sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=seconds))
            sampler.wait(seconds + 60.0)
            sampler.stop()
            found, updates = races(path)
            with Recording.open(path) as recording:
                sights = sum(len(each) for _, each in recording.updates(0, len(recording)))
    except (NotInstalled, FtdiagError, WorkloadFailure) as error:
        print(f"# {case.name} {interpreter.series}: {' '.join(str(error).split())[:200]}", flush=True)
        return False
    result: dict[str, Any] = {"found": found, "after_s": None, "updates": updates, "told": {}}
    print(row(interpreter.series, case.name, result, racy=False, bad=bool(found)), flush=True)
    print(f"    {sights} sights of updates, {len(updates)} places updated by several threads", flush=True)
    return bool(found)


def row(series: str, name: str, result: dict[str, Any], *, racy: bool, bad: bool) -> str:
    """A line of the table."""
    text = f"{series} {name:24}"
    if racy:
        after, told = result["after_s"], result["told"]
        first = result["updates"][0] if result["updates"] else None
        text += " not found" if after is None else f" found after {after:4.1f} s"
        if first is not None:
            text += f", together {first.together}, mixed {first.mixed}, said {first.overlap_ratio or 0:.0%}"
        if told.get("kept") is not None and told["made"]:
            text += f", lost {1 - told['kept'] / told['made']:.1%}"
    text += "".join(f"\n    {summary}" for summary in result["found"][:2] if bad)
    return text + ("  WRONG" if bad else "")


if __name__ == "__main__":
    sys.exit(main())
