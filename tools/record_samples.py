"""Records the samples on every free-threaded interpreter at hand: the golden recordings.

In: `tools.samples.SAMPLES`, interpreters that provisioning finds. Out: a file <version>t/<name>.ftdiag in
samples/recordings for each, and a line on stdout. Run as `python -m tools.record_samples [NAME ...]`.

Other programs change what a recording shows. So each sample waits until the machine is quiet, and is recorded
again if it did not stay so; of all attempts, and of the recording that is there, the quietest is kept.

A recording holds paths. The workloads are copied to a directory with a plain name first, so that a recording
does not tell where somebody keeps a checkout.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ftdiag.errors import AttachError, FtdiagError
from ftdiag.launcher import SamplerProcess
from ftdiag.model import ThreadState
from ftdiag.recording.reader import Recording
from ftdiag.sampling.options import SamplerOptions
from ftdiag.session import Session
from ftdiag.sources.tools.memray import outline, plan
from ftdiag.tracker import Tracking, TrackingRequest
from tools.provision.search import find_interpreters
from tools.samples import SAMPLES, Sample
from tools.workloads import WORKLOADS, WorkloadFailure, running_workload

RECORDINGS: Final = WORKLOADS.parent / "recordings"
PLAIN_PLACE: Final = Path("/tmp/samples")
WARM_UP_S: Final = 0.7
"""Until specialised bytecode and caches are there."""
QUIET_CORES: Final = 0.15
"""What other programs may use: a tenth of two cores, with some room for the sampler."""
TAKEN_CORES: Final = 0.25
"""What other programs, the sampler among them, may take of the cores that the sample wanted."""
LOOK_S: Final = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Records what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description="Record the samples on every interpreter.")
    parser.add_argument("names", nargs="*", help="samples to record (all)")
    parser.add_argument("--missing", action="store_true", help="only those without a quiet recording")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for a quiet machine")
    parser.add_argument("--attempts", type=int, default=3, help="attempts for each (%(default)s)")
    parser.add_argument("--into", type=Path, default=RECORDINGS, help="the directory (samples/recordings)")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {sample.name for sample in SAMPLES}
    if unknown:
        parser.error(f"no such sample: {', '.join(sorted(unknown))}")
    chosen = [sample for sample in SAMPLES if not options.names or sample.name in options.names]
    pythons = interpreters()
    if not pythons:
        print("error: no free-threaded interpreter. Get one: make pythons", file=sys.stderr)
        return 1
    with plain_copy(WORKLOADS) as workloads:
        for sample in chosen:
            for version, python in pythons.items():
                path = options.into / f"{version}t" / f"{sample.name}.ftdiag"
                if options.missing and path.exists() and cores_taken(path) <= TAKEN_CORES:
                    continue
                cores = record_quietly(sample, python, workloads, path, options.attempts, options.wait)
                if not path.exists():
                    print(f"{version}t {sample.name}: NOT RECORDED", flush=True)
                    continue
                size = path.stat().st_size / 1024
                noisy = "" if cores <= TAKEN_CORES else "  NOISY"
                said = f"{size:.0f} KiB, others took {cores:.2f} cores{noisy}"
                print(f"{version}t {sample.name}: {said}", flush=True)
    return 0


def interpreters() -> dict[str, Path]:
    """Version -> interpreter, one of each."""
    found: dict[str, Path] = {}
    for interpreter in find_interpreters().chosen:
        version = ".".join(interpreter.version.split(".")[:2])
        found.setdefault(version, Path(interpreter.path))
    return found


@contextmanager
def plain_copy(source: Path) -> Iterator[Path]:
    """The programs of a directory in a place that tells nothing."""
    target = PLAIN_PLACE / source.name
    target.mkdir(parents=True)  # fails if somebody else is recording
    try:
        for path in source.glob("*.py"):
            shutil.copy(path, target)
        yield target
    finally:
        shutil.rmtree(target)


def record_quietly(
    sample: Sample, python: Path, workloads: Path, path: Path, attempts: int, wait_s: float
) -> float:
    """Records until it was quiet; keeps the quietest. Returns the cores that other programs used."""
    best = cores_taken(path) if path.exists() else float("inf")
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(attempts):
        wait_until_quiet(wait_s)
        with tempfile.TemporaryDirectory(prefix="ftdiag-record-") as scratch:
            made = Path(scratch) / "recording.ftdiag"
            try:
                record(sample, python, workloads, made)
            except (FtdiagError, WorkloadFailure) as error:
                print(f"{sample.name} on {python}: {error}", file=sys.stderr, flush=True)
                continue
            cores = cores_taken(made)
            if cores < best:
                best = cores
                shutil.copyfile(made, path)
        if best <= TAKEN_CORES:
            break
    return best


def record(sample: Sample, python: Path, workloads: Path, path: Path) -> None:
    """Runs the sample and records it."""
    with (
        SamplerProcess() as sampler,
        running_workload(
            python,
            str(workloads / f"{sample.workload}.py"),
            *sample.arguments,
            options=sample.options,
            environ=dict(sample.environ),
        ) as running,
    ):
        sampler.spawn()
        time.sleep(WARM_UP_S)
        sampler.start(SamplerOptions(pid=running.pid, path=str(path), duration_s=sample.seconds))
        sampler.wait_until_started()
        sampler.wait(sample.seconds + 30.0)
        sampler.stop()
        if sample.memory_s:
            record_memory(running.pid, sample.memory_s, path)


def record_memory(pid: int, seconds: int, path: Path) -> None:
    """Adds a capture of memray, where the interpreter has one (none is released for free-threaded 3.13)."""
    try:
        how = plan(outline(pid))
    except AttachError as error:
        print(f"{path.name}: without memray: {error.what}", file=sys.stderr, flush=True)
        return
    Tracking(TrackingRequest(how, seconds, str(path)), lambda message: None, _go_on).run()


def _go_on(wait_s: float) -> bool:
    """Nobody stops it early."""
    time.sleep(wait_s)
    return True


def cores_taken(path: Path) -> float:
    """Cores that the sample wanted and other programs had."""
    with Recording.open(path) as recording:
        metrics = Session(recording).snapshot().metrics
    others = metrics.other_programs_cores
    if others is None:
        return float("inf")
    return min(others, metrics.lost_cores.get(ThreadState.RUNNABLE, 0.0))


def wait_until_quiet(wait_s: float) -> None:
    """Returns when the machine is quiet, or the patience is over."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        before, began = busy_s(), time.monotonic()
        time.sleep(LOOK_S)
        if (busy_s() - before) / (time.monotonic() - began) <= QUIET_CORES:
            return


def busy_s() -> float:
    """CPU time of all programs of the machine so far, in seconds (/proc/stat counts in hundredths)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _, _, irq, softirq = (int(field) for field in fields[1:8])
    return (user + nice + system + irq + softirq) / 100.0


if __name__ == "__main__":
    sys.exit(main())
