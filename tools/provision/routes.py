"""The ways to an interpreter that is not at hand, in the order in which they are tried.

In: a series ("3.15"), the cache directory. Out: a verified interpreter; `ProvisioningFailure` that says of
each way why it failed, and the one next command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tools.provision.assembly import assemble
from tools.provision.build import build_from_source_package
from tools.provision.cache import cached_of_series, series_lock
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress
from tools.provision.verification import Interpreter, Refusal, verify
from tools.provision.with_uv import install_with_uv

Route = Callable[[Path, str, Progress, int], Interpreter]
"""Cache, series, progress, descriptor of the lock that is held: an interpreter or a ProvisioningFailure."""


def _from_uv(cache: Path, series: str, progress: Progress, lock_fd: int) -> Interpreter:
    verdict = verify(install_with_uv(cache, series, progress, lock_fd), "uv")
    if isinstance(verdict, Refusal):
        raise ProvisioningFailure(f"{verdict.path} {verdict.reason}")
    return verdict


def routes(jobs: int) -> tuple[tuple[str, Route], ...]:
    """Each way with what it is called; fast ones first."""

    def built(cache: Path, series: str, progress: Progress, lock_fd: int) -> Interpreter:
        return build_from_source_package(cache, series, jobs=jobs, progress=progress, lock_fd=lock_fd)

    return (("uv", _from_uv), ("packages", assemble), ("source build", built))


BUILD_ONLY: Final = slice(2, None)
"""The routes of `--build`."""


def provide(
    cache: Path, series: str, progress: Progress, ways: Sequence[tuple[str, Route]], *, anew: bool = False
) -> Interpreter:
    """An interpreter of the series by the first way that succeeds.

    Two runs at once do not get the same series twice: the second waits, and takes what the first has made.
    `anew` gets one even if the cache has it.
    """
    told: list[str] = []
    remedies: list[str] = []
    try:
        with series_lock(cache, series, progress) as lock_fd:
            ready = None if anew else cached_of_series(cache, series)
            if ready is not None:
                return ready
            for name, way in ways:
                try:
                    return way(cache, series, progress, lock_fd)
                except ProvisioningFailure as failure:
                    told.append(f"  {name}: {failure.what}")
                    if failure.remedy is not None:
                        remedies.append(failure.remedy)
                    progress.note(f"{series}t, {name}: {failure.what.splitlines()[0]}")
    except OSError as error:
        # A full disk, a cache that may not be written.
        raise ProvisioningFailure(
            f"a free-threaded {series} could not be put into {cache}: {error}",
            "Name another place: XDG_CACHE_HOME=/path/to/a/directory python3 -m tools.provision ensure "
            f"--series {series}",
        ) from error
    raise ProvisioningFailure(
        f"no free-threaded {series} could be had:\n" + "\n".join(told),
        # The last way needs least of the outside: what it lacks is what is easiest to give.
        remedies[-1]
        if remedies
        else f"Check the network, then: python3 -m tools.provision ensure --series {series}",
    )
