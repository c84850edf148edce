"""Keys that copy, save and edit.

In: keys. Out: files in the current directory, the clipboard, an editor.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from textual import work
from textual.app import SuspendNotSupported
from textual.message import Message

from ftdiag import confined
from ftdiag.errors import FtdiagError
from ftdiag.tui.base import LONG_NOTICE_S, NOTICE_S, CockpitBase, one_line
from ftdiag.tui.leaving import LeaveDialog
from ftdiag.tui.panes.evidence import finding_text
from ftdiag.tui.panes.hot import HotPane
from ftdiag.tui.saving import RECORDING_SUFFIX, copy_path, report_path, write_text
from ftdiag.wording.units import seconds


class Saved(Message):
    """A file was written, or could not be."""

    def __init__(self, words: str, *, failed: bool = False) -> None:
        super().__init__()
        self.words = words
        self.failed = failed


ASK_FROM_NS: Final = 10_000_000_000
"""From so much of a recording on it is worth a question before it goes away."""


class FileActions(CockpitBase):
    """The part of the application that is about files."""

    kept: Path | None = None
    """Where a copy of the recording was written last."""

    async def action_quit(self) -> None:
        """Leave; ask first where a recording would be lost."""
        span_ns, saver = self._view.span_ns, self._saver
        lasted = 0 if span_ns is None else span_ns[1] - span_ns[0]
        if saver.temporary and saver.copy_recording and not self.kept and lasted >= ASK_FROM_NS:
            self.push_screen(LeaveDialog(seconds(lasted)), self._leave)
        else:
            self.exit()

    def _leave(self, answer: str | None) -> None:
        snapshot, span_ns, copy = self._view.snapshot, self._view.span_ns, self._saver.copy_recording
        if answer == "keep" and snapshot is not None and span_ns is not None and copy is not None:
            path = copy_path(snapshot, span_ns)
            self._save(path, partial(copy, path), leave=True)
        elif answer is not None:
            self.exit()

    def action_copy(self) -> None:
        """The finding as text, to the terminal's clipboard (OSC 52)."""
        finding = self._pages.finding_at_hand()
        if finding is None:
            self.say("no finding to copy")
            return
        self.copy_to_clipboard(finding_text(finding))
        self.say("finding copied (if the terminal allows OSC 52)")

    def action_save(self, ending: str = "txt") -> None:
        """A report of the range, in the current directory."""
        snapshot, make = self._view.snapshot, self._saver.reports.get(ending)
        if snapshot is None or make is None:
            self.say("nothing to save here", alarm=True)
            return
        path = report_path(snapshot, self._view.span_ns, ending)
        self._save(path, lambda: write_text(path, make(snapshot)))

    def action_export(self, name: str) -> None:
        """The range in another tool's format, in the current directory."""
        snapshot, export = self._view.snapshot, self._saver.exports.get(name)
        if snapshot is None or export is None:
            self.say("nothing to save here", alarm=True)
            return
        path = report_path(snapshot, self._view.span_ns, export.ending().lstrip("."))
        self._save(path, lambda: export.write(path, snapshot))

    def action_save_recording(self) -> None:
        """A copy of the recording, in the current directory; a recording that grows goes on."""
        snapshot, span_ns, copy = self._view.snapshot, self._view.span_ns, self._saver.copy_recording
        if snapshot is None or span_ns is None or copy is None:
            self.say("nothing to save here", alarm=True)
            return
        path = copy_path(snapshot, span_ns)
        self._save(path, partial(copy, path))

    def action_save_screen(self) -> None:
        """This screen as a picture, in the current directory."""
        snapshot = self._view.snapshot
        if snapshot is None:
            self.say("nothing to save here", alarm=True)
            return
        path, picture = report_path(snapshot, self._view.span_ns, "svg"), self.export_screenshot()
        self._save(path, lambda: write_text(path, picture))

    @work(thread=True, group="save")
    def _save(self, path: Path, write: Callable[[], None], leave: bool = False) -> None:
        """Write a file, which may take a while, and tell."""
        try:
            write()
        except FtdiagError as error:
            self.post_message(Saved("\n".join(filter(None, (error.what, error.hint))), failed=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, the view stays and says so
            self.post_message(Saved(f"{path} is not written: {one_line(error)}", failed=True))
        else:
            if path.suffix == RECORDING_SUFFIX:
                self.kept = path
            self.post_message(Saved(f"saved {path}"))
            if leave:
                self.call_from_thread(self.exit)

    def on_saved(self, event: Saved) -> None:
        """Say how it went."""
        self.say(event.words, alarm=event.failed, seconds=LONG_NOTICE_S if event.failed else NOTICE_S)

    def action_edit(self) -> None:
        """The line under the cursor in the editor."""
        hot = self._pages.panes["hot"]
        at_hand = hot.source_at_hand if self._pages.page == "hot" and isinstance(hot, HotPane) else None
        if at_hand is None or not isinstance(hot, HotPane):
            self.say("go to a line of the hot code (4) first")
            return
        source = at_hand[1]
        if source is None or source.path is None:
            self.say(source.why if source is not None and source.why else "source not available", alarm=True)
            return
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            line = hot.line_in(source) or 1
            refused = confined.editor_refused(source.path)
            if refused is not None:
                self.say(f"{refused}: {source.path}:{line}", alarm=True, seconds=LONG_NOTICE_S)
                return
            command = [*shlex.split(editor), f"+{line}", source.path]
            with self.suspend():
                confined.edit(command, source.path)
        except SuspendNotSupported:
            self.say("this terminal cannot be handed to an editor", alarm=True)
        except (OSError, ValueError) as error:
            self.say(f"{editor} does not run: {error}", alarm=True)
        self.refresh()
