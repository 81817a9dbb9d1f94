"""Graph to the DOT language, for Graphviz and what reads it."""

from __future__ import annotations

from masc.backends.diagram.sketch import Link, Node, sketch
from masc.compiler.graph import Graph

LINES = {
    "trace": "penwidth=2.5",
    "own": "penwidth=1.2",
    "latents": "style=dotted, penwidth=1.5",
    None: 'color="#999999", penwidth=0.8',
}


def dot(graph: Graph) -> str:
    """The graph as DOT text."""
    drawn = sketch(graph)
    lines = [
        f"digraph {quote(drawn.name)} {{",
        f"  label={quote(drawn.name)}; labelloc=t; rankdir=TB;",
        '  node [fontname="Helvetica", fontsize=11]; edge [fontname="Helvetica", fontsize=10];',
        *(f"  {node.id} [{_node(node)}];" for node in drawn.nodes),
    ]
    for number, frame in enumerate(drawn.frames, 1):
        lines.append(f'  subgraph cluster_{number} {{ label=""; color="#bbbbbb"; {"; ".join(frame)}; }}')
    lines += (f"  {link.source} -> {link.target} [{_link(link)}];" for link in drawn.links)
    return "\n".join([*lines, "}"]) + "\n"


def quote(*lines: str) -> str:
    r"""A quoted string of lines. Backslashes are doubled, so that none of DOT's own escapes (`\N`, `\l`) is read."""
    return '"' + r"\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def _node(node: Node) -> str:
    shape = 'shape=box, style=filled, fillcolor="#eef3fb"' if node.kind == "agent" else "shape=box, style=rounded"
    return f"label={quote(node.title, *node.lines)}, {shape}"


def _link(link: Link) -> str:
    return f"label={quote(*link.lines)}, {LINES[link.carry]}" if link.lines else LINES[link.carry]
