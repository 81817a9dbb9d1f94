"""Graph to Mermaid text, and the flowchart lines that other drawings are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from masc.backends.diagram.sketch import Frame, Link, Node, Sketch, Weights, sketch
from masc.backends.diagram.styles import mermaid_arrow, mermaid_style
from masc.backends.diagram.weight import GREY, is_faint, width
from masc.compiler.ir.graph import Graph

# Native SVG text instead of HTML labels, so that the picture is whole in every viewer; opaque white behind edge labels.
HEADER = """\
---
title: "{name}"
config:
  theme: base
  htmlLabels: false
  flowchart:
    htmlLabels: false
    wrappingWidth: 480
    nodeSpacing: 40
    rankSpacing: 50
  themeVariables:
    edgeLabelBackground: "#ffffff"
    clusterBkg: "#fafafa"
    clusterBorder: "#bbbbbb"
    lineColor: "#3b4a6b"
    titleColor: "#222222"
  themeCSS: ".edgeLabel .background, .edgeLabel rect {{ opacity: 1; fill: #ffffff; }}"
---
"""

STYLES = """\
  classDef agent fill:#eef3fb,stroke:#3b4a6b,color:#1b2333
  classDef answering fill:#fdf3e1,stroke:#9a6b16,color:#1b2333
  classDef port fill:#ffffff,stroke:#888888,color:#333333,rx:14,ry:14
"""


def mermaid(graph: Graph, weights: Weights | None = None) -> str:
    """The graph as Mermaid text, as GitHub and mermaid.live render it."""
    drawn = sketch(graph, weights)
    lines = [*flowchart(drawn, node_label, edge_words), STYLES.rstrip("\n")]
    for kind, nodes in _classes(drawn).items():
        lines.append(f"  class {','.join(nodes)} {kind}")
    for style, places in _styles(drawn).items():
        lines.append(f"  linkStyle {','.join(places)} {style}")
    return HEADER.format(name=drawn.name) + "\n".join(lines) + "\n"


def _styles(drawn: Sketch) -> dict[str, list[str]]:
    """What differs from the theme, with the numbers of the links that it holds for."""
    styles: dict[str, list[str]] = {}
    for place, link in enumerate(drawn.links):
        style = mermaid_style(link.line)
        if link.weight is not None:
            style = _weighted(style, link.weight)
        if style:
            styles.setdefault(style, []).append(str(place))
    return styles


def _weighted(style: str, weight: float) -> str:
    said = dict(part.split(":") for part in style.split(",") if part)
    said["stroke-width"] = f"{width(weight):g}px"
    if is_faint(weight):
        said |= {"stroke": GREY, "stroke-dasharray": "3 4"}
    return ",".join(f"{name}:{value}" for name, value in said.items())


def flowchart(drawn: Sketch, label: Callable[[Node], str], words: Callable[[Link], str]) -> Iterator[str]:
    """The lines of a flowchart without colours. `label` and `words` write the text of a node and of a link, quoted."""
    nodes = {node.id: f"{node.id}{_shape(node, label(node))}" for node in drawn.nodes}
    framed = {node for frame in drawn.frames for node in _inside(frame)}
    yield "flowchart TB"
    for node in nodes:
        if node not in framed:
            yield f"  {nodes[node]}"
    for frame in drawn.frames:
        yield from _frame(frame, nodes, "  ")
    for link in drawn.links:
        text = f"|{words(link)}|" if link.lines else ""
        yield f"  {link.source} {mermaid_arrow(link.line)}{text} {link.target}"


def _frame(frame: Frame, nodes: Mapping[str, str], margin: str) -> Iterator[str]:
    yield f'{margin}subgraph {frame.id} ["{escape(frame.title) or " "}"]'
    yield from (f"{margin}  {nodes[node]}" for node in frame.nodes)
    for inner in frame.frames:
        yield from _frame(inner, nodes, margin + "  ")
    yield f"{margin}end"


def _inside(frame: Frame) -> Iterator[str]:
    yield from frame.nodes
    for inner in frame.frames:
        yield from _inside(inner)


def escape(text: str) -> str:
    """Mermaid's entity codes for every ASCII character that Mermaid, Markdown or HTML could read as markup."""
    return "".join(c if c.isalnum() or c in " ,.:/=-" or not c.isascii() else f"#{ord(c)};" for c in text)


def _shape(node: Node, label: str) -> str:
    # Not a stadium: Mermaid draws one as 40 KB of random strokes, so that no two pictures are equal.
    return f"[{label}]" if node.kind == "agent" else f"({label})"


def node_label(node: Node) -> str:
    """The text of a node as quoted Markdown."""
    return '"`' + "\n".join([f"**{escape(node.title)}**", *map(escape, node.lines)]) + '`"'


def edge_words(link: Link) -> str:
    """The text on a link, quoted."""
    return '"' + "<br/>".join(map(escape, link.lines)) + '"'


def _classes(drawn: Sketch) -> dict[str, list[str]]:
    answering = {link.source for link in drawn.links if link.target.startswith("output_")}
    classes: dict[str, list[str]] = {}
    for node in drawn.nodes:
        kind = "port" if node.kind != "agent" else "answering" if node.id in answering else "agent"
        classes.setdefault(kind, []).append(node.id)
    return classes
