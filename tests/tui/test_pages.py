"""What the panes answer and where they lead: findings, lanes, hot code, time, comparing, copying, saving."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ftdiag import confined, opening
from ftdiag.analysis.scaling import curve, predicted
from ftdiag.model import (
    IMPORTED,
    CollectorMetrics,
    Confidence,
    Frame,
    GenerationCollections,
    LockHolder,
    Pauses,
    Severity,
    SharedObject,
    ThreadInfo,
    ThreadState,
)
from ftdiag.opening import EVERYBODY, Reader
from ftdiag.session import WaitEdge
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK, look_for
from ftdiag.tui.panes.evidence import finding_text, leads_to
from ftdiag.tui.panes.hot import HotPane
from ftdiag.tui.panes.hot_lines import HotTable
from ftdiag.tui.panes.hot_source import other_text
from ftdiag.tui.panes.threads import ThreadsPane
from ftdiag.tui.plot import plot_lines, resampled, spark
from ftdiag.tui.source import SECOND_NS, Selection, clock
from ftdiag.tui.sourcetext import MAX_BYTES, SourceFiles, SourceLines, last_reader
from ftdiag.wording.answer import answer
from reading import yardstick_s
from tui.driving import driving, go, idle, press, screen_lines, screen_text, table, until
from tui.pictures import (
    CACHE_LOCK,
    CRUNCH,
    PUT,
    SECOND,
    FakeSource,
    FakeTexts,
    contended,
    finding,
    findings,
    hot_line,
    measured,
)

LOOK = look_for(DARK, False)


# --- overview and findings -------------------------------------------------------------------------------


def test_a_note_is_not_the_answer_and_the_costliest_warning_is() -> None:
    note = replace(finding("a note"), severity=Severity.INFO, lost_cores=1.9)
    cheap = replace(finding("cheap"), severity=Severity.CRITICAL, lost_cores=0.1)
    dear = replace(finding("dear"), severity=Severity.WARNING, lost_cores=0.8)
    picture = contended()

    assert answer(replace(picture, findings=(note,))) == answer(picture)
    answered = answer(replace(picture, findings=(note, cheap, dear)))
    assert (answered.cause, answered.severity) == ("dear", Severity.WARNING)


def test_a_busy_machine_is_the_answer_only_where_the_program_loses_little_itself() -> None:
    # GIVEN a machine that others use, and a note of what the program loses itself, of two cores
    machine = replace(finding("others"), severity=Severity.WARNING, lost_cores=0.2, context=True)
    note = replace(finding("a note"), severity=Severity.INFO)
    picture = contended()
    # WHEN the note costs a twentieth of the cores THEN it is the answer, below that the machine is
    for lost_cores, cause in ((0.1, "a note"), (0.04, "others")):
        told = answer(replace(picture, findings=(machine, replace(note, lost_cores=lost_cores))))
        assert told.cause == cause


async def test_the_overview_says_what_is_lost_and_ranks_findings() -> None:
    async with driving(measured(contended())) as (app, _):
        text = screen_text(app)
        assert "1.10 of 2 useful; efficiency 55 %" in text
        assert "useful 1.10" in text
        assert "lock 0.62" in text
        assert "2 cores" in text
        lines = [line for line in screen_lines(app) if line[1:].startswith(("critical", "warning", "info"))]
        assert [line.split()[1] for line in (line.replace("▸", " ") for line in lines)] == [
            "0.90",
            "0.20",
            "0.05",
        ]


async def test_a_finding_leads_to_its_lock_and_back() -> None:
    async with driving(measured(contended())) as (app, pilot):
        # WHEN the first finding is opened
        await go(pilot, "enter")
        text = screen_text(app)
        assert "What to change" in text
        assert "value = self._items.get(key)" in text

        # THEN Enter goes to the lock it speaks of, and Esc back, twice
        await go(pilot, "enter")
        assert len(table(app, "locks-table").rows) == 1
        assert "self._lock" in screen_text(app)
        await go(pilot, "escape")
        assert "What to change" in screen_text(app)
        await go(pilot, "escape")
        assert "1 Overview" in screen_text(app)
        assert len(table(app, "locks-table").rows) == 2


@pytest.mark.parametrize(
    ("down", "keys", "name", "rows"),
    [
        (1, ("enter",), "hot-table", 1),
        (2, ("enter",), "threads", 1),
        (0, ("4",), "hot-table", 1),
        (0, ("2",), "threads", 1),
    ],
)
async def test_a_finding_leads_to_lines_and_threads(
    down: int, keys: tuple[str, ...], name: str, rows: int
) -> None:
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, *["j"] * down, "enter", *keys)
        assert len(table(app, name).rows) == rows
        assert app.focused is table(app, name)


async def test_a_finding_that_leads_nowhere_says_so() -> None:
    picture = replace(contended(), findings=(replace(finding(), subject={"lock": "gone 0xdead"}),))
    async with driving(picture) as (app, pilot):
        await go(pilot, "enter", "enter")
        assert "Evidence" in screen_text(app)
        assert len(app._notifications) == 1


async def test_findings_appear_and_resolve_while_one_looks() -> None:
    # GIVEN a live program without findings
    source = FakeSource(contended(), live=True)
    async with driving(source) as (app, pilot):
        # WHEN one appears later
        later = contended().t1_ns + 2 * SECOND
        source.add(replace(measured(contended()), t1_ns=later))
        await until(pilot, lambda: "critical  0.90 new" in screen_text(app))

        # THEN it is no news after a while, and stays for a while when it is gone
        source.add(replace(measured(contended()), t1_ns=later + 11 * SECOND))
        await until(pilot, lambda: " new" not in screen_text(app))
        source.add(replace(contended(), t1_ns=later + 12 * SECOND))
        await until(pilot, lambda: "critical  0.90 gone" in screen_text(app))
        source.add(replace(contended(), t1_ns=later + 60 * SECOND))
        await until(pilot, lambda: "gone" not in screen_text(app))


async def test_y_copies_the_finding() -> None:
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, "y")
        assert app.clipboard.startswith("critical: self._lock (cache.py:88) costs 0.9 of 2 cores")
        assert "lost share of capacity: 45 % (from 2.0 %)" in app.clipboard


async def test_w_says_what_fixing_the_finding_would_bring() -> None:
    async with driving(measured(contended())) as (app, pilot):
        # WHEN the finding under the cursor is replayed without its cause
        await pilot.press("W")
        # THEN the worker answers, in a notice
        await until(
            pilot,
            lambda: any(
                "twice" in each.message or "2.0 times" in each.message for each in app._notifications
            ),
        )


def test_what_is_copied_holds_no_escapes() -> None:
    evil = replace(findings()[0], summary="\x1b]52;c;x\x07\u202e", explanation="\ud800\x00")
    text = finding_text(evil)
    assert all(character == "\n" or character.isprintable() for character in text)


def test_where_findings_lead() -> None:
    assert [leads_to(each) for each in findings()] == [
        [
            ("locks", "0x7f000010", "self._lock"),
            ("hot", "cache.py:88", "cache.py:88"),
            ("threads", "worker-0", "worker-0"),
        ],
        [("hot", "worker.py:31", "worker.py:31")],
        [("threads", "MainThread", "MainThread")],
    ]


# --- threads ---------------------------------------------------------------------------------------------


async def test_lanes_show_time_and_a_cursor_in_it() -> None:
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, "2", "v")
        pane = app.query_one(ThreadsPane)
        assert "╵9:00" in screen_text(app)
        assert "▇▇▇▇▇▇▇LLLLLLL" in screen_text(app)

        # WHEN the cursor is moved in time and the view narrowed around it
        await go(pilot, "left", "left", "h", "right", "l")
        assert "looks closer" in screen_text(app)
        assert pane.cursor_ns is not None
        await go(pilot, "plus")

        # THEN the range is around it, and v gives the bars back
        assert app.view.selection.length_ns == 300 * SECOND
        await go(pilot, "v")
        assert "RQ%" in screen_text(app)


async def test_a_thread_over_time() -> None:
    picture = measured(contended())
    threads = list(picture.threads)
    threads[1] = replace(threads[1], tasks=(("handle_request", 5e9),))
    async with driving(replace(picture, threads=tuple(threads)), size=(100, 60)) as (app, pilot):
        await go(pilot, "2", "enter")
        text = screen_text(app)
        for words in ("Stacks over time", "56 % Worker.crunch", "Tasks of its event loop", "handle_request"):
            assert words in text
        assert "self._lock" in text


async def test_locks_say_who_waits_now() -> None:
    async with driving(measured(contended()), size=(100, 60)) as (app, pilot):
        await go(pilot, "3", "enter")
        await press(pilot, "end")
        await idle(pilot)
        text = screen_text(app)
        assert "worker-0 holds at cache.py:88 in Cache.put" in text
        assert "└─ worker-1 waits for self._lock (_thread.lock) 1.20 s" in text
        assert "nobody knows who holds" in text
        assert "DEADLOCK" not in text


async def test_a_lock_that_is_free_is_not_one_whose_holder_is_unknown() -> None:
    # GIVEN a thread that waits for a lock that nobody had when it was looked at
    picture = contended()
    lock = picture.locks[0]
    free = LockHolder(None, Confidence.KNOWN, lock.wait_ns, ())
    source = FakeSource(measured(replace(picture, locks=(replace(lock, holders=(free,)),))))
    waiter = picture.threads[1].info
    source.questions.edges = (WaitEdge(waiter, CACHE_LOCK, 1, None, Confidence.KNOWN, 0.3e9, (PUT,), ()),)

    # THEN that is what it says
    async with driving(source, size=(100, 60)) as (app, pilot):
        await go(pilot, "3", "enter")
        await press(pilot, "end")
        await idle(pilot)
        text = screen_text(app)
        assert "nobody, it was free" in text
        assert "nobody holds (free, the next thread is on its way)" in text
        assert "nobody knows" not in text


async def test_a_deadlock_is_the_first_thing_the_locks_say() -> None:
    # GIVEN two threads that wait for each other, and a third for one of them
    source = FakeSource(measured(contended()))
    one, two, three = (each.info for each in contended().threads[1:4])
    stack = (PUT, CRUNCH)

    def edge(waiter: ThreadInfo, holder: ThreadInfo) -> WaitEdge:
        return WaitEdge(waiter, CACHE_LOCK, 1, holder, Confidence.KNOWN, 9e9, stack, stack)

    source.questions.edges = (edge(one, two), edge(two, one), edge(three, one))
    async with driving(source, size=(100, 100)) as (app, pilot):
        await go(pilot, "3")

        # THEN the circle is told, and the graph ends although it goes round
        text = screen_text(app)
        assert "DEADLOCK of 2 threads, for 9.00 s or more" in text
        assert "worker-1 has at cache.py:88 in Cache.put" in text
        assert "worker-2 waits for self._lock" in text


async def test_pauses_are_with_the_locks_and_at_the_line_that_asked_for_them() -> None:
    pauses = Pauses(contended().threads[1].info, Confidence.INFERRED, "gc", (PUT, CRUNCH), 12, 3e8, 4e7, 5)
    async with driving(replace(contended(), pauses=(pauses,)), size=(120, 70)) as (app, pilot):
        await go(pilot, "3", "enter", "end")
        text = screen_text(app)
        assert "300 ms in 12" in text
        assert "asked for by worker-0 at cache.py:88 in Cache.put for gc (likely)" in text
        await go(pilot, "4")
        assert "pauses asked for here" in screen_text(app)
        await go(pilot, "j")
        assert "pauses asked for here" not in screen_text(app)


async def test_measured_collections_are_with_the_pauses() -> None:
    # GIVEN a range in which the collector told what it did, and no pause was seen
    own = CollectorMetrics((GenerationCollections(0, 40, 1_200_000_000, 4_000_000, 80),), 1.0, 40, 90_000_000)
    async with driving(replace(contended(), collector=own), size=(120, 70)) as (app, pilot):
        # WHEN the locks are looked at
        await go(pilot, "3", "enter", "end")

        # THEN its count is there, and that it was measured
        words = " ".join(screen_text(app).split())
        assert "measured: 40 garbage collections, 1.20 s in all" in words


async def test_a_line_tells_its_shared_objects_and_machine_code() -> None:
    picture = contended()
    hot = replace(
        picture.hot[0],
        shared=(SharedObject("CONFIG", "dict", Confidence.INFERRED),),
        native=(("_Py_DecRefShared", 0.62), ("memcpy", 0.001)),
    )
    async with driving(replace(picture, hot=(hot, *picture.hot[1:])), size=(160, 50)) as (app, pilot):
        await go(pilot, "4")
        text = screen_text(app)
        assert "CONFIG (dict, possibly)" in text
        assert "62 % _Py_DecRefShared" in text
        assert "memcpy" not in text


async def test_a_scaling_curve_or_why_there_is_none() -> None:
    source = FakeSource(measured(contended()))
    async with driving(source, size=(100, 80)) as (app, pilot):
        await go(pilot, "5")
        assert "not enough different numbers of threads" in screen_text(app)

        # WHEN a recording has seen 1 to 5 threads at work
        threads = np.repeat(np.arange(1.0, 6.0), 4)
        states = np.zeros((len(threads), len(ThreadState) + 1))
        states[:, ThreadState.WORK] = predicted(np.array([0.9, 0.1, 0.02]), threads) * SECOND
        states[:, ThreadState.LOCK] = threads * SECOND - states[:, ThreadState.WORK]
        length = np.full(len(threads), SECOND, dtype=np.int64)
        source.questions.curve = curve(length, states, length)
        await go(pilot, "1", "5")

        # THEN its parts are told, each with what is left open
        text = screen_text(app)
        assert "contention (sigma)" in text
        assert "0.1 (0.1 to 0.1, 9 of 10 resamples)" in text
        assert "6.7 (6.7 to 6.7); beyond the 5 that were seen" in text
        assert "only 5 different numbers of threads" in text
        assert "above 2 cores threads share them" in text


# --- hot code --------------------------------------------------------------------------------------------


async def test_hot_code_by_line_function_and_call_tree() -> None:
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, "4")
        assert "% L▸ 88" in screen_text(app)
        await go(pilot, "m")
        assert "Hot functions 4" in screen_text(app)
        await go(pilot, "m")
        assert "Call tree" in screen_text(app)
        assert app.focused is table(app, "tree-table")
        order = [line for line in screen_lines(app) if "threading.py" in line or "cache.py" in line]
        assert len(order) >= 2
        await go(pilot, "s", "S", "j", "m")
        assert "Hot lines 4" in screen_text(app)


async def test_x_sorts_by_any_state() -> None:
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, "4")
        picked = []
        for _ in range(5):
            await go(pilot, "x")
            picked.append(app.query_one(HotTable).picked)
        assert picked == [ThreadState.ON_CPU, ThreadState.RUNNABLE, ThreadState.LOCK, ThreadState.IDLE, None]


async def test_source_that_is_not_there_is_said() -> None:
    async with driving(measured(contended()), size=(120, 40)) as (app, pilot):
        await go(pilot, "4", "j")
        assert "source not available: there is no such file here" in screen_text(app)


async def test_e_opens_the_line_in_the_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        ran.append(command)

    def suspend(_: CockpitApp) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setenv("VISUAL", "ed --quiet")
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, "e")
        await go(pilot, "4", "e")  # a terminal without a process group to hand over
        assert app.is_running
        monkeypatch.setattr(subprocess, "run", run)
        monkeypatch.setattr(CockpitApp, "suspend", suspend)
        monkeypatch.setattr(confined, "editor_refused", lambda path: None)  # nor is the file there
        await go(pilot, "e")
        assert ran == [["ed", "--quiet", "+88", "/srv/app/cache.py"]]
        # A function opens where it is defined, not at the top of its file.
        monkeypatch.setattr(app.query_one(HotPane), "line_in", lambda _: 77)
        await go(pilot, "m", "e")
        assert ran[1] == ["ed", "--quiet", "+77", "/srv/app/cache.py"]


def test_source_files_are_bounded_and_regular(tmp_path: Path) -> None:
    texts = SourceFiles()
    good = tmp_path / "good.py"
    good.write_bytes(b"one\n\ttwo \xff\n")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "large.py").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "device.py").symlink_to("/dev/zero")

    # Of a process that lives, and that shares our root, and of one that is gone.
    for pid in (os.getpid(), 1 << 30):
        found = texts.read(str(good), pid)
        # Of a program that is gone root sees what everybody may read; this is in a private folder.
        if pid == os.getpid() or os.geteuid() != 0:
            assert found.lines == ("one", "    two \ufffd", "")
            assert found.path == str(good)
        else:
            assert "not what everybody may read" in found.why
        for name in ("pipe.py", "large.py", "device.py", "missing.py", ""):
            answer = texts.read(str(tmp_path / name), pid)
            assert answer.lines == ()
            assert answer.why.startswith("source not available: ")
    for name in ("<string>", "relative.py", "/x\0y"):
        assert "does not come from a file" in texts.read(name, None).why


TEXT = ("class Cache:", "    # of the process", "    def put(self, key):", "        self.kept += 1", "")


@pytest.mark.parametrize(
    ("function", "line", "text", "said"),
    [
        ("Cache.put", 4, TEXT, None),
        ("Cache.put.<locals>.<lambda>", 4, TEXT, None),
        ("<module>", 1, TEXT, None),
        ("Cache.put", 9, TEXT, "not the text that runs: it has no line 9"),
        ("Cache.put", 5, TEXT, "not the text that runs: line 5 is blank here"),
        ("Cache.put", 2, TEXT, "not the text that runs: line 2 is a comment here"),
        ("Cache.get", 4, TEXT, "not the text that runs: no get is defined in it"),
        ("Cache.get", 4, (), None),
    ],
)
def test_source_that_is_not_what_runs_is_said_to_be(
    function: str, line: int, text: tuple[str, ...], said: str | None
) -> None:
    """GIVEN a line that ran, and the text of its file now WHEN that cannot be what ran THEN it is said."""
    ran = (Frame("/srv/app/cache.py", function, line),)
    picture = replace(contended(), hot=(hot_line(ran, {ThreadState.WORK: 1.0}),))
    assert other_text(SourceLines("/srv/app/cache.py", text), picture) == said
    assert other_text(SourceLines("/srv/app/other.py", ("",)), picture) is None


def test_source_that_was_written_after_the_program_began_may_be_another(tmp_path: Path) -> None:
    """GIVEN a program that ran for a minute before it was recorded, and files of before and since WHEN they
    are shown THEN of the latter it is said that they may be another text."""
    picture = contended()
    settings = replace(picture.settings, started_ns=100 * SECOND_NS, started_unix_ns=1_000 * SECOND_NS)
    picture = replace(picture, settings=settings, target=replace(picture.target, start_ticks=4_000))
    file = tmp_path / "cache.py"
    file.write_text("one")
    for written_s, doubted in ((939, False), (941, True)):
        os.utime(file, (written_s, written_s))
        source = SourceFiles().read(str(file), os.getpid())
        said = other_text(source, picture)
        assert (said == "may not be the text that runs: written after the program began") is doubted


def test_under_sudo_the_user_who_asked_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN root by way of sudo, or otherwise, and somebody who is not root
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asked = pwd.getpwnam("nobody")
    # WHEN it is asked whose rights count for a program that is gone
    found = last_reader({"SUDO_UID": str(asked.pw_uid)})
    # THEN it is who asked, else everybody, and only without root our own
    assert found is not None
    assert (found.user, found.group) == (asked.pw_uid, asked.pw_gid)
    assert last_reader({}) == last_reader({"SUDO_UID": "x"}) == EVERYBODY
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert last_reader({"SUDO_UID": "0"}) is None


@pytest.mark.parametrize(
    ("owner", "us", "mode", "expected"),
    [
        pytest.param(1000, 1000, 0o644, None, id="ones own"),
        pytest.param(1000, 1000, 0o666, "everybody may write", id="ones own, writable"),
        pytest.param(0, 1000, 0o644, None, id="root's"),
        pytest.param(1001, 1000, 0o644, "another user's", id="another user's"),
        pytest.param(0, 0, 0o644, EVERYBODY, id="root's own"),
        pytest.param(54_321, 0, 0o644, Reader(54_321, 65_534), id="a user's, for root"),
    ],
)
def test_whose_files_an_opened_recording_may_name(
    owner: int,
    us: int,
    mode: int,
    expected: Reader | str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # GIVEN a recording of somebody's, that names a file
    monkeypatch.delenv("SUDO_UID", raising=False)
    (tmp_path / "app.py").write_text("x = 1")
    real = os.stat(tmp_path / "app.py")
    monkeypatch.setattr(os, "geteuid", lambda: us)
    asked = os.stat_result((mode | 0o100000, *real[1:4], owner, *real[5:]))
    monkeypatch.setattr(os, "stat", lambda path, **keywords: asked)
    # WHEN it is opened
    texts = SourceFiles(recording=tmp_path / "a.ftdiag")
    # THEN it is known with whose rights its files are read, or why they are not
    if isinstance(expected, str):
        said = texts.read(str(tmp_path / "app.py"), None)
        assert said.lines == ()
        assert expected in said.why
    else:
        assert texts._reader == expected
        assert texts._refused == ""


@pytest.mark.parametrize("watches", [True, False])
async def test_only_a_look_of_ours_asks_for_the_files_of_a_process(watches: bool) -> None:
    # GIVEN a recording that seems to grow and names a process: of a look of ours, or opened
    asked: list[int | None] = []

    class Asked(FakeTexts):
        def read(self, filename: str, pid: int | None) -> SourceLines:
            asked.append(pid)
            return super().read(filename, pid)

    source = FakeSource(measured(contended()), live=True)
    source.watches = watches
    app = CockpitApp(source, refresh_seconds=0.02, theme=DARK, texts=Asked())
    async with app.run_test(size=(120, 40)) as pilot:
        # WHEN its source is shown
        await go(pilot, "4")
        await until(pilot, lambda: bool(asked))
    # THEN only of our own the process is looked at
    assert set(asked) == {contended().target.pid if watches else None}


async def test_root_starts_no_editor_on_what_others_can_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # GIVEN a source file that others can write, an editor, and root
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: ran.append(command))
    monkeypatch.setattr(CockpitApp, "suspend", lambda _: nullcontext())
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "shared.py").write_text("")
    (tmp_path / "shared.py").chmod(0o666)
    if os.geteuid() != 0:
        # As if we were root, and the folder root's.
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(opening, "is_ours_alone", lambda path: path.endswith("mine.py"))

    # WHEN it shall be edited THEN no editor is started, but on a file of root's alone there is
    assert confined.editor_refused(str(tmp_path / "mine.py")) is None
    for path in (str(tmp_path / "shared.py"), "/proc/1/root/etc/passwd", "/nowhere.py"):
        assert confined.editor_refused(path) is not None
        with pytest.raises(PermissionError):
            confined.edit(["ed"], path)
    assert ran == []
    async with driving(measured(contended())) as (app, pilot):
        monkeypatch.setattr(confined, "editor_refused", lambda path: "root starts no editor")
        await go(pilot, "4", "e")
        (said,) = [notice.message for notice in app._notifications]
        assert said == "root starts no editor: /srv/app/cache.py:88"
    assert ran == []


# --- scaling, memory, quality ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("5", ("Where the cores go", "waiting for a core", "84 %", "none or one at a time", "31 %")),
        ("6", ("117.7 MiB; gained 53.4 MiB in 1 min 0 s", "Python's heaps", "render.py:31")),
        ("7", ("missed ticks", "no native samples", "ftdiag doctor", "deadlock")),
        (
            "8",
            ("lock self._lock", "costs 0.90 cores", "worker-# > self._lock > worker-#", "of the wall time"),
        ),
    ],
)
async def test_the_other_panes_say_what_they_know(key: str, words: tuple[str, ...]) -> None:
    async with driving(measured(contended()), size=(100, 70)) as (app, pilot):
        await go(pilot, key)
        for word in words:
            assert word in screen_text(app)


# --- time ------------------------------------------------------------------------------------------------


async def test_time_can_be_moved_narrowed_and_left() -> None:
    source = FakeSource(contended(), live=True)
    end = contended().t1_ns
    async with driving(source) as (app, pilot):
        await go(pilot, "left_square_bracket")
        assert app.view.selection == Selection(60 * SECOND, end - 30 * SECOND)
        assert "REWOUND  8:30-9:30 of 10:00" in screen_lines(app)[1]
        await go(pilot, "plus")
        assert source.asked[-1] == (end - 60 * SECOND, end - 30 * SECOND)
        await go(pilot, "minus", "right_square_bracket")
        assert app.view.selection == Selection(60 * SECOND)
        for back in ("0", "end"):
            await go(pilot, "left_square_bracket", "left_square_bracket", back)
            assert app.view.selection.until_ns is None
            assert "LIVE" in screen_lines(app)[1]
        # At the end it is the table's key.
        await go(pilot, "2", "end")
        assert app.query_one(ThreadsPane).cursor_row == 7


def test_ranges_stay_within_the_recording() -> None:
    span = (0, 100 * SECOND_NS)
    selection = Selection(10 * SECOND_NS)
    for _ in range(50):
        selection = selection.moved(-1, span)
    assert selection == Selection(10 * SECOND_NS, 10 * SECOND_NS)
    for _ in range(50):
        selection = selection.scaled(0.5, span)
    assert selection.length_ns == SECOND_NS
    for _ in range(50):
        selection = selection.scaled(2.0, span)
    assert selection.length_ns is None
    assert Selection().moved(1, span) == Selection()
    assert Selection(50 * SECOND_NS).scaled(0.5, span, 0) == Selection(25 * SECOND_NS, 25 * SECOND_NS)
    assert Selection().moved(-1, (5, 5)).bounds_ns((5, 5)) is not None
    assert (clock(65 * SECOND_NS), clock(3725 * SECOND_NS)) == ("1:05", "1:02:05")


async def test_two_ranges_are_compared() -> None:
    source = FakeSource(measured(contended()))
    async with driving(source) as (app, pilot):
        await go(pilot, "c")
        assert app.view.marked is not None
        source._pictures[0] = replace(measured(contended(3)), t0_ns=contended().t0_ns + SECOND)
        await go(pilot, "w")
        await until(pilot, lambda: app.settled)
        await go(pilot, "c")
        text = screen_text(app)
        assert "A, marked" in text
        assert "B - A" in text
        await go(pilot, "escape")
        assert "1 Overview" in screen_text(app)


async def test_o_saves_a_report_but_over_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with driving(measured(contended())) as (app, pilot):
        await go(pilot, "o", "o")
        await until(pilot, lambda: len(list(app._notifications)) == 2)
    (report,) = tmp_path.iterdir()
    assert report.name == "ftdiag-4200-540-600s.txt"
    assert report.read_text() == "report of 4200\n"


async def test_the_palette_has_our_commands_only() -> None:
    async with driving() as (app, _):
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert "Show hot code" in titles
        assert "Screenshot" in titles
        assert not [title for title in titles if "theme" in title.lower()]


# --- the worker ------------------------------------------------------------------------------------------


async def test_only_what_is_shown_is_asked_for_and_snapshots_are_not_taken_again() -> None:
    source = FakeSource(measured(contended()))
    async with driving(source) as (app, pilot):
        assert set(source.questions.asked) == {"timeline"}
        taken = len(source.asked)
        source.questions.asked.clear()
        await go(pilot, "2", "v")
        await until(pilot, lambda: app.settled)
        await go(pilot, "enter")
        await until(pilot, lambda: app.settled)
        assert set(source.questions.asked) == {"lanes", "history 1"}
        assert len(source.asked) == taken


@pytest.mark.parametrize(("threads", "limit"), [(64, 5.0), (512, 10.0)])
async def test_a_refresh_is_cheap(threads: int, limit: float) -> None:
    picture = measured(contended(threads - 2))
    async with driving(picture, size=(200, 60)) as (app, _):
        costs = []
        for number in range(7):
            before = time.process_time()
            app._paint(replace(app.view, snapshot=replace(picture, t1_ns=picture.t1_ns + number)))
            app.screen._compositor.render_strips()
            costs.append(time.process_time() - before)
        assert min(costs) <= limit * yardstick_s(), costs


# --- plots -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, 1, 7, 200])
def test_plots_have_the_size_asked_for(width: int) -> None:
    values = [0.0, 1.0, None, 2.0, float(3)]
    for ascii_only in (False, True):
        look = look_for(DARK, ascii_only)
        lines = plot_lines(values, [1.0] * 5, 2.0, width, 4, look, (look.good, look.warning), 2.0)
        assert len(lines) == 4
        for line in lines:
            text = "".join(segment.text for segment in line)
            assert len(text) == width
            assert not ascii_only or text.isascii()
    assert len(spark([0.1, 1.0, 0.0], width, LOOK)) == width


def test_resampling_averages_and_keeps_gaps() -> None:
    assert resampled([1.0, 3.0, None, None], 2) == [2.0, None]
    assert resampled([1.0, None], 4) == [1.0, 1.0, None, None]
    assert resampled([], 3) == []


async def test_what_a_file_has_no_counters_of_is_said_to_be_not_measured() -> None:
    # GIVEN a recording made from a file of another profiler
    picture = contended()
    picture = replace(picture, settings=replace(picture.settings, source=IMPORTED, imported="py-spy"))
    async with driving(picture, (120, 40)) as (app, pilot):
        # WHEN its threads are shown THEN no figure of the kernel's is, least of all a 0
        await go(pilot, "2", "v")
        rows = [line for line in screen_lines(app) if "worker-" in line]
        assert rows
        assert all(line.split().count("-") == 2 for line in rows)
        # AND the page of one of them says so
        await go(pilot, "enter")
        await go(pilot, "G")
        assert "not measured" in screen_text(app)
        assert "forced" not in screen_text(app)
        # AND neither the overview nor the chain of factors draws what was not measured
        await go(pilot, "1")
        assert "2 cores" not in screen_text(app)
        assert screen_text(app).count("not measured: there are only samples") == 1
        await go(pilot, "5")
        assert screen_text(app).count("not measured: there are only samples") >= 2


async def test_threads_gone_unseen_are_named_where_they_are_why() -> None:
    picture = contended()
    metrics = replace(picture.metrics, unseen_threads_cores=0.8, useful_cores=None)
    async with driving(replace(picture, metrics=metrics), (120, 40)) as (app, _):
        assert "(0.80 unseen threads); useful not measured" in screen_text(app)


async def test_what_threads_gone_unseen_did_is_told_with_their_cores() -> None:
    # GIVEN threads that no tick saw, of which samples of the cores tell most
    picture = contended()
    parts = {ThreadState.WORK: 0.5, ThreadState.ALLOC: 0.25, ThreadState.ON_CPU: 0.05}
    metrics = replace(picture.metrics, unseen_threads_cores=0.8, unseen_parts_cores=parts)
    async with driving(replace(picture, metrics=metrics), (140, 60)) as (app, pilot):
        # WHEN the page about cores is shown THEN they are told
        await go(pilot, "5")
        assert "0.80 cores: work 0.50, allocation 0.25, not told apart 0.05" in screen_text(app)


async def test_short_lived_threads_do_not_come_before_those_with_the_time() -> None:
    # GIVEN a thread that spent all of its few milliseconds on a core
    picture = contended()
    brief = replace(picture.threads[1], cpu_ns=2_000_000, alive_ns=2_000_000)
    brief = replace(brief, info=replace(brief.info, index=99, name="brief"))
    async with driving(replace(picture, threads=(*picture.threads, brief)), (120, 40)) as (app, pilot):
        await go(pilot, "2")
        names = [row.thread.info.name for row in app.query_one(ThreadsPane).rows]
        assert names.index("worker-0") < names.index("brief")


async def test_what_is_missing_for_one_reason_is_said_once() -> None:
    picture = contended()
    quality = replace(
        picture.quality, not_measured=dict.fromkeys(("useful_cores", "efficiency_ratio"), "why so")
    )
    async with driving(replace(picture, quality=quality), (120, 40)) as (app, pilot):
        await go(pilot, "7")
        text = screen_text(app)
        assert text.count("why so") == 1
        assert "for the same reason: efficiency" in text
