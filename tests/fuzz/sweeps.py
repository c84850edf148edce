"""Files of sweeps: read, shown in every form, drawn, and compared with what they were made of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

from ftdiag.reports import comparison, sweep
from ftdiag.reports.chart import chart_of
from ftdiag.reports.document import html_document, markdown_lines, text_lines
from ftdiag.reports.drawing import to_svg
from ftdiag.scaling.comparing import Side, compare
from ftdiag.scaling.curve import scaling_of
from ftdiag.scaling.digest import Digest
from ftdiag.scaling.results import Sweep, sweep_of, value_of
from ftdiag.scaling.settings import Setting
from fuzz.mutation import changed_bytes, changed_json, json_text
from sweeps import a_cause, a_digest, a_sweep


class Sweeps:
    """A sweep over threads, one over layouts, one over interpreters, with recordings."""

    name = "sweeps"
    share = 30

    def __init__(self) -> None:
        self._made: list[Sweep] = []

    def prepare(self, folder: Path) -> None:
        """Make the sweeps."""

        def digest(setting: Setting) -> Digest:
            account = {"useful": 1.0, "lock": 0.1 * setting.workers, "no_demand": 1.0}
            return a_digest(account, causes=[a_cause()], locks={"a": 0.2}, lines={"b": 0.9})

        kinds: dict[str, Any] = {
            "threads": [Setting(number) for number in (1, 2, 4, 8)],
            "layouts": [Setting(4, 1), Setting(2, 2), Setting(1, 4)],
            "pythons": [Setting(number, 1, name) for name in ("3.14t", "3.14") for number in (1, 2)],
        }
        self._made = [
            a_sweep(
                lambda setting: 100.0 * setting.workers**0.8,
                settings=settings,
                kind=kind,
                repeats=2,
                noise=0.05,
                digest=digest,
                memory=lambda _: 1 << 20,
                latency=lambda _: 2.0,
                versions={"3.14t": "3.14.1 free-threaded", "3.14": "3.14.1 with GIL"},
            )
            for kind, settings in kinds.items()
        ]

    def attempt(self, chance: Random) -> list[str]:
        """Change one, read it, and show it in every way."""
        whole = chance.choice(self._made)
        text = json_text(changed_json(value_of(whole), chance))
        data: str | bytes = text
        if chance.random() < 0.3:
            data = changed_bytes(text.encode("utf-8", "surrogatepass"), chance)
        mutant = sweep_of(data, "a.ftscale")
        scaling = scaling_of(mutant)
        parts = sweep.sections(scaling)
        wrong = _wrong(sweep.value_of(scaling))
        shown = "\n".join(text_lines(parts, 80, ascii_only=True))
        if not shown.isascii() or "\x1b" in shown:
            wrong.append("what no terminal should get")
        page = html_document("a", parts, [to_svg(chart_of(scaling))])
        if "<script" in page or not page.isascii():
            wrong.append("what no page should have")
        if any("<" in line.replace("\\<", "") for line in markdown_lines("a", parts)):
            wrong.append("markup in Markdown")
        sides = [Side(name, "sweep", None, sweep=each) for name, each in (("a", whole), ("b", mutant))]
        return wrong + _wrong(comparison.value_of(compare(*sides)))


def _wrong(value: Any) -> list[str]:
    """Numbers that JSON has no word for, and shares that are none."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return ["a number that is none"]
    speedups = [point["speedup"] for curve in value.get("curves", ()) for point in curve["points"]]
    return ["a speedup that is none" for each in speedups if each is not None and not 0 < each < math.inf]
