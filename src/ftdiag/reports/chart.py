"""The picture of a sweep: measured points, the ideal, the laws with their band, and where the cores end.

In: a `Scaling`. Out: a `Drawing`. Layouts are drawn as bars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from ftdiag.reports.document import amount
from ftdiag.reports.drawing import Area, Dot, Drawing, Line, Place, Shape, Words
from ftdiag.scaling.curve import Curve, Point, Scaling
from ftdiag.scaling.law import Law

WIDTH: Final = 860
HEIGHT: Final = 480
LEFT, RIGHT, TOP, BOTTOM = 78, 20, 46, 54
COLOURS: Final = ("#1f6fb4", "#c8402f", "#2e9e5b", "#8e2f8c", "#b97a10", "#3a3f45")
IDEAL: Final = "#8a949e"
AMDAHL: Final = "#b97a10"
GRID: Final = "#e3e7eb"
BEYOND: Final = "#f2ead9"
LINEAR_UP_TO: Final = 16
"""With more threads the axis is logarithmic: 1, 2, 4 ... are as far from each other."""
STEPS: Final = 96
MOST_IDEAL: Final = 1.6
"""The ideal is shown up to so many times what was measured at most."""
TICKS: Final = 5


def chart_of(scaling: Scaling) -> Drawing:
    """The picture."""
    if scaling.sweep.kind == "layouts":
        return _bars(scaling)
    return _curves(scaling)


def _curves(scaling: Scaling) -> Drawing:
    curves = [curve for curve in scaling.curves if curve.measured]
    numbers = sorted({point.setting.workers for curve in curves for point in curve.measured}) or [1]
    first, last = numbers[0], max(numbers[-1], numbers[0] + 1)
    values = [_top(point) for curve in curves for point in curve.measured]
    single = len(curves) == 1
    if single and values:
        # The ideal may leave the picture: what was measured is to fill it.
        ideal = _ideal_at(curves[0], last, scaling.cores)
        values.append(min(ideal, MOST_IDEAL * max(values)))
    top = _round_up(max(values, default=1.0) * 1.05)
    x = _axis(first, last)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.05, max(0.0, value / top))

    shapes: list[Shape] = []
    if last > scaling.cores:
        edge = x(max(first, scaling.cores))
        shapes.append(_box(edge, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM, BEYOND))
        room = edge + 150 < WIDTH - RIGHT
        at, anchor = (edge + 6, "start") if room else (WIDTH - RIGHT - 4.0, "end")
        shapes.append(Words((at, TOP + 14), "more threads than cores", 11, anchor, "#8a7340"))
    shapes += _frame(numbers, x, y, top, scaling)
    legend: list[tuple[str, str, bool]] = []
    grid = [first * (last / first) ** (step / STEPS) for step in range(STEPS + 1)]
    if single:
        curve = curves[0]
        places = tuple(
            (x(n), y(value)) for n in grid if (value := _ideal_at(curve, n, scaling.cores)) <= 1.02 * top
        )
        shapes.append(Line(places, IDEAL, 1.5, True))
        legend.append(("ideal", IDEAL, True))
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        law = curve.law
        if isinstance(law, Law):
            if single:
                bands = [law.at(n) for n in grid]
                upper = [(x(n), y(band.high)) for n, band in zip(grid, bands, strict=True)]
                lower = [(x(n), y(band.low)) for n, band in zip(grid, bands, strict=True)]
                shapes.append(Area((*upper, *reversed(lower)), colour, 0.18))
                shapes.append(Line(tuple((x(n), y(law.amdahl_at(n))) for n in grid), AMDAHL, 1.2, True))
                legend.append(("Amdahl", AMDAHL, True))
            shapes.append(Line(tuple((x(n), y(law.at(n).value)) for n in grid), colour, 2.0))
            legend.append((f"{curve.python or 'USL'}{' with 95 % band' if single else ''}", colour, False))
        else:
            places = tuple(
                (x(point.setting.workers), y(point.throughput.value))
                for point in curve.measured
                if point.throughput is not None
            )
            shapes.append(Line(places, colour, 1.2))
            legend.append((curve.python or "measured", colour, False))
        for point in curve.measured:
            shapes += _measured(point, x, y, colour)
        if single and isinstance(law, Law) and law.best is not None and first <= law.best.value <= last:
            best = x(law.best.value)
            shapes.append(Line(((best, TOP), (best, HEIGHT - BOTTOM)), colour, 1.0, True))
            shapes.append(Words((best, TOP - 6), f"N* = {law.best.value:.1f}", 11, "middle", colour))
    shapes += _legend(legend)
    title = "Throughput by number of threads"
    shapes.append(Words((LEFT, 20), title, 14))
    return Drawing(WIDTH, HEIGHT, tuple(shapes), title)


def _ideal(curve: Curve, number: float) -> float:
    base = curve.measured[0]
    assert base.throughput is not None
    return base.throughput.value * number / base.setting.workers


def _ideal_at(curve: Curve, number: float, cores: float) -> float:
    return _ideal(curve, max(curve.measured[0].setting.workers, min(number, cores)))


def _top(point: Point) -> float:
    mean = point.throughput
    return 0.0 if mean is None else max(mean.value, mean.high or 0.0 if mean.number > 2 else mean.value)


def _measured(
    point: Point, x: Callable[[float], float], y: Callable[[float], float], colour: str
) -> list[Shape]:
    mean = point.throughput
    if mean is None:
        return []
    across = x(point.setting.workers)
    shapes: list[Shape] = []
    if mean.low is not None and mean.high is not None:
        shapes.append(Line(((across, y(mean.low)), (across, y(mean.high))), colour, 1.5))
        shapes.extend(
            Line(((across - 4, y(end)), (across + 4, y(end))), colour, 1.5) for end in (mean.low, mean.high)
        )
    shapes.append(Dot((across, y(mean.value)), 4.5, colour, point.over))
    return shapes


def _axis(first: float, last: float) -> Callable[[float], float]:
    room = WIDTH - LEFT - RIGHT - 24

    def linear(number: float) -> float:
        return LEFT + 12 + room * (number - first) / (last - first)

    def logarithmic(number: float) -> float:
        return LEFT + 12 + room * math.log(number / first) / math.log(last / first)

    return linear if last <= LINEAR_UP_TO else logarithmic


def _frame(
    numbers: Sequence[int],
    x: Callable[[float], float],
    y: Callable[[float], float],
    top: float,
    scaling: Scaling,
) -> list[Shape]:
    shapes: list[Shape] = []
    for step in range(TICKS + 1):
        value = top * step / TICKS
        shapes.append(Line(((LEFT, y(value)), (WIDTH - RIGHT, y(value))), GRID, 1.0))
        shapes.append(Words((LEFT - 8, y(value) + 4), amount(value), 11, "end"))
    at = -1e9
    for number in numbers:
        if x(number) - at >= 22:
            at = x(number)
            shapes.append(Words((at, HEIGHT - BOTTOM + 18), str(number), 11, "middle"))
        shapes.append(Line(((x(number), HEIGHT - BOTTOM), (x(number), HEIGHT - BOTTOM + 4)), "#333333", 1.0))
    shapes.append(Line(((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)), "#333333", 1.0))
    words = f"threads ({scaling.sweep.capacity_reason[:80]})"
    shapes.append(Words(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14), words, 12, "middle"))
    return shapes


def _legend(entries: Sequence[tuple[str, str, bool]]) -> list[Shape]:
    shapes: list[Shape] = []
    across = float(WIDTH - RIGHT)
    for words, colour, dashed in reversed(entries):
        across -= 7.0 * len(words)
        shapes.append(Words((across, 20), words, 12))
        shapes.append(Line(((across - 28, 16), (across - 6, 16)), colour, 2.0, dashed))
        across -= 46
    return shapes


def _bars(scaling: Scaling) -> Drawing:
    points = [point for point in scaling.layouts if point.throughput is not None]
    top = _round_up(max((_top(point) for point in points), default=1.0) * 1.05)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(points))
    chosen = None if scaling.advice is None else scaling.advice.setting

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.05, max(0.0, value / top))

    shapes: list[Shape] = []
    for step in range(TICKS + 1):
        value = top * step / TICKS
        shapes.append(Line(((LEFT, y(value)), (WIDTH - RIGHT, y(value))), GRID, 1.0))
        shapes.append(Words((LEFT - 8, y(value) + 4), amount(value), 11, "end"))
    for number, point in enumerate(points):
        mean = point.throughput
        if mean is None:
            continue
        left = LEFT + room * (number + 0.2)
        right = LEFT + room * (number + 0.8)
        colour = COLOURS[2] if point.setting == chosen else COLOURS[0]
        shapes.append(_box(left, y(mean.value), right, HEIGHT - BOTTOM, colour))
        middle = (left + right) / 2
        if mean.low is not None and mean.high is not None:
            shapes.append(Line(((middle, y(mean.low)), (middle, y(mean.high))), "#333333", 1.5))
        words = f"{point.setting.processes}x{point.setting.threads}"
        shapes.append(Words((middle, HEIGHT - BOTTOM + 18), words, 12, "middle"))
        if point.memory_bytes is not None:
            memory = f"{point.memory_bytes / (1 << 20):,.0f} MiB"
            shapes.append(Words((middle, HEIGHT - BOTTOM + 34), memory, 11, "middle", "#5b6670"))
    title = "Throughput by processes x threads"
    shapes.append(Words((LEFT, 20), title, 14))
    return Drawing(WIDTH, HEIGHT, tuple(shapes), title)


def _box(left: float, top: float, right: float, bottom: float, colour: str) -> Area:
    places: tuple[Place, ...] = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Area(places, colour)


def _round_up(value: float) -> float:
    """A round number at or above it, that five steps divide well."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(
        step * size for step in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if step * size >= value
    )
