"""The text and the JSON report: golden files, the contract's keys, hostile names, narrow terminals."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import RecordingBuilder, Spent, a_stack, a_target, absent, counted, spent
from ftdiag.model import EndReason, Evidence, Finding, Gap, Remedy, Severity, Snapshot, ThreadState
from ftdiag.reports import html
from ftdiag.reports.escaping import MAX_TEXT, visible
from ftdiag.reports.json import to_report
from ftdiag.reports.text import LineKind, headline, lines, render
from golden_files import assert_golden
from memory_scenes import with_capture, with_memory


def contended(folder: Path) -> Snapshot:
    """Eight workers on one lock, a pool without work and a BLAS thread."""
    builder = RecordingBuilder(folder / "contended", target=a_target(command="python service.py --workers 8"))
    builder.thread("main").thread("blas", python=False)
    inside = "/srv/app/cache.py:41 Cache.put < /srv/app/service.py:88 handle"
    enter = "/srv/app/cache.py:39 Cache.put < /srv/app/service.py:88 handle"
    for number in range(5):
        threads: dict[str, list[Spent]] = {
            "main": [
                spent(
                    100, "idle", at="/usr/lib/python3.14/threading.py:1094 Thread.join", detail="Thread.join"
                )
            ],
            "blas": [spent(10, "on_cpu"), spent(90, "idle", syscall="futex")],
        }
        for worker in range(8):
            turns = [
                spent(12, "on_cpu", at=inside)
                if turn == worker
                else spent(12, "lock", at=enter, lock="self._lock", holder=f"worker-{turn}")
                for turn in range(8)
            ]
            threads[f"worker-{worker}"] = [*turns, spent(4, "on_cpu", at="/srv/app/service.py:80 parse")]
        builder.window(
            threads,
            counters={
                "worker-0": counted(cpu_ns=90_000_000, run_queue_ns=10_000_000, voluntary_switches=400)
            },
            gaps=[Gap("stack", "changed while it was read", 2)] if number == 3 else [],
        )
    return builder.end().session().snapshot()


def kernel_only(folder: Path) -> Snapshot:
    """What a recording without lock data looks like: waits of unknown kind in futex."""
    builder = RecordingBuilder(
        folder / "kernel",
        target=a_target(capacity_cores=2.0, capacity_reason="CPU affinity: 2 of 4 cores", gil_enabled=None),
    )
    for _ in range(2):
        builder.window(
            {
                "worker-1": [spent(95, "on_cpu", at="app.py:10 work"), spent(5, "unknown", syscall="futex")],
                "worker-2": [
                    spent(10, "on_cpu", at="app.py:10 work"),
                    spent(90, "unknown", at="app.py:9 work", syscall="futex"),
                ],
                "worker-3": [
                    spent(5, "on_cpu", at="app.py:10 work"),
                    spent(95, "unknown", at="app.py:9 work", syscall="futex"),
                ],
            }
        )
    return builder.end(EndReason.EXITED, "the process exited with status 0").session().snapshot()


def empty(folder: Path) -> Snapshot:
    """Nothing recorded."""
    return (
        RecordingBuilder(folder / "empty", target=a_target(capacity_cores=None, capacity_reason=None))
        .session()
        .snapshot()
    )


def memory(folder: Path) -> Snapshot:
    """Memory by kind, and a capture of memray."""
    return with_capture(with_memory(contended(folder)), "job")


SCENES = {"contended": contended, "kernel-only": kernel_only, "empty": empty, "memory": memory}


@pytest.mark.parametrize("scene", SCENES)
def test_text_is_the_golden_one(scene: str, tmp_path: Path) -> None:
    # GIVEN a known recording WHEN reported at 80 columns THEN the text is the reviewed one
    assert_golden(f"{scene}.txt", "\n".join(render(SCENES[scene](tmp_path))) + "\n")


@pytest.mark.parametrize("scene", SCENES)
def test_json_is_the_golden_one(scene: str, tmp_path: Path) -> None:
    # GIVEN a known recording WHEN reported THEN the object is the reviewed one
    report = to_report(SCENES[scene](tmp_path))
    assert_golden(f"{scene}.json", json.dumps(report, indent=1, allow_nan=False) + "\n")


# --- text ----------------------------------------------------------------------------------------------


def test_the_first_line_says_who_waits_for_what(tmp_path: Path) -> None:
    # GIVEN a contended lock WHEN asked THEN the answer names waiters, lock, holder and line
    answer = headline(contended(tmp_path))
    assert answer.startswith("self._lock (cache.py:39) costs 2.69 of 4 cores")
    assert answer.endswith(" 1.3 of 4 cores on CPU.")
    assert "worker-0 to worker-7 (8 threads) wait for it" in answer
    assert "in Cache.put (cache.py:41)" in answer


@pytest.mark.parametrize(
    ("threads", "counters", "expected", "scope"),
    [
        (
            {"a": [spent(10, "on_cpu")], "b": [spent(10, "on_cpu")]},
            {},
            "All cores are busy",
            "2.0 of 2 cores on CPU",
        ),
        ({"a": [spent(10, "idle")]}, {}, "Threads are idle 100 %", "0.0 of 2 cores on CPU"),
        ({"a": [spent(10, "io")]}, {}, "Threads are in I/O 100 %", "0.0 of 2 cores on CPU"),
        ({"a": [spent(10, "on_cpu")]}, {}, "No thread waits for a lock or a core.", "1.0 of 2 cores on CPU"),
        (
            {name: [spent(10, "on_cpu")] for name in "abcd"},
            {name: counted(cpu_ns=500_000_000, run_queue_ns=500_000_000) for name in "abcd"},
            "Threads wait 50 % of their time for a free core: there are more busy",
            "2.0 of 2 cores on CPU",
        ),
        (
            {"a": [spent(10, "gil")]},
            {},
            "1 thread waits 100 % of all thread-time for locks.",
            "0.0 of 2 cores on CPU",
        ),
        (
            {"a": [spent(10, "lock", lock="l")]},
            {},
            "1 thread waits 100 % of all thread-time for l (_thread.lock, lock 1);",
            "0.0 of 2 cores on CPU",
        ),
        (
            {"a": [spent(10, "unknown", syscall="futex")]},
            {},
            "1 thread waits: 100 % of all thread-time in futex (a lock or",
            "0.0 of 2 cores on CPU",
        ),
    ],
)
def test_answers(tmp_path: Path, threads: Any, counters: Any, expected: str, scope: str) -> None:
    # GIVEN a program of one kind WHEN asked THEN the first line is its answer
    builder = RecordingBuilder(tmp_path / "a", rate_hz=10, target=a_target(capacity_cores=2.0))
    told = headline(builder.window(threads, counters=counters).session().snapshot())
    assert told.startswith(expected)
    assert told.endswith(f" {scope}.")


def test_reports_tell_a_free_lock_from_an_unknown_holder(tmp_path: Path) -> None:
    # GIVEN a wait in which nobody had the lock for 400 ms, and for 200 ms it is not known who had it
    waits = [spent(4, "lock", lock="l", free=True), spent(2, "lock", lock="l")]
    snapshot = RecordingBuilder(tmp_path / "a", rate_hz=10).window({"w": waits}).session().snapshot()

    # WHEN reported THEN each report has both
    text = "\n".join(render(snapshot))
    assert "free, the next thread not back yet: 400 ms" in text
    assert "holder not known: 200 ms" in text
    holders = to_report(snapshot)["locks"][0]["holders"]
    assert [(each["tid"], each["confidence"]) for each in holders] == [(None, "known"), (None, "unknown")]
    document = html.render(snapshot)
    assert "nobody, it was free" in document
    assert "not known" in document


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    # GIVEN any width WHEN reported THEN every line fits
    for line in render(contended(tmp_path), width):
        assert len(line) <= max(width, 20)


def test_the_kinds_of_lines_tell_headings_from_items(tmp_path: Path) -> None:
    # GIVEN a report WHEN read as lines THEN the answer is first and headings are marked
    found = list(lines(contended(tmp_path)))
    assert found[0].kind is LineKind.ANSWER
    assert [line.text for line in found if line.kind is LineKind.HEADING][:3] == [
        "Target",
        "Findings",
        "Fix this first",
    ]


def hostile(folder: Path) -> Snapshot:
    name = "w\x1b[2J\r\n\u202egnp.exe\u200b[bold red]\udc80é漢"
    builder = RecordingBuilder(folder / "hostile", target=a_target(command=name, gil_culprits=(name,)))
    builder.thread("w", shown_name=name)
    builder.window({"w": [spent(10, "lock", at=(*a_stack("a.py:1 f"),), lock=name, holder="w")]})
    builder.window(
        {"w": [spent(10, "io", at=f"{name.replace(' ', '')}:7 {name.replace(' ', '')}", detail=name)]}
    )
    return builder.session().snapshot()


def test_names_of_the_target_cannot_move_the_cursor(tmp_path: Path) -> None:
    # GIVEN names with escape sequences, bidi overrides and surrogates
    snapshot = hostile(tmp_path)
    # WHEN reported
    text = "\n".join(render(snapshot))
    # THEN they are shown, not obeyed, and the text can be written
    assert "\\x1b[2J\\x0d\\x0a\\u202egnp.exe" in text.replace("\n    ", "").replace("\n      ", "")
    assert all(character.isprintable() or character == "\n" for character in text)
    text.encode("utf-8")
    # AND in the C locale only ASCII is left
    assert "\n".join(render(snapshot, ascii_only=True)).isascii()


def test_json_of_hostile_names_is_plain_utf8(tmp_path: Path) -> None:
    # GIVEN the same WHEN dumped without ASCII escapes THEN it is valid UTF-8
    json.dumps(to_report(hostile(tmp_path)), ensure_ascii=False, allow_nan=False).encode("utf-8")


def test_visible_cuts_long_texts_in_the_middle() -> None:
    # GIVEN a name of a megabyte WHEN shown THEN both ends are there
    text = visible("a" * 500_000 + "b" * 500_000)
    assert len(text) <= MAX_TEXT + 3
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert visible("café") == "café"
    assert visible("café", ascii_only=True) == "caf\\xe9"


# --- JSON ----------------------------------------------------------------------------------------------

KEYS: dict[str, set[str]] = {
    "": {
        "schema",
        "target",
        "window",
        "metrics",
        "threads",
        "locks",
        "hot",
        "memory",
        "workload",
        "findings",
        "not_applicable",
        "quality",
    },
    "target": {
        "pid",
        "command",
        "executable",
        "python_version",
        "free_threaded",
        "gil_enabled",
        "gil_culprits",
    },
    "window": {"start", "duration_s", "ticks", "rate_hz"},
    "metrics": {
        "capacity_cores",
        "capacity_reason",
        "threads",
        "threads_with_work",
        "useful_cores",
        "speedup_now",
        "ideal_speedup",
        "efficiency",
        "lost_cores",
        "chain",
        "load_balance",
        "serial_share",
        "concurrency",
        "work_per_wakeup_us",
    },
    "threads": {"tid", "name", "role", "lifetime_s", "states", "context_switches", "faults", "hot"},
    "threads.hot": {"function", "file", "line", "share"},
    "threads.context_switches": {"voluntary", "involuntary"},
    "threads.faults": {"minor", "major"},
    "locks": {
        "id",
        "kind",
        "type_name",
        "label",
        "address",
        "wait_s",
        "critical_wait_s",
        "mean_queue",
        "waiters_max",
        "longest_wait_ms",
        "waiters",
        "holders",
    },
    "locks.waiters": {"tid", "wait_s", "stack"},
    "locks.holders": {"tid", "blame_s", "confidence", "stack"},
    "hot": {"function", "file", "line", "total_s", "states", "threads", "allocations"},
    "memory": {"rss_bytes", "pss_bytes", "stacks_bytes", "per_thread_bytes", "memray"},
    "findings": {
        "rule",
        "severity",
        "score",
        "confidence",
        "lost_cores",
        "subject",
        "summary",
        "explanation",
        "could_also_be",
        "remedy",
        "verify",
        "evidence",
    },
    "findings.remedy": {"text", "code"},
    "findings.evidence": {"metric", "value", "unit", "threshold"},
    "quality": {
        "torn_ratio",
        "missed_tick_ratio",
        "unknown_ratio",
        "classified_cpu_ratio",
        "sampler_cpu_ratio",
        "not_measured",
        "gaps",
    },
    "quality.gaps": {"what", "why", "count"},
}


def objects(report: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a report with the names that lead to it."""
    if isinstance(report, dict):
        yield path, report
        for key, value in report.items():
            yield from objects(value, f"{path}.{key}" if path else key)
    elif isinstance(report, list):
        for value in report:
            yield from objects(value, path)


def numbers(report: Any) -> Iterator[float]:
    if isinstance(report, dict):
        for value in report.values():
            yield from numbers(value)
    elif isinstance(report, list):
        for value in report:
            yield from numbers(value)
    elif isinstance(report, (int, float)):
        yield report


def assert_contract(report: dict[str, Any]) -> None:
    for path, each in objects(report):
        assert KEYS.get(path, set()) <= set(each), path
    assert all(math.isfinite(number) for number in numbers(report))
    for name in (
        "useful_cores",
        "speedup_now",
        "efficiency",
        "load_balance",
        "serial_share",
        "concurrency",
        "work_per_wakeup_us",
        "capacity_cores",
        "ideal_speedup",
        "lost_cores",
        "chain",
    ):
        if report["metrics"][name] is None:
            assert report["quality"]["not_measured"][name], name
    for name in (
        "torn_ratio",
        "missed_tick_ratio",
        "unknown_ratio",
        "classified_cpu_ratio",
        "sampler_cpu_ratio",
    ):
        if report["quality"][name] is None:
            assert report["quality"]["not_measured"][name], name
    assert report["memory"]["rss_bytes"] is not None or "memory" in report["quality"]["not_measured"]


@pytest.mark.parametrize("scene", [*SCENES, "hostile"])
def test_every_key_of_the_contract_is_there(scene: str, tmp_path: Path) -> None:
    # GIVEN any scene WHEN reported THEN no key is missing and every null has its reason
    assert_contract(to_report({**SCENES, "hostile": hostile}[scene](tmp_path)))


def test_findings_are_reported_by_lost_cores(tmp_path: Path) -> None:
    # GIVEN two findings
    finding = Finding(
        rule_id="one-lock",
        severity=Severity.WARNING,
        score=30.0,
        confidence="known",
        lost_cores=0.5,
        subject={"lock": "lock-1", "line": 39},
        summary="Everybody waits.",
        explanation="Because.",
        could_also_be=("a slow disk",),
        remedy=(Remedy("Shard it.", "locks = [Lock() for _ in range(8)]"),),
        verify="Run again.",
        evidence=(Evidence("wait", float("nan"), "s", 1.0),),
    )
    snapshot = replace(
        contended(tmp_path),
        findings=(finding, replace(finding, rule_id="two", lost_cores=1.5)),
        not_applicable=(("gil", "the GIL is off"),),
    )
    # WHEN reported
    report = to_report(snapshot)
    # THEN the costlier is first, and what is no number is null
    assert [each["rule"] for each in report["findings"]] == ["two", "one-lock"]
    assert report["findings"][0]["evidence"][0]["value"] is None
    assert report["not_applicable"] == [{"rule": "gil", "reason": "the GIL is off"}]
    assert_contract(report)
    assert "Findings" in list(render(snapshot))


def test_chain_multiplies_to_the_share_of_the_capacity_on_a_core(tmp_path: Path) -> None:
    # GIVEN a report with capacity WHEN the measured factors are multiplied THEN that is on-CPU / P
    snapshot = contended(tmp_path)
    factors = [step["value"] for step in to_report(snapshot)["metrics"]["chain"] if step["value"] is not None]
    assert math.prod(factors) == pytest.approx(snapshot.metrics.on_cpu_cores / 4.0)


parts = st.lists(
    st.builds(
        lambda ticks, state, lock: (
            absent(ticks) if state is None else spent(ticks, state, lock=lock, at="a.py:1 f")
        ),
        st.integers(1, 3),
        st.sampled_from([None, *ThreadState]),
        st.sampled_from([None, "l1", "l2"]),
    ),
    max_size=3,
)
windows = st.lists(st.dictionaries(st.sampled_from("abc"), parts), max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(windows, st.sampled_from([None, 0.5, 1.0, 4.0]))
def test_any_recording_makes_a_report(recorded: list[dict[str, list[Spent]]], cores: float | None) -> None:
    # GIVEN any recording
    with tempfile.TemporaryDirectory() as folder:
        builder = RecordingBuilder(Path(folder) / "a", rate_hz=10, target=a_target(capacity_cores=cores))
        for window in recorded:
            builder.window(window)
        snapshot = builder.session().snapshot()
        builder.close()
    # WHEN reported THEN there is no NaN, every key is there and the text has an answer
    assert_contract(to_report(snapshot))
    assert next(render(snapshot))
