"""The sampler's process: how it begins and ends, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ftdiag import launcher
from ftdiag.errors import NoSuchProcess, RecordingError, UnsupportedPython
from ftdiag.launcher import SamplerFailed, SamplerProcess
from ftdiag.model import EndReason
from ftdiag.sampling.options import SamplerOptions
from reading import PATIENCE_S

NOBODY = 4_194_304


def gone(pid: int | None) -> bool:
    return pid is not None and not os.path.exists(f"/proc/{pid}")


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` instead of the sampler; the request is in `request`."""
    real = subprocess.Popen

    def popen(arguments: list[str], **options: object) -> subprocess.Popen[bytes]:
        script = f"import sys, os, json, time; request = sys.stdin.readline()\n{code}"
        return real([sys.executable, "-c", script], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(subprocess, "Popen", popen)


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


@pytest.mark.parametrize("lacks", ["its Python", "room for what it says"])
def test_a_sampler_that_cannot_be_started(
    lacks: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # GIVEN a Python that this user may not run, or nowhere to write
    if lacks == "its Python":
        unusable = tmp_path / "python"
        unusable.write_text("")
        monkeypatch.setattr(sys, "executable", str(unusable))
    else:
        monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")

    # WHEN it is started, THEN that is said, and nothing is left
    with SamplerProcess() as sampler, pytest.raises(SamplerFailed, match="cannot be started") as failed:
        sampler.spawn()
    assert failed.value.hint is not None
    assert "ftdiag.sampling.process" in failed.value.hint
    assert sampler.pid is None
