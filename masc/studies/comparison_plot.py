"""The plot of a comparison."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from masc.studies.comparison_lines import Line, merged
from masc.studies.comparison_runs import ROWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn = Literal["accuracy", "cost"]
"""Accuracies beside each other, or against what they cost."""


def plot(lines: Sequence[Line], paths: Sequence[Path], title: str, drawn: Drawn = "accuracy") -> None:
    """Write the plot into files, in the format of their suffix."""
    _save(figure_of(lines, title, drawn), paths)


def figure_of(lines: Sequence[Line], title: str, drawn: Drawn = "accuracy") -> Figure:
    """Accuracies with their intervals: as bars, or as one curve for each row if one number was swept; or against what a
    row costs (those of which it is known)."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    if drawn == "cost":
        return _against_cost(merged(lines), title)
    swept = list(dict.fromkeys(name for line in lines for name, _ in line.values))
    curve = len(swept) == 1 and all(_is_number(value) for line in lines for _, value in line.values)
    lines = lines if curve else merged(lines)
    figure = Figure(figsize=(8, 4.5) if curve else (8, 0.9 + 0.5 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    if curve:
        for row in dict.fromkeys(line.row for line in lines):
            points = ((float(line.values[0][1]), line) for line in lines if line.row == row)
            group = sorted(points, key=lambda point: point[0])
            x, y = [at for at, _ in group], [100 * line.accuracy for _, line in group]
            axes.plot(x, y, marker="o", label=next(line.title for _, line in group))
            low, high = ([100 * line.interval[end] for _, line in group] for end in (0, 1))
            axes.fill_between(x, low, high, alpha=0.12)
        axes.set(xlabel=swept[0], ylabel="accuracy, %", ylim=(-3, 103), title=title)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small")
    else:
        places = list(range(len(lines)))[::-1]
        y = [100 * line.accuracy for line in lines]
        below = [max(0.0, v - 100 * line.interval[0]) for v, line in zip(y, lines, strict=True)]
        above = [max(0.0, 100 * line.interval[1] - v) for v, line in zip(y, lines, strict=True)]
        axes.barh(
            places, y, xerr=[below, above], color=list(map(_colour, lines)), height=0.65, capsize=3, ecolor="#333333"
        )
        axes.set_yticks(places, [line.label for line in lines])
        axes.set(xlabel="accuracy on the test rows, % (bars: 95% interval)", xlim=(0, 105), title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _against_cost(lines: Sequence[Line], title: str) -> Figure:
    from matplotlib.figure import Figure

    known = [(line, line.flops) for line in lines if line.flops]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for line, flops in known:
        low, high = (abs(line.accuracy - end) for end in line.interval)
        axes.errorbar(
            [flops],
            [100 * line.accuracy],
            yerr=[[100 * low], [100 * high]],
            fmt="o",
            capsize=3,
            color=_colour(line),
            label=line.label,
        )
        axes.annotate(line.label, (flops, 100 * line.accuracy), (6, 4), textcoords="offset points", fontsize="small")
    axes.set(
        xlabel="FLOPs of a row that is answered", ylabel="accuracy, % (bars: 95% interval)", ylim=(-3, 103), title=title
    )
    axes.set_xscale("log")
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _colour(line: Line) -> str:
    return "#c44e52" if line.row == "team" else "#4c72b0" if ROWS[line.row][1] else "#a0a8b4"


def _save(figure: Figure, paths: Sequence[Path]) -> None:
    for path in paths:
        temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
        figure.savefig(
            temporary, format=path.suffix[1:], dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {}
        )
        temporary.replace(path)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
