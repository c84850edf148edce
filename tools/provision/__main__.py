"""The command line of provisioning: `list` and `ensure`.

In: arguments. Out: interpreters on stdout, progress and warnings on stderr; exit status 0, or 1 with the
reason when no interpreter could be had.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from tools.provision.build import build_from_source_package
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.search import SERIES, Found, cache_directory, find_interpreters, find_with_uv
from tools.provision.verification import Interpreter, verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.provision", description="Free-threaded interpreters for development."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show every interpreter that is at hand, and why others are refused")
    ensure = commands.add_parser("ensure", help="print paths of interpreters, getting one if there is none")
    ensure.add_argument("--build", action="store_true", help="build from the source package in any case")
    ensure.add_argument("--series", choices=SERIES, default="3.13", help="what to build (%(default)s)")
    ensure.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="parallel compilations (%(default)s)"
    )
    options = parser.parse_args(arguments)
    # An ordinary end, so that the commands of a build are ended and files closed.
    signal.signal(signal.SIGTERM, _end)
    progress = Progress(sys.stderr)
    try:
        if options.command == "list":
            return list_interpreters()
        if options.jobs < 1:
            parser.error("--jobs must be at least 1")
        for interpreter in ensure_interpreters(progress, options.series, options.jobs, build=options.build):
            print(interpreter.path)
        return 0
    except ProvisioningFailure as failure:
        progress.close()
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.close()
        print("interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    finally:
        progress.close()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def list_interpreters() -> int:
    """Prints a line for each interpreter and for each refused candidate."""
    found = find_interpreters()
    for interpreter in found.interpreters:
        print(f"{interpreter.version:<10} {interpreter.path}  free-threaded, GIL off  ({interpreter.origin})")
    for refusal in found.refusals:
        print(f"{refusal.version or '-':<10} {refusal.path}  refused: {refusal.reason}  ({refusal.origin})")
    if not found.interpreters:
        print("No free-threaded interpreter. Get one: python3 -m tools.provision ensure", file=sys.stderr)
        return 1
    return 0


def ensure_interpreters(
    progress: Progress, series: str, jobs: int, *, build: bool
) -> tuple[Interpreter, ...]:
    """Verified interpreters: those at hand, else one from uv, else one built."""
    found = find_interpreters()
    _warn(found, progress)
    cache = cache_directory()
    if build:
        built = build_from_source_package(cache, series=series, jobs=jobs, progress=progress, rebuild=True)
        return (built, *(other for other in found.interpreters if other.path != built.path))
    if found.interpreters:
        return found.interpreters
    progress.step("no free-threaded interpreter at hand, looking for a way to get one")
    for path in find_with_uv(install=True):
        verdict = verify(path, "uv")
        if isinstance(verdict, Interpreter):
            return (verdict,)
    return (build_from_source_package(cache, series=series, jobs=jobs, progress=progress),)


def _warn(found: Found, progress: Progress) -> None:
    for refusal in found.named_refusals:
        progress.note(f"FTDIAG_PYTHONS: {refusal.path} is not used: {refusal.reason}")


if __name__ == "__main__":
    sys.exit(main())
