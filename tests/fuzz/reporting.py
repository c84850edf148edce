"""What must hold of every report, whatever the recording: no share outside 0..1, no number that is none.

In: an open recording. Out: what is wrong, in words without numbers, so that equal faults are counted as one.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from ftdiag.commands import terminal
from ftdiag.recording.reader import Recording
from ftdiag.reports import html, text
from ftdiag.reports import json as json_report
from ftdiag.session import Session
from fuzz.ratios import wrong_figures, wrong_history, wrong_timeline, wrong_tree

_SHARES: Final = re.compile(r"(^|_)ratio$|(^|_)share$|percent|^efficiency|^load_balance$|^concurrency")
_ROUNDED: Final = 1.0001
_CONTROLS: Final = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\u2028\u2029\ufeff\U000e0000-\U000e007f]"
)
_HTML_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NO_NUMBERS: Final = re.compile(r"(?<![\w.])(nan|inf)(?![\w.])")
_NEGATIVE: Final = re.compile(r"(?<![\w.\-'\"/])-\d+(\.\d+)? ?(%|s|ms|ns|us|B|KiB|MiB|GiB|cores)\b")
_MAY_SHRINK: Final = ("growth", "change", "started_at")
"""Parts of keys whose values may be negative."""
WIDTH: Final = 100


def wrong_in_report(recording: Recording, *, everything: bool) -> list[str]:
    """Make all reports of the recording, `everything` also what the cockpit asks; what is wrong with them."""
    span = recording.span_ns()
    if span is None:
        return []
    session = Session(recording)
    snapshot = session.snapshot()
    wrong = set(wrong_figures(snapshot))
    printed = terminal.json_text(json_report.to_report(snapshot))
    _look_at_json(json.loads(printed), "", wrong)
    if re.search(r"[\x00-\x1f\x7f]", printed):
        wrong.add("a control character in the JSON report")
    plain = "\n".join(text.render(snapshot, WIDTH))
    _look_at_text(plain, wrong)
    page = html.render(snapshot)
    if "<img src=x" in page or "<script>alert" in page:
        wrong.add("markup of the target in the HTML report")
    if _HTML_CONTROLS.search(page):
        wrong.add("a control character in the HTML report")
    if everything:
        wrong.update(wrong_timeline(session.timeline(None, None, 80)))
        session.lanes(None, None, 80)
        session.hot_functions()
        wrong.update(wrong_tree(session.call_tree()))
        session.deadlocks_among(session.wait_graph())
        session.scaling()
        for index in range(min(3, len(recording.threads))):
            wrong.update(wrong_history(session.history(index, None, None, 40)))
        wrong.update(wrong_figures(session.snapshot((span[0] + span[1]) // 2, None)))
    return sorted(wrong)


def _look_at_json(value: Any, key: str, wrong: set[str]) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _look_at_json(part, f"{key}.{name}", wrong)
    elif isinstance(value, list):
        for part in value:
            _look_at_json(part, f"{key}[]", wrong)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            wrong.add(f"{key} is no number")
        elif value < 0 and not any(part in key for part in _MAY_SHRINK):
            wrong.add(f"{key} is negative")
        elif _SHARES.search(key.rsplit(".", 1)[-1]) and value > _ROUNDED:
            wrong.add(f"{key} is above 1")
        elif abs(value) > 2**63:
            wrong.add(f"{key} does not fit 64 bits")


def _look_at_text(plain: str, wrong: set[str]) -> None:
    found = _CONTROLS.search(plain)
    if found:
        wrong.add(f"{found[0]!r} in the text report")
    found = _NO_NUMBERS.search(plain)
    if found:
        wrong.add(f"{found[0]} in the text report: {_place(plain, found)}")
    found = _NEGATIVE.search(plain)
    if found:
        wrong.add(f"less than nothing in the text report: {_place(plain, found)}")
    for found in re.finditer(r"(\d+) %", plain):
        if int(found[1]) > 100:
            wrong.add(f"more than 100 % in the text report: {_place(plain, found)}")


def _place(plain: str, found: re.Match[str]) -> str:
    return re.sub(r"\d+", "N", plain[max(0, found.start() - 40) : found.end()]).replace("\n", " ")
