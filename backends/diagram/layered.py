"""Where everything of a large sketch stands: layers from top to bottom (Sugiyama, Tagawa and Toda 1981).

Mermaid's layout is the prettier one and boxes repeats, but takes minutes where there are hundreds of links. Here the
order within the layers, which keeps crossings few, is igraph's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from masc.backends.diagram.places import GAP, Box, Layout
from masc.backends.diagram.sketch import Link, Node, Sketch

FONT = 16
LINE = 24
"""Pixels: the size of letters, and the height of a line of text."""
PADDING = 12
BESIDE = 28
"""Pixels between two boxes of a layer."""
BETWEEN = 84
"""Pixels between two layers."""
BEND = 14
"""Pixels that a line takes where it passes through a layer."""
HEAD = 16
"""Pixels above a layer from which lines go straight down, so that arrowheads do."""
SWEEPS = 12
WORDS = 60
"""Links that are told in words on their lines; where there are more, the words would hide the drawing."""

Chain = tuple[int, ...]
"""The places that a link passes through, from its source to its target."""
Anchors = list[tuple[float, float]]
"""Points of a line, by turns the ends of a straight part within a layer and of a curve to the next."""


def lay_out(drawn: Sketch) -> Layout:
    """Boxes for all nodes, lines for all links, in about linear time. Frames are not drawn (see `flat`)."""
    layers = _layers(drawn)
    sizes = [_size(node) for node in drawn.nodes]
    net = _network(drawn, layers)
    order = _order(net)
    widths = [*(width for width, _ in sizes), *[BEND] * (len(net.layer) - len(sizes))]
    x = _spread(net, order, widths)
    tops, heights = _rows(net, sizes)
    left = min(place - width / 2 for place, width in zip(x, widths, strict=True)) - PADDING
    right = max(place + width / 2 for place, width in zip(x, widths, strict=True)) + PADDING
    x = [place - left for place in x]
    middle = [tops[layer] + heights[layer] / 2 for layer in net.layer]
    boxes = {node.id: Box(x[i], middle[i], *sizes[i]) for i, node in enumerate(drawn.nodes)}

    def anchors(chain: Chain, back: bool) -> Anchors:
        """From the lower edge of the first box through the layers to the upper edge of the last."""
        found = []
        for i in chain:
            half = sizes[i][1] / 2 if i < len(sizes) else 0.0
            layer = net.layer[i]
            if i != chain[0]:
                found += [(x[i], tops[layer] - HEAD), (x[i], middle[i] - half)]
            if i != chain[-1]:
                found += [(x[i], middle[i] + half), (x[i], tops[layer] + heights[layer])]
        found = found[::-1] if back else found
        # The line stops short of the box: there stands the tip of its arrowhead.
        *most, (last, y) = found
        return [*most, (last, y + GAP if back else y - GAP)]

    lines = [anchors(chain, back) for chain, back in zip(net.chains, net.back, strict=True)]
    labels = _labels(drawn, lines) if len(drawn.links) <= WORDS else (None,) * len(drawn.links)
    return Layout(right - left, tops[-1] + heights[-1] + PADDING, boxes, {}, tuple(map(_path, lines)), labels)


# -- layers and order --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Network:
    """Nodes and, behind them, the bends of links that span several layers. layer: of each of them; chains: the places
    that each link passes through, from its source on (of one that goes back: from its target on)."""

    layer: tuple[int, ...]
    chains: tuple[Chain, ...]
    back: tuple[bool, ...]

    def neighbours(self) -> list[tuple[int, int]]:
        return [pair for chain in self.chains for pair in pairwise(chain)]


def _layers(drawn: Sketch) -> dict[str, int]:
    """The layer of each node: below all that it receives from. Inputs stand right above the first that reads them."""
    import networkx as nx

    ahead: nx.DiGraph[str] = nx.DiGraph()
    ahead.add_nodes_from(node.id for node in drawn.nodes)
    ahead.add_edges_from((link.source, link.target) for link in drawn.links if not link.back)
    layers: dict[str, int] = {}
    for depth, names in enumerate(nx.topological_generations(ahead)):
        layers |= dict.fromkeys(names, depth)
    return layers


def _network(drawn: Sketch, layers: Mapping[str, int]) -> _Network:
    number = {node.id: i for i, node in enumerate(drawn.nodes)}
    layer = [layers[node.id] for node in drawn.nodes]
    chains: list[Chain] = []
    back: list[bool] = []
    for link in drawn.links:
        first, last = number[link.source], number[link.target]
        turned = layer[first] > layer[last]
        if turned:
            first, last = last, first
        bends = range(len(layer), len(layer) + max(0, layer[last] - layer[first] - 1))
        layer += range(layer[first] + 1, layer[last])
        chains.append((first, *bends, last))
        back.append(turned)
    return _Network(tuple(layer), tuple(chains), tuple(back))


def _order(net: _Network) -> list[list[int]]:
    """From left to right, what stands in each layer."""
    import igraph

    edges = [(a, b) for a, b in net.neighbours() if net.layer[a] < net.layer[b]]
    graph = igraph.Graph(n=len(net.layer), edges=edges, directed=True)
    found: Any = graph.layout_sugiyama(layers=list(net.layer), maxiter=24)
    order: list[list[int]] = [[] for _ in range(max(net.layer) + 1)]
    for i, layer in enumerate(net.layer):
        order[layer].append(i)
    return [sorted(row, key=lambda i: (found[i][0], i)) for row in order]


# -- coordinates -------------------------------------------------------------------------------------------------------


def _spread(net: _Network, order: Sequence[Sequence[int]], widths: Sequence[float]) -> list[float]:
    """The x of each middle: near the middles of its neighbours above and below, in the order given, nothing on top of
    another."""
    above: list[list[int]] = [[] for _ in net.layer]
    below: list[list[int]] = [[] for _ in net.layer]
    for a, b in net.neighbours():
        if net.layer[a] < net.layer[b]:
            above[b].append(a)
            below[a].append(b)
    x = [0.0] * len(net.layer)
    for row in order:
        for i, place in zip(row, _apart(row, [0.0] * len(row), widths), strict=True):
            x[i] = place
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in order if down else reversed(order):
            wanted = [median(x[j] for j in near[i]) if near[i] else x[i] for i in row]
            for i, place in zip(row, _apart(row, wanted, widths), strict=True):
                x[i] = place
    return x


def _apart(row: Sequence[int], wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Places as near as can be (in squares) to those that are wanted, in the same order, with room between: isotonic
    regression by pooling neighbours (Ayer and others, 1955)."""
    offsets = [0.0]
    for a, b in pairwise(row):
        offsets.append(offsets[-1] + (widths[a] + widths[b]) / 2 + BESIDE)
    pools: list[tuple[float, int]] = []  # the mean of what is wanted, less the room before it, and of how many
    for place, offset in zip(wanted, offsets, strict=True):
        mean, count = place - offset, 1
        while pools and pools[-1][0] >= mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    bases = [mean for mean, count in pools for _ in range(count)]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]


def _rows(net: _Network, sizes: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Where each layer begins, and how high it is."""
    heights = [float(BEND)] * (max(net.layer) + 1)
    for (_, height), layer in zip(sizes, net.layer, strict=False):
        heights[layer] = max(heights[layer], height)
    tops = [float(PADDING)]
    for height in heights[:-1]:
        tops.append(tops[-1] + height + BETWEEN)
    return tops, heights


def _path(anchors: Anchors) -> str:
    """The `d` of a line through places: straight within a layer, curved from one layer to the next, by turns."""
    parts = [_at("M", anchors[0])]
    for number, ((x, y), (next_x, next_y)) in enumerate(pairwise(anchors)):
        half = (y + next_y) / 2
        if number % 2 == 0 or x == next_x:
            parts.append(_at("L", (next_x, next_y)))
        else:
            parts.append(_at("C", (x, half), (next_x, half), (next_x, next_y)))
    return "".join(parts)


def _at(command: str, *places: tuple[float, float]) -> str:
    return command + " ".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _labels(drawn: Sketch, lines: Sequence[Anchors]) -> tuple[Box | None, ...]:
    """The words of each link on its line, at the end at which fewer lines meet."""
    out = Counter(link.source for link in drawn.links)
    into = Counter(link.target for link in drawn.links)
    return tuple(
        _label(link, line, out[link.source] > into[link.target]) for link, line in zip(drawn.links, lines, strict=True)
    )


def _label(link: Link, line: Anchors, late: bool) -> Box | None:
    if not link.lines:
        return None
    (x, y), (next_x, next_y) = line[-3:-1] if late else line[1:3]  # its last curve, or its first
    share, shift = (0.6, 0.65) if late else (0.4, 0.35)
    width = max(text_width(words, bold=False) for words in link.lines)
    return Box(x + shift * (next_x - x), y + share * (next_y - y), width, len(link.lines) * LINE)


# -- sizes -------------------------------------------------------------------------------------------------------------


def _size(node: Node) -> tuple[float, float]:
    wide = max(text_width(node.title, bold=True), *(text_width(line, bold=False) for line in node.lines), 20.0)
    return wide + 2 * PADDING, (1 + len(node.lines)) * LINE + PADDING


def text_width(text: str, bold: bool) -> float:
    """How many pixels a line of text takes in the drawing's own font. What that lacks is taken for a wide character."""
    widths, wide = _advances(bold)
    return sum(widths.get(ord(char), wide) for char in text) * FONT


@lru_cache(maxsize=2)
def _advances(bold: bool) -> tuple[dict[int, float], float]:
    """By character, how wide it is in shares of the font's size; and how wide one is that the font lacks. DejaVu Sans
    comes with matplotlib."""
    import matplotlib
    from fontTools.ttLib import TTFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    with TTFont(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, lazy=True) as font:
        units, metrics = font["head"].unitsPerEm, font["hmtx"]
        return {code: metrics[glyph][0] / units for code, glyph in font.getBestCmap().items()}, 1.0
