"""Lines over steps as SVG: what a dashboard draws. No script, no network; a style sheet gives the colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
"""Step and value, in the order of the steps."""

WIDE, HIGH = 340, 150
LEFT, TOP, RIGHT, BOTTOM = 54, 8, 8, 20
"""What is left around the lines, for numbers."""
MOST = 250
"""Points of a line: of more the means of as many parts are drawn."""
COLOURS = 8


def chart(title: str, lines: Mapping[str, Points], steps: int, *, log: bool = False, share: bool = False) -> str:
    """A figure with a line for each name, over steps 0 to `steps`, and the newest value of each. log: by powers of ten
    (what is not above 0 is left out); share: from 0 to 1. Values that are no numbers are left out; empty where nothing
    is left."""
    known = {name: _thinned(_drawable(points, log)) for name, points in lines.items()}
    known = {name: points for name, points in known.items() if points}
    if not known:
        return ""
    low, high = (0.0, 1.0) if share else _span([value for points in known.values() for _, value in points], log)
    parts = [*_axes(low, high, steps, log)]
    legend = []
    for i, (name, points) in enumerate(known.items()):
        look = f"c{i % COLOURS}"
        places = [f"{_x(step, steps):.1f},{_y(value, low, high, log):.1f}" for step, value in points]
        if len(places) == 1:
            x, y = places[0].split(",")
            parts.append(f'<circle class="{look}" cx="{x}" cy="{y}" r="2.5"/>')
        parts.append(f'<polyline class="{look}" points="{" ".join(places)}"/>')
        newest = next(value for _, value in reversed(lines[name]) if math.isfinite(value))
        legend.append(f'<span class="{look}"><b></b>{escape(name)} {_number(newest)}</span>')
    drawn = f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}<p>{' '.join(legend)}</p></figure>"


def _drawable(points: Points, log: bool) -> list[tuple[float, float]]:
    return [(step, value) for step, value in points if math.isfinite(value) and (value > 0 or not log)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / MOST)
    if size < 2:
        return points
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part)) for part in parts]


def _span(values: Sequence[float], log: bool) -> tuple[float, float]:
    """From where to where the values are drawn; by powers of ten whole ones."""
    low, high = min(values), max(values)
    if log:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return low, high if high > low else 10 * low
    low = min(low, 0.0)
    return low, high if high > low else low + 1


def _axes(low: float, high: float, steps: int, log: bool) -> Iterator[str]:
    for part in (0.0, 0.5, 1.0):
        value = low * (high / low) ** part if log else low + (high - low) * part
        y = _y(value, low, high, log)
        yield f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDE - RIGHT}"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_number(value)}</text>'
    for step, anchor in ((0, "start"), (steps, "end")):
        yield f'<text x="{_x(step, steps):.1f}" y="{HIGH - 5}" text-anchor="{anchor}">{step:,}</text>'


def _x(step: float, steps: int) -> float:
    return LEFT + (WIDE - LEFT - RIGHT) * step / max(steps, 1)


def _y(value: float, low: float, high: float, log: bool) -> float:
    part = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * part


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
