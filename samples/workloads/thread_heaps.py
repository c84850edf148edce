"""Many threads that each did a little of everything once: each keeps a heap of its own for it."""

from __future__ import annotations

import csv
import datetime
import decimal
import hashlib
import io
import json
import re
import statistics
import textwrap
import time

from throughput import Tally, parse_options, run

PAUSE_S = 0.5
WORD = re.compile(r"\w+")
FEW = 2


def make_report(number: int) -> str:
    """A bit of the standard library, nothing of which is kept."""
    rows = {f"customer {place}": [place, str(place), {"paid": place % 3}] for place in range(300)}
    text = json.dumps(json.loads(json.dumps(rows)))
    words = WORD.findall(text)
    table = list(csv.reader(io.StringIO("name,paid,due\n" * 200)))
    mean = decimal.Decimal(statistics.mean(range(100))) / 3
    page = textwrap.fill(" ".join(words[:400]), 72)
    day = datetime.date(2026, 1, 1) + datetime.timedelta(days=number)
    return f"{day} {len(table)} {mean:.2f} {hashlib.sha256(page.encode()).hexdigest()}"


def report_now_and_then(worker: int, tally: Tally) -> None:
    """The body of a worker thread."""
    while tally.go_on():
        make_report(tally.count)
        tally.done()
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    options = parse_options(__doc__, threads=48, fixed="two threads do the work of all")
    threads = min(FEW, options.threads) if options.fixed else options.threads
    run([report_now_and_then] * threads, options, unit="reports", name="reporter")
