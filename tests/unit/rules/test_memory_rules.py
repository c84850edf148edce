"""Rules about memory: what free threading explains, what it does not, and how malloc is replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_reading, a_target, counted, spent
from ftdiag.model import MemoryKind, Severity
from ftdiag.reports.memory import memory_values
from ftdiag.rules.prose.preload import preload_jemalloc
from unit.rules.scenes import heaps_of_ended_threads, held, large_threads, look, many_heaps


def test_threads_that_keep_much_are_told_with_their_part(tmp_path: Path) -> None:
    # GIVEN 32 threads with 9 MB each that do nothing WHEN judged THEN that is a warning with the figures
    snapshot = large_threads(tmp_path)
    (found,) = [each for each in snapshot.findings if each.rule_id == "memory-per-thread"]
    assert found.severity is Severity.WARNING
    assert found.confidence == "known"
    assert "worker-1 to worker-32 (32 threads) keep 282 MiB" in found.summary
    assert "32 of them hardly ran" in found.summary
    # AND the other rule does not tell the same memory again
    assert "memory-overhead" not in [each.rule_id for each in snapshot.findings]


def test_no_part_of_a_process_is_more_than_all_of_it(tmp_path: Path) -> None:
    # GIVEN 32 threads whose memory was read when the process had grown past what was read of it before
    kinds = {MemoryKind.PYTHON_HEAPS: 290, MemoryKind.FILES: 8}
    heaps = dict.fromkeys(range(33), (12, 9000))
    grown = replace(a_reading(kinds, heaps), rss_bytes=250 << 20, virtual_bytes=200 << 20)
    threads = {f"w-{number}": [spent(100, "idle")] for number in range(33)}
    # WHEN judged
    snapshot = look(tmp_path, threads, memory=grown)
    (found,) = [each for each in snapshot.findings if each.rule_id == "memory-per-thread"]
    # THEN their part is one, and what is resident is not more than what is mapped
    figures = {each.metric: each.value for each in found.evidence}
    assert 0.9 < figures["own_memory_of_threads"] <= 1.0
    values = memory_values(snapshot, str)
    assert values["virtual_bytes"] >= values["rss_bytes"]


def test_what_free_threading_explains_is_said_in_parts(tmp_path: Path) -> None:
    # GIVEN 48 threads with the heap that the standard library leaves WHEN judged THEN it is said how much
    (found,) = [each for each in many_heaps(tmp_path).findings if each.rule_id == "memory-overhead"]
    assert found.severity is Severity.INFO
    assert "in the heaps of 48 threads" in found.summary
    explained = {each.metric: each.value for each in found.evidence}
    assert 0.5 < explained["explained"] < 0.9
    assert not any("MIMALLOC" in (remedy.code or "") for remedy in found.remedy)


def test_heaps_of_ended_threads_have_a_remedy_of_their_own(tmp_path: Path) -> None:
    # GIVEN a process that is mostly what ended threads left WHEN judged THEN keeping threads comes first
    (found,) = [
        each for each in heaps_of_ended_threads(tmp_path).findings if each.rule_id == "memory-overhead"
    ]
    assert found.severity is Severity.WARNING
    assert "300 MiB in heaps of threads that have ended" in found.summary
    assert "MIMALLOC_PURGE_DELAY=0" in (found.remedy[-1].code or "")


@pytest.mark.parametrize("count", [0, 1])
def test_one_thread_or_none_is_no_matter(tmp_path: Path, count: int) -> None:
    # GIVEN at most one large thread WHEN judged THEN the number of threads is not the cause
    rules = [each.rule_id for each in held(200_000, count=count, folder=tmp_path).findings]
    assert "memory-per-thread" not in rules


def test_a_gil_build_is_not_judged(tmp_path: Path) -> None:
    # GIVEN a process with the GIL, whose heaps cannot be told
    reading = a_reading({MemoryKind.ANONYMOUS: 400}, {0: (12, -1)}, not_measured={"python_heaps": "a GIL"})
    snapshot = look(
        tmp_path,
        {"w": [spent(100, "idle")]},
        of=a_target(free_threaded=False, gil_enabled=True),
        memory=reading,
    )

    # WHEN judged THEN both rules say why they do not look
    assert {"memory-per-thread", "memory-overhead"} <= dict(snapshot.not_applicable).keys()


def test_page_faults_cost_what_was_measured(tmp_path: Path) -> None:
    # GIVEN many page faults, whose functions were seen on one of two lines for 30 % of the time
    line, other = "/srv/app.py:90 load < /srv/app.py:3 main", "/srv/app.py:10 work < /srv/app.py:3 main"
    builder = RecordingBuilder(tmp_path / "r", native="cpu-clock at 199 Hz")
    builder.thread("w")
    builder.window(
        {"w": [spent(30, "on_cpu", at=line), spent(70, "on_cpu", at=other)]},
        counters={"w": counted(minor_faults=600_000)},
        native=[
            ("w", line, "alloc", "clear_page_erms", 30),
            ("w", other, "alloc", "mi_malloc", 40),
            ("w", other, "work", "_PyEval_EvalFrameDefault", 30),
        ],
    )

    # WHEN judged THEN that is what they cost, at that line
    snapshot = builder.end().session().snapshot()
    (found,) = [each for each in snapshot.findings if each.rule_id == "page-fault-storm"]
    assert found.subject["line"] == 90
    assert found.lost_cores == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("distribution", "machine", "library"),
    [
        (("debian",), "x86_64", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"),
        (("ubuntu", "debian"), "aarch64", "/usr/lib/aarch64-linux-gnu/libjemalloc.so.2"),
        (("rocky", "rhel", "centos", "fedora"), "x86_64", "/usr/lib64/libjemalloc.so.2"),
        (("alpine",), "x86_64", "/usr/lib/libjemalloc.so.2"),
        (("$(reboot)", "\x1b[31m"), "x86_64", "libjemalloc.so.2"),
        (("debian",), "../../tmp", "libjemalloc.so.2"),
        ((), None, "libjemalloc.so.2"),
    ],
)
def test_the_line_that_preloads_jemalloc(
    distribution: tuple[str, ...], machine: str | None, library: str
) -> None:
    # GIVEN a target on a distribution, also one that is not what it says
    target = replace(a_target(), distribution=distribution, machine=machine)

    # WHEN the line is made THEN it has that distribution's file, or just the name
    package, line = preload_jemalloc(target).splitlines()
    assert package.startswith("# ")
    assert line.startswith(f"LD_PRELOAD={library} MALLOC_CONF=oversize_threshold:0 ")
    assert "reboot" not in package + line
