"""A document for each request, copied from a template of the thread's own: nothing is shared."""

from __future__ import annotations

import copy
from typing import Any

from throughput import Tally, parse_options, run


def answer(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    lines = [{"article": number, "pieces": 1, "note": "none"} for number in range(8)]
    template: dict[str, Any] = {"id": worker, "lines": lines, "tags": ["a", "b"]}
    while tally.go_on():
        for number in range(20):
            document = copy.deepcopy(template)
            document["id"] = number
        tally.done(20)


if __name__ == "__main__":
    options = parse_options(__doc__)
    run([answer] * options.threads, options, unit="documents", name="answer")
