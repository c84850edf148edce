"""The sampler's process: how it begins and ends, and that nothing of it stays."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from command_line import ftdiag, samplers_of
from ftdiag import launcher, spawning
from ftdiag.errors import NoSuchProcess, RecordingError, UnsupportedPython
from ftdiag.launcher import SamplerFailed, SamplerProcess
from ftdiag.model import EndReason
from ftdiag.sampling.options import SamplerOptions
from reading import PATIENCE_S, eventually

NOBODY = 4_194_304


def gone(pid: int | None) -> bool:
    return pid is not None and not os.path.exists(f"/proc/{pid}")


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` instead of the sampler; the request is in `request`."""
    script = f"import sys, os, json, time; request = sys.stdin.readline()\n{code}"
    monkeypatch.setattr(spawning, "SAMPLER", ("-c", script))


def request(path: Path | str = "/nonexistent/a", pid: int = NOBODY, **more: float | str) -> SamplerOptions:
    return SamplerOptions(pid, str(path), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (request(), NoSuchProcess),
        (
            request(pid=os.getpid(), source="native"),
            UnsupportedPython if sys.version_info < (3, 13) else RecordingError,
        ),
    ],
)
def test_an_error_of_the_sampler_is_raised_as_itself(asked: SamplerOptions, kind: type[Exception]) -> None:
    with SamplerProcess() as sampler:
        sampler.start(asked)
        with pytest.raises(kind):
            sampler.wait_until_started()
        # Also when it is asked again.
        with pytest.raises(kind):
            sampler.poll()
        pid = sampler.pid
    assert gone(pid)


def test_it_starts_goes_on_and_stops_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a sampler that works until its standard input closes
    stand_in(
        monkeypatch,
        """
print(json.dumps({"event": "started", "target": {}}), flush=True)
sys.stdin.read()
print(json.dumps({"event": "ended", "reason": "stopped", "detail": "stopped on request"}), flush=True)
""",
    )
    with SamplerProcess() as sampler:
        sampler.start(request())
        sampler.wait_until_started()
        assert sampler.poll() is None

        end = sampler.stop()

    assert end is not None
    assert end.reason is EndReason.STOPPED
    assert gone(sampler.pid)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('oops')", "the sampler failed: ValueError: oops"),
        ("raise MemoryError", "the sampler was not given enough memory"),
        ("raise OSError(12, 'Cannot allocate memory')", "the sampler was not given enough memory"),
        ("os.kill(os.getpid(), 9)", "the sampler was killed by SIGKILL"),
        ("sys.exit(5)", "it ended with status 5"),
        ("print('{\"event\": [}\\nnot json\\n[1]'); sys.exit(1)", "it ended with status 1"),
    ],
)
def test_an_end_without_a_word_is_said(monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    stand_in(monkeypatch, code)
    with SamplerProcess() as sampler:
        sampler.start(request())
        with pytest.raises(SamplerFailed) as raised:
            sampler.wait_until_started()
    assert words in raised.value.what


def test_killed_while_it_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "print(json.dumps({'event': 'started'}), flush=True); os.kill(os.getpid(), 9)")
    with SamplerProcess() as sampler:
        sampler.start(request())
        sampler.wait_until_started()
        with pytest.raises(SamplerFailed, match="SIGKILL"):
            sampler.wait(PATIENCE_S)


def test_one_that_hangs_is_given_up_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a sampler that neither starts nor heeds SIGTERM
    stand_in(monkeypatch, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    monkeypatch.setattr(launcher, "TERMINATE_TIMEOUT_S", 0.3)
    with SamplerProcess() as sampler:
        sampler.start(request())
        with pytest.raises(SamplerFailed, match=r"did not attach within 0\.5 s"):
            sampler.wait_until_started(0.5)
        assert gone(sampler.pid)


def test_it_is_gone_after_an_exception_and_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, "time.sleep(60)")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sampler = SamplerProcess()

    def interrupted() -> None:
        with sampler:
            sampler.start(request())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert gone(sampler.pid)
    assert list(tmp_path.iterdir()) == []


def test_a_flood_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a line without end
    monkeypatch.setattr(launcher, "MAX_LINE_BYTES", 100_000)
    stand_in(monkeypatch, "sys.stdout.write('x' * 3_000_000)")
    with SamplerProcess() as sampler:
        sampler.start(request())
        with pytest.raises(SamplerFailed):
            sampler.wait_until_started()
        assert len(sampler._unread) <= 100_000


@pytest.mark.parametrize("at_once", [True, False])
def test_who_waits_for_the_end_is_woken_by_what_is_said_to_people(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a sampler that says something, be it with its first words, and something more at its end
    stand_in(
        monkeypatch,
        f"""
say = lambda **message: print(json.dumps(message), flush=not {at_once})
say(event="started", target={{}})
say(event="answers")
say(event="note", text="it is slow")
sys.stdout.flush()
sys.stdin.read()
say(event="note", text="it was slow")
say(event="ended", reason="stopped", detail="stopped on request")
""",
    )
    with SamplerProcess() as sampler:
        sampler.start(request())
        sampler.wait_until_started()
        # WHEN its end is waited for without a limit THEN what it says comes before
        assert sampler.wait(or_notes=True) is None
        assert sampler.take_notes() == ["it is slow"]
        # AND who waits for the end alone is not woken by it
        end = sampler.stop()
        assert end is not None
        assert end.reason is EndReason.STOPPED
        assert sampler.take_notes() == ["it was slow"]


def test_a_sampler_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN a Python that this user may not run
    unusable = tmp_path / "python"
    unusable.write_text("")
    monkeypatch.setattr(sys, "executable", str(unusable))

    # WHEN it is started, THEN that is said, and nothing is left
    with SamplerProcess() as sampler, pytest.raises(SamplerFailed, match="cannot be started") as failed:
        sampler.spawn()
    assert failed.value.hint is not None
    assert "ftdiag.sampling.process" in failed.value.hint
    assert sampler.pid is None


def test_what_was_started_ahead_is_what_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a sampler that was started before anything was imported
    stand_in(
        monkeypatch,
        """
words = f"asked for {json.loads(request)['pid']}"
print(json.dumps({"event": "ended", "reason": "stopped", "detail": words}))
""",
    )
    ahead = spawning.begin_sampler()
    assert ahead is not None

    # WHEN one is asked for THEN it is that one, and the next is another
    with SamplerProcess() as sampler, SamplerProcess() as another:
        sampler.start(request(pid=77))
        end = sampler.wait(PATIENCE_S)
        another.spawn()
        assert sampler.pid == ahead.pid != another.pid
    assert end is not None
    assert end.detail == "asked for 77"


def test_a_prepared_sampler_has_imported_what_it_may_need(tmp_path: Path) -> None:
    # GIVEN a sampler that is told to prepare itself
    with SamplerProcess() as sampler:
        sampler.prepare()

        # THEN it has the disassembler before it knows what to look at
        maps = Path(f"/proc/{sampler.pid}/maps")
        assert eventually(lambda: "libcapstone" in maps.read_text())

        # WHEN it is told then THEN it does as any other
        sampler.start(request(tmp_path / "a.ftdiag"))
        with pytest.raises(NoSuchProcess):
            sampler.wait_until_started()


def test_what_was_started_ahead_in_vain_ends_with_us(tmp_path: Path) -> None:
    # GIVEN a command whose arguments turn out to be wrong when its sampler is there already
    done = ftdiag("attach", str(NOBODY), "--rate", "fast", env={"TMPDIR": str(tmp_path)})

    # THEN it says only that, and nothing of it stays
    assert done.status == 2
    assert "--rate" in done.err
    assert "Traceback" not in done.err
    assert eventually(lambda: not samplers_of(tmp_path))


@pytest.mark.parametrize("built_with", ["this C library", "an old one"])
def test_the_sampler_has_a_session_of_its_own(built_with: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a sampler that says in which session it is, started by a Python of today or one for old systems
    spawn = os.posix_spawn

    def spawn_without_sessions(*arguments: Any, setsid: bool = False, **options: Any) -> int:
        if setsid:
            raise NotImplementedError("The 'setsid' parameter is not supported on this platform")
        return spawn(*arguments, **options)

    if built_with == "an old one":
        monkeypatch.setattr(os, "posix_spawn", spawn_without_sessions)
    stand_in(
        monkeypatch,
        """
where = f"{os.getsid(0)} {os.getpgrp()} {os.getpid()}"
print(json.dumps({"event": "ended", "reason": "stopped", "detail": where}), flush=True)
""",
    )
    with SamplerProcess() as sampler:
        sampler.start(request())
        end = sampler.wait(PATIENCE_S)

    # THEN it leads it: keys of the terminal do not reach it
    assert end is not None
    assert end.detail.split() == [str(sampler.pid)] * 3


def test_a_target_that_does_not_answer_for_now(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a sampler that says that its target does not answer, and later that it does
    stand_in(
        monkeypatch,
        "say = lambda **message: print(json.dumps(message), flush=True)\n"
        "say(event='started'); say(event='silent', text='process 7 does not answer for now')\n"
        "sys.stdin.readline()\n"
        "say(event='answers'); say(event='ended', reason='stopped', detail='x')\n",
    )
    with SamplerProcess() as sampler:
        sampler.start(request())
        sampler.wait_until_started()
        # WHEN it is followed THEN that is known as long as it is so, and said once
        said: list[str] = []
        while not said:
            assert sampler.poll() is None
            said = sampler.take_notes()
        assert said == [sampler.silent] == ["process 7 does not answer for now"]
        sampler.stop()
        assert sampler.silent is None
        assert sampler.take_notes() == []
