"""`ftdiag doctor --cross-check PID`: one process through our reader and through py-spy, at once.

In: a process that both can read (a GIL build from 3.13 on). Out: the share of thread-time of each hot line as
either of them has it, and how far they are apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ftdiag.commands import terminal
from ftdiag.commands.sampling import explained
from ftdiag.datatypes import dataclass
from ftdiag.errors import AttachError, FtdiagError
from ftdiag.launcher import SamplerProcess
from ftdiag.sampling.options import DEFAULT_RATE_HZ, SamplerOptions
from ftdiag.scratch import private_directory

SCHEMA: Final = "ftdiag-cross-check/1"
AGREEMENT_POINTS: Final = 3.0
"""Shares of a line that differ by no more than this agree: of 1000 looks a share has a standard error of up
to 1.6 points, and the two do not look at the same moments."""
SHOWN_LINES: Final = 15
DIFFERS_STATUS: Final = 1


@dataclass(frozen=True, slots=True)
class LineShares:
    """A line's share of all thread-time, as both readers have it."""

    filename: str
    line: int | None
    function: str
    native_ratio: float
    pyspy_ratio: float

    @property
    def points(self) -> float:
        """py-spy's share less ours, in points of a hundred."""
        return 100 * (self.pyspy_ratio - self.native_ratio)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        where = self.filename if self.line is None else f"{self.filename}:{self.line}"
        return f"{where} in {self.function}"


def cross_check(pid: int, duration_s: float, form: str) -> int:
    """Look at a process through both readers, say how far they agree; the exit status."""
    terminal.require_output()
    with private_directory() as directory:
        paths = [directory / "native", directory / "py-spy"]
        _record(pid, duration_s, paths)
        lines, seconds = compare(*paths)
    if not lines:
        raise AttachError(
            f"nothing ran Python code in process {pid} while it was looked at", "Try again when it works."
        )
    most = max(lines, key=lambda each: abs(each.points))
    agree = abs(most.points) <= AGREEMENT_POINTS
    if form == "json":
        terminal.put_json(
            {
                "schema": SCHEMA,
                "pid": pid,
                "duration_s": round(seconds, 3),
                "rate_hz": DEFAULT_RATE_HZ,
                "agree": agree,
                "limit_points": AGREEMENT_POINTS,
                "largest_difference_points": round(most.points, 3),
                "lines": [
                    {
                        "file": each.filename,
                        "line": each.line,
                        "function": each.function,
                        "ftdiag_share": round(each.native_ratio, 5),
                        "py_spy_share": round(each.pyspy_ratio, 5),
                        "difference_points": round(each.points, 3),
                    }
                    for each in lines
                ],
            }
        )
    else:
        terminal.put_lines(terminal.harmless(line) for line in words(pid, seconds, lines))
    return 0 if agree else DIFFERS_STATUS


def words(pid: int, seconds: float, lines: Sequence[LineShares]) -> Iterator[str]:
    """The answer, then the lines."""
    most = max(lines, key=lambda each: abs(each.points))
    verdict = "agree" if abs(most.points) <= AGREEMENT_POINTS else "DIFFER"
    yield (
        f"ftdiag and py-spy {verdict} on process {pid}, at which both looked for {seconds:.1f} s"
        f" at {DEFAULT_RATE_HZ:g} Hz:"
    )
    yield (
        f"their shares of thread-time differ by at most {abs(most.points):.1f} points"
        f" (up to {AGREEMENT_POINTS:g} is chance), at {most.place}"
    )
    yield ""
    yield "  ftdiag  py-spy  points"
    for each in lines[:SHOWN_LINES]:
        ours, theirs = 100 * each.native_ratio, 100 * each.pyspy_ratio
        yield f"  {ours:5.1f}%  {theirs:5.1f}%  {each.points:+6.1f}  {each.place}"
    if len(lines) > SHOWN_LINES:
        yield f"  and {len(lines) - SHOWN_LINES} more lines with less"


def _record(pid: int, duration_s: float, paths: Sequence[Path]) -> None:
    """Have both look at the same time. Raises AttachError if one of them cannot."""
    progress = terminal.Progress()
    with ExitStack() as stack:
        samplers = [stack.enter_context(SamplerProcess()) for _ in paths]
        for sampler, path, source in zip(samplers, paths, ("native", "py-spy"), strict=True):
            sampler.start(
                SamplerOptions(
                    pid, os.fspath(path), rate_hz=DEFAULT_RATE_HZ, duration_s=duration_s, source=source
                )
            )
        try:
            for sampler in samplers:
                sampler.wait_until_started()
            # Without py-spy's stacks the kernel's side would go on alone: there is nothing to compare then.
            notes = samplers[1].take_notes()
            if notes:
                what, _, hint = notes[0].partition("\n")
                raise AttachError(f"there is nothing to compare: {what}", hint or "ftdiag doctor")
            progress.show(f"looking at process {pid} through both readers, for {duration_s:g} s")
            for sampler in samplers:
                sampler.wait()
        except FtdiagError as error:
            raise explained(error, pid) from None
        finally:
            progress.clear()


def compare(native: Path, pyspy: Path) -> tuple[tuple[LineShares, ...], float]:
    """The lines of two recordings with their shares of thread-time, hottest first; the length in s."""
    shares: list[dict[tuple[str, int | None], float]] = []
    functions: dict[tuple[str, int | None], str] = {}
    seconds: list[float] = []
    from ftdiag.recording.reader import Recording
    from ftdiag.session import Session

    for path in (native, pyspy):
        with Recording.open(path) as recording:
            snapshot = Session(recording).snapshot()
        found: dict[tuple[str, int | None], float] = {}
        for line in snapshot.hot:
            key = line.frame.filename, line.frame.line
            found[key] = found.get(key, 0.0) + line.total_ns
            functions.setdefault(key, line.frame.function)
        total = sum(found.values())
        shares.append({key: spent / total for key, spent in found.items()} if total else {})
        seconds.append(snapshot.metrics.duration_ns / 1e9)
    lines = [
        LineShares(*key, function, shares[0].get(key, 0.0), shares[1].get(key, 0.0))
        for key, function in functions.items()
    ]
    lines.sort(key=lambda each: -max(each.native_ratio, each.pyspy_ratio))
    return tuple(lines) if all(shares) else (), min(seconds)
