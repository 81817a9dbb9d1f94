"""Graph to SVG, PNG and PDF: no browser, no network."""

from __future__ import annotations

import math
import re
from io import BytesIO

from masc.backends.diagram.inline import standalone
from masc.backends.diagram.layout import fitted, lay_out
from masc.backends.diagram.sketch import Weights, sketch
from masc.compiler.ir.graph import Graph

BACKGROUND = "#ffffff"


MOST_ACROSS = 16_000
MOST_PIXELS = 48_000_000
"""Of an image: a larger one could not be made, or not be looked at."""


def svg(graph: Graph, weights: Weights | None = None) -> str:
    """The graph as SVG, on white (its own colours are dark ones)."""
    drawn = fitted(sketch(graph, weights))
    return standalone(drawn, lay_out(drawn))


def png(graph: Graph, weights: Weights | None = None, scale: float = 2.0) -> bytes:
    """The graph as PNG, `scale` pixels to one of the SVG's; fewer where the image would be too large."""
    return _image(svg(graph, weights), scale)[0]


def _image(drawn: str, scale: float) -> tuple[bytes, float]:
    """A drawing as PNG, and the scale that it has."""
    from mermaidx.raster import render_png

    found = re.search(r'width="(\d+)" height="(\d+)"', drawn)
    assert found is not None
    wide, high = float(found[1]), float(found[2])
    scale = min(scale, MOST_ACROSS / max(wide, high), math.sqrt(MOST_PIXELS / (wide * high)))
    image: bytes = render_png(drawn, scale=scale, background=BACKGROUND)
    return image, scale


def pdf(graph: Graph, weights: Weights | None = None, scale: float = 4.0) -> bytes:
    """The graph on one PDF page of its own size, as an image of `scale` times 96 dots an inch."""
    from mermaidx.pdf_writer import png_to_pdf
    from mermaidx.png_decode import DecodedPNG
    from PIL import Image  # mermaidx decodes in Python: seconds

    image, scale = _image(svg(graph, weights), scale)
    pixels = Image.open(BytesIO(image)).convert("RGB")  # on a background: no alpha is below 255
    drawn: bytes = png_to_pdf(DecodedPNG(*pixels.size, False, pixels.tobytes(), b""), scale=1 / scale)
    return drawn
