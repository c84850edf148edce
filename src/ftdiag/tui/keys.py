"""Every key of the cockpit that is no pane's, in one table: bindings, help, palette and bottom line follow.

In: nothing. Out: the table, and what is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from textual.binding import Binding

from ftdiag.datatypes import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """A key.

    `keys` is what people read, `does` what it does; `press` Textual's names of it, the first of which a click
    on its word presses, and `action` what it does to the application; without one it is the focused widget's.
    `short` is its word in the bottom line, `palette` its name in the command palette, if any.
    """

    keys: str
    does: str
    press: str = ""
    action: str = ""
    short: str = ""
    palette: str = ""
    priority: bool = False


KEYS: Final[tuple[Key, ...]] = (
    Key("q", "quit", "q,ctrl+q,ctrl+c", "quit", "quit", "Quit"),
    Key(
        "?",
        "this help; any of ? Esc q closes it",
        "question_mark",
        "help",
        "help",
        "Help: keys, signs, words",
    ),
    Key("/", "filter the pane by words: name, state, function, file, lock", "slash", "filter", "filter"),
    Key("Enter", "open: a finding's evidence, a thread, a lock, a line", "enter", "follow", "open"),
    Key("Esc", "back: close, leave the details, clear filters", "escape", "step_back", "back"),
    Key("Space, p", "pause and go on; the recording goes on", "space,p", "pause", "pause", "Pause, or go on"),
    Key("s", "sort by the next column", "s", short="sort"),
    Key("w", "time range: last 10 s, last 60 s, whole recording", "w", "range", "range"),
    Key("[", "half a range back; live sessions too", "left_square_bracket", "move_in_time(-1)"),
    Key("]", "half a range forward", "right_square_bracket", "move_in_time(1)"),
    Key(
        "+, }",
        "a narrower range; with a cursor in time, around it",
        "plus,equals_sign,right_curly_bracket",
        "scale(0.5)",
    ),
    Key("-, {", "a wider range", "minus,left_curly_bracket", "scale(2.0)"),
    Key("0", "back to now, if paused or rewound", "0", "live", palette="Back to now"),
    # The tables use it too: it is taken from them only while there is something to go back to.
    Key("End", "the same, while paused or rewound", "end", "live", priority=True),
    Key("c", "mark this range; on another one: compare the two", "c", "compare", palette="Mark, or compare"),
    Key(
        "W",
        "what fixing the finding would bring, by a replay",
        "W",
        "predict",
        palette="What a fix would bring",
    ),
    Key("y", "copy the finding as text", "y", "copy", palette="Copy the finding"),
    Key("o", "save a report of this range: as text", "o", "save('txt')", palette="Save a report as text"),
    Key("J", "as JSON", "J", "save('json')", palette="Save a report as JSON"),
    Key("H", "as HTML, with charts", "H", "save('html')", palette="Save a report as HTML"),
    Key("R", "save a copy of the recording so far", "R", "save_recording", palette="Save the recording"),
    Key(
        "A",
        "allocations: memray for 10 s; shows the overhead, then asks",
        "A",
        "memray",
        palette="Attach memray",
    ),
    Key("S", "reverse the order"),
    Key("right, left, l, h", "sort by the next column, the one before; in time: move"),
    Key("Tab, Shift+Tab", "next, previous pane"),
    Key("up, down, k, j", "move"),
    Key("PgUp, PgDn", "move by a screen (also Ctrl+B, Ctrl+F)"),
    Key("Home, End, g, G", "first, last row"),
    Key("z", "show only this pane, or all again", "z", "zoom"),
    Key("T", "light or dark", "T", "light_or_dark", palette="Light or dark"),
    Key("Ctrl+P", "command palette: panes, screenshot"),
    Key("Ctrl+Z", "suspend; fg brings it back", "ctrl+z", "suspend_process"),
    Key("Mouse", "click a row or a column name; double click opens; wheel"),
)


def bindings(keys: Iterable[Key]) -> list[Binding]:
    """The bindings of those keys that do something to the application."""
    return [
        Binding(key.press, key.action, key.does, show=False, priority=key.priority)
        for key in keys
        if key.action
    ]
