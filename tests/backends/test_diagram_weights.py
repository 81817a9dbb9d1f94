"""Drawings of what the edges carry: the more, the thicker; next to nothing is grey and dashed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from masc.backends.diagram import FORMATS, Weights, dot, draw, mermaid, text
from masc.backends.diagram.picture import svg
from masc.backends.diagram.weight import width
from masc.compiler.ir.graph import Graph
from teams import team_graph

SVG = "{http://www.w3.org/2000/svg}"
WEIGHTS: Weights = {("a", "b"): 1.0, ("b", "c"): 0.3, ("a", "c"): 0.01}


@pytest.fixture(scope="module")
def team() -> Graph:
    """Three weighted edges, of which one has a colour of its own, and one that nothing is known of."""
    return team_graph("a/2 b/2 c! d", "a -> b : kv", "b -> c : hidden", "a -> c : fuse", "d -> c : kv(carry = own)")


def test_a_share_is_a_width_from_1_to_8() -> None:
    assert [width(share) for share in (-1, 0, 0.5, 1, 3)] == [1, 1, 4.5, 8, 8]


def test_mermaid_styles_each_edge_once(team: Graph) -> None:
    drawn = mermaid(team, WEIGHTS)
    styles = dict(re.findall(r"linkStyle (\S+) (.*)", drawn))
    assert styles["0"] == "stroke-width:8px"
    assert styles["1"] == "stroke:#1b7f5c,stroke-width:3.1px,stroke-dasharray:9 4"
    assert styles["2"] == "stroke:#b4b4b4,stroke-width:1.07px,stroke-dasharray:3 4"
    assert "3" not in styles
    places = [place for key in styles for place in key.split(",")]
    assert len(places) == len(set(places))


def test_dot_has_pen_widths(team: Graph) -> None:
    lines = re.findall(r"(agent_\w -> agent_\w) \[label=.*?\", (.*)\]", dot(team, WEIGHTS))
    assert dict(lines) == {
        "agent_a -> agent_b": "penwidth=8",
        "agent_b -> agent_c": 'style=dashed, color="#1b7f5c", penwidth=3.1',
        "agent_a -> agent_c": 'color="#b4b4b4", penwidth=1.07, style=dashed',
        "agent_d -> agent_c": "penwidth=1.2",
    }


def test_characters_say_it(team: Graph) -> None:
    drawn = text(team, WEIGHTS)
    assert "from a: kv trace, carries 100%" in drawn
    assert "from a: fuse, carries 1%" in drawn
    assert "from d: kv own " in drawn


def test_the_svg_has_the_widths_and_heads_that_fit(team: Graph) -> None:
    root = ElementTree.fromstring(svg(team, WEIGHTS))
    groups = {group.get("data-key"): group for group in root.iter(f"{SVG}g")}
    thick, faint = groups["edge a -> b : kv"], groups["edge a -> c : fuse"]
    assert [line.get("stroke-width") for g in (thick, faint) for line in g.iter(f"{SVG}path")][1::3] == ["8", "1.07"]
    assert "faint" in faint.get("class", "")
    assert "faint" not in thick.get("class", "")
    heads = [marker.get("markerWidth") for group in (thick, faint) for marker in group.iter(f"{SVG}marker")]
    assert heads == ["17", "8"]


def test_without_weights_nothing_changes(team: Graph) -> None:
    assert mermaid(team, {}) == mermaid(team)
    assert dot(team, {("x", "y"): 1.0}) == dot(team)


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != "pdf"])  # it is the png, for seconds
def test_every_format_takes_them(suffix: str, team: Graph, tmp_path: Path) -> None:
    plain, weighted = tmp_path / f"plain.{suffix}", tmp_path / f"weighted.{suffix}"
    draw(team, plain)
    draw(team, weighted, weights=WEIGHTS)
    assert plain.read_bytes() != weighted.read_bytes()
