"""Graph to a drawing in characters, for a terminal or a comment."""

from __future__ import annotations

from dataclasses import replace

from masc.backends.diagram.mermaid import escape, flowchart
from masc.backends.diagram.sketch import Node, Sketch, sketch
from masc.compiler.graph import Graph


def text(graph: Graph) -> str:
    """The graph in box-drawing characters, its name above."""
    import mermaidx  # a JavaScript engine comes with it: not for those who only check

    source = "\n".join(flowchart(_in_words(sketch(graph)), _label, lambda link: ""))
    drawn: str = mermaidx.render_ascii(source, padding_x=2, padding_y=0, max_label_width=80)
    return "\n".join([graph.name, "", *(line.rstrip() for line in drawn.splitlines())]) + "\n"


def _in_words(drawn: Sketch) -> Sketch:
    """Characters are coarse: edges from the inputs would cross all others, labels of edges that meet would cover each
    other. So the boxes say what they read and receive, and only lines between agents and to outputs are drawn."""
    titles = {node.id: node.title for node in drawn.nodes}
    inputs = {node.id for node in drawn.nodes if node.kind == "input"}
    nodes = []
    for node in drawn.nodes:
        into = [link for link in drawn.links if link.target == node.id]
        reads = ", ".join(titles[link.source] for link in into if link.source in inputs)
        sees = [f"from {titles[link.source]}: {', '.join(link.lines)}" for link in into if link.carry]
        if node.kind != "input":
            nodes.append(replace(node, lines=(*node.lines, *([f"reads {reads}"] if reads else []), *sees)))
    links = [replace(link, lines=()) for link in drawn.links if link.source not in inputs]
    return Sketch(drawn.name, tuple(nodes), tuple(links), frames=())


def _label(node: Node) -> str:
    return '"' + r"\n".join(map(escape, (node.title, *node.lines))) + '"'
