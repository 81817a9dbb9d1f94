"""Drawings of repeats: rolled up, each agent once, in boxes; and the text of a graph, which names them too."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from masc.backends.diagram import dot, mermaid, text
from masc.backends.diagram.layout import lay_out
from masc.backends.diagram.picture import svg
from masc.backends.diagram.sketch import Frame, sketch
from masc.compiler.forms.graph_text import print_graph
from masc.compiler.pipeline import compile_source
from teams import source, team_graph


def outline(frame: Frame) -> str:
    """`repeat 2[a repeat 3[b]]`"""
    inside = [*(node.removeprefix("agent_") for node in frame.nodes), *map(outline, frame.frames)]
    return f"{frame.title}[{' '.join(inside)}]"


LOOPS = {
    "one": (("repeat 2 { a -> b : kv  b -> c : kv  c -> a : kv }",), "repeat 2[a b c]", {"c -> a"}),
    "from outside, and to it": (("a -> b : kv", "repeat 3 { b -> c : kv  c -> b : kv }"), "repeat 3[b c]", {"c -> b"}),
    "nested": (
        ("repeat 2 { a -> b : kv  repeat 3 { b -> c : kv  c -> b : kv }  c -> a : kv }",),
        "repeat 2[a repeat 3[b c]]",
        {"c -> b", "c -> a"},
    ),
    "nested, with no agent of the outer one's own": (
        ("repeat 2 { repeat 3 { a -> b : kv  b -> a : kv }  b -> a : text }", "b -> c : kv"),
        "repeat 2[repeat 3[a b]]",
        {"b -> a"},
    ),
    "side by side": (
        ("repeat 2 { a -> b : kv }", "repeat 4 { c -> d : kv  d -> c : kv }", "b -> c : kv"),
        "repeat 2[a b] repeat 4[c d]",
        {"d -> c"},
    ),
    "an agent in two": (
        ("repeat 2 { a -> b : kv  b -> a : kv }", "repeat 3 { b -> c : kv  c -> b : kv }"),
        "repeat 2[a b] repeat 3 with b[c]",
        {"b -> a", "c -> b"},
    ),
    "the same agents in two": (
        ("repeat 2 { a -> b : kv }", "repeat 3 { b -> a : kv }", "a -> c : kv"),
        "repeat 2, repeat 3[a b]",
        {"b -> a"},
    ),
    "some of its agents in another": (
        ("repeat 2 { a -> b : kv  b -> c : kv }", "repeat 3 { b -> a : kv }", "[a, c] -> d : kv"),
        "repeat 2, repeat 3 of b, a[a b c]",
        {"b -> a"},
    ),
    "a fan-in beside it": (
        ("repeat 2 { a -> b : kv  b -> a : kv }", "[c, d] -> e : kv", "a -> e : kv"),
        "[c d] repeat 2[a b]",
        {"b -> a"},
    ),
    "a fan-in of its members": (("repeat 2 { [a, b] -> c : kv  c -> a : kv }",), "repeat 2[a b c]", {"c -> a"}),
}


@pytest.mark.parametrize(("edges", "boxes", "back"), LOOPS.values(), ids=LOOPS)
def test_a_repeat_is_a_box_of_its_agents(edges: tuple[str, ...], boxes: str, back: set[str]) -> None:
    names = sorted(set(re.findall(r"\b[a-e]\b", " ".join(edges))))
    speakers = {names[-1], *re.findall(r"(\w) -> \w : text", " ".join(edges))}
    team = " ".join(f"{name}/1{'!' if name in speakers else ''}" for name in names)
    graph = team_graph(team, *edges, f"{names[-1]} -> answer")
    drawn = sketch(graph)
    assert " ".join(map(outline, drawn.frames)) == boxes
    arrows = [(f"{link.source[6:]} -> {link.target[6:]}", link) for link in drawn.links if link.line != "port"]
    assert {ends for ends, link in arrows if link.back} == back
    assert len(arrows) == len({(ends, link.line) for ends, link in arrows})
    assert [node.title for node in drawn.nodes if node.kind == "agent"] == [agent.name for agent in graph.agents]
    titles = [title for title in re.findall(r"[^\[\] ][^\[\]]*(?=\[)", boxes) if "repeat" in title]
    assert len(re.findall(r'subgraph \S+ \["repeat', mermaid(graph))) == len(titles)
    assert dot(graph).count("constraint=false") == sum(link.back for _, link in arrows)


def test_a_nested_repeat_in_each_language() -> None:
    drawn = team_graph("a/1 b/1 c/1!", "repeat 2 { a -> b : kv  repeat 3 { b -> c : kv  c -> b : kv }  c -> a : kv }")
    nested = re.sub(r'\["`.*?`"\]', "", mermaid(drawn), flags=re.DOTALL)
    assert (
        """\
  subgraph repeat_1 ["repeat 2"]
    agent_a
    subgraph repeat_1_1 ["repeat 3"]
      agent_b
      agent_c
    end
  end
"""
        in nested
    )
    assert """\
  subgraph cluster_repeat_1 { label="repeat 2"; labeljust=l; color="#bbbbbb";
    agent_a;
    subgraph cluster_repeat_1_1 { label="repeat 3"; labeljust=l; color="#bbbbbb";
      agent_b;
      agent_c;
    }
  }
""" in dot(drawn)
    words = text(drawn)
    assert all(said in words for said in ("in repeat 2 ", "in repeat 3 in repeat 2 ", "back from c: kv trace "))
    root = ElementTree.fromstring(svg(drawn))
    assert {"repeat2", "repeat3"} <= {"".join(element.itertext()).replace(" ", "") for element in root.iter()}


def test_every_box_of_a_repeat_encloses_its_agents() -> None:
    loops = "repeat 2 { a -> b : kv  repeat 3 { b -> c : kv  c -> b : kv }  c -> a : kv }"
    layout = lay_out(sketch(team_graph("a/1 b/1 c/1!", loops)))
    for name, agents in (("repeat_1", "abc"), ("repeat_1_1", "bc")):
        frame = layout.frames[name]
        for agent_name in agents:
            node = layout.nodes[f"agent_{agent_name}"]
            assert abs(node.x - frame.x) + node.width / 2 < frame.width / 2
            assert abs(node.y - frame.y) + node.height / 2 < frame.height / 2


def test_says_how_often_an_agent_is_active_and_what_its_text_is_trained_on() -> None:
    team = source("a/1! b/1!", "repeat 2 { a -> b : text  b -> a : kv }", "b -> answer", train="train { a <- hint }")
    graph = compile_source(team).graph
    assert graph is not None
    nodes = {node.title: node.lines for node in sketch(graph).nodes}
    assert nodes["a"][-2:] == ("trained on hint", "active 2 times")
    assert nodes["b"][-1] == "active 2 times"
    (given,) = (link for link in sketch(graph).links if link.target == "output_answer")
    assert given.source == "agent_b"


def test_the_text_of_a_graph_has_the_options_of_each_kind_and_its_repeats() -> None:
    graph = team_graph(
        "a/2! b/1 c!",
        "a -> c : kv",
        "a -> c : hidden(carry = own, link = mlp)",
        "a -> c : fuse(layers = 1..2, width = 8, gradient = stop)",
        "a -> c : text",
        "repeat 2 { a -> b : fuse  repeat 3 { b -> a : hidden } }",
        "c -> answer",
    )
    lines = print_graph(graph).splitlines()
    into_c = [line.split(" : ")[1] for line in lines if line.startswith("  edge") and "-> c#1" in line]
    assert into_c == [
        "kv carry=trace merge=overlap gradient=full",
        "hidden carry=own link=mlp gradient=full",
        "fuse layers=1..2 width=8 gradient=stop",
        "text",
    ]
    assert [line for line in lines if "repeat" in line] == ["  repeat 2: a, b", "    repeat 3: b, a"]
