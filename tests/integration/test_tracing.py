"""What traces a program, as it set it itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from command_line import ftdiag
from ftdiag.model import HookKind, TracingHook
from ftdiag.recording.reader import Recording
from reading import Look
from tools.workloads import RunningWorkload

Program = Callable[..., RunningWorkload]

TRACED = """
    import os, sys, threading, time
    def profiled(frame, event, argument):
        pass
    class Tracer:
        def traced(self, frame, event, argument):
            return None
    sys.monitoring.use_tool_id(sys.monitoring.COVERAGE_ID, "the tool of this test")
    threading.setprofile(profiled)
    def work():
        sys.settrace(Tracer().traced)
        while True:
            time.sleep(0.001)
    threading.Thread(target=work, daemon=True).start()
    print("ready", os.getpid(), flush=True)
    time.sleep(3600)
"""
PLAIN = """
    import os, time
    print("ready", os.getpid(), flush=True)
    time.sleep(3600)
"""


def test_what_a_program_set_is_named(program: Program, tmp_path: Path) -> None:
    # GIVEN a program with a profile function, a bound method that traces, and a tool, and one without
    traced, plain = program(TRACED), program(PLAIN)
    recorded = {running.pid: tmp_path / f"{running.pid}.ftdiag" for running in (traced, plain)}

    # WHEN both are recorded
    for pid, path in recorded.items():
        assert ftdiag("record", pid, "-o", path, "--duration", "0.5").status == 0

    # THEN that is what is told
    with Recording.open(recorded[traced.pid]) as recording:
        hooks = recording.target.tracing
    assert hooks is not None
    functions = {(hook.kind, hook.name) for hook in hooks if hook.filename}
    assert functions == {("profile function", "profiled"), ("trace function", "Tracer.traced")}
    # AND the tool where it is known at which offset a build keeps the names
    tool = TracingHook(HookKind.TOOL, "the tool of this test")
    known = Look(traced.pid).interpreter.layout.interpreter_tool_names is not None
    assert [hook for hook in hooks if not hook.filename] == ([tool] if known else [])
    with Recording.open(recorded[plain.pid]) as recording:
        assert recording.target.tracing == ()
