"""Large graphs: a layout of our own, in which nothing lies on another; lists in place of drawings in characters."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from masc.backends.diagram import draw, text
from masc.backends.diagram.layered import text_width
from masc.backends.diagram.layout import fitted, lay_out
from masc.backends.diagram.picture import svg
from masc.backends.diagram.places import GAP, Box, Layout
from masc.backends.diagram.sketch import Sketch, sketch
from masc.compiler.ir.graph import Graph
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source


def compiled(names: list[str], edges: list[str]) -> Graph:
    """A graph of agents, the last of which answers."""
    said = [f'agent {name} on m {{ user "{{q}}" think 2 {"answer" if name == names[-1] else ""} }}' for name in names]
    lines = ["mas 1", 'model m = "smollm2-135m"', *said, "graph g(q) -> answer {", *edges, "}"]
    graph = compile_source(Source("x.mas", "\n".join(lines))).graph
    assert graph is not None
    return graph


def chain(count: int) -> Graph:
    names = [f"agent{i}" for i in range(count)]
    return compiled(names, [" -> ".join(names) + " : kv(carry = own)"])


def fan_in(count: int) -> Graph:
    names = [f"agent{i}" for i in range(count)]
    return compiled([*names, "judge"], [f"[{', '.join(names)}] -> judge : kv(carry = own)"])


def layers(wide: int, deep: int) -> Graph:
    rows = [[f"a{i}x{j}" for j in range(wide)] for i in range(deep)]
    edges = [f"[{', '.join(a)}] -> [{', '.join(b)}] : kv(carry = own)" for a, b in pairwise(rows)]
    edges.append(f"[{', '.join(rows[-1])}] -> judge : kv(carry = own)")
    return compiled([*(name for row in rows for name in row), "judge"], edges)


def skipping(count: int) -> Graph:
    """A chain in which each also hears of the one three before it."""
    names = [f"agent{i}" for i in range(count)]
    far = [f"{a} -> {b} : text" for a, b in zip(names, names[3:], strict=False)]
    said = "\n".join([" -> ".join(names) + " : kv(carry = own)", *far])
    lines = ["mas 1", 'model m = "smollm2-135m"']
    lines += [
        f'agent {n} on m {{ user "{{q}}{"{" + names[i - 3] + "}" if i > 2 else ""}" answer }}'
        for i, n in enumerate(names)
    ]
    lines += ["graph g(q) -> answer {", said, f"{names[-1]} -> answer", "}"]
    graph = compile_source(Source("x.mas", "\n".join(lines))).graph
    assert graph is not None
    return graph


def rounds(count: int) -> Graph:
    names = [f"agent{i}" for i in range(count)]
    edges = [f"{a} -> {b} : kv(carry = latents)" for a, b in zip(names, [*names[1:], names[0]], strict=True)]
    return compiled(names, ["repeat 2 {", *edges, "}", f"{names[-1]} -> answer"])


LARGE = {
    "chain": lambda: chain(100),
    "fan-in": lambda: fan_in(100),
    "layers": lambda: layers(10, 10),
    "skipping": lambda: skipping(40),
    "rounds": lambda: rounds(24),
}


def parts(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Sketch, Layout]:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("Mermaid takes minutes for a graph of this size")

    monkeypatch.setattr("mermaidx.render", never)
    drawn = fitted(sketch(LARGE[name]()))
    return drawn, lay_out(drawn)


def overlap(a: Box, b: Box) -> bool:
    return abs(a.x - b.x) < (a.width + b.width) / 2 and abs(a.y - b.y) < (a.height + b.height) / 2


@pytest.mark.parametrize("name", LARGE)
def test_nothing_lies_on_another(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, layout = parts(name, monkeypatch)
    assert len(layout.nodes) == len(drawn.nodes)
    boxes = list(layout.nodes.values())
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    for box in boxes:
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= layout.width
        assert box.y + box.height / 2 <= layout.height


@pytest.mark.parametrize("name", LARGE)
def test_lines_go_from_box_to_box(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, layout = parts(name, monkeypatch)
    assert len(layout.paths) == len(drawn.links)
    for link, path in zip(drawn.links, layout.paths, strict=True):
        places = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
        source, target = layout.nodes[link.source], layout.nodes[link.target]
        (x, y), (to_x, to_y) = places[0], places[-1]
        assert x == pytest.approx(source.x, abs=0.1)
        assert to_x == pytest.approx(target.x, abs=0.1)
        assert abs(y - source.y) <= source.height / 2 + 0.1
        assert abs(to_y - target.y) == pytest.approx(target.height / 2 + GAP, abs=0.1)
        assert (to_y > y) == (not link.back), "down, and what goes back up"


@pytest.mark.parametrize("name", LARGE)
def test_texts_fit_their_boxes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, layout = parts(name, monkeypatch)
    for node in drawn.nodes:
        box = layout.nodes[node.id]
        assert (
            max(text_width(node.title, bold=True), *(text_width(line, bold=False) for line in node.lines)) < box.width
        )
        assert (1 + len(node.lines)) * 19 < box.height


def test_words_stand_between_the_boxes() -> None:
    for graph in (skipping(16), rounds(14), fan_in(16)):
        drawn = fitted(sketch(graph))
        layout = lay_out(drawn)
        words = [label for label in layout.labels if label is not None]
        assert len(words) == sum(bool(link.lines) for link in drawn.links)
        assert not any(overlap(label, box) for label in words for box in layout.nodes.values())


def test_what_a_large_drawing_leaves_out_is_said_in_words() -> None:
    shown = svg(rounds(24))
    assert "reads q" in shown
    assert "in repeat 2" in shown
    assert 'class="frame"' not in shown


def test_a_drawing_of_a_large_graph_is_the_same_each_time() -> None:
    assert svg(layers(6, 4)) == svg(layers(6, 4))


@pytest.mark.parametrize("graph", [fan_in(30), layers(6, 2), chain(80)], ids=["fan-in", "layers", "chain"])
def test_a_list_in_place_of_a_drawing_in_characters(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mermaidx.render_ascii", None)
    shown = text(graph)
    assert "too many to draw in characters" in shown
    assert all(agent.name in shown for agent in graph.agents)
    assert "from a" in shown
    assert all(len(line) < 120 for line in shown.splitlines())


def test_images_of_large_graphs_have_a_size_that_can_be_looked_at(tmp_path: Path) -> None:
    draw(chain(60), tmp_path / "x.png")
    head = (tmp_path / "x.png").read_bytes()[:24]
    wide, high = (int.from_bytes(head[i : i + 4], "big") for i in (16, 20))
    assert max(wide, high) <= 16_001
    draw(fan_in(40), tmp_path / "x.html")
    assert "<svg" in (tmp_path / "x.html").read_text()
