"""The HTML report: one file for mail and tickets, with charts, that needs nothing else.

In: a `Snapshot`. Out: `render`: a whole document, in ASCII. Everything that the target chose is made visible
and escaped; a content security policy forbids what is not in the file, and every script but the one of ours
that zooms the flame graph, should that ever fail.
Tables are bounded: 500 threads stay readable, the JSON report has them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from ftdiag.model import (
    Allocations,
    CollectorMetrics,
    CorePart,
    Finding,
    LineAllocations,
    LockHolder,
    LockWaiter,
    Pauses,
    Snapshot,
    ThreadAllocations,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.reports import html_course
from ftdiag.reports.allocations import (
    about_words,
    line_words,
    not_measured_words,
    rate_words,
    thread_name,
    total_words,
)
from ftdiag.reports.bottlenecks import graph_svg
from ftdiag.reports.escaping import visible
from ftdiag.reports.html_charts import (
    account_bar,
    bar_of,
    histogram,
    legend,
    states_words,
)
from ftdiag.reports.html_course import Course
from ftdiag.reports.html_parts import (
    code_of,
    counted,
    escape,
    folded,
    frame_text,
    place_of,
    rest_of,
    safe,
    stack_of,
    table_of,
)
from ftdiag.reports.html_style import POLICY, style_sheet
from ftdiag.reports.memory import ITEM, memory_sentences
from ftdiag.reports.text import headline
from ftdiag.wording import units
from ftdiag.wording.account import efficiency_words, state_note, unseen_words, useful_words
from ftdiag.wording.bottlenecks import place_words, title_words, worth_saying
from ftdiag.wording.findings import evidence_words, price_words, sure_words
from ftdiag.wording.locks import collections_words, holder_words, main_wait_words, metrics_words
from ftdiag.wording.objects import locked_words, object_words
from ftdiag.wording.quality import CLASSIFIED, MISSED, OWN_COST, TORN, UNKNOWN, figure_name, tick_rate_words
from ftdiag.wording.states import (
    CONFIDENCE_NAMES,
    PART_NAMES,
    STATE_NAMES,
    longest,
)

SHOWN_THREADS: Final = 100
SHOWN_LINES: Final = 40
SHOWN_BOTTLENECKS: Final = 10
SHOWN_LOCKS: Final = 30
SHOWN_ALLOCATING: Final = 40
"""Lines, and threads, of a capture of memray."""
SHOWN_PEOPLE: Final = 8
"""Waiters and holders of one lock."""
SHOWN_STACKS: Final = 3
SHOWN_SYMBOLS: Final = 5
SHOWN_FINDINGS: Final = 60
SHOWN_GAPS: Final = 40
SHOWN_TEXT: Final = 2000
"""Characters of an explanation."""

_ALLOCATIONS: Final = ("allocations", "a second", "bytes a second", "temporary")


def render(snapshot: Snapshot, course: Course | None = None) -> str:
    """The document; with the `course` of the range it has pictures of it over time."""
    title = f"ftdiag: pid {snapshot.target.pid}"
    body = "\n".join(_body(snapshot, course))
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n<style>{style_sheet()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    return document.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _body(snapshot: Snapshot, course: Course | None) -> Iterator[str]:
    yield "<header>"
    yield f"<h1>{escape(headline(snapshot))}</h1>"
    for line in _target(snapshot):
        yield f'<p class="soft">{line}</p>'
    yield "</header>\n<main>"
    yield from _section("Findings", _findings(snapshot))
    yield from _section("Fix this first", _bottlenecks(snapshot))
    if course is not None:
        start_ns = snapshot.settings.started_ns
        yield from _section("Cores over time", html_course.time_line(course.timeline, start_ns))
        yield from _section("Threads over time", html_course.lanes(snapshot, course.lanes, start_ns))
        yield from _section("Flame graph", html_course.flame(course.flame))
    yield from _section("Where thread-time goes", _states(snapshot))
    yield from _section("Cores", _cores(snapshot))
    yield from _section(counted("Threads", SHOWN_THREADS, len(snapshot.threads)), _threads(snapshot))
    yield from _section(counted("Hot lines", SHOWN_LINES, len(snapshot.hot)), _hot(snapshot))
    yield from _section(counted("Locks", SHOWN_LOCKS, len(snapshot.locks)), _locks(snapshot))
    yield from _section("Stop-the-world pauses", _pauses(snapshot.pauses, snapshot.collector))
    yield from _section("Memory", _memory(snapshot))
    yield from _section("Allocations", _allocations(snapshot.allocations))
    yield from _section("How far this can be trusted", _quality(snapshot))
    yield "</main>"


def _section(heading: str, parts: Iterable[str]) -> Iterator[str]:
    """A heading and its parts; nothing where there are none."""
    made = list(parts)
    if made:
        yield f"<section>\n<h2>{escape(heading)}</h2>"
        yield from made
        yield "</section>"


# --- sections ------------------------------------------------------------------------------------------


def _target(snapshot: Snapshot) -> Iterator[str]:
    target, metrics = snapshot.target, snapshot.metrics
    gil = {None: "GIL state not known", True: "GIL on", False: "GIL off"}[target.gil_enabled]
    build = "free-threaded" if target.free_threaded else "GIL build"
    yield f"pid {target.pid}, CPython {safe(target.python_version)} {build}, {gil}"
    if target.gil_culprits:
        yield f"modules that turned the GIL on: {', '.join(map(safe, target.gil_culprits[:SHOWN_PEOPLE]))}"
    yield f"<code>{safe(target.command)}</code>"
    unix_ns = snapshot.settings.started_unix_ns + snapshot.t0_ns - snapshot.settings.started_ns
    try:
        start = f" from {datetime.fromtimestamp(unix_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        start = ""
    yield (
        f"{units.seconds(metrics.duration_ns)} recorded{start}, {units.plural(metrics.ticks, 'tick')} at"
        f" {tick_rate_words(metrics.ticks, metrics.duration_ns, snapshot.settings.rate_hz)}"
        f" on {safe(snapshot.settings.host)}"
    )
    if snapshot.end is not None:
        yield f"recording ended: {safe(snapshot.end.detail or snapshot.end.reason.value)}"


def _findings(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.workload is not None:
        yield f"<p>{safe(snapshot.workload.kind)}: {safe(snapshot.workload.advice, SHOWN_TEXT)}</p>"
    for finding in snapshot.findings[:SHOWN_FINDINGS]:
        yield from _finding(finding)
    if not snapshot.findings and (snapshot.metrics.ticks or snapshot.threads):
        yield "<p>No rule found a cause that costs cores.</p>"
    if snapshot.not_applicable:
        rows = [[safe(rule), safe(reason)] for rule, reason in snapshot.not_applicable]
        yield folded(f"{len(rows)} rules skipped", table_of(("rule", "why"), rows))


def _finding(finding: Finding) -> Iterator[str]:
    severity = finding.severity.value
    yield f'<article class="card {severity}"><span class="tag">{severity}</span>'
    yield f"<h3>{safe(finding.summary, SHOWN_TEXT)}</h3>"
    yield (
        f'<p class="soft">{price_words(finding)}; {safe(sure_words(finding))};'
        f" <code>{safe(finding.rule_id)}</code></p>"
    )
    yield f"<p>{safe(finding.explanation, SHOWN_TEXT)}</p>"
    if finding.remedy:
        yield "<p><strong>What to change</strong></p><ul>"
        for remedy in finding.remedy:
            code = "" if remedy.code is None else f"<pre>{code_of(remedy.code)}</pre>"
            yield f"<li>{safe(remedy.text, SHOWN_TEXT)}{code}</li>"
        yield "</ul>"
    if finding.verify:
        yield f"<p><strong>To verify:</strong> {safe(finding.verify, SHOWN_TEXT)}</p>"
    for other in finding.could_also_be:
        yield f'<p class="soft">could also be: {safe(other, SHOWN_TEXT)}</p>'
    if finding.evidence:
        rows = [list(map(safe, evidence_words(each))) for each in finding.evidence]
        yield folded("evidence", table_of(("metric", "value", "threshold"), rows))
    yield "</article>"


def _bottlenecks(snapshot: Snapshot) -> Iterator[str]:
    found = snapshot.bottlenecks
    if found is None:
        return
    if found.not_told is not None:
        yield f"<p>{safe(found.not_told)}</p>"
        return
    rows = [
        (
            str(number),
            safe(title_words(one)),
            units.cores(one.gain_cores),
            units.seconds(one.wait_ns) if one.wait_ns > 0 else "",
            "" if one.wall_ratio is None else units.percent(one.wall_ratio),
            safe(place_words(one.places[0])) if one.places else "",
        )
        for number, one in enumerate(worth_saying(found)[:SHOWN_BOTTLENECKS], 1)
    ]
    if rows:
        names = ("", "what", "cores", "waiting that ends here", "of the time", "mostly at")
        yield table_of(names, rows, numbers=(0, 2, 3, 4))
    graph = graph_svg(found, lambda text: visible(text, limit=200))
    if graph is not None:
        yield folded("Who waits for whom", graph)


def _states(snapshot: Snapshot) -> Iterator[str]:
    states = snapshot.metrics.states_ns
    whole = sum(states.values())
    if whole > 0:
        yield f'<p class="soft">{units.seconds(whole)} of thread-time</p>'
        yield bar_of(states, whole, big=True)
        yield legend(
            (
                state,
                f"{units.share(spent, whole)}, {units.seconds(spent)}{state_note(state, snapshot.metrics)}",
            )
            for state, spent in longest(states)
        )


def _cores(snapshot: Snapshot) -> Iterator[str]:
    metrics = snapshot.metrics
    if snapshot.imported is not None or (not metrics.ticks and not metrics.states_ns):
        return
    capacity = metrics.capacity_cores
    if capacity is not None and capacity > 0:
        reason = f" ({safe(metrics.capacity_reason)})" if metrics.capacity_reason else ""
        yield f"<p>capacity: {units.cores(capacity)} cores{reason}</p>"
        yield account_bar(metrics)
    facts = [
        ("useful", None if (useful := useful_words(metrics)) is None else f"{useful} cores"),
        ("ideal", _cores_words(metrics.ideal_speedup)),
        ("efficiency", efficiency_words(metrics)),
        ("on CPU", f"{metrics.on_cpu_cores:.2f} cores"),
        (
            f"of that by {PART_NAMES[CorePart.UNSEEN_THREADS]}",
            unseen_words(metrics) or _cores_words(metrics.unseen_threads_cores),
        ),
        (STATE_NAMES[ThreadState.RUNNABLE], f"{metrics.run_queue_cores:.2f} cores"),
        (
            "load balance",
            None if metrics.load_balance_ratio is None else units.percent(metrics.load_balance_ratio),
        ),
        (
            "serial share",
            None if metrics.serial_share_ratio is None else units.percent(metrics.serial_share_ratio),
        ),
        ("threads with work", f"{metrics.threads_with_work:,} of {metrics.threads:,}"),
    ]
    yield table_of([name for name, _ in facts], [[value or "not measured" for _, value in facts]])
    if metrics.concurrency:
        yield "<p>Threads at once on a core or waiting for one, share of the ticks:</p>"
        yield histogram(metrics.concurrency)


def _cores_words(cores: float | None) -> str | None:
    return None if cores is None else f"{cores:.2f} cores"


def _threads(snapshot: Snapshot) -> Iterator[str]:
    listed = sorted(snapshot.threads, key=_activity)[:SHOWN_THREADS]
    if not listed:
        return
    rows = []
    for thread in listed:
        hot = f'<div class="place">{place_of(thread.hot[0].frame)}</div>' if thread.hot else ""
        rows.append(
            [
                f"{safe(thread.info.name)}<div class='soft'>tid {thread.info.tid}, {safe(thread.role)}</div>",
                units.seconds(thread.alive_ns),
                units.seconds(thread.cpu_ns),
                bar_of(thread.states_ns, thread.alive_ns)
                + f"<div class='soft'>{states_words(thread.states_ns, thread.alive_ns)}</div>",
                hot + _main_wait(thread),
            ]
        )
    yield table_of(("thread", "alive", "CPU", "states", "most at"), rows, numbers=(1, 2))
    yield from rest_of(len(snapshot.threads) - len(listed), "thread")


def _hot(snapshot: Snapshot) -> Iterator[str]:
    whole = sum(snapshot.metrics.states_ns.values())
    rows = []
    for line in snapshot.hot[:SHOWN_LINES]:
        shared = ", ".join(safe(object_words(one)) for one in line.shared)
        native = ", ".join(
            f"{safe(symbol)} {units.percent(share)}" for symbol, share in line.native[:SHOWN_SYMBOLS]
        )
        callers = "".join(
            folded(f"{units.share(spent, line.total_ns)} by way of", stack_of(stack))
            for stack, spent in line.stacks[:SHOWN_STACKS]
            if len(stack) > 1
        )
        rows.append(
            [
                f'<div class="place">{place_of(line.frame)}</div>'
                + (f"<div>shared by threads: {shared}</div>" if shared else "")
                + (f'<div class="soft">machine code: {native}</div>' if native else "")
                + _allocates(line.allocations, snapshot.allocations)
                + callers,
                f"{units.share(line.total_ns, whole)}<br>{units.seconds(line.total_ns)}",
                f"{line.threads:,}",
                bar_of(line.states_ns, line.total_ns)
                + f"<div class='soft'>{states_words(line.states_ns, line.total_ns)}</div>",
            ]
        )
    if rows:
        yield table_of(("line", "time", "threads", "states"), rows, numbers=(1, 2))
        yield from rest_of(len(snapshot.hot) - len(rows), "line")


def _allocates(own: LineAllocations | None, capture: Allocations | None) -> str:
    if own is None or capture is None:
        return ""
    return f'<div class="soft">allocates: {escape(line_words(own, capture))}</div>'


def _locks(snapshot: Snapshot) -> Iterator[str]:
    for lock in snapshot.locks[:SHOWN_LOCKS]:
        yield '<article class="card">'
        yield f"<h3>{escape(metrics_words(lock, visible))}</h3>"
        yield (
            f"<p>waited for {units.seconds(lock.wait_ns)}, {units.seconds(lock.critical_wait_ns)} of it while"
            f" cores were free; on average {lock.mean_queue:.1f} waiters, at most"
            f" {lock.waiters_max:,}; longest wait {units.seconds(lock.longest_wait_ns)}</p>"
        )
        if lock.of_object is not None:
            yield f"<p>of {safe(locked_words(lock.of_object))}</p>"
        if lock.holders:
            rows = [_holder(holder) for holder in lock.holders[:SHOWN_PEOPLE]]
            yield table_of(("held by", "blame", "known how", "at"), rows, numbers=(1,))
        if lock.waiters:
            rows = [_waiter(waiter) for waiter in lock.waiters[:SHOWN_PEOPLE]]
            yield table_of(("waits", "time", "at"), rows, numbers=(1,))
        yield "</article>"
    yield from rest_of(len(snapshot.locks) - SHOWN_LOCKS, "lock")


def _pauses(pauses: Sequence[Pauses], collector: CollectorMetrics | None) -> Iterator[str]:
    if collector is not None:
        yield f"<p>{safe(collections_words(collector))}</p>"
    rows = [
        [
            "not known" if each.requester is None else safe(each.requester.name),
            "not known" if each.reason is None else safe(each.reason),
            CONFIDENCE_NAMES[each.confidence],
            f"{each.count:,}",
            units.seconds(each.total_ns),
            units.seconds(each.longest_ns),
            f"{each.threads_max:,}",
            stack_of(each.stack[:SHOWN_STACKS]),
        ]
        for each in pauses
    ]
    if rows:
        names = (
            "asked for by",
            "reason",
            "known how",
            "pauses, at least",
            "time",
            "longest",
            "threads",
            "at",
        )
        yield table_of(names, rows, numbers=(3, 4, 5, 6))


def _memory(snapshot: Snapshot) -> Iterator[str]:
    """The sentences of the text report; what belongs to one of them is set in."""
    items: list[tuple[str, list[str]]] = []
    for indent, sentence in memory_sentences(snapshot, frame_text, visible):
        if indent == ITEM or not items:
            items.append((sentence, []))
        else:
            items[-1][1].append(sentence)
    if items:
        yield "<ul>"
        for sentence, details in items:
            parts = "".join(f"<li>{escape(detail)}</li>" for detail in details)
            yield f"<li>{escape(sentence)}{f'<ul>{parts}</ul>' if parts else ''}</li>"
        yield "</ul>"


def _allocations(capture: Allocations | None) -> Iterator[str]:
    """What memray counted: all of it, its lines and its threads, those first that allocate most."""
    if capture is None:
        return
    yield f"<p>{escape(about_words(capture))}</p><p>{escape(total_words(capture))}</p>"
    rows = []
    for line in capture.lines[:SHOWN_ALLOCATING]:
        way = folded("most by way of", stack_of(line.stack)) if len(line.stack) > 1 else ""
        rows.append(
            [
                f'<div class="place">{place_of(line.frame)}</div>{way}',
                units.count(line.count),
                *_rates(line, capture),
                units.size(line.peak_bytes),
                units.size(line.left_bytes) + ("" if not line.left_count else f"<br>in {line.left_count:,}"),
            ]
        )
    if rows:
        names = ["line", *_ALLOCATIONS, "of the largest heap", "not freed"]
        yield table_of(names, rows, numbers=range(1, 7))
        yield from rest_of(len(capture.lines) - len(rows) + capture.lines_left_out, "line")
    threads = [thread for thread in capture.threads if thread.count or thread.left_bytes]
    rows = [
        [
            escape(thread_name(thread, visible)),
            units.count(thread.count),
            *_rates(thread, capture),
            units.size(thread.left_bytes),
        ]
        for thread in threads[:SHOWN_ALLOCATING]
    ]
    if rows:
        yield table_of(["thread", *_ALLOCATIONS, "not freed"], rows, numbers=range(1, 6))
        yield from rest_of(len(threads) - len(rows), "thread")
    for sentence in not_measured_words(capture, visible):
        yield f'<p class="soft">{escape(sentence)}</p>'


def _rates(row: LineAllocations | ThreadAllocations, capture: Allocations) -> list[str]:
    """Allocations and bytes a second, the share that is temporary."""
    rate, size_rate = capture.per_second(row.count), capture.per_second(row.size_bytes)
    share = row.temporary / row.count if row.count and row.temporary is not None else None
    return [rate_words(rate), units.size(size_rate), units.percent(share)]


def _quality(snapshot: Snapshot) -> Iterator[str]:
    quality = snapshot.quality
    figures = [
        (UNKNOWN, quality.unknown_ratio),
        (CLASSIFIED, quality.classified_cpu_ratio),
        (TORN, quality.torn_ratio),
        (MISSED, quality.missed_tick_ratio),
        (f"{OWN_COST}, of a core", quality.sampler_cpu_ratio),
        ("time in which machine code was sampled", quality.native_sampled_ratio),
        ("error of shares by machine code, at most", quality.native_error_ratio),
        ("CPU time in functions of a stripped Python without a name", quality.unnamed_cpu_ratio or None),
    ]
    rows = [[name, units.percent(value, 1)] for name, value in figures if value is not None]
    if quality.native_lost:
        rows.append(["native samples dropped by the kernel", f"{quality.native_lost:,}"])
    if rows:
        yield table_of(("figure", "value"), rows, numbers=(1,))
    if quality.not_measured:
        missing = [[safe(figure_name(name)), safe(why)] for name, why in sorted(quality.not_measured.items())]
        yield table_of(("not measured", "why"), missing[:SHOWN_GAPS])
    if quality.gaps:
        gaps = [[safe(gap.what), safe(gap.why), f"{gap.count:,}"] for gap in quality.gaps[:SHOWN_GAPS]]
        yield table_of(("could not be read", "why", "times"), gaps, numbers=(2,))
        yield from rest_of(len(quality.gaps) - SHOWN_GAPS, "kind of gaps", "kinds of gaps")
    if snapshot.settings.machine_code is not None:
        yield f'<p class="soft">machine code: {safe(snapshot.settings.machine_code)}</p>'


def _holder(holder: LockHolder) -> list[str]:
    return [
        escape(holder_words(holder, visible)),
        units.seconds(holder.blame_ns),
        CONFIDENCE_NAMES[holder.confidence],
        stack_of(holder.stack[:SHOWN_STACKS]),
    ]


def _waiter(waiter: LockWaiter) -> list[str]:
    return [safe(waiter.thread.name), units.seconds(waiter.wait_ns), stack_of(waiter.stack[:SHOWN_STACKS])]


def _main_wait(thread: ThreadMetrics) -> str:
    words = main_wait_words(thread, shown=visible)
    if not words:
        return ""
    return (
        f"<div class='soft'>waits most for {escape(words)}:"
        f" {units.share(thread.waits[0][1], thread.alive_ns)}</div>"
    )


def _activity(thread: ThreadMetrics) -> tuple[float, int]:
    apart = sum(
        thread.states_ns.get(state, 0.0) for state in (ThreadState.IDLE, ThreadState.SLEEP, ThreadState.IO)
    )
    return apart - thread.alive_ns, thread.info.index
