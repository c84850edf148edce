"""What an event loop's thread runs, from stacks as asyncio leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import RecordingBuilder, spent
from ftdiag.analysis.tasks import running_task
from ftdiag.model import Frame

LIBRARY = "/usr/lib/python3.14/asyncio"
LOOP = f"{LIBRARY}/events.py:94 Handle._run < {LIBRARY}/base_events.py:2046 BaseEventLoop._run_once"


def frame(function: str, filename: str = "/app/server.py") -> Frame:
    return Frame(filename, function, 10)


STEP = frame("Handle._run", "/usr/lib/python3.14/asyncio/events.py")


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ((frame("parse"), frame("handle_request"), STEP, frame("main")), "handle_request"),
        ((frame("inner"), STEP, frame("loop in a task"), STEP), "inner"),
        ((STEP, frame("main")), None),
        ((frame("main"),), None),
        ((frame("work"), frame("Handle._run", "/app/events.py")), None),
        ((), None),
    ],
)
def test_the_coroutine_is_what_the_loop_called(stack: tuple[Frame, ...], expected: str | None) -> None:
    # GIVEN the stack of a thread, leaf first
    # WHEN it is asked for its task
    task = running_task(stack)
    # THEN it is the frame that the innermost loop called, if there is a loop
    assert (task.function if task else None) == expected


def test_a_threads_tasks_come_with_their_time(tmp_path: Path) -> None:
    # GIVEN a loop that runs one coroutine three times as long as another
    builder = RecordingBuilder(tmp_path / "r.ftdiag", rate_hz=10)
    session = builder.window(
        {
            "loop": [
                spent(6, "on_cpu", at=f"/app/a.py:3 parse < /app/a.py:9 handle < {LOOP}"),
                spent(2, "on_cpu", at=f"/app/a.py:20 clean_up < {LOOP}"),
                spent(2, "on_cpu", at="/app/a.py:30 main"),
            ]
        }
    ).session()
    # WHEN a snapshot is made
    (thread,) = session.snapshot().threads
    # THEN both are named, longest first, and what was outside the loop is not
    assert [name for name, _ in thread.tasks] == ["handle", "clean_up"]
    assert thread.tasks[0][1] == pytest.approx(3 * thread.tasks[1][1], rel=0.01)
