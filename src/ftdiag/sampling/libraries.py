"""Notes whose code is seen to run, while nobody waits: with the window, not with the tick.

In: the frames that an observer gives to the recording. Out: the same recording, and in its target the
libraries that the frames' files belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.model import Frame, Library, Target, ThreadInfo, Window, is_standard_library
from ftdiag.recording.schema import MAX_LIBRARIES
from ftdiag.sampling.sink import RecordingSink
from ftdiag.sampling.target import TargetProcess
from ftdiag.sources.kernel.distributions import Distributions

FILES_OF_WINDOW: Final = 64
"""Files that are looked up with one window: reading metadata of many takes a while."""
MAX_WAITING: Final = 4096
"""Files that wait to be looked up; the code of more is nobody's that is known."""


class LibrarySink:
    """A recording that is also told whose code it has; all else is passed on."""

    def __init__(self, sink: RecordingSink, process: TargetProcess) -> None:
        self._sink = sink
        self._process = process
        self._distributions = Distributions(process.pid)
        self._seen: set[str] = set()
        self._waiting: list[str] = []
        self.intern_stack = sink.intern_stack
        self.intern_wait = sink.intern_wait

    def intern_frame(self, frame: Frame) -> int:
        """As `RecordingSink.intern_frame`; the frame's file is looked up later."""
        name = frame.filename
        if name not in self._seen and len(self._seen) < MAX_WAITING:
            self._seen.add(name)
            self._waiting.append(name)
        return self._sink.intern_frame(frame)

    def put_thread(self, info: ThreadInfo) -> None:
        """As `RecordingSink.put_thread`."""
        self._sink.put_thread(info)

    def update_target(self, target: Target) -> None:
        """As `RecordingSink.update_target`."""
        self._sink.update_target(target)

    def write_window(self, window: Window) -> None:
        """As `RecordingSink.write_window`, after files that came with it were looked up."""
        now, self._waiting = self._waiting[:FILES_OF_WINDOW], self._waiting[FILES_OF_WINDOW:]
        target = self._process.target
        libraries = self._libraries_of(now, target)
        if len(libraries) > len(target.libraries):
            self._process.target = replace(target, libraries=libraries)
            self._sink.update_target(self._process.target)
        self._sink.write_window(window)

    def _libraries_of(self, filenames: Sequence[str], target: Target) -> tuple[Library, ...]:
        """The libraries that are known, with those of these files."""
        known = list(target.libraries)
        for filename in filenames:
            if len(known) >= MAX_LIBRARIES:
                break
            if is_standard_library(filename) or any(library.has(filename) for library in known):
                continue
            library = self._distributions.library_of(filename)
            if library is not None:
                known.append(library)
        return tuple(known)
