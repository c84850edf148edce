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

from tools.provision.cache import cache_directory
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.routes import BUILD_ONLY, provide, routes
from tools.provision.search import NEWEST, SERIES, Found, find_interpreters
from tools.provision.verification import Interpreter


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.provision", description="Free-threaded interpreters for development."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show every interpreter that is at hand, and why others are refused")
    ensure = commands.add_parser("ensure", help="print paths of interpreters, getting those that are missing")
    ensure.add_argument(
        "--series",
        action="append",
        choices=SERIES,
        help=f"what there shall be; may be given several times ({NEWEST})",
    )
    ensure.add_argument(
        "--all", dest="series", action="store_const", const=list(SERIES), help="one of each series"
    )
    ensure.add_argument("--build", action="store_true", help="build from the source package in any case")
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
        wanted = tuple(dict.fromkeys(options.series or ()))
        for interpreter in ensure_interpreters(progress, wanted, options.jobs, build=options.build):
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
    progress: Progress, wanted: Sequence[str], jobs: int, *, build: bool
) -> tuple[Interpreter, ...]:
    """Verified interpreters: those that the user named, else one of each wanted series.

    If no series is wanted in particular it is one of the newest, else what is at hand, else of the newest
    that can be had. Raises ProvisioningFailure once, after all were tried, for those that could not be had.
    """
    found = find_interpreters()
    _warn(found, progress)
    if found.named and not build:
        return found.named
    at_hand = {} if build else {one.series: one for one in reversed(found.interpreters)}
    ways = routes(jobs)[BUILD_ONLY if build else slice(None)]
    got: list[Interpreter] = []
    failures: list[ProvisioningFailure] = []
    for series in wanted or tuple(reversed(SERIES)):
        if series not in at_hand:
            if not build:
                progress.step(f"no free-threaded {series} at hand, looking for a way to get one")
            try:
                at_hand[series] = provide(cache_directory(), series, progress, ways, anew=build)
            except ProvisioningFailure as failure:
                failures.append(failure)
        if series in at_hand:
            got.append(at_hand[series])
        if at_hand and not wanted:
            return (max(at_hand.values(), key=lambda one: SERIES.index(one.series)),)
    if failures:
        raise ProvisioningFailure("\n".join(one.what for one in failures), failures[-1].remedy)
    return tuple(got)


def _warn(found: Found, progress: Progress) -> None:
    for refusal in found.named_refusals:
        progress.note(f"FTDIAG_PYTHONS: {refusal.path} is not used: {refusal.reason}")


if __name__ == "__main__":
    sys.exit(main())
