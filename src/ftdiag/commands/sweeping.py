"""A sweep at work: every run of its plan, one after the other, each written to the results file when it is
done.

In: a `Sweep` with none or some of its runs. Out: the same with all of them, or as far as it came. Ctrl-C
and an error leave a results file with every finished run, from which it goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ftdiag.commands import terminal
from ftdiag.commands.measured_run import MOST_RECORDED, Job, JobFailed, run_once
from ftdiag.datatypes import replace
from ftdiag.errors import DiskFull, FtdiagError, RecordingError, UsageError
from ftdiag.scaling.results import MAX_BYTES, Run, Sweep, sweep_of, text_of
from ftdiag.scaling.settings import (
    MAX_WORKERS,
    Planned,
    Setting,
    filled,
    missing,
    plan,
    starts_processes_itself,
)
from ftdiag.scaling.throughput import NoThroughput

RUNS_ENDING: Final = ".runs"
"""Recordings lie in a folder with the results' name and this ending."""
PLAIN_PROGRESS_S: Final = 30.0
BAR: Final = 20


def runs_folder(path: Path) -> Path:
    """Where the recordings of a results file are."""
    return path.with_name(path.name + RUNS_ENDING)


def read_sweep(path: Path) -> Sweep:
    """The sweep in a results file. Raises RecordingError."""
    from ftdiag.commands import plain_files

    try:
        data = plain_files.read(path, MAX_BYTES + 1)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}", "Check the name.") from None
    if len(data) > MAX_BYTES:
        raise RecordingError(f"{path} is larger than any file of a sweep ({MAX_BYTES >> 20} MiB)")
    return sweep_of(data, str(path))


def write_sweep(path: Path, sweep: Sweep, *, new: bool = False) -> None:
    """Write a results file as a whole or not at all. Raises RecordingError, DiskFull."""
    if new and os.path.lexists(path):
        raise RecordingError(
            f"{path} exists already; results never overwrite a file.",
            f"Choose another name, or go on with it: ftdiag scale --resume {path}",
        )
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "x", encoding="ascii") as stream:
            stream.write(text_of(sweep))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise DiskFull(
            f"{path} cannot be written: {error.strerror}", "-o FILE   takes another place"
        ) from None


class Sweeping:
    """The runs that are to be made, and how far they are."""

    def __init__(self, sweep: Sweep, path: Path, *, keep_going: bool) -> None:
        self.sweep = sweep
        self._path = path
        self._keep_going = keep_going
        self._line = terminal.Progress(PLAIN_PROGRESS_S)
        self._begun_s = time.monotonic()
        self._given_up: dict[str, str] = {}
        """Interpreters with which the job does not run, and why."""

    def go(self) -> Sweep:
        """Make all runs. Raises what one failed with, when the results file has all before it."""
        # What failed before is tried again.
        done = [run for run in self.sweep.runs if run.throughput is not None]
        self.sweep = replace(self.sweep, runs=tuple(done))
        todo = missing(
            plan(self.sweep.settings, self.sweep.repeats, self.sweep.seed),
            [(run.setting, run.round) for run in done],
        )
        try:
            if todo:
                self._warm_up(todo)
            for number, planned in enumerate(todo):
                if planned.setting.python not in self._given_up:
                    self._make(planned, todo[number:])
        finally:
            self._line.clear()
        return self.sweep

    def _warm_up(self, todo: Sequence[Planned]) -> None:
        """Runs that do not count: files are read from the disk, bytecode is written, cores speed up."""
        first: dict[str, Setting] = {}
        for planned in todo:
            first.setdefault(planned.setting.python, planned.setting)
        for setting in first.values():
            for number in range(self.sweep.warm_ups):
                words = f"warming up ({setting.words()}), {number + 1} of {self.sweep.warm_ups}"
                try:
                    self._run(Planned(setting, 0), words, recorded=False)
                except FtdiagError as error:
                    self._failed(Planned(setting, 0), error)
                    break

    def _make(self, planned: Planned, left: Sequence[Planned]) -> None:
        number = len(self.sweep.settings) * self.sweep.repeats - len(left) + 1
        whole = len(self.sweep.settings) * self.sweep.repeats
        filled_cells = round(BAR * (number - 1) / whole)
        bar = "#" * filled_cells + "." * (BAR - filled_cells)
        words = f"[{bar}] run {number} of {whole}: {planned.setting.words()}"
        try:
            run = self._run(planned, words, recorded=self.sweep.recorded, left=left)
        except FtdiagError as error:
            self._failed(planned, error)
            return
        self._add(run)
        if run.not_recorded is not None:
            self._line.clear()
            terminal.note(f"not recorded ({planned.setting.words()}): {run.not_recorded}")

    def _failed(self, planned: Planned, error: FtdiagError) -> None:
        """Note it, or give up: the whole sweep, or one interpreter of several."""
        if not isinstance(error, JobFailed | NoThroughput | UsageError):
            raise error
        self._add(Run(planned.setting, planned.round, failed=error.what[:4000]))
        self._line.clear()
        python = planned.setting.python
        others = {setting.python for setting in self.sweep.settings} - {python, *self._given_up}
        if python and others:
            self._given_up[python] = error.what
            terminal.note(f"{python} is left out: {error.what}")
        elif self._keep_going:
            terminal.note(f"left out: {error.what}")
        else:
            raise error

    def _add(self, run: Run) -> None:
        self.sweep = replace(self.sweep, runs=(*self.sweep.runs, run))
        write_sweep(self._path, self.sweep)

    def _run(self, planned: Planned, words: str, *, recorded: bool, left: Sequence[Planned] = ()) -> Run:
        sweep, setting = self.sweep, planned.setting
        line = filled(sweep.command, setting, sweep.interpreters.get(setting.python))
        copies = 1 if starts_processes_itself(sweep.command) else setting.processes
        recordings: list[Path] = []
        if recorded:
            folder = runs_folder(self._path)
            folder.mkdir(mode=0o700, exist_ok=True)
            name = f"{setting.processes}x{setting.threads}-{planned.round + 1}"
            if setting.python:
                name = f"{_plain(setting.python)}-{name}"
            for copy in range(min(copies, MOST_RECORDED)):
                path = folder / (f"{name}.ftdiag" if copies == 1 else f"{name}-{copy + 1}.ftdiag")
                # Of a run that was interrupted.
                for ending in ("", "-wal", "-shm", "-journal"):
                    Path(f"{path}{ending}").unlink(missing_ok=True)
                recordings.append(path)
        job = Job(
            setting=setting,
            round=planned.round,
            commands=(tuple(line),) * copies,
            reading=sweep.reading,
            timeout_s=sweep.timeout_s,
            skip_s=sweep.skip_s,
            recordings=tuple(recordings),
            rate_hz=sweep.rate_hz,
            adds_memory=sweep.kind == "layouts",
            capacity_cores=sweep.capacity_cores,
            next_threads=_next(sweep, setting) if recorded else None,
        )

        def passed(seconds: float) -> None:
            self._line.show(f"{words}, {seconds:.0f} s{self._time_left(left, seconds)}")

        passed(0.0)
        return run_once(job, passed)

    def _time_left(self, left: Sequence[Planned], passed_s: float) -> str:
        """ ", 2 min 5 s left", by what finished runs of each setting took; nothing before there is one."""
        if not left:
            return ""
        times: dict[Setting, list[float]] = {}
        for run in self.sweep.runs:
            if run.wall_s is not None:
                times.setdefault(run.setting, []).append(run.wall_s)
        if not times:
            return ""
        every = [wall for walls in times.values() for wall in walls]
        mean = sum(every) / len(every)
        whole = sum(
            sum(times[each.setting]) / len(times[each.setting]) if each.setting in times else mean
            for each in left
        )
        minutes, seconds = divmod(round(max(0.0, whole - passed_s)), 60)
        return f", {minutes} min {seconds} s left" if minutes else f", {seconds} s left"


def _next(sweep: Sweep, setting: Setting) -> int | None:
    """The next number of threads after a setting's: twice as many after the last; none for layouts."""
    if sweep.kind == "layouts":
        return None
    more = [each.threads for each in sweep.settings if each.threads > setting.threads]
    return min(more, default=min(2 * setting.threads, MAX_WORKERS))


def _plain(name: str) -> str:
    """A name as part of a file's name."""
    plain = "".join(each if each.isalnum() or each in ".-" else "_" for each in name.rpartition("/")[2])
    return plain.lstrip(".")[:60] or "python"
