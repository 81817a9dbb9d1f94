"""Mermaid text to SVG, PNG and PDF through `mermaidx`: no browser, no network."""

from __future__ import annotations

import html
import re
from functools import lru_cache

from masc.backends.diagram.mermaid import mermaid
from masc.backends.diagram.sketch import Weights
from masc.compiler.graph import Graph

BACKGROUND = "#ffffff"
PRIVATE = 0xE000
"""Entity codes do not survive Mermaid's native SVG text. The characters travel as private ones and come back after."""
TITLE = re.compile(r'(<rect style="" x="([-\d.]+)"[^>]*/><g class="cluster-label" transform="translate\()[-\d.]+')
"""A box and the place of its title: Mermaid puts it where lines come in, in the middle."""

THICK = re.compile(r'(<path [^>]*\bstroke-width:([\d.]+)px;fill:none"[^>]* marker-end="url\(#)([^")]+)(\)")')
"""An edge with its width and the name of its arrowhead."""
HEAD = 8.0
GAP = 4.0
"""Mermaid's arrowheads in pixels, and how far their tips stand from where lines end."""


def svg(graph: Graph, weights: Weights | None = None) -> str:
    """The graph as SVG, on white (its own colours are dark ones)."""
    drawn = _rendered(mermaid(graph, weights))
    return drawn if weights is None else _with_heads(drawn)


def _with_heads(drawn: str) -> str:
    """Arrowheads that grow with their lines; Mermaid's are all of one size, and a thick line hides them."""
    sizes: dict[str, tuple[str, float]] = {}

    def renamed(path: re.Match[str]) -> str:
        size = HEAD + 1.5 * max(0.0, float(path[2]) - 2)
        name = f"{path[3]}__{size:g}" if size > HEAD else path[3]
        if size > HEAD:
            sizes[name] = path[3], size
        return path[1] + name + path[4]

    drawn = THICK.sub(renamed, drawn)
    for name, (old, size) in sizes.items():
        marker = re.search(rf'<marker id="{re.escape(old)}".*?</marker>', drawn)
        if marker is not None:
            grown = re.sub(r'\b(markerWidth|markerHeight)="[\d.]+"', rf'\1="{size:g}"', marker[0])
            grown = re.sub(r'\brefX="[\d.]+"', f'refX="{10 - 10 * GAP / size:g}"', grown)
            drawn = drawn.replace(marker[0], marker[0] + grown.replace(f'id="{old}"', f'id="{name}"'), 1)
    return drawn


@lru_cache(maxsize=4)  # seconds of work, the same for each of the three formats
def _rendered(chart: str) -> str:
    import mermaidx  # a JavaScript engine: not for those who only check

    source = re.sub(r"#(\d+);", lambda code: chr(PRIVATE + int(code[1])), chart)
    drawn: str = mermaidx.render(source).svg()
    drawn = re.sub("[\ue000-\ue07f]", lambda char: html.escape(chr(ord(char[0]) - PRIVATE)), drawn)
    drawn = TITLE.sub(lambda box: f"{box[1]}{float(box[2]) + 8}", drawn)
    return drawn.replace("background-color: transparent", f"background-color: {BACKGROUND}") + "\n"


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
