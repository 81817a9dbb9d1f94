"""The page: what it tells of agents and edges, that it needs nothing else, and that no text can break out of it."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from masc.backends.diagram.inline import light
from masc.backends.diagram.page import drawings, html, told
from masc.backends.diagram.sketch import unrolled
from masc.compiler.ir.graph import Graph
from masc.compiler.pipeline import compile_file, compile_source
from masc.dsl.source import Source
from teams import team_graph

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EVIL = "</script><script>alert(1)</script><!-- ]]> \u2028 & \\\" '"
PROMPT = f"""mas 1
model m = "no-one/not-on-disk"
agent a on m {{
  system "{EVIL}"
  user   "{{q}} {EVIL}"
  answer
}}
graph g(q) -> answer {{
  a
}}
"""


def graph_of(path: Path) -> Graph:
    graph = compile_file(path).graph
    assert graph is not None
    return graph


@pytest.fixture(scope="module")
def debate() -> dict[str, Any]:
    return told(graph_of(EXAMPLES / "debate" / "debate.mas"))["panels"]  # type: ignore[no-any-return]


def facts(panel: dict[str, Any], title: str) -> list[tuple[str, str]]:
    (rows,) = (section["rows"] for section in panel["sections"] if section["title"] == title)
    return [tuple(row) for row in rows]


def test_an_agent_tells_its_prompts_with_parameters_put_in(debate: dict[str, Any]) -> None:
    prompts = {s["title"]: s["prompt"] for s in debate["agent steps"]["sections"] if "prompt" in s}
    assert prompts["System"] == ["You read carefully."]
    assert prompts["User"] == [["question"], "\nList the steps to take."]


def test_an_agent_tells_what_it_runs_on_and_how_it_answers(debate: dict[str, Any]) -> None:
    rows = dict(facts(debate["agent solver"], "Agent"))
    assert rows["model"] == 'small = "smollm2-135m"'
    assert rows["adapter"] == "lora, rank = 16, alpha = 32, targets = all, dropout = 0"
    assert rows["latents"] == "4, align = norm, no gradient from step to step"
    assert rows["answers"] == "up to 12 tokens, greedy"
    assert re.fullmatch(r".*debate\.mas:\d+:\d+", rows["written at"])


def test_each_activation_tells_what_it_sees_and_writes(debate: dict[str, Any]) -> None:
    assert facts(debate["agent solver"], "Activation solver#1") == [
        ("sees numbers#1", "all of its segment, all layers"),
        ("sees steps#1", "all of its segment, all layers, moved by the length of numbers#1"),
        ("starts at", "end of numbers#1 or end of steps#1 + length of numbers#1, the largest"),
        ("writes", "its prompt, 4 latent positions"),
    ]
    last = dict(facts(debate["agent solver"], "Activation solver#3"))
    assert last["writes"] == "its prompt, 4 latent positions, up to 12 tokens -> answer"
    assert last["sees critic#2"].startswith("its latents")
    titles = [s["title"] for s in debate["agent solver#3"]["sections"] if s["title"].startswith("Activation")]
    assert titles == ["Activation solver#3"]


def test_every_kind_of_edge_tells_its_options() -> None:
    graph = team_graph(
        "a/2! b/1 c!",
        "a -> c : kv(carry = latents, merge = stack, layers = 1..2, gradient = stop, open = 9 as own)",
        "b -> c : hidden(carry = own, link = mlp)",
        "a -> c : fuse(layers = 1..2, width = 8)",
        "a -> c : text",
        "c -> answer",
    )
    panels = told(graph, {("a", "c"): 0.5})["panels"]
    rows = {key: dict(facts(panel, "Edge")) for key, panel in panels.items() if key.startswith("edge")}
    for row in rows.values():
        del row["written at"]
    assert rows["edge a -> c : kv"] == {
        "kind": "kv",
        "carry": "latents",
        "merge": "stack",
        "layers": "1..2",
        "gradient": "stop",
        "open": "the first 9 steps of training, as own",
        "carries": "50%",
    }
    assert rows["edge b -> c : hidden"] == {"kind": "hidden", "carry": "own", "link": "mlp", "gradient": "full"}
    assert rows["edge a#1 -> c#1 : fuse"] == {
        "kind": "fuse",
        "layers": "1..2",
        "width": "8",
        "gradient": "full",
        "carries": "50%",
    }
    assert rows["edge a -> c : text"] == {"kind": "text", "gradient": "none crosses text", "carries": "50%"}
    arrivals = dict(facts(panels["agent c"], "Activation c#1"))
    sights = [value for name, value in facts(panels["agent c"], "Activation c#1") if name == "sees a#1"]
    assert "its latents, layers 1..2, no gradient" in sights
    assert any("only in the first 9 steps of training" in sight for sight in sights)
    assert arrivals["splices b#1"] == "hidden states of its prompt and latents, mlp link"
    assert arrivals["fuses a#1"] == "layers 1..2, width 8"
    assert arrivals["reads a#1"] == "its text"


def test_an_adapter_that_is_reached_only_while_a_channel_is_open_is_told_so() -> None:
    narrow = "b -> c : kv(carry = own, layers = 0..0, open = 10 as trace)"
    panels = told(team_graph("a b c!", "a -> b : kv", narrow))["panels"]
    said = {name: facts(panels[f"agent {name}"], "Losses that reach it") for name in "abc"}
    ((output, column),) = said["c"]
    assert said["b"] == said["c"]
    assert said["a"] == [(output, f"{column}, only in the first 10 steps of training, while a channel is open")]
    never = told(team_graph("a b c!", "a -> b : kv", narrow.replace("10", "0")))["panels"]
    assert facts(never["agent a"], "Losses that reach it") == [("none", "nothing trains this agent")]


def test_unrolled_every_round_has_its_node() -> None:
    graph = graph_of(EXAMPLES / "debate" / "debate.mas")
    drawn = unrolled(graph)
    agents = {node.title: node.lines for node in drawn.nodes if node.kind == "agent"}
    assert list(agents) == [activation.id for activation in graph.activations]
    assert "answers, up to 12 tokens" in agents["solver#3"]
    assert "answers, up to 12 tokens" not in agents["solver#1"]
    assert len([link for link in drawn.links if link.line != "port"]) == len(graph.edges)
    assert len({node.id for node in drawn.nodes}) == len(drawn.nodes)


def test_every_node_and_edge_that_can_be_clicked_has_a_panel() -> None:
    graph = graph_of(EXAMPLES / "debate" / "debate.mas")
    keys = {unescape(key) for svg in drawings(graph) for key in re.findall(r'data-key="(.*?)"', svg)}
    assert keys <= set(told(graph)["panels"])
    assert {"agent solver", "agent solver#2", "edge solver -> critic : kv", "edge solver#2 -> critic#2 : kv"} <= keys
    assert {"input question", "output answer"} <= keys


class Outline(HTMLParser):
    """The tags of a page, and what stands in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.links: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def test_no_text_breaks_out_and_nothing_is_fetched() -> None:
    graph = compile_source(Source("team.mas", PROMPT)).graph
    assert graph is not None
    outline = Outline(html(graph))
    assert outline.links == ["data:,"]
    state, script = outline.scripts
    assert "alert(1)" not in script
    (system,) = (s["prompt"] for s in json.loads(state)["panels"]["agent a"]["sections"] if s["title"] == "System")
    assert system == ["</script><script>alert(1)</script><!-- ]]> \u2028 & \" '"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html(graph))


def test_light_colours_alone_need_no_variables() -> None:
    assert not re.search(r"var\(|light-dark|--", light())
    assert ".drawing .hidden .line { stroke: #1b7f5c; stroke-dasharray: 9 4; }" in light()
