"""The HTML report: one file for mail and tickets, with charts, that needs nothing else and runs no code.

In: a `Snapshot`. Out: `render`: a whole document, in ASCII. Everything that the target chose is made visible
and escaped; a content security policy forbids scripts and what is not in the file, should that ever fail.
Tables are bounded: 500 threads stay readable, the JSON report has them all.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from ftdiag.model import (
    Allocations,
    CollectorMetrics,
    Confidence,
    CorePart,
    Finding,
    Frame,
    LineAllocations,
    LockHolder,
    LockWaiter,
    Metrics,
    Pauses,
    SharedObject,
    Snapshot,
    Stack,
    ThreadAllocations,
    ThreadMetrics,
    ThreadState,
)
from ftdiag.reports.allocations import (
    about_words,
    line_words,
    not_measured_words,
    rate_words,
    thread_name,
    total_words,
)
from ftdiag.reports.bottlenecks import graph_svg, place_words, title_words, worth_saying
from ftdiag.reports.escaping import visible
from ftdiag.reports.memory import ITEM, memory_sentences
from ftdiag.reports.text import headline
from ftdiag.wording import units
from ftdiag.wording.account import SAID_CORES, efficiency_words, part_name, useful_words
from ftdiag.wording.findings import evidence_words, price_words, sure_words
from ftdiag.wording.locks import collections_words, holder_words, main_wait_words, metrics_words
from ftdiag.wording.places import frame_words
from ftdiag.wording.quality import CLASSIFIED, MISSED, OWN_COST, TORN, UNKNOWN, figure_name
from ftdiag.wording.states import (
    BAR_ORDER,
    CONFIDENCE_NAMES,
    PART_NAMES,
    STATE_COLOURS,
    STATE_NAMES,
    STATE_OF_PART,
    Colour,
    longest,
    split_words,
)

SHOWN_THREADS: Final = 100
SHOWN_LINES: Final = 40
SHOWN_BOTTLENECKS: Final = 10
SHOWN_LOCKS: Final = 30
SHOWN_ALLOCATING: Final = 40
"""Lines, and threads, of a capture of memray."""
SHOWN_PEOPLE: Final = 8
"""Waiters and holders of one lock."""
SHOWN_FRAMES: Final = 24
SHOWN_STACKS: Final = 3
SHOWN_SYMBOLS: Final = 5
SHOWN_FINDINGS: Final = 60
SHOWN_GAPS: Final = 40
SHOWN_BARS: Final = 64
"""Columns of the concurrency chart; the last one has the rest."""
SHOWN_TEXT: Final = 2000
"""Characters of an explanation."""

_ALLOCATIONS: Final = ("allocations", "a second", "bytes a second", "temporary")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root{@light}
@media (prefers-color-scheme:dark){:root{@dark}}
:root{color-scheme:light dark;--back:#fff;--text:#1c2126;--soft:#5b6670;--line:#d7dde2;--card:#f5f7f9;
--info:#3a78c2;--warning:#b97a10;--critical:#b3261e}
@media (prefers-color-scheme:dark){:root{--back:#15191d;--text:#e6eaee;--soft:#9aa6b1;--line:#333c44;
--card:#1d2329;--info:#78aef0;--warning:#e6ad4c;--critical:#f2857d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.35rem;margin:0 0 .4rem}
h2{font-size:1.1rem;margin:2rem 0 .6rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .3rem}p{margin:.3rem 0}.soft{color:var(--soft)}
code,pre,.place{font-family:ui-monospace,monospace;font-size:.88em;overflow-wrap:anywhere}
pre{background:var(--back);border:1px solid var(--line);padding:.5rem;white-space:pre-wrap;margin:.3rem 0}
table{border-collapse:collapse;width:100%;font-size:.92em}
th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;white-space:nowrap}td{overflow-wrap:anywhere}
.bar{display:flex;height:1rem;min-width:8rem;border-radius:3px;overflow:hidden;background:var(--line)}
.bar.big{height:1.8rem}
.bar span{display:block;min-width:0;-webkit-print-color-adjust:exact;print-color-adjust:exact}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.35em;
-webkit-print-color-adjust:exact;print-color-adjust:exact}
ul.legend{list-style:none;padding:0;margin:.5rem 0;display:flex;flex-wrap:wrap;gap:.15rem 1.2rem}
.card{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--info);
border-radius:4px;padding:.7rem 1rem;margin:.7rem 0;break-inside:avoid}
.card.warning{border-left-color:var(--warning)}.card.critical{border-left-color:var(--critical)}
.tag{font-size:.8em;font-weight:600;text-transform:uppercase;letter-spacing:.04em;color:var(--info)}
.warning>.tag{color:var(--warning)}.critical>.tag{color:var(--critical)}
details{margin:.2rem 0}summary{cursor:pointer;color:var(--soft)}
svg{display:block;width:100%;height:auto;max-width:44rem}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
@media print{body{max-width:none;padding:0;font-size:11px}tr{break-inside:avoid}h2{break-after:avoid}}
"""


def render(snapshot: Snapshot) -> str:
    """The document."""
    title = f"ftdiag: pid {snapshot.target.pid}"
    body = "\n".join(_body(snapshot))
    document = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    return document.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _style() -> str:
    return _STYLE.replace("@light", _palette(lambda each: each.light)).replace(
        "@dark", _palette(lambda each: each.dark)
    )


def _body(snapshot: Snapshot) -> Iterator[str]:
    yield "<header>"
    yield f"<h1>{_escape(headline(snapshot))}</h1>"
    for line in _target(snapshot):
        yield f'<p class="soft">{line}</p>'
    yield "</header>\n<main>"
    yield from _section("Findings", _findings(snapshot))
    yield from _section("Fix this first", _bottlenecks(snapshot))
    yield from _section("Where thread-time goes", _states(snapshot))
    yield from _section("Cores", _cores(snapshot))
    yield from _section(_counted("Threads", SHOWN_THREADS, len(snapshot.threads)), _threads(snapshot))
    yield from _section(_counted("Hot lines", SHOWN_LINES, len(snapshot.hot)), _hot(snapshot))
    yield from _section(_counted("Locks", SHOWN_LOCKS, len(snapshot.locks)), _locks(snapshot))
    yield from _section("Stop-the-world pauses", _pauses(snapshot.pauses, snapshot.collector))
    yield from _section("Memory", _memory(snapshot))
    yield from _section("Allocations", _allocations(snapshot.allocations))
    yield from _section("How far this can be trusted", _quality(snapshot))
    yield "</main>"


def _section(heading: str, parts: Iterable[str]) -> Iterator[str]:
    """A heading and its parts; nothing where there are none."""
    made = list(parts)
    if made:
        yield f"<section>\n<h2>{_escape(heading)}</h2>"
        yield from made
        yield "</section>"


# --- sections ------------------------------------------------------------------------------------------


def _target(snapshot: Snapshot) -> Iterator[str]:
    target, metrics = snapshot.target, snapshot.metrics
    gil = {None: "GIL state not known", True: "GIL on", False: "GIL off"}[target.gil_enabled]
    build = "free-threaded" if target.free_threaded else "GIL build"
    yield f"pid {target.pid}, CPython {_safe(target.python_version)} {build}, {gil}"
    if target.gil_culprits:
        yield f"modules that turned the GIL on: {', '.join(map(_safe, target.gil_culprits[:SHOWN_PEOPLE]))}"
    yield f"<code>{_safe(target.command)}</code>"
    unix_ns = snapshot.settings.started_unix_ns + snapshot.t0_ns - snapshot.settings.started_ns
    try:
        start = f" from {datetime.fromtimestamp(unix_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        start = ""
    yield (
        f"{units.seconds(metrics.duration_ns)} recorded{start},"
        f" {units.plural(metrics.ticks, 'tick')} at {snapshot.settings.rate_hz:g} Hz"
        f" on {_safe(snapshot.settings.host)}"
    )
    if snapshot.end is not None:
        yield f"recording ended: {_safe(snapshot.end.detail or snapshot.end.reason.value)}"


def _findings(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.workload is not None:
        yield f"<p>{_safe(snapshot.workload.kind)}: {_safe(snapshot.workload.advice, SHOWN_TEXT)}</p>"
    for finding in snapshot.findings[:SHOWN_FINDINGS]:
        yield from _finding(finding)
    if not snapshot.findings and (snapshot.metrics.ticks or snapshot.threads):
        yield "<p>No rule found a cause that costs cores.</p>"
    if snapshot.not_applicable:
        rows = [[_safe(rule), _safe(reason)] for rule, reason in snapshot.not_applicable]
        yield _folded(f"{len(rows)} rules could not be applied", _table(("rule", "why"), rows))


def _finding(finding: Finding) -> Iterator[str]:
    severity = finding.severity.value
    yield f'<article class="card {severity}"><span class="tag">{severity}</span>'
    yield f"<h3>{_safe(finding.summary, SHOWN_TEXT)}</h3>"
    yield (
        f'<p class="soft">{price_words(finding)}; {_safe(sure_words(finding))};'
        f" <code>{_safe(finding.rule_id)}</code></p>"
    )
    yield f"<p>{_safe(finding.explanation, SHOWN_TEXT)}</p>"
    if finding.remedy:
        yield "<p><strong>What to change</strong></p><ul>"
        for remedy in finding.remedy:
            code = "" if remedy.code is None else f"<pre>{_code(remedy.code)}</pre>"
            yield f"<li>{_safe(remedy.text, SHOWN_TEXT)}{code}</li>"
        yield "</ul>"
    if finding.verify:
        yield f"<p><strong>To verify:</strong> {_safe(finding.verify, SHOWN_TEXT)}</p>"
    for other in finding.could_also_be:
        yield f'<p class="soft">could also be: {_safe(other, SHOWN_TEXT)}</p>'
    if finding.evidence:
        rows = [list(map(_safe, evidence_words(each))) for each in finding.evidence]
        yield _folded("evidence", _table(("metric", "value", "threshold"), rows))
    yield "</article>"


def _bottlenecks(snapshot: Snapshot) -> Iterator[str]:
    found = snapshot.bottlenecks
    if found is None:
        return
    if found.not_told is not None:
        yield f"<p>{_safe(found.not_told)}</p>"
        return
    rows = [
        (
            str(number),
            _safe(title_words(one)),
            units.cores(one.gain_cores),
            units.seconds(one.wait_ns) if one.wait_ns > 0 else "",
            "" if one.wall_ratio is None else units.percent(one.wall_ratio),
            _safe(place_words(one.places[0])) if one.places else "",
        )
        for number, one in enumerate(worth_saying(found)[:SHOWN_BOTTLENECKS], 1)
    ]
    if rows:
        names = ("", "what", "cores", "waiting that ends here", "of the time", "mostly at")
        yield _table(names, rows, numbers=(0, 2, 3, 4))
    graph = graph_svg(found, lambda text: visible(text, limit=200))
    if graph is not None:
        yield _folded("Who waits for whom", graph)


def _states(snapshot: Snapshot) -> Iterator[str]:
    states = snapshot.metrics.states_ns
    whole = sum(states.values())
    if whole > 0:
        yield f'<p class="soft">{units.seconds(whole)} of thread-time</p>'
        yield _bar(states, whole, big=True)
        yield _legend(
            (state, f"{units.share(spent, whole)}, {units.seconds(spent)}")
            for state, spent in longest(states)
        )


def _cores(snapshot: Snapshot) -> Iterator[str]:
    metrics = snapshot.metrics
    if snapshot.imported is not None or (not metrics.ticks and not metrics.states_ns):
        return
    capacity = metrics.capacity_cores
    if capacity is not None and capacity > 0:
        reason = f" ({_safe(metrics.capacity_reason)})" if metrics.capacity_reason else ""
        yield f"<p>capacity: {units.cores(capacity)} cores{reason}</p>"
        yield _account(metrics)
    facts = [
        ("useful", None if (useful := useful_words(metrics)) is None else f"{useful} cores"),
        ("ideal", _cores_words(metrics.ideal_speedup)),
        ("efficiency", efficiency_words(metrics)),
        ("on CPU", f"{metrics.on_cpu_cores:.2f} cores"),
        (f"of that by {PART_NAMES[CorePart.UNSEEN_THREADS]}", _cores_words(metrics.unseen_threads_cores)),
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
    yield _table([name for name, _ in facts], [[value or "not measured" for _, value in facts]])
    if metrics.concurrency:
        yield "<p>Threads at once on a core or waiting for one, share of the ticks:</p>"
        yield _histogram(metrics.concurrency)


def _account(metrics: Metrics) -> str:
    """The account of cores as a bar as long as the capacity, with its legend."""
    parts = [(part, cores) for part, cores in metrics.account.items() if cores >= SAID_CORES]
    whole = sum(metrics.account.values())
    named = [(part, f"{_escape(part_name(part, metrics))}: {cores:.2f} cores") for part, cores in parts]
    pieces = "".join(
        f'<span style="width:{_width(cores, whole):.2f}%;background:{_colour(STATE_OF_PART[part])}"'
        f' title="{text}"></span>'
        for (part, cores), (_, text) in zip(parts, named, strict=True)
    )
    entries = "".join(
        f'<li><span class="key" style="background:{_colour(STATE_OF_PART[part])}"></span>{text}</li>'
        for part, text in named
    )
    label = "; ".join(text for _, text in named)
    return (
        f'<div class="bar big" role="img" aria-label="{label}">{pieces}</div>'
        f'<ul class="legend">{entries}</ul>'
    )


def _cores_words(cores: float | None) -> str | None:
    return None if cores is None else f"{cores:.2f} cores"


def _threads(snapshot: Snapshot) -> Iterator[str]:
    listed = sorted(snapshot.threads, key=_activity)[:SHOWN_THREADS]
    if not listed:
        return
    rows = []
    for thread in listed:
        hot = f'<div class="place">{_place(thread.hot[0].frame)}</div>' if thread.hot else ""
        rows.append(
            [
                f"{_safe(thread.info.name)}"
                f"<div class='soft'>tid {thread.info.tid}, {_safe(thread.role)}</div>",
                units.seconds(thread.alive_ns),
                units.seconds(thread.cpu_ns),
                _bar(thread.states_ns, thread.alive_ns)
                + f"<div class='soft'>{_states_words(thread.states_ns, thread.alive_ns)}</div>",
                hot + _main_wait(thread),
            ]
        )
    yield _table(("thread", "alive", "CPU", "states", "most at"), rows, numbers=(1, 2))
    yield from _rest(len(snapshot.threads) - len(listed), "thread")


def _hot(snapshot: Snapshot) -> Iterator[str]:
    whole = sum(snapshot.metrics.states_ns.values())
    rows = []
    for line in snapshot.hot[:SHOWN_LINES]:
        shared = ", ".join(map(_shared, line.shared))
        native = ", ".join(
            f"{_safe(symbol)} {units.percent(share)}" for symbol, share in line.native[:SHOWN_SYMBOLS]
        )
        callers = "".join(
            _folded(f"{units.share(spent, line.total_ns)} by way of", _stack(stack))
            for stack, spent in line.stacks[:SHOWN_STACKS]
            if len(stack) > 1
        )
        rows.append(
            [
                f'<div class="place">{_place(line.frame)}</div>'
                + (f"<div>shared by threads: {shared}</div>" if shared else "")
                + (f'<div class="soft">machine code: {native}</div>' if native else "")
                + _allocates(line.allocations, snapshot.allocations)
                + callers,
                f"{units.share(line.total_ns, whole)}<br>{units.seconds(line.total_ns)}",
                f"{line.threads:,}",
                _bar(line.states_ns, line.total_ns)
                + f"<div class='soft'>{_states_words(line.states_ns, line.total_ns)}</div>",
            ]
        )
    if rows:
        yield _table(("line", "time", "threads", "states"), rows, numbers=(1, 2))
        yield from _rest(len(snapshot.hot) - len(rows), "line")


def _allocates(own: LineAllocations | None, capture: Allocations | None) -> str:
    if own is None or capture is None:
        return ""
    return f'<div class="soft">allocates: {_escape(line_words(own, capture))}</div>'


def _locks(snapshot: Snapshot) -> Iterator[str]:
    for lock in snapshot.locks[:SHOWN_LOCKS]:
        yield '<article class="card">'
        yield f"<h3>{_escape(metrics_words(lock, visible))}</h3>"
        yield (
            f"<p>waited for {units.seconds(lock.wait_ns)}, {units.seconds(lock.critical_wait_ns)} of it while"
            f" cores were free; on average {lock.mean_queue:.1f} waiters, at most"
            f" {lock.waiters_max:,}; longest wait {units.seconds(lock.longest_wait_ns)}</p>"
        )
        if lock.holders:
            rows = [_holder(holder) for holder in lock.holders[:SHOWN_PEOPLE]]
            yield _table(("held by", "blame", "known how", "at"), rows, numbers=(1,))
        if lock.waiters:
            rows = [_waiter(waiter) for waiter in lock.waiters[:SHOWN_PEOPLE]]
            yield _table(("waits", "time", "at"), rows, numbers=(1,))
        yield "</article>"
    yield from _rest(len(snapshot.locks) - SHOWN_LOCKS, "lock")


def _pauses(pauses: Sequence[Pauses], collector: CollectorMetrics | None) -> Iterator[str]:
    if collector is not None:
        yield f"<p>{_safe(collections_words(collector))}</p>"
    rows = [
        [
            "not known" if each.requester is None else _safe(each.requester.name),
            "not known" if each.reason is None else _safe(each.reason),
            CONFIDENCE_NAMES[each.confidence],
            f"{each.count:,}",
            units.seconds(each.total_ns),
            units.seconds(each.longest_ns),
            f"{each.threads_max:,}",
            _stack(each.stack[:SHOWN_STACKS]),
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
        yield _table(names, rows, numbers=(3, 4, 5, 6))


def _memory(snapshot: Snapshot) -> Iterator[str]:
    """The sentences of the text report; what belongs to one of them is set in."""
    items: list[tuple[str, list[str]]] = []
    for indent, sentence in memory_sentences(snapshot, _place_words, visible):
        if indent == ITEM or not items:
            items.append((sentence, []))
        else:
            items[-1][1].append(sentence)
    if items:
        yield "<ul>"
        for sentence, details in items:
            parts = "".join(f"<li>{_escape(detail)}</li>" for detail in details)
            yield f"<li>{_escape(sentence)}{f'<ul>{parts}</ul>' if parts else ''}</li>"
        yield "</ul>"


def _allocations(capture: Allocations | None) -> Iterator[str]:
    """What memray counted: all of it, its lines and its threads, those first that allocate most."""
    if capture is None:
        return
    yield f"<p>{_escape(about_words(capture))}</p><p>{_escape(total_words(capture))}</p>"
    rows = []
    for line in capture.lines[:SHOWN_ALLOCATING]:
        way = _folded("most by way of", _stack(line.stack)) if len(line.stack) > 1 else ""
        rows.append(
            [
                f'<div class="place">{_place(line.frame)}</div>{way}',
                units.count(line.count),
                *_rates(line, capture),
                units.size(line.peak_bytes),
                units.size(line.left_bytes) + ("" if not line.left_count else f"<br>in {line.left_count:,}"),
            ]
        )
    if rows:
        names = ["line", *_ALLOCATIONS, "of the largest heap", "not freed"]
        yield _table(names, rows, numbers=range(1, 7))
        yield from _rest(len(capture.lines) - len(rows) + capture.lines_left_out, "line")
    threads = [thread for thread in capture.threads if thread.count or thread.left_bytes]
    rows = [
        [
            _escape(thread_name(thread, visible)),
            units.count(thread.count),
            *_rates(thread, capture),
            units.size(thread.left_bytes),
        ]
        for thread in threads[:SHOWN_ALLOCATING]
    ]
    if rows:
        yield _table(["thread", *_ALLOCATIONS, "not freed"], rows, numbers=range(1, 6))
        yield from _rest(len(threads) - len(rows), "thread")
    for sentence in not_measured_words(capture, visible):
        yield f'<p class="soft">{_escape(sentence)}</p>'


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
        yield _table(("figure", "value"), rows, numbers=(1,))
    if quality.not_measured:
        missing = [
            [_safe(figure_name(name)), _safe(why)] for name, why in sorted(quality.not_measured.items())
        ]
        yield _table(("not measured", "why"), missing[:SHOWN_GAPS])
    if quality.gaps:
        gaps = [[_safe(gap.what), _safe(gap.why), f"{gap.count:,}"] for gap in quality.gaps[:SHOWN_GAPS]]
        yield _table(("could not be read", "why", "times"), gaps, numbers=(2,))
        yield from _rest(len(quality.gaps) - SHOWN_GAPS, "kind of gaps", "kinds of gaps")
    if snapshot.settings.machine_code is not None:
        yield f'<p class="soft">machine code: {_safe(snapshot.settings.machine_code)}</p>'


# --- charts --------------------------------------------------------------------------------------------


def _bar(states: Mapping[ThreadState, float], whole: float, *, big: bool = False) -> str:
    """A bar in one line, split by state; read aloud as its shares."""
    pieces = "".join(
        f'<span style="width:{width:.2f}%;background:{_colour(state)}"'
        f' title="{_escape(STATE_NAMES[state])} {units.share(spent, whole)}"></span>'
        for state, spent in _in_order(states)
        if (width := _width(spent, whole)) >= 0.05
    )
    label = _states_words(states, whole)
    return f'<div class="bar{" big" if big else ""}" role="img" aria-label="{label}">{pieces}</div>'


def _legend(items: Iterable[tuple[ThreadState, str]], names: Mapping[ThreadState, str] = STATE_NAMES) -> str:
    entries = "".join(
        f'<li><span class="key" style="background:{_colour(state)}"></span>'
        f"{_escape(names[state])}: {value}</li>"
        for state, value in items
    )
    return f'<ul class="legend">{entries}</ul>'


def _histogram(concurrency: Sequence[float]) -> str:
    """How many threads at once, as columns."""
    shares = [max(0.0, share) if math.isfinite(share) else 0.0 for share in concurrency]
    if len(shares) > SHOWN_BARS:
        shares = [*shares[: SHOWN_BARS - 1], sum(shares[SHOWN_BARS - 1 :])]
    width, height, gap = 640.0, 110.0, 3.0
    column = width / len(shares)
    top = max(shares) or 1.0
    every = 1 + len(shares) // 24
    parts = []
    for count, share in enumerate(shares):
        tall = height * share / top
        left = count * column
        more = " or more" if count == SHOWN_BARS - 1 else ""
        parts.append(
            f'<rect x="{left:.1f}" y="{height - tall + 14:.1f}" width="{max(1.0, column - gap):.1f}"'
            f' height="{tall:.1f}" style="fill:{_colour(ThreadState.WORK)}">'
            f"<title>{count}{more} threads: {units.percent(share)}</title></rect>"
        )
        middle = left + (column - gap) / 2
        if count % every == 0:
            parts.append(f'<text x="{middle:.1f}" y="{height + 28:.0f}" text-anchor="middle">{count}</text>')
        if share >= 0.005 and len(shares) <= 24:
            parts.append(
                f'<text x="{middle:.1f}" y="{height - tall + 10:.1f}" text-anchor="middle">'
                f"{units.percent(share)}</text>"
            )
    label = ", ".join(
        f"{count} in {units.percent(share)}" for count, share in enumerate(shares) if share >= 0.005
    )
    return (
        f'<svg viewBox="0 0 {width:.0f} {height + 34:.0f}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


# --- parts ---------------------------------------------------------------------------------------------


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; the columns in `numbers` are set to the right."""
    classes = [' class="n"' if place in numbers else "" for place in range(len(names))]
    head = "".join(
        f'<th scope="col"{kind}>{_escape(name)}</th>' for name, kind in zip(names, classes, strict=True)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{_escape(summary)}</summary>{content}</details>"


def _rest(left: int, noun: str, nouns: str | None = None) -> Iterator[str]:
    if left > 0:
        more = units.plural(left, f"more {noun}", None if nouns is None else f"more {nouns}")
        yield f'<p class="soft">and {more}</p>'


def _counted(heading: str, shown: int, present: int) -> str:
    return f"{heading} ({shown} of {present:,} shown)" if present > shown else heading


def _stack(stack: Stack) -> str:
    frames = "<br>".join(_place(frame) for frame in stack[:SHOWN_FRAMES])
    more = len(stack) - SHOWN_FRAMES
    return f'<div class="place">{frames}{f"<br>and {more:,} outer frames" if more > 0 else ""}</div>'


def _place(frame: Frame) -> str:
    return _escape(_place_words(frame))


def _place_words(frame: Frame) -> str:
    """A place that is not escaped yet."""
    return frame_words(frame, visible)


def _shared(one: SharedObject) -> str:
    possibly = "" if one.confidence is Confidence.KNOWN else ", possibly"
    return f"<code>{_safe(one.name)}</code> ({_safe(one.type_name)}{possibly})"


def _holder(holder: LockHolder) -> list[str]:
    return [
        _escape(holder_words(holder, visible)),
        units.seconds(holder.blame_ns),
        CONFIDENCE_NAMES[holder.confidence],
        _stack(holder.stack[:SHOWN_STACKS]),
    ]


def _waiter(waiter: LockWaiter) -> list[str]:
    return [_safe(waiter.thread.name), units.seconds(waiter.wait_ns), _stack(waiter.stack[:SHOWN_STACKS])]


def _main_wait(thread: ThreadMetrics) -> str:
    words = main_wait_words(thread, shown=visible)
    if not words:
        return ""
    return (
        f"<div class='soft'>waits most for {_escape(words)}:"
        f" {units.share(thread.waits[0][1], thread.alive_ns)}</div>"
    )


def _activity(thread: ThreadMetrics) -> tuple[float, int]:
    apart = sum(
        thread.states_ns.get(state, 0.0) for state in (ThreadState.IDLE, ThreadState.SLEEP, ThreadState.IO)
    )
    return apart - thread.alive_ns, thread.info.index


# --- words ---------------------------------------------------------------------------------------------


def _safe(text: str, limit: int = 500) -> str:
    """A text of the target, on one line, harmless and escaped."""
    return _escape(visible(text, limit=limit))


def _code(text: str) -> str:
    """Code that may have several lines."""
    return "\n".join(_safe(line) for line in text.splitlines()[:60])


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _states_words(states: Mapping[ThreadState, float], whole: float) -> str:
    return _escape(split_words(states, whole))


def _colour(state: ThreadState) -> str:
    """A state's colour; the style sheet has it for light and dark."""
    return f"var(--{state.label})"


def _palette(which: Callable[[Colour], str]) -> str:
    return ";".join(f"--{state.label}:{which(colour)}" for state, colour in STATE_COLOURS.items())


def _width(part: float, whole: float) -> float:
    """Percent of a bar, whatever the figures."""
    if not (whole > 0 and math.isfinite(whole) and math.isfinite(part)):
        return 0.0
    return min(100.0, max(0.0, 100.0 * part / whole))


def _in_order(states: Mapping[ThreadState, float]) -> list[tuple[ThreadState, float]]:
    """In one order everywhere, so that bars can be compared."""
    return [(state, states[state]) for state in BAR_ORDER if states.get(state, 0.0) > 0]
