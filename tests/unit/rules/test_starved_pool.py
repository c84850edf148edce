"""A pool whose workers all wait for futures, inside tasks: nobody may be left to run them."""

from __future__ import annotations

from pathlib import Path

from builders import spent
from ftdiag.model import Finding, Severity, Snapshot
from unit.rules.scenes import LIB, WORK, look, workers

POOL = f"{LIB}/concurrent/futures/thread.py"
INNER = f"/srv/app.py:30 render_page < {POOL}:73 WorkerContext.run < {POOL}:119 _worker"
RESULT = (
    f"{LIB}/threading.py:362 Condition.wait < {LIB}/concurrent/futures/_base.py:445 Future.result < {INNER}"
)
READY = f"{POOL}:116 _worker"


def said(snapshot: Snapshot) -> list[Finding]:
    """The findings of the rule."""
    return [finding for finding in snapshot.findings if finding.rule_id == "stuck-thread"]


def test_a_pool_that_waits_for_itself(tmp_path: Path) -> None:
    # GIVEN four workers that wait for a future in a task, and a thread that hands out more
    waiting = workers(4, spent(100, "idle", at=RESULT, detail="Future.result"), name="report")
    threads = {**waiting, "acceptor": [spent(100, "sleep", at=WORK)]}
    # WHEN it has lasted for twelve seconds THEN it is a warning, as possible, with the line of the task
    (finding,) = said(look(tmp_path, threads, windows=12))
    assert finding.severity is Severity.WARNING
    assert finding.confidence == "possible"
    assert finding.subject["line"] == 30
    assert (
        "report-1 to report-4 (4 threads), all of a pool, wait at render_page (app.py:30)" in finding.summary
    )
    # AND in four seconds it is a note, in two nothing
    assert [each.severity for each in said(look(tmp_path, threads, windows=4))] == [Severity.INFO]
    assert not said(look(tmp_path, threads, windows=2))


def test_a_pool_with_a_worker_that_is_ready_is_not_starved(tmp_path: Path) -> None:
    # GIVEN three workers that wait for a future in a task, and one that waits for a task
    waiting = workers(3, spent(100, "idle", at=RESULT, detail="Future.result"), name="report")
    ready = spent(100, "idle", at=READY, detail="work for the thread pool")
    assert not said(look(tmp_path, {**waiting, "report-4": [ready]}, windows=12))
    # AND one that works now and then
    works = [spent(90, "idle", at=RESULT, detail="Future.result"), spent(10, "on_cpu", at=INNER)]
    assert not said(look(tmp_path, {**waiting, "report-4": works}, windows=12))


def test_who_waits_for_a_pool_is_no_pool(tmp_path: Path) -> None:
    # GIVEN threads of the program's own that wait for futures
    own = RESULT.replace(INNER, WORK)
    assert not said(
        look(tmp_path, workers(4, spent(100, "idle", at=own, detail="Future.result")), windows=12)
    )
