"""A sketch without inputs and boxes: each node says in words what it reads and which repeats it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from masc.backends.diagram.sketch import Frame, Sketch


def flat(drawn: Sketch) -> Sketch:
    """Lines from an input to everything that reads it would cross all others, and boxes take in what is not theirs."""
    titles = {node.id: node.title for node in drawn.nodes if node.kind == "input"}
    around = dict(repeats_of(drawn.frames))
    reads: dict[str, list[str]] = {}
    for link in drawn.links:
        if link.source in titles:
            reads.setdefault(link.target, []).append(titles[link.source])
    nodes = []
    for node in drawn.nodes:
        words = [f"in {around[node.id]}"] if node.id in around else []
        words += [f"reads {', '.join(reads[node.id])}"] if node.id in reads else []
        if node.kind != "input":
            nodes.append(replace(node, lines=(*node.lines, *words)))
    links = tuple(link for link in drawn.links if link.source not in titles)
    return Sketch(drawn.name, tuple(nodes), links, frames=())


def repeats_of(frames: tuple[Frame, ...], around: str = "") -> Iterator[tuple[str, str]]:
    """Each node in a repeat, with the titles of all that it stands in, the innermost first."""
    for frame in frames:
        if frame.title:
            words = f"{frame.title} in {around}" if around else frame.title
            yield from ((node, words) for node in frame.nodes)
            yield from repeats_of(frame.frames, words)
