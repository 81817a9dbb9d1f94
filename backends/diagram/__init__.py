"""Pictures of a graph: Mermaid, DOT, SVG, PNG, PDF, text and an interactive page. Needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from masc.backends.diagram.dot import dot
from masc.backends.diagram.mermaid import mermaid
from masc.backends.diagram.page import html
from masc.backends.diagram.picture import pdf, png, svg
from masc.backends.diagram.sketch import Weights
from masc.backends.diagram.text import text
from masc.compiler.files.writing import atomic_write
from masc.compiler.ir.graph import Graph
from masc.dsl.diagnostics import did_you_mean, fail

__all__ = ["FORMATS", "Drawing", "Weights", "dot", "draw", "mermaid", "text"]

FORMATS: dict[str, Callable[[Graph, Weights | None], str | bytes]] = {
    "svg": svg,
    "png": png,
    "pdf": pdf,
    "mmd": mermaid,
    "dot": dot,
    "txt": text,
    "html": html,
}


@dataclass(frozen=True)
class Drawing:
    """A graph that notebooks show as a picture, and terminals as text. weights: as of `draw`."""

    graph: Graph
    weights: Weights | None = None

    def _repr_svg_(self) -> str:
        return svg(self.graph, self.weights)

    def __str__(self) -> str:
        return text(self.graph, self.weights)


def draw(graph: Graph, out: Path, *, weights: Weights | None = None) -> None:
    """Draw the graph into a file; its suffix says in which format. The file appears whole or not at all.

    weights: (sender, receiver), agents by name -> the share from 0 to 1 that the edge carries; it is drawn 1 to 8
    pixels wide, below 0.02 grey and dashed. MascError: E0603 for an unknown suffix, E0612 where it cannot be written.
    """
    suffix = out.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        hint = did_you_mean(suffix, list(FORMATS)) or "the suffix is one of " + ", ".join(f".{f}" for f in FORMATS)
        raise fail(
            "E0603", f"cannot draw into `{out.name}`: no picture format has the suffix `{out.suffix}`", hint=hint
        )
    if not out.absolute().parent.is_dir():
        raise fail("E0612", f"cannot write `{out}`: there is no folder `{out.parent}`")
    drawn = FORMATS[suffix](graph, weights)
    atomic_write(out, drawn)
