"""A sketch as SVG whose colours a style sheet gives (`drawing.css`), with keys on what can be clicked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from importlib import resources

from masc.backends.diagram.places import GAP, Box, Layout
from masc.backends.diagram.sketch import Frame, Link, Node, Sketch
from masc.backends.diagram.styles import KINDS, STYLES, css_class, css_colours, css_lines
from masc.backends.diagram.weight import is_faint, width

LINE = 19
"""The height of a line of text in pixels; Mermaid gave each of them 24."""
BASELINE = 5.5
"""From the middle of a line down to its baseline."""
HEAD = 8.0
"""Arrowheads in pixels; those of thick lines are larger."""
TITLE = 40
"""The height of a title above the drawing."""


def inline(drawn: Sketch, layout: Layout, name: str) -> str:
    """The SVG, without colours. `name` makes its ids differ from those of other drawings on the page."""
    box = f"0 0 {layout.width:.0f} {layout.height:.0f}"
    return _svg(drawn, box, [*_parts(drawn, layout, name)])


def standalone(drawn: Sketch, layout: Layout) -> str:
    """The SVG as a file of its own: light colours, on white, the title above."""
    box = f"0 -{TITLE} {layout.width:.0f} {layout.height + TITLE:.0f}"
    title = f'<text x="{layout.width / 2:.1f}" y="-14" text-anchor="middle" class="title">{escape(drawn.name)}</text>'
    white = f'<rect x="0" y="-{TITLE}" width="100%" height="100%" fill="#ffffff"/>'
    return _svg(drawn, box, [f"<style>{light()}</style>", white, title, *_parts(drawn, layout, "drawing")]) + "\n"


def light() -> str:
    """The style sheet with light colours alone and no variables, of which few programs other than browsers know."""
    sheet = style()
    values = dict(re.findall(r"(--[\w-]+): light-dark\((#\w+),", sheet))
    sheet = re.sub(r" *--[\w-]+: light-dark.*\n", "", sheet)
    return re.sub(r"var\((--[\w-]+)\)", lambda name: values[name[1]], sheet)


def style() -> str:
    """`drawing.css`, with what the channels say of their lines."""
    sheet = resources.files(__package__).joinpath("drawing.css").read_text(encoding="utf-8")
    sheet = sheet.replace("  /* colours of channels */", css_colours())
    return sheet.replace("/* lines of channels */", css_lines())


def palette() -> str:
    """The colours that all pages have, in light and in dark."""
    return resources.files(__package__).joinpath("palette.css").read_text(encoding="utf-8")


def node_key(kind: str, title: str) -> str:
    """What a node stands for: an agent, an activation of one (`solver#2`), an input or an output."""
    return f"{kind} {title}"


def edge_key(sender: str, receiver: str, kind: str) -> str:
    """What a line stands for; between two of them there is one of a kind."""
    return f"edge {sender} -> {receiver} : {kind}"


def _svg(drawn: Sketch, box: str, parts: list[str]) -> str:
    _, _, wide, high = box.split()
    size = f'width="{wide}" height="{high}" viewBox="{box}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" {size} role="group"'
    return "\n".join([f"{start} aria-label={_quoted(drawn.name)}>", *parts, "</svg>"])


def _parts(drawn: Sketch, layout: Layout, name: str) -> Iterator[str]:
    """What lies behind comes first."""
    titles = {node.id: node.title for node in drawn.nodes}
    answering = {link.source for link in drawn.links if link.target.startswith("output_")}
    for frame in drawn.frames:
        yield from _frame(frame, layout)
    for place, link in enumerate(drawn.links):
        yield from _edge(link, layout.paths[place], layout.labels[place], f"{name}-head-{place}", titles)
    for node in drawn.nodes:
        yield from _node(node, layout.nodes[node.id], node.id in answering)


def _frame(frame: Frame, layout: Layout) -> Iterator[str]:
    box = layout.frames[frame.id]
    yield f'<g class="frame"><rect {_corner(box)} rx="4"/>'
    if frame.title:
        x, y = box.x - box.width / 2 + 8, box.y - box.height / 2 + 19
        yield f'<text x="{x:.1f}" y="{y:.1f}">{escape(frame.title)}</text>'
    yield "</g>"
    for inner in frame.frames:
        yield from _frame(inner, layout)


def _edge(link: Link, path: str, label: Box | None, head: str, titles: dict[str, str]) -> Iterator[str]:
    sender, receiver = titles[link.source], titles[link.target]
    kind, look = KINDS.get(link.line), css_class(link.line)
    if link.weight is not None and is_faint(link.weight):
        look += " faint"
    thick = STYLES[link.line].width if link.weight is None else width(link.weight)
    size = HEAD + 1.5 * max(0.0, thick - 2)
    said = f"{sender} to {receiver}: {', '.join(link.lines)}"
    button = _button(edge_key(sender, receiver, kind), said) if kind else ""
    yield f'<g class="edge {look}"{button}>'
    yield (
        f'<marker id="{head}" viewBox="0 0 10 10" refX="{10 - 10 * GAP / size:.2f}" refY="5" orient="auto" '
        f'markerUnits="userSpaceOnUse" markerWidth="{size:g}" markerHeight="{size:g}">'
        '<path class="head" d="M0 0L10 5L0 10z"/></marker>'
    )
    yield f'<path class="line" d="{path}" stroke-width="{thick:g}" marker-end="url(#{head})"/>'
    if kind:
        yield f'<path class="reach" d="{path}"/>'
    if label is not None and link.lines:
        yield f'<rect class="behind" {_corner(Box(label.x, label.y, label.width + 4, len(link.lines) * LINE + 4))}/>'
        yield from _text(link.lines, label)
    yield "</g>"


def _node(node: Node, box: Box, answers: bool) -> Iterator[str]:
    kind = "answering" if answers else "agent" if node.kind == "agent" else "port"
    said = ", ".join((f"{node.kind} {node.title}", *node.lines))
    yield f'<g class="node {kind}"{_button(node_key(node.kind, node.title), said)}>'
    yield f'<rect {_corner(box)} rx="{14 if kind == "port" else 3}"/>'
    yield from _text((node.title, *node.lines), box, first=' class="title"')
    yield "</g>"


def _button(key: str, said: str) -> str:
    return f' tabindex="0" role="button" aria-label={_quoted(said)} data-key={_quoted(key)}'


def _text(lines: tuple[str, ...], box: Box, first: str = "") -> Iterator[str]:
    top = box.y - (len(lines) - 1) * LINE / 2 + BASELINE
    for place, line in enumerate(lines):
        kind = first if place == 0 else ""
        yield f'<text x="{box.x:.1f}" y="{top + place * LINE:.1f}" text-anchor="middle"{kind}>{escape(line)}</text>'


def _corner(box: Box) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    return f'x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'


def _quoted(text: str) -> str:
    return f'"{escape(text)}"'
