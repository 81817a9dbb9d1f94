"""Drawings: what stands in them, that every format is written whole, and that no name can break one."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from masc.backends.diagram import FORMATS, dot, draw, mermaid, text
from masc.backends.diagram.layout import _rendered
from masc.backends.diagram.picture import png, svg
from masc.backends.diagram.sketch import Frame, sketch
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.graph import Activation, Agent, Edge, Graph, Model, Open
from masc.compiler.ir.plan import Sampling, Slot, TrainSettings
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import MascError
from masc.dsl.source import Source, Span
from teams import team_graph

ROOT = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = sorted(path for path in ROOT.rglob("*.mas") if ".masc" not in str(path) and "\ngraph " in path.read_text())
PICTURES = [path for path in EXAMPLES if path.stem in ("courier", "debate", "fusion")]
"""Rounds, two models and the simplest: a picture takes seconds, and the others hold nothing else."""
HERE = Span(Source("test.mas", ""), 0, 0)


def agent(name: str, *reads: str, steps: int = 10, lora: Lora | None = Lora(rank=8), answers: bool = False) -> Agent:  # noqa: B008
    user = ("Say it. ", *map(Slot, reads))
    return Agent(name, "small", None, user, steps, "ridge", "full", lora, Sampling() if answers else None, HERE)


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
    drawn = team_graph("a/2! b!" if channel == "text" else "a/2 b!", f"a -> b : {channel}")
    chart = mermaid(drawn)
    assert f'agent_a {arrow}|"{words.replace("|", "<br/>")}"| agent_b' in chart
    assert re.findall(r"linkStyle 0 stroke:(\S+?),", chart) == ([colour] if colour else [])
    (line,) = (line for line in dot(drawn).splitlines() if "agent_a -> agent_b" in line)
    assert f'label="{words.replace("|", chr(92) + "n")}"' in line
    assert re.findall(r'color="(.*?)"', line) == ([colour] if colour else [])
    assert f"from a: {words.replace('|', ', ')} " in text(drawn)


def test_edges_of_several_kinds_stand_side_by_side() -> None:
    drawn = team_graph("a/2! b!", "a -> b : kv", "a -> b : hidden", "a -> b : fuse", "a -> b : text", "b -> answer")
    assert [link.line for link in sketch(drawn).links if link.target == "agent_b" and link.line != "port"] == [
        "trace",
        "hidden",
        "fuse",
        "text",
    ]
    styles = [re.sub(r'label=".*?"', "", line) for line in dot(drawn).splitlines() if "agent_a -> agent_b" in line]
    assert len(set(styles)) == 4


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
    starts["html"] = b"<!doctype html>"
    assert out.read_bytes().startswith(starts[suffix])
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_draws_in_every_format(path: Path, tmp_path: Path) -> None:
    graph = compile_file(path).graph
    assert graph is not None
    suffixes = FORMATS if path in PICTURES else ("mmd", "dot", "txt")
    for suffix in suffixes:
        draw(graph, tmp_path / f"team.{suffix}")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == len(suffixes)
    words = (tmp_path / "team.txt").read_text()
    assert all(agent.name in words for agent in graph.agents)


def test_the_svg_holds_every_word_as_native_text() -> None:
    root = ElementTree.fromstring(svg(panel()))
    assert not list(root.iter("{http://www.w3.org/2000/svg}foreignObject"))
    shown = " ".join(" ".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("panel", "maths", "10 latents, ridge", "LoRA r=8", "frozen", "kv latents", "open 40 as own", "answer"):
        assert word.replace(" ", "") in shown.replace(" ", "")


def test_the_same_graph_gives_the_same_picture() -> None:
    first = svg(relay())
    _rendered.cache_clear()
    assert svg(relay()) == first
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
