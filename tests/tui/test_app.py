"""The cockpit as people use it: every key, the mouse, and everything that can go wrong around it."""

from __future__ import annotations

import asyncio
import signal
import threading
from dataclasses import replace

import pytest
from textual.command import CommandList
from textual.events import Key
from textual.widget import Widget
from textual.widgets import Input

from ftdiag.errors import RecordingError
from ftdiag.model import EndReason, Evidence, Frame, Gap, Remedy, Snapshot, ThreadState
from ftdiag.tui.actions import filter as filter_actions
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.help import HelpScreen, every_key
from ftdiag.tui.keys import KEYS
from ftdiag.tui.look import DARK, LIGHT, PLAIN, SIXTEEN
from ftdiag.tui.panes.registry import MAIN_PANES, NAMES, PANES
from ftdiag.tui.panes.threads import ThreadRow, ThreadsPane
from ftdiag.tui.source import Selection
from tui.driving import PATIENCE_S, cockpit, driving, go, idle, press, screen_lines, screen_text, table, until
from tui.pictures import SECOND, FakeSource, contended, ended, finding, hot_line, measured, snapshot, thread


def thread_names(pane: ThreadsPane) -> list[str]:
    rows: list[ThreadRow] = list(pane.rows)
    return [row.thread.info.name for row in rows]


# --- what is shown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_the_answer_and_the_tables_are_there(size: tuple[int, int]) -> None:
    async with driving(size=size) as (app, _):
        lines = screen_lines(app)

        assert "6 threads wait" in lines[0]
        assert "pid 4200" in lines[1]
        assert "GIL off" in lines[1]
        assert "not measured" in lines[2]
        text = "\n".join(lines)
        assert "on CPU; useful not measured" in text
        assert "nothing found that costs cores" in text
        if size[1] > 24:
            assert "worker-0" in text
            assert "self._lock" in text
        if size[0] > 120:
            assert "Cache.put" in text
            assert "3 Locks" in text
        assert all(len(line) == size[0] for line in lines)


async def test_before_the_first_window_it_says_that_it_waits() -> None:
    # GIVEN a live source without data
    source = FakeSource(live=True)
    app = cockpit(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await idle(pilot)
        assert "waiting for the first samples" in screen_lines(app)[0]
        assert "LIVE  last 60 s" in screen_lines(app)[1]
        # Nothing that needs data falls over.
        await press(
            pilot,
            *("space", "enter", "w", "w", "w", "3", "enter", "2", "enter", "1", "escape", "s", "S"),
            *(
                "4",
                "m",
                "m",
                "x",
                "e",
                "5",
                "6",
                "7",
                "v",
                "left",
                "c",
                "y",
                "o",
                "0",
                "end",
                "plus",
                "minus",
            ),
            *("left_square_bracket", "right_square_bracket", "slash", "escape", "escape", "escape", "1"),
        )

        # WHEN the first window arrives
        source.add(contended())

        # THEN it is shown
        await until(pilot, lambda: app.view.snapshot is not None)
        await go(pilot, "2")
        assert "worker-0" in screen_text(app)


async def test_a_snapshot_with_nothing_in_it_is_painted() -> None:
    async with driving(snapshot([], seconds=0.000000001)) as (app, pilot):
        assert "no tick was taken" in screen_text(app)
        await go(pilot, "2")
        assert "no threads in this range" in screen_text(app)
        await go(pilot, "3")
        assert "no waits for locks" in screen_text(app)
        for key in ("4", "m", "m", "5", "6", "7"):
            await go(pilot, key)
            assert app.view.error is None


async def test_a_finding_is_the_first_line() -> None:
    async with driving(replace(contended(), findings=(finding(),))) as (app, _):
        assert "CRITICAL self._lock at cache.py:88 costs" in screen_lines(app)[0]


async def test_the_finding_under_the_cursor_stands_in_full_below_the_list() -> None:
    # GIVEN two findings whose sentences are longer than a line of the list
    long = finding(
        "self._lock at cache.py:88 costs 0.9 of 2 cores: six threads wait for it, and have nothing else to do"
    )
    first = replace(long, remedy=(Remedy("do less while it is held"), Remedy("take it seldom")))
    second = replace(first, lost_cores=0.1, summary=f"a {long.summary}", subject={"lock": "other"}, remedy=())
    async with driving(replace(contended(), findings=(first, second))) as (app, pilot):
        # WHEN the first is under the cursor THEN its sentence is there to its end, and the first remedy
        below = " ".join("\n".join(screen_lines(app)[-7:]).split())
        assert first.summary in below
        assert "do: do less while it is held" in below
        assert "take it seldom" not in below
        # AND the other's when the cursor goes there
        await press(pilot, "down")
        below = " ".join("\n".join(screen_lines(app)[-7:]).split())
        assert second.summary in below
        assert "do:" not in below
    # AND a small screen keeps its lines for the list
    async with driving(replace(contended(), findings=(first, second)), (60, 15)) as (app, _):
        assert "do: do less" not in screen_text(app)
        assert screen_text(app).count("costs 0.9 of 2 c") >= 2


async def test_the_picture_moves_with_the_recording_until_the_target_ends() -> None:
    # GIVEN a live recording
    source = FakeSource(contended(3), live=True)
    async with driving(source) as (app, pilot):
        assert "LIVE" in screen_lines(app)[1]
        await go(pilot, "2")

        # WHEN more arrives, and the end
        source.add(contended(5))
        await until(pilot, lambda: "worker-4" in screen_text(app))
        source.add(contended(5, end=ended(EndReason.KILLED)))

        # THEN the header says so and the data stays
        await until(pilot, lambda: "ENDED: target was killed" in screen_lines(app)[1])
        assert "worker-4" in screen_text(app)


async def test_a_finished_recording_is_read_once() -> None:
    source = FakeSource(contended())
    async with driving(source) as (app, pilot):
        assert "REPLAY" in screen_lines(app)[1]
        refreshes = source.refreshes
        await pilot.pause(0.1)
        await idle(pilot)
        assert source.refreshes == refreshes


async def test_the_source_is_only_ever_called_from_one_other_thread() -> None:
    source = FakeSource(contended(), live=True)
    async with driving(source) as (_, pilot):
        await press(pilot, "w", "space", "w")
        await pilot.pause(0.1)

        assert len(source.threads) == 1
        assert threading.get_ident() not in source.threads


# --- keys ------------------------------------------------------------------------------------------------


async def test_q_quits_and_lets_go_of_the_recording() -> None:
    source = FakeSource(contended(), live=True)
    async with driving(source) as (app, pilot):
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    await asyncio.wait_for(_closed(source), PATIENCE_S)


async def _closed(source: FakeSource) -> None:
    """The worker lets go of it, in its own time."""
    while not source.closed:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("key", ["space", "p"])
async def test_pause_holds_the_picture_and_goes_on(key: str) -> None:
    source = FakeSource(contended(3), live=True)
    async with driving(source) as (app, pilot):
        # WHEN paused
        await press(pilot, key)
        await until(pilot, lambda: source.asked[-1][1] is not None)
        picture = app.view.snapshot
        assert picture is not None

        # THEN what arrives later is not asked for
        assert "PAUSED" in screen_lines(app)[1]
        source.add(replace(contended(3), t1_ns=picture.t1_ns + SECOND))
        asked = len(source.asked)
        await until(pilot, lambda: len(source.asked) > asked)
        assert source.asked[-1][1] == picture.t1_ns

        # WHEN it goes on
        await press(pilot, key)

        # THEN the end moves again
        await until(pilot, lambda: source.asked[-1][1] != picture.t1_ns)
        assert "LIVE" in screen_lines(app)[1]


async def test_w_goes_through_the_ranges() -> None:
    source = FakeSource(contended(), live=True)
    async with driving(source) as (app, pilot):
        assert app.view.selection == Selection(60 * SECOND)
        assert "last 60 s" in screen_lines(app)[1]
        seen = []
        for _ in range(3):
            source.asked.clear()
            await press(pilot, "w")
            await until(pilot, lambda: len(source.asked) > 0)
            seen.append((app.view.selection.length_ns, source.asked[-1]))

    end = contended().t1_ns
    assert seen == [
        (None, (None, None)),
        (10 * SECOND, (end - 10 * SECOND, end)),
        (60 * SECOND, (end - 60 * SECOND, end)),
    ]


async def test_panes_are_reached_by_number() -> None:
    places = (
        ("2", "threads", "2 Threads"),
        ("3", "locks-table", "3 Locks"),
        ("4", "hot-table", "4 Hot lines"),
        ("5", "scaling", "5 Scaling"),
        ("6", "memory", "6 Memory"),
        ("7", "quality", "7 Quality"),
        ("8", "bottlenecks", "8 Fix first"),
        ("t", "threads", "2 Threads"),
        ("1", "findings", "1 Overview"),
    )
    async with driving() as (app, pilot):
        for key, focused, title in places:
            await go(pilot, key)
            assert app.focused is not None
            assert app.focused.id == focused
            assert title in screen_text(app)


async def test_tab_goes_round() -> None:
    async with driving() as (app, pilot):
        await go(pilot, "4")
        seen = []
        for _ in range(3):
            await press(pilot, "tab")
            seen.append(app.focused.id if app.focused else None)
        await press(pilot, "shift+tab")
        assert seen == ["source", "stacks", "hot-table"]
        assert app.focused is not None
        assert app.focused.id == "stacks"


async def test_sorting_by_any_column() -> None:
    async with driving(size=(200, 60)) as (app, pilot):
        await go(pilot, "2", "v")
        pane = app.query_one(ThreadsPane)
        keys = []
        for _ in range(len(pane.columns)):
            await press(pilot, "s")
            keys.append(pane.sorted_by[0])
        assert set(keys) == {"name", "tid", "role", "cpu", "states", "queue", "waits", "where"}
        assert pane.sorted_by == ("cpu", True)
        await press(pilot, "right")
        assert pane.sorted_by[0] == "states"
        await press(pilot, "left", "h")
        assert pane.sorted_by[0] == "role"
        await press(pilot, "l", "S")
        assert pane.sorted_by == ("cpu", False)
        assert thread_names(pane)[-1] == "worker-0"


async def test_arrows_and_letters_move() -> None:
    async with driving() as (app, pilot):
        await go(pilot, "2")
        pane = app.query_one(ThreadsPane)
        await press(pilot, "down", "j", "j", "k", "up")
        assert pane.cursor_row == 1
        await press(pilot, "G")
        assert pane.cursor_row == 7
        await press(pilot, "g")
        assert pane.cursor_row == 0


async def test_enter_on_a_thread_shows_it_and_4_its_lines() -> None:
    async with driving() as (app, pilot):
        await go(pilot, "4")
        assert len(table(app, "hot-table").rows) == 4

        # WHEN a thread is chosen
        await go(pilot, "2", "j", "enter")
        assert "Thread worker-1 (tid 4202, worker)" in screen_text(app)
        await go(pilot, "4")

        # THEN its lines are shown, and the focus is there
        assert "of worker-1 (Esc: all)" in screen_text(app)
        assert len(table(app, "hot-table").rows) == 2
        assert app.focused is table(app, "hot-table")

        # WHEN going back
        await go(pilot, "escape")

        # THEN those of all
        assert len(table(app, "hot-table").rows) == 4


async def test_enter_goes_to_the_details_and_escape_back() -> None:
    async with driving() as (app, pilot):
        for pane, panel, rows in (("4", "source", "hot-table"), ("3", "parties", "locks-table")):
            await go(pilot, pane, "enter")
            assert app.focused is not None
            assert app.focused.id == panel
            await press(pilot, "down", "pagedown", "end", "G", "home", "up", "pageup", "j", "k")
            await go(pilot, "escape")
            assert app.focused is table(app, rows)


async def test_the_stacks_follow_the_cursor() -> None:
    async with driving() as (app, pilot):
        await go(pilot, "4", "j")
        assert "Stacks of worker.py:31" in screen_text(app)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("worker-3", ["worker-3"]),
        ("IDLE", ["MainThread", "pool-idle-0"]),
        ("queue.py", ["pool-idle-0"]),
        ("crunch", [f"worker-{i}" for i in range(6)]),
        ("lock worker-1", ["worker-1"]),
        ("4200", ["MainThread"]),
        ("nothing of the kind", []),
    ],
)
async def test_the_filter_looks_in_names_states_functions_and_files(words: str, found: list[str]) -> None:
    async with driving() as (app, pilot):
        await go(pilot, "2", "slash")
        app.query_one("#filter", Input).value = words
        await idle(pilot)
        await press(pilot, "enter")

        pane = app.query_one(ThreadsPane)
        assert sorted(thread_names(pane)) == found
        assert app.focused is pane
        assert f"/{words}" in screen_text(app)
        if not found:
            assert "nothing matches" in screen_text(app)

        await press(pilot, "escape")
        assert len(pane.rows) == 8


async def test_the_filter_takes_letters_that_are_keys_and_escape_clears_it() -> None:
    async with driving() as (app, pilot):
        await go(pilot, "2", "slash")
        await press(pilot, "q", "s", "space", "p")
        assert app.query_one("#filter", Input).value == "qs p"
        assert app.query_one(ThreadsPane).filter_text == "qs p"
        # A second filter is not opened over the first.
        await app.action_filter()

        await press(pilot, "escape")
        assert app.query_one(ThreadsPane).filter_text == ""
        assert not app.query("#filter")
        assert not app.view.paused


async def test_what_is_typed_right_after_the_slash_goes_into_the_filter() -> None:
    async with driving() as (app, pilot):
        await go(pilot, "2")
        # WHEN the keys come faster than the field (a paste, a slow line)
        for key in ("slash", *"worker-3", "enter"):
            app.simulate_key(key)
        await idle(pilot)

        # THEN none is taken for a command
        assert thread_names(app.query_one(ThreadsPane)) == ["worker-3"]
        assert app.view.selection == Selection()
        assert app.focused is app.query_one(ThreadsPane)


async def test_the_filter_is_of_the_pane_that_has_the_focus() -> None:
    async with driving() as (app, pilot):
        for pane, rows, word, left in (("4", "hot-table", "cache", 1), ("3", "locks-table", "dict", 1)):
            await go(pilot, pane)
            await press(pilot, "slash", *word, "enter")
            assert len(table(app, rows).rows) == left
        # From elsewhere Esc clears them all.
        await go(pilot, "2", "escape")
        assert len(table(app, "threads").rows) == 8
        assert len(table(app, "hot-table").rows) == 4


@pytest.mark.parametrize("patience_s", [1.0, 0.001], ids=["soon", "long-after"])
async def test_words_typed_at_once_stay_in_order(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    # GIVEN rows that are slow in passing on the keys they have no use for, as on a busy machine, also slower
    # than keys are thought to take
    monkeypatch.setattr(filter_actions, "KEYS_KEPT_BACK_S", patience_s)
    passed_on = Widget.handle_key

    async def slowly(self: Widget, event: Key) -> bool:
        await asyncio.sleep(0.01)
        return await passed_on(self, event)

    async with driving() as (app, pilot):
        await go(pilot, "4")
        monkeypatch.setattr(Widget, "handle_key", slowly)

        # WHEN a filter, Enter and the key of another pane come faster than that
        for key in ("slash", *"cac"):
            app.post_message(Key(key, "/" if key == "slash" else key))
        await asyncio.sleep(0.025)
        for key in (*"he", "enter", "2"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: app.focused is app.query_one(ThreadsPane))

        # THEN each came where it belongs
        assert table(app, "hot-table").filter_text == "cache"


async def test_keys_are_not_kept_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a key that is lost on its way, as when its widget goes away
    monkeypatch.setattr("ftdiag.tui.actions.filter.KEYS_KEPT_BACK_S", 0.05)
    async with driving() as (app, pilot):
        await go(pilot, "4")

        passed_on = Widget.handle_key

        async def lost(self: Widget, event: Key) -> bool:
            if event.key == "slash":
                event.stop()
            return await passed_on(self, event)

        monkeypatch.setattr(Widget, "handle_key", lost)
        app.post_message(Key("slash", "/"))
        app.post_message(Key("2", "2"))
        await until(pilot, lambda: app.focused is app.query_one(ThreadsPane))


async def test_zoom_shows_one_pane() -> None:
    async with driving(size=(200, 60)) as (app, pilot):
        app.query_one(ThreadsPane).focus()
        await go(pilot, "z")
        assert "1 Overview" not in screen_text(app)
        assert "2 Threads" in screen_text(app)
        await go(pilot, "escape")
        assert "1 Overview" in screen_text(app)


async def test_light_and_dark() -> None:
    async with driving() as (app, pilot):
        await press(pilot, "T")
        assert app.theme == LIGHT
        await press(pilot, "T")
        assert app.theme == DARK


@pytest.mark.parametrize("close", ["escape", "question_mark", "q", "space", "enter"])
async def test_help_shows_every_key_and_goes_away(close: str) -> None:
    async with driving(size=(100, 95)) as (app, pilot):
        await press(pilot, "question_mark")
        assert isinstance(app.screen, HelpScreen)
        text = screen_text(app)
        for keys, does in every_key():
            assert keys in text
            assert does in text
        assert "parked on a lock the program made" in text
        await press(pilot, close)
        assert app.screen_stack == [app.screen]
        assert not app.view.paused


async def test_data_arrives_under_the_help() -> None:
    source = FakeSource(contended(2), live=True)
    async with driving(source) as (app, pilot):
        await press(pilot, "question_mark")
        source.add(contended(5))
        await until(pilot, lambda: len(app.view.snapshot.threads) == 7 if app.view.snapshot else False)
        await press(pilot, "escape")
        await go(pilot, "2")
        assert "worker-4" in screen_text(app)


def test_every_word_of_the_bottom_line_has_a_key() -> None:
    assert all(key.press for key in KEYS if key.short)
    assert all(keys.isascii() and does.isascii() for keys, does in every_key())


def test_every_pane_has_a_key_a_word_and_a_line_of_help_of_its_own() -> None:
    assert [pane.key for pane in MAIN_PANES] == list("12345678")
    assert len({pane.short for pane in MAIN_PANES}) == len(MAIN_PANES)
    assert all(pane.about for pane in MAIN_PANES)
    assert len({pane.name for pane in PANES}) == len(NAMES) == len(PANES)
    taken = [
        name
        for key in (*KEYS, *(key for pane in PANES for key in pane.keys))
        if key.action
        for name in key.press.split(",")
    ]
    taken += [name for pane in MAIN_PANES for name in (pane.key, pane.also) if name]
    assert len(set(taken)) == len(taken)


async def test_ctrl_z_without_a_terminal_does_no_harm() -> None:
    async with driving() as (app, pilot):
        await press(pilot, "ctrl+z")
        assert app.is_running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_asked_to_end_it_leaves_in_order(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    async with driving() as (app, pilot):
        signal.raise_signal(number)
        await until(pilot, lambda: app._exit)
    assert signal.getsignal(number) is before


# --- mouse -----------------------------------------------------------------------------------------------


async def test_the_mouse_chooses_sorts_and_presses_keys() -> None:
    async with driving(size=(140, 24)) as (app, pilot):
        await go(pilot, "2")
        pane = app.query_one(ThreadsPane)
        await pilot.click("#threads", offset=(4, 4))
        assert pane.cursor_row == 2
        await pilot.click("#threads", offset=(4, 1))
        assert pane.sorted_by == ("name", False)
        await pilot.click("#threads", offset=(4, 3), times=2)
        await idle(pilot)
        assert "(tid 42" in screen_text(app)
        column = screen_lines(app)[-1].index("pause")
        await pilot.click("#keys", offset=(column, 0))
        await idle(pilot)
        assert app.view.paused
        await pilot.click("#keys", offset=(139, 0))


# --- what can go wrong -----------------------------------------------------------------------------------


async def test_a_sampler_that_died_is_one_line_and_what_was_seen_stays() -> None:
    source = FakeSource(contended(3), live=True)
    async with driving(source) as (app, pilot):
        await go(pilot, "2")
        # WHEN nothing more comes, because something went wrong
        source.live, source.failure = False, "nothing more is recorded: the sampler was killed by SIGKILL"
        source.add(contended(4))
        await until(pilot, lambda: app.view.error is not None)
        await idle(pilot)

        # THEN one line says so, and the data stays
        assert "nothing more is recorded: the sampler was killed by SIGKILL" in screen_lines(app)[3]
        assert "worker-0" in screen_text(app)


async def test_a_refresh_that_fails_is_one_line_and_it_goes_on() -> None:
    source = FakeSource(contended(3), live=True)
    async with driving(source) as (app, pilot):
        # WHEN the recording can't be read for a while
        await go(pilot, "2")
        source.error = RecordingError("the recording is locked\nwith a second line", "try again")
        await until(pilot, lambda: app.view.error is not None)
        await idle(pilot)

        # THEN one line says so and the data stays
        assert "refresh failed, the data below stays: the recording is locked" in screen_lines(app)[3]
        assert "second line" not in screen_text(app)
        assert "worker-0" in screen_text(app)

        # WHEN it can be read again
        source.error = None
        await until(pilot, lambda: app.view.error is None)
        await idle(pilot)

        # THEN the line is gone
        assert "refresh failed" not in screen_text(app)


@pytest.mark.parametrize("error", [ValueError("bad\x1b[31m"), KeyError(3), RuntimeError(), MemoryError()])
async def test_whatever_the_error_it_is_said(error: Exception) -> None:
    source = FakeSource(contended())
    source.error = error
    app = cockpit(source)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.view.error is not None)
        await idle(pilot)
        assert type(error).__name__ in screen_lines(app)[3]
        assert "\x1b" not in screen_text(app)
        source.error = None
        await until(pilot, lambda: app.view.snapshot is not None)


HOSTILE_NAMES = [
    "\x1b[2J\x1b[31mred",
    "[bold]markup[/bold][@click=app.quit]x[/]",
    "\u202eevil\u202c\u2066",
    "n" * 500,
    "日本語" * 50,
    "👩‍👩‍👧‍👦" * 20,
    "tab\tnew\nline\x00",
    "",
    "\ud800",
]


def hostile() -> Snapshot:
    threads = []
    for index, name in enumerate(HOSTILE_NAMES):
        line = hot_line(
            (Frame(f"/x/{name}.py", name, 1), Frame(name, name, None)),
            {ThreadState.ON_CPU: 1.0, ThreadState.LOCK: 1.0},
        )
        threads.append(
            thread(index, name, {ThreadState.ON_CPU: 1.0, ThreadState.LOCK: 1.0}, role=name, hot=(line,))
        )
    picture = contended()
    words = "\x1b]0;owned\x07[red]" + "s" * 500
    bad = replace(
        finding(words),
        explanation=words * 20,
        remedy=(Remedy(words, words + "\n\t" + words),),
        could_also_be=(words,) * 200,
        evidence=(Evidence(words, 1e300, words, -0.0),),
        subject={"file": words, "line": 2**70, "thread": words, "lock": words},
    )
    evil = snapshot(threads, locks=picture.locks, findings=[bad])
    evil = replace(
        evil,
        quality=replace(evil.quality, not_measured={words: words}, gaps=(Gap(words, words),) * 200),
        not_applicable=((words, words),),
    )
    lock = replace(
        evil.locks[0], lock=replace(evil.locks[0].lock, label="\x1b[5m[b]" * 20, type_name="\u202e")
    )
    return replace(
        evil,
        target=replace(evil.target, command="\x1b[H" * 100, python_version="3\x07", gil_culprits=("[x]",)),
        metrics=replace(evil.metrics, capacity_reason="\u202e[u]"),
        locks=(lock,),
    )


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_hostile_names_are_text_and_break_nothing(size: tuple[int, int], ascii_only: bool) -> None:
    async with driving(hostile(), size=size, ascii_only=ascii_only) as (app, pilot):
        for key in ("enter", *"1234", "m", "m", *"2567", "v", "left", "enter", "4", "2", "c", "w", "c"):
            await go(pilot, key)
            text = screen_text(app)
            for forbidden in ("\x1b", "\x07", "\x00", "\u202e", "\u2066", "\u200d"):
                assert forbidden not in text
            assert not ascii_only or text.isascii()
        assert app.is_running


@pytest.mark.parametrize("theme", [DARK, LIGHT, SIXTEEN, PLAIN])
async def test_a_terminal_of_ascii_gets_ascii_in_every_theme(theme: str) -> None:
    async with driving(measured(contended()), size=(120, 40), ascii_only=True, theme=theme) as (app, pilot):
        assert screen_text(app).isascii()
        for key in ("enter", "2", "v", "enter", "3", "4", "m", "m", "5", "6", "7", "1"):
            await go(pilot, key)
            assert screen_text(app).isascii(), key
        await press(pilot, "question_mark")
        assert screen_text(app).isascii()


async def test_no_color_means_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN the user's wish
    monkeypatch.setenv("NO_COLOR", "1")
    source = FakeSource(contended())
    app = cockpit(source, theme="")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.view.snapshot is not None)
        await idle(pilot)

        # THEN no cell on the screen has a colour
        assert app.theme == PLAIN
        for strip in app.screen._compositor.render_strips():
            for segment in strip:
                for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                    assert colour is None or colour.is_default


@pytest.mark.parametrize("size", [(20, 5), (59, 24), (80, 14), (1, 1), (5, 2)])
async def test_a_tiny_terminal_says_so_and_recovers(size: tuple[int, int]) -> None:
    async with driving(size=size) as (app, pilot):
        words = f"terminal too small: {size[0]}x{size[1]}, needs 60x15"
        shown = screen_lines(app)[0].rstrip()
        assert shown == words or (shown[:-1] == words[: size[0] - 1] and len(shown) == size[0])
        assert not any(line.strip() for line in screen_lines(app)[1:])
        await press(
            pilot, "j", "enter", "slash", "x", "escape", "s", "z", "z", "question_mark", "escape", "3"
        )

        # WHEN it is made larger
        await pilot.resize_terminal(80, 24)
        await idle(pilot)

        # THEN all is there
        assert "3 Locks" in screen_text(app)
        assert "too small" not in screen_text(app)


async def test_sixty_by_fifteen_is_enough() -> None:
    async with driving(measured(contended()), size=(60, 15)) as (app, pilot):
        assert "1.10 of 2 useful" in screen_text(app)
        assert "critical" in screen_text(app)
        for key, words in (
            ("2", "worker-0"),
            ("3", "self._lock"),
            ("4", "Cache.put"),
            ("5", "Where the cores go"),
        ):
            await go(pilot, key)
            assert words in screen_text(app)


async def test_a_storm_of_resizes() -> None:
    source = FakeSource(*(contended(n % 12) for n in range(20)), live=True)
    async with driving(source) as (app, pilot):
        for number in range(24):
            await pilot.resize_terminal(1 + (number * 37) % 220, 1 + (number * 13) % 70)
            if number % 7 == 0:
                await press(pilot, "j", "2", "1", "3", "z")
        await pilot.resize_terminal(80, 24)
        await idle(pilot)
        assert app.is_running
        assert "of all thread-time" in screen_lines(app)[0]


async def test_nothing_blocks_while_the_source_is_slow() -> None:
    # GIVEN a source that does not answer
    answer = threading.Event()

    class Slow(FakeSource):
        def refresh(self) -> bool:
            answer.wait(30)
            return super().refresh()

    app = cockpit(Slow(contended()))
    async with app.run_test(size=(80, 24)) as pilot:
        # THEN keys work
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
        assert not answer.is_set()
        answer.set()
        await until(pilot, lambda: app.view.snapshot is not None)


async def test_first_data_on_the_screen_are_told_once() -> None:
    # GIVEN a source that has nothing yet, and who wants to know when something can be seen
    seen: list[str] = []
    source = FakeSource(live=True)
    app = CockpitApp(source, refresh_seconds=0.02, on_first_data=lambda: seen.append(screen_text(app)))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: source.refreshes > 2)
        assert seen == []

        # WHEN the first data come, and more
        source.add(contended())
        await until(pilot, lambda: bool(seen))
        source.add(contended())
        await idle(pilot)

    # THEN it is told once, when they are on the screen
    assert len(seen) == 1
    assert "pid 4200" in seen[0]


async def test_the_command_palette_and_notices_are_ascii_too() -> None:
    async with driving(contended(), ascii_only=True, theme=SIXTEEN) as (app, pilot):
        await go(pilot, "y", "ctrl+p")
        commands = len(list(app.get_system_commands(app.screen)))
        await until(pilot, lambda: app.screen.query_one(CommandList).option_count == commands)
        # An empty field says what it is for with an ellipsis of Textual's own.
        assert {c for c in screen_text(app) if not c.isascii()} <= {"…"}
