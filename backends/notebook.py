"""What notebooks show: tables as HTML, curves as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Texts as a table, the first column to the left."""

    def line(cells: Sequence[str], kind: str) -> str:
        first = f'<{kind} style="text-align: left">{escape(cells[0])}</{kind}>'
        return f"<tr>{first}{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells[1:])}</tr>"

    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    return f"<table>{top}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)


def svg(figure: Figure) -> str:
    """A figure of matplotlib's as an SVG element."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.hashsalt": "masc", "svg.fonttype": "none"}):  # the same each time, and words as text
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Curves through points (x, y), by name, over one axis, as an SVG element. A single point is a mark."""
    from matplotlib.figure import Figure  # not pyplot: no display, no state

    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axes = figure.add_subplot()
    for name, points in lines.items():
        marked = "o" if len(points) < 20 else ""
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, marker=marked, markersize=4)
    axes.set(xlabel=across, ylabel=up)
    if len(lines) > 1:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return svg(figure)
