"""Graph to the DOT language, for Graphviz and what reads it."""

from __future__ import annotations

from collections.abc import Iterator

from masc.backends.diagram.sketch import Frame, Link, Node, Weights, sketch
from masc.backends.diagram.styles import dot_style
from masc.backends.diagram.weight import GREY, is_faint, width
from masc.compiler.ir.graph import Graph


def dot(graph: Graph, weights: Weights | None = None) -> str:
    """The graph as DOT text."""
    drawn = sketch(graph, weights)
    lines = [
        f"digraph {quote(drawn.name)} {{",
        f"  label={quote(drawn.name)}; labelloc=t; rankdir=TB;",
        '  node [fontname="Helvetica", fontsize=11]; edge [fontname="Helvetica", fontsize=10];',
        *(f"  {node.id} [{_node(node)}];" for node in drawn.nodes),
    ]
    for frame in drawn.frames:
        lines += _frame(frame, "  ")
    lines += (f"  {link.source} -> {link.target} [{_link(link)}];" for link in drawn.links)
    return "\n".join([*lines, "}"]) + "\n"


def quote(*lines: str) -> str:
    r"""A quoted string of lines. Backslashes are doubled, so that none of DOT's own escapes (`\N`, `\l`) is read."""
    return '"' + r"\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def _node(node: Node) -> str:
    shape = 'shape=box, style=filled, fillcolor="#eef3fb"' if node.kind == "agent" else "shape=box, style=rounded"
    return f"label={quote(node.title, *node.lines)}, {shape}"


def _frame(frame: Frame, margin: str) -> Iterator[str]:
    yield f'{margin}subgraph cluster_{frame.id} {{ label={quote(frame.title)}; labeljust=l; color="#bbbbbb";'
    yield from (f"{margin}  {node};" for node in frame.nodes)
    for inner in frame.frames:
        yield from _frame(inner, margin + "  ")
    yield f"{margin}}}"


def _link(link: Link) -> str:
    words = [f"label={quote(*link.lines)}"] if link.lines else []
    back = ["constraint=false"] if link.back else []  # else it would turn the order of its repeat around
    style = dot_style(link.line) if link.weight is None else _weighted(dot_style(link.line), link.weight)
    return ", ".join([*words, style, *back])


def _weighted(style: str, weight: float) -> str:
    said = dict(part.split("=") for part in style.split(", "))
    said["penwidth"] = f"{width(weight):g}"
    if is_faint(weight):
        said |= {"style": "dashed", "color": f'"{GREY}"'}
    return ", ".join(f"{name}={value}" for name, value in said.items())
