"""Quality: how far to trust the figures, what is not measured and how to get it.

In: a snapshot. Out: lines for panels.
"""

from __future__ import annotations

from typing import Final

from rich.segment import Segment

from ftdiag.model import Snapshot
from ftdiag.tui.lines import Lines, figure, heading, prose
from ftdiag.tui.look import Look
from ftdiag.tui.pane import Pane, TextPane
from ftdiag.tui.source import View
from ftdiag.wording.quality import CLASSIFIED, MISSED, OWN_COST, TORN, UNKNOWN, figure_name, tick_rate_words
from ftdiag.wording.units import count, plural, small_percent

GOAL: Final = 0.02
"""Share from which misses, torn stacks and unknown time are a warning: the sampler's goal."""
SAMPLED_ALWAYS: Final = 0.995
"""Share of the time in which machine code was sampled from which there were no turns."""
MAX_GAPS: Final = 60
HOW_TO_GET: Final = {
    "useful_cores": "ftdiag doctor says what is missing for native samples, and the command that gives it",
    "classified_cpu_ratio": "ftdiag doctor says what is missing for native samples",
    "capacity_cores": "ftdiag doctor says what could be read of the machine and its quotas",
}


def _ratio(value: float | None, goal: float | None, width: int, name: str, look: Look, note: str) -> Lines:
    if value is None:
        return figure(name, "not measured", width, look, look.muted)
    alarm = goal is not None and value > goal
    text = f"{small_percent(value)}  {note}"
    return figure(name, text, width, look, look.warning if alarm else look.text)


def quality_lines(snapshot: Snapshot, width: int, look: Look) -> Lines:
    """The quality pane."""
    quality, metrics, settings = snapshot.quality, snapshot.metrics, snapshot.settings
    lines: Lines = heading("The samples of this range", width, look)[1:]
    rate = tick_rate_words(metrics.ticks, metrics.duration_ns, settings.rate_hz)
    lines += figure("ticks", f"{count(metrics.ticks)} at {rate}", width, look)
    lines += _ratio(quality.missed_tick_ratio, GOAL, width, MISSED, look, "goal: under 2 %")
    lines += _ratio(quality.torn_ratio, GOAL, width, TORN, look, "changed while read; goal: under 2 %")
    lines += _ratio(quality.unknown_ratio, GOAL, width, UNKNOWN, look, "goal: under 2 %")
    lines += _ratio(quality.classified_cpu_ratio, None, width, CLASSIFIED, look, "")
    if quality.unnamed_cpu_ratio:
        lines += _ratio(
            quality.unnamed_cpu_ratio, None, width, "in unnamed functions", look, "of a stripped Python: work"
        )
    lines += _ratio(quality.sampler_cpu_ratio, None, width, OWN_COST, look, "of one core")
    if quality.native_sampled_ratio is not None and quality.native_sampled_ratio < SAMPLED_ALWAYS:
        error = small_percent(quality.native_error_ratio) if quality.native_error_ratio is not None else "?"
        note = f"of the time, in turns; shares are right to {error}"
        lines += _ratio(quality.native_sampled_ratio, None, width, "machine code sampled", look, note)
    if settings.machine_code:
        lines += figure("machine code", settings.machine_code, width, look)
    lines += heading("Not measured, why, and how to get it", width, look)
    if not quality.not_measured:
        lines += prose("everything was measured", width, look, look.good)
    missing: dict[str, list[str]] = {}
    for name, why in quality.not_measured.items():
        missing.setdefault(why, []).append(name)
    for why, names in list(missing.items())[:MAX_GAPS]:
        # Said once for all that is missing for the same reason.
        lines += figure(figure_name(names[0]), why, width, look)
        if len(names) > 1:
            others = ", ".join(figure_name(name) for name in names[1:])
            lines += figure("", f"for the same reason: {others}", width, look, look.muted)
        # Where machine code was sampled, it is something else that is missing.
        for name in names:
            if name in HOW_TO_GET and not (name == "useful_cores" and snapshot.metrics.on_cpu_is_split):
                lines += figure("", HOW_TO_GET[name], width, look, look.accent)
                break
    lines += heading("Gaps: what could not be read", width, look)
    if not quality.gaps:
        lines += prose("none", width, look, look.good)
    for gap in quality.gaps[:MAX_GAPS]:
        lines += figure(gap.what, f"{gap.why} ({plural(gap.count, 'time')})", width, look)
    if len(quality.gaps) > MAX_GAPS:
        lines.append([Segment(f" {len(quality.gaps) - MAX_GAPS} more", look.muted)])
    if snapshot.not_applicable:
        lines += heading("Rules skipped, and why", width, look)
        for rule_id, why in snapshot.not_applicable[:MAX_GAPS]:
            lines += figure(rule_id, why, width, look)
    return lines


def _lines(view: View, width: int, look: Look) -> Lines:
    assert view.snapshot is not None
    return quality_lines(view.snapshot, width, look)


PANE: Final = Pane(
    "quality",
    "Quality",
    lambda: TextPane("quality", "7 Quality", _lines),
    "7",
    short="Qual",
    about="quality: misses, gaps, what is not measured",
)
