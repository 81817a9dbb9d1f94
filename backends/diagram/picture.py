"""Mermaid text to SVG, PNG and PDF through `mermaidx`: no browser, no network."""

from __future__ import annotations

import html
import re
from functools import lru_cache

from masc.backends.diagram.mermaid import mermaid
from masc.compiler.graph import Graph

BACKGROUND = "#ffffff"
PRIVATE = 0xE000
"""Entity codes do not survive Mermaid's native SVG text. The characters travel as private ones and come back after."""
TITLE = re.compile(r'(<rect style="" x="([-\d.]+)"[^>]*/><g class="cluster-label" transform="translate\()[-\d.]+')
"""A box and the place of its title: Mermaid puts it where lines come in, in the middle."""


def svg(graph: Graph) -> str:
    """The graph as SVG, on white (its own colours are dark ones)."""
    return _rendered(mermaid(graph))


@lru_cache(maxsize=4)  # seconds of work, the same for each of the three formats
def _rendered(chart: str) -> str:
    import mermaidx  # a JavaScript engine: not for those who only check

    source = re.sub(r"#(\d+);", lambda code: chr(PRIVATE + int(code[1])), chart)
    drawn: str = mermaidx.render(source).svg()
    drawn = re.sub("[\ue000-\ue07f]", lambda char: html.escape(chr(ord(char[0]) - PRIVATE)), drawn)
    drawn = TITLE.sub(lambda box: f"{box[1]}{float(box[2]) + 8}", drawn)
    return drawn.replace("background-color: transparent", f"background-color: {BACKGROUND}") + "\n"


def png(graph: Graph, scale: float = 2.0) -> bytes:
    """The graph as PNG, `scale` pixels to one of the SVG's."""
    from mermaidx.raster import render_png

    drawn: bytes = render_png(svg(graph), scale=scale, background=BACKGROUND)
    return drawn


def pdf(graph: Graph, scale: float = 4.0) -> bytes:
    """The graph on one PDF page of its own size, as an image of `scale` times 96 dots an inch."""
    from mermaidx.pdf_writer import png_to_pdf
    from mermaidx.png_decode import decode_png

    drawn: bytes = png_to_pdf(decode_png(png(graph, scale)), scale=1 / scale)
    return drawn
