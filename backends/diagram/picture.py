"""Graph to SVG, PNG and PDF: no browser, no network."""

from __future__ import annotations

from masc.backends.diagram.inline import standalone
from masc.backends.diagram.layout import lay_out
from masc.backends.diagram.sketch import Weights, sketch
from masc.compiler.graph import Graph

BACKGROUND = "#ffffff"


def svg(graph: Graph, weights: Weights | None = None) -> str:
    """The graph as SVG, on white (its own colours are dark ones)."""
    drawn = sketch(graph, weights)
    return standalone(drawn, lay_out(drawn))


def png(graph: Graph, weights: Weights | None = None, scale: float = 2.0) -> bytes:
    """The graph as PNG, `scale` pixels to one of the SVG's."""
    from mermaidx.raster import render_png

    drawn: bytes = render_png(svg(graph, weights), scale=scale, background=BACKGROUND)
    return drawn


def pdf(graph: Graph, weights: Weights | None = None, scale: float = 4.0) -> bytes:
    """The graph on one PDF page of its own size, as an image of `scale` times 96 dots an inch."""
    from mermaidx.pdf_writer import png_to_pdf
    from mermaidx.png_decode import decode_png

    drawn: bytes = png_to_pdf(decode_png(png(graph, weights, scale)), scale=1 / scale)
    return drawn
