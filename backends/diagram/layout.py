"""Where everything of a sketch stands: Mermaid's layout through `mermaidx`, without Mermaid's picture. No browser, no
network."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from masc.backends.diagram.mermaid import edge_words, flowchart, node_label
from masc.backends.diagram.sketch import Sketch

SVG = "{http://www.w3.org/2000/svg}"
# HTML labels, for Mermaid lays native text out ten times as slowly; no line is ever broken.
HEADER = """\
---
config:
  flowchart: {htmlLabels: true, wrappingWidth: 4000, nodeSpacing: 40, rankSpacing: 50, padding: 10}
---
"""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: its middle and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """All in pixels. `nodes` and `frames` by id; of each link, in the sketch's order, the `d` of its path and the place
    of its words (None: it has none)."""

    width: float
    height: float
    nodes: dict[str, Box]
    frames: dict[str, Box]
    paths: tuple[str, ...]
    labels: tuple[Box | None, ...]


def lay_out(drawn: Sketch) -> Layout:
    """A second of work, kept for the last few sketches. What lines look like makes no difference."""
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
