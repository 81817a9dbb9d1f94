"""Graph to a drawing in characters, for a terminal or a comment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from masc.backends.diagram.mermaid import escape, flowchart
from masc.backends.diagram.sketch import Frame, Link, Node, Sketch, Weights, sketch
from masc.compiler.graph import Graph


def text(graph: Graph, weights: Weights | None = None, ascii: bool = False) -> str:
    """The graph in box-drawing characters (ascii: in those of a typewriter), its name above. What an edge carries is
    said in words."""
    import mermaidx  # a JavaScript engine comes with it: not for those who only check

    source = "\n".join(flowchart(_in_words(sketch(graph, weights)), _label, lambda link: ""))
    drawn: str = mermaidx.render_ascii(source, padding_x=2, padding_y=0, max_label_width=80, use_ascii=ascii)
    return "\n".join([graph.name, "", *(line.rstrip() for line in drawn.splitlines())]) + "\n"


def _in_words(drawn: Sketch) -> Sketch:
    """Characters are coarse: edges from the inputs would cross all others, labels of edges that meet would cover each
    other, boxes around boxes take in what is not theirs. So each box says which repeats it stands in, what it reads and
    what it receives; lines are drawn between agents, unless they go back, and to outputs."""
    titles = {node.id: node.title for node in drawn.nodes}
    inputs = {node.id for node in drawn.nodes if node.kind == "input"}
    repeats = dict(_repeats(drawn.frames))
    nodes = []
    for node in drawn.nodes:
        into = [link for link in drawn.links if link.target == node.id]
        reads = ", ".join(titles[link.source] for link in into if link.source in inputs)
        words = [f"in {repeats[node.id]}"] if node.id in repeats else []
        words += [f"reads {reads}"] if reads else []
        words += [_arrival(link, titles[link.source]) for link in into if link.line != "port"]
        if node.kind != "input":
            nodes.append(replace(node, lines=(*node.lines, *words)))
    ends = dict.fromkeys((x.source, x.target) for x in drawn.links if x.source not in inputs and not x.back)
    links = tuple(Link(source, target) for source, target in ends)  # one line, however many edges it stands for
    return Sketch(drawn.name, tuple(nodes), links, frames=())


def _repeats(frames: tuple[Frame, ...], around: str = "") -> Iterator[tuple[str, str]]:
    """Each node in a repeat, with the titles of all that it stands in, the innermost first."""
    for frame in frames:
        if frame.title:
            words = f"{frame.title} in {around}" if around else frame.title
            yield from ((node, words) for node in frame.nodes)
            yield from _repeats(frame.frames, words)


def _arrival(link: Link, sender: str) -> str:
    carried = () if link.weight is None else (f"carries {link.weight:.0%}",)
    return f"{'back ' if link.back else ''}from {sender}: {', '.join((*link.lines, *carried))}"


def _label(node: Node) -> str:
    return '"' + r"\n".join(map(escape, (node.title, *node.lines))) + '"'
