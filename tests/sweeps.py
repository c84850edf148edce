"""Builders of sweeps for tests: runs with a known law and known scatter, and what recordings would say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ftdiag.scaling.digest import Cause, Digest
from ftdiag.scaling.results import Run, Sweep
from ftdiag.scaling.settings import Setting
from ftdiag.scaling.throughput import Reading


def a_digest(
    account: Mapping[str, float] | None = None,
    *,
    capacity_cores: float | None = 4.0,
    efficiency: float | None = 0.9,
    causes: Sequence[Cause] = (),
    locks: Mapping[str, float] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Digest:
    """A look of ten seconds at four cores."""
    return Digest(
        version="3.14.0",
        free_threaded=True,
        gil_enabled=False,
        capacity_cores=capacity_cores,
        capacity_reason="all 4 cores of the machine",
        duration_s=10.0,
        threads=5,
        on_cpu_cores=3.0,
        useful_cores=3.0,
        efficiency_ratio=efficiency,
        account=dict(account or {}),
        locks=dict(locks or {}),
        lines=dict(lines or {}),
        causes=tuple(causes),
    )


def a_cause(rule: str = "hot-lock", *, lost: float = 0.8, severity: str = "warning", what: str = "") -> Cause:
    """A finding."""
    return Cause(
        f"{rule}: {what}", rule, f"{rule} costs {lost:g} cores at {what or 'app.py:8'}", severity, lost
    )


def a_sweep(
    throughput: Callable[[Setting], float],
    threads: Sequence[int] = (1, 2, 4, 8),
    *,
    repeats: int = 3,
    noise: float = 0.0,
    seed: int = 1,
    cores: float = 64.0,
    settings: Sequence[Setting] | None = None,
    kind: str = "threads",
    digest: Callable[[Setting], Digest | None] = lambda _: None,
    memory: Callable[[Setting], int | None] = lambda _: None,
    latency: Callable[[Setting], float | None] = lambda _: None,
    versions: Mapping[str, str] | None = None,
    host: str = "here",
) -> Sweep:
    """A finished sweep in which each run does what `throughput` says, and scatters by `noise` of it."""
    random = np.random.default_rng(seed)
    points = tuple(settings) if settings is not None else tuple(Setting(number) for number in threads)
    runs = tuple(
        Run(
            setting,
            number,
            throughput=throughput(setting) * float(np.exp(random.normal(0, noise))),
            wall_s=2.0,
            digest=digest(setting),
            memory_bytes=memory(setting),
            latency_ms=latency(setting),
        )
        for number in range(repeats)
        for setting in points
    )
    return Sweep(
        command=("python", "bench.py", "{threads}"),
        settings=points,
        repeats=repeats,
        seed=1,
        reading=Reading(),
        capacity_cores=cores,
        capacity_reason=f"all {cores:g} cores of the machine",
        host=host,
        started_unix_ns=1_760_000_000_000_000_000,
        recorded=True,
        rate_hz=10.0,
        timeout_s=60.0,
        skip_s=0.0,
        warm_ups=1,
        kind=kind,
        versions=dict(versions or {}),
        runs=runs,
    )
