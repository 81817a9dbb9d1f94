"""Where everything of a sketch stands: Mermaid's layout through `mermaidx`, without Mermaid's picture, and for large
sketches, with which that takes minutes, our own (`layered.py`). No browser, no network."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import lru_cache

from masc.backends.diagram import layered
from masc.backends.diagram.flat import flat
from masc.backends.diagram.mermaid import edge_words, flowchart, node_label
from masc.backends.diagram.places import Box, Layout
from masc.backends.diagram.sketch import Sketch

SVG = "{http://www.w3.org/2000/svg}"
# HTML labels, for Mermaid lays native text out ten times as slowly; no line is ever broken.
HEADER = """\
---
config:
  flowchart: {htmlLabels: true, wrappingWidth: 4000, nodeSpacing: 40, rankSpacing: 50, padding: 10}
---
"""


LARGE = 36
"""Nodes and links together from which a sketch is large. Mermaid takes about 40 ms for each of them."""


def fitted(drawn: Sketch) -> Sketch:
    """What is drawn of a sketch: of a large one without inputs and boxes, which are told in words."""
    return flat(drawn) if _is_large(drawn) else drawn


def _is_large(drawn: Sketch) -> bool:
    return len(drawn.nodes) + len(drawn.links) > LARGE


def lay_out(drawn: Sketch) -> Layout:
    """A second of work, kept for the last few sketches. What lines look like makes no difference."""
    if _is_large(drawn) and not drawn.frames:
        return layered.lay_out(drawn)
    lines = flowchart(drawn, node_label, edge_words)
    root = ElementTree.fromstring(_rendered(HEADER + "\n".join(lines)))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    groups = {group.get("class", "").partition(" ")[0]: group for group in root.iter(f"{SVG}g")}
    paths = tuple(path.get("d", "") for path in groups["edgePaths"].iter(f"{SVG}path"))
    labels = tuple(_label(group) for group in groups["edgeLabels"].findall(f"{SVG}g[@class='edgeLabel']"))
    assert len(paths) == len(labels) == len(drawn.links)
    return Layout(width, height, dict(_nodes(groups["nodes"])), dict(_frames(groups["clusters"])), paths, labels)


@lru_cache(maxsize=8)
def _rendered(chart: str) -> str:
    import mermaidx  # a JavaScript engine: not for those who only check

    drawn: str = mermaidx.render(chart).svg()
    return drawn


def _nodes(group: ElementTree.Element) -> Iterator[tuple[str, Box]]:
    for node in group.findall(f"{SVG}g"):
        found = re.fullmatch(r"my-svg-flowchart-(\w+)-\d+", node.get("id", ""))
        assert found is not None
        _, _, width, height = _rect(node.find(f"{SVG}rect"))
        yield found[1], Box(*_place(node), width, height)


def _frames(group: ElementTree.Element) -> Iterator[tuple[str, Box]]:
    for frame in group.findall(f"{SVG}g"):
        x, y, width, height = _rect(frame.find(f"{SVG}rect"))
        yield frame.get("id", "").removeprefix("my-svg-"), Box(x + width / 2, y + height / 2, width, height)


def _label(group: ElementTree.Element) -> Box | None:
    if group.get("transform") is None:
        return None
    _, _, width, height = _rect(group.find(f".//{SVG}foreignObject"))
    return Box(*_place(group), width, height)


def _rect(element: ElementTree.Element | None) -> tuple[float, float, float, float]:
    assert element is not None
    x, y, width, height = (float(element.get(name, 0)) for name in ("x", "y", "width", "height"))
    return x, y, width, height


def _place(group: ElementTree.Element) -> tuple[float, float]:
    x, y = re.findall(r"-?[\d.]+", group.get("transform", ""))
    return float(x), float(y)
