"""Captures of memray: real ones made here, whole, aggregated, cut off and damaged."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path
from typing import Any

import pytest

from command_line import ftdiag
from ftdiag.confined import Rights
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import importer_of, memray_child
from ftdiag.formats.importers.memray import read_capture, write_recording
from ftdiag.formats.importers.memray_reading import Reading
from ftdiag.model import Allocations, LineAllocations
from ftdiag.recording.reader import Recording
from ftdiag.session import Session

PROGRAM = """
import sys, threading, memray
kept = []

def churn():
    for _ in range(5000):
        bytearray(70_000)

def keep():
    for _ in range(50):
        kept.append(bytearray(90_000))

form = getattr(memray.FileFormat, sys.argv[2])
with memray.Tracker(destination=memray.FileDestination(sys.argv[1], compress_on_exit=len(sys.argv) > 3),
                    file_format=form, trace_python_allocators=True):
    thread = threading.Thread(target=churn, name="churner")
    thread.start()
    thread.join()
    keep()
"""
CHURN_LINE, KEEP_LINE = 7, 11


def make(folder: Path, name: str, form: str, *more: str) -> Path:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    path = folder / name
    subprocess.run([sys.executable, str(program), str(path), form, *more], check=True, timeout=120)
    return path


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("captures")
    return {
        "full": make(folder, "full.bin", "ALL_ALLOCATIONS"),
        "compressed": make(folder, "compressed.bin", "ALL_ALLOCATIONS", "compressed"),
        "aggregated": make(folder, "aggregated.bin", "AGGREGATED_ALLOCATIONS"),
    }


LARGE = """
import sys, memray

def make(number):
    return [str(each + 1000) for each in range(number)]

kept = []
with memray.Tracker(destination=memray.FileDestination(sys.argv[1], compress_on_exit=len(sys.argv) > 2),
                    trace_python_allocators=True):
    for number in range(1200):
        kept.append(make(40))
        del kept[:-200]
"""


@pytest.fixture(scope="module")
def large_captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Larger than what memray's reader is made on; one that ends in zeros, as memray leaves it at times."""
    folder = tmp_path_factory.mktemp("large")
    made = {name: folder / f"{name}.bin" for name in ("plain", "compressed", "padded", "cut")}
    for name, more in (("plain", ()), ("compressed", ("compressed",))):
        subprocess.run([sys.executable, "-c", LARGE, str(made[name]), *more], check=True, timeout=60)
    whole = made["plain"].read_bytes().rstrip(b"\0")
    made["padded"].write_bytes(whole + bytes(memray_child.LONG_TAIL_BYTES + 5000))
    made["cut"].write_bytes(whole[: len(whole) * 2 // 3])
    assert made["cut"].stat().st_size > memray_child.HEAD_BYTES
    return made


Said = list[tuple[bytes, bytes]]


def said_of(path: Path, monkeypatch: pytest.MonkeyPatch, head_bytes: int) -> Said:
    """What the reader's process would say."""
    said: Said = []
    monkeypatch.setattr(memray_child, "send", lambda kind, payload: said.append((kind, payload)))
    monkeypatch.setattr(memray_child, "HEAD_BYTES", head_bytes)
    memray_child.read(str(path))
    return said


@pytest.mark.parametrize("name", ["plain", "compressed", "padded", "cut"])
def test_a_reader_made_on_the_beginning_reads_all(
    large_captures: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a capture larger than its beginning WHEN read from that, and by a reader that looked through all
    head_bytes = 1 << 14 if name == "compressed" else memray_child.HEAD_BYTES
    quick = said_of(large_captures[name], monkeypatch, head_bytes)
    plain = said_of(large_captures[name], monkeypatch, 1 << 40)

    # THEN both pass on the same; the quick one leaves to us what only the other knows
    assert [each for each in quick if each[0] not in b"MA"] == [each for each in plain if each[0] != b"M"]
    first, other = json.loads(quick[0][1]), json.loads(plain[0][1])
    assert first["peak_bytes"] is None
    assert other["peak_bytes"] > 0
    later = [json.loads(payload) for kind, payload in quick if kind == b"A"]
    if name == "cut":
        assert later == [{"last_ms": other["last_ms"], "peak_bytes": other["peak_bytes"], "cut_short": True}]
    else:
        assert later == []


@pytest.mark.parametrize("name", ["plain", "padded", "cut"])
def test_the_largest_heap_is_memrays(large_captures: dict[str, Path], name: str) -> None:
    # GIVEN a large capture WHEN read THEN our largest heap is that of memray, and cut off is told from whole
    from memray import FileReader

    said: list[str] = []
    capture = read_capture(large_captures[name], said.append)
    with FileReader(large_captures[name]) as reader:
        assert capture.peak_bytes == reader.metadata.peak_memory
    assert capture.cut_short is (name == "cut")
    assert said


@pytest.mark.parametrize("end_after_ms", [0, 1, 5])
@pytest.mark.parametrize("name", ["plain", "full"])
def test_a_writer_that_was_killed(
    large_captures: dict[str, Path], captures: dict[str, Path], name: str, end_after_ms: int, tmp_path: Path
) -> None:
    # GIVEN a capture whose writer did not come back to its header, which has the beginning or so as its end
    whole = {**captures, **large_captures}[name]
    from memray import FileReader

    with FileReader(whole) as reader:
        begin, end = (
            memray_child.milliseconds(moment)
            for moment in (reader.metadata.start_time, reader.metadata.end_time)
        )
    data = bytearray(whole.read_bytes())
    place = data.find(struct.pack("<qq", begin, end))
    assert place > 0
    data[place - 16 : place + 16] = struct.pack("<QQqq", 0, 0, begin, begin + end_after_ms)
    killed = tmp_path / "killed.bin"
    killed.write_bytes(data)

    # WHEN it is read THEN it counts as cut short, and lasts as long as its records do
    found, complete = read_capture(killed, quiet), read_capture(whole, quiet)
    assert found.cut_short
    assert not complete.cut_short
    assert found.count == complete.count
    assert 0 <= found.duration_ns <= complete.duration_ns
    assert found.duration_ns > complete.duration_ns - 1e9


def test_another_memray_reads_what_ours_does_not(captures: dict[str, Path], tmp_path: Path) -> None:
    # GIVEN a capture in a format that our memray does not know, and an interpreter whose memray does
    data = bytearray(captures["full"].read_bytes())
    data[7] ^= 0x7F
    other = tmp_path / "other.bin"
    other.write_bytes(data)
    whole = captures["full"]
    reader = tmp_path / "python"
    reader.write_text(f'#!/bin/sh\nexec {sys.executable} "$1" "$2" "{whole}"\n')
    reader.chmod(0o700)

    # WHEN it is read THEN that interpreter's is asked
    if os.geteuid() != 0:
        assert read_capture(other, quiet, fallback=str(reader)).count == read_capture(whole, quiet).count
        return
    # AND never by root, also not of root's own program: nobody else can run this interpreter
    for rights in (None, Rights(0, 0)):
        with pytest.raises(RecordingError, match="its reader does not start") as refused:
            read_capture(other, quiet, fallback=str(reader), rights=rights)
        assert "root reads no captures" in (refused.value.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what others may not")
def test_the_capture_of_a_program_is_opened_with_its_users_rights(
    captures: dict[str, Path], tmp_path: Path
) -> None:
    # GIVEN a capture of root's alone, and a link to it where a user's program was to write its own
    secret = tmp_path / "secret.bin"
    secret.write_bytes(captures["full"].read_bytes())
    secret.chmod(0o600)
    place = Path(tempfile.mkdtemp(prefix="ftdiag-test-"))
    try:
        place.chmod(0o755)
        (place / "capture.bin").symlink_to(secret)

        # WHEN root reads the program's capture THEN it is refused, and nothing of it was copied for the user
        with pytest.raises(RecordingError, match="cannot be read: Permission denied"):
            read_capture(place / "capture.bin", quiet, rights=Rights(54_321, 54_321))
        # AND one that is named by the person is read, by nobody
        assert read_capture(secret, quiet).count
    finally:
        shutil.rmtree(place)


def quiet(words: str) -> None:
    """Progress that nobody looks at."""


def at(capture: Allocations, line: int) -> LineAllocations:
    (found,) = [
        each
        for each in capture.lines
        if each.frame.line == line and each.frame.filename.endswith("program.py")
    ]
    return found


INJECTED = """
import sys, memray

code = {}
text = "def thread_body():\\n    return [bytearray(70_000) for _ in range(100)]"
exec(compile(text, sys.argv[2], "exec"), code)
with memray.Tracker(sys.argv[1], trace_python_allocators=True):
    code["thread_body"]()
    own = [bytearray(80_000) for _ in range(50)]
"""


@pytest.mark.parametrize("filename", ["<string>", "/usr/lib/python3/memray/commands/attach.py"])
def test_what_memrays_own_code_allocates_is_not_the_programs(tmp_path: Path, filename: str) -> None:
    # GIVEN a capture of code like that which memray brings into a process, and of the program's
    path = tmp_path / "capture.bin"
    subprocess.run([sys.executable, "-c", INJECTED, str(path), filename], check=True, timeout=60)

    # WHEN it is read
    capture = read_capture(path, lambda words: None)

    # THEN the program's alone is in its lines and sums
    assert all(line.frame.function != "thread_body" for line in capture.lines)
    assert capture.size_bytes is not None
    assert 50 * 80_000 <= capture.size_bytes < 50 * 80_000 + 100 * 70_000


@pytest.mark.parametrize("kind", ["full", "compressed"])
def test_lines_have_what_they_allocated(captures: dict[str, Path], kind: str) -> None:
    # GIVEN a capture of a thread that makes 5,000 buffers that die at once, and 50 buffers that are kept
    said: list[str] = []

    # WHEN it is read
    capture = read_capture(captures[kind], said.append)

    # THEN the lines have them, and it was said how far it is
    churn, keep = at(capture, CHURN_LINE), at(capture, KEEP_LINE)
    assert churn.frame.function == "churn"
    assert churn.temporary is not None
    assert churn.temporary >= 5000
    assert churn.size_bytes is not None
    assert churn.size_bytes >= 5000 * 70_000
    assert (churn.left_bytes or 0) < 70_000
    assert keep.left_bytes is not None
    assert keep.left_bytes >= 50 * 90_000
    assert keep.left_count is not None
    assert keep.left_count >= 50
    assert (keep.temporary or 0) < keep.left_count + 50
    assert (capture.peak_bytes or 0) >= 50 * 90_000
    assert not capture.cut_short
    assert capture.duration_ns > 0
    assert "churner" in {thread.name for thread in capture.threads}
    assert said


def test_an_aggregated_capture_has_the_heap_alone(captures: dict[str, Path]) -> None:
    # GIVEN an aggregated capture WHEN read THEN what is kept is known, and why the rest is not
    capture = read_capture(captures["aggregated"], quiet)
    keep = at(capture, KEEP_LINE)
    assert capture.aggregated
    assert (keep.left_bytes or 0) >= 50 * 90_000
    assert (keep.peak_bytes or 0) >= 50 * 90_000
    assert keep.count is None
    assert capture.count is None
    assert "aggregated" in capture.not_measured["temporary"]


def test_a_capture_that_was_cut_off_is_read_as_far_as_it_goes(
    captures: dict[str, Path], tmp_path: Path
) -> None:
    # GIVEN the first part of a capture, as a crash leaves it
    whole = captures["full"].read_bytes()
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole[: len(whole) // 3])

    # WHEN it is read THEN there is what came until then
    capture = read_capture(cut, quiet)
    assert capture.count is not None
    assert 0 < capture.count < (read_capture(captures["full"], quiet).count or 0)


@pytest.mark.parametrize("seed", range(8))
def test_damage_is_an_error_or_fewer_figures_never_more(
    captures: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    # GIVEN a capture with damage somewhere
    data = bytearray(captures["full"].read_bytes())
    step = max(1, len(data) // 40)
    for position in range(20 + seed * 7, len(data), step * (seed + 1)):
        data[position] ^= 1 << seed
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(data)

    # WHEN it is read THEN it is refused in words, or all figures are sane
    capture, refusal = None, None
    try:
        capture = read_capture(damaged, quiet)
    except RecordingError as error:
        refusal = error
    if capture is not None:
        assert all((line.count or 0) >= 0 and (line.left_bytes or 0) >= 0 for line in capture.lines)
    else:
        assert refusal is not None
        assert str(damaged) in refusal.what
        assert refusal.hint


@pytest.mark.parametrize(
    "content", [b"memray\0", b"memray\0" + b"\xff" * 5000, b"\x04\x22\x4d\x18" + b"\0" * 99]
)
def test_what_only_begins_like_a_capture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "not.bin"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        read_capture(path, quiet)
    assert caught.value.hint


def test_another_version_of_the_format_says_so(captures: dict[str, Path], tmp_path: Path) -> None:
    # GIVEN a capture whose header has another version
    data = bytearray(captures["full"].read_bytes())
    data[7] ^= 0x7F
    other = tmp_path / "other.bin"
    other.write_bytes(data)

    # WHEN read THEN that is what is said, with what to install
    with pytest.raises(RecordingError, match="another version of memray") as caught:
        read_capture(other, quiet)
    assert "pip install" in (caught.value.hint or "")


def test_without_memray_it_is_said_how_to_install_it(
    captures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN an environment without memray
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    # WHEN a capture is read THEN the error has the command
    with pytest.raises(RecordingError, match="memray is not installed here") as caught:
        read_capture(captures["full"], quiet)
    assert "pip install 'ftdiag[memray]'" in (caught.value.hint or "")

    # AND with an interpreter that has it, that one reads, where somebody but root may run it
    if os.geteuid() != 0:
        assert read_capture(captures["full"], quiet, fallback=sys.executable).count


def test_a_file_that_is_none_is_told_from_one(tmp_path: Path) -> None:
    path = tmp_path / "notes.bin"
    path.write_text("memray is a profiler\n")
    with pytest.raises(RecordingError, match="not a capture of memray"):
        read_capture(path, quiet)
    with pytest.raises(RecordingError, match="does not exist"):
        read_capture(tmp_path / "nothing.bin", quiet)


def test_importing_makes_a_recording_that_says_what_it_is(captures: dict[str, Path], tmp_path: Path) -> None:
    # GIVEN a capture WHEN it is imported
    output = tmp_path / "app.ftdiag"
    importer = importer_of(captures["full"])
    words = importer.import_file(captures["full"], output, quiet)

    # THEN its sums are in the recording
    assert "allocations of process" in words
    with Recording.open(output) as recording:
        assert recording.verify() == ()
        snapshot = Session(recording).snapshot()
    assert snapshot.allocations is not None
    assert at(snapshot.allocations, CHURN_LINE).temporary
    assert any(line.allocations is not None and line.frame.line == CHURN_LINE for line in snapshot.hot)


def test_report_joins_a_capture_and_sorts_by_it(captures: dict[str, Path], tmp_path: Path) -> None:
    # GIVEN a recording
    sample = Path(__file__).parents[4] / "samples" / "recordings" / "3.14t" / "generators.ftdiag"

    # WHEN it is reported with a capture, by allocations
    ran = ftdiag("report", sample, "--memory", captures["full"], "--sort", "allocations", "--format", "json")

    # THEN the line that allocates most is first, with its figures
    report = json.loads(ran.out)
    assert ran.status == 0
    first = report["hot"][0]
    assert first["file"].endswith("program.py")
    assert first["allocations"]["count"] >= 5000
    assert first["allocations"]["per_s"] > 0
    assert report["memory"]["memray"]["count"] >= 5000
    assert "hot.allocations" not in report["quality"]["not_measured"]

    # AND without a capture that is refused with the way to one
    refused = ftdiag("report", sample, "--sort", "allocations")
    assert refused.status == 2
    assert "--memory" in refused.err
    assert "Traceback" not in refused.err


BEGUN: dict[str, Any] = {
    "begin_ms": 1_700_000_000_000,
    "end_ms": 1_700_000_003_000,
    "last_ms": 1_700_000_003_000,
    "pid": 7,
    "command": "python app.py",
    "python_allocators": True,
    "aggregated": False,
    "peak_bytes": 1 << 20,
}


@pytest.mark.parametrize(
    "said",
    [
        pytest.param([(b"M", BEGUN | {"begin_ms": 7})], id="it took fifty years"),
        pytest.param(
            [(b"M", BEGUN | {"aggregated": True}), (b"H", [1, 1, 1, 1 << 62, 1, 1, 1, 1 << 62])],
            id="more bytes at the peak than there can be",
        ),
        pytest.param([(b"M", BEGUN), (b"R", [1, 4096, 1 << 47, 3, 1] * (1 << 16))], id="more bytes in all"),
        pytest.param([(b"M", BEGUN), (b"R", [1, 4096, 100, 3, 1, 1])], id="a part of a record"),
        pytest.param([(b"M", BEGUN), (b"T", {"1": float("nan")})], id="a name that is a number"),
        pytest.param([(b"M", BEGUN | {"command": None})], id="no command"),
    ],
)
def test_a_reader_that_says_what_cannot_be_is_refused(said: list[tuple[bytes, Any]], tmp_path: Path) -> None:
    # GIVEN what a reader says that a hostile capture took over
    def taken_in() -> None:
        reading = Reading(Path("capture.bin"), quiet)
        for kind, value in said:
            payload = json.dumps(value).encode() if isinstance(value, dict) else array("q", value).tobytes()
            reading.take(kind, payload)
        write_recording(reading.result(), tmp_path / "made.ftdiag", Path("capture.bin"))

    # WHEN that is taken in THEN it is damage, and no recording is made of it
    with pytest.raises(RecordingError, match="is damaged"):
        taken_in()
    assert not (tmp_path / "made.ftdiag").exists()
