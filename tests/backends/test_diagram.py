"""Drawings: what stands in them, that every format is written whole, and that no name can break one."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from masc.backends.diagram import FORMATS, dot, draw, mermaid, text
from masc.backends.diagram.picture import png, svg
from masc.backends.diagram.sketch import Frame, sketch
from masc.compiler.graph import Activation, Agent, Edge, Graph, Model, Open
from masc.compiler.graph_text import print_graph
from masc.compiler.pipeline import compile_source
from masc.compiler.plan import Lora, Sampling, Slot, TrainSettings
from masc.dsl.diagnostics import MascError
from masc.dsl.source import Source, Span
from teams import source

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/*.mas"))
HERE = Span(Source("test.mas", ""), 0, 0)


def agent(name: str, *reads: str, steps: int = 10, lora: Lora | None = Lora(rank=8), answers: bool = False) -> Agent:  # noqa: B008
    user = ("Say it. ", *map(Slot, reads))
    return Agent(name, "small", None, user, steps, "ridge", lora, Sampling() if answers else None, HERE)


def edge(sender: str, receiver: str, group: int = 0) -> Edge:
    return Edge(f"{sender}#1", f"{receiver}#1", "kv", group, HERE)


def graph(agents: list[Agent], edges: list[Edge], inputs: tuple[str, ...] = ("question",), **more: object) -> Graph:
    fields: dict[str, object] = {
        "name": "team",
        "inputs": inputs,
        "outputs": (("answer", f"{agents[-1].name}#1"),),
        "models": (Model("small", "smollm2-135m", HERE),),
        "agents": tuple(agents),
        "activations": tuple(Activation(a.name, 1) for a in agents),
        "edges": tuple(edges),
        "labels": (("answer", "solution"),),
        "train": TrainSettings(),
        "span": HERE,
    }
    return Graph(**(fields | more))  # type: ignore[arg-type]


def relay() -> Graph:
    names = ["planner", "critic", "refiner"]
    agents = [agent(n, "question") for n in names] + [agent("solver", "question", steps=0, answers=True)]
    pairs = [("planner", "critic"), ("critic", "refiner"), ("refiner", "solver")]
    return graph(agents, [edge(a, b, i) for i, (a, b) in enumerate(pairs)], name="relay")


def panel() -> Graph:
    """Three experts into one, and each kind of line and option."""
    experts = [agent("maths", "question"), agent("physics", "question", "clue"), agent("law", "clue", lora=None)]
    one, two, three = (edge(e.name, "solver") for e in experts)
    edges = [
        replace(one, carry="own", layers=(0, 9)),
        replace(two, carry="latents", open=Open(40, "own")),
        replace(three, merge="stack", gradient="stop"),
    ]
    return graph([*experts, agent("solver", answers=True)], edges, ("question", "clue"), name="panel")


def compiled(agents: str, *edges: str) -> Graph:
    """A team without errors (see teams.source)."""
    compilation = compile_source(source(agents, *edges))
    assert compilation.graph is not None
    compilation.require()
    return compilation.graph


def outline(frame: Frame) -> str:
    """`repeat 2[a repeat 3[b]]`"""
    inside = [*(node.removeprefix("agent_") for node in frame.nodes), *map(outline, frame.frames)]
    return f"{frame.title}[{' '.join(inside)}]"


def wild() -> Graph:
    """Names that drawing languages reserve, and a model folder with all that could be taken for markup."""
    target = """a"b'<c>&#35;`d`*e*_f_|g|\\N{h}[i]%%;é漢"""
    agents = [agent("end", "graph"), agent("class", answers=True)]
    return graph(agents, [edge("end", "class")], ("graph",), models=(Model("small", target, HERE),))


def test_says_what_each_agent_is() -> None:
    nodes = {node.title: node for node in sketch(panel()).nodes}
    assert nodes["maths"].lines == ("smollm2-135m", "10 latents, ridge", "LoRA r=8")
    assert "frozen" in nodes["law"].lines
    assert "answers, up to 128 tokens" in nodes["solver"].lines
    assert nodes["answer"].lines == ("trained on solution",)


def test_says_what_each_edge_carries() -> None:
    words = [link.lines for link in sketch(panel()).links if link.line != "port"]
    assert words == [
        ("kv own", "layers 0..9"),
        ("kv latents", "open 40 as own"),
        ("kv trace", "stack", "no gradient"),
    ]


def test_inputs_go_to_the_agents_that_read_them() -> None:
    links = [(link.source, link.target) for link in sketch(panel()).links if link.source.startswith("input")]
    assert links == [
        ("input_question", "agent_maths"),
        ("input_question", "agent_physics"),
        ("input_clue", "agent_physics"),
        ("input_clue", "agent_law"),
    ]


def test_a_fan_in_is_boxed_once() -> None:
    assert sketch(panel()).frames == (Frame("together_1", "", ("agent_maths", "agent_physics", "agent_law")),)
    assert sketch(relay()).frames == ()
    a, b, c, d = (agent(n) for n in "abcd")
    crossing = graph([a, b, c, d], [edge("a", "c", 1), edge("b", "c", 1), edge("b", "d", 2), edge("c", "d", 2)])
    assert sketch(crossing).frames == (Frame("together_1", "", ("agent_a", "agent_b")),)


KINDS = {
    "kv(carry = trace)": ("==>", "kv trace", None),
    "kv(carry = own, layers = 0..1)": ("-->", "kv own|layers 0..1", None),
    "kv(carry = latents, gradient = stop)": ("-.->", "kv latents|no gradient", None),
    "kv(carry = latents, merge = stack, open = 9 as trace)": ("-.->", "kv latents|stack|open 9 as trace", None),
    "hidden": ("-.->", "hidden latents|linear link", "#1b7f5c"),
    "hidden(carry = own, link = mlp, gradient = stop)": ("-.->", "hidden own|mlp link|no gradient", "#1b7f5c"),
    "fuse": ("==>", "fuse", "#7a3fa0"),
    "fuse(layers = 2..3, width = 8)": ("==>", "fuse|layers 2..3|width 8", "#7a3fa0"),
    "text": ("-->", "text", "#b0581a"),
}


@pytest.mark.parametrize(("channel", "shown"), KINDS.items())
def test_every_kind_of_edge_has_its_line_and_its_words(channel: str, shown: tuple[str, str, str | None]) -> None:
    arrow, words, colour = shown
    drawn = compiled("a/2! b!" if channel == "text" else "a/2 b!", f"a -> b : {channel}")
    chart = mermaid(drawn)
    assert f'agent_a {arrow}|"{words.replace("|", "<br/>")}"| agent_b' in chart
    assert re.findall(r"linkStyle 0 stroke:(\S+?),", chart) == ([colour] if colour else [])
    (line,) = (line for line in dot(drawn).splitlines() if "agent_a -> agent_b" in line)
    assert f'label="{words.replace("|", chr(92) + "n")}"' in line
    assert re.findall(r'color="(.*?)"', line) == ([colour] if colour else [])
    assert f"from a: {words.replace('|', ', ')} " in text(drawn)


def test_edges_of_several_kinds_stand_side_by_side() -> None:
    drawn = compiled("a/2! b!", "a -> b : kv", "a -> b : hidden", "a -> b : fuse", "a -> b : text", "b -> answer")
    assert [link.line for link in sketch(drawn).links if link.target == "agent_b" and link.line != "port"] == [
        "trace",
        "hidden",
        "fuse",
        "text",
    ]
    styles = [re.sub(r'label=".*?"', "", line) for line in dot(drawn).splitlines() if "agent_a -> agent_b" in line]
    assert len(set(styles)) == 4


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
        ("repeat 2 { a -> b : kv }", "repeat 3 { b -> a : kv }", "b -> c : kv"),
        "repeat 2, repeat 3[a b]",
        {"b -> a"},
    ),
    "some of its agents in another": (
        ("repeat 2 { a -> b : kv  b -> c : kv }", "repeat 3 { b -> a : kv }"),
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
    graph = compiled(team, *edges, f"{names[-1]} -> answer")
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
    drawn = compiled("a/1 b/1 c/1!", "repeat 2 { a -> b : kv  repeat 3 { b -> c : kv  c -> b : kv }  c -> a : kv }")
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
    drawn = svg(
        compiled("a/1 b/1 c/1!", "repeat 2 { a -> b : kv  repeat 3 { b -> c : kv  c -> b : kv }  c -> a : kv }")
    )
    box = r'id="my-svg-{}"[^>]*><rect style="" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    place = r'id="my-svg-flowchart-agent_{}-\d+"[^>]*transform="translate\(([\d.]+), ([\d.]+)\)'
    for name, agents in (("repeat_1", "abc"), ("repeat_1_1", "bc")):
        x, y, width, height = map(float, re.findall(box.format(name), drawn)[0])
        for agent_name in agents:
            left, top = map(float, re.findall(place.format(agent_name), drawn)[0])
            assert x < left < x + width
            assert y < top < y + height


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
    graph = compiled(
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


def test_lines_differ_by_carry() -> None:
    arrows = dict(re.findall(r'(\S+)\|"kv (\w+)', mermaid(panel())))
    assert arrows == {"==>": "trace", "-->": "own", "-.->": "latents"}
    styles = {line.split("[")[1].split(", ", 1)[1] for line in dot(panel()).splitlines() if '"kv ' in line}
    assert len(styles) == 3


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_written(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"team.{suffix}"
    draw(relay(), out)
    draw(relay(), out)
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF", "mmd": b"---\n", "dot": b"digraph", "txt": b"relay"}
    assert out.read_bytes().startswith(starts[suffix])
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_draws_in_every_format(path: Path, tmp_path: Path) -> None:
    graph = compile_source(Source(path.name, path.read_text())).graph
    assert graph is not None
    for suffix in FORMATS:
        draw(graph, tmp_path / f"team.{suffix}")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == len(FORMATS)
    words = (tmp_path / "team.txt").read_text()
    assert all(agent.name in words for agent in graph.agents)


def test_the_svg_holds_every_word_as_native_text() -> None:
    root = ElementTree.fromstring(svg(panel()))
    assert not list(root.iter("{http://www.w3.org/2000/svg}foreignObject"))
    shown = " ".join(" ".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("panel", "maths", "10 latents, ridge", "LoRA r=8", "frozen", "kv latents", "open 40 as own", "answer"):
        assert word.replace(" ", "") in shown.replace(" ", "")


def test_the_same_graph_gives_the_same_picture() -> None:
    assert svg(relay()) == svg(relay())
    assert len(svg(relay())) < 30_000


def test_wild_names_come_through() -> None:
    target = wild().models[0].target
    words = "".join(ElementTree.fromstring(svg(wild())).itertext())
    assert target in words
    assert target in text(wild())
    assert png(wild()).startswith(b"\x89PNG")
    assert '"' not in re.sub(r'^.*?"`|`".*$', "", mermaid(wild()).split("agent_end[")[1], flags=re.DOTALL)
    label = re.search(r'agent_end \[label="((?:[^"\\]|\\.)*)"', dot(wild()))
    assert label is not None
    assert label[1].split(r"\n")[1].replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\") == target


def test_the_text_drawing_has_every_agent() -> None:
    drawn = text(relay())
    assert all(
        name in drawn for name in ("relay", "question", "planner", "critic", "refiner", "solver", "answer", "kv")
    )


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MascError) as caught:
        draw(relay(), tmp_path / "team.jpeg2")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0603"
    assert ".svg" in (diagnostic.hint or "")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MascError, match="E0612"):
        draw(relay(), tmp_path / "missing" / "team.svg")
