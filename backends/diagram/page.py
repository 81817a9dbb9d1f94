"""A graph as one HTML file that needs nothing else: the drawing, to pan and to zoom, and what there is to its parts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from importlib import resources
from string import Template
from typing import Any

from masc.backends.diagram.inline import inline, light, palette, style
from masc.backends.diagram.layout import fitted, lay_out
from masc.backends.diagram.panels import panels
from masc.backends.diagram.sketch import Sketch, Weights, sketch, unrolled
from masc.backends.diagram.styles import STYLES, css_class
from masc.compiler.channels.declare import Style
from masc.compiler.ir.graph import Graph

NAMES = ("rolled", "unrolled")


def html(graph: Graph, weights: Weights | None = None) -> str:
    """The page, whole."""
    return page({**told(graph, weights), "problems": "", "status": ""}, list(drawings(graph, weights)))


def told(graph: Graph, weights: Weights | None = None) -> dict[str, Any]:
    """All but the drawings, as plain data: the graph's name, the titles of its drawings, and its panels."""
    return {
        "name": graph.name,
        "titles": [name for name, _ in _sketches(graph, weights)],
        "panels": panels(graph, weights),
    }


def drawings(graph: Graph, weights: Weights | None = None) -> Iterator[str]:
    """Its drawings as SVG, one after the other (each takes a second): as written and, if that differs, unrolled."""
    for name, drawn in _sketches(graph, weights):
        yield inline(drawn, lay_out(drawn), name)


def page(state: dict[str, Any], drawn: list[str], *, live: bool = False) -> str:
    """The page with a state (see `page.js`) and drawings. A live one gets more of both from where it came from."""
    script = _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = ["default-src 'none'", f"script-src 'sha256-{digest}'", "style-src 'unsafe-inline'", "img-src data: blob:"]
    policy += ["base-uri 'none'", "form-action 'none'", *(["connect-src 'self'"] if live else [])]
    return Template(_part("page.html")).substitute(
        title=escape(state["name"]),
        policy="; ".join(policy),
        style=palette() + _part("page.css"),
        drawing_style=style(),
        drawings="\n".join(f'<div class="sheet">{svg}</div>' for svg in drawn),
        legend="".join(f"<li>{_sample(style)}{escape(style.legend)}</li>" for style in STYLES.values()),
        state=_json({**state, "live": live, "light": light()}),
        script=script,
    )


def _sketches(graph: Graph, weights: Weights | None) -> list[tuple[str, Sketch]]:
    found = [sketch(graph, weights)]
    if any(activation.round > 1 for activation in graph.activations):
        found.append(unrolled(graph, weights))
    return list(zip(NAMES, map(fitted, found), strict=False))


def _json(state: dict[str, Any]) -> str:
    """JSON that no text in it can break out of: a script element ends at `</script`, whatever stands around it."""
    return json.dumps(state).replace("<", "\\u003c")


def _sample(style: Style) -> str:
    path = f'<path class="line" d="M0 6H40" stroke-width="{style.width:g}"/>'
    return f'<svg viewBox="0 0 40 12" aria-hidden="true"><g class="edge {css_class(style.name)}">{path}</g></svg>'


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
