"""The flight recorder's parts: conditions, the store's limits, which processes, what is published."""

from __future__ import annotations

import http.server
import itertools
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import RecordingBuilder, spent
from ftdiag.errors import RecordingError, UsageError
from ftdiag.model import Snapshot
from ftdiag.watching import pushing
from ftdiag.watching.figures import MAX_LABEL, Figure, Reading, figures
from ftdiag.watching.publishing import OpenTelemetry, Prometheus, address_of
from ftdiag.watching.pushing import Pushed, Pusher
from ftdiag.watching.recorder import Recorder
from ftdiag.watching.store import Limits, Store
from ftdiag.watching.targets import Wanted
from ftdiag.watching.triggers import Trigger, parse
from ftdiag.watching.watched import Plan, Watched
from reading import eventually

DAY_S = 86_400


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Two of four cores in use, half of the time of one thread waits for a lock."""
    builder = RecordingBuilder(tmp_path_factory.mktemp("made") / "a.ftdiag", rate_hz=100)
    waits = [
        spent(50, "lock", lock="self._lock", holder="b", at="a.py:1 f"),
        spent(50, "work", at="a.py:2 f"),
    ]
    builder.window({"a": waits, "b": [spent(100, "work", at="a.py:9 g")]}).end()
    return builder.session().snapshot()


def at(snapshot: Snapshot, second: float, *, efficiency: float | None) -> Snapshot:
    """The snapshot as of another time, with another efficiency."""
    t1_ns = int(second * 1e9)
    metrics = replace(snapshot.metrics, efficiency_ratio=efficiency)
    return replace(snapshot, t0_ns=t1_ns - 10**10, t1_ns=t1_ns, metrics=metrics)


# --- conditions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ("efficiency < 0.99", True),
        ("efficiency >= 99%", False),
        ("on_cpu > 1.4", True),
        ("locks > 20%", True),
        ("threads > 2", False),
        ("threads <= 2", True),
        ("rss > 1GB", False),
        ("rss > 32 MiB for 0s", True),
        ("hot-lock", None),
    ],
)
def test_a_condition_is_what_it_says(snapshot: Snapshot, words: str, holds: bool | None) -> None:
    # GIVEN a snapshot WHEN a condition is asked THEN it says what is so
    found = parse(words).holds(replace(snapshot, metrics=replace(snapshot.metrics, efficiency_ratio=0.4)))
    expected = any(finding.rule_id == "hot-lock" for finding in snapshot.findings) if holds is None else holds
    assert found is expected


@pytest.mark.parametrize(
    "words",
    ["", "efficiency", "efficiency = 1", "colour > 3", "rss > 2 apples", "hot-lock for ever", "no-such-rule",
     "efficiency < 0.5 for 99999h", "x" * 10_000, "efficiency < 0.5; rm -rf", "efficiency < 1e5"],
)  # fmt: skip
def test_what_is_no_condition_is_told(words: str) -> None:
    # GIVEN other words WHEN they are taken for a condition THEN it is said what is possible
    with pytest.raises(UsageError) as raised:
        parse(words)
    assert raised.value.hint


def test_a_condition_has_to_hold_and_fires_once(snapshot: Snapshot) -> None:
    # GIVEN a condition that has to hold for 30 s
    trigger = Trigger(parse("efficiency < 0.5 for 30s"), quiet_s=600)

    # WHEN it holds from second 100 on
    fired = [second for second in range(100, 400, 5) if trigger.feed(at(snapshot, second, efficiency=0.1))]

    # THEN it fires once, when it has held for so long (the first look covers ten seconds)
    assert fired == [120]


def test_a_condition_that_flaps_fires_once_in_its_quiet_time(snapshot: Snapshot) -> None:
    # GIVEN a condition that is true at every other look WHEN an hour passes
    trigger = Trigger(parse("efficiency < 0.5"), quiet_s=600)
    fired = [
        second
        for second in range(0, 3600, 5)
        if trigger.feed(at(snapshot, second, efficiency=0.1 if second % 10 else 0.9))
    ]

    # THEN it fires every ten minutes
    assert len(fired) == 6
    assert all(later - earlier >= 600 for earlier, later in itertools.pairwise(fired))


def test_what_is_not_measured_changes_nothing(snapshot: Snapshot) -> None:
    # GIVEN a condition that holds WHEN a look in between measures nothing THEN it goes on holding
    trigger = Trigger(parse("efficiency < 0.5 for 20s"), quiet_s=600)
    looks = [(100, 0.1), (105, None), (110, 0.1)]
    assert [trigger.feed(at(snapshot, second, efficiency=value)) for second, value in looks] == [
        False,
        False,
        True,
    ]


# --- the store ----------------------------------------------------------------------------------------------


def test_a_day_stays_within_its_limits(tmp_path: Path) -> None:
    # GIVEN a store of 2 MB whose clock we set
    now = [1_700_000_000.0]
    store = Store(tmp_path, Limits(2_000_000, 6 * 3600.0), lambda: now[0])
    ring = store.ring(7)
    ring.write_bytes(bytes(400_000))
    store.writing.add(ring)
    largest, kept = 0, ring

    # WHEN a day passes with an incident every ten minutes
    for minute in range(0, 24 * 60, 10):
        now[0] = 1_700_000_000.0 + minute * 60
        kept = store.kept(7, "hot-lock", "before")
        kept.write_bytes(bytes(150_000))
        Path(f"{kept}-wal").write_bytes(bytes(50_000))
        for path in (kept, ring):
            os.utime(path, (now[0], now[0]))
        store.prune()
        largest = max(largest, store.used_bytes())

    # THEN it never takes more, the newest are there, nothing is older than six hours, what is written stays
    assert largest <= 2_000_000
    assert kept.exists()
    assert ring.exists()
    files = store.files()
    assert len(files) == 9
    assert all(now[0] - at_s <= 6 * 3600 for at_s, _, _ in files)
    assert not list(tmp_path.glob("*-wal")) or len(list(tmp_path.glob("*-wal"))) == 8


def test_old_things_go_by_age(tmp_path: Path) -> None:
    # GIVEN something kept two days ago, and a file that is not ours WHEN what is older than a day goes
    now = 1_700_000_000.0
    store = Store(tmp_path, Limits(10**9, DAY_S), lambda: now)
    old, other = store.kept(7, "../../etc & co", "after"), tmp_path / "notes.txt"
    for path in (old, other):
        path.write_bytes(b"x")
        os.utime(path, (now - 2 * DAY_S, now - 2 * DAY_S))

    # THEN ours went, by a name without a way out
    assert store.prune() == [old]
    assert old.parent == tmp_path
    assert other.exists()


def test_two_recorders_do_not_share_a_directory(tmp_path: Path) -> None:
    # GIVEN a recorder WHEN another one takes its directory THEN it is refused, until the first one ends
    limits = Limits(10**9, DAY_S)
    with Store(tmp_path / "w", limits).locked(), pytest.raises(RecordingError, match="another recorder"):
        Store(tmp_path / "w", limits).locked().__enter__()
    with Store(tmp_path / "w", limits).locked():
        pass


# --- which processes ---------------------------------------------------------------------------


def test_a_family(tmp_path: Path) -> None:
    # GIVEN a process with a child WHEN its family is asked for THEN both are there, if they are old enough
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        try:
            wanted = Wanted(parent=process.pid)
            assert eventually(lambda: len(wanted.now(age_s=0.0)) == 2)
            assert wanted.now(age_s=3600.0) == [process.pid]
            assert process.pid in Wanted(pattern="subprocess.*input").now(age_s=0.0)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.kill()


def test_a_pattern_that_is_none() -> None:
    # GIVEN a broken expression WHEN it is wanted THEN it is said
    with pytest.raises(UsageError, match="regular expression"):
        Wanted(pattern="(")


class FakeWatched(Watched):
    """A process that is watched, without one; those with odd ids end at once."""

    recording_fully = False
    session = None

    def __init__(self, pid: int, *_: object, **__: object) -> None:
        self.pid = pid
        self.gone = self.foreign = False
        self.refused = None
        self.closed = False
        self.incidents: dict[str, int] = {}
        self.snapshot = None

    def step(self) -> None:
        """Workers that are recycled every second."""
        self.gone = self.pid % 2 == 1

    def look(self) -> list[Any]:
        """Nothing."""
        return []

    def keep(self, why: str) -> list[Path]:
        """Counts."""
        self.incidents[why] = self.incidents.get(why, 0) + 1
        return []

    def close(self) -> None:
        """Says so."""
        self.closed = True


class Many(Wanted):
    """Thousands of matches, other ones every time."""

    def __init__(self) -> None:
        super().__init__(pattern=".")
        self.round = 0

    def now(self, age_s: float = 0.0) -> list[int]:
        """All of one round."""
        self.round += 1
        return list(range(self.round * 10_000, self.round * 10_000 + 5_000))


PLAN = Plan(10, 100, 0, 0.03, 60, 10, 1 << 20, (), 600)


def test_thousands_of_matches_and_workers_that_are_replaced(tmp_path: Path) -> None:
    # GIVEN thousands of processes that match, half of which end at once
    said: list[str] = []
    now = [0.0]
    recorder = Recorder(
        Many(), PLAN, Store(tmp_path, Limits(10**9, DAY_S)), said.append,
        most=20, clock=lambda: now[0], make=FakeWatched,
    )  # fmt: skip

    # WHEN some minutes pass
    for second in range(120):
        now[0] = float(second)
        recorder.step()
        # THEN there are never more than asked for
        assert len(recorder.watched) <= 20
    # THEN that is said once, not at every look, and a signal keeps those that are there
    assert len(said) == 1
    assert "more processes" in said[0]
    recorder.keep_all()
    assert all(each.incidents == {"signal": 1} for each in recorder.watched.values())


# --- what is published -------------------------------------------------------------------------


def readings(snapshot: Snapshot) -> list[Figure]:
    """The figures of a process whose command line is anything."""
    target = replace(snapshot.target, command='evil"\n} 1\x1b[31m \udcff' + "x" * 5000)
    return list(figures([Reading(7, replace(snapshot, target=target), {"hot-lock": 2})]))


def test_figures_are_bounded(snapshot: Snapshot) -> None:
    # GIVEN a process with a name that is anything WHEN it is published THEN labels are plain and short
    found = readings(snapshot)
    assert all(len(label) <= MAX_LABEL and label.isprintable() for each in found for label in each.labels)
    values = {each.kind.name: each.value for each in found}
    assert values["ftdiag_on_cpu_cores"] == pytest.approx(snapshot.metrics.on_cpu_cores)
    assert values["ftdiag_incidents"] == 2


def test_prometheus_reads_it(snapshot: Snapshot) -> None:
    # GIVEN a server on a free port of loopback WHEN it is asked
    from prometheus_client.parser import text_string_to_metric_families

    server = Prometheus("127.0.0.1", 0, lambda: readings(snapshot))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        # THEN Prometheus's own parser has the figures
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["ftdiag_on_cpu_cores"].samples[0].value == pytest.approx(
            snapshot.metrics.on_cpu_cores
        )
        # WHEN another one wants the same port THEN it is said what to do
        with pytest.raises(UsageError, match="cannot be listened on"):
            Prometheus("127.0.0.1", server.port, list)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:5", ("::1", 5)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    # GIVEN an address WHEN it is read THEN it is on loopback unless it says otherwise
    assert address_of(text) == expected


@pytest.mark.parametrize("text", ["", "http", "1.2.3.4", "99999", "1:2:x", "٣"])
def test_what_is_no_address(text: str) -> None:
    # GIVEN something else WHEN it is read THEN it is said
    with pytest.raises(UsageError):
        address_of(text)


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Takes what is posted."""

    taken: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        """Keeps it."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.taken.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def endpoint() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server, and what came."""
    taken: list[tuple[str, bytes]] = []
    handler = type("Taking", (Endpoint,), {"taken": taken})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_profiles_are_pushed() -> None:
    # GIVEN an endpoint WHEN a profile is pushed THEN it comes as Pyroscope takes it
    with endpoint() as (url, taken):
        pusher = Pusher(url)
        assert pusher.push(Pushed("ftdiag{pid=7}", 100, 115, b"profile"))
        pusher.close()
    path, body = taken[0]
    assert path.startswith("/ingest?name=ftdiag%7Bpid%3D7%7D&from=100&until=115&format=pprof")
    assert b"profile" in body
    assert (pusher.sent, pusher.dropped) == (1, 0)


def test_metrics_are_exported() -> None:
    # GIVEN a collector WHEN the exporter ends THEN its last export came
    with endpoint() as (url, taken):
        exporter = OpenTelemetry(f"{url}/v1/metrics", list, every_ms=60_000)
        exporter.close()
    assert all(path == "/v1/metrics" for path, _ in taken)


def test_an_endpoint_that_is_slow_costs_profiles_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an endpoint that takes connections and never answers
    monkeypatch.setattr(pushing, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pusher = Pusher(f"http://127.0.0.1:{silent.getsockname()[1]}")

        # WHEN many profiles are pushed
        taken = sum(pusher.push(Pushed("a", 0, 1, b"x")) for _ in range(30))

        # THEN those beyond the queue are dropped and counted, and the rest fails in time
        assert taken <= pushing.QUEUE + 1
        assert pusher.dropped >= 30 - taken
        assert eventually(lambda: pusher.dropped == 30)
        assert pusher.sent == 0
        assert pusher.last_error
        pusher.close()


def test_an_endpoint_that_lies() -> None:
    # GIVEN an endpoint that answers nonsense, and one that is down WHEN it is used THEN that is counted
    with socket.create_server(("127.0.0.1", 0)) as liar:

        def lie() -> None:
            connection, _ = liar.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-nonsense\r\n\r\n")

        threading.Thread(target=lie, daemon=True).start()
        pusher = Pusher(f"http://127.0.0.1:{liar.getsockname()[1]}/")
        pusher.push(Pushed("a", 0, 1, b"x"))
        assert eventually(lambda: pusher.dropped == 1)
        pusher.close()
    down = Pusher("http://127.0.0.1:1")
    down.push(Pushed("a", 0, 1, b"x"))
    assert eventually(lambda: down.dropped == 1)
    down.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:4040", "file:///etc/passwd", "ftp://a/b", "http://"])
def test_what_is_no_endpoint(url: str) -> None:
    # GIVEN something else WHEN it is pushed to THEN it is said
    with pytest.raises(UsageError):
        Pusher(url)
