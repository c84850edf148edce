"""Scaling: ideal against actual cores, threads at once, the chain of factors, the balance of load.

In: a snapshot, and the curve fitted to the range. Out: lines for a panel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from rich.segment import Segment

from ftdiag.datatypes import dataclass
from ftdiag.model import CorePart, Snapshot
from ftdiag.reports.chain import chain
from ftdiag.tui.lines import Lines, figure, heading, prose
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.panes.account import ONLY_SAMPLES, account_lines, ideal_of
from ftdiag.tui.queries import Query, Range
from ftdiag.tui.source import View
from ftdiag.wording.account import unseen_words
from ftdiag.wording.states import FACTOR_NAMES, PART_NAMES
from ftdiag.wording.threads import thread_name
from ftdiag.wording.units import cores, percent, seconds, whole_or_cores

if TYPE_CHECKING:
    # Brings numpy, which the first picture (without data) need not wait for.
    from ftdiag.session import Between, NoCurve, ScalingCurve

MOST_BARS: Final = 24
MOST_LEGEND: Final = 6
"""Lines of the account's legend."""
SAID_SHARE: Final = 0.005
MOST_THREADS: Final = 16
FARTHEST_WORDS: Final = "four times"
SHOWN_UNSEEN_CORES: Final = 0.05
"""Less than this is what threads used that ended between two looks, and no news."""


@dataclass(frozen=True, slots=True)
class Curve(Query["ScalingCurve | NoCurve"]):
    """Cores against the number of threads that had work."""

    def answer(self, of: Range) -> ScalingCurve | NoCurve:
        """Ask the session."""
        return of.session.scaling(of.t0_ns, of.t1_ns)


def scaling_lines(curve: ScalingCurve | NoCurve | None, snapshot: Snapshot, width: int, look: Look) -> Lines:
    """The pane; `curve` is `None` until it was asked for."""
    metrics = snapshot.metrics
    lines: Lines = heading("Where the cores go: one account, that closes to the capacity", width, look)[1:]
    lines += account_lines(snapshot, width, look, MOST_LEGEND)
    ideal = ideal_of(metrics)
    if ideal is not None:
        reason = f" ({metrics.capacity_reason})" if metrics.capacity_reason else ""
        lines += figure("could be used", f"{whole_or_cores(round(ideal, 2))} cores{reason}", width, look)
    lines += _threads_at_once(snapshot, width, look)
    lines += _chain(snapshot, width, look)
    lines += _balance(snapshot, width, look)
    lines += _curve(curve, metrics.capacity_cores, width, look)
    return lines


def _curve(curve: ScalingCurve | NoCurve | None, capacity: float | None, width: int, look: Look) -> Lines:
    lines = heading("Cores against the number of threads that had work at the same time", width, look)
    if curve is None:
        return [*lines, [Segment(" reading ...", look.muted)]]
    points = getattr(curve, "points", None)
    if points is None:
        no_curve = cast("NoCurve", curve)
        lines += figure("fitted curve", no_curve.why, width, look)
        if no_curve.seen:
            lines += figure("seen", ", ".join(map(str, no_curve.seen[:MOST_BARS])) + " threads", width, look)
        return lines
    found = cast("ScalingCurve", curve)
    what = "useful" if found.useful else "in use"
    room = max(8, width - 42)
    top = max(max(point.cores, point.fitted.high, 1e-9) for point in points)
    lines.append(
        [
            look.cell("threads", 8, look.muted, right=True),
            look.cell(what, 8, look.muted, right=True),
            look.cell("fitted", 8, look.muted, right=True),
            look.cell("9 of 10 within", 15, look.muted, right=True),
        ]
    )
    for point in points[:MOST_BARS]:
        track = ("." if look.ascii_only else "·") * room
        filled = round(room * point.cores / top)
        mark = min(room - 1, max(0, round(room * point.fitted.value / top)))
        body = (("#" if look.ascii_only else "█") * filled + track)[:room]
        body = body[:mark] + ("|" if look.ascii_only else "┃") + body[mark + 1 :]
        band = f"{cores(point.fitted.low)}-{cores(point.fitted.high)}"
        over = capacity is not None and point.threads > capacity
        lines.append(
            [
                look.cell(str(point.threads), 8, look.text, right=True),
                look.cell(cores(point.cores), 8, look.strong, right=True),
                look.cell(cores(point.fitted.value), 8, look.text, right=True),
                look.cell(band, 15, look.muted, right=True),
                Segment("  "),
                Segment(body, look.accent if over else look.good),
            ]
        )
    if len(points) > MOST_BARS:
        lines.append([Segment(f" {len(points) - MOST_BARS} more numbers of threads", look.muted)])
    lines += figure("contention (sigma)", _within(found.contention), width, look)
    lines += figure("crosstalk (kappa)", _within(found.crosstalk), width, look)
    lines += figure("Amdahl's law alone", f"sigma {found.amdahl_contention:.3g}", width, look)
    largest = points[-1].threads
    best = found.best_threads
    words = (
        f"more threads than {FARTHEST_WORDS} the {largest} that were seen, if at all"
        if best is None
        else f"{best.value:.1f} ({best.low:.1f} to {best.high:.1f})"
        + (f"; beyond the {largest} that were seen" if best.value > largest else "")
    )
    lines += figure("best number of threads", words, width, look)
    if found.uncertain:
        lines += figure("uncertain", f"only {len(points)} different numbers of threads", width, look)
    if capacity is not None and largest > capacity:
        lines += figure(
            "beware",
            f"above {whole_or_cores(capacity)} cores threads share them: the curve bends there by itself",
            width,
            look,
        )
    return lines


def _within(between: Between) -> str:
    return f"{between.value:.3g} ({between.low:.3g} to {between.high:.3g}, 9 of 10 resamples)"


def _threads_at_once(snapshot: Snapshot, width: int, look: Look) -> Lines:
    metrics = snapshot.metrics
    why = snapshot.quality.not_measured.get("concurrency", "no ticks in this range")
    what = "at work" if metrics.on_cpu_is_split else "on a core or waiting for one"
    lines = heading(f"Threads {what} at once, share of the time", width, look)
    if not metrics.concurrency:
        return lines + prose(f"not measured: {why}", width, look, look.muted)
    kept = [(number, share) for number, share in enumerate(metrics.concurrency) if share >= SAID_SHARE]
    room = max(8, width - 18)
    capacity = metrics.capacity_cores
    for number, share in kept[:MOST_BARS]:
        style = look.good if capacity is not None and number >= capacity else look.accent
        bar = ("#" if look.ascii_only else "█") * max(1, round(share * room))
        lines.append(
            [
                look.cell(str(number), 5, look.text, right=True),
                look.cell(percent(share), 7, look.strong, right=True),
                Segment("  "),
                Segment(bar, style),
            ]
        )
    if len(kept) > MOST_BARS:
        lines.append([Segment(f" {len(kept) - MOST_BARS} more numbers", look.muted)])
    if metrics.serial_share_ratio is not None:
        lines += figure("none or one at a time", percent(metrics.serial_share_ratio), width, look)
    return lines


def _chain(snapshot: Snapshot, width: int, look: Look) -> Lines:
    metrics = snapshot.metrics
    why = ONLY_SAMPLES if snapshot.imported is not None else "not measured: the capacity is not known"
    lines = heading("Chain of factors: their product is the useful share of the capacity", width, look)
    factors = () if snapshot.imported is not None else chain(metrics)
    if not factors:
        return lines + prose(why, width, look, look.muted)
    product = 1.0
    room = max(6, min(30, width - 46))
    for name, factor in factors:
        words = FACTOR_NAMES.get(name, name)
        if factor is None:
            lines.append(
                [Segment(" "), look.cell(words, 27, look.muted), Segment("not measured", look.muted)]
            )
            continue
        product *= factor
        full = ("#" if look.ascii_only else "█") * round(factor * room)
        style = look.warning if factor < 0.8 else look.good
        lines.append(
            [
                Segment(" "),
                look.cell(words, 27, look.text),
                look.cell(f"{factor:.2f}", 6, look.strong, right=True),
                Segment("  "),
                look.cell(full, room, style),
                Segment(f" {product:.2f}", look.muted),
            ]
        )
    return lines


def _balance(snapshot: Snapshot, width: int, look: Look) -> Lines:
    metrics = snapshot.metrics
    lines = heading("Balance of load", width, look)
    if metrics.load_balance_ratio is None:
        why = snapshot.quality.not_measured.get("load_balance_ratio", "too few threads that had work")
        lines += figure("mean / busiest thread", f"not measured: {why}", width, look)
    else:
        lines += figure("mean / busiest thread", percent(metrics.load_balance_ratio), width, look)
    workers = sorted((t for t in snapshot.threads if t.cpu_ns > 0), key=lambda t: -t.cpu_ns)
    most = max((thread.cpu_ns for thread in workers), default=0)
    room = max(6, width - 38)
    for thread in workers[:MOST_THREADS]:
        lines.append(
            [
                Segment(" "),
                look.cell(thread_name(thread.info), 20, look.text),
                look.cell(seconds(thread.cpu_ns), 11, look.muted, right=True),
                Segment("  "),
                Segment(("#" if look.ascii_only else "█") * round(room * thread.cpu_ns / most), look.accent),
            ]
        )
    if len(workers) > MOST_THREADS:
        lines.append([Segment(f" {len(workers) - MOST_THREADS} more threads", look.muted)])
    if metrics.work_per_wakeup_ns is not None:
        lines += figure("CPU time per wake-up", seconds(metrics.work_per_wakeup_ns), width, look)
    if metrics.unseen_threads_cores is not None and metrics.unseen_threads_cores >= SHOWN_UNSEEN_CORES:
        said = unseen_words(metrics) or f"{cores(metrics.unseen_threads_cores)} cores"
        lines += figure(PART_NAMES[CorePart.UNSEEN_THREADS], said, width, look)
    if metrics.other_programs_cores is not None:
        lines += figure("other processes use", f"{cores(metrics.other_programs_cores)} cores", width, look)
    if metrics.throttled_cores is not None:
        lines += figure("taken by the CPU quota", f"{cores(metrics.throttled_cores)} cores", width, look)
    return lines


def _lines(view: View, width: int, look: Look) -> Lines:
    assert view.snapshot is not None
    return scaling_lines(view.answers.of(Curve), view.snapshot, width, look)


PANE: Final = Pane(
    "scaling",
    "Scaling",
    lambda: TextPane("scaling", "5 Scaling", _lines, queries=lambda _width: (Curve(),)),
    "5",
    short="Scale",
    about="scaling: ideal against actual, chain of factors",
)
