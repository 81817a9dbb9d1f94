"""Graph to a drawing in characters, for a terminal or a comment."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from masc.backends.diagram.flat import flat
from masc.backends.diagram.mermaid import escape, flowchart
from masc.backends.diagram.sketch import Link, Node, Sketch, Weights, sketch
from masc.compiler.ir.graph import Graph

MOST_BOXES = 60
MOST_LINES = 24


def text(graph: Graph, weights: Weights | None = None, ascii: bool = False) -> str:
    """The graph in box-drawing characters (ascii: in those of a typewriter), its name above. What an edge carries is
    said in words. Of a graph with too many lines for that, the list of its agents."""
    drawn = _in_words(sketch(graph, weights))
    if _is_crowded(drawn):
        return _listed(drawn)
    import mermaidx  # a JavaScript engine comes with it: not for those who only check

    source = "\n".join(flowchart(drawn, _label, lambda link: ""))
    lines: str = mermaidx.render_ascii(source, padding_x=2, padding_y=0, max_label_width=80, use_ascii=ascii)
    return "\n".join([graph.name, "", *(line.rstrip() for line in lines.splitlines())]) + "\n"


def _is_crowded(drawn: Sketch) -> bool:
    """Whether lines would cross each other beyond reading; to lay them out would take minutes and gigabytes."""
    ends = [end for link in drawn.links for end in ((link.source, "out"), (link.target, "in"))]
    most = max(Counter(ends).values(), default=0)
    return len(drawn.nodes) > MOST_BOXES or (len(drawn.links) > MOST_LINES and most > 2)


def _listed(drawn: Sketch) -> str:
    agents = sum(node.kind == "agent" for node in drawn.nodes)
    why = f"{agents} agents and {len(drawn.links)} lines are too many to draw in characters; `masc draw -o x.svg` does"
    lines = [drawn.name, "", f"({why})"]
    for node in drawn.nodes:
        lines += ["", node.title, *(f"  {line}" for line in node.lines)]
    return "\n".join(lines) + "\n"


def _in_words(drawn: Sketch) -> Sketch:
    """Characters are coarse: labels of edges that meet would cover each other. So each box says what it receives as
    well (and, as `flat` does, what it reads and where it stands); lines are drawn between agents, unless they go back,
    and to outputs."""
    titles = {node.id: node.title for node in drawn.nodes}
    simple = flat(drawn)
    arriving: dict[str, list[str]] = {}
    for link in simple.links:
        if link.line != "port":
            arriving.setdefault(link.target, []).append(_arrival(link, titles[link.source]))
    nodes = tuple(replace(node, lines=(*node.lines, *arriving.get(node.id, ()))) for node in simple.nodes)
    ends = dict.fromkeys((link.source, link.target) for link in simple.links if not link.back)
    links = tuple(Link(source, target) for source, target in ends)  # one line, however many edges it stands for
    return Sketch(drawn.name, nodes, links, frames=())


def _arrival(link: Link, sender: str) -> str:
    carried = () if link.weight is None else (f"carries {link.weight:.0%}",)
    return f"{'back ' if link.back else ''}from {sender}: {', '.join((*link.lines, *carried))}"


def _label(node: Node) -> str:
    return '"' + r"\n".join(map(escape, (node.title, *node.lines))) + '"'
