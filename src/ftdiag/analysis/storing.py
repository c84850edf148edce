"""Digests of blocks of windows as blobs for a recording: what `stored` reads.

In: joined digests, whose times are whole nanoseconds. Out: blobs by the name of the part; none where one has
more than a recording holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ftdiag.analysis.digests import Digest
from ftdiag.analysis.grouping import Ints
from ftdiag.analysis.locks import LockShares
from ftdiag.analysis.memory import MemoryShares
from ftdiag.analysis.pauses import PauseShares
from ftdiag.analysis.stored import COST, GENERATION, MAX_ROWS, ON_CPU, PROCESS, TABLES, VERSION, capacity_code
from ftdiag.datatypes import replace
from ftdiag.model import MemoryKind
from ftdiag.recording import summaries
from ftdiag.recording.reader import Recording
from ftdiag.recording.summaries import Part


def parts_of(
    recording: Recording, first: int, last: int, capacity: float | None, digest: Digest
) -> dict[str, bytes]:
    """The blobs of a block's digest by the names of the parts; empty where it has too much."""
    ids = int(recording.window_ids[first]), int(recording.window_ids[last - 1])
    facts = [
        VERSION,
        *ids,
        capacity_code(capacity),
        digest.length_ns,
        digest.ticks,
        digest.torn_ticks,
        digest.estimated,
    ]
    facts += [digest.shares.ticks, int(digest.locks.joined)]
    made = {
        "facts": Part({"facts": np.array(facts, dtype=np.int64)}, {}),
        "threads": Part(
            {
                "thread": digest.thread,
                "totals": digest.totals.ravel(),
                "states_ns": digest.states_ns.ravel(),
            },
            {},
        ),
        "time": _fields(digest.time, "time"),
        "ticks": Part(
            {"concurrency": digest.shares.concurrency_ticks, "lost_ns": _flat(digest.shares.lost_ns)}, {}
        ),
        "locks": _locks(digest.locks),
        "windows": _fields(digest.series, "windows"),
        "costs": _costs(digest),
        "on_cpu": Part(
            {
                **{
                    name: getattr(digest.on_cpu, name)
                    for table in TABLES["on_cpu"]
                    for name in table
                    if name != "numbers"
                },
                "numbers": _whole(
                    [
                        round(1e6 * digest.on_cpu.sampled)
                        if name == "sampled"
                        else getattr(digest.on_cpu, name)
                        for name in ON_CPU
                    ]
                ),
            },
            {
                "shared": summaries.shared_rows(
                    [(line, one) for line, objects in digest.on_cpu.shared.items() for one in objects]
                )
            },
        ),
        "pauses": _pauses(digest.pauses),
        "collector": Part(
            {
                **{
                    name: _whole([getattr(one, name) for one in digest.collector.generations])
                    for name in GENERATION
                },
                "numbers": _whole(
                    [
                        digest.collector.covered_ns,
                        digest.collector.timed,
                        -1 if digest.collector.longest_ns is None else digest.collector.longest_ns,
                    ]
                ),
            },
            {},
        ),
        "memory": _memory(recording, first, last, digest.memory),
        "bottlenecks": replace(
            _fields(digest.bottlenecks, "bottlenecks"), texts={"knots": digest.bottlenecks.knots}
        ),
        "updates": Part(
            {"windows": _whole([digest.updates.windows])},
            {
                "rows": summaries.updates_rows(
                    [replace(one, count=count) for one, count in digest.updates.rows.items()]
                ),
                "mixed": [
                    (place.kind, place.name, place.type_name, place.owner, count)
                    for place, count in digest.updates.mixed.items()
                ],
            },
        ),
    }
    too_many = (
        len(rows) > (summaries.MAX_GAPS if name == "gaps" else MAX_ROWS)
        for part in made.values()
        for name, rows in part.texts.items()
    )
    if any(too_many):
        return {}
    try:
        return {name: summaries.encoded(ids[1], name, part) for name, part in made.items()}
    except summaries.TooLarge:
        return {}


def _whole(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _flat(values: npt.NDArray[Any] | None) -> Ints:
    """One row after the other as whole numbers; none where they are not known."""
    return np.zeros(0, dtype=np.int64) if values is None else values.ravel().astype(np.int64)


def _fields(of: object, part: str) -> Part:
    """The columns of a part that are fields of the same name; none of what is not known."""
    names = [name for table in TABLES[part] for name in table]
    return Part({name: _flat(getattr(of, name)) for name in names}, {})


def _locks(shares: LockShares) -> Part:
    columns = {}
    for name in (name for table in TABLES["locks"] for name in table):
        edge, _, what = name.partition("_")
        if edge in ("head", "tail"):
            waits = getattr(shares, edge)
            columns[name] = getattr(waits, "length_ns" if what == "ns" else what).astype(np.int64)
        else:
            columns[name] = getattr(shares, name).astype(np.int64)
    return Part(columns, {})


def _costs(digest: Digest) -> Part:
    columns = {name: _whole([getattr(cost, name) for cost in digest.costs]) for name in COST}
    for name in PROCESS:
        readings = [getattr(one, name) for one in digest.process]
        columns[f"of_{name}"] = _whole([0 if value is None else 1 + int(value) for value in readings])
    others = [[(each.pid, each.name, each.cpu_ns) for each in one.others] for one in digest.process]
    gaps = [(gap.what, gap.why, gap.count) for gap in digest.gaps]
    return Part(columns, {"others": others, "gaps": gaps})


def _pauses(shares: PauseShares) -> Part:
    reasons = sorted({reason for *_, reason in shares.rows if reason is not None})
    rows = [
        (
            requester,
            stack,
            confidence,
            0 if reason is None else 1 + reasons.index(reason),
            count,
            total,
            longest,
            threads,
        )
        for (requester, stack, confidence, reason), (count, total, longest, threads) in shares.rows.items()
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 8).T
    return Part(dict(zip(TABLES["pauses"][0], columns, strict=True)), {"reasons": reasons})


def _memory(recording: Recording, first: int, last: int, shares: MemoryShares) -> Part:
    """Readings stay where they are; of the first and the last one it has the positions in the block."""
    places = (
        [position - first for position, _ in recording.memory(first, last)]
        if shares.first is not None
        else []
    )
    kinds = [[held.get(kind, -1) for kind in MemoryKind] for _, held in shares.kinds]
    return Part(
        {
            "at_ns": _whole([at for at, _ in shares.resident]),
            "resident": _whole([size for _, size in shares.resident]),
            "kinds_at_ns": _whole([at for at, _ in shares.kinds]),
            "kinds": np.array(kinds, dtype=np.int64).ravel(),
            "leaf": shares.leaf,
            "part": shares.part,
            "samples": shares.samples,
            "numbers": _whole([int(shares.measured), *places[:1], *places[-1:]]),
        },
        {},
    )
